"""Tables whose rows are on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
import torch
from distributed import Future
from numpy.typing import NDArray
from torch import Tensor

from .._devices import CPU, find_device
from .._exact import exact_sum
from .._memory import enough_memory
from .._rows import Part, Recipe
from ..core.population import Population
from ..core.rows import Block, Sums
from ..core.table import Table
from ..core.threads import torch_threads
from ..core.topology import Index
from ._cluster import Cluster
from ._device import moved

__all__ = ["DaskTable"]


@dataclass(frozen=True)
class _Reading:
    """How a worker reads rows: by a recipe, with some of the columns, or all if None.

    Sums over rows are computed on the device of the worker.
    """

    recipe: Recipe
    columns: Index | None
    device: str

    def __call__(self, part: Part, device: torch.device = CPU) -> Table:
        table = replace(self.recipe, device=device).table(part)
        return table if self.columns is None else table.of(self.columns)


class DaskTable:
    """Training rows on workers, as the engine reads them.

    Parameters
    ----------
    cluster : Cluster
    parts : sequence of Future
        Each of a `Part`.
    ends : ndarray of shape (n_parts,), int64
        How many rows there are up to the end of each.
    recipe : Recipe
    device : str
        Of the workers.
    columns : ndarray of int64, default=None
        Input columns; all if None.
    """

    def __init__(
        self,
        cluster: Cluster,
        parts: Sequence[Future],
        ends: NDArray[np.int64],
        recipe: Recipe,
        device: str,
        columns: Index | None = None,
    ) -> None:
        self.cluster, self._parts, self._ends = cluster, parts, ends
        self._recipe, self._of_workers, self._columns = recipe, device, columns
        self.device, self.dtype, self.n_outputs = recipe.device, recipe.dtype, recipe.n_outputs
        self.n_inputs = len(recipe.encoding) if columns is None else len(columns)
        self.monotonic = recipe.monotonic
        if columns is not None and self.monotonic is not None:
            self.monotonic = self.monotonic[columns]

    def __len__(self) -> int:
        return int(self._ends[-1])

    @cached_property
    def total_weight(self) -> float:
        """Weight of all rows."""
        return float(self.cluster.total([self.cluster.submit(_weigh, p) for p in self._parts]))

    @cached_property
    def _reading(self) -> Future:
        return self.cluster.share(_Reading(self._recipe, self._columns, self._of_workers))

    def take(self, rows: Tensor | slice) -> Table:
        """Return some rows, read into memory."""
        pieces, order = self._pieces(rows)
        return _join(order, *self.cluster.fetch(pieces))

    def take_to(self, home: Sequence[str], rows: Tensor | slice) -> Future:
        """Return some rows, read into the memory of one of some workers."""
        pieces, order = self._pieces(rows)
        return self.cluster.submit_to(home, _join, order, *pieces)

    def _pieces(self, rows: Tensor | slice) -> tuple[list[Future], NDArray[np.int64]]:
        """Return rows by parts, and where each of the rows that are wanted is among them."""
        wanted = (
            rows.numpy(force=True)
            if isinstance(rows, Tensor)
            else np.arange(*rows.indices(len(self)))
        )
        home = np.searchsorted(self._ends, wanted, side="right")
        order = np.argsort(home, kind="stable")
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        at = np.append(np.searchsorted(home[order], np.unique(home)), len(order))
        pieces = []
        for number, some in zip(np.unique(home), map(slice, at, at[1:]), strict=False):
            begin = self._ends[number - 1] if number else 0
            local = wanted[order[some]] - begin
            pieces.append(self.cluster.submit(_take, self._parts[number], local, self._reading))
        return pieces, places

    def stream(self, population: Population, block_size: int, n_threads: int = 1) -> _DaskRows:
        """Return all rows as a source that holds the columns of a population."""
        return _DaskRows(self, population, block_size)

    def total_of(self, function: Callable[[Block], Sums], population: Population, n: int) -> Sums:
        """Return the sum over blocks of n rows of what a function of their columns returns."""
        shared = self.cluster.share((population, n, function))
        total: Sums = self.cluster.total(
            [self.cluster.submit(_reduce, part, self._reading, shared) for part in self._full]
        )
        return total

    @cached_property
    def _full(self) -> list[Future]:
        """The parts that have rows, those of a worker side by side: their sums stay there."""
        counts = np.diff(self._ends, prepend=0)
        parts = [part for part, count in zip(self._parts, counts, strict=True) if count]
        return self.cluster.by_worker(parts)

    def for_member(self, number: int) -> DaskTable:
        """Return the table as a member reads it."""
        return self

    def of(self, columns: Index) -> DaskTable:
        """Return the table with some of the input columns."""
        return DaskTable(
            self.cluster, self._parts, self._ends, self._recipe, self._of_workers, columns
        )


class _DaskRows:
    """Rows on workers whose node columns are computed each time anew.

    Parameters
    ----------
    table : DaskTable
    population : Population
    block_size : int
    """

    def __init__(self, table: DaskTable, population: Population, block_size: int) -> None:
        self._table, self._population, self._block_size = table, population, block_size
        self.total_weight = torch.full((len(population),), table.total_weight, dtype=torch.float64)

    def reduce(self, function: Callable[[Block], Sums]) -> Sums:
        """Return the sum over blocks of each tensor that ``function(block)`` returns."""
        return self._table.total_of(function, self._population, self._block_size)


def _weigh(part: Part) -> Fraction:
    return exact_sum(part.weight)


def _take(part: Part, rows: NDArray[np.int64], reading: _Reading) -> Table:
    """Return some rows of a part."""
    table = reading(part.of(rows))
    return replace(table, inputs=table.inputs[:, :])


def _join(order: NDArray[np.int64], *pieces: Table) -> Table:
    """Return the rows of several tables in some order."""
    at = torch.from_numpy(order)
    inputs, target = (
        torch.cat([getattr(piece, name) for piece in pieces], dim=1)[:, at]
        for name in ("inputs", "target")
    )
    weight = torch.cat([piece.weight for piece in pieces])[at]
    return Table(inputs, target, weight, monotonic=pieces[0].monotonic)


def _reduce(
    part: Part, reading: _Reading, shared: tuple[Population, int, Callable[[Block], Sums]]
) -> Sums:
    """Return the sum over the blocks of a part."""
    device = find_device(reading.device)
    with torch_threads(1), torch.no_grad(), enough_memory():
        population, block_size, function = moved(shared, CPU, device)
        rows = reading(part, device).stream(population, block_size)
        sums: Sums = moved(rows.reduce(function), device, CPU)
    return sums
