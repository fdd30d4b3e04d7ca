"""What the pictures have in common: axes, colours, labels."""

from __future__ import annotations

import re
from collections import Counter
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
    "shorten_name",
    "shorten_names",
]

# Told apart by all eyes, on light and on dark paper (M. Okabe and K. Ito, "Color universal design",
# 2008).
POSITIVE, NEGATIVE = "#3a8fd0", "#e0701a"
GREY = "#8c8c8c"

# What inputs are called that are made of a column, which is the second part; what stands behind it
# tells levels apart.
_MADE_OF_COLUMN = re.compile(r"(\[|missing\(|mean\()(.+?)( = .+\]| \| .+\)|\))")
# Letters that are left of it.
_FEWEST = 8


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


def shorten_name(name: str, length: int) -> str:
    """Return the name of an input with at most so many letters, but for a few.

    What tells it from others is kept as long as possible: of ``[column = level]`` the level, and of
    ``missing(column)`` both ends of the column.
    """
    parts = _MADE_OF_COLUMN.fullmatch(name)
    if len(name) <= length or not parts:
        return shorten(name, length)
    before, column, after = parts.groups()
    column = shorten(column, max(_FEWEST, length - len(before) - len(after)))
    room = max(_FEWEST, length - len(before) - len(column) - len(after[:3]) - 1)
    return (
        f"{before}{column}{after[:3]}{shorten(after[3:-1], room)}{after[-1] if after[3:] else ''}"
    )


def shorten_names(names: Sequence[str], length: int) -> list[str]:
    """Return short names, longer where different ones would be called the same."""
    lengths = dict.fromkeys(names, length)
    while True:
        short = {name: shorten_name(name, room) for name, room in lengths.items()}
        count = Counter(short.values())
        alike = [name for name, text in short.items() if count[text] > 1]
        if not alike:
            return [short[name] for name in names]
        for name in alike:
            lengths[name] += 4
