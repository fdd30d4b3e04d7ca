"""Monotone networks: which way each column goes when constrained inputs go the way they must.

The output never decreases while an input rises if no term of the head does. A term does not if its
weight has the sign of its column's direction, and the direction of a node follows from those of its
operands, whatever the constants are: so constraints hold everywhere, not only where training rows
are. A node that could go either way is not proposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .curvature import Curvature
from .network import Nodes
from .operators import Operator
from .population import EMPTY, Population, Wiring
from .topology import CONSTANT, Index

__all__ = [
    "DOWN", "EITHER", "STILL", "UP", "Constraints", "column_directions", "node_directions",
    "weight_signs",
]  # fmt: skip

# A column does not depend on constrained inputs, rises or falls with all of them that it depends
# on, or may do either.
STILL, UP, DOWN, EITHER = 0, 1, -1, 2


def column_directions(
    wiring: Wiring, operators: Sequence[Operator], inputs: Index
) -> NDArray[np.int64]:
    """Return the directions of all columns.

    Parameters
    ----------
    wiring : Wiring
    operators : sequence of Operator
    inputs : ndarray of shape (n_members, n_inputs)
        The constraints: ``UP`` or ``DOWN``, what the output must do as the input rises, or
        ``STILL`` where there is none.

    Returns
    -------
    ndarray of shape (n_members, n_columns)
        As the inputs go the way in which the output must rise; ``STILL`` in empty slots.
    """
    n_members, n_inputs = inputs.shape
    found = np.zeros((n_members, wiring.n_columns), dtype=np.int64)
    found[:, :n_inputs] = inputs
    for at in range(1, wiring.level.max(initial=0) + 1):
        member, slot = np.nonzero(wiring.level == at)
        left, right = (
            np.where(side == CONSTANT, STILL, found[member, side])
            for side in (wiring.left[member, slot], wiring.right[member, slot])
        )
        found[member, n_inputs + slot] = _of_nodes(
            operators, wiring.operator[member, slot], left, right
        )
    return found


def node_directions(
    operators: Sequence[Operator], operator: Index, left: Index, right: Index, columns: Index
) -> NDArray[np.int64]:
    """Return the directions of nodes that read columns of known directions.

    Parameters
    ----------
    operators : sequence of Operator
    operator, left, right : ndarray of shape (n_members, n)
        See `Wiring`; an empty place gets some direction.
    columns : ndarray of shape (n_members, n_columns)

    Returns
    -------
    ndarray of shape (n_members, n)
    """
    sides = (
        np.where(side == CONSTANT, STILL, np.take_along_axis(columns, side.clip(min=0), axis=1))
        for side in (left, right)
    )
    return _of_nodes(operators, operator, *sides)


def _of_nodes(
    operators: Sequence[Operator], operator: Index, left: Index, right: Index
) -> NDArray[np.int64]:
    """Return the directions of nodes from those of their operands."""
    slope = np.array([item.monotonic for item in operators]).T[:, operator]
    a, b = (
        # What falls in an operand that rises falls; what may do either in one that moves, may.
        np.where((side == STILL) | (side == EITHER), side, np.where(own, own * side, EITHER))
        for side, own in zip((left, right), slope, strict=True)
    )
    agreed = np.where(a == b, a, EITHER)
    return np.where(a == STILL, b, np.where(b == STILL, a, agreed))


class Constraints:
    """Constraints on the inputs of each member, and what follows from them for its columns.

    Parameters
    ----------
    inputs : ndarray of shape (n_members, n_inputs), or None
        See `column_directions`; None if nothing is constrained.
    """

    def __init__(self, inputs: Index | None) -> None:
        self._inputs = inputs
        self._known: tuple[Wiring, Index] | None = None

    def of_columns(self, population: Population) -> Tensor | None:
        """Return the directions of all columns, of shape (n_members, n_columns)."""
        if self._inputs is None:
            return None
        return torch.as_tensor(self._columns(population), device=population.weight.device)

    def of_nodes(self, population: Population, nodes: Nodes) -> Tensor | None:
        """Return the directions of nodes that read the population's columns."""
        if self._inputs is None:
            return None
        return torch.as_tensor(self._nodes(population, nodes), device=population.weight.device)

    def allowed(self, population: Population, nodes: Nodes) -> Nodes:
        """Return nodes that read the population's columns, without those that may do either."""
        if self._inputs is None:
            return nodes
        free = self._nodes(population, nodes) != EITHER
        return replace(nodes, operator=np.where(free, nodes.operator, EMPTY))

    def still(self, population: Population) -> Tensor | None:
        """Return which weights are kept at zero, of shape (n_members, n_columns), if any are."""
        directions = self.of_columns(population)
        if directions is None:
            return None
        return (directions != STILL) & (population.weight[:, 0] == 0)

    def at_rest(self, population: Population, model: Curvature) -> Curvature:
        """Return the model in which weights that are kept at zero do not pull."""
        still = self.still(population)
        if still is None:
            return model
        pull = model.gradient[:, 1:].masked_fill(still[..., None], 0.0)
        return model.with_gradient(torch.cat([model.gradient[:, :1], pull], dim=1))

    def _columns(self, population: Population) -> Index:
        assert self._inputs is not None
        wiring = population.wiring
        if self._known is None or self._known[0] is not wiring:
            found = column_directions(wiring, population.operators, self._inputs)
            self._known = wiring, found
        return self._known[1]

    def _nodes(self, population: Population, nodes: Nodes) -> Index:
        parts = nodes.operator, nodes.left, nodes.right
        return node_directions(population.operators, *parts, self._columns(population))


def weight_signs(population: Population, inputs: Index | None) -> Tensor | None:
    """Return what the head weights of networks must not have the opposite sign of.

    Parameters
    ----------
    population : Population
    inputs : ndarray of shape (n_inputs,), or None
        The constraints, the same for all members; None if there are none.

    Returns
    -------
    Tensor of shape (n_members, n_columns), or None
        See `column_directions`.
    """
    if inputs is not None:
        inputs = np.broadcast_to(inputs, (len(population), len(inputs)))
    return Constraints(inputs).of_columns(population)
