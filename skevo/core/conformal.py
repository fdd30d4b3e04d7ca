r"""Conformal prediction: intervals from the errors on rows that members held out.

Each row :math:`i` was held out by one member, :math:`k(i)`. Its error there, in units of how
difficult the row is, is a score,

.. math:: s_i = c \, \frac{|y_i - f_{k(i)}(x_i)|}{\sigma(x_i)}, \qquad
          \sigma(x) = S(x) + 2 m,

and the interval of a new row is :math:`\hat f(x) \pm q \, \sigma(x)`, where :math:`q` is the score
that a share of the scores does not exceed: of :math:`n` rows, that of rank
:math:`\lceil (n + 1) \cdot \text{coverage} \rceil` [1]_ [2]_. The spread :math:`S` is the mean
distance of the members from their interquartile mean [3]_ [4]_.

What predicts is not one member but the average of all, whose errors are smaller, and no row is new
to all members. A member's errors on rows that it was trained on are too small by a factor that is
known: :math:`\rho`, the mean error on held-out rows by that on seen ones. So a row's errors as if
no member had seen it are that of the member that held it out, and :math:`\rho` times those of the
others. Their interquartile mean has the mean size :math:`m`, which is :math:`c` times the mean
error of a single member; and their spread is what new rows' spread is compared with.

References
----------
.. [1] R. F. Barber, E. J. Candès, A. Ramdas and R. J. Tibshirani, "Predictive inference with the
   jackknife+", Annals of Statistics 49, 2021.
.. [2] V. Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial Intelligence 74,
   2015.
.. [3] H. Papadopoulos, V. Vovk and A. Gammerman, "Regression conformal prediction with nearest
   neighbours", Journal of Artificial Intelligence Research 40, 2011.
.. [4] J. Lei, M. G'Sell, A. Rinaldo, R. J. Tibshirani and L. Wasserman, "Distribution-free
   predictive inference for regression", Journal of the American Statistical Association 113, 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .held_out import HeldOut
from .statistics import midmean

__all__ = ["Intervals", "fit_intervals"]

# What is added to the spread, in units of the mean error.
_FLOOR = 2.0
# Of at most so many scores; a quantile that falls between them is the next one.
_MOST_SCORES = 512


@dataclass(frozen=True)
class Intervals:
    """How wide intervals are.

    Attributes
    ----------
    scores : tuple of ndarray, n_outputs of them
        In ascending order.
    weights : tuple of ndarray, n_outputs of them
        Weight of the rows whose score is not higher.
    error : ndarray of shape (n_outputs, 1)
        Mean size of the errors that are expected of the average.
    limits : (ndarray, ndarray) of shape (n_outputs, 1)
        What predictions are clipped to.
    """

    scores: tuple[NDArray[np.float32], ...]
    weights: tuple[NDArray[np.float32], ...]
    error: NDArray[np.float64]
    limits: tuple[NDArray[np.float64], NDArray[np.float64]]

    def quantiles(self, coverage: float) -> NDArray[np.float64]:
        """Return the score that a share of new rows will not exceed.

        Parameters
        ----------
        coverage : float in (0, 1)

        Returns
        -------
        ndarray of shape (n_outputs, 1)
            Infinite where there are too few rows to tell.
        """
        found = []
        for scores, weights in zip(self.scores, self.weights, strict=True):
            # A hair less, so that rounding cannot move the rank by a row.
            wanted = (float(weights[-1]) + 1.0) * coverage * (1.0 - 1e-6)
            rank = int(np.searchsorted(weights, wanted))
            found.append(float(scores[rank]) if rank < len(scores) else np.inf)
        return np.array(found)[:, None]

    def half_width(self, members: Tensor, coverage: float) -> Tensor:
        """Return how far intervals reach to either side.

        Parameters
        ----------
        members : Tensor of shape (n_members, n_outputs, n_samples)
            Their outputs.
        coverage : float in (0, 1)

        Returns
        -------
        Tensor of shape (n_outputs, n_samples)
            At most the range that predictions are clipped to: then the interval holds all of it.
        """
        low, high, error, quantile = (
            torch.as_tensor(part).to(members)
            for part in (*self.limits, self.error, self.quantiles(coverage))
        )
        width = quantile * _difficulty(members.clamp(low, high), error)
        return torch.minimum(width, (high - low).expand_as(width))


def fit_intervals(
    held_out: HeldOut, limits: tuple[Tensor, Tensor], inflation: Tensor | None = None
) -> Intervals:
    """Measure the scores.

    Parameters
    ----------
    held_out : HeldOut
    limits : (Tensor, Tensor) of shape (n_outputs, 1)
        What predictions are clipped to.
    inflation : Tensor of shape (n_members,), default=None
        Where no row was held out, what each member's errors on rows that it was trained on are to
        be multiplied by.

    Returns
    -------
    Intervals
    """
    limits = limits[0].to(held_out.target), limits[1].to(held_out.target)
    errors = (held_out.target - held_out.outputs.clamp(*limits)).double()
    weight = held_out.weight.double()
    share = weight / weight.sum()
    if held_out.holder is None:
        assert inflation is not None
        errors *= inflation.to(errors)[:, None, None]
        size = midmean(errors).abs()
        error = size @ share
    else:
        own, errors = _as_unseen(errors, held_out.holder, share)
        error, mean = midmean(errors).abs() @ share, own.abs() @ share
        size = own.abs() * torch.where(mean > 0, error / mean, 0.0)[:, None]
    # Where nothing is known of the errors, intervals are as wide as they can be.
    error = error[:, None].nan_to_num(nan=torch.inf)
    scores = (size / _difficulty(errors, error)).nan_to_num(nan=torch.inf)
    pairs = [_distribution(row, weight.numpy(force=True)) for row in scores.numpy(force=True)]
    return Intervals(
        tuple(values for values, _ in pairs),
        tuple(weights for _, weights in pairs),
        error.numpy(force=True),
        (limits[0].double().numpy(force=True), limits[1].double().numpy(force=True)),
    )


def _as_unseen(errors: Tensor, holder: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return errors of the members that held the rows out, and of all as if none had seen them.

    Parameters
    ----------
    errors : Tensor of shape (n_members, n_outputs, n_samples)
    holder : Tensor of int64 of shape (n_samples,)
    share : Tensor of shape (n_samples,)
        Of the weight.

    Returns
    -------
    own : Tensor of shape (n_outputs, n_samples)
    errors : Tensor of shape (n_members, n_outputs, n_samples)
    """
    n_members, n_outputs, n_samples = errors.shape
    own = errors.gather(0, holder.expand(1, n_outputs, n_samples))[0]
    if n_members == 1:
        return own, errors
    mean = own.abs() @ share
    mean_seen = (errors.abs().sum(dim=0) - own.abs()) @ share / (n_members - 1)
    errors = errors * torch.where(mean_seen > 0, mean / mean_seen, 1.0)[:, None]
    return own, errors.scatter(0, holder.expand(1, n_outputs, n_samples), own[None])


def _difficulty(members: Tensor, error: Tensor) -> Tensor:
    """Return the spread of the members, or of their errors, and a floor.

    Parameters
    ----------
    members : Tensor of shape (n_members, n_outputs, n_samples)
    error : Tensor of shape (n_outputs, 1)

    Returns
    -------
    Tensor of shape (n_outputs, n_samples)
        Above zero.
    """
    spread = (members - midmean(members)).abs().mean(dim=0)
    return (spread + _FLOOR * error).clamp(min=torch.finfo(members.dtype).tiny)


def _distribution(
    scores: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return scores in ascending order and the weight up to each, at evenly spaced levels."""
    values, place = np.unique(scores, return_inverse=True)
    cumulative = np.bincount(place, weight).cumsum()
    levels = np.arange(1, _MOST_SCORES + 1) / _MOST_SCORES * (1.0 - 1e-9)
    kept = np.unique(np.searchsorted(cumulative, levels * cumulative[-1]))
    return values[kept].astype(np.float32), cumulative[kept].astype(np.float32)
