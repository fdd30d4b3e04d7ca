"""Layers: the heights of columns and of lines that pass them, level by level.

A line that leads past a level has a lane there, as if a small node stood in its way [1]_: so lines
run beside boxes, and not below them. The lines that leave a column share its lane.

References
----------
.. [1] K. Sugiyama, S. Tagawa and M. Toda, "Methods for visual understanding of hierarchical system
   structures", IEEE Transactions on Systems, Man, and Cybernetics 11, 1981.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import isotonic_regression

__all__ = ["Layers", "Place"]

# A column and a level: its box at its own, its lane at those behind it.
Place = tuple[int, int]

# Height of a lane; that of a box is 1.
_LANE = 0.4
# Times that the heights are fitted to those of the neighbours, to the left and to the right.
_SWEEPS = 12


class Layers(NamedTuple):
    """Heights of columns and lanes: near those that they read and are read by.

    Attributes
    ----------
    height : dict of (int, int) to float
        By column and level.
    tall : float
        Of the fullest level; heights are from 0 to this.
    lines : list of ((int, int), (int, int))
        From operands to their readers, level by level.
    """

    height: dict[Place, float]
    tall: float
    lines: list[tuple[Place, Place]]

    @classmethod
    def of(
        cls,
        level: Mapping[int, int],
        operands: Mapping[int, Sequence[int]],
        last: Mapping[int, int],
    ) -> Self:
        """Find heights.

        Parameters
        ----------
        level : dict of int to int
            Of each column.
        operands : dict of int to sequence of int
            The columns that each column reads.
        last : dict of int to int
            Up to which level a line of a column leads besides those to its readers.
        """
        needed = dict(level)
        for reader, read in operands.items():
            for column in read:
                needed[column] = max(needed[column], level[reader] - 1)
        read_by = [
            ((column, level[reader] - 1), (reader, level[reader]))
            for reader, read in operands.items()
            for column in read
        ]
        ends = {column: max(needed[column], last.get(column, 0)) for column in level}
        joined = _lanes(level, ends) + read_by
        places = [
            (column, at) for column, own in level.items() for at in range(own, ends[column] + 1)
        ]
        return cls(*_heights(level, places, joined), _lanes(level, needed) + read_by)


def _lanes(level: Mapping[int, int], ends: Mapping[int, int]) -> list[tuple[Place, Place]]:
    """Return the lines from each column along its lanes."""
    return [
        ((column, at), (column, at + 1))
        for column, own in level.items()
        for at in range(own, ends[column])
    ]


def _heights(
    level: Mapping[int, int], places: Sequence[Place], joined: Sequence[tuple[Place, Place]]
) -> tuple[dict[Place, float], float]:
    """Return the height of each place, and that of the fullest level."""
    neighbours: dict[Place, list[Place]] = {place: [] for place in places}
    for before, behind in joined:
        neighbours[before].append(behind)
        neighbours[behind].append(before)
    by_level = [
        [place for place in places if place[1] == at] for at in sorted({at for _, at in places})
    ]
    sizes = [np.array([_size(place, level) for place in own]) for own in by_level]
    tall = float(max((size.sum() for size in sizes), default=1.0))
    height = {
        place: middle
        for own, size in zip(by_level, sizes, strict=True)
        for place, middle in zip(own, _stacked(size, tall), strict=True)
    }
    for sweep in range(_SWEEPS):
        step = 1 if sweep % 2 else -1
        for own, size in zip(by_level[::step], sizes[::step], strict=True):
            wanted = [_mean(height, neighbours[place], place) for place in own]
            height.update(zip(own, _apart(np.array(wanted), size, tall).tolist(), strict=True))
    return height, tall


def _size(place: Place, level: Mapping[int, int]) -> float:
    column, at = place
    return 1.0 if at == level[column] else _LANE


def _mean(height: Mapping[Place, float], neighbours: Sequence[Place], place: Place) -> float:
    """Return the mean height of the neighbours, or that of the place if it has none."""
    return float(np.mean([height[neighbour] for neighbour in neighbours or [place]]))


def _stacked(size: NDArray[np.float64], tall: float) -> NDArray[np.float64]:
    """Return heights of sizes, one below the other from above, as far apart as there is room."""
    return tall - (np.cumsum(size) - 0.5 * size) * tall / size.sum()


def _apart(
    wanted: NDArray[np.float64], size: NDArray[np.float64], tall: float
) -> NDArray[np.float64]:
    """Return the heights nearest to some, in squares, at which sizes do not overlap.

    Parameters
    ----------
    wanted, size : ndarray of shape (n,)
    tall : float
        The room there is, from 0 on; at least the sum of the sizes.
    """
    order = np.argsort(wanted, kind="stable")
    lowest = np.cumsum(size[order]) - 0.5 * size[order]
    height = np.empty(len(wanted))
    height[order] = lowest + isotonic_regression(
        wanted[order] - lowest, y_min=0.0, y_max=max(0.0, tall - size.sum())
    )
    return height
