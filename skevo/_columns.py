"""Columns: numbers, missing cells and categories as columns of finite numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse

from ._level_means import places
from .core.statistics import weighted_quantiles

__all__ = [
    "Cells",
    "Encoding",
    "Levels",
    "categorical_columns",
    "find_levels",
    "fit_encoding",
    "in_order",
    "is_frame",
    "read_codes",
    "values_of",
]

# The levels of each categorical column, by its position.
Levels = Mapping[int, tuple[Any, ...]]

# A level of fewer rows, in units of weight, has no column of its own, nor has any of a category of
# which more than so many levels are there twice.
# A hair less, so that the rounding of sums cannot tell.
_RARE, _TWICE = 5.0 * (1.0 - 1e-9), 2.0 * (1.0 - 1e-9)
_MOST_LEVELS = 255
# Rows that are looked through at a time.
_BLOCK = 65_536
# How the dtypes of pandas and polars begin whose values are levels whatever they are, or are
# levels if they are text, or cannot be read.
_CATEGORY = (
    "category",
    "dictionary",
    "Categorical",
    "Enum",
    "str",
    "large_string",
    "String",
    "Utf8",
)
_PERHAPS_TEXT = ("object", "Object")
_NOT_NUMBERS = ("datetime", "Datetime", "Date", "Time", "Duration", "timedelta", "period")


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


# -- tables as they come ---------------------------------------------------------------------------


def is_frame(X: Any) -> bool:
    """Return whether a table is a pandas or polars frame."""
    return hasattr(X, "columns") and hasattr(X, "dtypes") and hasattr(X, "shape")


def categorical_columns(X: Any, categorical_features: Any) -> list[int]:
    """Return the positions of the categorical columns.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    categorical_features : "from_dtype", array-like of names, positions or bool, or None

    Raises
    ------
    ValueError
        If there is no such column, or the dtype of one cannot be read.
    """
    if is_frame(X):
        for name, dtype in zip(X.columns, map(str, X.dtypes), strict=True):
            if dtype.startswith(_NOT_NUMBERS):
                raise ValueError(
                    f"column {name!r} must be numbers, booleans, text or a category, got {dtype}."
                )
    if categorical_features is None:
        return []
    if isinstance(categorical_features, str):
        if not is_frame(X):
            return []
        return [
            column
            for column, dtype in enumerate(map(str, X.dtypes))
            if dtype.startswith(_CATEGORY)
            or (dtype.startswith(_PERHAPS_TEXT) and _has_text(X, column))
        ]
    given = np.asarray(categorical_features)
    if not given.size or issparse(X) or np.ndim(X) != 2:
        # What is not a dense table is for others to refuse.
        return []
    n_features = np.shape(X)[1]
    if given.dtype.kind == "b":
        if given.shape != (n_features,):
            raise ValueError(
                f"categorical_features as booleans must have one for each of the {n_features} "
                f"columns, got shape {given.shape}."
            )
        return np.flatnonzero(given).tolist()
    if given.dtype.kind in "iu":
        if given.min() < -n_features or given.max() >= n_features:
            raise ValueError(
                f"categorical_features must be positions of {n_features} columns, "
                f"got {given.tolist()}."
            )
        return sorted({int(column) % n_features for column in given.ravel()})
    names = [*X.columns] if is_frame(X) else []
    unknown = [name for name in given.ravel().tolist() if name not in names]
    if unknown:
        raise ValueError(f"categorical_features must be names of columns, got {unknown}.")
    return sorted({names.index(name) for name in given.ravel().tolist()})


def find_levels(X: Any, columns: Sequence[int]) -> Levels:
    """Return the levels of categorical columns, in order.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    columns : sequence of int
    """
    return {column: in_order(values_of(X, column)) for column in columns}


def values_of(X: Any, column: int) -> set[Any]:
    """Return the values of a column that are not missing."""
    return {value for value in _cells(X, column) if not _is_missing(value)}


def in_order(values: Iterable[Any]) -> tuple[Any, ...]:
    """Return values in the order of levels."""
    # Values of different types have no order, but numbers have.
    return tuple(
        sorted(
            values,
            key=lambda value: (
                "" if isinstance(value, float | int) else str(type(value)),
                value,
            ),
        )
    )


def read_codes(X: Any, levels: Levels) -> NDArray[np.float64]:
    """Return a table as numbers, with codes for levels and NaN for missing cells.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    levels : dict of int to tuple

    Returns
    -------
    ndarray of shape (n_samples, n_features)
        An unknown level is -1.

    Raises
    ------
    ValueError
        If a cell of another column is not a number.
    """
    n_rows, n_features = np.shape(X)
    numbers = np.empty((n_rows, n_features))
    for column in range(n_features):
        if column not in levels:
            numbers[:, column] = _numbers(X, column)
            continue
        codes = {level: float(code) for code, level in enumerate(levels[column])}
        numbers[:, column] = [
            np.nan if _is_missing(cell) else codes.get(cell, -1.0) for cell in _cells(X, column)
        ]
    return numbers


def _column(X: Any, column: int) -> Any:
    """Return a column, as it is."""
    if hasattr(X, "iloc"):
        return X.iloc[:, column]
    return X[:, column] if is_frame(X) else np.asarray(X, dtype=object)[:, column]


def _cells(X: Any, column: int) -> list[Any]:
    """Return the cells of a column."""
    cells: list[Any] = _column(X, column).to_list() if is_frame(X) else _column(X, column).tolist()
    return cells


def _numbers(X: Any, column: int) -> NDArray[np.float64]:
    """Return a column as numbers."""
    values = np.asarray(_column(X, column))
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    numbers = np.empty(len(values))
    for row, cell in enumerate(_cells(X, column)):
        try:
            numbers[row] = np.nan if _is_missing(cell) else float(cell)
        except (TypeError, ValueError) as error:
            name = X.columns[column] if is_frame(X) else column
            raise ValueError(
                f"column {name!r} must be numbers, or be among categorical_features, got {cell!r}."
            ) from error
    return numbers


def _is_missing(cell: Any) -> bool:
    """Return whether a cell is None, NaN, NaT or pandas.NA."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(cell, float) and cell != cell


def _has_text(X: Any, column: int) -> bool:
    return any(isinstance(cell, str) for cell in _cells(X, column))
