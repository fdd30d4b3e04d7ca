"""Topology: which operator each node applies to which operands.

Columns are numbered inputs first, then nodes: column ``j < n_inputs`` is an input, column
``n_inputs + k`` is node ``k``. A node reads earlier columns only, so the numbering is already a
topological order. No values live here: constants, scales and head weights are kept beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

__all__ = ["CONSTANT", "Group", "Topology", "kinds", "moves_of"]

Index = NDArray[np.int64]

# The operand that stands for a trainable constant.
CONSTANT = -1


@dataclass(frozen=True)
class Group:
    """Nodes of one level and operator that are computed in one call.

    Attributes
    ----------
    operator : int
        The operator's code.
    nodes : ndarray of shape (n,)
        Numbers of the nodes.
    left, right : ndarray of shape (n,) or None
        Columns that are read; None if that operand is each node's constant.
    """

    operator: int
    nodes: Index
    left: Index | None
    right: Index | None

    @cached_property
    def operands(self) -> tuple[Tensor | None, Tensor | None]:
        """``left`` and ``right`` as tensors on the CPU."""
        left = None if self.left is None else torch.from_numpy(self.left)
        return left, None if self.right is None else torch.from_numpy(self.right)

    @cached_property
    def place(self) -> slice | None:
        """The nodes as a slice, if they stand side by side."""
        first, last = int(self.nodes[0]), int(self.nodes[-1])
        return slice(first, last + 1) if last - first + 1 == len(self.nodes) else None


@dataclass(frozen=True, eq=False)
class Topology:
    """Frozen wiring of a network's nodes.

    Parameters
    ----------
    n_inputs : int
        Number of input columns.
    operator : array-like of shape (n_nodes,)
        Codes, positions in the network's tuple of operators.
    left, right : array-like of shape (n_nodes,)
        Operands: a column's number, or ``CONSTANT`` (-1). Never both constants.

    Raises
    ------
    ValueError
        If the arrays do not describe a valid topology.
    """

    n_inputs: int
    operator: Index
    left: Index
    right: Index

    def __post_init__(self) -> None:
        for name in ("operator", "left", "right"):
            array = np.array(getattr(self, name), dtype=np.int64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        shapes = (self.operator.shape, self.left.shape, self.right.shape)
        if self.operator.ndim != 1 or len(set(shapes)) > 1:
            raise ValueError(
                f"operator, left and right must be one-dimensional and of one length, got {shapes}."
            )
        if self.n_inputs < 0:
            raise ValueError(f"n_inputs must be >= 0, got {self.n_inputs}.")
        if (self.operator < 0).any():
            raise ValueError("operator codes must be >= 0.")
        own_column = self.n_inputs + np.arange(self.n_nodes)
        for side, operand in (("left", self.left), ("right", self.right)):
            wrong = (operand < CONSTANT) | (operand >= own_column)
            if wrong.any():
                node = int(wrong.argmax())
                raise ValueError(
                    f"The {side} operand of node {node} must be {CONSTANT} (a constant) or "
                    f"a column before its own, {int(own_column[node])}, got {int(operand[node])}."
                )
        both = (self.left == CONSTANT) & (self.right == CONSTANT)
        if both.any():
            raise ValueError(f"Both operands of node {int(both.argmax())} are constants.")

    @classmethod
    def empty(cls, n_inputs: int) -> Topology:
        """Return the topology without nodes."""
        none = np.empty(0, dtype=np.int64)
        return cls(n_inputs, none, none, none)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Topology)
            and self.n_inputs == other.n_inputs
            and np.array_equal(self.operator, other.operator)
            and np.array_equal(self.left, other.left)
            and np.array_equal(self.right, other.right)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor: arrays come back from pickle writeable and unchecked.
        return Topology, (self.n_inputs, self.operator, self.left, self.right)

    def __hash__(self) -> int:
        return hash((self.n_inputs, self.operator.tobytes(), self.left.tobytes()))

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return len(self.operator)

    @property
    def n_columns(self) -> int:
        """Number of input columns and nodes together."""
        return self.n_inputs + self.n_nodes

    @cached_property
    def use(self) -> Index:
        """How often each column is an operand, of shape (n_columns,)."""
        operands = np.concatenate([self.left, self.right])
        return np.bincount(operands[operands >= 0], minlength=self.n_columns)

    @cached_property
    def leaves(self) -> NDArray[np.bool_]:
        """Whether no other node reads a node, of shape (n_nodes,)."""
        return self.use[self.n_inputs :] == 0

    @cached_property
    def levels(self) -> Index:
        """Length of the longest path from an input or constant, of shape (n_nodes,); >= 1."""
        levels: list[int] = [0] * (
            self.n_columns + 1
        )  # the last is the constant's, read through index -1
        left, right = self.left.tolist(), self.right.tolist()
        for node, (a, b) in enumerate(zip(left, right, strict=True)):
            levels[self.n_inputs + node] = 1 + max(levels[a], levels[b])
        return np.array(levels[self.n_inputs : -1], dtype=np.int64)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Operators in the formula of each node, of length n_nodes; one per use of a node.

        Of deep nodes they may be more than an int64 can count.
        """
        # The last is the constant's, read through index -1.
        sizes = [0] * (self.n_columns + 1)
        for node, (a, b) in enumerate(zip(self.left.tolist(), self.right.tolist(), strict=True)):
            sizes[self.n_inputs + node] = 1 + sizes[a] + sizes[b]
        return tuple(sizes[self.n_inputs : -1])

    @property
    def depth(self) -> int:
        """The highest level, 0 without nodes."""
        return int(self.levels.max(initial=0))

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Nodes that can be computed together, in an order that respects the wiring."""
        return group_nodes(self.levels, self.operator, self.left, self.right)

    def append(self, operator: ArrayLike, left: ArrayLike, right: ArrayLike) -> Topology:
        """Return the topology with nodes added behind the present ones.

        Parameters
        ----------
        operator, left, right : array-like of shape (n_new,)
            As in the constructor; new nodes may read earlier new nodes.
        """
        return Topology(
            self.n_inputs,
            np.concatenate([self.operator, np.atleast_1d(operator)]),
            np.concatenate([self.left, np.atleast_1d(left)]),
            np.concatenate([self.right, np.atleast_1d(right)]),
        )

    def prune(self, nodes: Sequence[int] | Index) -> tuple[Topology, Index]:
        """Return the topology without some nodes, and the nodes that were kept.

        Parameters
        ----------
        nodes : sequence of int
            Numbers of the nodes to remove. Whoever reads one of them has to be removed too.

        Returns
        -------
        topology : Topology
        kept : ndarray of shape (n_kept,)
            Old numbers of the remaining nodes.

        Raises
        ------
        ValueError
            If a node does not exist, or one that stays reads one that goes.
        """
        gone = np.zeros(self.n_nodes, dtype=bool)
        index = np.asarray(nodes, dtype=np.int64).reshape(-1)
        if ((index < 0) | (index >= self.n_nodes)).any():
            raise ValueError(f"nodes must be in 0..{self.n_nodes - 1}, got {index.tolist()}.")
        gone[index] = True
        kept = np.flatnonzero(~gone)
        moves = moves_of(self.n_inputs, self.n_nodes, kept)
        left, right = moves[self.left[kept]], moves[self.right[kept]]
        orphan = (left != self.left[kept]) & (left == CONSTANT)
        orphan |= (right != self.right[kept]) & (right == CONSTANT)
        if orphan.any():
            raise ValueError(
                f"Node {int(kept[orphan.argmax()])} reads a node that is to be removed; "
                "only leaves can go."
            )
        return Topology(self.n_inputs, self.operator[kept], left, right), kept

    def descendants(self, nodes: Sequence[int] | Index) -> Index:
        """Return the given nodes and all that depend on them: what `prune` can take together."""
        touched = np.zeros(self.n_columns + 1, dtype=bool)
        touched[self.n_inputs + np.asarray(nodes, dtype=np.int64)] = True
        for node in range(self.n_nodes):
            if touched[self.left[node]] or touched[self.right[node]]:
                touched[self.n_inputs + node] = True
        return np.flatnonzero(touched[self.n_inputs : self.n_columns])


def moves_of(n_inputs: int, n_nodes: int, kept: Index) -> Index:
    """Return where each column moves when only some nodes are kept, in their order.

    The others move to ``CONSTANT``, as does ``CONSTANT`` itself, which reads the entry behind the
    last.
    """
    moves = np.full(n_inputs + n_nodes + 1, CONSTANT, dtype=np.int64)
    moves[:n_inputs] = np.arange(n_inputs)
    moves[n_inputs + kept] = n_inputs + np.arange(len(kept))
    return moves


def kinds(operator: Index, left: Index, right: Index) -> Index:
    """Return a number for what is computed in one call: 3 x operator + constant's side."""
    return 3 * operator + (left == CONSTANT) + 2 * (right == CONSTANT)


def group_nodes(levels: Index, operator: Index, left: Index, right: Index) -> tuple[Group, ...]:
    """Group nodes of one level, operator and constant side.

    Parameters
    ----------
    levels, operator, left, right : ndarray of shape (n_nodes,)

    Returns
    -------
    tuple of Group
        Sorted by level; nodes of a group keep their order.
    """
    if not len(operator):
        return ()
    kind = kinds(operator, left, right)
    key = levels * (int(kind.max()) + 1) + kind
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order])) + 1
    return tuple(
        Group(
            operator=int(operator[nodes[0]]),
            nodes=nodes,
            left=None if left[nodes[0]] == CONSTANT else left[nodes],
            right=None if right[nodes[0]] == CONSTANT else right[nodes],
        )
        for nodes in np.split(order, starts)
    )
