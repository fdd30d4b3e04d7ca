r"""Losses: value, negative gradient and curvature with respect to the output.

The exact solver asks a loss for a quadratic model of itself around the present output,
:math:`\ell(\eta + d) \approx \ell(\eta) - r d + h d^2 / 2`, with the residual
:math:`r = -\partial\ell/\partial\eta` and a curvature :math:`h`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from .ranges import target_range

__all__ = ["CrossEntropy", "LogLoss", "Loss", "SquaredError", "TorchLoss"]

# Held-out rows cannot tell a probability of exp(-10) from a smaller one, and a row where one member
# is far astray does not matter to the average.
_MOST_LOG_LOSS = 10.0


class Loss(ABC):
    """What the engine asks of a loss; outputs and targets have shape (..., n_outputs, n_samples).

    Attributes
    ----------
    metric : float or None
        The one curvature that the loss is modelled with, so that one factorisation serves all
        steps; None if it is computed row by row, anew at each step.
    highest_curvature : float or None
        A number that the curvature nowhere exceeds; None if there is none.
    known_scale : bool
        Whether the loss is a negative log-likelihood, whose noise has a known size.
    is_deviance : bool
        Whether it is zero where the fit is perfect and never below.
    is_corrected : bool
        Whether there is something to be won by a correction of the members' average; the curvature
        has to be bounded then.
    is_adaptive : bool
        Whether it has a scale that follows the residuals; see `at_scale`.
    """

    metric: float | None = 1.0
    highest_curvature: float | None = 1.0
    known_scale: bool = False
    is_deviance: bool = False
    is_corrected: bool = True
    is_adaptive: bool = False

    @abstractmethod
    def value(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample, of shape (..., n_samples)."""

    @abstractmethod
    def residual(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the negative gradient, of shape (..., n_outputs, n_samples)."""

    def curvature(self, output: Tensor) -> Tensor:
        """Return the curvature that models each sample, of all outputs, of shape (n_samples,)."""
        assert self.metric is not None
        return torch.full_like(output[..., 0, :], self.metric)

    def judged(self, output: Tensor, target: Tensor) -> Tensor:
        """Return what generations are judged by, of shape (..., n_samples)."""
        value = self.value(output, target)
        return value.clamp(max=_MOST_LOG_LOSS) if self.known_scale else value

    def reported(self, value: float, n_outputs: int) -> float:
        """Return a mean loss as users read it."""
        return value

    def beyond(self, base: Tensor, target: Tensor) -> tuple[Loss, Tensor]:
        """Return the loss, and its targets, of what is added to a fixed output.

        Parameters
        ----------
        base, target : Tensor of shape (..., n_outputs, n_samples)

        Returns
        -------
        loss : Loss
            With one curvature.
        target : Tensor of shape (..., n, n_samples)
        """
        return _Beyond(self), torch.cat([target, base], dim=-2)

    def limits(self, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return how low and how high outputs may go, of shape (..., n_outputs, 1), if limited.

        Parameters
        ----------
        target : Tensor of shape (..., n_outputs, n_samples)
        weight : Tensor of shape (..., n_samples)
        """
        return None if self.known_scale else target_range(target, weight)

    def at_scale(self, output: Tensor, target: Tensor, weight: Tensor) -> Loss:
        """Return the loss at the scale of these residuals; shapes as in `limits`."""
        return self

    def at_scale_of(self, other: Loss) -> Loss:
        """Return the loss at the scale of another one."""
        return self


@dataclass(frozen=True)
class SquaredError(Loss):
    """Half the squared error, summed over outputs; its quadratic model is exact."""

    is_deviance = True

    def reported(self, value: float, n_outputs: int) -> float:
        """Return the mean squared error, averaged over outputs."""
        return 2.0 * value / n_outputs

    def beyond(self, base: Tensor, target: Tensor) -> tuple[Loss, Tensor]:
        """Return the squared error of what is added to a fixed output."""
        return self, target - base

    def value(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample."""
        return 0.5 * (target - output).square().sum(dim=-2)

    def residual(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the negative gradient."""
        return target - output


@dataclass(frozen=True)
class LogLoss(Loss):
    """Negative log-likelihood of a binary target in {0, 1}; the output is the log-odds."""

    metric = None
    highest_curvature = 0.25
    known_scale = True

    def value(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample."""
        return (functional.softplus(output) - target * output).sum(dim=-2)

    def residual(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the negative gradient."""
        return target - torch.sigmoid(output)

    def curvature(self, output: Tensor) -> Tensor:
        """Return the curvature, the variance of the target."""
        probability = torch.sigmoid(output[..., 0, :])
        return probability * (1.0 - probability)


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Negative log-likelihood of a one-hot target under the softmax of the outputs.

    The curvature matrix over outputs never exceeds (I - 11'/C)/2, hence I/2 [1]_.

    References
    ----------
    .. [1] D. Böhning, "Multinomial logistic regression algorithm", Annals of the Institute of
       Statistical Mathematics 44, 1992.
    """

    metric = highest_curvature = 0.5
    known_scale = True

    def value(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample."""
        return torch.logsumexp(output, dim=-2) - (target * output).sum(dim=-2)

    def residual(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the negative gradient."""
        return target - torch.softmax(output, dim=-2)


@dataclass(frozen=True)
class TorchLoss(Loss):
    """Any torch loss of (prediction, target), sample by sample.

    Candidates are ranked as if its curvature were 1.

    Parameters
    ----------
    function : callable
        ``function(prediction, target)`` of tensors of shape (n_samples, n_outputs), or (n_samples,)
        for one output. It returns a tensor of values per sample (or sample and output), which are
        averaged over outputs, or a scalar, the mean over samples.
    shift, scale : Tensor of shape (n_outputs, 1)
        Predictions and targets are given to the function as ``shift + scale * value``: in the
        user's units, while the network works in standardised ones.
    """

    function: Callable[[Tensor, Tensor], Tensor]
    shift: Tensor
    scale: Tensor

    def to(self, device: torch.device) -> TorchLoss:
        """Return the loss on another device."""
        return replace(self, shift=self.shift.to(device), scale=self.scale.to(device))

    def value(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample."""
        if output.ndim > 2:
            pairs = zip(output, target, strict=True)
            return torch.stack([self.value(*pair) for pair in pairs])
        prediction = (self.shift + self.scale * output).T
        truth = (self.shift + self.scale * target).T
        if prediction.shape[1] == 1:
            prediction, truth = prediction[:, 0], truth[:, 0]
        result = self.function(prediction, truth)
        if not isinstance(result, Tensor):
            raise TypeError(f"loss must return a tensor, got {type(result).__name__}.")
        if result.ndim == 0:
            # The function averages over samples: call it on one sample at a time, vectorised.
            result = torch.func.vmap(lambda p, t: self.function(p[None], t[None]))(
                prediction, truth
            )
        if result.shape[0] != len(prediction):
            raise ValueError(
                "loss must return a scalar or one value per sample, got a tensor of shape "
                f"{tuple(result.shape)} for {len(prediction)} samples."
            )
        return result.reshape(len(prediction), -1).mean(dim=1)

    def residual(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the negative gradient."""
        with torch.enable_grad():
            output = output.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.value(output, target).sum(), output)
        return -gradient


class _Beyond(Loss):
    """The loss of an output added to another one, which stands behind the target.

    Parameters
    ----------
    loss : Loss
    """

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self.metric = self.highest_curvature = loss.highest_curvature
        self.known_scale = loss.known_scale

    def value(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample."""
        target, base = target.chunk(2, dim=-2)
        return self._loss.value(base + output, target)

    def residual(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the negative gradient."""
        target, base = target.chunk(2, dim=-2)
        return self._loss.residual(base + output, target)
