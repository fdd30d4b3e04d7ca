"""Columns of tables: numbers, categories, and labels of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._optional import needed_by
from .errors import CommandError

__all__ = [
    "as_text",
    "categories",
    "import_pandas",
    "import_pyarrow",
    "is_text",
    "labels",
    "numbers",
]

# A pyarrow.ChunkedArray, of a package that is optional.
Column = Any


def import_pandas() -> Any:
    """Return pandas, which not everybody needs."""
    with needed_by("tables", "cli"):
        import pandas as pd
    return pd


def import_pyarrow() -> Any:
    """Return pyarrow, which not everybody needs."""
    with needed_by("tables", "cli"):
        import pyarrow.csv
        import pyarrow.parquet
    return pyarrow


def is_text(column: Column) -> bool:
    """Return whether a column is text or a category."""
    pa = import_pyarrow()
    return pa.types.is_dictionary(column.type) or _is_string(column.type)


def numbers(name: str, column: Column, complete: bool = False) -> NDArray[np.float64]:
    """Return a column as numbers, NaN where a cell is missing.

    Parameters
    ----------
    name : str
    column : pyarrow.ChunkedArray
    complete : bool, default=False
        Whether no cell may be missing.

    Raises
    ------
    CommandError
        If it is something else, or a number is infinite.
    """
    pa = import_pyarrow()
    types, column = pa.types, _plain(column)
    kind = column.type
    if _is_string(kind):
        cells = column.to_pylist()
        row = next((row for row, cell in enumerate(cells) if not _is_number(cell)), None)
        if row is not None:
            raise CommandError(
                f"column {name!r} must be numbers, but has the text {cells[row]!r} in row "
                f"{row + 1}."
            )
        column = pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
        kind = column.type
    known = (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_null)
    if not any(is_kind(kind) for is_kind in known):
        raise CommandError(
            f"column {name!r} must be numbers, text or a category, got {_kind(kind)}."
        )
    values = column.cast(pa.float64(), safe=False).to_pandas().to_numpy()
    for wrong, what in ((np.isinf, "an infinite number"), (np.isnan, "a missing cell")):
        rows = np.flatnonzero(wrong(values))
        if len(rows) and (complete or wrong is np.isinf):
            raise CommandError(f"column {name!r} has {what} in row {rows[0] + 1}.")
    return values


def categories(name: str, column: Column) -> Any:
    """Return a column as a pandas category."""
    pa = import_pyarrow()
    kind = column.type
    if not pa.types.is_dictionary(kind):
        if not _is_string(kind):
            raise CommandError(f"column {name!r} must be text or a category, got {_kind(kind)}.")
        # Not the other kinds of text that Arrow has.
        column = column.cast(pa.string()).dictionary_encode()
    return column.to_pandas()


def as_text(column: Column) -> Column:
    """Return a column as text, whatever it is."""
    return _plain(column).cast(import_pyarrow().string())


def labels(name: str, column: Column) -> NDArray[Any]:
    """Return a column, of which no cell is missing, as labels of classes."""
    pa = import_pyarrow()
    column = _plain(column)
    if _is_string(column.type):
        return np.array(column.to_pylist(), dtype=str)
    if pa.types.is_boolean(column.type) or pa.types.is_integer(column.type):
        return np.array(column.to_pylist())
    return numbers(name, column)


def _plain(column: Column) -> Column:
    """Return a column that is no category any more."""
    pa = import_pyarrow()
    is_category = pa.types.is_dictionary(column.type)
    return column.cast(column.type.value_type) if is_category else column


def _is_string(kind: Any) -> bool:
    pa = import_pyarrow()
    tests = ("is_string", "is_large_string", "is_string_view")
    return any(getattr(pa.types, test)(kind) for test in tests)


def _is_number(cell: str | None) -> bool:
    """Return whether a cell can be a number, or is missing."""
    try:
        float(cell or 0)
    except ValueError:
        return False
    return True


def _kind(kind: Any) -> str:
    """Return what a user calls a type of Arrow's."""
    pa = import_pyarrow()
    if pa.types.is_temporal(kind):
        return "dates or times"
    return "bytes that are no text in UTF-8" if pa.types.is_binary(kind) else str(kind)
