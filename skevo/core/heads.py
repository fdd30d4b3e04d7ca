r"""Heads: the linear outputs, solved exactly.

The head of each member minimises

.. math:: F(W, b) = \sum_i w_i \ell(W c_i + b, y_i)
          + \frac{\alpha}{2} \sum_j \mathrm{var}(c_j) \lVert W_{\cdot j} \rVert^2,

ridge on standardised columns. Everything is in terms of augmented columns :math:`[1, c]`: the first
coordinate is the intercept, which is not penalised. The members of a population are solved side by
side: they are the leading dimension of all that follows.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from .curvature import Curvature, factorise
from .exchange import Exchange
from .losses import Loss, SquaredError
from .moments import Moments, inner_products, measure_moments, variances, weighted_gram
from .monotone import EITHER, STILL
from .population import Population
from .rows import Block, RowSource

__all__ = [
    "ROUNDING",
    "coefficients",
    "fit_head",
    "objective",
    "penalty",
    "penalty_for",
    "quadratic_model",
    "with_coefficients",
]

# Sums of products in single precision are off by less than this share of the columns' squares; less
# will do for steps, which are seen to help.
ROUNDING, _ROUNDING_OF_STEPS = 1e-5, 3e-6


def penalty(gram: Tensor, alpha: Tensor) -> Tensor:
    """Return the diagonal of the ridge penalty on the augmented columns.

    Constant columns get one that sends their weights to zero: they are the intercept's business,
    and without it the objective would not have one minimum.

    Parameters
    ----------
    gram : Tensor of shape (..., n_columns + 1, n_columns + 1)
        See `Moments`.
    alpha : Tensor of shape (...)

    Returns
    -------
    Tensor of shape (..., n_columns + 1)
    """
    variance = variances(gram)
    of_columns = torch.where(variance > 0, alpha[..., None] * variance, gram[..., :1, 0])
    return torch.cat([torch.zeros_like(gram[..., :1, 0]), of_columns], dim=-1)


def penalty_for(loss: Loss, gram: Tensor, alpha: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the penalty on columns of a dtype.

    Where the curvature is computed from moments it gets a little more for columns in single
    precision, whose products are off by their rounding: how nearly dependent ones differ is not
    known, and neither large opposite weights nor steps must rest on it.
    """
    ridge = penalty(gram, alpha)
    if loss.metric is not None and dtype == torch.float32:
        square = gram.diagonal(dim1=-2, dim2=-1)[..., 1:]
        share = ROUNDING if isinstance(loss, SquaredError) else _ROUNDING_OF_STEPS
        ridge[..., 1:] += share * loss.metric * square
    return ridge


def coefficients(population: Population) -> Tensor:
    """Return ``[b, W]'`` in float64, of shape (n_members, n_columns + 1, n_outputs)."""
    return torch.cat([population.bias[..., None], population.weight], dim=-1).mT.double()


def with_coefficients(population: Population, beta: Tensor) -> Population:
    """Return the population with the heads ``beta``, of the shape of `coefficients`."""
    beta = beta.to(population.weight.dtype)
    return replace(population, weight=beta[:, 1:].mT.contiguous(), bias=beta[:, 0].contiguous())


def fit_head(
    rows: RowSource,
    population: Population,
    loss: Loss,
    alpha: Tensor,
    moments: Moments,
    factor: Curvature | None = None,
    n_steps: int = 15,
    directions: Tensor | None = None,
) -> tuple[Population, Curvature]:
    """Minimise the objective over the heads, starting from the present ones.

    Squared error is solved from the moments, without a look at the rows. Losses that are modelled
    with one curvature take accelerated steps on one factorisation (Nesterov's, restarted when the
    objective rises). Others take damped Newton steps.

    Where weights must have a sign, those of the wrong one are kept at zero and those that would
    have the right one are released, until none is left of either: see `skevo.core.exchange`.

    Parameters
    ----------
    rows : RowSource
        Holding the columns of the population.
    population : Population
    loss : Loss
    alpha : Tensor of shape (n_members,)
        Ridge penalty.
    moments : Moments
        Of the rows.
    factor : Curvature, default=None
        Of these columns and this penalty, at any heads, for losses with one curvature.
    n_steps : int, default=15
        At most so many steps; fewer if the objective has settled.
    directions : Tensor of shape (n_members, n_columns), int64, default=None
        What the weights of a single output must not have the opposite sign of, and
        `skevo.core.monotone.EITHER` where they must be zero. None constrains nothing.

    Returns
    -------
    population : Population
    curvature : Curvature
        At the returned heads. Where a weight is kept at zero, its gradient is taken for zero.
    """
    dtype = population.weight.dtype
    ridge = penalty_for(loss, moments.gram, alpha, dtype)
    fixed = None
    if loss.metric is not None:
        fixed = factor or factorise(loss.metric * moments.gram, ridge, dtype)
    if directions is None:
        return _minimise(rows, population, loss, ridge, moments, fixed, n_steps, None)
    forbidden = directions == EITHER
    exchange = Exchange(torch.where(forbidden, STILL, directions), forbidden)
    while True:
        weight = population.weight.masked_fill(exchange.kept[:, None], 0.0)
        start, kept = replace(population, weight=weight), exchange.kept
        population, curvature = _minimise(rows, start, loss, ridge, moments, fixed, n_steps, kept)
        if not exchange.step(population.weight[:, 0], curvature.gradient[:, 1:, 0]):
            still = functional.pad(kept, (1, 0))[..., None]
            return population, curvature.with_gradient(curvature.gradient.masked_fill(still, 0.0))


def _minimise(
    rows: RowSource,
    population: Population,
    loss: Loss,
    ridge: Tensor,
    moments: Moments,
    fixed: Curvature | None,
    n_steps: int,
    kept: Tensor | None,
) -> tuple[Population, Curvature]:
    """Minimise the objective over the heads, without the weights that are kept at zero."""
    if fixed is None:
        return _newton(rows, population, loss, ridge, n_steps, kept)
    if not isinstance(loss, SquaredError):
        return _accelerate(rows, population, loss, fixed, n_steps, kept)
    free = _free(fixed, kept)
    beta = free.solve(moments.cross)
    # One step of iterative refinement: the inverse of nearly dependent columns is inexact.
    beta = beta + free.solve(moments.gradient(beta, ridge))
    gradient = torch.zeros_like(beta) if kept is None else moments.gradient(beta, ridge)
    return with_coefficients(population, beta), fixed.with_gradient(gradient)


def _free(curvature: Curvature, kept: Tensor | None) -> Curvature:
    """Return the model in which the weights that are kept at zero do not move."""
    return curvature if kept is None else curvature.restricted(kept)


def _accelerate(
    rows: RowSource,
    population: Population,
    loss: Loss,
    fixed: Curvature,
    n_steps: int,
    kept: Tensor | None,
) -> tuple[Population, Curvature]:
    """Take accelerated steps in a fixed metric until the expected gain is negligible."""
    assert loss.metric is not None
    assert loss.highest_curvature is not None
    free = _free(fixed, kept)
    beta = ahead = known = slope = coefficients(population)
    momentum = torch.ones_like(beta[:, 0, 0])
    # In the metric of the highest curvature no plain step can overshoot, but for rounding.
    length = torch.full_like(momentum, loss.metric / loss.highest_curvature)
    value = lowest = torch.full_like(momentum, torch.inf)
    active = plain = torch.ones_like(momentum, dtype=torch.bool)
    for _ in range(n_steps):
        trial = with_coefficients(population, ahead)
        current, gradient = _evaluate(rows, trial, loss, fixed.ridge)
        move = _wide(length) * free.solve(gradient)
        settled = _expected(gradient, move) <= 1e-7 * current.abs()
        faster = 0.5 * (1.0 + (1.0 + 4.0 * momentum.square()).sqrt())
        best = active & (current <= lowest)
        known = torch.where(_wide(best), ahead, known)
        slope = torch.where(_wide(best), gradient, slope)
        lowest = torch.where(best, current, lowest)
        # Where the momentum overshot, start again from the last point, with a plain step. Where
        # that did, columns are so close to dependent that the metric is wrong: take shorter ones.
        onward = active & (current <= value)
        wrong = active & ~onward & plain
        length = torch.where(wrong, 0.1 * length, length)
        new = torch.where(_wide(onward), ahead + move, torch.where(_wide(wrong), known, beta))
        inertia = torch.where(onward, (momentum - 1.0) / faster, 0.0)
        plain = inertia == 0.0
        ahead = new + _wide(inertia) * (new - beta)
        momentum = torch.where(onward, faster, 1.0)
        value = torch.where(onward, current, torch.inf)
        beta = new
        active = active & ~(onward & settled)
        if not active.any():
            break
    current, gradient = _evaluate(rows, with_coefficients(population, beta), loss, fixed.ridge)
    # In exact arithmetic the last step would help.
    helped = _wide(current <= lowest)
    beta, gradient = torch.where(helped, beta, known), torch.where(helped, gradient, slope)
    return with_coefficients(population, beta), fixed.with_gradient(gradient)


def _newton(
    rows: RowSource,
    population: Population,
    loss: Loss,
    ridge: Tensor,
    n_steps: int,
    kept: Tensor | None,
) -> tuple[Population, Curvature]:
    """Take damped Newton steps until the expected gain is negligible."""
    beta = coefficients(population)
    current, gradient = _evaluate(rows, population, loss, ridge)
    active = torch.ones_like(current, dtype=torch.bool)
    for _ in range(n_steps):
        model = _model(rows, population, loss, ridge, gradient)
        move = _free(model, kept).solve(gradient)
        expected = _expected(gradient, move)
        active = active & (expected > 1e-6 * current)
        if not active.any():
            return population, model
        size = active.double()
        for _ in range(12):
            trial = with_coefficients(population, beta + _wide(size) * move)
            value, slope = _evaluate(rows, trial, loss, ridge)
            waiting = active & ~(value < current - 1e-4 * size * expected)
            if not waiting.any():
                break
            size = torch.where(waiting, 0.5 * size, size)
        # A member for which no step helps is done; its head stays.
        active = active & ~waiting
        beta = torch.where(_wide(active), coefficients(trial), beta)
        population = with_coefficients(population, beta)
        current = torch.where(active, value, current)
        gradient = torch.where(_wide(active), slope, gradient)
    return population, _model(rows, population, loss, ridge, gradient)


def _expected(gradient: Tensor, move: Tensor) -> Tensor:
    """Return by how much the quadratic model falls with the Newton step."""
    return 0.5 * (gradient * move).sum(dim=(-2, -1))


def _wide(of_members: Tensor) -> Tensor:
    """Return a value per member in the shape that goes with matrices."""
    return of_members[..., None, None]


def quadratic_model(
    rows: RowSource,
    population: Population,
    loss: Loss,
    alpha: Tensor,
    moments: Moments | None = None,
    factor: Curvature | None = None,
) -> Curvature:
    """Compute the quadratic model of the objective at the heads.

    Parameters
    ----------
    rows : RowSource
        Holding the columns of the population.
    population : Population
    loss : Loss
    alpha : Tensor of shape (n_members,)
        Ridge penalty on these rows.
    moments : Moments, default=None
        Of the rows; measured if None.
    factor : Curvature, default=None
        Of these columns and this penalty, at any heads, for losses with one curvature.
    """
    moments = measure_moments(rows) if moments is None else moments
    dtype = population.weight.dtype
    ridge = penalty_for(loss, moments.gram, alpha, dtype)
    if isinstance(loss, SquaredError):
        gradient = moments.gradient(coefficients(population), ridge)
    else:
        gradient = _evaluate(rows, population, loss, ridge)[1]
    if loss.metric is None:
        return _model(rows, population, loss, ridge, gradient)
    factor = factor or factorise(loss.metric * moments.gram, ridge, dtype)
    return factor.with_gradient(gradient)


def objective(rows: RowSource, population: Population, loss: Loss, ridge: Tensor) -> Tensor:
    """Return each member's penalised summed loss."""
    return _evaluate(rows, population, loss, ridge)[0]


def _model(
    rows: RowSource, population: Population, loss: Loss, ridge: Tensor, gradient: Tensor
) -> Curvature:
    """Return the quadratic model of a loss whose curvature depends on the row."""

    def function(block: Block) -> tuple[Tensor]:
        weight = block.weight * loss.curvature(population.output(block.columns))
        return (weighted_gram(block.columns, weight),)

    matrix = rows.reduce(function)[0]
    return factorise(matrix, ridge, population.weight.dtype).with_gradient(gradient)


def _evaluate(
    rows: RowSource, population: Population, loss: Loss, ridge: Tensor
) -> tuple[Tensor, Tensor]:
    """Return objectives, and negative gradients of shape (n_members, n_columns + 1, n_outputs)."""

    def function(block: Block) -> tuple[Tensor, Tensor]:
        output = population.output(block.columns)
        residual = loss.residual(output, block.target) * block.weight[:, None]
        slope = torch.cat(
            [residual.sum(dim=2)[:, None], inner_products(block.columns, residual)], dim=1
        )
        value = (loss.value(output, block.target) * block.weight).sum(dim=1)
        return value.double(), slope.double()

    value, slope = rows.reduce(function)
    beta = coefficients(population)
    pull = ridge[..., None] * beta
    return value + 0.5 * (pull * beta).sum(dim=(1, 2)), slope - pull
