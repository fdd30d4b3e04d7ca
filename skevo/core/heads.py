r"""Heads: the linear output, solved exactly.

The head minimises

.. math:: F(W, b) = \sum_i w_i \ell(W c_i + b, y_i)
          + \frac{\alpha}{2} \sum_j \mathrm{var}(c_j) \lVert W_{\cdot j} \rVert^2,

ridge on standardised columns. Everything is in terms of augmented columns :math:`[1, c]`: the first
coordinate is the intercept, which is not penalised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .losses import Loss, SquaredError
from .moments import Moments, augment, measure_moments, variances
from .network import Network
from .rows import Block, RowSource

__all__ = [
    "Curvature",
    "coefficients",
    "fit_head",
    "mean_loss",
    "mean_square_residual",
    "objective",
    "penalty",
    "quadratic_model",
    "with_coefficients",
]


@dataclass(frozen=True)
class Curvature:
    r"""The quadratic model of the objective at the head, in augmented columns.

    Attributes
    ----------
    matrix : Tensor of shape (n_columns + 1, n_columns + 1)
        :math:`M = \sum_i w_i h_i [1, c_i][1, c_i]' + P`, with the penalty on its diagonal.
    inverse : Tensor of shape (n_columns + 1, n_columns + 1)
        Its (pseudo-)inverse.
    half : Tensor of shape (n_columns + 1, n_columns + 1)
        ``half.T @ half`` is the inverse.
    gradient : Tensor of shape (n_columns + 1, n_outputs)
        :math:`\sum_i w_i [1, c_i] r_i' - P [b, W]'`; zero where the head is optimal.
    ridge : Tensor of shape (n_columns + 1,)
        Diagonal of the penalty P.
    degrees : float
        Effective degrees of freedom of the head, trace of the inverse times the unpenalised part.
    """

    matrix: Tensor
    inverse: Tensor
    half: Tensor
    gradient: Tensor
    ridge: Tensor
    degrees: float

    def with_gradient(self, gradient: Tensor) -> Curvature:
        """Return the model with another gradient."""
        return replace(self, gradient=gradient)


def penalty(gram: Tensor, alpha: float) -> Tensor:
    """Return the diagonal of the ridge penalty on the augmented columns.

    Constant columns get one that sends their weights to zero: they are the intercept's business,
    and without it the objective would not have one minimum.

    Parameters
    ----------
    gram : Tensor of shape (n_columns + 1, n_columns + 1)
        See `Moments`.
    alpha : float

    Returns
    -------
    Tensor of shape (n_columns + 1,)
    """
    variance = variances(gram)
    of_columns = torch.where(variance > 0, alpha * variance, gram[0, 0])
    return torch.cat([variance.new_zeros(1), of_columns])


def mean_loss(rows: RowSource, network: Network, loss: Loss) -> float:
    """Return the weighted mean loss of a network whose columns the rows hold."""

    def function(block: Block) -> tuple[Tensor]:
        value = loss.value(network.output(block.columns), block.target)
        return ((value * block.weight).sum().double(),)

    return float(rows.reduce(function)[0]) / rows.total_weight


def mean_square_residual(rows: RowSource, network: Network, loss: Loss) -> float:
    """Return the weighted mean of the squared residual, summed over outputs."""

    def function(block: Block) -> tuple[Tensor]:
        residual = loss.residual(network.output(block.columns), block.target)
        return ((residual.square() @ block.weight).sum().double(),)

    return float(rows.reduce(function)[0]) / rows.total_weight


def coefficients(network: Network) -> Tensor:
    """Return ``[b, W]'`` in float64, of shape (n_columns + 1, n_outputs)."""
    return torch.cat([network.bias[:, None], network.weight], dim=1).T.double()


def with_coefficients(network: Network, beta: Tensor) -> Network:
    """Return the network with the head ``beta`` of shape (n_columns + 1, n_outputs)."""
    beta = beta.to(network.weight.dtype)
    return replace(network, weight=beta[1:].T.contiguous(), bias=beta[0].contiguous())


def fit_head(
    rows: RowSource,
    network: Network,
    loss: Loss,
    alpha: float,
    moments: Moments,
    *,
    n_steps: int = 15,
) -> tuple[Network, Curvature]:
    """Minimise the objective over the head, starting from the present one.

    Squared error is solved from the moments, without a look at the rows. Losses with a bound on
    their curvature take accelerated steps on one factorisation (Nesterov's, restarted when the
    objective rises). Others take damped Newton steps.

    Parameters
    ----------
    rows : RowSource
        Holding the columns of the network.
    network : Network
    loss : Loss
    alpha : float
        Ridge penalty.
    moments : Moments
        Of the rows.
    n_steps : int, default=15
        At most so many steps; fewer if the objective has settled.

    Returns
    -------
    network : Network
    curvature : Curvature
        At the returned head.
    """
    gram = moments.gram
    ridge = penalty(gram, alpha)
    if loss.bound is None:
        return _newton(rows, network, loss, ridge, n_steps)
    fixed = _factorise(loss.bound * gram, ridge, network.weight.dtype)
    if isinstance(loss, SquaredError):
        beta = fixed.inverse @ moments.cross
        # One step of iterative refinement: the inverse of nearly dependent columns is inexact.
        beta = beta + fixed.inverse @ moments.gradient(beta, ridge)
        return with_coefficients(network, beta), fixed.with_gradient(torch.zeros_like(beta))
    beta = ahead = coefficients(network)
    momentum = 1.0
    value = float("inf")
    for _ in range(n_steps):
        current, gradient = _evaluate(rows, with_coefficients(network, ahead), loss, ridge)
        if current > value:
            # The momentum overshot: start again from the last point, with a plain step.
            ahead, momentum, value = beta, 1.0, float("inf")
            continue
        move = fixed.inverse @ gradient
        settled = 0.5 * float((gradient * move).sum()) <= 1e-7 * abs(current)
        new = ahead + move
        faster = 0.5 * (1.0 + (1.0 + 4.0 * momentum * momentum) ** 0.5)
        ahead = new + ((momentum - 1.0) / faster) * (new - beta)
        beta, momentum, value = new, faster, current
        if settled:
            break
    network = with_coefficients(network, beta)
    return network, fixed.with_gradient(_evaluate(rows, network, loss, ridge)[1])


def _newton(
    rows: RowSource, network: Network, loss: Loss, ridge: Tensor, n_steps: int
) -> tuple[Network, Curvature]:
    """Take damped Newton steps until the expected gain is negligible."""
    beta = coefficients(network)
    current, gradient = _evaluate(rows, network, loss, ridge)
    for _ in range(n_steps):
        model = _model(rows, network, loss, ridge, gradient)
        move = model.inverse @ gradient
        expected = 0.5 * float((gradient * move).sum())
        if expected <= 1e-6 * current:
            return network, model
        size = 1.0
        for _ in range(12):
            trial = with_coefficients(network, beta + size * move)
            value, slope = _evaluate(rows, trial, loss, ridge)
            if value < current - 1e-4 * size * expected:
                break
            size *= 0.5
        else:
            return network, model
        network, beta, current, gradient = trial, coefficients(trial), value, slope
    return network, _model(rows, network, loss, ridge, gradient)


def quadratic_model(
    rows: RowSource,
    network: Network,
    loss: Loss,
    alpha: float,
    moments: Moments | None = None,
) -> Curvature:
    """Compute the quadratic model of the objective at the network's head.

    Parameters
    ----------
    rows : RowSource
        Holding the columns of the network.
    network : Network
    loss : Loss
    alpha : float
        Ridge penalty on these rows.
    moments : Moments, default=None
        Of the rows; measured if None.
    """
    moments = measure_moments(rows) if moments is None else moments
    ridge, dtype = penalty(moments.gram, alpha), network.weight.dtype
    if isinstance(loss, SquaredError):
        gradient = moments.gradient(coefficients(network), ridge)
        return _factorise(moments.gram, ridge, dtype).with_gradient(gradient)
    gradient = _evaluate(rows, network, loss, ridge)[1]
    if loss.bound is not None:
        return _factorise(loss.bound * moments.gram, ridge, dtype).with_gradient(gradient)
    return _model(rows, network, loss, ridge, gradient)


def objective(rows: RowSource, network: Network, loss: Loss, ridge: Tensor) -> float:
    """Return the penalised summed loss."""
    return _evaluate(rows, network, loss, ridge)[0]


def _model(
    rows: RowSource, network: Network, loss: Loss, ridge: Tensor, gradient: Tensor
) -> Curvature:
    """Return the quadratic model of a loss whose curvature depends on the row."""

    def function(block: Block) -> tuple[Tensor]:
        columns = augment(block.columns)
        weight = block.weight * loss.curvature(network.output(block.columns))
        return (((columns * weight) @ columns.T).double(),)

    matrix = rows.reduce(function)[0]
    return _factorise(matrix, ridge, network.weight.dtype).with_gradient(gradient)


def _evaluate(rows: RowSource, network: Network, loss: Loss, ridge: Tensor) -> tuple[float, Tensor]:
    """Return the objective and its negative gradient, of shape (n_columns + 1, n_outputs)."""

    def function(block: Block) -> tuple[Tensor, Tensor]:
        output = network.output(block.columns)
        residual = loss.residual(output, block.target) * block.weight
        slope = torch.cat([residual.sum(dim=1)[None], block.columns @ residual.T])
        value = (loss.value(output, block.target) * block.weight).sum()
        return value.double(), slope.double()

    value, slope = rows.reduce(function)
    beta = coefficients(network)
    objective = float(value) + 0.5 * float((ridge[:, None] * beta.square()).sum())
    return objective, slope - ridge[:, None] * beta


def _factorise(unpenalised: Tensor, ridge: Tensor, dtype: torch.dtype) -> Curvature:
    """Invert the penalised curvature, by Cholesky or, where it is singular, by eigenvalues.

    Products of single-precision columns are off by their rounding, which is added to the diagonal.
    """
    rounding = 1e-6 if dtype == torch.float32 else 0.0
    matrix = unpenalised + torch.diag(ridge)
    # Unit diagonal: columns of any scale, and exact zeros for constant columns' rows.
    diagonal = matrix.diagonal()
    unit = torch.where(diagonal > 0, diagonal, 1.0).rsqrt()
    scaled = matrix * unit[:, None] * unit
    scaled.diagonal().add_(rounding)
    factor, failed = torch.linalg.cholesky_ex(scaled)
    if int(failed) or (not rounding and float(factor.diagonal().min()) < 1e-5):
        values, vectors = torch.linalg.eigh(scaled)
        keep = values > 1e-10 * values[-1]
        inverse_root = torch.where(keep, values, 1.0).rsqrt() * keep
        half = inverse_root[:, None] * vectors.T * unit
    else:
        identity = torch.eye(len(scaled), dtype=scaled.dtype, device=scaled.device)
        half = torch.linalg.solve_triangular(factor, identity, upper=False) * unit
    inverse = half.T @ half
    degrees = float((inverse * unpenalised).sum())
    return Curvature(matrix, inverse, half, torch.zeros_like(matrix[:, :0]), ridge, degrees)
