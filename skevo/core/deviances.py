"""Deviances of positive targets: the output is the logarithm of the mean.

Both are halved, so that their curvature is that of a negative log-likelihood, and both are quasi-
likelihoods [1]_: the dispersion is not taken to be 1 but measured, so that a target need not be a
count, nor in units of one.

References
----------
.. [1] R. W. M. Wedderburn, "Quasi-likelihood functions, generalized linear models, and the
   Gauss-Newton method", Biometrika 61, 1974.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from .losses import Loss
from .ranges import positive_range

__all__ = ["Deviance", "GammaDeviance", "PoissonDeviance"]


@dataclass(frozen=True)
class Deviance(Loss):
    """Half a deviance with a log link, summed over outputs.

    Beyond the range that predictions are clipped to, the exponential goes on as its tangent: a row
    far from the others cannot overflow, nor hide the others by the size of its loss.

    Parameters
    ----------
    lowest, highest : float
        Of the outputs within that range.
    constant : float
        Mean loss of the best constant, which reported losses are in units of.
    """

    lowest: float = -torch.inf
    highest: float = torch.inf
    constant: float = 1.0

    metric = None
    highest_curvature = None
    is_deviance = True
    # On noisy counts and amounts a correction has fitted noise.
    is_corrected = False

    @abstractmethod
    def curvature(self, output: Tensor) -> Tensor:
        """Return the curvature of each sample; of several outputs, the highest."""

    def reported(self, value: float, n_outputs: int) -> float:
        """Return the deviance in units of that of the best constant."""
        return value / self.constant

    def limits(self, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return how low and how high outputs may go."""
        low, high = positive_range(target, weight)
        return low.log(), high.log()


@dataclass(frozen=True)
class PoissonDeviance(Deviance):
    """Half the Poisson deviance of targets that are not negative."""

    def value(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample."""
        inside = output.clamp(max=self.highest)
        mean = inside.exp() * (1.0 + output - inside)
        return (torch.xlogy(target, target) - target + mean - target * output).sum(dim=-2)

    def residual(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the negative gradient."""
        return target - output.clamp(max=self.highest).exp()

    def curvature(self, output: Tensor) -> Tensor:
        """Return the curvature, the mean."""
        return output.clamp(max=self.highest).exp().amax(dim=-2)


@dataclass(frozen=True)
class GammaDeviance(Deviance):
    """Half the gamma deviance of positive targets."""

    def value(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample."""
        inside = output.clamp(min=self.lowest)
        ratio = target * (-inside).exp() * (1.0 + inside - output)
        return (ratio - 1.0 + output - target.log()).sum(dim=-2)

    def residual(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the negative gradient."""
        return target * (-output.clamp(min=self.lowest)).exp() - 1.0

    def curvature(self, output: Tensor) -> Tensor:
        """Return the curvature that is expected: steps are Fisher's scoring."""
        return torch.ones_like(output[..., 0, :])
