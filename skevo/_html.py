"""What notebooks show of an estimator: scikit-learn's diagram, the formula and the course."""

from __future__ import annotations

from abc import abstractmethod
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import estimator_html_repr

from ._path import Kept

__all__ = ["DOCUMENTATION", "ShowsHTML"]

# Where the documentation of an estimator is once the site is built: relative to the project's root,
# since there is no public site. This is the one place that knows.
DOCUMENTATION = "docs/_build/html/api/{estimator_module}.{estimator_name}.html"

# Size of the picture of the course.
_WIDTH, _HEIGHT = 360, 90

_STYLE = (
    "max-height: 14em; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; "
    "font-size: 0.9em; text-align: left;"
)
_COLOURS = {"loss": "#3a8fd0", "validation_loss": "#e0701a"}


class ShowsHTML(BaseEstimator):
    """The representation of an estimator in notebooks, and its link to the documentation."""

    _doc_link_module = "skevo"
    _doc_link_template = DOCUMENTATION

    history_: dict[str, NDArray[Any]]
    path_: dict[str, NDArray[Any]]
    n_nodes_: int
    n_iter_: int
    stop_reason_: str

    @property
    @abstractmethod
    def formula_(self) -> str:
        """The network as text."""

    def _html_repr(self) -> str:
        """Return scikit-learn's diagram and, of a fitted estimator, formula and course."""
        diagram = estimator_html_repr(self)
        if not hasattr(self, "stop_reason_"):
            return diagram
        formula, about = escape(self.formula_), f"{self.n_nodes_} nodes, {self.n_iter_} generations"
        return (
            f"{diagram}"
            f"<details open><summary>Formula</summary><pre style='{_STYLE}'>{formula}</pre>"
            f"</details><details open><summary>Course: {about}, stopped by {self.stop_reason_}"
            f"</summary>{_course_svg(Kept.of(self.history_, self.path_))}</details>"
        )


def _course_svg(kept: Kept) -> str:
    """Draw training and validation loss by generation, means of what members have kept by then."""
    mean = kept.means()
    generation = np.arange(len(mean["loss"]))
    losses = np.array([mean[name] for name in _COLOURS])
    low, high = losses.min(), losses.max()
    x = _WIDTH * generation / max(1, generation[-1])
    y = _HEIGHT * (high - losses) / max(high - low, np.finfo(float).tiny)
    lines = "".join(
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="'
        + " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, heights, strict=True))
        + '"/>'
        for colour, heights in zip(_COLOURS.values(), y, strict=True)
    )
    named = ", ".join(
        f'<span style="color: {colour}">{name.replace("_", " ")} {mean[name][-1]:.4g}</span>'
        for name, colour in _COLOURS.items()
    )
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="-3 -3 {_WIDTH + 6} {_HEIGHT + 6}" '
        f'role="img" aria-label="losses by generation">{lines}</svg><div>{named} after generation '
        f"{generation[-1]}; linear model: {mean['validation_loss'][0]:.4g}</div>"
    )
