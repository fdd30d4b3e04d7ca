"""Quantiles of the columns, which constants are drawn from."""

from __future__ import annotations

import torch
from torch import Tensor

from .statistics import weighted_quantiles

__all__ = ["N_QUANTILES", "Quantiles", "quantile_table"]

# How many quantiles of a column a constant is drawn from.
N_QUANTILES = 32


def quantile_table(columns: Tensor, weight: Tensor) -> Tensor:
    """Return the quantiles of each column that constants are drawn from.

    Parameters
    ----------
    columns : Tensor of shape (..., n_columns, n_samples)
    weight : Tensor of shape (..., n_samples)

    Returns
    -------
    Tensor of shape (..., n_columns, 32)
        At the midpoints of equal shares of the weight.
    """
    return weighted_quantiles(
        columns, weight, [(k + 0.5) / N_QUANTILES for k in range(N_QUANTILES)]
    )


class Quantiles:
    """Quantiles of columns, each computed once.

    Attributes
    ----------
    table : Tensor of shape (n_members, n_known, 32)
        Of the first columns.
    """

    def __init__(self, like: Tensor) -> None:
        self.table = like.new_empty(len(like), 0, N_QUANTILES)

    def of(self, columns: Tensor, weight: Tensor) -> Tensor:
        """Return the quantiles of columns, of which those that are new are computed.

        Parameters
        ----------
        columns : Tensor of shape (n_members, n_columns, n_samples)
        weight : Tensor of shape (n_members, n_samples)
        """
        new = columns[:, self.table.shape[1] :]
        if new.shape[1]:
            self.table = torch.cat([self.table, quantile_table(new, weight)], dim=1)
        return self.table

    def forget(self) -> None:
        """Forget everything: the columns have changed."""
        self.table = self.table[:, :0]

    def compact(self, kept: Tensor) -> None:
        """Keep some columns of each member; what stands where one is negative has no meaning.

        Parameters
        ----------
        kept : Tensor of shape (n_members, n_kept), int64
        """
        at = kept.clamp(min=0)[..., None].expand(-1, -1, N_QUANTILES)
        self.table = self.table.gather(1, at)
