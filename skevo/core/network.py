"""The grown network: a frozen record that is evaluated, pickled and printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .evaluation import evaluate
from .operators import Operator
from .predictor import Predictor
from .topology import CONSTANT, Index, Topology

__all__ = ["Network", "Nodes", "merge"]


@dataclass(frozen=True)
class Nodes:
    """Nodes that networks do not have (yet): candidates, or those being grown.

    Attributes
    ----------
    operator, left, right : ndarray of shape (n,) or (n_members, n)
        As in `Topology`; the operands are columns of the network they are proposed for. Of several
        members, a place may be empty: see `Population`.
    constant : Tensor of that shape
        Read where an operand is a constant.
    scale : Tensor of that shape
        What each column is divided by.
    """

    operator: Index
    left: Index
    right: Index
    constant: Tensor
    scale: Tensor

    def __len__(self) -> int:
        """Return the number of places, of each member."""
        return self.operator.shape[-1]

    def split(self, size: int) -> list[Nodes]:
        """Return parts of at most ``size`` places; at least one part."""
        return [
            Nodes(
                self.operator[..., start : start + size],
                self.left[..., start : start + size],
                self.right[..., start : start + size],
                self.constant[..., start : start + size],
                self.scale[..., start : start + size],
            )
            for start in range(0, max(len(self), 1), size)
        ]

    def of(self, members: slice) -> Nodes:
        """Return the nodes of some of the members."""
        return Nodes(*(getattr(self, each.name)[members] for each in fields(self)))

    def take(self, places: Index) -> Nodes:
        """Return some of the nodes.

        Parameters
        ----------
        places : ndarray of shape (n_members, n)
            Negative where the place is to be empty.
        """
        index = places.clip(min=0)
        at = torch.as_tensor(index, device=self.constant.device)
        operator, left, right = (
            np.where(places < 0, empty, np.take_along_axis(part, index, axis=1))
            for part, empty in ((self.operator, -1), (self.left, 0), (self.right, 0))
        )
        return Nodes(operator, left, right, self.constant.gather(1, at), self.scale.gather(1, at))


@dataclass(frozen=True)
class Network:
    r"""A topology with its numbers: everything that defines the function computed.

    .. math:: \eta(x) = W \, [x, z_1(x), ..., z_m(x)] + b

    Attributes
    ----------
    operators : tuple of Operator
    topology : Topology
    constants : Tensor of shape (n_nodes,)
    scale : Tensor of shape (n_nodes,)
        Frozen statistics of the training rows that the nodes are divided by.
    weight : Tensor of shape (n_outputs, n_columns)
    bias : Tensor of shape (n_outputs,)
    """

    operators: tuple[Operator, ...]
    topology: Topology
    constants: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def linear(
        cls,
        operators: Sequence[Operator],
        n_inputs: int,
        n_outputs: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Network:
        """Return the network without nodes whose head is zero."""
        none = torch.empty(0, device=device, dtype=dtype)
        return cls(
            tuple(operators),
            Topology.empty(n_inputs),
            none,
            none,
            torch.zeros(n_outputs, n_inputs, device=device, dtype=dtype),
            torch.zeros(n_outputs, device=device, dtype=dtype),
        )

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return self.topology.n_nodes

    @property
    def n_parameters(self) -> int:
        """Number of trained values: constants that are read, head weights but zeros, and biases."""
        topology = self.topology
        constants = ((topology.left == CONSTANT) | (topology.right == CONSTANT)).sum()
        return int(constants) + int((self.weight != 0).sum()) + self.bias.numel()

    @property
    def heard_inputs(self) -> NDArray[np.bool_]:
        """Which inputs have a weight or are read by a node, of shape (n_inputs,)."""
        n_inputs = self.topology.n_inputs
        weighted = (self.weight[:, :n_inputs] != 0).any(dim=0).numpy(force=True)
        return weighted | (self.topology.use[:n_inputs] > 0)

    def columns(self, inputs: Tensor) -> Tensor:
        """Compute all columns.

        Parameters
        ----------
        inputs : Tensor of shape (n_inputs, n_samples)

        Returns
        -------
        Tensor of shape (n_columns, n_samples)
        """
        return evaluate(self.operators, self.topology, self.constants, self.scale, inputs)

    def output(self, columns: Tensor) -> Tensor:
        """Apply the head.

        Parameters
        ----------
        columns : Tensor of shape (n_columns, n_samples)

        Returns
        -------
        Tensor of shape (n_outputs, n_samples)
        """
        return torch.addmm(self.bias[:, None], self.weight, columns)

    @cached_property
    def predictor(self) -> Predictor:
        """The network frozen for the evaluation of new rows."""
        return Predictor(
            self.operators, self.topology, self.constants, self.scale, self.weight, self.bias
        )

    def __getstate__(self) -> dict[str, Any]:
        # Without what can be derived.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @torch.no_grad()
    def predict(self, x: Tensor, block_size: int | None = None) -> Tensor:
        """Evaluate the network on rows, block by block.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_inputs)
        block_size : int, default=None
            Rows that are in memory with all their columns at a time; see `Predictor.blocks`.

        Returns
        -------
        Tensor of shape (n_samples, n_outputs)
        """
        blocks = self.predictor.blocks(lambda rows: x[rows].T, len(x), block_size)
        return torch.cat([*blocks], dim=1).T

    def grow(self, nodes: Nodes) -> Network:
        """Return the network with nodes added, their head weights zero."""
        weight = self.weight
        return replace(
            self,
            topology=self.topology.append(nodes.operator, nodes.left, nodes.right),
            constants=torch.cat([self.constants, nodes.constant]),
            scale=torch.cat([self.scale, nodes.scale]),
            weight=torch.cat([weight, weight.new_zeros(len(weight), len(nodes))], dim=1),
        )

    def prune(self, nodes: Sequence[int] | Index) -> Network:
        """Return the network without some nodes; see `Topology.prune`."""
        topology, kept = self.topology.prune(nodes)
        at = torch.as_tensor(kept, device=self.weight.device)
        inputs = torch.arange(topology.n_inputs, device=self.weight.device)
        return replace(
            self,
            topology=topology,
            constants=self.constants[at],
            scale=self.scale[at],
            weight=self.weight[:, torch.cat([inputs, topology.n_inputs + at])],
        )

    def relocate(self, places: Index, n_inputs: int) -> Network:
        """Return the network as one of a table that has its input columns elsewhere.

        Parameters
        ----------
        places : ndarray of shape (topology.n_inputs,)
            Where each input column is; negative if it is not in the table, which is for columns
            only that nothing reads.
        n_inputs : int
            Columns of the table.
        """
        topology = self.topology
        there = np.append(places >= 0, np.ones(topology.n_nodes, dtype=bool))
        moved = np.concatenate([places, n_inputs + np.arange(topology.n_nodes), [CONSTANT]])
        weight = self.weight.new_zeros(len(self.weight), n_inputs + topology.n_nodes)
        at = torch.as_tensor(moved[:-1], device=weight.device)
        kept = torch.as_tensor(there, device=weight.device)
        weight[:, at[kept]] = self.weight[:, kept]
        left, right = (moved[side] for side in (topology.left, topology.right))
        return replace(
            self, topology=Topology(n_inputs, topology.operator, left, right), weight=weight
        )

    def bare(self, n_outputs: int) -> Network:
        """Return the network with a head of zeros."""
        weight = self.weight.new_zeros(n_outputs, self.topology.n_columns)
        return replace(self, weight=weight, bias=weight.new_zeros(n_outputs))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Network:
        """Return the network on another device or in another dtype."""
        moved = {
            name: getattr(self, name).to(device=device, dtype=dtype)
            for name in ("constants", "scale", "weight", "bias")
        }
        return replace(self, **moved)


def merge(networks: Sequence[Network]) -> Network:
    """Merge networks into the one network that computes the outputs of all of them.

    Nodes that occur in several networks, with equal constants and scales, occur once in the result,
    and nodes are sorted by level and operator, so that the union needs no more calls than the
    deepest.

    Parameters
    ----------
    networks : sequence of Network
        With the same operators and inputs.

    Returns
    -------
    Network
        Its outputs are those of the first network, then those of the second, and so on.
    """
    first = networks[0]
    n_inputs = first.topology.n_inputs
    bias = torch.cat([network.bias for network in networks])
    n_heard = 0
    # Every distinct node, by (operator, operands, numbers); operands by their final keys.
    number: dict[tuple[int, int, int, float, float], int] = {}
    heads: list[Tensor] = []
    for network in networks:
        topology = network.topology
        heard = slice(n_heard, n_heard + len(network.bias))
        n_heard = heard.stop
        column = [*range(n_inputs), *([0] * topology.n_nodes), CONSTANT]
        constants, scales = network.constants.tolist(), network.scale.tolist()
        for node in range(topology.n_nodes):
            left, right = column[topology.left[node]], column[topology.right[node]]
            constant = constants[node] if CONSTANT in (left, right) else 0.0
            key = (int(topology.operator[node]), left, right, constant, scales[node])
            position = number.setdefault(key, len(number))
            if position == len(heads):
                heads.append(torch.zeros_like(bias))
            heads[position][heard] += network.weight[:, n_inputs + node]
            column[n_inputs + node] = n_inputs + position
    keys = list(number)
    operator = np.array([key[0] for key in keys], dtype=np.int64)
    left = np.array([key[1] for key in keys], dtype=np.int64)
    right = np.array([key[2] for key in keys], dtype=np.int64)
    union = Topology(n_inputs, operator, left, right)
    order = np.concatenate([group.nodes for group in union.groups] or [operator])
    moves = np.concatenate([np.arange(n_inputs), n_inputs + np.argsort(order), [CONSTANT]])
    weight = torch.cat([network.weight[:, :n_inputs] for network in networks])
    stacked = torch.stack(heads, dim=1) if heads else weight[:, :0]
    return Network(
        first.operators,
        Topology(n_inputs, operator[order], moves[left[order]], moves[right[order]]),
        first.constants.new_tensor([keys[node][3] for node in order]),
        first.scale.new_tensor([keys[node][4] for node in order]),
        torch.cat([weight, stacked[:, torch.as_tensor(order)]], dim=1),
        bias,
    )
