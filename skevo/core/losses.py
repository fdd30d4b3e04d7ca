r"""Losses: value, negative gradient and curvature with respect to the output.

The exact solver asks a loss for a quadratic model of itself around the present output,
:math:`\ell(\eta + d) \approx \ell(\eta) - r d + h d^2 / 2`, with the residual
:math:`r = -\partial\ell/\partial\eta` and a curvature :math:`h`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["CrossEntropy", "LogLoss", "Loss", "SquaredError", "TorchLoss"]


class Loss(ABC):
    """What the engine asks of a loss; outputs and targets have shape (..., n_outputs, n_samples).

    Attributes
    ----------
    highest_curvature : float
        A number that the curvature nowhere exceeds.
    newton : bool
        Whether the loss is solved with its curvature, computed anew at each step, instead of with
        that fixed bound.
    known_scale : bool
        Whether the loss is a negative log-likelihood, whose noise has a known size.
    """

    highest_curvature: float = 1.0
    newton: bool = False
    known_scale: bool = False

    @property
    def bound(self) -> float | None:
        """The bound on the curvature that the loss is solved with; None if it is not."""
        return None if self.newton else self.highest_curvature

    @abstractmethod
    def value(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample, of shape (..., n_samples)."""

    @abstractmethod
    def residual(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the negative gradient, of shape (..., n_outputs, n_samples)."""

    def curvature(self, output: Tensor) -> Tensor:
        """Return the curvature of each sample, of shape (n_samples,), or the bound on it."""
        return torch.full_like(output[..., 0, :], self.highest_curvature)

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
            With a bound.
        target : Tensor of shape (..., n, n_samples)
        """
        return _Beyond(self), torch.cat([target, base], dim=-2)


@dataclass(frozen=True)
class SquaredError(Loss):
    """Half the squared error, summed over outputs; its quadratic model is exact."""

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

    highest_curvature = 0.25
    newton = True
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

    highest_curvature = 0.5
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
        self.highest_curvature = loss.highest_curvature
        self.known_scale = loss.known_scale

    def value(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample."""
        target, base = target.chunk(2, dim=-2)
        return self._loss.value(base + output, target)

    def residual(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the negative gradient."""
        target, base = target.chunk(2, dim=-2)
        return self._loss.residual(base + output, target)
