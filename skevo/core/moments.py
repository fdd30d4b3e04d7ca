r"""Moments: second moments of columns and targets, all that squared error has to know of the rows.

Columns are augmented, :math:`[1, c]`: the first coordinate is the intercept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .linalg import gram
from .rows import Block, RowSource

__all__ = [
    "Moments", "Products", "extend_moments", "measure_moments", "sum_in_parts", "times",
    "variances", "weighted_gram", "with_targets",
]  # fmt: skip

# Columns whose variance is below this share of their mean square are constant to rounding.
_CONSTANT = 1e-12

# Rows whose products are summed in the precision of the columns.
_PART = 4096
# Members of more values than these are gone through one by one.
_LARGE = 2**16


class Products(NamedTuple):
    r"""Weighted sums of products over rows of columns that join others, in float64.

    Attributes
    ----------
    present : Tensor of shape (..., n_new, n_columns + 1)
        With the augmented columns that they join.
    among : Tensor of shape (..., n_new, n_new)
    target : Tensor of shape (..., n_new, n_outputs)
    """

    present: Tensor
    among: Tensor
    target: Tensor


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

    def equal(self, other: Moments, rounding: float) -> bool:
        """Whether others are the same, but for a share of the columns' and targets' squares."""
        column = self.gram.diagonal(dim1=-2, dim2=-1).sqrt()[..., None]
        columns = (self.gram - other.gram.to(self.gram)).abs() <= rounding * column * column.mT
        target = self.square.sqrt()[..., None, :]
        targets = (self.cross - other.cross.to(self.cross)).abs() <= rounding * column * target
        return bool(columns.all() and targets.all())

    def extended(self, new: Products) -> Moments:
        """Return the moments with columns added behind the present ones."""
        upper = torch.cat([self.gram, new.present], dim=-2)
        lower = torch.cat([new.present.mT, new.among], dim=-2)
        cross = torch.cat([self.cross, new.target], dim=-2)
        return Moments(torch.cat([upper, lower], dim=-1), cross, self.square)

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


def times(columns: Tensor, weight: Tensor) -> Tensor:
    """Return columns times the weights of rows: themselves, without a pass over them, if all are 1.

    Parameters
    ----------
    columns : Tensor of shape (..., n_columns, n_samples)
    weight : Tensor of shape (..., 1, n_samples)
    """
    # Elsewhere it would take longer to look at the weights.
    if weight.device.type == "cpu" and bool((weight == 1).all()):
        return columns
    return columns * weight


def inner_products(left: Tensor, right: Tensor) -> Tensor:
    """Return the products of columns with others, summed over rows: ``left @ right.mT``.

    What BLAS libraries do depends on which factor comes first. A few columns do best there, else
    the many.

    Parameters
    ----------
    left : Tensor of shape (..., n_left, n_samples)
    right : Tensor of shape (..., n_right, n_samples)

    Returns
    -------
    Tensor of shape (..., n_left, n_right)
    """
    n_left, n_right = left.shape[-2], right.shape[-2]
    few = min(n_left, n_right) <= (15 if left.dtype == torch.float32 else 2)
    if n_right < n_left if few else n_right > n_left:
        return (right @ left.mT).mT
    return left @ right.mT


def sum_in_parts(n_rows: int, function: Callable[[slice], Tensor]) -> Tensor:
    """Return the sum over parts of a block of what a function returns for their rows, in float64.

    Within a part sums are in the precision of the columns: in single precision over many rows they
    would be off by more than nearly dependent columns differ.
    """
    total: Tensor | None = None
    for start in range(0, n_rows, _PART):
        part = function(slice(start, start + _PART)).double()
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def _weighted_products(left: Tensor, right: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted products of augmented columns with other columns, in float64.

    Parameters
    ----------
    left : Tensor of shape (..., n_left, n_samples)
    right : Tensor of shape (..., n_right, n_samples)
    weight : Tensor of shape (..., n_samples)

    Returns
    -------
    Tensor of shape (..., n_left + 1, n_right)
    """

    def function(some: slice) -> Tensor:
        weighted = times(right[..., some], weight[..., None, some])
        return torch.cat(
            [weighted.sum(dim=-1)[..., None, :], inner_products(left[..., some], weighted)], dim=-2
        )

    return sum_in_parts(weight.shape[-1], function)


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
    if columns.ndim > 2 and columns.device.type == "cpu" and columns[0].numel() > _LARGE:
        # One after the other, in the cache.
        return torch.stack([weighted_gram(*one) for one in zip(columns, weight, strict=True)])

    def function(some: slice) -> Tensor:
        own, own_weight = columns[..., some], weight[..., None, some]
        sums = times(own, own_weight).sum(dim=-1)[..., None, :]
        return torch.cat([sums, gram(times(own, own_weight.sqrt()))], dim=-2)

    products = sum_in_parts(weight.shape[-1], function)
    total = weight.sum(dim=-1, dtype=torch.float64)[..., None]
    first = torch.cat([total, products[..., 0, :]], dim=-1)
    return torch.cat([first[..., None], products], dim=-1)


def measure_moments(rows: RowSource) -> Moments:
    """Return the moments of the columns that the rows hold."""

    def function(block: Block) -> tuple[Tensor, ...]:
        return weighted_gram(block.columns, block.weight), *_of_targets(block)

    return Moments(*rows.reduce(function))


def with_targets(rows: RowSource, moments: Moments) -> Moments:
    """Return the moments of rows whose targets have changed since they were measured."""
    return Moments(moments.gram, *rows.reduce(_of_targets))


def _of_targets(block: Block) -> tuple[Tensor, Tensor]:
    target, weight = block.target, block.weight
    square = (target.square() * weight[..., None, :]).sum(dim=-1, dtype=torch.float64)
    return _weighted_products(block.columns, target, weight), square


def extend_moments(rows: RowSource, moments: Moments) -> Moments:
    """Return the moments of rows that have got columns since theirs were measured."""
    n_old = moments.gram.shape[-1] - 1

    def function(block: Block) -> tuple[Tensor, ...]:
        new = block.columns[..., n_old:, :]
        return (
            _weighted_products(block.columns, new, block.weight).mT,
            _weighted_products(new, block.target, block.weight)[..., 1:, :],
        )

    both, target = rows.reduce(function)
    return moments.extended(Products(both[..., : n_old + 1], both[..., n_old + 1 :], target))


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
