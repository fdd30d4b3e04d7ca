"""Row sources: where the engine's rows live, and how it reaches them.

The engine never loops over rows. It hands a function of one block to `RowSource.reduce` and gets
the sum of what the function returned for all blocks: Gram matrices, cross moments, gradients,
losses. Whatever is additive over rows can be had this way from memory, a file, or a cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .network import Network, Nodes
from .topology import CONSTANT, Index, Topology

__all__ = ["Block", "Inputs", "MemoryRows", "RowSource", "StreamedRows", "node_columns"]


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
    columns : Tensor of shape (n_columns, n)
        Inputs and nodes of the current network.
    target : Tensor of shape (n_outputs, n)
    weight : Tensor of shape (n,)
    """

    columns: Tensor
    target: Tensor
    weight: Tensor


Sums = tuple[Tensor, ...]


class RowSource(Protocol):
    """Rows with the columns of one network, reached through sums over blocks."""

    total_weight: float

    def reduce(self, function: Callable[[Block], Sums]) -> Sums:
        """Return the sum over blocks of each tensor that ``function(block)`` returns."""
        ...


class MemoryRows:
    """Rows in memory, with the node columns cached.

    Parameters
    ----------
    inputs : Tensor of shape (n_inputs, n_samples)
    target : Tensor of shape (n_outputs, n_samples)
    weight : Tensor of shape (n_samples,)
    block_size : int, default=4096
        Rows that are reduced at a time.
    """

    def __init__(
        self, inputs: Tensor, target: Tensor, weight: Tensor, block_size: int = 4096
    ) -> None:
        self.target = target
        self.weight = weight
        self.block_size = block_size
        self.total_weight = float(weight.sum())
        self.n_inputs, self.n_rows = inputs.shape
        self._used = self.n_inputs
        self._held: tuple[Topology, Tensor] | None = None
        self._cache = inputs.new_empty(self.n_inputs + 16, self.n_rows)
        self._cache[: self.n_inputs] = inputs

    @property
    def columns(self) -> Tensor:
        """Cached columns, of shape (n_columns, n_samples)."""
        return self._cache[: self._used]

    def reduce(self, function: Callable[[Block], Sums]) -> Sums:
        """Return the sum over blocks of each tensor that ``function(block)`` returns."""
        total: Sums | None = None
        for start in range(0, max(self.n_rows, 1), self.block_size):
            rows = slice(start, start + self.block_size)
            part = function(Block(self.columns[:, rows], self.target[:, rows], self.weight[rows]))
            total = (
                part if total is None else tuple(a + b for a, b in zip(total, part, strict=True))
            )
        assert total is not None
        return total

    def holds(self, network: Network) -> bool:
        """Return whether the columns are those of a network."""
        if self._held is None:
            return False
        return self._held[0] is network.topology and self._held[1] is network.constants

    def assign(self, network: Network) -> None:
        """Make the columns those of a network, if they are not."""
        if self.holds(network):
            return
        self._held = network.topology, network.constants
        network = network.to(dtype=self._cache.dtype)
        self._reserve(network.topology.n_columns)
        self._used = network.topology.n_columns
        for start in range(0, self.n_rows, self.block_size):
            rows = slice(start, start + self.block_size)
            self._cache[: self._used, rows] = network.columns(self._cache[: self.n_inputs, rows])

    def grow(self, network: Network, nodes: Nodes) -> None:
        """Add the columns of nodes that have joined the network."""
        self._held = network.topology, network.constants
        self._reserve(self._used + len(nodes))
        for start in range(0, self.n_rows, self.block_size):
            rows = slice(start, start + self.block_size)
            self._cache[self._used : self._used + len(nodes), rows] = node_columns(
                network, nodes, self.columns[:, rows]
            )
        self._used += len(nodes)

    def prune(self, network: Network, kept: Index) -> None:
        """Keep the columns of those nodes only that the network kept."""
        self._held = network.topology, network.constants
        # Columns before the first that goes stay where they are.
        first = int(np.argmin(np.append(kept, -1) == np.arange(len(kept) + 1)))
        moved = torch.as_tensor(self.n_inputs + kept[first:], device=self._cache.device)
        self._used = self.n_inputs + len(kept)
        self._cache[self.n_inputs + first : self._used] = self._cache[moved]

    def _reserve(self, n_columns: int) -> None:
        """Enlarge the cache so that it holds so many columns."""
        if n_columns > len(self._cache):
            larger = self._cache.new_empty(max(n_columns, 5 * len(self._cache) // 4), self.n_rows)
            larger[: self._used] = self.columns
            self._cache = larger


class StreamedRows:
    """Rows whose node columns are computed, block by block, each time they are asked for.

    Parameters
    ----------
    inputs : Inputs of shape (n_inputs, n_samples)
    target : Tensor of shape (n_outputs, n_samples)
    weight : Tensor of shape (n_samples,)
    network : Network
        Whose columns the rows hold.
    block_size : int, default=4096
        Rows that are in memory with all their columns at a time.
    """

    def __init__(
        self,
        inputs: Inputs,
        target: Tensor,
        weight: Tensor,
        network: Network,
        block_size: int = 4096,
    ) -> None:
        self.inputs = inputs
        self.target = target
        self.weight = weight
        self.network = network
        self.block_size = block_size
        self.total_weight = float(weight.sum())

    def reduce(self, function: Callable[[Block], Sums]) -> Sums:
        """Return the sum over blocks of each tensor that ``function(block)`` returns."""
        total: Sums | None = None
        for start in range(0, len(self.weight), self.block_size):
            rows = slice(start, start + self.block_size)
            columns = self.network.columns(self.inputs[:, rows])
            part = function(Block(columns, self.target[:, rows], self.weight[rows]))
            total = (
                part if total is None else tuple(a + b for a, b in zip(total, part, strict=True))
            )
        assert total is not None
        return total


def node_columns(network: Network, nodes: Nodes, columns: Tensor) -> Tensor:
    """Compute the columns of nodes whose operands are columns of the network.

    Parameters
    ----------
    network : Network
        Gives the operators.
    nodes : Nodes
        That read the network's columns, not each other.
    columns : Tensor of shape (n_columns, n_samples)

    Returns
    -------
    Tensor of shape (n_new, n_samples)
    """
    constant, scale = (part[:, None].to(columns.dtype) for part in (nodes.constant, nodes.scale))
    # Runs of one operator and side of the constant: a pool is sorted, a handful of picks is short.
    kind = 3 * nodes.operator + (nodes.left == CONSTANT) + 2 * (nodes.right == CONSTANT)
    starts = np.flatnonzero(np.diff(kind, prepend=-1))
    sizes = np.diff(starts, append=len(nodes)).tolist()
    constants = constant.expand(-1, columns.shape[1]).split(sizes)
    sides = []
    for operand in (nodes.left, nodes.right):
        # One gather for all; what stands in for constants is not read.
        at = torch.as_tensor(operand.clip(min=0), device=columns.device)
        gathered = columns.index_select(0, at).split(sizes)
        constant_runs = (operand[starts] == CONSTANT).tolist()
        sides.append(
            [
                c if is_constant else g
                for c, g, is_constant in zip(constants, gathered, constant_runs, strict=True)
            ]
        )
    operators = [network.operators[code] for code in nodes.operator[starts]]
    values = [operator(a, b) for operator, a, b in zip(operators, *sides, strict=True)]
    return torch.cat(values).mul_(scale.reciprocal()) if values else columns[:0]
