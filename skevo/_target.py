"""Targets of a regression: brought to the network's units, and outputs back to the user's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .core.statistics import positive_range, weighted_quantiles, widened_range

__all__ = ["TargetUnits", "logarithmic", "pinball", "standard"]

Floats = NDArray[np.float64]

# Spreads below this share of the location are rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class TargetUnits:
    """How targets are brought to the network, and its outputs back.

    Attributes
    ----------
    shift, scale : ndarray of shape (n_outputs,)
        The network is given ``(target - shift) / scale``.
    offset, factor : ndarray of shape (n_outputs,)
        A prediction, or its logarithm, is ``offset + factor * output``.
    low, high : ndarray of shape (n_outputs,)
        What it is clipped to: the widened range of the targets, or its logarithm.
    log : bool
        Whether predictions are made as logarithms.
    """

    shift: Floats
    scale: Floats
    offset: Floats
    factor: Floats
    low: Floats
    high: Floats
    log: bool = False

    def __call__(self, target: Floats) -> Floats:
        """Return targets of shape (n_samples, n_outputs) in the network's units."""
        return (target - self.shift) / self.scale

    def values(self, output: torch.Tensor) -> torch.Tensor:
        """Return what outputs stand for among targets in the network's units."""
        return output.exp() if self.log else output

    @property
    def limits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What such values are clipped to, of shape (n_outputs, 1)."""
        bounds = np.stack([self.low, self.high])
        low, high = torch.from_numpy(self(np.exp(bounds) if self.log else bounds))
        return low[:, None], high[:, None]

    def predictions(self, output: Floats) -> Floats:
        """Return predictions from outputs with factor and offset, which are overwritten."""
        np.clip(output, self.low, self.high, out=output)
        return np.exp(output, out=output) if self.log else output


def standard(target: Floats, weight: Floats) -> TargetUnits:
    """Return units of mean 0 and deviation 1.

    Parameters
    ----------
    target : ndarray of shape (n_samples, n_outputs)
    weight : ndarray of shape (n_samples,)
    """
    mean = np.average(target, axis=0, weights=weight)
    deviation = np.sqrt(np.average((target - mean) ** 2, axis=0, weights=weight))
    return _linear(target, mean, deviation)


def pinball(target: Floats, weight: Floats, quantile: float) -> TargetUnits:
    """Return units in which the quantile is 0, and has a pinball loss of 1."""
    rows, weights = torch.from_numpy(target.T), torch.from_numpy(weight)
    center = weighted_quantiles(rows, weights, [quantile])[:, 0].numpy()
    error = target - center
    loss = np.maximum(quantile * error, (quantile - 1.0) * error)
    return _linear(target, center, np.average(loss, axis=0, weights=weight))


def logarithmic(target: Floats, weight: Floats) -> TargetUnits:
    """Return units of mean 1, in which the output 0 stands for the mean."""
    mean = np.average(target, axis=0, weights=weight)
    low, high = positive_range(torch.from_numpy(target.T), torch.from_numpy(weight))
    return TargetUnits(
        shift=np.zeros_like(mean),
        scale=mean,
        offset=np.log(mean),
        factor=np.ones_like(mean),
        low=low.log()[:, 0].numpy(),
        high=high.log()[:, 0].numpy(),
        log=True,
    )


def _linear(target: Floats, shift: Floats, spread: Floats) -> TargetUnits:
    """Return units shifted and divided by the spread of the targets, where they have one."""
    scale = np.where(spread > _ROUNDING * np.abs(shift), spread, 1.0)
    low, high = (bound[:, 0].numpy() for bound in widened_range(torch.from_numpy(target.T)))
    return TargetUnits(shift, scale, shift, scale, low, high)
