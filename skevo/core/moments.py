r"""Moments: second moments of columns and targets, all that squared error has to know of the rows.

Columns are augmented, :math:`[1, c]`: the first coordinate is the intercept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .rows import Block, RowSource

__all__ = ["Moments", "extend_moments", "measure_moments", "variances", "weighted_gram"]

# Columns whose variance is below this share of their mean square are constant to rounding.
_CONSTANT = 1e-12


@dataclass(frozen=True)
class Moments:
    r"""Weighted sums of products over rows, in float64.

    Attributes
    ----------
    gram : Tensor of shape (..., n_columns + 1, n_columns + 1)
        :math:`\sum_i w_i [1, c_i][1, c_i]'`.
    cross : Tensor of shape (..., n_columns + 1, n_outputs)
        :math:`\sum_i w_i [1, c_i] y_i'`.
    square : Tensor of shape (..., n_outputs)
        :math:`\sum_i w_i y_i^2`.
    """

    gram: Tensor
    cross: Tensor
    square: Tensor

    def squared_residual(self, beta: Tensor) -> Tensor:
        """Return the weighted sum of squared residuals of the head ``beta``, over all outputs.

        Where the residual is smaller than the rounding of the sums, it is taken for that rounding.
        """
        fitted = (beta * (2.0 * self.cross - self.gram @ beta)).sum(dim=(-2, -1))
        total = self.square.sum(dim=-1)
        return torch.maximum(total - fitted, 1e-15 * total)

    def gradient(self, beta: Tensor, ridge: Tensor) -> Tensor:
        """Return the negative gradient of half the squared residual and the penalty."""
        return self.cross - self.gram @ beta - ridge[..., None] * beta

    def without(self, gone: Tensor) -> Moments:
        """Return the moments once some columns are zero: ``gone``, of shape (..., n_columns)."""
        stay = torch.cat([torch.ones_like(gone[..., :1]), ~gone], dim=-1)
        gram = self.gram * stay[..., None] * stay[..., None, :]
        return Moments(gram, self.cross * stay[..., None], self.square)

    def compact(self, kept: Tensor) -> Moments:
        """Return the moments of some columns of each member, or of zero where one is negative.

        Parameters
        ----------
        kept : Tensor of shape (n_members, n_kept), int64
        """
        at = torch.cat([torch.zeros_like(kept[:, :1]), kept.clamp(min=0) + 1], dim=1)
        member = torch.arange(len(kept), device=kept.device)[:, None]
        gram = self.gram[member[..., None], at[..., None], at[:, None]]
        return Moments(gram, self.cross[member, at], self.square).without(kept < 0)


def weighted_gram(columns: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted Gram matrix of the augmented columns of some rows, in float64.

    Parameters
    ----------
    columns : Tensor of shape (..., n_columns, n_samples)
    weight : Tensor of shape (..., n_samples)

    Returns
    -------
    Tensor of shape (..., n_columns + 1, n_columns + 1)
    """
    weighted = columns * weight[..., None, :]
    first = torch.cat([weight.sum(dim=-1)[..., None], weighted.sum(dim=-1)], dim=-1).double()
    others = torch.cat([first[..., None, 1:], (weighted @ columns.mT).double()], dim=-2)
    return torch.cat([first[..., None], others], dim=-1)


def measure_moments(rows: RowSource) -> Moments:
    """Return the moments of the columns that the rows hold."""

    def function(block: Block) -> tuple[Tensor, ...]:
        weighted = block.target * block.weight[..., None, :]
        cross = torch.cat([weighted.sum(dim=-1)[..., None, :], block.columns @ weighted.mT], dim=-2)
        square = (weighted * block.target).sum(dim=-1)
        return weighted_gram(block.columns, block.weight), cross.double(), square.double()

    return Moments(*rows.reduce(function))


def extend_moments(rows: RowSource, moments: Moments) -> Moments:
    """Return the moments of rows that have got columns since theirs were measured."""
    n_old = moments.gram.shape[-1] - 1

    def function(block: Block) -> tuple[Tensor, ...]:
        new = block.columns[..., n_old:, :] * block.weight[..., None, :]
        with_intercept = torch.cat([new.sum(dim=-1)[..., None, :], block.columns @ new.mT], dim=-2)
        return with_intercept.double(), (new @ block.target.mT).double()

    new, cross = rows.reduce(function)
    upper = torch.cat([moments.gram, new[..., : n_old + 1, :].mT], dim=-2)
    gram = torch.cat([upper, new], dim=-1)
    return Moments(gram, torch.cat([moments.cross, cross], dim=-2), moments.square)


def variances(gram: Tensor) -> Tensor:
    """Return each column's variance from a Gram matrix; exactly 0 for constant columns.

    Parameters
    ----------
    gram : Tensor of shape (..., n_columns + 1, n_columns + 1)

    Returns
    -------
    Tensor of shape (..., n_columns)
    """
    total = gram[..., :1, 0]
    mean = gram[..., 0, 1:] / total
    square = gram.diagonal(dim1=-2, dim2=-1)[..., 1:] / total
    variance = square - mean.square()
    return torch.where(variance > _CONSTANT * square, variance, 0.0)
