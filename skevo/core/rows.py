"""Row sources: where the engine's rows live, and how it reaches them.

The engine never loops over rows. It hands a function of one block to `RowSource.reduce` and gets
the sum of what the function returned for all blocks: Gram matrices, cross moments, gradients,
losses. Whatever is additive over rows can be had this way from memory, a file, or a cluster.

Each member of a population has rows of its own; all have as many, if need be with rows of weight
zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .network import Nodes
from .population import EMPTY, Plan, Population, Wiring
from .topology import kinds

__all__ = ["Block", "Inputs", "MemoryRows", "RowSource", "StreamedRows", "Sums", "node_columns"]


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


Sums = tuple[Tensor, ...]


class RowSource(Protocol):
    """Rows with the columns of one population, reached through sums over blocks."""

    total_weight: Tensor

    def reduce(self, function: Callable[[Block], Sums]) -> Sums:
        """Return the sum over blocks of each tensor that ``function(block)`` returns."""
        ...


class MemoryRows:
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
        self.n_members, self.n_inputs, self.n_rows = inputs.shape
        self._used = self.n_inputs
        self._held: tuple[Wiring, Tensor] | None = None
        self._cache = inputs.new_empty(self.n_members, self.n_inputs + 16, self.n_rows)
        self._cache[:, : self.n_inputs] = inputs

    @property
    def columns(self) -> Tensor:
        """Cached columns, of shape (n_members, n_columns, n_samples)."""
        return self._cache[:, : self._used]

    def reduce(self, function: Callable[[Block], Sums]) -> Sums:
        """Return the sum over blocks of each tensor that ``function(block)`` returns."""
        total: Sums | None = None
        for rows in self._blocks():
            block = Block(self.columns[..., rows], self.target[..., rows], self.weight[:, rows])
            total = _add(total, function(block))
        assert total is not None
        return total

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
        population = population.to(dtype=self._cache.dtype)
        self._reserve(population.n_columns)
        self._used = population.n_columns
        for rows in self._blocks():
            compute_columns(population, self.columns[..., rows], members)

    def grow(self, population: Population, nodes: Nodes) -> None:
        """Add the columns of nodes that have joined the population."""
        self._hold(population)
        used, n_new = self._used, nodes.operator.shape[1]
        self._reserve(used + n_new)
        empty = torch.as_tensor(nodes.operator == EMPTY, device=nodes.scale.device)[..., None]
        factor = nodes.scale.to(self._cache.dtype).reciprocal()[..., None]
        for rows in self._blocks():
            values = node_columns(population, nodes, self.columns[..., rows])
            self._cache[:, used : used + n_new, rows] = (values * factor).masked_fill_(empty, 0.0)
        self._used = used + n_new

    def without(self, population: Population, gone: NDArray[np.bool_]) -> None:
        """Empty the columns of nodes that the population lost: ``gone`` of its slots."""
        self._hold(population)
        _empty(self.columns[:, self.n_inputs :], gone)

    def compact(self, population: Population, kept: Tensor) -> None:
        """Keep the columns of those slots only that the population kept, of each member."""
        self._hold(population)
        of_nodes = self._cache[:, self.n_inputs : self._used]
        member = torch.arange(self.n_members, device=kept.device)[:, None]
        moved = of_nodes[member, kept.clamp(min=0)].masked_fill_((kept < 0)[..., None], 0.0)
        self._used = self.n_inputs + kept.shape[1]
        self._cache[:, self.n_inputs : self._used] = moved

    def _hold(self, population: Population) -> None:
        self._held = population.wiring, population.constants

    def _blocks(self) -> list[slice]:
        size = self.block_size
        return [slice(start, start + size) for start in range(0, max(self.n_rows, 1), size)]

    def _reserve(self, n_columns: int) -> None:
        """Enlarge the cache so that it holds so many columns."""
        room = self._cache.shape[1]
        if n_columns > room:
            n_columns = max(n_columns, 5 * room // 4)
            larger = self._cache.new_empty(self.n_members, n_columns, self.n_rows)
            larger[:, : self._used] = self.columns
            self._cache = larger


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
    """

    def __init__(
        self,
        inputs: Inputs,
        target: Tensor,
        weight: Tensor,
        population: Population,
        block_size: int = 16_384,
    ) -> None:
        self.inputs = inputs
        self.target = target
        self.weight = weight
        self.population = population
        self.block_size = block_size
        self.total_weight = weight.sum(dtype=torch.float64).expand(len(population))

    def reduce(self, function: Callable[[Block], Sums]) -> Sums:
        """Return the sum over blocks of each tensor that ``function(block)`` returns."""
        total: Sums | None = None
        population = self.population
        n_members, size = len(population), max(1, self.block_size // len(population))
        for start in range(0, len(self.weight), size):
            rows = slice(start, start + size)
            inputs = self.inputs[:, rows]
            columns = inputs.new_empty(n_members, population.n_columns, inputs.shape[1])
            columns[:, : len(inputs)] = inputs
            compute_columns(population, columns)
            target, weight = self.target[:, rows], self.weight[rows]
            block = Block(columns, target.expand(n_members, -1, -1), weight.expand(n_members, -1))
            total = _add(total, function(block))
        assert total is not None
        return total


def _add(total: Sums | None, part: Sums) -> Sums:
    if total is None:
        return part
    return tuple(a + b for a, b in zip(total, part, strict=True))


def flatten(columns: Tensor) -> tuple[Tensor, int]:
    """Return the columns of all members as one table, and how far its members are apart in it.

    Parameters
    ----------
    columns : Tensor of shape (n_members, n_columns, n_samples)
        Whose members lie at whole columns' distance.

    Returns
    -------
    table : Tensor of shape (n, n_samples)
        A view: column ``c`` of member ``m`` is row ``m * step + c``.
    step : int
    """
    n_members, n_columns, n_rows = columns.shape
    far, near, unit = columns.stride()
    step = far // near
    shape = ((n_members - 1) * step + n_columns, n_rows)
    return columns.as_strided(shape, (near, unit), columns.storage_offset()), step


def _empty(columns: Tensor, gone: NDArray[np.bool_]) -> None:
    """Set some columns of each member to zero."""
    if gone.any():
        table, step = flatten(columns)
        member, column = np.nonzero(gone)
        at = torch.as_tensor(member * step + column, device=columns.device)
        table.index_fill_(0, at, 0.0)


def compute_columns(
    population: Population, columns: Tensor, members: NDArray[np.bool_] | None = None
) -> None:
    """Compute the columns of all nodes, in place.

    Parameters
    ----------
    population : Population
    columns : Tensor of shape (n_members, n_columns, n_samples)
        Holding the inputs; zero, when done, in empty slots.
    members : ndarray of shape (n_members,), bool, default=None
        Those whose nodes are computed; all, if None.
    """
    wiring = population.wiring
    plan = wiring.plan if members is None else wiring.plan.take(members[wiring.plan.member])
    table, step = flatten(columns)
    _empty(columns[:, wiring.n_inputs :], ~wiring.present)
    own = torch.as_tensor(plan.member * step + wiring.n_inputs + plan.slot, device=table.device)
    factors = of_nodes(population.scale.reciprocal(), plan)[:, None]
    runs = zip(
        plan.operators,
        operands(population.constants, plan, table, step),
        factors.split(plan.sizes),
        own.split(plan.sizes),
        strict=True,
    )
    for code, sides, factor, at in runs:
        table.index_copy_(0, at, population.operators[code](*sides) * factor)


def node_columns(population: Population, nodes: Nodes, columns: Tensor) -> Tensor:
    """Compute the columns of nodes whose operands are columns of the population, not yet scaled.

    Parameters
    ----------
    population : Population
        Gives the operators.
    nodes : Nodes of shape (n_members, n_new)
        That read the population's columns, not each other; some may be ``EMPTY``.
    columns : Tensor of shape (n_members, n_columns, n_samples)

    Returns
    -------
    Tensor of shape (n_members, n_new, n_samples)
        Not divided by ``nodes.scale``; of no meaning where a node is empty.
    """
    n_members, n_new = nodes.operator.shape
    n_rows = columns.shape[2]
    table, step = flatten(columns)
    present = nodes.operator != EMPTY
    kind = np.where(present, kinds(nodes.operator, nodes.left, nodes.right), 0)
    # In a pool all members have the same kind at the same place, in order: what a call returns
    # stands where it belongs. Empty places are computed with the others.
    common = np.maximum.accumulate(kind.max(axis=0, initial=0))
    aligned = bool(((kind == common) | ~present).all())
    member, slot = np.nonzero(np.ones_like(present) if aligned else present)
    kind = np.broadcast_to(common, kind.shape) if aligned else kind
    parts = (nodes.left, nodes.right, kind, np.zeros_like(kind))
    plan = Plan.of(member, slot, *(part[member, slot] for part in parts))
    values = [
        population.operators[code](*sides)
        for code, sides in zip(
            plan.operators, operands(nodes.constant, plan, table, step), strict=True
        )
    ]
    if not values:
        return columns.new_zeros(n_members, n_new, n_rows)
    if aligned:
        return torch.cat([part.view(n_members, -1, n_rows) for part in values], dim=1)
    result = columns.new_zeros(n_members * n_new, n_rows)
    own = torch.as_tensor(plan.member * n_new + plan.slot, device=table.device)
    for part, at in zip(values, own.split(plan.sizes), strict=True):
        result.index_copy_(0, at, part)
    return result.view(n_members, n_new, n_rows)


def of_nodes(values: Tensor, plan: Plan) -> Tensor:
    """Return values of places, of shape (n_members, n), in the order of a plan."""
    at = plan.member * values.shape[1] + plan.slot
    return values.flatten()[torch.as_tensor(at, device=values.device)]


def operands(
    constants: Tensor, plan: Plan, table: Tensor, step: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the operands of each run, of shape (n, n_samples), as they are by then.

    Parameters
    ----------
    constants : Tensor of shape (n_members, n)
    plan : Plan
    table : Tensor of shape (n_columns, n_samples)
    step : int
        See `flatten`.
    """
    constant = of_nodes(constants, plan)[:, None].to(table.dtype).expand(-1, table.shape[1])
    left, right = (
        torch.as_tensor(plan.member * step + side.clip(min=0), device=table.device)
        for side in (plan.left, plan.right)
    )
    parts = (part.split(plan.sizes) for part in (constant, left, right))
    runs = zip(plan.constant, *parts, strict=True)
    for (is_left, is_right), own, a, b in runs:
        yield (
            own if is_left else table.index_select(0, a),
            own if is_right else table.index_select(0, b),
        )
