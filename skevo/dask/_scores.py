"""Scores of rows on a cluster, from sums over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._target import columns_of

__all__ = ["Hits", "Squares"]


def _weights(raw: Any) -> NDArray[np.float64]:
    """Return the weights of rows, 1 if they have none."""
    X, _, weight = raw
    return np.ones(len(X)) if weight is None else np.asarray(weight, dtype=np.float64)


@dataclass(frozen=True)
class Hits:
    """What rows weigh, and those of which the class is right."""

    weight: float
    right: float

    @classmethod
    def of(cls, raw: Any, model: Any) -> Hits:
        """Return that of some rows."""
        X, y, _ = raw
        weight = _weights(raw)
        if not len(X):
            return cls(0.0, 0.0)
        right = model.predict(X) == np.ravel(y)
        return cls(float(weight.sum()), float(weight @ right))

    def __add__(self, other: Hits) -> Hits:
        return Hits(self.weight + other.weight, self.right + other.right)

    @property
    def accuracy(self) -> float:
        """Share of the weight."""
        return self.right / self.weight


@dataclass(frozen=True)
class Squares:
    """Sums of squares of errors and of targets, from which R2 is had.

    Attributes
    ----------
    weight : float
    mean : ndarray of shape (n_outputs,)
    target, error : ndarray of shape (n_outputs,)
        Weighted sums of squared distances of targets from their mean, and from predictions.
    """

    weight: float
    mean: NDArray[np.float64]
    target: NDArray[np.float64]
    error: NDArray[np.float64]

    @classmethod
    def of(cls, raw: Any, model: Any) -> Squares:
        """Return that of some rows."""
        X, y, _ = raw
        weight, target = _weights(raw), columns_of(np.asarray(y))
        nothing = np.zeros(target.shape[1])
        if not len(X) or not weight.any():
            return cls(0.0, nothing, nothing, nothing)
        error = target - columns_of(model.predict(X))
        total, mean = float(weight.sum()), np.average(target, axis=0, weights=weight)
        return cls(total, mean, weight @ (target - mean) ** 2, weight @ error**2)

    def __add__(self, other: Squares) -> Squares:
        weight = self.weight + other.weight
        if not weight:
            return self
        # The parallel algorithm of Chan, Golub and LeVeque: no sum of squares is large.
        step, share = other.mean - self.mean, other.weight / weight
        between = self.weight * share * step**2
        return Squares(
            weight,
            self.mean + share * step,
            self.target + other.target + between,
            self.error + other.error,
        )

    @property
    def r2(self) -> float:
        """R2, averaged over outputs; of a constant target 1 where there is no error, else 0."""
        constant = self.target == 0
        ratio = self.error / np.where(constant, 1.0, self.target)
        return float(np.where(constant, self.error == 0, 1.0 - ratio).mean())
