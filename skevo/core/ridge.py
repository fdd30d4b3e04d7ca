"""Ridge: the head's penalty, chosen along its path."""

from __future__ import annotations

import torch
from torch import Tensor

from .heads import Curvature, coefficients
from .network import Network

__all__ = ["ALPHAS", "choose_alpha"]

# The ridge path.
ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def choose_alpha(
    model: Curvature,
    network: Network,
    deviation: Tensor,
    summed_loss: float,
    total_weight: float,
) -> float:
    r"""Choose the ridge penalty by generalised cross-validation along the path.

    The sum of squares :math:`D(\alpha)` of the head that is optimal for :math:`\alpha` is weighed
    against the degrees of freedom :math:`d(\alpha)` of that head, :math:`D / (1 - 2 d / n)^2` [1]_.
    Counting each degree of freedom twice guards against the under-smoothing that plain GCV is known
    for in small samples [2]_, the more so as nodes are selected.

    Parameters
    ----------
    model : Curvature
        At a head whose intercept is optimal.
    network : Network
    deviation : Tensor of shape (n_columns,)
        Standard deviations of the columns.
    summed_loss : float
        At the head, without penalty.
    total_weight : float

    Returns
    -------
    float
        One of ``ALPHAS``.

    References
    ----------
    .. [1] G. H. Golub, M. Heath and G. Wahba, "Generalized cross-validation as a method for
       choosing a good ridge parameter", Technometrics 21, 1979.
    .. [2] Y.-J. Kim and C. Gu, "Smoothing spline Gaussian regression: more scalable computation via
       efficient approximation", Journal of the Royal Statistical Society B 66, 2004.
    """
    # Standardised columns, the intercept eliminated.
    unit = torch.where(deviation > 0, deviation, torch.inf).reciprocal()
    full = model.matrix - torch.diag(model.ridge)
    centred = full[1:, 1:] - torch.outer(full[1:, 0], full[0, 1:]) / full[0, 0]
    centred = centred * unit[:, None] * unit
    beta = coefficients(network)[1:] * deviation[:, None]
    slope = (model.gradient + model.ridge[:, None] * coefficients(network))[1:] * unit[:, None]
    slope = slope + centred @ beta
    values, vectors = torch.linalg.eigh(centred)
    values = values.clamp(min=0.0)
    squares = (vectors.T @ slope).square().sum(dim=1)
    empty = 2.0 * summed_loss + float((2.0 * beta * slope - beta * (centred @ beta)).sum())
    best, chosen = float("inf"), ALPHAS[-1]
    for alpha in ALPHAS:
        shrunk = 1.0 / (values + alpha)
        deviance = empty - float(((2.0 - values * shrunk) * shrunk * squares).sum())
        degrees = 2.0 * (1.0 + float((values * shrunk).sum()))
        if degrees < 0.9 * total_weight:
            criterion = deviance / (1.0 - degrees / total_weight) ** 2
        else:
            continue  # hardly a degree of freedom is left
        if criterion < best:
            best, chosen = criterion, alpha
    return chosen
