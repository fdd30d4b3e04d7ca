"""What each column or term adds to predictions, as a picture."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._optional_dependencies import check_matplotlib_support

from .._explain import Contributions
from ._style import GREY, NEGATIVE, POSITIVE, axes_for, hide_frame, shorten

__all__ = ["ContributionDisplay"]

# Letters of a label.
_LENGTH = 38
# Of more rows, so many are drawn, or nearly.
_MOST_POINTS = 2_000
# Colours of low, middle and high values, each as dark as the others.
_LOW_TO_HIGH = (POSITIVE, "#b668b0", NEGATIVE)


class ContributionDisplay:
    """What each column or term adds to one prediction, or to those of a table.

    For one row bars lead from the constant to the prediction. For several rows each term has a
    point per row, of at most 2,000, coloured by where its value lies among those of all.

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
            [shorten(label, _LENGTH) for label in self.labels_],
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
        paper = {"fc": self.ax_.get_facecolor(), "ec": "none", "pad": 0.6}
        self.ax_.bar_label(
            self.bars_, [f"{step:+.3g}" for step in steps], padding=4, fontsize="small", bbox=paper
        )
        # Room for the numbers.
        self.ax_.use_sticky_edges = False
        self.ax_.margins(x=0.15)
        for value, line in ((constant, ":"), (found.prediction[0], "-")):
            self.ax_.axvline(value, color=GREY, lw=1.0, ls=line, zorder=0)
        self.ax_.set_xlabel(
            f"from the constant {constant:.4g} (dotted) to {self.output_name} = "
            f"{found.prediction[0]:.4g}",
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
        text = shorten(text, 12)
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
        self.ax_.set_xlabel(f"contribution to {self.output_name}", parse_math=False)
        for line, mean in enumerate(sizes):
            self.ax_.annotate(
                f"{mean:.2g}", (1.0, len(values) - 1 - line), xycoords=("axes fraction", "data"),
                xytext=(4, 0), textcoords="offset points", va="center", fontsize="small",
            )  # fmt: skip
        self.ax_.set_title("mean size", loc="right", fontsize="small")
        if self.points_:
            self._explain_colours(self.points_[0])

    def _explain_colours(self, points: Any) -> None:
        """Draw what the colours of points stand for."""
        bar = self.figure_.colorbar(points, ax=self.ax_, ticks=[0.0, 1.0], aspect=30, pad=0.08)
        bar.ax.set_yticklabels(["low", "high"], fontsize="small")
        bar.set_label(f"value of the {self.contributions.by}", fontsize="small", labelpad=-12)

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
    """Return where values lie among all, from 0 to 1; equal ones in the middle of their places."""
    _, at, count = np.unique(cells, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - 0.5 * count - 0.5
    rank = middle[at] / max(1, len(cells) - 1)
    return np.where(np.isnan(cells), np.nan, rank)


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return heights that keep points of about the same value apart, within 0.4 of zero."""
    counts, edges = np.histogram(values, bins=60)
    bins = np.clip(np.digitize(values, edges) - 1, 0, len(counts) - 1)
    # The points of a bin are spread evenly, as far as its share of the fullest one goes.
    order = np.argsort(bins, kind="stable")
    place = np.empty(len(values))
    place[order] = np.arange(len(values)) - (np.cumsum(counts) - counts)[bins[order]]
    return 0.8 * (place + 0.5 - 0.5 * counts[bins]) / counts.max()
