"""EvolvingLayer: the torch layer whose topology changes while it trains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from .evaluation import evaluate
from .network import Network, Nodes
from .operators import Operator, get_operators
from .proposals import propose_blindly
from .pruning import contribution_std, weakest_leaf
from .topology import Index, Topology

__all__ = ["EvolvingLayer"]


class EvolvingLayer(nn.Module):
    r"""A linear layer on its inputs and on nodes that are grown and pruned.

    A node is a binary operator of two operands, each an input column, an earlier node, or a
    trainable constant; node ``k`` is the column
    :math:`z_k = \mathrm{operator}_k(a_k, b_k) / \mathrm{scale}_k`, and the output is

    .. math:: y = W \, [x, z_1, ..., z_m] + b.

    Topology and scales are buffers, constants and head are parameters: ``to``, ``state_dict``,
    ``deepcopy``, pickle and ``torch.save`` carry everything that defines the function. Growing and
    pruning keep the parameters' identity, so that an optimizer goes on holding them; its state for
    them has to be resized, which `skevo.core.gradient.resize_state` does.

    Parameters
    ----------
    in_features : int
        Number of input columns.
    out_features : int
        Number of outputs.
    operators : sequence of str or Operator, default=("add", "mul")
        What nodes can compute; the default is the source text's.
    device : torch.device or str, default=None
    dtype : torch.dtype, default=None

    Attributes
    ----------
    weight : Parameter of shape (out_features, in_features + n_nodes)
    bias : Parameter of shape (out_features,)
    constants : Parameter of shape (n_nodes,)
        Each node's constant; unused, and without gradient, where no operand is one.
    operator, left, right : Tensor of shape (n_nodes,), int64
        The topology; see `skevo.core.topology.Topology`.
    scale : Tensor of shape (n_nodes,)
        What each node is divided by, frozen when it is grown: an output never depends on the rows
        beside it.

    Notes
    -----
    **Shape.** Input ``(..., in_features)``, output ``(..., out_features)``.

    Examples
    --------
    >>> import torch
    >>> from skevo import EvolvingLayer
    >>> layer = EvolvingLayer(3, 2)
    >>> x = torch.randn(10, 3)
    >>> layer.evolve(x, generator=torch.Generator().manual_seed(0))
    >>> layer(x).shape, layer.columns(x).shape
    (torch.Size([10, 2]), torch.Size([10, 4]))
    """

    operator: Tensor
    left: Tensor
    right: Tensor
    scale: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        operators: Sequence[str | Operator] = ("add", "mul"),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._allocate(in_features, out_features, get_operators(operators), device, dtype)
        self.reset_parameters()

    def _allocate(
        self,
        in_features: int,
        out_features: int,
        operators: tuple[Operator, ...],
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        """Set what a layer without nodes has; its head is not initialised."""
        if in_features < 1 or out_features < 1:
            raise ValueError(
                f"in_features and out_features must be >= 1, got {in_features} and {out_features}."
            )
        self.in_features = in_features
        self.out_features = out_features
        self.operators = operators
        for name in ("operator", "left", "right"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64, device=device))
        self.register_buffer("scale", torch.empty(0, device=device, dtype=dtype))
        self.constants = nn.Parameter(torch.empty(0, device=device, dtype=dtype))
        self.weight = nn.Parameter(
            torch.empty(out_features, in_features, device=device, dtype=dtype)
        )
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype))
        self._topology: Topology | None = None

    @classmethod
    def from_network(cls, network: Network) -> EvolvingLayer:
        """Return a layer that computes a grown network."""
        # Not through the constructor, which draws a head from torch's generator.
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._allocate(
            network.topology.n_inputs,
            len(network.bias),
            network.operators,
            network.weight.device,
            network.weight.dtype,
        )
        layer._assign(network)
        return layer

    def reset_parameters(self) -> None:
        """Draw head and constants anew, the head as `torch.nn.Linear` does."""
        bound = 1.0 / math.sqrt(self.in_features + self.n_nodes)
        with torch.no_grad():
            self.weight.uniform_(-bound, bound)
            self.bias.uniform_(-bound, bound)
            self.constants.normal_()

    # -- what is computed ----------------------------------------------------------------------

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return len(self.operator)

    @property
    def topology(self) -> Topology:
        """The wiring, as a frozen record."""
        if self._topology is None:
            self._topology = Topology(
                self.in_features,
                self.operator.numpy(force=True),
                self.left.numpy(force=True),
                self.right.numpy(force=True),
            )
        return self._topology

    @property
    def network(self) -> Network:
        """The layer as a frozen record, detached from its parameters."""
        return Network(
            self.operators,
            self.topology,
            *(
                tensor.detach().clone()
                for tensor in (self.constants, self.scale, self.weight, self.bias)
            ),
        )

    def columns(self, x: Tensor) -> Tensor:
        """Return inputs and node columns.

        Parameters
        ----------
        x : Tensor of shape (..., in_features)

        Returns
        -------
        Tensor of shape (..., in_features + n_nodes)
        """
        return self._evaluate(x).T.reshape(*x.shape[:-1], self.in_features + self.n_nodes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output.

        Parameters
        ----------
        x : Tensor of shape (..., in_features)

        Returns
        -------
        Tensor of shape (..., out_features)
        """
        columns = self._evaluate(x)
        silent = (self.weight == 0).all(dim=0)
        if silent.any():
            # Apart, so that columns of weight zero do not change the order of the other's sums:
            # growing such a node, or pruning it, leaves the output equal bit by bit.
            heard = torch.addmm(self.bias[:, None], self.weight[:, ~silent], columns[~silent])
            output = heard + self.weight[:, silent] @ columns[silent]
        else:
            output = torch.addmm(self.bias[:, None], self.weight, columns)
        return output.T.reshape(*x.shape[:-1], self.out_features)

    def _evaluate(self, x: Tensor) -> Tensor:
        """Return all columns, of shape (in_features + n_nodes, n_samples)."""
        if x.shape[-1] != self.in_features:
            raise ValueError(
                f"x must have {self.in_features} columns in its last dimension, "
                f"got shape {tuple(x.shape)}."
            )
        inputs = x.reshape(-1, self.in_features).T
        return evaluate(self.operators, self.topology, self.constants, self.scale, inputs)

    def extra_repr(self) -> str:
        """Return what `repr` shows."""
        names = ", ".join(operator.name for operator in self.operators)
        return (
            f"{self.in_features}, {self.out_features}, n_nodes={self.n_nodes}, operators=({names})"
        )

    # -- how the topology changes --------------------------------------------------------------

    def leaf_nodes(self) -> list[int]:
        """Return the numbers of the nodes that no other node reads."""
        return np.flatnonzero(self.topology.leaves).tolist()

    @torch.no_grad()
    def grow(
        self,
        operator: ArrayLike,
        left: ArrayLike,
        right: ArrayLike,
        *,
        constant: Tensor | Sequence[float] | float = 0.0,
        scale: Tensor | Sequence[float] | float = 1.0,
    ) -> None:
        """Add nodes behind the present ones; their head weights are zero.

        The output is unchanged, bit by bit, and so is every other parameter and column.

        Parameters
        ----------
        operator : int or array-like of shape (n_new,)
            Positions in ``operators``.
        left, right : int or array-like of shape (n_new,)
            Columns (``0..in_features-1`` are inputs, ``in_features + k`` is node ``k``), or -1 for
            the node's constant. Never both -1.
        constant, scale : float or Tensor of shape (n_new,)

        Raises
        ------
        ValueError
            If a code or operand does not exist, or a scale is not positive.
        """
        codes = np.atleast_1d(np.asarray(operator, dtype=np.int64))
        if (codes >= len(self.operators)).any():
            raise ValueError(
                f"operator must be < {len(self.operators)}, the number of operators, "
                f"got {codes.tolist()}."
            )
        new = self.scale.new_ones(len(codes))
        factor = new * torch.as_tensor(scale, device=new.device, dtype=new.dtype)
        if not (torch.isfinite(factor) & (factor > 0)).all():
            raise ValueError(f"scale must be positive and finite, got {factor.tolist()}.")
        nodes = Nodes(
            codes,
            np.atleast_1d(np.asarray(left, dtype=np.int64)),
            np.atleast_1d(np.asarray(right, dtype=np.int64)),
            new * torch.as_tensor(constant, device=new.device, dtype=new.dtype),
            factor,
        )
        self._assign(self.network.grow(nodes))

    @torch.no_grad()
    def prune(self, nodes: Sequence[int] | Index) -> None:
        """Remove nodes, and their head weights with them.

        Parameters
        ----------
        nodes : sequence of int
            Numbers of leaves, or of nodes whose readers are removed too.

        Raises
        ------
        ValueError
            If a node does not exist, or one that stays reads one that goes.
        """
        self._assign(self.network.prune(nodes))

    @torch.no_grad()
    def evolve(
        self, x: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> int | None:
        """Take the source text's step: prune the weakest leaf, then add one random node.

        The weakest leaf is the one whose weighted contribution to the output has the lowest
        standard deviation on a benchmark set. The new node's head weight is zero, and its scale is
        its standard deviation on the benchmark set.

        Parameters
        ----------
        x : Tensor of shape (..., in_features), default=None
            The benchmark set. Without one, nothing is pruned and the new node's scale is 1.
        generator : torch.Generator, default=None
            On the CPU; torch's global one if None.

        Returns
        -------
        int or None
            The number that the pruned leaf had, None if there was none.
        """
        node = None
        if x is not None and self.n_nodes > 1:
            of_nodes = self.columns(x).flatten(0, -2)[:, self.in_features :]
            scores = contribution_std(
                self.weight[:, self.in_features :], of_nodes.std(dim=0, correction=0)
            )
            weakest = np.flatnonzero(weakest_leaf(scores[None], self.topology.leaves[None]))
            self.prune(weakest)
            node = int(weakest[0]) if len(weakest) else None
        operator, left, right, constant = propose_blindly(
            self.in_features + self.n_nodes, len(self.operators), generator
        )
        self.grow(operator, left, right, constant=constant)
        if x is not None:
            column = self.columns(x)[..., -1]
            spread = column.std(correction=0)
            # A constant column's is rounding, not a scale.
            if torch.isfinite(spread) and spread > 1e-6 * column.abs().max():
                self.scale[-1] = spread
        return node

    def _assign(self, network: Network) -> None:
        """Take over a network; parameters keep their identity."""
        device = self.weight.device
        topology = network.topology
        for name in ("operator", "left", "right"):
            array = torch.tensor(getattr(topology, name), dtype=torch.int64, device=device)
            setattr(self, name, array)
        # Copies: an optimizer steps in place, and the network is frozen.
        self.scale = network.scale.clone()
        for name in ("constants", "weight", "bias"):
            parameter = getattr(self, name)
            if parameter.shape != getattr(network, name).shape:
                parameter.grad = None
            parameter.data = getattr(network, name).clone()
        self._topology = topology

    # -- saving and loading --------------------------------------------------------------------

    def get_extra_state(self) -> dict[str, list[str]]:
        """Return what the topology's codes mean, for ``state_dict``."""
        return {"operators": [operator.name for operator in self.operators]}

    def set_extra_state(self, state: Mapping[str, list[str]]) -> None:
        """Take over what the topology's codes mean, from ``state_dict``."""
        known = {operator.name: operator for operator in self.operators}
        self.operators = get_operators([known.get(name, name) for name in state["operators"]])

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # Whatever the number of nodes there, take it over; all other shapes must agree.
        operator = state_dict.get(prefix + "operator")
        if operator is not None:
            n_nodes = len(operator)
            for name in ("operator", "left", "right", "scale"):
                setattr(self, name, getattr(self, name).new_empty(n_nodes))
            self.constants.data = self.constants.new_empty(n_nodes)
            self.weight.data = self.weight.new_empty(self.out_features, self.in_features + n_nodes)
            self.constants.grad = self.weight.grad = None
            self._topology = None
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
