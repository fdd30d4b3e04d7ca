"""Weighted statistics that treat a weight of k as k copies of a row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    "kept_positive",
    "limited_range",
    "midmean",
    "midmean_weights",
    "positive_range",
    "target_range",
    "weighted_deviation",
    "weighted_quantiles",
    "widened_range",
]

# An extreme value that so many rows have is a limit of the targets: a ceiling, a floor, a scale's
# end. Else the largest of some rows is alone, or nearly so.
_LIMITING = 5.0


def midmean(values: Tensor) -> Tensor:
    """Return the interquartile mean: what remains without the lowest and the highest quarter.

    Parameters
    ----------
    values : Tensor of shape (n, ...)
        Of which n // 4 are left out at either end; none where n < 4.

    Returns
    -------
    Tensor of shape (...)
    """
    n = len(values)
    left_out = n // 4
    if not left_out:
        return values.mean(dim=0)
    # A few long vectors are sorted faster by comparing neighbours, odd and even in turn, than
    # element by element.
    ordered = list(values.unbind())
    for step in range(n):
        for k in range(step % 2, n - 1, 2):
            low, high = ordered[k], ordered[k + 1]
            ordered[k], ordered[k + 1] = torch.minimum(low, high), torch.maximum(low, high)
    heard = ordered[left_out : n - left_out]
    return sum(heard[1:], heard[0]) / len(heard)


def midmean_weights(values: Tensor) -> Tensor:
    """Return the weight that each value has in `midmean`.

    Parameters
    ----------
    values : Tensor of shape (n, ...)

    Returns
    -------
    Tensor of shape (n, ...)
        Its sum along the first dimension is 1.
    """
    n = len(values)
    left_out = n // 4
    place = values.argsort(dim=0, stable=True).argsort(dim=0)
    heard = (place >= left_out) & (place < n - left_out)
    return heard.to(values.dtype) / (n - 2 * left_out)


def weighted_deviation(columns: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted standard deviation of each column.

    Parameters
    ----------
    columns : Tensor of shape (..., n_columns, n_samples)
    weight : Tensor of shape (..., n_samples)

    Returns
    -------
    Tensor of shape (..., n_columns)
    """
    share = (weight / weight.sum(dim=-1, keepdim=True))[..., None]
    centred = columns - columns @ share
    return (centred.square() @ share).sqrt()[..., 0]


def widened_range(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return the range of columns and a tenth more.

    Parameters
    ----------
    columns : Tensor of shape (..., n_columns, n_samples)

    Returns
    -------
    low, high : Tensor of shape (..., n_columns, 1)
    """
    low, high = columns.amin(dim=-1, keepdim=True), columns.amax(dim=-1, keepdim=True)
    margin = 0.1 * (high - low)
    return low - margin, high + margin


def target_range(target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return how low and how high predictions may go.

    The range of the targets and a tenth more; nothing more where five rows or more have the lowest
    or the highest target.

    Parameters
    ----------
    target : Tensor of shape (..., n_outputs, n_samples)
    weight : Tensor of shape (..., n_samples)

    Returns
    -------
    low, high : Tensor of shape (..., n_outputs, 1)
    """
    low, high = target.amin(dim=-1, keepdim=True), target.amax(dim=-1, keepdim=True)
    at_low, at_high = ((target == end).to(weight) @ weight[..., None] for end in (low, high))
    return limited_range(low, high, at_low, at_high)


def limited_range(
    low: Tensor, high: Tensor, at_low: Tensor, at_high: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the `target_range` of targets of which four numbers are known.

    Parameters
    ----------
    low, high : Tensor of shape (..., n_outputs, 1)
        The lowest and the highest one.
    at_low, at_high : Tensor of shape (..., n_outputs, 1)
        Weight of the rows that have them.
    """
    wide_low, wide_high = widened_range(torch.cat([low, high], dim=-1))
    return (
        torch.where(at_low < _LIMITING, wide_low, low),
        torch.where(at_high < _LIMITING, wide_high, high),
    )


def positive_range(target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return how low and how high predictions may go that have to stay positive.

    The `target_range`, but not below a thousandth of the smallest positive target, or of the mean
    where that is smaller.

    Parameters
    ----------
    target : Tensor of shape (..., n_outputs, n_samples)
        Not negative.
    weight : Tensor of shape (..., n_samples)

    Returns
    -------
    low, high : Tensor of shape (..., n_outputs, 1)
    """
    smallest = torch.where(target > 0, target, torch.inf).amin(dim=-1, keepdim=True)
    mean = target @ (weight / weight.sum(dim=-1, keepdim=True))[..., None]
    return kept_positive(*target_range(target, weight), smallest, mean)


def kept_positive(
    low: Tensor, high: Tensor, smallest: Tensor, mean: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the `positive_range` of targets of which four numbers are known.

    Parameters
    ----------
    low, high : Tensor of shape (..., n_outputs, 1)
        Of their `target_range`.
    smallest : Tensor of shape (..., n_outputs, 1)
        The smallest positive one.
    mean : Tensor of shape (..., n_outputs, 1)
    """
    # Without a positive target any small number does.
    small = torch.where(mean > 0, torch.minimum(smallest, mean), 1.0)
    low = torch.maximum(low, 1e-3 * small)
    return low, torch.maximum(low, high)


def weighted_quantiles(columns: Tensor, weight: Tensor, levels: Sequence[float]) -> Tensor:
    """Return weighted quantiles of each column (the inverse of its distribution function).

    Parameters
    ----------
    columns : Tensor of shape (..., n_columns, n_samples)
    weight : Tensor of shape (..., n_samples)
    levels : sequence of float in (0, 1), of length n_levels

    Returns
    -------
    Tensor of shape (..., n_columns, n_levels)
        Values that occur in the column: repeating a row or weighting it gives the same ones.
    """
    order = _argsort(columns)
    ordered = columns.gather(-1, order)
    weight = weight.double()[..., None, :].expand_as(order)
    cumulative = weight.gather(-1, order).cumsum(dim=-1)
    # A hair below the level, so that rounding of the sums cannot move a quantile by a row.
    wanted = torch.tensor(levels, dtype=torch.float64, device=columns.device) * (1 - 1e-9)
    index = torch.searchsorted(cumulative, wanted * cumulative[..., -1:])
    return ordered.gather(-1, index.clamp(max=columns.shape[-1] - 1))


def _argsort(columns: Tensor) -> Tensor:
    """Return the rows of each column in ascending order; those of equal values in any."""
    if columns.device.type != "cpu":
        return columns.argsort(dim=-1)
    # NumPy sorts several numbers at a time.
    return torch.from_numpy(columns.detach().numpy().argsort(axis=-1))
