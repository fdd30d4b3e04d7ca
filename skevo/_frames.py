"""Frames: tables as they come, and their cells as numbers and codes of levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

__all__ = [
    "Levels",
    "categorical_columns",
    "find_levels",
    "in_order",
    "is_frame",
    "read_codes",
    "values_of",
]

# The levels of each categorical column, by its position.
Levels = Mapping[int, tuple[Any, ...]]

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
