"""Sample: what is kept of the rows that a model has been given part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .core.folds import MOST_ROWS

__all__ = ["Sample", "take_in"]


@dataclass(frozen=True)
class Sample:
    """A uniform sample of all rows so far: those whose random keys are lowest [1]_.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
    weight, key : ndarray of shape (n_samples,)

    References
    ----------
    .. [1] J. S. Vitter, "Random sampling with a reservoir", ACM Transactions on Mathematical
       Software 11, 1985.
    """

    X: NDArray[np.floating]
    y: NDArray[Any]
    weight: NDArray[np.float64]
    key: NDArray[np.float64]


def take_in(
    before: Sample | None,
    X: NDArray[np.floating],
    y: NDArray[Any],
    weight: NDArray[np.float64],
    seed: int,
) -> Sample:
    """Return the sample of some rows and all those before."""
    key = np.random.default_rng(seed).random(len(X))
    if before is not None:
        X, y = np.concatenate([before.X, X]), np.concatenate([before.y, y])
        weight, key = np.append(before.weight, weight), np.append(before.key, key)
    if len(key) > MOST_ROWS:
        kept = np.sort(np.argpartition(key, MOST_ROWS)[:MOST_ROWS])
        X, y, weight, key = X[kept], y[kept], weight[kept], key[kept]
    return Sample(X, y, weight, key)
