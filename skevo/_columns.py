"""Columns: numbers, missing cells and categories as columns of finite numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ._frames import Levels
from ._level_means import places
from .core.statistics import weighted_quantiles

__all__ = [
    "Cells",
    "Encoding",
    "fit_encoding",
]

# A level of fewer rows, in units of weight, has no column of its own, nor has any of a category of
# which more than so many levels are there twice.
# A hair less, so that the rounding of sums cannot tell.
_RARE, _TWICE = 5.0 * (1.0 - 1e-9), 2.0 * (1.0 - 1e-9)
_MOST_LEVELS = 255
# Rows that are looked through at a time.
_BLOCK = 65_536


@dataclass(frozen=True)
class Encoding:
    """How the columns of a table become columns of finite numbers.

    First the numeric columns, missing cells filled; then, for each column that had missing cells, a
    column that is 1 where the cell is missing; then a column for each level that is not rare, 1
    where the cell is that level. A level that is rare, or unknown, has no 1 anywhere. Last, for
    each categorical column with many levels, the means of the outputs at its level.

    Attributes
    ----------
    n_features : int
        Columns of the table.
    levels : dict of int to tuple
        The levels of each categorical column.
    numeric : ndarray of int64
        The other columns.
    fill : ndarray of shape (n_numeric,)
        What stands for missing cells: the medians of the training rows.
    missing : ndarray of int64
        Columns that had missing cells.
    shown : ndarray of shape (n_shown, 2), int64
        Column and code of the levels that have a column of their own.
    told : ndarray of int64
        Columns of many levels.
    means : tuple of ndarray of shape (n_outputs, n_levels + 2)
        For each of them the means at its levels, where it is missing, and where it is unknown.
    """

    n_features: int
    levels: Levels
    numeric: NDArray[np.int64]
    fill: NDArray[np.float64]
    missing: NDArray[np.int64]
    shown: NDArray[np.int64]
    told: NDArray[np.int64]
    means: tuple[NDArray[np.float64], ...] = ()

    def __len__(self) -> int:
        return len(self.numeric) + len(self.missing) + len(self.shown) + self.n_told

    @property
    def n_told(self) -> int:
        """Columns of means, which are the last."""
        return sum(map(len, self.means))

    def __call__(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """Encode rows.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Numbers, and codes of levels; NaN where a cell is missing.

        Returns
        -------
        ndarray of shape (n_samples, n_columns)
            The rows themselves if there is nothing to do.
        """
        plain = len(self) == self.n_features == len(self.numeric)
        # The sum shows whether there is a NaN, in half the time of looking for it.
        if plain and not np.isnan(X.sum()):
            return X
        cells = X.T
        columns = np.empty((len(self), len(X)))
        numbers, missing, shown, told = np.split(
            columns, np.cumsum([len(self.numeric), len(self.missing), len(self.shown)])
        )
        numbers[:] = cells[self.numeric]
        np.copyto(numbers, self.fill[:, None], where=np.isnan(numbers))
        missing[:] = np.isnan(cells[self.missing])
        shown[:] = cells[self.shown[:, 0]] == self.shown[:, 1:]
        if self.means:
            at = [places(cells[column], len(self.levels[column])) for column in self.told]
            told[:] = np.concatenate([mean[:, k] for mean, k in zip(self.means, at, strict=True)])
        return columns.T

    @property
    def sources(self) -> NDArray[np.int64]:
        """Which column of the table each column comes from, of shape (n_columns,)."""
        told = np.repeat(self.told, [len(mean) for mean in self.means])
        return np.concatenate([self.numeric, self.missing, self.shown[:, 0], told])

    def names(self, names: Sequence[str], outputs: Sequence[str]) -> list[str]:
        """Return what the columns are called, from the names of the table's columns and outputs."""
        return [
            *(str(names[column]) for column in self.numeric),
            *(f"missing({names[column]})" for column in self.missing),
            *(f"[{names[column]} = {self.levels[column][code]}]" for column, code in self.shown),
            *(f"mean({output} | {names[column]})" for column in self.told for output in outputs),
        ]


@dataclass(frozen=True)
class Cells:
    """What is known of the cells of some rows, and by a sum of those of all.

    Attributes
    ----------
    n_rows : int
    missing : ndarray of shape (n_features,), bool
        Columns with missing cells.
    weight : dict of int to ndarray of shape (n_levels,)
        For each categorical column what the rows at its levels weigh.
    """

    n_rows: int
    missing: NDArray[np.bool_]
    weight: Mapping[int, NDArray[np.float64]]

    @classmethod
    def of(cls, X: NDArray[np.floating], weight: NDArray[np.float64], levels: Levels) -> Cells:
        """Return that of some rows.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Numbers, and codes of levels; NaN where a cell is missing.
        weight : ndarray of shape (n_samples,)
        levels : dict of int to tuple
        """
        missing = np.zeros(X.shape[1], dtype=bool)
        weights: dict[int, NDArray[np.float64]] = {}
        for start in range(0, len(X), _BLOCK):
            missing |= np.isnan(X[start : start + _BLOCK]).any(axis=0)
        for column in sorted(levels):
            # A code per level, and one more for missing cells.
            codes = np.nan_to_num(X[:, column], nan=len(levels[column])).astype(np.int64)
            n_codes = len(levels[column]) + 1
            weights[column] = np.bincount(codes, weight, n_codes)[:-1].astype(np.float64)
        return cls(len(X), missing, weights)

    def __add__(self, other: Cells) -> Cells:
        weight = {column: own + other.weight[column] for column, own in self.weight.items()}
        return Cells(self.n_rows + other.n_rows, self.missing | other.missing, weight)


def fit_encoding(
    X: NDArray[np.floating],
    sample_weight: NDArray[np.float64],
    levels: Levels,
    cells: Cells | None = None,
) -> Encoding:
    """Fit the encoding.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Rows whose medians stand for missing cells: numbers, and codes of levels; NaN where a cell
        is missing.
    sample_weight : ndarray of shape (n_samples,)
    levels : dict of int to tuple
    cells : Cells, default=None
        Of all rows, if these are only some of them.

    Returns
    -------
    Encoding
    """
    if cells is None:
        cells = Cells.of(X, sample_weight, levels)
    n_features = X.shape[1]
    numeric = np.setdiff1d(np.arange(n_features), [*levels]).astype(np.int64)
    fill = _medians(X[:, numeric], sample_weight, cells.missing[numeric])
    shown, told = [], []
    for column, weight in cells.weight.items():
        own = np.flatnonzero(weight >= _RARE)
        if np.count_nonzero(weight >= _TWICE) > _MOST_LEVELS:
            told.append(column)
            continue
        if len(own) == np.count_nonzero(weight) == 2 and not cells.missing[column]:
            # Of two levels one says it all.
            own = own[1:]
        shown += [(column, code) for code in own]
    return Encoding(
        n_features,
        levels,
        numeric,
        fill,
        np.flatnonzero(cells.missing),
        np.array(shown, dtype=np.int64).reshape(-1, 2),
        np.array(told, dtype=np.int64),
    )


def _medians(
    X: NDArray[np.floating], weight: NDArray[np.float64], is_missing: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the medians of the cells that are there, or 0."""
    medians = np.zeros(X.shape[1])
    # Columns with all their cells at once, the others one by one.
    for columns in [np.flatnonzero(~is_missing), *np.flatnonzero(is_missing)[:, None]]:
        rows = ~np.isnan(X[:, columns]).any(axis=1)
        if rows.any() and len(columns):
            values = np.array(X[rows][:, columns].T, dtype=np.float64, order="C")
            half = weighted_quantiles(
                torch.from_numpy(values), torch.from_numpy(weight[rows]), (0.5,)
            )
            medians[columns] = half[:, 0].numpy()
    return medians
