"""Columns: what the nodes of several members compute, one call of torch for all of a kind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .network import Nodes
from .operators import Operator
from .population import EMPTY, Plan, Population
from .topology import Index, kinds

__all__ = [
    "compute_columns", "empty_columns", "flatten", "has_many_rows", "node_columns", "of_nodes",
    "operands",
]  # fmt: skip

# From so many rows on the calls of a node by itself cost less than to gather the operands of many.
# What threads share of several nodes may end within a vector, whose bits are others then.
_MANY_ROWS = 2048
# Values of nodes that each thread has in work where threads share them.
_SHARED_VALUES = 2**16
# Torch has another thread for each so many values; what loops over vectors takes at a time.
_GRAIN, _VECTOR = 2**15, 32


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


def empty_columns(columns: Tensor, gone: NDArray[np.bool_]) -> None:
    """Set some columns of each member to zero.

    Parameters
    ----------
    columns : Tensor of shape (n_members, n, n_samples)
    gone : ndarray of shape (n_members, n), bool
    """
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
    empty_columns(columns[:, wiring.n_inputs :], ~wiring.present)
    own = plan.member * step + wiring.n_inputs + plan.slot
    factors = of_nodes(population.scale.reciprocal(), plan)
    if has_many_rows(table):
        _write(population.operators, population.constants, plan, table, step, table, own, factors)
        return
    runs = zip(
        plan.operators,
        operands(population.constants, plan, table, step),
        factors[:, None].split(plan.sizes),
        torch.as_tensor(own, device=table.device).split(plan.sizes),
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
    kind = kinds(nodes.operator, nodes.left, nodes.right)
    if has_many_rows(table):
        result = columns.new_empty(n_members, n_new, n_rows)
        plan = _side_by_side(nodes, kind, present)
        empty_columns(result, ~present)
        own = plan.member * n_new + plan.slot
        _write(
            population.operators, nodes.constant, plan, table, step, result.view(-1, n_rows), own
        )
        return result
    # In a pool all members have the same kind at the same place, in order: what a call returns
    # stands where it belongs. Empty places are computed with the others.
    kind = np.where(present, kind, 0)
    common = np.maximum.accumulate(kind.max(axis=0, initial=0))
    aligned = bool(((kind == common) | ~present).all())
    if aligned:
        plan = _side_by_side(nodes, np.broadcast_to(common, kind.shape), np.ones_like(present))
    else:
        plan = _side_by_side(nodes, kind, present)
    if not len(plan.member):
        return columns.new_zeros(n_members, n_new, n_rows)
    runs = zip(plan.operators, operands(nodes.constant, plan, table, step), plan.sizes, strict=True)
    if aligned:
        result, last = columns.new_empty(n_members, n_new, n_rows), 0
        for code, sides, size in runs:
            first, last = last, last + size // n_members
            a, b = (side.view(n_members, -1, n_rows) for side in sides)
            population.operators[code].write(a, b, out=result[:, first:last])
        return result
    result = columns.new_zeros(n_members * n_new, n_rows)
    own = torch.as_tensor(plan.member * n_new + plan.slot, device=table.device)
    for (code, sides, _), at in zip(runs, own.split(plan.sizes), strict=True):
        result.index_copy_(0, at, population.operators[code](*sides))
    return result.view(n_members, n_new, n_rows)


def _side_by_side(nodes: Nodes, kind: Index, some: NDArray[np.bool_]) -> Plan:
    """Return the plan for some of the nodes, which do not read each other."""
    member, slot = np.nonzero(some)
    left, right, kind = (part[member, slot] for part in (nodes.left, nodes.right, kind))
    return Plan.of(member, slot, left, right, kind, np.zeros_like(kind))


def has_many_rows(columns: Tensor) -> bool:
    """Return whether the nodes of columns of shape (..., n_samples) are computed one by one."""
    return columns.device.type == "cpu" and columns.shape[-1] >= _MANY_ROWS


def _write(
    operators: Sequence[Operator],
    constants: Tensor,
    plan: Plan,
    table: Tensor,
    step: int,
    target: Tensor,
    places: Index,
    factors: Tensor | None = None,
) -> None:
    """Compute nodes of many rows, each in its place.

    One thread computes one after the other, without a copy of their operands. Several threads share
    the nodes of a kind, whose operands are put side by side.

    Parameters
    ----------
    operators : sequence of Operator
    constants : Tensor of shape (n_members, n)
    plan : Plan
    table, step
        See `flatten`.
    target : Tensor of shape (n, n_samples)
        Where to; it may be the table.
    places : ndarray
        The nodes' rows of the target, in the order of the plan.
    factors : Tensor, default=None
        What the nodes are multiplied by, in that order.
    """
    n_rows = table.shape[1]
    own = of_nodes(constants, plan)[:, None].to(table.dtype).expand(-1, n_rows)
    sides = plan.member * step + plan.left, plan.member * step + plan.right
    left, right, to = (part.tolist() for part in (*sides, places))
    scales = None if factors is None else factors.unbind()
    most = min(_most_shared(n_rows), max(plan.sizes, default=0))
    memory = table.new_empty(3, most, n_rows)
    first = 0
    for size, code, is_own in zip(plan.sizes, plan.operators, plan.constant, strict=True):
        write, stop = operators[code].write, first + size
        while n := _n_shared(min(most, stop - first), n_rows):
            some = slice(first, first + n)
            a, b = (
                own[some]
                if constant
                else torch.index_select(table, 0, torch.as_tensor(side[some]), out=part[:n])
                for constant, side, part in zip(is_own, sides, memory[:2], strict=True)
            )
            out = write(a, b, out=memory[2, :n])
            if factors is not None:
                out.mul_(factors[some, None])
            target.index_copy_(0, torch.as_tensor(places[some]), out)
            first += n
        for node in range(first, stop):
            out = target.select(0, to[node])
            write(
                own.select(0, node) if is_own[0] else table.select(0, left[node]),
                own.select(0, node) if is_own[1] else table.select(0, right[node]),
                out=out,
            )
            if scales is not None:
                out.mul_(scales[node])
        first = stop


def _most_shared(n_rows: int) -> int:
    """Return how many nodes threads have in work, at most; none if there is one thread."""
    n_threads = torch.get_num_threads()
    if n_threads == 1 or n_rows % _VECTOR:
        return 0
    return n_threads * max(1, _SHARED_VALUES // n_rows)


def _n_shared(n_nodes: int, n_rows: int) -> int:
    """Return how many of so many nodes threads share, each of them whole vectors."""
    n_threads = torch.get_num_threads()
    n = n_nodes // n_threads * n_threads
    n_parts = min(n_threads, math.ceil(n * n_rows / _GRAIN))
    return n if n_parts > 1 and n * n_rows % (_VECTOR * n_parts) == 0 else 0


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
