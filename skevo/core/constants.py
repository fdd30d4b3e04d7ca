r"""Constants: refined by variable projection.

Constants and head are improved together although only the constants are stepped: with the head
eliminated, a Gauss-Newton step on the constants uses the Jacobian projected off the present columns
(Kaufman's form [1]_ of the method of Golub and Pereyra [2]_), and by the envelope theorem the
gradient needs no derivative of the head. Nodes are elementwise, so one pass backward over them
gives the whole Jacobian, a row of it for every row of the table.

References
----------
.. [1] L. Kaufman, "A variable projection method for solving separable nonlinear least squares
   problems", BIT 15, 1975.
.. [2] G. H. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least
   squares problems whose variables separate", SIAM Journal on Numerical Analysis 10, 1973.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .heads import Curvature
from .losses import Loss
from .moments import augment
from .network import Network
from .rows import Block, RowSource
from .topology import CONSTANT, Index

__all__ = ["constant_nodes", "constant_step"]


def constant_nodes(network: Network) -> Index:
    """Return the numbers of the nodes that read their constant."""
    topology = network.topology
    return np.flatnonzero((topology.left == CONSTANT) | (topology.right == CONSTANT))


def constant_step(
    rows: RowSource, network: Network, loss: Loss, curvature: Curvature, damping: float
) -> Tensor:
    """Return a Levenberg-Marquardt step on the constants, with the head eliminated.

    Parameters
    ----------
    rows : RowSource
        Holding the columns of the network.
    network : Network
        With its head fitted.
    loss : Loss
    curvature : Curvature
        At the head.
    damping : float
        Added to the diagonal, as a share of it.

    Returns
    -------
    Tensor of shape (n_nodes,)
        Zero for nodes without a constant.
    """
    nodes = torch.as_tensor(constant_nodes(network), device=network.weight.device)

    def function(block: Block) -> tuple[Tensor, ...]:
        output = network.output(block.columns)
        jacobians = [_jacobian(network, weight, block.columns)[nodes] for weight in network.weight]
        residual = loss.residual(output, block.target) * block.weight
        weight = block.weight * loss.curvature(output)
        present = augment(block.columns)
        slopes = [j @ r for j, r in zip(jacobians, residual, strict=True)]
        squares = [(j * weight) @ j.T for j in jacobians]
        crosses = [(j * weight) @ present.T for j in jacobians]
        return (
            torch.stack(slopes).sum(dim=0).double(),
            torch.stack(squares).sum(dim=0).double(),
            torch.stack(crosses).double(),
        )

    gradient, squares, crosses = rows.reduce(function)
    projected = crosses @ curvature.half.T
    matrix = squares - (projected @ projected.mT).sum(dim=0)
    diagonal = squares.diagonal()
    # Constants that change nothing get a unit diagonal and, their gradient being zero, no step.
    extra = torch.where(diagonal > 0, damping * diagonal, 1.0)
    step = torch.linalg.solve(matrix + torch.diag(extra), gradient)
    step = torch.where(torch.isfinite(step).all(), step, torch.zeros_like(step))
    return torch.zeros_like(network.constants).index_copy(
        0, nodes, step.to(network.constants.dtype)
    )


def _jacobian(network: Network, weight: Tensor, columns: Tensor) -> Tensor:
    """Return the derivative of an output with respect to each node's constant, row by row.

    Reverse accumulation over the groups of nodes; a group that no constant acts on is skipped.

    Parameters
    ----------
    network : Network
    weight : Tensor of shape (n_columns,)
        Head of the output.
    columns : Tensor of shape (n_columns, n_samples)

    Returns
    -------
    Tensor of shape (n_nodes, n_samples)
        Zero where a node reads no constant.
    """
    topology = network.topology
    n_inputs = topology.n_inputs
    touched = np.zeros(topology.n_columns, dtype=bool)
    touched[n_inputs + topology.descendants(constant_nodes(network))] = True
    adjoint = weight[:, None].expand_as(columns).clone()
    result = torch.zeros_like(columns[n_inputs:])
    for group in reversed(topology.groups):
        active = group.nodes[touched[n_inputs + group.nodes]]
        if not len(active):
            continue
        at = torch.as_tensor(active, device=columns.device)
        slope = adjoint[n_inputs + at] / network.scale[at, None]
        operands = []
        for operand in (topology.left[active], topology.right[active]):
            if operand[0] == CONSTANT:
                operands.append(network.constants[at, None].expand_as(slope).clone())
            else:
                operands.append(columns[torch.as_tensor(operand, device=columns.device)])
        with torch.enable_grad():
            operands = [operand.requires_grad_() for operand in operands]
            value = network.operators[group.operator](*operands)
        slopes = torch.autograd.grad(value, operands, slope)
        for operand, part in zip((topology.left, topology.right), slopes, strict=True):
            if operand[active[0]] == CONSTANT:
                result[at] = part
            else:
                adjoint.index_add_(0, torch.as_tensor(operand[active], device=at.device), part)
    return result
