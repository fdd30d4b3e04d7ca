"""Populations: networks that are grown side by side, in one batch.

The members of a fit take each step together, so that a call of torch serves all of them. Their
nodes are kept in slots, as many for each member; a slot may be empty. The column of an empty slot
is zero, and so is its head weight, for which the penalty of constant columns sees. An input that a
member does without is empty in the same sense.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .network import Network, Nodes
from .operators import Operator
from .topology import CONSTANT, Index, Topology, kinds, moves_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["EMPTY", "Plan", "Population", "Wiring", "choose"]

T = TypeVar("T", bound="DataclassInstance")

# The operator of a slot without a node.
EMPTY = -1


@dataclass(frozen=True)
class Plan:
    """Nodes of several members in an order that respects the wiring, in runs of one call each.

    Attributes
    ----------
    member, slot, left, right : ndarray of shape (n,)
        Of the nodes.
    sizes : list of int
        Of the runs.
    operators : list of int
        One for each run.
    constant : list of (bool, bool)
        Whether the left and the right operands of a run are the nodes' constants.
    """

    member: Index
    slot: Index
    left: Index
    right: Index
    sizes: list[int]
    operators: list[int]
    constant: list[tuple[bool, bool]]

    @classmethod
    def of(
        cls, member: Index, slot: Index, left: Index, right: Index, kind: Index, level: Index
    ) -> Plan:
        """Return the plan for nodes that are given in any order; see `kinds`."""
        key = level * (kind.max(initial=0) + 1) + kind
        order = np.argsort(key, kind="stable")
        starts = np.flatnonzero(np.diff(key[order], prepend=-1))
        of_runs = kind[order[starts]]
        return cls(
            member[order],
            slot[order],
            left[order],
            right[order],
            np.diff(starts, append=len(order)).tolist(),
            (of_runs // 3).tolist(),
            [(side == 1, side == 2) for side in (of_runs % 3).tolist()],
        )

    def take(self, some: NDArray[np.bool_]) -> Plan:
        """Return the plan for some of the nodes, without those they read."""
        run = np.repeat(np.arange(len(self.sizes)), self.sizes)[some]
        counts = np.bincount(run, minlength=len(self.sizes))
        runs = np.flatnonzero(counts).tolist()
        return Plan(
            self.member[some],
            self.slot[some],
            self.left[some],
            self.right[some],
            [int(counts[run]) for run in runs],
            [self.operators[run] for run in runs],
            [self.constant[run] for run in runs],
        )


@dataclass(frozen=True, eq=False)
class Wiring:
    """Which operator each node of each member applies to which operands.

    Attributes
    ----------
    inputs : ndarray of shape (n_members, n_inputs), bool
        The inputs that there are; a member does without the others.
    operator : ndarray of shape (n_members, n_slots)
        ``EMPTY`` where there is no node.
    left, right : ndarray of shape (n_members, n_slots)
        Columns of the member, or ``CONSTANT``; see `Topology`.
    level : ndarray of shape (n_members, n_slots)
        Length of the longest path from an input or constant; 0 where there is no node.
    """

    inputs: NDArray[np.bool_]
    operator: Index
    left: Index
    right: Index
    level: Index

    @property
    def n_inputs(self) -> int:
        """Number of input columns, empty ones among them."""
        return self.inputs.shape[1]

    @property
    def n_columns(self) -> int:
        """Number of input columns and slots together."""
        return self.n_inputs + self.operator.shape[1]

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Whether a slot holds a node, of shape (n_members, n_slots)."""
        return self.operator != EMPTY

    @property
    def columns(self) -> NDArray[np.bool_]:
        """Whether a column is that of an input or node, of shape (n_members, n_columns)."""
        return np.concatenate([self.inputs, self.present], axis=1)

    @cached_property
    def n_nodes(self) -> Index:
        """Number of nodes of each member."""
        return self.present.sum(axis=1)

    @cached_property
    def use(self) -> Index:
        """How often each column is an operand, of shape (n_members, n_columns)."""
        n_members, n_columns = len(self.operator), self.n_columns
        first = n_columns * np.arange(n_members)[:, None]
        operands = [
            (first + side)[self.present & (side != CONSTANT)] for side in (self.left, self.right)
        ]
        counts = np.bincount(np.concatenate(operands), minlength=n_members * n_columns)
        return counts.reshape(n_members, n_columns)

    @property
    def leaves(self) -> NDArray[np.bool_]:
        """Whether a slot holds a node that no other node reads."""
        return self.present & (self.use[:, self.n_inputs :] == 0)

    @property
    def constant_nodes(self) -> NDArray[np.bool_]:
        """Whether a slot holds a node that reads its constant."""
        return self.present & ((self.left == CONSTANT) | (self.right == CONSTANT))

    @cached_property
    def plan(self) -> Plan:
        """How the columns of all nodes are computed."""
        member, slot = np.nonzero(self.present)
        kind = kinds(self.operator, self.left, self.right)
        parts = (part[member, slot] for part in (self.left, self.right, kind, self.level))
        return Plan.of(member, slot, *parts)

    def append(self, nodes: Nodes) -> Wiring:
        """Return the wiring with slots added behind the present ones."""
        levels = np.zeros((len(self.operator), self.n_columns + 1), dtype=np.int64)
        # The last column is the constant's, which is read through index -1.
        levels[:, self.n_inputs : -1] = self.level
        reach = [np.take_along_axis(levels, side, axis=1) for side in (nodes.left, nodes.right)]
        level = np.where(nodes.operator == EMPTY, 0, 1 + np.maximum(*reach))
        new = (nodes.operator, nodes.left, nodes.right, level)
        old = (self.operator, self.left, self.right, self.level)
        joined = (np.concatenate(pair, axis=1) for pair in zip(old, new, strict=True))
        return Wiring(self.inputs, *joined)

    def without(self, gone: NDArray[np.bool_], inputs: NDArray[np.bool_] | None = None) -> Wiring:
        """Return the wiring with slots, and inputs, emptied that nobody else reads."""
        operator = np.where(gone, EMPTY, self.operator)
        left, right, level = (
            np.where(gone, 0, part) for part in (self.left, self.right, self.level)
        )
        there = self.inputs if inputs is None else self.inputs & ~inputs
        return Wiring(there, operator, left, right, level)

    def compact(self) -> tuple[Wiring, Index]:
        """Return the wiring without the slots that can be spared, and which it kept.

        Returns
        -------
        wiring : Wiring
        kept : ndarray of shape (n_members, n_kept)
            Old slots, in their order; ``EMPTY`` behind those of a member that has fewer.
        """
        n_members, n_kept = len(self.operator), int(self.n_nodes.max(initial=0))
        # Nodes first, in their order.
        order = np.argsort(~self.present, axis=1, kind="stable")[:, :n_kept]
        kept = np.where(np.take_along_axis(self.present, order, axis=1), order, EMPTY)
        moves = np.full((n_members, self.n_columns + 1), CONSTANT, dtype=np.int64)
        moves[:, : self.n_inputs] = np.arange(self.n_inputs)
        np.put_along_axis(
            moves[:, self.n_inputs : -1], order, self.n_inputs + np.arange(n_kept)[None], axis=1
        )
        operator, left, right, level = (
            np.take_along_axis(part, order, axis=1)
            for part in (self.operator, self.left, self.right, self.level)
        )
        left, right = (np.take_along_axis(moves, side, axis=1) for side in (left, right))
        return Wiring(self.inputs, operator, left, right, level), kept


@dataclass(frozen=True)
class Population:
    """Networks of the same operators and inputs, with everything that defines them.

    Attributes
    ----------
    operators : tuple of Operator
    wiring : Wiring
    constants, scale : Tensor of shape (n_members, n_slots)
        See `Network`; 0 and 1 in empty slots.
    weight : Tensor of shape (n_members, n_outputs, n_columns)
    bias : Tensor of shape (n_members, n_outputs)
    """

    operators: tuple[Operator, ...]
    wiring: Wiring
    constants: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, networks: Sequence[Network]) -> Population:
        """Return the population of some networks, with as many slots as the largest has nodes."""
        first, n_members = networks[0], len(networks)
        n_inputs, n_slots = first.topology.n_inputs, max(item.n_nodes for item in networks)
        operator, left, right, level = (
            np.full((n_members, n_slots), empty, dtype=np.int64) for empty in (EMPTY, 0, 0, 0)
        )
        constants = first.weight.new_zeros(n_members, n_slots)
        scale = first.weight.new_ones(n_members, n_slots)
        weight = first.weight.new_zeros(n_members, len(first.bias), n_inputs + n_slots)
        for member, network in enumerate(networks):
            topology, nodes = network.topology, slice(network.n_nodes)
            operator[member, nodes], level[member, nodes] = topology.operator, topology.levels
            left[member, nodes], right[member, nodes] = topology.left, topology.right
            constants[member, nodes], scale[member, nodes] = network.constants, network.scale
            weight[member, :, : topology.n_columns] = network.weight
        return cls(
            first.operators,
            Wiring(np.ones((n_members, n_inputs), dtype=bool), operator, left, right, level),
            constants,
            scale,
            weight,
            torch.stack([network.bias for network in networks]),
        )

    def __len__(self) -> int:
        return len(self.bias)

    @property
    def n_columns(self) -> int:
        """Number of input columns and slots together."""
        return self.wiring.n_columns

    def network(self, member: int) -> Network:
        """Return one of the networks."""
        wiring, device = self.wiring, self.weight.device
        slots, n_inputs = np.flatnonzero(wiring.present[member]), wiring.n_inputs
        moves = moves_of(n_inputs, wiring.operator.shape[1], slots)
        operator, left, right = (
            part[member, slots] for part in (wiring.operator, wiring.left, wiring.right)
        )
        at = torch.as_tensor(slots, device=device)
        columns = torch.cat([torch.arange(n_inputs, device=device), n_inputs + at])
        return Network(
            self.operators,
            Topology(n_inputs, operator, moves[left], moves[right]),
            self.constants[member, at],
            self.scale[member, at],
            self.weight[member][:, columns],
            self.bias[member],
        )

    def take(self, members: Sequence[int]) -> Population:
        """Return the population of some of the members."""
        wiring, at = self.wiring, np.asarray(members, dtype=np.int64)
        index = torch.as_tensor(at, device=self.weight.device)
        return replace(
            self,
            wiring=Wiring(
                wiring.inputs[at],
                wiring.operator[at],
                wiring.left[at],
                wiring.right[at],
                wiring.level[at],
            ),
            constants=self.constants[index],
            scale=self.scale[index],
            weight=self.weight[index],
            bias=self.bias[index],
        )

    def to_travel(self) -> Population:
        """Return the population without operators, which are known there, and what follows from it.

        A user's function would come back from another process as another one.
        """
        return replace(self, operators=(), wiring=replace(self.wiring))

    def output(self, columns: Tensor) -> Tensor:
        """Apply the heads.

        Parameters
        ----------
        columns : Tensor of shape (n_members, n_columns, n_samples)

        Returns
        -------
        Tensor of shape (n_members, n_outputs, n_samples)
        """
        return torch.baddbmm(self.bias[..., None], self.weight, columns)

    def grow(self, nodes: Nodes) -> Population:
        """Return the population with nodes added, their head weights zero."""
        weight = self.weight
        empty = torch.as_tensor(nodes.operator == EMPTY, device=weight.device)
        new = weight.new_zeros(*weight.shape[:2], nodes.operator.shape[1])
        return replace(
            self,
            wiring=self.wiring.append(nodes),
            constants=torch.cat([self.constants, nodes.constant.masked_fill(empty, 0.0)], dim=1),
            scale=torch.cat([self.scale, nodes.scale.masked_fill(empty, 1.0)], dim=1),
            weight=torch.cat([weight, new], dim=2),
        )

    def without(
        self, gone: NDArray[np.bool_], inputs: NDArray[np.bool_] | None = None
    ) -> Population:
        """Return the population with slots, and inputs, emptied that nobody else reads.

        Parameters
        ----------
        gone : ndarray of shape (n_members, n_slots), bool
        inputs : ndarray of shape (n_members, n_inputs), bool, default=None
            None if all stay.
        """
        at = torch.as_tensor(gone, device=self.weight.device)
        wiring = self.wiring.without(gone, inputs)
        empty = torch.as_tensor(~wiring.columns, device=self.weight.device)
        weight = self.weight.masked_fill(empty[:, None], 0.0)
        return replace(
            self,
            wiring=wiring,
            constants=self.constants.masked_fill(at, 0.0),
            scale=self.scale.masked_fill(at, 1.0),
            weight=weight,
        )

    def compact(self) -> tuple[Population, Index]:
        """Return the population without slots that can be spared, and which; see `Wiring`."""
        wiring, kept = self.wiring.compact()
        at = torch.as_tensor(kept, device=self.weight.device)
        empty, at = at < 0, at.clamp(min=0)
        n_inputs, n_outputs = wiring.n_inputs, self.bias.shape[1]
        of_nodes = self.weight[:, :, n_inputs:].gather(2, at[:, None].expand(-1, n_outputs, -1))
        return (
            replace(
                self,
                wiring=wiring,
                constants=self.constants.gather(1, at).masked_fill(empty, 0.0),
                scale=self.scale.gather(1, at).masked_fill(empty, 1.0),
                weight=torch.cat(
                    [self.weight[:, :, :n_inputs], of_nodes.masked_fill(empty[:, None], 0.0)], dim=2
                ),
            ),
            kept,
        )

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Population:
        """Return the population on another device or in another dtype."""
        moved = {
            name: getattr(self, name).to(device=device, dtype=dtype)
            for name in ("constants", "scale", "weight", "bias")
        }
        return replace(self, **moved)


def choose(members: Tensor, one: T, other: T) -> T:
    """Return some members of one object and the rest of another that is like it.

    Parameters
    ----------
    members : Tensor of shape (n_members,), bool
        Those that are taken from ``one``.
    one, other : dataclass
        Whose tensors have a leading dimension of members, and whose other attributes are equal.
    """
    chosen = {}
    for field in fields(one):
        value = getattr(one, field.name)
        if isinstance(value, Tensor):
            at = members.view(-1, *[1] * (value.ndim - 1))
            chosen[field.name] = torch.where(at, value, getattr(other, field.name))
    return replace(one, **chosen)
