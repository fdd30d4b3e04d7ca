r"""Moments: second moments of columns and targets, all that squared error has to know of the rows.

Columns are augmented, :math:`[1, c]`: the first coordinate is the intercept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .rows import Block, RowSource
from .topology import Index

__all__ = ["Moments", "augment", "extend_moments", "measure_moments", "variances"]

# Columns whose variance is below this share of their mean square are constant to rounding.
_CONSTANT = 1e-12


@dataclass(frozen=True)
class Moments:
    r"""Weighted sums of products over rows, in float64.

    Attributes
    ----------
    gram : Tensor of shape (n_columns + 1, n_columns + 1)
        :math:`\sum_i w_i [1, c_i][1, c_i]'`.
    cross : Tensor of shape (n_columns + 1, n_outputs)
        :math:`\sum_i w_i [1, c_i] y_i'`.
    square : Tensor of shape (n_outputs,)
        :math:`\sum_i w_i y_i^2`.
    """

    gram: Tensor
    cross: Tensor
    square: Tensor

    def squared_residual(self, beta: Tensor) -> float:
        """Return the weighted sum of squared residuals of the head ``beta``, over all outputs.

        Where the residual is smaller than the rounding of the sums, it is taken for that rounding.
        """
        fitted = float((beta * (2.0 * self.cross - self.gram @ beta)).sum())
        total = float(self.square.sum())
        return max(total - fitted, 1e-15 * total)

    def gradient(self, beta: Tensor, ridge: Tensor) -> Tensor:
        """Return the negative gradient of half the squared residual and the penalty."""
        return self.cross - self.gram @ beta - ridge[:, None] * beta

    def take(self, columns: Index) -> Moments:
        """Return the moments of some of the columns."""
        at = torch.as_tensor(columns, device=self.gram.device) + 1
        at = torch.cat([at.new_zeros(1), at])
        return Moments(self.gram[at][:, at], self.cross[at], self.square)


def augment(columns: Tensor) -> Tensor:
    """Return columns with a leading column of ones, of shape (n_columns + 1, n_samples)."""
    return torch.cat([torch.ones_like(columns[:1]), columns])


def measure_moments(rows: RowSource) -> Moments:
    """Return the moments of the columns that the rows hold."""

    def function(block: Block) -> tuple[Tensor, ...]:
        columns, target = augment(block.columns), block.target
        weighted = columns * block.weight
        parts = (weighted @ columns.T, weighted @ target.T, target.square() @ block.weight)
        return tuple(part.double() for part in parts)

    return Moments(*rows.reduce(function))


def extend_moments(rows: RowSource, moments: Moments) -> Moments:
    """Return the moments of rows that have got columns since theirs were measured."""
    n_old = len(moments.gram) - 1

    def function(block: Block) -> tuple[Tensor, ...]:
        new = block.columns[n_old:] * block.weight
        products = (torch.cat([new.sum(dim=1)[None], block.columns @ new.T]), new @ block.target.T)
        return tuple(part.double() for part in products)

    new, cross = rows.reduce(function)
    gram = torch.cat([torch.cat([moments.gram, new[: n_old + 1].T]), new], dim=1)
    return Moments(gram, torch.cat([moments.cross, cross]), moments.square)


def variances(gram: Tensor) -> Tensor:
    """Return each column's variance from a Gram matrix; exactly 0 for constant columns.

    Parameters
    ----------
    gram : Tensor of shape (n_columns + 1, n_columns + 1)

    Returns
    -------
    Tensor of shape (n_columns,)
    """
    mean = gram[0, 1:] / gram[0, 0]
    square = gram.diagonal()[1:] / gram[0, 0]
    variance = square - mean.square()
    return torch.where(variance > _CONSTANT * square, variance, 0.0)
