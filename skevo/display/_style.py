"""What the pictures have in common: axes, colours, labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.utils._optional_dependencies import check_matplotlib_support

__all__ = [
    "GREY",
    "NEGATIVE",
    "POSITIVE",
    "axes_for",
    "hide_frame",
    "ink",
    "legend_above",
    "shorten",
]

# Told apart by all eyes, on light and on dark paper (M. Okabe and K. Ito, "Color universal design",
# 2008).
POSITIVE, NEGATIVE = "#3a8fd0", "#e0701a"
GREY = "#8c8c8c"


def axes_for(display: Any, ax: Any, size: tuple[float, float]) -> tuple[Any, Any]:
    """Return figure and axes to draw on.

    Parameters
    ----------
    display : object
        What draws itself.
    ax : matplotlib Axes or None
        None stands for a new figure.
    size : (float, float)
        Of a new figure, in inches.
    """
    check_matplotlib_support(f"{type(display).__name__}.plot")
    from matplotlib import pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=size, layout="constrained")
    return ax.figure, ax


def ink() -> Any:
    """Return the colour of text, which says whether the paper is light or dark."""
    from matplotlib import rcParams

    return rcParams["text.color"]


def hide_frame(ax: Any) -> None:
    """Leave only the axes' left and lower lines."""
    ax.spines[["top", "right"]].set_visible(False)


def legend_above(ax: Any, handles: Sequence[Any], n_columns: int) -> None:
    """Explain lines and marks above the axes, where they hide nothing."""
    ax.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=n_columns,
        frameon=False, fontsize="small", markerscale=0.6, columnspacing=1.4, borderaxespad=0.2,
    )  # fmt: skip


def shorten(text: str, length: int) -> str:
    """Return a text of at most so many letters, its middle left out."""
    if len(text) <= length:
        return text
    head = (length - 1) * 2 // 3
    return f"{text[:head].rstrip()}…{text[head + 1 - length :].lstrip()}"
