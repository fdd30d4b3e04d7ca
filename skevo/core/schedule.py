"""Schedule: in which order nodes are computed, and in which rows of memory.

A node whose readers have all been computed is not needed any more, so its memory is free for the
next one. What reads a node comes right behind it, as far as the other operand is at hand: so few
nodes wait for their readers, and what is read is still in the cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .topology import CONSTANT, Topology

__all__ = ["Schedule", "schedule"]


@dataclass(frozen=True)
class Schedule:
    """Order and memory of a network's nodes.

    Attributes
    ----------
    order : list of int
        Nodes that are computed, each after its operands.
    row : list of int
        The row of memory of each column: first inputs and the nodes that are kept, in order, which
        hold their row to the end; 0 for nodes that are not computed.
    n_rows : int
    """

    order: list[int]
    row: list[int]
    n_rows: int


def schedule(topology: Topology, roots: Iterable[int], wanted: NDArray[np.bool_]) -> Schedule:
    """Order nodes and assign their memory.

    Parameters
    ----------
    topology : Topology
    roots : iterable of int
        Nodes to compute; others only where these depend on them.
    wanted : ndarray of shape (n_nodes,)
        Whether a node is to be kept to the end.
    """
    n_inputs = topology.n_inputs
    order = _as_ready(topology, roots)
    left, right = topology.left.tolist(), topology.right.tolist()
    kept = [*range(n_inputs), *(n_inputs + np.flatnonzero(wanted)).tolist()]
    row = [0] * topology.n_columns
    for place, column in enumerate(kept):
        row[column] = place
    n_rows = len(kept)
    unread = topology.use.tolist()
    free: list[int] = []
    for node in order:
        column = n_inputs + node
        if not wanted[node]:
            if not free:
                free.append(n_rows)
                n_rows += 1
            row[column] = free.pop()
        # Not before: an operator does not write where it reads.
        operands = [operand for operand in (left[node], right[node]) if operand != CONSTANT]
        for operand in operands:
            unread[operand] -= 1
        done = {row[each] for each in (column, *operands) if not unread[each]}
        free += [place for place in done if place >= len(kept)]
    return Schedule(order, row, n_rows)


def _as_ready(topology: Topology, roots: Iterable[int]) -> list[int]:
    """Return roots and their ancestors, each after its operands."""
    n_inputs = topology.n_inputs
    sides = zip(topology.left.tolist(), topology.right.tolist(), strict=True)
    operands = [{side - n_inputs for side in pair if side >= n_inputs} for pair in sides]
    needed = dict.fromkeys(roots)
    stack = [*needed]
    while stack:
        missing = [operand for operand in operands[stack.pop()] if operand not in needed]
        needed.update(dict.fromkeys(missing))
        stack += missing
    readers: dict[int, list[int]] = {node: [] for node in needed}
    for node in needed:
        for operand in operands[node]:
            readers[operand].append(node)
    waiting = {node: len(operands[node]) for node in needed}
    order = []
    ready = [node for node in needed if not waiting[node]][::-1]
    while ready:
        node, new = ready.pop(), []
        order.append(node)
        for reader in readers[node]:
            waiting[reader] -= 1
            if not waiting[reader]:
                new.append(reader)
        # Of those that can be computed now, the one that most others read is the last.
        ready += sorted(new, key=lambda reader: len(readers[reader]), reverse=True)
    return order
