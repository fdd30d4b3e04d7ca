r"""Pinball losses: absolute error, quantiles, and Huber's loss, smoothed where they have a kink.

Around the kink of the pinball loss :math:`\rho_\tau(u) = \max(\tau u, (\tau - 1) u)` of a residual
:math:`u = y - \eta` there is a parabola of half-width :math:`h`: its convolution with a uniform
kernel [1]_, which for :math:`\tau = 1/2` is Huber's loss [2]_. Times :math:`2 h / P`, where
:math:`P` is the share of residuals within :math:`h`, its curvature is 1 on average, so that it is
to the engine what squared error is: least squares on pseudo-data [3]_.

References
----------
.. [1] M. Fernandes, E. Guerre and E. Horta, "Smoothing quantile regressions", Journal of Business &
   Economic Statistics 39, 2021.
.. [2] P. J. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics
   35, 1964.
.. [3] D. Nychka, G. Gray, P. Haaland, D. Martin and M. O'Connell, "A nonparametric regression
   approach to syringe grading for quality improvement", Journal of the American Statistical
   Association 90, 1995.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .losses import Loss
from .statistics import weighted_quantiles

__all__ = ["Pinball", "huber", "quantile_loss"]

# The share of residuals in the smoothed part, for each unit of quantile * (1 - quantile).
_SHARE = 0.8
# Of the median absolute residual: 1.345 standard deviations of a normal distribution, where the
# efficiency is 95 %; and the share of that distribution within them.
_HUBER, _HUBER_SHARE = 1.345 / 0.674490, 0.821377
# The parabola is at least so wide, in mean absolute residuals: half of them may be zero.
_NARROWEST = 0.01


@dataclass(frozen=True, eq=False)
class Pinball(Loss):
    """The smoothed pinball loss, summed over outputs.

    Generations are judged by the loss itself, with its kink and in units of the target, since the
    scale follows the residuals.

    Parameters
    ----------
    quantile : float in (0, 1)
    share : float
        Of the residuals within the width, about.
    level, reach : float
        The width is ``reach`` times this quantile of the absolute residuals.
    width : Tensor of shape (..., n_outputs, 1)
    """

    quantile: float
    share: float
    level: float
    reach: float
    width: Tensor

    is_deviance = True
    is_adaptive = True

    @property
    def is_corrected(self) -> bool:  # type: ignore[override]
        """Only the median: the few rows around another quantile are too noisy for it."""
        return self.quantile == 0.5

    @property
    def highest_curvature(self) -> float:  # type: ignore[override]
        """The curvature within the width."""
        return 1.0 / self.share

    def value(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample."""
        error = target - output
        width = self.width.to(error)
        near = error.clamp(-width, width)
        # Within the width the parabola, outside of it the straight line that touches it.
        value = near * (error - 0.5 * near) + 0.5 * width.square()
        return ((value + (2.0 * self.quantile - 1.0) * width * error) / self.share).sum(dim=-2)

    def residual(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the negative gradient."""
        error = target - output
        width = self.width.to(error)
        return (error.clamp(-width, width) + (2.0 * self.quantile - 1.0) * width) / self.share

    def judged(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the pinball loss of each sample, in units of the target."""
        error = target - output
        return torch.maximum(self.quantile * error, (self.quantile - 1.0) * error).sum(dim=-2)

    def reported(self, value: float, n_outputs: int) -> float:
        """Return the pinball loss, averaged over outputs."""
        return value / n_outputs

    def beyond(self, base: Tensor, target: Tensor) -> tuple[Loss, Tensor]:
        """Return the loss of what is added to a fixed output: of what is left of the target."""
        return self, target - base

    def at_scale(self, output: Tensor, target: Tensor, weight: Tensor) -> Loss:
        """Return the loss with the width that these residuals say."""
        error = (target - output).abs()
        width = self.reach * weighted_quantiles(error, weight, [self.level])
        share = (weight / weight.sum(dim=-1, keepdim=True))[..., None]
        width = torch.maximum(width, _NARROWEST * (error @ share))
        # To the next 64th of an octave: how the residuals were rounded should not matter.
        return replace(self, width=torch.exp2((64.0 * width.log2()).round() / 64.0))

    def at_scale_of(self, other: Loss) -> Loss:
        """Return the loss with the width of another one, if that has one."""
        return replace(self, width=other.width) if isinstance(other, Pinball) else self


def quantile_loss(quantile: float) -> Pinball:
    """Return the pinball loss of a quantile, smoothed a little; absolute error for 0.5."""
    share = _SHARE * quantile * (1.0 - quantile)
    return Pinball(quantile, share, share, 1.0, torch.ones(1, 1))


def huber() -> Pinball:
    """Return Huber's loss, with the parabola of 1.345 robust standard deviations."""
    return Pinball(0.5, _HUBER_SHARE, 0.5, _HUBER, torch.ones(1, 1))
