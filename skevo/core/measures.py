"""Measures: what rows say of networks, and how sure that is.

The rows hold the columns of the networks; other heads on the same columns may be compared.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .heads import coefficients
from .losses import Loss
from .population import Population
from .rows import Block, RowSource

__all__ = [
    "dispersion", "mean_fall_and_error", "mean_falls_and_errors", "mean_loss",
    "mean_loss_and_error",
]  # fmt: skip

# Values of outputs of other heads that are in memory at a time.
_VALUES = 2**20


def mean_loss(
    rows: RowSource,
    population: Population,
    loss: Loss,
    limits: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the weighted mean of what each member is judged by; the rows hold its columns.

    Outputs are clipped to ``limits``, low and high of shape (n_members, n_outputs, 1).
    """
    return mean_loss_and_error(rows, population, loss, limits)[0]


def mean_loss_and_error(
    rows: RowSource,
    population: Population,
    loss: Loss,
    limits: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return `mean_loss` and its standard error."""

    def function(block: Block) -> tuple[Tensor, Tensor]:
        output = population.output(block.columns)
        value = _judged(loss, output, block.target, limits)
        weighted = value * block.weight
        return weighted.sum(dim=-1).double(), (weighted * value).sum(dim=-1).double()

    total, square = rows.reduce(function)
    mean = total / rows.total_weight
    variance = (square / rows.total_weight - mean.square()).clamp(min=0.0)
    return mean, (variance / rows.total_weight).sqrt()


def mean_fall_and_error(
    rows: RowSource, before: Population, after: Population, loss: Loss
) -> tuple[float, float]:
    """Return by how much other heads lower what is judged, and the standard error of it.

    The weighted mean over the rows of all members, whose losses are compared row by row.

    Parameters
    ----------
    rows : RowSource
        Holding the columns of both populations, which differ in their heads only.
    before, after : Population
    loss : Loss
    """
    falls, errors = mean_falls_and_errors(rows, before, coefficients(after)[:, None], loss)
    return float(falls), float(errors)


def mean_falls_and_errors(
    rows: RowSource,
    population: Population,
    heads: Tensor,
    loss: Loss,
    limits: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return by how much each of several other heads lowers what is judged, and standard errors.

    Parameters
    ----------
    rows : RowSource
        Holding the columns of the population.
    population : Population
    heads : Tensor of shape (n_members, n, n_columns + 1, n_outputs)
        ``[b, W]'`` of the others.
    loss : Loss
    limits : (Tensor, Tensor) of shape (n_members, n_outputs, 1), default=None
        What outputs are clipped to.

    Returns
    -------
    falls, errors : Tensor of shape (n,), float64
    """
    heads = heads.to(population.weight.dtype)
    weight, bias = heads[:, :, 1:].mT, heads[:, :, 0, :, None]

    def function(block: Block) -> tuple[Tensor]:
        before = _judged(loss, population.output(block.columns), block.target, limits)
        sums = []
        size = max(1, _VALUES // (block.weight.numel() * weight.shape[2]))
        for some, offset in zip(weight.split(size, dim=1), bias.split(size, dim=1), strict=True):
            # One product for several heads.
            outputs = torch.baddbmm(offset.flatten(1, 2), some.flatten(1, 2), block.columns)
            for output in outputs.unflatten(1, some.shape[1:3]).unbind(dim=1):
                fall = before - _judged(loss, output, block.target, limits)
                weighted = fall * block.weight
                # Member by member: sums that threads divide have other last bits.
                sums.append(torch.stack([weighted.sum(dim=-1), (weighted * fall).sum(dim=-1)]))
        return (torch.stack(sums).double(),)

    total_weight = rows.total_weight.sum()
    mean, square = (rows.reduce(function)[0].sum(dim=2) / total_weight).unbind(dim=1)
    return mean, ((square - mean.square()).clamp(min=0.0) / total_weight).sqrt()


def _judged(
    loss: Loss, output: Tensor, target: Tensor, limits: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Return what each row is judged by, outputs clipped to the limits."""
    return loss.judged(output if limits is None else output.clamp(*limits), target)


def dispersion(rows: RowSource, population: Population, loss: Loss) -> Tensor:
    r"""Return each member's noise for one row: :math:`\sum_i w_i |r_i|^2 / \sum_i w_i h_i`.

    The mean squared residual, summed over outputs, where the curvature is 1.
    """

    def function(block: Block) -> tuple[Tensor]:
        output = population.output(block.columns)
        square = loss.residual(output, block.target).square().sum(dim=-2)
        curvature = loss.curvature(output)
        both = torch.stack([square, curvature])
        return ((both * block.weight).sum(dim=-1).double(),)

    square, curvature = rows.reduce(function)[0]
    return square / curvature
