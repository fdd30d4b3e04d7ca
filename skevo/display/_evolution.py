"""The course of an evolution as a picture."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from .._path import mean_history
from ._style import GREY, NEGATIVE, POSITIVE, axes_for, hide_frame, ink, legend_above

__all__ = ["EvolutionDisplay"]


class EvolutionDisplay:
    """Loss, validation loss and nodes by generation, and which generation was chosen.

    Of several members the means are drawn, and each member's validation loss as a faint line.

    Parameters
    ----------
    history : dict of str to ndarray
        See ``history_`` of the estimators.
    chosen : (int, float)
        The generation that the model is of, and its validation loss. Where members are averaged it
        is the last that improved on one of them, and the mean of what each has kept by then.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Of the losses.
    nodes_ax_ : matplotlib Axes
        Of the nodes.
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        Training loss and validation loss.
    chosen_ : matplotlib Line2D
        The mark of the chosen generation.
    """

    def __init__(self, history: dict[str, NDArray[Any]], chosen: tuple[int, float]) -> None:
        self.history = history
        self.chosen = chosen

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
        path = estimator.path_
        chosen = int(path["generation"][-1]), float(path["validation_loss"][-1])
        return cls(estimator.history_, chosen).plot(ax)

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
        self.figure_, self.ax_ = axes_for(self, ax, (6.4, 4.2))
        mean = mean_history(self.history)
        self._draw_nodes(mean)
        self._draw_members()
        self.lines_ = [
            self.ax_.plot(mean["generation"], mean[name], color=colour, label=label)[0]
            for name, colour, label in (
                ("loss", POSITIVE, "training loss"),
                ("validation_loss", NEGATIVE, "validation loss"),
            )
        ]
        generation, loss = self.chosen
        label = "mean of what members keep" if self._is_mean else "chosen"
        (self.chosen_,) = self.ax_.plot(
            generation, loss, "o", ms=8, mfc="none", mew=1.8, color=ink(),
            label=f"{label}: generation {generation}",
        )  # fmt: skip
        self._limit(mean)
        self.ax_.set(xlabel="generation", ylabel="loss")
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        hide_frame(self.ax_)
        legend_above(self.ax_, [*self.lines_, self.chosen_, self.nodes_], 2)
        return self

    @property
    def _is_mean(self) -> bool:
        """Whether there are several members."""
        return bool(self.history["member"].max() > 0)

    def _draw_nodes(self, mean: dict[str, NDArray[Any]]) -> None:
        """Draw the nodes as an area behind the lines, on an axis of their own."""
        self.nodes_ax_ = self.ax_.twinx()
        label = "nodes per member" if self._is_mean else "nodes"
        self.nodes_ = self.nodes_ax_.fill_between(
            mean["generation"], mean["n_nodes"], step="mid", color=GREY, alpha=0.25, lw=0,
            label=label,
        )  # fmt: skip
        # The area keeps to the lower half, the lines have the rest to themselves.
        self.nodes_ax_.set_ylim(0.0, max(1.0, 2.2 * mean["n_nodes"].max()))
        self.nodes_ax_.set_ylabel(label, color=GREY)
        self.nodes_ax_.tick_params(axis="y", colors=GREY)
        self.nodes_ax_.yaxis.get_major_locator().set_params(integer=True)
        self.nodes_ax_.spines["top"].set_visible(False)
        # Behind the lines, whose background must not hide it.
        self.ax_.set_zorder(self.nodes_ax_.get_zorder() + 1)
        self.ax_.patch.set_visible(False)

    def _draw_members(self) -> None:
        """Draw the validation loss of each member."""
        if not self._is_mean:
            return
        for member in np.unique(self.history["member"]):
            own = self.history["member"] == member
            self.ax_.plot(
                self.history["generation"][own], self.history["validation_loss"][own],
                color=NEGATIVE, lw=0.8, alpha=0.3,
            )  # fmt: skip

    def _limit(self, mean: dict[str, NDArray[Any]]) -> None:
        """Have the axis show the means, however far a member goes astray for a while."""
        start = max(mean["loss"][0], mean["validation_loss"][0])
        low, high = self.ax_.get_ylim()
        self.ax_.set_ylim(low, min(high, start + 0.5 * (start - low)))
