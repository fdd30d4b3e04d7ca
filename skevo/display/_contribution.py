"""What each column or term adds to predictions, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._optional_dependencies import check_matplotlib_support

from .._explain import Contributions
from ._style import (
    GREY,
    NEGATIVE,
    POSITIVE,
    axes_for,
    hide_frame,
    shorten,
    shorten_name,
)

__all__ = ["ContributionDisplay"]

# Letters of a label, of the cell in it, and of the output's name.
_LENGTH, _CELL, _OUTPUT = 38, 20, 28
# Of more rows, so many are drawn, or nearly.
_MOST_POINTS = 2_000
# Colours of low, middle and high values, each as dark as the others.
_LOW_TO_HIGH = (POSITIVE, "#b668b0", NEGATIVE)


class ContributionDisplay:
    """What each column or term adds to one prediction, or to those of a table.

    For one row bars lead from the constant to the prediction. For several rows each term has a
    point per row, of at most 2,000, coloured by where its value lies among those of all: from the
    lowest, at one end of the colours, to the highest, at the other one, so that of two values each
    has an end. Points are grey where there is no order: of categories, missing cells, and the sum
    of the terms that are left out.

    Parameters
    ----------
    contributions : Contributions
        What ``contributions`` of an estimator returns.
    output_name : str, default="prediction"
        What they sum to.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    bars_ : matplotlib BarContainer or None
        Of one row, from below: the terms that are shown, the others, what is clipped.
    points_ : list of matplotlib PathCollection
        Of several rows, one for each term that is shown, from above.
    labels_ : list of str
        What is shown, from above.
    numbers_ : list of matplotlib Annotation
        What each adds, of several rows its mean size, from above; then their title.
    """

    def __init__(self, contributions: Contributions, output_name: str = "prediction") -> None:
        self.contributions = contributions
        self.output_name = output_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        by: str = "column",
        output: int | None = None,
        max_terms: int = 12,
        ax: Any = None,
    ) -> Self:
        """Draw the contributions to the predictions of rows.

        Parameters
        ----------
        estimator : EvolvingRegressor or EvolvingClassifier
            Fitted.
        X : array-like of shape (n_samples, n_features)
            One row, or several.
        by, output
            See ``contributions`` of the estimators.
        max_terms : int, default=12
            So many terms are shown, those that add most; the others are summed.
        ax : matplotlib Axes, default=None
            Where to; a new figure if None.

        Returns
        -------
        ContributionDisplay
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        contributions = estimator.contributions(X, by=by, output=output)
        name = estimator._output_names()[output or 0]
        return cls(contributions, name).plot(ax, max_terms=max_terms)

    def plot(self, ax: Any = None, *, max_terms: int = 12) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to; a new figure if None.
        max_terms : int, default=12
            So many terms are shown, those that add most.

        Returns
        -------
        ContributionDisplay
            Itself.
        """
        size = np.abs(self.contributions.values).mean(axis=0)
        order = np.argsort(-size, kind="stable")
        # One that is left out would need a line as well.
        n_shown = max_terms if len(order) > max_terms + 1 else len(order)
        shown, others = order[:n_shown], order[n_shown:]
        n_lines = len(shown) + bool(len(others)) + 1
        self.figure_, self.ax_ = axes_for(self, ax, (7.0, 1.3 + 0.32 * n_lines))
        self.bars_: Any = None
        self.points_: list[Any] = []
        if len(self.contributions.values) == 1:
            self._draw_row(shown, others)
        else:
            self._draw_table(shown, others)
        self.ax_.set_yticks(
            np.arange(len(self.labels_))[::-1],
            [shorten_name(label, _LENGTH) for label in self.labels_],
            parse_math=False,
        )
        self.ax_.set_ylim(-0.6, len(self.labels_) - 0.4)
        hide_frame(self.ax_)
        return self

    def _draw_row(self, shown: NDArray[np.intp], others: NDArray[np.intp]) -> None:
        """Draw bars that lead from the constant to the prediction."""
        found = self.contributions
        values, constant = found.values[0], float(found.constant[0])
        self.labels_ = [self._label(term) for term in shown]
        steps = [*values[shown]]
        if len(others):
            self.labels_.append(f"{len(others)} others")
            steps.append(values[others].sum())
        if abs(found.clipping[0]) > 1e-9 * (1.0 + abs(found.prediction[0])):
            self.labels_.append("clipping")
            steps.append(found.clipping[0])
        # The largest is nearest to the prediction, at the top.
        starts = constant + np.cumsum([0.0, *steps[::-1]])[:-1][::-1]
        places = np.arange(len(steps))[::-1]
        colours = [POSITIVE if step >= 0 else NEGATIVE for step in steps]
        self.bars_ = self.ax_.barh(places, steps, left=starts, height=0.62, color=colours)
        # Beside the axes, where no bar and no line runs through them.
        self._write_numbers("adds", [f"{step:+.3g}" for step in steps])
        self.ax_.use_sticky_edges = False
        for value, line in ((constant, ":"), (found.prediction[0], "-")):
            self.ax_.axvline(value, color=GREY, lw=1.0, ls=line, zorder=0)
        self.ax_.set_xlabel(
            f"from the constant {constant:.4g} (dotted)\n"
            f"to {shorten(self.output_name, _OUTPUT)} = {found.prediction[0]:.4g}",
            parse_math=False,
        )

    def _label(self, term: int) -> str:
        """Return the name of a column with what stands in its cell, or an expression."""
        found = self.contributions
        name, cell = found.names[term], found.cells[0, term]
        if found.by == "term":
            return name
        if np.isnan(cell):
            text = "missing"
        elif term not in found.levels:
            text = f"{cell:.4g}"
        else:
            levels = found.levels[term]
            text = str(levels[int(cell)]) if cell >= 0 else "unknown"
        text = shorten(text, _CELL)
        return f"{shorten(name, _LENGTH - len(text) - 3)} = {text}"

    def _draw_table(self, shown: NDArray[np.intp], others: NDArray[np.intp]) -> None:
        """Draw a point per row for each term."""
        found = self.contributions
        size = np.abs(found.values).mean(axis=0)
        self.labels_ = [found.names[term] for term in shown]
        values = [found.values[:, term] for term in shown]
        # Codes of categories have no order.
        colours = [
            _ranks(np.full_like(cells, np.nan) if term in found.levels else cells)
            for term, cells in zip(shown, found.cells[:, shown].T, strict=True)
        ]
        sizes = [*size[shown]]
        if len(others):
            self.labels_.append(f"{len(others)} others, summed")
            values.append(found.values[:, others].sum(axis=1))
            colours.append(np.full(len(values[-1]), np.nan))
            sizes.append(np.abs(values[-1]).mean())
        some = slice(None, None, -(-len(found.values) // _MOST_POINTS))
        for line, (contribution, colour) in enumerate(zip(values, colours, strict=True)):
            contribution, colour = contribution[some], colour[some]
            height = len(values) - 1 - line + _spread(contribution)
            self.points_.append(self._scatter(contribution, height, colour))
        self.ax_.axvline(0.0, color=GREY, lw=1.0, zorder=0)
        self.ax_.set_xlabel(
            f"contribution to {shorten(self.output_name, _OUTPUT)}", parse_math=False
        )
        self._write_numbers("mean size", [f"{mean:.2g}" for mean in sizes])
        reasons = {
            "category": any(term in found.levels for term in shown),
            "missing cell": any(
                np.isnan(found.cells[:, term]).any() for term in shown if term not in found.levels
            ),
            "sum": len(others) > 0,
        }
        if self.points_:
            self._explain_colours([reason for reason, is_there in reasons.items() if is_there])

    def _write_numbers(self, title: str, numbers: Sequence[str]) -> None:
        """Write a number for each line, from above, to the right of the axes."""
        last = len(numbers) - 1
        self.numbers_ = [
            self._beside(number, last - line, "data", (4, 0), "center")
            for line, number in enumerate(numbers)
        ]
        self.numbers_.append(self._beside(title, 1.0, "axes fraction", (4, 4), "bottom"))

    def _beside(self, text: str, y: float, unit: str, shift: tuple[int, int], va: str) -> Any:
        """Write a text to the right of the axes."""
        return self.ax_.annotate(
            text, (1.0, y), xycoords=("axes fraction", unit), xytext=shift,
            textcoords="offset points", va=va, fontsize="small",
        )  # fmt: skip

    def _explain_colours(self, reasons: Sequence[str]) -> None:
        """Say what the colours of points stand for, and why some have none."""
        from matplotlib.lines import Line2D

        bar = self.figure_.colorbar(
            self.points_[0], ax=self.ax_, ticks=[0.0, 1.0], aspect=30, pad=0.08
        )
        bar.ax.set_yticklabels(["low", "high"], fontsize="small")
        bar.set_label(f"value of the {self.contributions.by}", fontsize="small", labelpad=-12)
        if reasons:
            grey = Line2D([], [], marker="o", ls="none", ms=4, color=GREY)
            # To the left, above the labels, there is room.
            self.ax_.legend(
                [grey], [f"no order: {', '.join(reasons)}"], loc="lower right",
                bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small", handletextpad=0.2,
                borderaxespad=0.2,
            )  # fmt: skip

    def _scatter(
        self, x: NDArray[np.float64], y: NDArray[np.float64], colour: NDArray[np.float64]
    ) -> Any:
        """Draw points, grey where there is no colour."""
        from matplotlib.colors import LinearSegmentedColormap

        colours = LinearSegmentedColormap.from_list("low to high", _LOW_TO_HIGH)
        return self.ax_.scatter(
            x, y, c=colour, cmap=colours.with_extremes(bad=GREY), vmin=0.0, vmax=1.0, s=9, lw=0,
            alpha=0.85, plotnonfinite=True,
        )  # fmt: skip


def _ranks(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where values lie among all: 0 for the lowest, 1 for the highest, NaN if missing.

    Equal values are in the middle of their places; a single one is in the middle of all.
    """
    known = ~np.isnan(cells)
    rank = np.full(len(cells), np.nan)
    if not known.any():
        return rank
    _, at, count = np.unique(cells[known], return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - 0.5 * count
    span = middle[-1] - middle[0]
    rank[known] = ((middle - middle[0]) / span if span else np.array([0.5]))[at]
    return rank


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return heights that keep points of about the same value apart, within 0.4 of zero."""
    counts, edges = np.histogram(values, bins=60)
    bins = np.clip(np.digitize(values, edges) - 1, 0, len(counts) - 1)
    # The points of a bin are spread evenly, as far as its share of the fullest one goes.
    order = np.argsort(bins, kind="stable")
    place = np.empty(len(values))
    place[order] = np.arange(len(values)) - (np.cumsum(counts) - counts)[bins[order]]
    return 0.8 * (place + 0.5 - 0.5 * counts[bins]) / counts.max()
