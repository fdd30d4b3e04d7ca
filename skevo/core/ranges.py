r"""Ranges: how far predictions may go beyond the targets of the training rows.

Networks that fit noise go astray where there were no rows. So predictions end a tenth of the range
beyond the targets, and nowhere beyond a floor or a ceiling that they have. But what has found a law
follows it: of a product of many factors the largest value of a few thousand rows is far beyond that
of as many others. How much a network is to be trusted there is told by rows that it has not seen.
Where its errors on them have a share :math:`u` of the variance of the targets, predictions may
leave the range by

.. math:: \max(0.1, \min(0.01 / u, 1))

of it: a tenth down from :math:`R^2 = 0.9`, all of it from 0.99 on. See `HeldOut.unexplained`.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "LEAST",
    "kept_positive",
    "limited_range",
    "margin",
    "positive_range",
    "target_range",
    "widened_range",
]

# The shares of the range that predictions may leave it by, at least and at most, and by what they
# are divided by the share of the variance that is left.
LEAST, _MOST, _TRUSTED = 0.1, 1.0, 0.01
# An extreme value that so many rows have is a limit of the targets: a ceiling, a floor, a scale's
# end. Else the largest of some rows is alone, or nearly so.
_LIMITING = 5.0


def margin(unexplained: Tensor) -> Tensor:
    """Return the share of their range that predictions may leave it by.

    Parameters
    ----------
    unexplained : Tensor
        The share of the variance of the targets that errors on new rows have.
    """
    # It is not a number where the targets do not vary, or nothing is known.
    return (_TRUSTED / unexplained).nan_to_num(LEAST, _MOST).clamp(LEAST, _MOST)


def widened_range(columns: Tensor, share: Tensor | float = LEAST) -> tuple[Tensor, Tensor]:
    """Return the range of columns and a share of it more on either side, a tenth by default.

    Parameters
    ----------
    columns : Tensor of shape (..., n_columns, n_samples)
    share : float or Tensor of shape (..., n_columns, 1)

    Returns
    -------
    low, high : Tensor of shape (..., n_columns, 1)
    """
    low, high = columns.amin(dim=-1, keepdim=True), columns.amax(dim=-1, keepdim=True)
    beyond = share * (high - low)
    return low - beyond, high + beyond


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
    low: Tensor, high: Tensor, at_low: Tensor, at_high: Tensor, share: Tensor | float = LEAST
) -> tuple[Tensor, Tensor]:
    """Return the `target_range` of targets of which four numbers are known.

    Parameters
    ----------
    low, high : Tensor of shape (..., n_outputs, 1)
        The lowest and the highest one.
    at_low, at_high : Tensor of shape (..., n_outputs, 1)
        Weight of the rows that have them.
    share : float or Tensor of shape (..., n_outputs, 1)
        Of the range, which predictions may leave by as much; see `margin`.
    """
    wide_low, wide_high = widened_range(torch.cat([low, high], dim=-1), share)
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
