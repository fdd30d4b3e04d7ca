r"""Distinct columns: a few that together say what a network says, and none of them twice.

Orthogonal least squares [1]_: columns are taken one after another, each time the one that brings
the linear function of those taken nearest to the outputs,

.. math:: \arg\max_j \frac{\lVert R' \tilde c_j \rVert^2}{\tilde c_j' \tilde c_j} ,

where :math:`R` is what remains of the outputs, and :math:`\tilde c_j` of the column, after
projection on the columns that are there already. A column that is correlated with one of these more
than is allowed is left out, and so is one whose spread is that of a single row. Columns are taken
as long as the best explains more of the outputs than the noise of four rows, the F-to-enter of
stepwise regression [2]_.

References
----------
.. [1] S. Chen, S. A. Billings and W. Luo, "Orthogonal least squares methods and their application
   to non-linear system identification", International Journal of Control 50, 1989.
.. [2] M. A. Efroymson, "Multiple regression analysis", in: Mathematical Methods for Digital
   Computers, Wiley, 1960.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .losses import Loss, TorchLoss
from .statistics import weighted_deviation

__all__ = ["choose_distinct", "output_noise"]

# A column of which a smaller share (of its sum of squares) remains is a function of those taken, as
# far as rounding lets one see.
_DEPENDENT = 1e-6
# Of so many rows a column has to explain the noise.
_WORTH = 4.0
# What is a smaller share of the outputs' sum of squares is nothing.
_NOTHING = 1e-9
# Given columns that are as many as rows span everything; so many of their main directions count, as
# a share of the rows.
_SPANNED = 0.25
# A row whose square is this share of a column's sum of squares decides on its own what the column
# says, unless it is nearer to the mean than so many variances, as rows of small tables are.
_DECIDES, _NEAR = 0.1, 10.0


def output_noise(loss: Loss, output: Tensor, target: Tensor, weight: Tensor) -> float:
    r"""Return the noise of a row, as a variance of the output; the mean over outputs.

    Of what minimises a loss it is :math:`E r^2 / (E h)^2`, with the residual r and the curvature h.
    Of labels it is that of the best constant, one over their variance: where classes are all but
    separated both are nearly zero, and nothing would seem worth a column.

    Parameters
    ----------
    loss : Loss
    output, target : Tensor of shape (n_outputs, n_samples)
    weight : Tensor of shape (n_samples,)
    """
    tiny = torch.finfo(torch.float32).tiny
    share = weight / weight.sum()
    if loss.known_scale:
        deviation = weighted_deviation(target, weight)
        return 1.0 / max(float(deviation.square().mean()), tiny)
    loss = loss.at_scale(output, target, weight)
    square = float(loss.residual(output, target).square().mean(dim=0) @ share)
    if isinstance(loss, TorchLoss):
        # Its curvature, in units that nobody knows, is the secant's at the size of the errors.
        step = (target - output).square().mean().sqrt().clamp(min=torch.finfo(output.dtype).eps)
        sides = (loss.residual(output + side, target) for side in (-step, step))
        curvature = (next(sides) - next(sides)).mean(dim=0) / (2.0 * step)
    else:
        curvature = loss.curvature(output)
    return square / max(float(curvature @ share), tiny) ** 2


def choose_distinct(
    candidates: Tensor,
    given: Tensor,
    output: Tensor,
    weight: Tensor,
    noise: Callable[[Tensor], float],
    n_most: int,
    max_correlation: float,
) -> list[int]:
    """Choose columns that reproduce outputs.

    Parameters
    ----------
    candidates : Tensor of shape (n_candidates, n_samples)
    given : Tensor of shape (n_given, n_samples)
        Columns that are there in any case.
    output : Tensor of shape (n_outputs, n_samples)
    weight : Tensor of shape (n_samples,)
    noise : callable
        ``noise(output)`` returns that of a row, given what the columns so far say of the outputs;
        see `output_noise`.
    n_most : int
        Choose so many at most.
    max_correlation : float in (0, 1]
        Largest absolute correlation of a chosen column with another, or with a given one.

    Returns
    -------
    list of int
        Numbers of the candidates, in the order they were chosen.
    """
    n_rows = float(weight.sum())
    root = (weight / n_rows).sqrt()
    each = root.clamp(min=torch.finfo(root.dtype).tiny)
    columns, given = _standardised(candidates, root), _standardised(given, root)
    rest = _centred(output, root)
    nothing = _NOTHING * float(rest.square().sum())
    basis = _basis(given, max(1, int(_SPANNED * n_rows)))
    rest = rest - (rest @ basis.mT) @ basis
    # What remains of the columns, as a square, and its products with what remains of the outputs.
    remains = columns.square().sum(dim=1) - (columns @ basis.mT).square().sum(dim=1)
    product = columns @ rest.mT
    # Of a row as such: that there are copies of it does not make it decide less.
    free = (columns / each).square().amax(dim=1) <= max(_DECIDES * n_rows, _NEAR)
    free &= _apart(columns, given, max_correlation)
    chosen: list[int] = []
    while len(chosen) < min(n_most, len(columns)):
        free &= remains > _DEPENDENT
        gain = torch.where(free, product.square().sum(dim=1) / remains.clamp(min=_DEPENDENT), 0.0)
        # The first of those that are equal but for rounding.
        best = int(gain.float().argmax())
        if gain[best] <= max(nothing, _WORTH * noise(output - rest / each) / n_rows):
            break
        chosen.append(best)
        new = columns[best]
        # Twice, for the first time leaves what rounding adds.
        for _ in range(2):
            new = new - (basis @ new) @ basis
        new = new / torch.linalg.vector_norm(new)
        basis = torch.cat([basis, new[None]])
        share, told = columns @ new, rest @ new
        rest = rest - told[:, None] * new
        remains = remains - share.square()
        product = product - share[:, None] * told
        free &= _apart(columns, columns[best, None], max_correlation)
        free[best] = False
    return chosen


def _centred(columns: Tensor, root: Tensor) -> Tensor:
    """Return columns less their means, times the roots of the rows' shares of the weight."""
    return (columns - (columns @ root.square())[:, None]) * root


def _standardised(columns: Tensor, root: Tensor) -> Tensor:
    """Return columns centred, and of length 1 or, if they are constant, 0."""
    centred = _centred(columns, root)
    length = torch.linalg.vector_norm(centred, dim=1)
    # A constant column has a length of rounding size.
    tiny = torch.finfo(columns.dtype).eps ** 0.75 * torch.linalg.vector_norm(columns * root, dim=1)
    return centred * torch.where(length > tiny, length, torch.inf).reciprocal()[:, None]


def _basis(columns: Tensor, n_most: int) -> Tensor:
    """Return an orthonormal basis of what standardised columns span, or of its main directions.

    Parameters
    ----------
    columns : Tensor of shape (n_columns, n_samples)
    n_most : int
        So many directions at most.

    Returns
    -------
    Tensor of shape (n, n_samples)
    """
    values, vectors = torch.linalg.eigh(columns @ columns.mT)
    # From small to large; there is nothing in those where the columns are dependent.
    kept = values > _DEPENDENT * max(1, len(columns))
    kept[: max(0, len(values) - n_most)] = False
    return (vectors[:, kept] / values[kept].sqrt()).mT @ columns


def _apart(columns: Tensor, others: Tensor, most: float) -> Tensor:
    """Return which columns are not correlated with any of some others more than is allowed."""
    return ((columns @ others.mT).abs() <= most).all(dim=1)
