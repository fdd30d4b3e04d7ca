"""Dask collections, as users pass them: brought to partitions of rows, or predicted lazily."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
from distributed import Future
from sklearn.utils.validation import check_array, check_non_negative, check_X_y

from .._frames import Levels, categorical_columns, in_order, read_codes, values_of
from .._reading import CHECKS
from .._rows import Part
from .._target import refuse_text
from ._cluster import Cluster

__all__ = ["gather_raw", "lazily", "levels_of", "outline", "read", "refuse_other"]

Raw = tuple[Any, Any, Any]


def refuse_other(local: str, **tables: Any) -> None:
    """Raise TypeError if something is not a Dask collection.

    Parameters
    ----------
    local : str
        The estimator for rows in memory.
    **tables
        By what the user knows them by; None is fine.
    """
    for name, table in tables.items():
        if table is not None and not isinstance(table, da.Array | dd.DataFrame | dd.Series):
            raise TypeError(
                f"{name} must be a Dask array or DataFrame, got {type(table).__name__}; for rows "
                f"in memory there is skevo.{local}."
            )


def outline(X: Any) -> Any:
    """Return a table without rows that has the columns of a collection."""
    if isinstance(X, dd.DataFrame):
        return X._meta
    if X.ndim != 2:
        raise ValueError(f"X must have two dimensions, got an array of shape {X.shape}.")
    return np.empty((0, X.shape[1]), dtype=X.dtype)


def gather_raw(cluster: Cluster, X: Any, y: Any, sample_weight: Any) -> list[Future]:
    """Return partitions of rows on workers: table, targets and weights, which may be None."""
    given = {"X": X, "y": y, "sample_weight": sample_weight}
    tables = {name: _whole_rows(table) for name, table in given.items() if table is not None}
    chunks = next((t.chunks[0] for t in tables.values() if _has_known_chunks(t)), None)
    for name, table in tables.items():
        if chunks and _has_known_chunks(table) and table.chunks[0] != chunks:
            if sum(table.chunks[0]) != sum(chunks):
                raise ValueError(
                    f"X, y and sample_weight must have as many rows, got {sum(chunks)} and "
                    f"{sum(table.chunks[0])} of {name}."
                )
            tables[name] = table.rechunk({0: chunks})
    parts = {name: _delayed_parts(table) for name, table in tables.items()}
    n_parts = {name: len(own) for name, own in parts.items()}
    if len(set(n_parts.values())) > 1:
        raise ValueError(f"X, y and sample_weight must have as many partitions, got {n_parts}.")
    weights = parts.get("sample_weight", [None] * n_parts["X"])
    together = dask.delayed(_together, pure=False)
    rows = [together(*three) for three in zip(parts["X"], parts["y"], weights, strict=True)]
    futures: list[Future] = cluster.client.compute(rows)
    return futures


def _whole_rows(table: Any) -> Any:
    """Return a table none of whose rows is divided."""
    if isinstance(table, da.Array) and table.ndim == 2 and table.numblocks[1] > 1:
        return table.rechunk({1: -1})
    return table


def _has_known_chunks(table: Any) -> bool:
    return isinstance(table, da.Array) and not np.isnan(table.chunks[0]).any()


def _delayed_parts(table: Any) -> list[Any]:
    parts = table.to_delayed()
    return list(np.ravel(parts)) if isinstance(table, da.Array) else parts


def _together(X: Any, y: Any, weight: Any) -> Raw:
    return X, y, weight


class _Values:
    """Values of columns, by their positions; a sum of two has those of both."""

    def __init__(self, of: dict[int, set[Any]]) -> None:
        self.of = of

    def __add__(self, other: _Values) -> _Values:
        return _Values(
            {
                column: self.of.get(column, set()) | other.of.get(column, set())
                for column in self.of.keys() | other.of.keys()
            }
        )


def levels_of(cluster: Cluster, raw: Sequence[Future], categorical_features: Any) -> Levels:
    """Return the levels of the categorical columns of rows."""

    def total(function: Callable[..., Any], *args: Any) -> dict[int, set[Any]]:
        found: _Values = cluster.total([cluster.submit(function, part, *args) for part in raw])
        return found.of

    # A column is one if it has text anywhere: its values elsewhere are levels, too.
    columns = sorted(total(_categorical_in, categorical_features))
    if not columns:
        return {}
    values = total(_values_in, columns)
    return {column: in_order(values[column]) for column in columns}


def _categorical_in(raw: Raw, categorical_features: Any) -> _Values:
    return _Values({column: set() for column in categorical_columns(raw[0], categorical_features)})


def _values_in(raw: Raw, columns: Sequence[int]) -> _Values:
    return _Values({column: values_of(raw[0], column) for column in columns})


def read(raw: Raw, levels: Levels, numeric_target: bool, estimator: str) -> Part:
    """Check some rows, and return them with codes for levels."""
    X, y, weight = raw
    sizes = [len(part) for part in raw if part is not None]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"Partitions of X, y and sample_weight must have as many rows, got {sizes}."
        )
    if not len(X):
        return Part(np.empty(X.shape), np.asarray(y), np.empty(0))
    if numeric_target:
        refuse_text(y)
    X, y = check_X_y(
        read_codes(X, levels) if levels else X,
        y,
        estimator=estimator,
        multi_output=True,
        y_numeric=numeric_target,
        **CHECKS,
    )
    if weight is None:
        return Part(X, y, np.ones(len(X)))
    # Unlike a whole table, a part may have no weight at all.
    weight = check_array(weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    check_non_negative(weight, "`sample_weight`")
    return Part(X, y, weight)


def lazily(model: Any, method: str, X: Any) -> Any:
    """Return what a method of a fitted local model gives for the rows of a collection.

    Parameters
    ----------
    model : EvolvingRegressor or EvolvingClassifier
    method : str
    X : dask Array or DataFrame

    Returns
    -------
    dask Array, or of a DataFrame a Series or DataFrame with its index
    """
    # The model travels once, as a task of its own.
    shared = dask.delayed(model, traverse=False)
    nothing = _call(outline(X), model, method)
    if isinstance(X, dd.DataFrame):
        return X.map_partitions(_call, shared, method, meta=nothing)
    X = _whole_rows(X)
    chunks = (X.chunks[0], *((n,) for n in nothing.shape[1:]))
    options = {"drop_axis": 1} if nothing.ndim == 1 else {}
    if nothing.ndim == 3:
        options["new_axis"] = 2
    return X.map_blocks(_call, shared, method, chunks=chunks, meta=nothing, **options)


def _call(X: Any, model: Any, method: str) -> Any:
    """Return what a method gives for some rows: of a frame, a frame."""
    found = getattr(model, method)(X) if len(X) else _nothing(X, model, method)
    if not hasattr(X, "index"):
        return found
    kind = type(X) if found.ndim == 2 else X._constructor_sliced
    return kind(found, index=X.index)


def _nothing(X: Any, model: Any, method: str) -> Any:
    """Return what a method would give for no rows."""
    # It needs a row; one whose cells are missing is as good as any.
    row = np.full((1, X.shape[1]), np.nan)
    if hasattr(X, "columns"):
        row = type(X)(row, columns=X.columns)
    return getattr(model, method)(row)[:0]
