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
from .losses import Loss
from .population import Population
from .rows import Block, RowSource
from .topology import CONSTANT, Index

__all__ = ["constant_step"]


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
            (j @ r[..., None])[..., 0]
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

    gradient, squares, crosses = rows.reduce(function)
    projected = crosses @ curvature.half.mT
    matrix = squares - (projected @ projected.mT).sum(dim=0)
    diagonal = squares.diagonal(dim1=1, dim2=2)
    # Constants that change nothing get a unit diagonal and, their gradient being zero, no step.
    extra = torch.where(diagonal > 0, damping * diagonal, 1.0)
    factor, failed = torch.linalg.cholesky_ex(matrix + torch.diag_embed(extra))
    step = torch.cholesky_solve(gradient[..., None], factor)[..., 0]
    usable = torch.isfinite(step).all(dim=1) & (failed == 0)
    step = torch.where(usable[:, None], step, 0.0)
    at = torch.as_tensor(order, device=step.device)
    return torch.zeros_like(population.constants).scatter(
        1, at, step.to(population.constants.dtype)
    )


def _jacobian(population: Population, weight: Tensor, columns: Tensor, order: Index) -> Tensor:
    """Return the derivative of an output with respect to constants, row by row.

    Reverse accumulation over the runs of nodes; nodes that no constant acts on are skipped.

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
    touched = np.zeros((n_members, n_columns), dtype=bool)
    touched[:, n_inputs:] = wiring.constant_nodes
    plan = wiring.plan
    for level in range(1, 1 + int(wiring.level.max(initial=0))):
        reads = wiring.level == level
        for side in (wiring.left, wiring.right):
            # Operands that are constants read the last column, of this very level or empty.
            own = np.take_along_axis(touched, side, axis=1) & (side != CONSTANT)
            touched[:, n_inputs:] |= reads & own
    active = plan.take(touched[plan.member, n_inputs + plan.slot])
    table, step = flatten(columns)
    factors = of_nodes(population.scale.reciprocal(), active)[:, None]
    adjoint = weight.flatten()[:, None].repeat(1, n_samples)
    result = columns.new_zeros(n_members * n_constants, n_samples)
    own, left, right, asked = (
        torch.as_tensor(active.member * n + place, device=device).split(active.sizes)
        for n, place in (
            (n_columns, n_inputs + active.slot),
            (n_columns, active.left.clip(min=0)),
            (n_columns, active.right.clip(min=0)),
            (n_constants, place[active.member, active.slot]),
        )
    )
    runs = zip(
        active.operators,
        operands(population.constants, active, table, step),
        factors.split(active.sizes),
        own,
        zip(left, right, strict=True),
        asked,
        active.constant,
        strict=True,
    )
    for code, sides, factor, at, places, constant, is_constant in reversed(list(runs)):
        with torch.enable_grad():
            leaves = [side.clone().requires_grad_() for side in sides]
            value = population.operators[code](*leaves)
        slopes = torch.autograd.grad(value, leaves, adjoint[at] * factor)
        for slope, place_of, own_constant in zip(slopes, places, is_constant, strict=True):
            if own_constant:
                result.index_copy_(0, constant, slope)
            else:
                adjoint.index_add_(0, place_of, slope)
    return result.view(n_members, n_constants, n_samples)
