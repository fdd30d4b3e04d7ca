"""Weighted statistics that treat a weight of k as k copies of a row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["midmean", "midmean_weights", "weighted_deviation", "weighted_quantiles"]


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
