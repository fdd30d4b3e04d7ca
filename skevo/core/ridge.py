"""Ridge: the head's penalty, chosen along its path."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .curvature import Curvature, factorise
from .heads import coefficients, with_coefficients
from .population import Population
from .settings import Settings
from .tridiagonal import eigenvalues, reduce, solve_shifted

__all__ = ["ALPHAS", "choose_alpha", "first_alpha", "heads_at", "neighbour"]

# The ridge path.
ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
# The penalty that is not given, where the choice begins.
_ALPHA = 3.0
# From that share of the variance on, left by the head, each degree of freedom counts twice.
_NOISY = 0.2


def first_alpha(settings: Settings) -> float:
    """Return the ridge penalty to start with."""
    if settings.alpha is not None:
        return settings.alpha
    return 0.0 if settings.solver == "adam" else _ALPHA


def neighbour(alpha: Tensor, step: int) -> Tensor:
    """Return the penalties so many places further along the path, which has ends.

    Parameters
    ----------
    alpha : Tensor of shape (n_members,)
        Of ``ALPHAS``.
    step : int
    """
    path = alpha.new_tensor(ALPHAS)
    place = (alpha[:, None] - path).abs().argmin(dim=1)
    return path[(place + step).clamp(0, len(ALPHAS) - 1)]


def heads_at(
    ridge: Tensor, model: Curvature, population: Population, still: Tensor | None
) -> Population:
    """Return the heads that a quadratic model has its minimum at, with another penalty.

    Parameters
    ----------
    ridge : Tensor of shape (n_members, n_columns + 1)
        Diagonal of that penalty.
    model : Curvature
        At the heads of the population.
    population : Population
    still : Tensor of shape (n_members, n_columns), bool, or None
        Weights that do not move.
    """
    beta = coefficients(population)
    slope = model.gradient + (model.ridge - ridge)[..., None] * beta
    unpenalised = model.matrix - torch.diag_embed(model.ridge)
    other = factorise(unpenalised, ridge, population.weight.dtype)
    if still is not None:
        other = other.restricted(still)
    return with_coefficients(population, beta + other.solve(slope))


def choose_alpha(
    model: Curvature,
    population: Population,
    deviation: Tensor,
    summed_loss: Tensor,
    total_weight: Tensor,
    n_averaged: int,
) -> Tensor:
    r"""Choose the ridge penalty by generalised cross-validation along the path.

    The sum of squares :math:`D(\alpha)` of the head that is optimal for :math:`\alpha` is weighed
    against the degrees of freedom :math:`d(\alpha)` of that head,

    .. math:: V_c(\alpha) = D / (1 - c d / n)^2 .

    Plain generalised cross-validation is :math:`c = 1` [1]_. Counting each degree of freedom twice
    guards against the under-smoothing that it is known for in small samples [2]_, the more so as
    nodes are selected. But it takes noise to be led astray, and averaging takes out what variance
    an under-smoothed network has [3]_: of m members, and with a share :math:`u = \min_\alpha
    V_2(\alpha) / V_2(\infty)` of the variance left,

    .. math:: c = 2 - (1 - 1 / m) (1 - \min(5 u, 1)) .

    Parameters
    ----------
    model : Curvature
        At a head whose intercept is optimal.
    population : Population
    deviation : Tensor of shape (n_members, n_columns)
        Standard deviations of the columns.
    summed_loss : Tensor of shape (n_members,)
        At the head, without penalty.
    total_weight : Tensor of shape (n_members,)
    n_averaged : int
        How many networks' outputs are averaged, these among them.

    Returns
    -------
    Tensor of shape (n_members,)
        Of ``ALPHAS``.

    References
    ----------
    .. [1] G. H. Golub, M. Heath and G. Wahba, "Generalized cross-validation as a method for
       choosing a good ridge parameter", Technometrics 21, 1979.
    .. [2] Y.-J. Kim and C. Gu, "Smoothing spline Gaussian regression: more scalable computation via
       efficient approximation", Journal of the Royal Statistical Society B 66, 2004.
    .. [3] P. Sollich and A. Krogh, "Learning with ensembles: how over-fitting can be useful",
       Advances in Neural Information Processing Systems 8, 1996.
    """
    # Standardised columns, the intercept eliminated.
    unit = torch.where(deviation > 0, deviation, torch.inf).reciprocal()
    full = model.matrix - torch.diag_embed(model.ridge)
    centred = full[:, 1:, 1:] - full[:, 1:, :1] * full[:, :1, 1:] / full[:, :1, :1]
    centred = centred * unit[..., None] * unit[:, None]
    beta = coefficients(population)
    slope = (model.gradient + model.ridge[..., None] * beta)[:, 1:] * unit[..., None]
    beta = beta[:, 1:] * deviation[..., None]
    slope = slope + centred @ beta
    empty = 2.0 * summed_loss + (2.0 * beta * slope - beta * (centred @ beta)).sum(dim=(1, 2))
    # From here on a column for each penalty of the path.
    explained, degrees = (part.to(empty) for part in _along_path(centred, slope))
    deviance = empty[:, None] - explained
    counted = (1.0 + degrees) / total_weight[:, None]
    twice = _criterion(deviance, 2.0 * counted).amin(dim=1)
    mean = empty / (1.0 - 2.0 / total_weight).square()
    # Not a number where there is no variance.
    noise = (twice / mean / _NOISY).nan_to_num(1.0, 1.0).clamp(0.0, 1.0)
    count = 2.0 - (1.0 - 1.0 / n_averaged) * (1.0 - noise)
    criterion = _criterion(deviance, count[:, None] * counted)
    # Where hardly a degree of freedom is left whatever the penalty is, it is the largest.
    alphas = criterion.new_tensor(ALPHAS)
    return torch.where(criterion.isfinite().any(dim=1), alphas[criterion.argmin(dim=1)], alphas[-1])


def _criterion(deviance: Tensor, share: Tensor) -> Tensor:
    """Return that of generalised cross-validation, with the share of degrees of freedom used."""
    # Where hardly one is left, the residual says nothing.
    return torch.where(share < 0.9, deviance / (1.0 - share).square(), torch.inf)


def _along_path(matrix: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return what heads explain along the path, and their degrees of freedom, on the CPU.

    Parameters
    ----------
    matrix : Tensor of shape (n_members, n_columns, n_columns)
        Positive semidefinite but for rounding.
    slope : Tensor of shape (n_members, n_columns, n_outputs)

    Returns
    -------
    explained : Tensor of shape (n_members, n_alphas), float64
        What the head that is optimal takes off the sum of squares, summed over outputs.
    degrees : Tensor of shape (n_members, n_alphas), float64
    """
    alphas, found = np.array(ALPHAS), []
    for own, right in zip(matrix.numpy(force=True), slope.numpy(force=True), strict=True):
        diagonal, beside, rotated = reduce(own, right)
        values = eigenvalues(diagonal, beside)
        # The sums may be in single precision, of columns that nearly depend on each other.
        lacking = max(0.0, -values[0]) + np.finfo(float).eps * len(values) * values[-1]
        solved = solve_shifted(diagonal, beside, alphas + lacking, rotated)
        found.append((values + lacking, rotated, solved))
    values, rotated, solved = (np.stack(part) for part in zip(*found, strict=True))
    degrees = (values[:, None] / (values[:, None] + alphas[:, None])).sum(axis=2)
    shrunk = alphas * np.square(solved).sum(axis=(2, 3))
    explained = (rotated[:, None] * solved).sum(axis=(2, 3)) + shrunk
    return torch.from_numpy(explained), torch.from_numpy(degrees)
