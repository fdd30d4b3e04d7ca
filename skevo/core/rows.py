"""Row sources: where the engine's rows live, and how it reaches them.

The engine never loops over rows. It hands a function of one block to `RowSource.reduce` and gets
the sum of what the function returned for all blocks: Gram matrices, cross moments, gradients,
losses. Whatever is additive over rows can be had this way from memory, a file, or a cluster.

Each member of a population has rows of its own; all have as many, if need be with rows of weight
zero.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .columns import compute_columns, empty_columns, node_columns
from .network import Nodes
from .population import EMPTY, Population, Wiring
from .threads import in_order

__all__ = [
    "Block", "HeldRows", "Inputs", "MemoryRows", "RowSource", "RowsPart", "StreamedRows", "Sums",
    "add_up",
]  # fmt: skip


# Columns that there is room for from the start, as long as they have no more bytes.
_RESERVED, _RESERVED_BYTES = 256, 2**28
# Columns of a member that are moved at a time.
_MOVED = 32


class Inputs(Protocol):
    """Input columns that may live elsewhere: a tensor of shape (n_inputs, n_samples), or alike."""

    device: torch.device
    dtype: torch.dtype

    def __len__(self) -> int:
        """Return the number of columns."""
        ...

    def __getitem__(self, at: tuple[slice, Tensor | slice]) -> Tensor:
        """Return all columns of some rows."""
        ...


@dataclass(frozen=True)
class Block:
    """Some rows of a source.

    Attributes
    ----------
    columns : Tensor of shape (n_members, n_columns, n)
        Inputs and nodes of the current networks.
    target : Tensor of shape (n_members, n_outputs, n)
    weight : Tensor of shape (n_members, n)
    """

    columns: Tensor
    target: Tensor
    weight: Tensor

    def split(self, size: int) -> list[Block]:
        """Return the block in pieces of so many rows."""
        parts = (part.split(size, dim=-1) for part in (self.columns, self.target, self.weight))
        return [Block(*piece) for piece in zip(*parts, strict=True)]


Sums = tuple[Tensor, ...]


class RowSource(Protocol):
    """Rows with the columns of one population, reached through sums over blocks."""

    total_weight: Tensor

    def reduce(self, function: Callable[[Block], Sums]) -> Sums:
        """Return the sum over blocks of each tensor that ``function(block)`` returns."""
        ...


class HeldRows(ABC):
    """Rows whose columns are in memory."""

    target: Tensor
    weight: Tensor
    total_weight: Tensor
    block_size: int

    @property
    @abstractmethod
    def columns(self) -> Tensor:
        """Cached columns, of shape (n_members, n_columns, n_samples)."""

    @property
    @abstractmethod
    def store(self) -> MemoryRows:
        """What keeps the columns."""

    @property
    def n_rows(self) -> int:
        """Number of rows of each member."""
        return self.weight.shape[1]

    def reduce(self, function: Callable[[Block], Sums]) -> Sums:
        """Return the sum over blocks of each tensor that ``function(block)`` returns."""
        columns = self.columns
        blocks = (
            Block(columns[..., rows], self.target[..., rows], self.weight[:, rows])
            for rows in self._blocks()
        )
        return add_up(map(function, blocks))

    def _blocks(self) -> list[slice]:
        size = self.block_size
        return [slice(start, start + size) for start in range(0, max(self.n_rows, 1), size)]


class MemoryRows(HeldRows):
    """Rows in memory, with the node columns cached.

    Parameters
    ----------
    inputs : Tensor of shape (n_members, n_inputs, n_samples)
    target : Tensor of shape (n_members, n_outputs, n_samples)
    weight : Tensor of shape (n_members, n_samples)
    block_size : int, default=16_384
        Rows that are reduced at a time.
    """

    def __init__(
        self, inputs: Tensor, target: Tensor, weight: Tensor, block_size: int = 16_384
    ) -> None:
        self.target = target
        self.weight = weight
        self.block_size = block_size
        self.total_weight = weight.sum(dim=1, dtype=torch.float64)
        self.n_members, self.n_inputs = inputs.shape[:2]
        self._cache = _Cache(inputs)
        self._copies: list[RowsPart] = []
        self._held: tuple[Wiring, Tensor] | None = None

    @property
    def columns(self) -> Tensor:
        """Cached columns, of shape (n_members, n_columns, n_samples)."""
        return self._cache.columns

    @property
    def store(self) -> MemoryRows:
        """What keeps the columns: itself."""
        return self

    def part(self, rows: slice, dtype: torch.dtype | None = None) -> RowsPart:
        """Return some of the rows, whose columns follow those of all.

        Parameters
        ----------
        rows : slice
        dtype : torch.dtype, default=None
            Of a copy of them in another precision.
        """
        part = RowsPart(self, rows, dtype)
        if part.is_copy:
            self._copies.append(part)
        return part

    def holds(self, population: Population) -> bool:
        """Return whether the columns are those of a population."""
        if self._held is None:
            return False
        return self._held[0] is population.wiring and self._held[1] is population.constants

    def assign(self, population: Population, members: NDArray[np.bool_] | None = None) -> None:
        """Make the columns those of a population, if they are not.

        Parameters
        ----------
        population : Population
        members : ndarray of shape (n_members,), bool, default=None
            Those whose columns are not those of the population; all, if None.
        """
        if self.holds(population):
            return
        self._hold(population)
        population = population.to(dtype=self.columns.dtype)
        self._cache.resize(population.n_columns)
        self._empty(~population.wiring.inputs)
        for rows in self._blocks():
            compute_columns(population, self.columns[..., rows], members)
        self._copy()

    def grow(self, population: Population, nodes: Nodes) -> None:
        """Add the columns of nodes that have joined the population."""
        self._hold(population)
        before = self.columns
        n_old, n_new = before.shape[1], nodes.operator.shape[1]
        empty = torch.as_tensor(nodes.operator == EMPTY, device=nodes.scale.device)[..., None]
        factor = nodes.scale.to(before.dtype).reciprocal()[..., None]
        self._cache.resize(n_old + n_new)
        columns = self.columns
        for rows in self._blocks():
            values = node_columns(population, nodes, columns[:, :n_old, rows])
            columns[:, n_old:, rows] = (values * factor).masked_fill_(empty, 0.0)
        self._copy(n_old)

    def without(self, population: Population, gone: NDArray[np.bool_]) -> None:
        """Empty the columns that the population lost, ``gone`` of shape (n_members, n_columns)."""
        self._hold(population)
        self._empty(gone)

    def compact(self, population: Population, kept: Tensor) -> None:
        """Keep the columns of those slots only that the population kept, of each member."""
        self._hold(population)
        # In parts, for memory: each column moves down, over none that is still to move.
        for of_nodes, own in zip(self.columns[:, self.n_inputs :], kept, strict=True):
            for to, some in zip(of_nodes.split(_MOVED), own.split(_MOVED), strict=False):
                moved = of_nodes[some.clamp(min=0)].masked_fill_((some < 0)[:, None], 0.0)
                to[: len(some)] = moved
        self._cache.resize(self.n_inputs + kept.shape[1])
        self._copy()

    def _empty(self, gone: NDArray[np.bool_]) -> None:
        """Set some of the first columns to zero, in copies too."""
        self._cache.empty(gone)
        for part in self._copies:
            part.empty(gone)

    def _hold(self, population: Population) -> None:
        self._held = population.wiring, population.constants

    def _copy(self, first: int | None = None) -> None:
        """Bring parts in another precision up to date, from a column on."""
        for part in self._copies:
            part.copy(self.n_inputs if first is None else first)


class RowsPart(HeldRows):
    """Some of the rows in memory.

    Parameters
    ----------
    store : MemoryRows
    rows : slice
    dtype : torch.dtype, default=None
        That of the rows if None; else the part has a copy of the columns.
    """

    def __init__(self, store: MemoryRows, rows: slice, dtype: torch.dtype | None = None) -> None:
        self._store, self._rows = store, rows
        own = store.columns[..., rows]
        dtype = dtype or own.dtype
        self.target = store.target[..., rows].to(dtype)
        self.weight = store.weight[:, rows].to(dtype)
        self.total_weight = self.weight.sum(dim=1, dtype=torch.float64)
        self.block_size = store.block_size
        self._copied = None if dtype == own.dtype else _Cache(own.to(dtype))

    @property
    def is_copy(self) -> bool:
        """Whether the columns are a copy, in another precision."""
        return self._copied is not None

    @property
    def columns(self) -> Tensor:
        """Cached columns, of shape (n_members, n_columns, n_samples)."""
        if self._copied is None:
            return self._store.columns[..., self._rows]
        return self._copied.columns

    @property
    def store(self) -> MemoryRows:
        """What keeps the columns."""
        return self._store

    def copy(self, first: int) -> None:
        """Bring the copy up to date, from a column on."""
        assert self._copied is not None
        columns = self._store.columns
        self._copied.resize(columns.shape[1])
        self._copied.columns[:, first:] = columns[:, first:, self._rows]

    def empty(self, gone: NDArray[np.bool_]) -> None:
        """Empty some columns of each member in the copy."""
        assert self._copied is not None
        self._copied.empty(gone)


class _Cache:
    """Columns, with room for more.

    Parameters
    ----------
    columns : Tensor of shape (n_members, n_columns, n_samples)
        Those to start with, which are copied.
    """

    def __init__(self, columns: Tensor) -> None:
        n_members, n_columns, n_rows = columns.shape
        row_bytes = max(1, n_members * n_rows * columns.element_size())
        n_spare = 16
        if columns.device.type == "cpu":
            # What is not written to takes no memory yet, and need not be moved to have more.
            n_spare = max(n_spare, min(_RESERVED, _RESERVED_BYTES // row_bytes))
        self._values = columns.new_empty(n_members, n_columns + n_spare, n_rows)
        self._values[:, :n_columns] = columns
        self._used = n_columns

    @property
    def columns(self) -> Tensor:
        """The columns, as a view."""
        return self._values[:, : self._used]

    def resize(self, n_columns: int) -> None:
        """Have so many columns; new ones have no values yet."""
        room = self._values.shape[1]
        if n_columns > room:
            n_members, _, n_rows = self._values.shape
            larger = self._values.new_empty(n_members, max(n_columns, 5 * room // 4), n_rows)
            larger[:, : self._used] = self.columns
            self._values = larger
        self._used = n_columns

    def empty(self, gone: NDArray[np.bool_]) -> None:
        """Set some of the first columns of each member to zero."""
        empty_columns(self.columns, gone)


class StreamedRows:
    """Rows, the same for all members, whose node columns are computed each time anew.

    Parameters
    ----------
    inputs : Inputs of shape (n_inputs, n_samples)
    target : Tensor of shape (n_outputs, n_samples)
    weight : Tensor of shape (n_samples,)
    population : Population
        Whose columns the rows hold.
    block_size : int, default=16_384
        Rows, counted over members, that are in memory with all their columns at a time.
    n_threads : int, default=1
        Blocks that are worked on at a time. Sums do not depend on it, bit by bit.
    """

    def __init__(
        self,
        inputs: Inputs,
        target: Tensor,
        weight: Tensor,
        population: Population,
        block_size: int = 16_384,
        n_threads: int = 1,
    ) -> None:
        self.inputs = inputs
        self.target = target
        self.weight = weight
        self.population = population
        self.block_size = block_size
        self.n_threads = n_threads if weight.device.type == "cpu" else 1
        self.total_weight = weight.sum(dtype=torch.float64).expand(len(population))
        # Two threads with many small calls wait for each other's interpreter; one that computes
        # columns beside another that multiplies them does not.
        self._turn = threading.Lock()

    def reduce(self, function: Callable[[Block], Sums]) -> Sums:
        """Return the sum over blocks of each tensor that ``function(block)`` returns."""
        size = max(1, self.block_size // len(self.population))
        starts = range(0, len(self.weight), size)
        blocks = [slice(start, start + size) for start in starts]
        return add_up(in_order(lambda rows: function(self._block(rows)), blocks, self.n_threads))

    def _block(self, rows: slice) -> Block:
        """Return some rows with the columns of the nodes."""
        population, inputs = self.population, self.inputs[:, rows]
        n_members = len(population)
        columns = inputs.new_empty(n_members, population.n_columns, inputs.shape[1])
        columns[:, : len(inputs)] = inputs
        with self._turn:
            compute_columns(population, columns)
        target, weight = self.target[:, rows], self.weight[rows]
        return Block(columns, target.expand(n_members, -1, -1), weight.expand(n_members, -1))


def add_up(parts: Iterable[Sums]) -> Sums:
    """Return the sum of each tensor over parts, in their order."""
    total: Sums | None = None
    for part in parts:
        total = part if total is None else tuple(a + b for a, b in zip(total, part, strict=True))
    assert total is not None
    return total
