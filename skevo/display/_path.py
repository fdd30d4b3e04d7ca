"""Accuracy against complexity as a picture."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from .._path import RULES, Path
from ._style import GREY, NEGATIVE, POSITIVE, axes_for, hide_frame, ink, legend_above

__all__ = ["PathDisplay"]

_MARKERS = ("o", "s", "^")


class PathDisplay:
    """Validation loss against nodes, for the models that `select` can return.

    Parameters
    ----------
    path : dict of str to ndarray
        See ``path_`` of the estimators.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    errorbar_ : matplotlib ErrorbarContainer
        Validation losses with their standard errors.
    line_ : matplotlib Line2D
        Training losses.
    choices_ : dict of str to matplotlib Line2D
        The mark of what each rule of `select` takes.
    """

    def __init__(self, path: dict[str, NDArray[Any]]) -> None:
        self.path = path

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the path that a fit took.

        Parameters
        ----------
        estimator : EvolvingRegressor or EvolvingClassifier
            Fitted.
        ax : matplotlib Axes, default=None
            Where to; a new figure if None.

        Returns
        -------
        PathDisplay
        """
        check_is_fitted(estimator)
        return cls(estimator.path_).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to; a new figure if None.

        Returns
        -------
        PathDisplay
            Itself.
        """
        self.figure_, self.ax_ = axes_for(self, ax, (6.4, 4.2))
        path = Path(**self.path)
        # Later models may have fewer nodes.
        order = np.argsort(path.n_nodes, kind="stable")
        nodes, loss = path.n_nodes[order], path.validation_loss[order]
        self.errorbar_ = self.ax_.errorbar(
            nodes, loss, np.nan_to_num(path.standard_error[order]), color=NEGATIVE, fmt="o-", ms=4,
            lw=1.2, elinewidth=0.8, capsize=2, ecolor=GREY, label="validation loss",
        )  # fmt: skip
        (self.line_,) = self.ax_.plot(
            nodes, path.loss[order], color=POSITIVE, lw=1.2, label="training loss"
        )
        self._mark(path)
        self.ax_.set(xlabel="nodes of all members", ylabel="loss")
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        hide_frame(self.ax_)
        legend_above(self.ax_, [self.errorbar_, self.line_, *self.choices_.values()], 3)
        return self

    def _mark(self, path: Path) -> None:
        """Mark what each rule takes; larger marks lie around smaller ones."""
        self.choices_ = {}
        for rule, marker, size in zip(RULES, _MARKERS, (11, 14, 17), strict=True):
            if rule == "steepest" and not (path.validation_loss > 0).all():
                continue
            place = path.choose(None, rule)
            (self.choices_[rule],) = self.ax_.plot(
                path.n_nodes[place], path.validation_loss[place], marker, ms=size, mfc="none",
                mew=1.3, ls="none", color=ink(), label=f"{rule}: {path.n_nodes[place]} nodes",
            )  # fmt: skip
