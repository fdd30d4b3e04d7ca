"""Weighted statistics that treat a weight of k as k copies of a row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["weighted_deviation", "weighted_quantiles"]


def weighted_deviation(columns: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted standard deviation of each column.

    Parameters
    ----------
    columns : Tensor of shape (n_columns, n_samples)
    weight : Tensor of shape (n_samples,)

    Returns
    -------
    Tensor of shape (n_columns,)
    """
    share = weight / weight.sum()
    centred = columns - (columns @ share)[:, None]
    return (centred.square() @ share).sqrt()


def weighted_quantiles(columns: Tensor, weight: Tensor, levels: Sequence[float]) -> Tensor:
    """Return weighted quantiles of each column (the inverse of its distribution function).

    Parameters
    ----------
    columns : Tensor of shape (n_columns, n_samples)
    weight : Tensor of shape (n_samples,)
    levels : sequence of float in (0, 1), of length n_levels

    Returns
    -------
    Tensor of shape (n_columns, n_levels)
        Values that occur in the column: repeating a row or weighting it gives the same ones.
    """
    ordered, order = columns.sort(dim=1)
    cumulative = weight.double()[order].cumsum(dim=1)
    # A hair below the level, so that rounding of the sums cannot move a quantile by a row.
    wanted = torch.tensor(levels, dtype=torch.float64, device=columns.device) * (1 - 1e-9)
    index = torch.searchsorted(cumulative, wanted * cumulative[:, -1:])
    return ordered.gather(1, index.clamp(max=columns.shape[1] - 1))
