"""Partitions: rows to fit to, on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeVar

import numpy as np
from distributed import Future
from numpy.typing import NDArray

from .._rows import Part, Recipe, at_equal_distances
from ..core.folds import Task
from ._cluster import Cluster
from ._table import DaskTable

__all__ = ["Partitions"]

_S = TypeVar("_S")


class Partitions:
    """Rows on workers, part by part.

    Parameters
    ----------
    cluster : Cluster
    parts : sequence of Future
        Each of a `Part`.
    identity : str
        What tells the rows from others.
    device : str
        Of the workers.
    """

    def __init__(
        self, cluster: Cluster, parts: Sequence[Future], identity: str, device: str
    ) -> None:
        self.cluster, self.parts, self.identity = cluster, parts, identity
        self._device = device

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """How many rows there are up to the end of each part."""
        counts = [self.cluster.submit(_count, part) for part in self.parts]
        return np.cumsum(self.cluster.fetch(counts), dtype=np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def map(self, function: Callable[[Part], Part]) -> Partitions:
        """Return what a function makes of each part."""
        parts = [self.cluster.submit(function, part) for part in self.parts]
        return Partitions(self.cluster, parts, self.identity, self._device)

    def sum(self, function: Callable[[Part], _S]) -> _S:
        """Return the sum over parts of what a function returns, which can be added."""
        total: _S = self.cluster.total([self.cluster.submit(function, part) for part in self.parts])
        return total

    def sample(self) -> Part:
        """Return rows at equal distances: all, or 100,000 and more."""
        return self._sample

    @cached_property
    def _sample(self) -> Part:
        step = at_equal_distances(len(self)).step
        some = [
            self.cluster.submit(Part.of, part, slice(-int(end) % step, None, step))
            for part, end in zip(self.parts, [0, *self.ends[:-1]], strict=True)
        ]
        return Part(*map(np.concatenate, zip(*self.cluster.fetch(some), strict=True)))

    def table(self, recipe: Recipe) -> DaskTable:
        """Return the rows as the engine reads them."""
        return DaskTable(self.cluster, self.parts, self.ends, recipe, self._device)

    def for_members(
        self, table: DaskTable, recipe: Recipe, tasks: Sequence[Task]
    ) -> tuple[DaskTable, DaskTable]:
        """Return the table to train on, and that by which members are judged."""
        return table, table


def _count(part: Part) -> int:
    return len(part.weight)
