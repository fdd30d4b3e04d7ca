"""Selection: which input columns a member sees, where there are many.

The head holds all columns that a member sees, and its cost grows with their square. Of many columns
only those are seen that tell most about the target, each on its own: with the column cut into eight
parts of equal weight, the share of the target's variance that lies between the parts (the
correlation ratio [1]_). It finds dependence of any form, but not a column that acts through its
interactions alone.

References
----------
.. [1] K. Pearson, "On the general theory of skew correlation and non-linear regression", Drapers'
   Company Research Memoirs 14, 1905.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .statistics import weighted_quantiles
from .topology import Index

__all__ = ["MOST_INPUTS", "correlation_ratio", "most_telling"]

# A head holds at most so many input columns.
MOST_INPUTS = 300

_N_PARTS = 8


def correlation_ratio(columns: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the share of the target's variance that lies between parts of each column.

    Parameters
    ----------
    columns : Tensor of shape (n_columns, n_samples)
    target : Tensor of shape (n_outputs, n_samples)
    weight : Tensor of shape (n_samples,)

    Returns
    -------
    Tensor of shape (n_columns,)
        In [0, 1]; of the variances summed over outputs.
    """
    total = weight.sum()
    centred = (target - (target @ (weight / total))[:, None]).to(columns.dtype)
    weighted = centred * weight
    levels = [part / _N_PARTS for part in range(1, _N_PARTS)]
    parts = torch.searchsorted(weighted_quantiles(columns, weight, levels), columns.contiguous())
    between = columns.new_zeros(len(columns))
    for part in range(_N_PARTS):
        inside = (parts == part).to(columns.dtype)
        share, summed = inside @ weight, inside @ weighted.T
        between += torch.where(share > 0, summed.square().sum(dim=1) / share, 0.0)
    variance, square = ((part.square() @ weight).sum() for part in (centred, target))
    # The variance of a constant is rounding.
    return between / variance if variance > 1e-12 * square else torch.zeros_like(between)


def most_telling(columns: Tensor, target: Tensor, weight: Tensor, n_most: int) -> Index:
    """Return the columns with the highest correlation ratio.

    Parameters
    ----------
    columns : Tensor of shape (n_columns, n_samples)
    target : Tensor of shape (n_outputs, n_samples)
    weight : Tensor of shape (n_samples,)
    n_most : int

    Returns
    -------
    ndarray of shape (n_most,)
        In ascending order.
    """
    ratio = correlation_ratio(columns, target, weight).numpy(force=True)
    return np.sort(np.argsort(-ratio, kind="stable")[:n_most])
