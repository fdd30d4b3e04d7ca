r"""Conformal prediction: intervals from the errors on rows that members held out.

Each row :math:`i` was held out by one member, :math:`k(i)`. Its error there, in units of the error
that was to be expected, is a score,

.. math:: s_i = c \, \frac{|y_i - f_{k(i)}(x_i)|}{\sigma(x_i)},

and the interval of a new row is :math:`\hat f(x) \pm q \, \sigma(x)`, where :math:`q` is the score
that a share of the scores does not exceed: of :math:`n` rows, that of rank
:math:`\lceil (n + 1) \cdot \text{coverage} \rceil` [1]_ [2]_. The difficulty :math:`\sigma` tells
where the members disagree or err [3]_; see `difficulty`.

What predicts is not one member but the average of all, whose errors are smaller, and no row is new
to all members. A member's errors on rows that it was trained on are too small by a factor that is
known: :math:`\rho`, the mean error on held-out rows by that on seen ones. So a row's errors as if
no member had seen it are that of the member that held it out, and :math:`\rho` times those of the
others. Their interquartile mean is the average's error; its mean size is :math:`c` times that of a
single member.

References
----------
.. [1] R. F. Barber, E. J. Candès, A. Ramdas and R. J. Tibshirani, "Predictive inference with the
   jackknife+", Annals of Statistics 49, 2021.
.. [2] V. Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial Intelligence 74,
   2015.
.. [3] H. Papadopoulos, V. Vovk and A. Gammerman, "Regression conformal prediction with nearest
   neighbours", Journal of Artificial Intelligence Research 40, 2011.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .difficulty import Difficulty, features_of, fit_difficulty
from .held_out import HeldOut
from .statistics import midmean

__all__ = ["Intervals", "fit_intervals"]

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
    difficulty : Difficulty
    limits : (ndarray, ndarray) of shape (n_outputs, 1)
        What predictions are clipped to.
    """

    scores: tuple[NDArray[np.float32], ...]
    weights: tuple[NDArray[np.float32], ...]
    difficulty: Difficulty
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

    def half_width(self, inputs: Tensor, members: Tensor, coverage: float) -> Tensor:
        """Return how far intervals reach to either side.

        Parameters
        ----------
        inputs : Tensor of shape (n_inputs, n_samples)
        members : Tensor of shape (n_members, n_outputs, n_samples)
            Their outputs.
        coverage : float in (0, 1)

        Returns
        -------
        Tensor of shape (n_outputs, n_samples)
            At most the range that predictions are clipped to: then the interval holds all of it.
        """
        members = members.double()
        low, high, quantile = (
            torch.as_tensor(part).to(members) for part in (*self.limits, self.quantiles(coverage))
        )
        members = members.clamp(low, high)
        features = features_of(_spread(members), midmean(members), inputs)
        return torch.minimum(quantile * self.difficulty(features), high - low)


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
        be multiplied by. Where it is infinite, intervals are as wide as they can be.

    Returns
    -------
    Intervals
    """
    target, weight = held_out.target.double(), held_out.weight.double()
    low, high = (limit.to(target) for limit in limits)
    members = held_out.outputs.double().clamp(low, high)
    known = inflation is None or bool(inflation.isfinite().all())
    if held_out.holder is None:
        assert inflation is not None
        errors = (target - members) * (inflation.to(target)[:, None, None] if known else 1.0)
        size, prediction, spread = midmean(errors).abs(), midmean(members), _spread(errors)
    else:
        share = weight / weight.sum()
        own, errors = _as_unseen(target - members, held_out.holder, share)
        mean = own.abs() @ share
        shrinkage = torch.where(mean > 0, midmean(errors).abs() @ share / mean, 0.0)
        size, prediction = own.abs() * shrinkage[:, None], target - own
        spread = _spread_of_others(errors, held_out.holder)
    features = features_of(spread, prediction, held_out.inputs)
    difficulty, expected = fit_difficulty(features, size, weight)
    scores = size / expected if known else torch.full_like(size, torch.inf)
    pairs = [_distribution(row, weight.numpy(force=True)) for row in scores.numpy(force=True)]
    return Intervals(
        tuple(values for values, _ in pairs),
        tuple(weights for _, weights in pairs),
        difficulty,
        (low.numpy(force=True), high.numpy(force=True)),
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
    holder = holder.expand(1, n_outputs, n_samples)
    own = errors.gather(0, holder)[0]
    if n_members == 1:
        return own, errors
    mean = own.abs() @ share
    mean_seen = (errors.abs().sum(dim=0) - own.abs()) @ share / (n_members - 1)
    errors = errors * torch.where(mean_seen > 0, mean / mean_seen, 1.0)[:, None]
    return own, errors.scatter(0, holder, own[None])


def _spread(members: Tensor) -> Tensor:
    """Return the mean distance of members, or of their errors, from their interquartile mean.

    Parameters
    ----------
    members : Tensor of shape (n_members, n_outputs, n_samples)

    Returns
    -------
    Tensor of shape (n_outputs, n_samples)
    """
    return (members - midmean(members)).abs().mean(dim=0)


def _spread_of_others(errors: Tensor, holder: Tensor) -> Tensor:
    """Return the spread of the members but one, as it would be of all.

    An error that a row's spread had in it would tell of itself. The mean distance of n values from
    their mean grows with the root of 1 - 1/n.
    """
    n_members, n_outputs, n_samples = errors.shape
    if n_members < 3:
        return torch.zeros_like(errors[0])
    others = torch.arange(n_members - 1, device=holder.device)[:, None]
    others = others + (others >= holder)
    spread = _spread(errors.gather(0, others[:, None].expand(-1, n_outputs, n_samples)))
    return spread * (n_members - 1) / math.sqrt(n_members * (n_members - 2))


def _distribution(
    scores: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return scores in ascending order and the weight up to each, at evenly spaced levels."""
    values, place = np.unique(scores, return_inverse=True)
    cumulative = np.bincount(place, weight).cumsum()
    levels = np.arange(1, _MOST_SCORES + 1) / _MOST_SCORES * (1.0 - 1e-9)
    kept = np.unique(np.searchsorted(cumulative, levels * cumulative[-1]))
    return values[kept].astype(np.float32), cumulative[kept].astype(np.float32)
