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

from .columns import flatten, of_nodes, operands
from .curvature import Curvature
from .linalg import cholesky_ex, cholesky_solve
from .losses import Loss
from .moments import inner_products
from .population import Plan, Population, Wiring
from .rows import Block, RowSource, add_up
from .topology import CONSTANT, Index, kinds

__all__ = ["constant_step"]

# Rows whose derivatives are in memory at a time: all together they take more than the columns do.
_ROWS_AT_A_TIME = 4096


def constant_step(
    rows: RowSource, population: Population, loss: Loss, curvature: Curvature, damping: float
) -> Tensor:
    """Return a Levenberg-Marquardt step on the constants, with the heads eliminated.

    Parameters
    ----------
    rows : RowSource
        Holding the columns of the population.
    population : Population
        With its heads fitted.
    loss : Loss
    curvature : Curvature
        At the heads.
    damping : float
        Added to the diagonal, as a share of it.

    Returns
    -------
    Tensor of shape (n_members, n_slots)
        Zero for nodes without a constant.
    """
    read = population.wiring.constant_nodes
    # Slots that hold a constant, side by side; some members have fewer.
    order = np.argsort(~read, axis=1, kind="stable")[:, : read.sum(axis=1).max()]

    def function(block: Block) -> tuple[Tensor, ...]:
        output = population.output(block.columns)
        jacobians = [
            _jacobian(population, weight, block.columns, order)
            for weight in population.weight.unbind(dim=1)
        ]
        residual = loss.residual(output, block.target) * block.weight[:, None]
        weight = (block.weight * loss.curvature(output))[:, None]
        present = block.columns.mT
        slopes = [
            inner_products(j, r[:, None])[..., 0]
            for j, r in zip(jacobians, residual.unbind(dim=1), strict=True)
        ]
        weighted = [j * weight for j in jacobians]
        squares = [w @ j.mT for w, j in zip(weighted, jacobians, strict=True)]
        crosses = [torch.cat([w.sum(dim=2)[..., None], w @ present], dim=2) for w in weighted]
        return (
            torch.stack(slopes).sum(dim=0).double(),
            torch.stack(squares).sum(dim=0).double(),
            torch.stack(crosses).double(),
        )

    def in_pieces(block: Block) -> tuple[Tensor, ...]:
        return add_up(map(function, block.split(_ROWS_AT_A_TIME)))

    gradient, squares, crosses = rows.reduce(in_pieces)
    projected = crosses @ curvature.half.mT
    matrix = squares - (projected @ projected.mT).sum(dim=0)
    diagonal = squares.diagonal(dim1=1, dim2=2)
    # Constants that change nothing get a unit diagonal and, their gradient being zero, no step.
    extra = torch.where(diagonal > 0, damping * diagonal, 1.0)
    factor, failed = cholesky_ex(matrix + torch.diag_embed(extra))
    step = cholesky_solve(gradient[..., None], factor)[..., 0]
    usable = torch.isfinite(step).all(dim=1) & (failed == 0)
    step = torch.where(usable[:, None], step, 0.0)
    at = torch.as_tensor(order, device=step.device)
    return torch.zeros_like(population.constants).scatter(
        1, at, step.to(population.constants.dtype)
    )


def _jacobian(population: Population, weight: Tensor, columns: Tensor, order: Index) -> Tensor:
    """Return the derivative of an output with respect to constants, row by row.

    Reverse accumulation, level by level; nodes that no constant acts on are skipped.

    Parameters
    ----------
    population : Population
    weight : Tensor of shape (n_members, n_columns)
        Heads of the output.
    columns : Tensor of shape (n_members, n_columns, n_samples)
    order : ndarray of shape (n_members, n_constants)
        Slots whose constants are asked for: first those that hold one, of each member.

    Returns
    -------
    Tensor of shape (n_members, n_constants, n_samples)
        Zero where a node reads no constant.
    """
    wiring, device = population.wiring, columns.device
    n_inputs, (n_members, n_columns, n_samples) = wiring.n_inputs, columns.shape
    n_constants = order.shape[1]
    place = np.zeros_like(wiring.operator)
    np.put_along_axis(place, order, np.arange(n_constants)[None], axis=1)
    active = _active(wiring)
    # One adjoint more, for operands that are constants.
    adjoint = torch.cat([weight.flatten(), weight.new_zeros(1)])[:, None].repeat(1, n_samples)
    columns_of = active.member * n_columns
    own, left, right = (
        torch.as_tensor(np.where(side == CONSTANT, len(adjoint) - 1, columns_of + side))
        for side in (n_inputs + active.slot, active.left, active.right)
    )
    own, left, right = (part.to(device) for part in (own, left, right))
    slopes = _slopes(population, active, columns)
    level = wiring.level[active.member, active.slot]
    # Of the highest level first.
    for at in range(int(level.max(initial=0)), 0, -1):
        some = torch.as_tensor(np.flatnonzero(level == at), device=device)
        above = adjoint[own[some]]
        for slope, side in zip(slopes, (left, right), strict=True):
            adjoint.index_add_(0, side[some], slope[some] * above)
    result = columns.new_zeros(n_members * n_constants, n_samples)
    asked = torch.as_tensor(active.member * n_constants + place[active.member, active.slot])
    asked = asked.to(device)
    for slope, operand in zip(slopes, (active.left, active.right), strict=True):
        read = torch.as_tensor(np.flatnonzero(operand == CONSTANT), device=device)
        result.index_copy_(0, asked[read], slope[read] * adjoint[own[read]])
    return result.view(n_members, n_constants, n_samples)


def _active(wiring: Wiring) -> Plan:
    """Return the nodes that a constant acts on, in runs of one operator at any level."""
    n_inputs = wiring.n_inputs
    touched = np.zeros((len(wiring.operator), wiring.n_columns), dtype=bool)
    touched[:, n_inputs:] = wiring.constant_nodes
    for level in range(1, 1 + int(wiring.level.max(initial=0))):
        reads = wiring.level == level
        for side in (wiring.left, wiring.right):
            # Operands that are constants read the last column, of this very level or empty.
            own = np.take_along_axis(touched, side, axis=1) & (side != CONSTANT)
            touched[:, n_inputs:] |= reads & own
    member, slot = np.nonzero(touched[:, n_inputs:])
    kind = kinds(wiring.operator, wiring.left, wiring.right)
    left, right, kind = (part[member, slot] for part in (wiring.left, wiring.right, kind))
    return Plan.of(member, slot, left, right, kind, np.zeros_like(kind))


def _slopes(population: Population, plan: Plan, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return the derivatives of scaled nodes by their left and right operands.

    Parameters
    ----------
    population : Population
    plan : Plan
        Of n nodes, whose operands are known.
    columns : Tensor of shape (n_members, n_columns, n_samples)

    Returns
    -------
    left, right : Tensor of shape (n, n_samples)
    """
    table, step = flatten(columns)
    factors = of_nodes(population.scale.reciprocal(), plan)[:, None].split(plan.sizes)
    runs = operands(population.constants, plan, table, step)
    found = []
    for code, sides, factor in zip(plan.operators, runs, factors, strict=True):
        with torch.enable_grad():
            leaves = [side.detach().requires_grad_() for side in sides]
            value = population.operators[code](*leaves)
        found.append(torch.autograd.grad(value, leaves, factor.expand_as(value)))
    if not found:
        return columns.new_empty(0, columns.shape[2]), columns.new_empty(0, columns.shape[2])
    left, right = (torch.cat(part) for part in zip(*found, strict=True))
    return left, right
