"""Targets of a regression: brought to the network's units, and outputs back to the user's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ._exact import exact_sum
from ._rows import Part, TrainingRows
from .core.held_out import HeldOut
from .core.limited import LimitedSquaredError
from .core.losses import Loss, SquaredError
from .core.ranges import LEAST, kept_positive, limited_range, margin
from .core.statistics import weighted_quantiles

__all__ = [
    "TargetRange",
    "TargetUnits",
    "columns_of",
    "logarithmic",
    "pinball",
    "refuse_text",
    "squared_error",
    "standard",
    "summed_loss_of_mean",
]

Floats = NDArray[np.float64]

# Limits that a smaller share of the rows has do not change a fit.
_LIMITED_SHARE = 0.01
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
        What it is clipped to, or its logarithm; see `skevo.core.ranges`.
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

    def of(self, y: NDArray[Any]) -> Floats:
        """Return targets as they were passed, in the network's units."""
        return self(columns_of(y))

    def values(self, output: torch.Tensor) -> torch.Tensor:
        """Return what outputs stand for among targets in the network's units."""
        return output.exp() if self.log else output

    @property
    def limits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What such values are clipped to, of shape (n_outputs, 1)."""
        bounds = np.stack([self.low, self.high])
        low, high = torch.from_numpy(self(np.exp(bounds) if self.log else bounds))
        return low[:, None], high[:, None]

    def trusted(
        self, known: TargetRange, held_out: HeldOut, inflation: torch.Tensor | None
    ) -> TargetUnits:
        """Return units whose predictions leave the range of the targets as far as errors allow.

        Parameters
        ----------
        known : TargetRange
        held_out : HeldOut
            With what the outputs stand for.
        inflation : Tensor of shape (n_members,), or None
            See `HeldOut.unexplained`.
        """
        if self.log:
            return self
        # Of errors beyond a floor or a ceiling nothing will remain.
        low, high = (end.to(held_out.outputs) for end in self._leaving(known, torch.inf).limits)
        held_out = replace(held_out, outputs=held_out.outputs.clamp(low, high))
        return self._leaving(known, margin(held_out.unexplained(inflation)).cpu()[:, None])

    def _leaving(self, known: TargetRange, share: torch.Tensor | float) -> TargetUnits:
        """Return units whose predictions leave the range by a share of it; not by a logarithm."""
        low, high = _range(known, share)
        return replace(self, low=low[:, 0].numpy(), high=high[:, 0].numpy())

    def predictions(self, output: Floats) -> Floats:
        """Return predictions from outputs with factor and offset, which are overwritten."""
        np.clip(output, self.low, self.high, out=output)
        return np.exp(output, out=output) if self.log else output


@dataclass(frozen=True)
class TargetRange:
    """What is known of the targets of some rows, and by a sum of those of all.

    Attributes
    ----------
    weight : Fraction
    total : tuple of Fraction, n_outputs of them
        Weighted sums.
    low, high : ndarray of shape (n_outputs,)
    at_low, at_high : tuple of Fraction, n_outputs of them
        Weight of the rows that have these.
    smallest : ndarray of shape (n_outputs,)
        The smallest positive target; infinite where there is none.
    single : bool
        Whether they have one dimension.
    """

    weight: Fraction
    total: tuple[Fraction, ...]
    low: Floats
    high: Floats
    at_low: tuple[Fraction, ...]
    at_high: tuple[Fraction, ...]
    smallest: Floats
    single: bool

    @classmethod
    def of(cls, part: Part) -> TargetRange:
        """Return that of some rows."""
        target = columns_of(part.y)
        positive = np.where(target > 0, target, np.inf)
        low = target.min(axis=0, initial=np.inf)
        high = target.max(axis=0, initial=-np.inf)
        return cls(
            exact_sum(part.weight),
            tuple(exact_sum(part.weight * column) for column in target.T),
            low,
            high,
            _weight_at(low, target, part.weight),
            _weight_at(high, target, part.weight),
            positive.min(axis=0, initial=np.inf),
            part.y.ndim == 1,
        )

    def __add__(self, other: TargetRange) -> TargetRange:
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return TargetRange(
            self.weight + other.weight,
            tuple(one + two for one, two in zip(self.total, other.total, strict=True)),
            low,
            high,
            _sums_at(low, (self.low, self.at_low), (other.low, other.at_low)),
            _sums_at(high, (self.high, self.at_high), (other.high, other.at_high)),
            np.minimum(self.smallest, other.smallest),
            self.single,
        )

    @property
    def mean(self) -> Floats:
        """Weighted means, of shape (n_outputs,)."""
        return np.array([float(total / self.weight) for total in self.total])


def _weight_at(end: Floats, target: Floats, weight: Floats) -> tuple[Fraction, ...]:
    """Return the weight of the rows with an extreme value, for each output."""
    return tuple(exact_sum(weight * own) for own in (target == end).T)


def _sums_at(end: Floats, *parts: tuple[Floats, tuple[Fraction, ...]]) -> tuple[Fraction, ...]:
    """Return such weights of several parts, given each one's own extreme values and weights."""
    return tuple(
        sum((weight[k] for own, weight in parts if own[k] == value), Fraction(0))
        for k, value in enumerate(end)
    )


def refuse_text(y: Any) -> None:
    """Raise ValueError for targets of text that is no number, which are labels."""
    cells = np.asarray(y)
    if cells.dtype.kind not in "OU":
        return
    for cell in cells.flat:
        if isinstance(cell, str):
            try:
                float(cell)
            except ValueError as error:
                raise ValueError(
                    f"y must be numbers, got the text {str(cell)!r}; EvolvingClassifier takes "
                    "labels."
                ) from error


def columns_of(y: NDArray[Any]) -> Floats:
    """Return targets with a column for each output."""
    return (y[:, None] if y.ndim == 1 else y).astype(np.float64)


def standard(rows: TrainingRows, known: TargetRange) -> TargetUnits:
    """Return units of mean 0 and deviation 1.

    Parameters
    ----------
    rows : TrainingRows
    known : TargetRange
        Of the rows.
    """
    mean = known.mean
    squares = rows.sum(partial(_Squares.of, center=mean)).total
    deviation = np.array([float(square / known.weight) ** 0.5 for square in squares])
    return _linear(known, mean, deviation)


def squared_error(known: TargetRange, units: TargetUnits) -> SquaredError:
    """Return the squared error of targets in these units, limited where they have limits.

    Parameters
    ----------
    known : TargetRange
    units : TargetUnits
    """
    varies = known.low < known.high
    is_floor, is_ceiling = (
        varies & (end == known_end) & (np.array(at, float) >= _LIMITED_SHARE * float(known.weight))
        for end, known_end, at in (
            (units.low, known.low, known.at_low),
            (units.high, known.high, known.at_high),
        )
    )
    if not (is_floor | is_ceiling).any():
        return SquaredError()
    low = np.where(is_floor, units(known.low), -np.inf)
    high = np.where(is_ceiling, units(known.high), np.inf)
    return LimitedSquaredError(tuple(low.tolist()), tuple(high.tolist()))


def pinball(rows: TrainingRows, known: TargetRange, quantile: float) -> TargetUnits:
    """Return units in which the quantile of a sample is 0, and has a pinball loss of 1."""
    sample = rows.sample()
    target, weight = columns_of(sample.y), sample.weight
    center = weighted_quantiles(
        torch.from_numpy(target.T), torch.from_numpy(weight), [quantile]
    )[:, 0].numpy()  # fmt: skip
    error = target - center
    loss = np.maximum(quantile * error, (quantile - 1.0) * error)
    return _linear(known, center, np.average(loss, axis=0, weights=weight))


def logarithmic(known: TargetRange) -> TargetUnits:
    """Return units of mean 1, in which the output 0 stands for the mean."""
    mean = known.mean
    smallest, middle = (torch.from_numpy(part)[:, None] for part in (known.smallest, mean))
    low, high = kept_positive(*_range(known), smallest, middle)
    return TargetUnits(
        shift=np.zeros_like(mean),
        scale=mean,
        offset=np.log(mean),
        factor=np.ones_like(mean),
        low=low.log()[:, 0].numpy(),
        high=high.log()[:, 0].numpy(),
        log=True,
    )


@dataclass(frozen=True)
class _Squares:
    """Weighted sums of squared distances from a center."""

    total: tuple[Fraction, ...]

    @classmethod
    def of(cls, part: Part, center: Floats) -> _Squares:
        squares = (columns_of(part.y) - center) ** 2
        return cls(tuple(exact_sum(part.weight * column) for column in squares.T))

    def __add__(self, other: _Squares) -> _Squares:
        return _Squares(tuple(a + b for a, b in zip(self.total, other.total, strict=True)))


def summed_loss_of_mean(part: Part, loss: Loss, units: TargetUnits) -> Fraction:
    """Return the weighted sum of the losses of rows if the output is 0, which stands for the mean.

    Parameters
    ----------
    part : Part
    loss : Loss
        Of targets in these units.
    units : TargetUnits
    """
    target = torch.from_numpy(units.of(part.y).T)
    return exact_sum(part.weight * loss.value(torch.zeros_like(target), target).numpy())


def _range(
    known: TargetRange, share: torch.Tensor | float = LEAST
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `limited_range`, of shape (n_outputs, 1)."""
    numbers = known.low, known.high, known.at_low, known.at_high
    low, high, at_low, at_high = (
        torch.from_numpy(np.array(part, float))[:, None] for part in numbers
    )
    return limited_range(low, high, at_low, at_high, share)


def _linear(known: TargetRange, shift: Floats, spread: Floats) -> TargetUnits:
    """Return units shifted and divided by the spread of the targets, where they have one."""
    scale = np.where(spread > _ROUNDING * np.abs(shift), spread, 1.0)
    low, high = _range(known)
    return TargetUnits(shift, scale, shift, scale, low[:, 0].numpy(), high[:, 0].numpy())
