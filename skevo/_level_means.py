r"""Level means: a category of many levels as the mean of the target at each.

A level's mean is drawn towards that of all rows,

.. math:: m_l = \frac{S_l + a \bar y}{N_l + a}, \qquad a = \sigma_w^2 / \sigma_b^2,

with the sum and the weight of the level's rows, and the variances of the target within and between
levels (empirical Bayes [1]_). A row that is trained on must not be told its own target: it is given
the mean of the rows of its level that come before it in a random order [2]_. No member is told the
targets of rows that it holds out, and these are given the mean of all others.

References
----------
.. [1] D. Micci-Barreca, "A preprocessing scheme for high-cardinality categorical attributes in
   classification and prediction problems", SIGKDD Explorations 3, 2001.
.. [2] L. Prokhorenkova, G. Gusev, A. Vorobev, A. V. Dorogush and A. Gulin, "CatBoost: unbiased
   boosting with categorical features", Advances in Neural Information Processing Systems 31, 2018.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["OrderedMeans", "places"]

# The prior counts as at least and at most so many rows.
_LEAST, _MOST = 1.0, 1000.0


def places(codes: NDArray[np.floating], n_levels: int) -> NDArray[np.int64]:
    """Return where the means of cells are: missing cells and unknown levels behind the levels."""
    return np.where(np.isnan(codes), n_levels, np.where(codes < 0, n_levels + 1, codes)).astype(
        np.int64
    )


class OrderedMeans:
    """Means of the target at the levels of some columns, for the rows that they are made of.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_columns)
    n_levels : sequence of int
    target : ndarray of shape (n_samples, n_outputs)
    weight : ndarray of shape (n_samples,)
    """

    def __init__(
        self,
        codes: NDArray[np.floating],
        n_levels: Sequence[int],
        target: NDArray[np.float64],
        weight: NDArray[np.float64],
    ) -> None:
        self._target, self._weight = target.T, weight
        self._places = [places(*pair) for pair in zip(codes.T, n_levels, strict=True)]
        # The two last are those of missing cells and of unknown levels.
        self._n_places = [n + 2 for n in n_levels]
        order = np.random.default_rng(0).permutation(len(weight))
        self._orders = [order[np.argsort(at[order], kind="stable")] for at in self._places]

    @property
    def means(self) -> tuple[NDArray[np.float64], ...]:
        """For each column, what its places are told, of shape (n_outputs, n_levels + 2)."""
        return tuple(self._means(column, self._weight) for column in range(len(self._places)))

    def of(self, held: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return what rows are told, of shape (n_columns * n_outputs, n_samples).

        Parameters
        ----------
        held : ndarray of int64, default=None
            Rows that are held out: of their targets nobody is told.
        """
        weight = self._weight
        if held is not None:
            weight = weight.copy()
            weight[held] = 0.0
        parts = []
        for column, at in enumerate(self._places):
            part = self._ordered(column, weight)
            if held is not None:
                part[:, held] = self._means(column, weight)[:, at[held]]
            parts.append(part)
        return np.concatenate(parts)

    def held_out(self, folds: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        """Return what rows are told where each fold is judged by a model that held it out."""
        told = self.of()
        for fold in folds:
            told[:, fold] = self.of(fold)[:, fold]
        return told

    def _ordered(self, column: int, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the means of the rows of the same level that come before each row."""
        order = self._orders[column]
        at = self._places[column][order]
        first = np.searchsorted(at, at)
        told = np.empty_like(self._target)
        for output, target in enumerate(self._target):
            prior, strength = self._prior(column, output, weight)
            sums = []
            for part in (weight[order] * target[order], weight[order]):
                before = np.append(0.0, np.cumsum(part))
                sums.append(before[:-1] - before[first])
            told[output, order] = (sums[0] + strength * prior) / (sums[1] + strength)
        return told

    def _means(self, column: int, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean at each place."""
        means = []
        for output in range(len(self._target)):
            prior, strength = self._prior(column, output, weight)
            total, weights = self._totals(column, output, weight)
            means.append((total + strength * prior) / (weights + strength))
        return np.array(means)

    def _totals(
        self, column: int, output: int, weight: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        at, n = self._places[column], self._n_places[column]
        total, weights = np.zeros(n), np.zeros(n)
        np.add.at(total, at, weight * self._target[output])
        np.add.at(weights, at, weight)
        return total, weights

    def _prior(self, column: int, output: int, weight: NDArray[np.float64]) -> tuple[float, float]:
        """Return the mean of all rows, and as how many rows it counts."""
        target = self._target[output]
        total, weights = self._totals(column, output, weight)
        mean = np.average(target, weights=weight)
        there = weights > 0
        level = np.where(there, total / np.where(there, weights, 1.0), mean)
        spread = np.average((target - mean) ** 2, weights=weight)
        inside = weight @ (target - level[self._places[column]]) ** 2
        within = inside / max(weights.sum() - np.count_nonzero(there), 1.0)
        between = max(spread - within, within / _MOST, np.finfo(float).tiny)
        return float(mean), float(np.clip(within / between, _LEAST, _MOST))
