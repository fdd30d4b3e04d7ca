"""The course of an evolution as a picture."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from .._path import Kept
from ._style import GREY, NEGATIVE, POSITIVE, axes_for, hide_frame, ink, legend_above

__all__ = ["EvolutionDisplay"]

# Heights of the picture, in those of what it has to show: before a member goes farther astray than
# that it leaves the picture.
_MOST_ASTRAY = 1.5


class EvolutionDisplay:
    """Loss, validation loss and nodes by generation, and which generation was chosen.

    Of a single member each generation is drawn as it was; the one with the lowest validation loss
    is the model.

    Of several members each keeps its best network so far, and these are averaged. So the lines are
    means of what the members have kept by a generation, as if the fit had stopped there. A network
    that is averaged with others may be larger than one that is alone: what it is kept for is the
    loss that is to be expected of the average, a line between training and validation loss, which
    falls until the last member has improved. Faint lines are the validation losses of the members,
    each up to a dot, its network in the model.

    Parameters
    ----------
    history : dict of str to ndarray
        See ``history_`` of the estimators.
    path : dict of str to ndarray
        See ``path_`` of the estimators, whose last model is the one that was chosen.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Of the losses.
    nodes_ax_ : matplotlib Axes
        Of the nodes.
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        Training loss, validation loss and, of several members that hold rows out, the loss that is
        to be expected of their average.
    members_ : list of matplotlib Line2D
        Of several members the validation loss of each.
    chosen_ : matplotlib Line2D
        The mark of the chosen generation, on the line that it was chosen for.
    """

    def __init__(self, history: dict[str, NDArray[Any]], path: dict[str, NDArray[Any]]) -> None:
        self.history = history
        self.path = path

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the course that a fit took.

        Parameters
        ----------
        estimator : EvolvingRegressor or EvolvingClassifier
            Fitted.
        ax : matplotlib Axes, default=None
            Where to; a new figure if None.

        Returns
        -------
        EvolutionDisplay
        """
        check_is_fitted(estimator)
        return cls(estimator.history_, estimator.path_).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to; a new figure if None.

        Returns
        -------
        EvolutionDisplay
            Itself.
        """
        self.figure_, self.ax_ = axes_for(self, ax, (6.4, 4.4))
        kept, at = Kept.of(self.history, self.path), int(self.path["generation"][-1])
        several = len(kept.loss) > 1
        mean = kept.means() if several else self.history
        self._draw_nodes(mean["n_nodes"], "nodes per member" if several else "nodes")
        of, which = (", mean", ", one member") if several else ("", "")
        lines = {
            "loss": (f"training loss{of}", POSITIVE, "-"),
            "validation_loss": (f"validation loss{of}", NEGATIVE, "-"),
        }
        judged, reason = "validation_loss", "lowest validation loss"
        if several and (kept.expected_loss != kept.validation_loss).any():
            judged, reason = "expected_loss", "lowest expected loss"
            lines[judged] = ("expected loss of the average", ink(), "--")
        self.lines_ = [
            self.ax_.plot(mean[name], color=colour, ls=style, label=label)[0]
            for name, (label, colour, style) in lines.items()
        ]
        self._draw_members(kept, at, f"validation loss{which}")
        # A model that `select` returned may be of an earlier generation.
        is_lowest = not (mean[judged] < mean[judged][at]).any()
        why = f", {reason}" if is_lowest else ""
        (self.chosen_,) = self.ax_.plot(
            at, mean[judged][at], "o", ms=8, mfc="none", mew=1.8, color=ink(),
            label=f"chosen{why}: generation {at}",
        )  # fmt: skip
        self._limit()
        self.ax_.set(xlabel="generation", ylabel="loss")
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        hide_frame(self.ax_)
        legend = [*self.lines_, *self.members_[:1], self.chosen_, self.nodes_]
        legend_above(self.ax_, legend, 2)
        return self

    def _draw_nodes(self, n_nodes: NDArray[Any], label: str) -> None:
        """Draw the nodes as an area behind the lines, on an axis of their own."""
        self.nodes_ax_ = self.ax_.twinx()
        self.nodes_ = self.nodes_ax_.fill_between(
            np.arange(len(n_nodes)), n_nodes, step="mid", color=GREY, alpha=0.25, lw=0, label=label
        )
        # The area keeps to the lower half, the lines have the rest to themselves.
        self.nodes_ax_.set_ylim(0.0, max(1.0, 2.2 * n_nodes.max()))
        self.nodes_ax_.set_ylabel(label, color=GREY)
        self.nodes_ax_.tick_params(axis="y", colors=GREY)
        self.nodes_ax_.yaxis.get_major_locator().set_params(integer=True)
        self.nodes_ax_.spines["top"].set_visible(False)
        # Behind the lines, whose background must not hide it.
        self.ax_.set_zorder(self.nodes_ax_.get_zorder() + 1)
        self.ax_.patch.set_visible(False)

    def _draw_members(self, kept: Kept, at: int, label: str) -> None:
        """Draw the validation loss of each of several members up to what it has kept."""
        self.members_ = []
        if len(kept.loss) == 1:
            return
        losses = self.history["validation_loss"].reshape(kept.loss.shape)
        for loss, end in zip(losses, kept.generation[:, at], strict=True):
            self.members_ += self.ax_.plot(
                loss[: end + 1], "o-", markevery=[end], ms=3.5, mew=0.0, color=NEGATIVE, lw=0.8,
                alpha=0.5, zorder=1.5, label=label,
            )  # fmt: skip

    def _limit(self) -> None:
        """Have the axis show lines and dots, however far a member goes astray before its dot."""
        shown = [line.get_ydata() for line in self.lines_]
        ends = [member.get_ydata()[[0, -1]] for member in self.members_]
        values = np.concatenate([*shown, *ends])
        values = values[np.isfinite(values)]
        if not len(values):
            return
        top = values.min() + _MOST_ASTRAY * np.ptp(values)
        low, high = self.ax_.get_ylim()
        if high > top > low:
            self.ax_.set_ylim(values.min() - 0.05 * (top - values.min()), top)
