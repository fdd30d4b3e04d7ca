"""Tables from CSV files: columns of numbers or of text, cells of which may be missing."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Table", "TableError", "read_csv"]

# A numeric target with at most so many distinct values, all whole, is taken for classes.
_MOST_CLASSES = 10
# Cells that say that there is nothing.
_MISSING = frozenset({"", "#n/a", "n/a", "na", "nan", "none", "null"})


class TableError(ValueError):
    """What is wrong with a table, in one sentence."""


@dataclass(frozen=True)
class Table:
    """Columns and target of a data set.

    Attributes
    ----------
    title : str
    names : list of str
        Of the columns.
    X : ndarray of shape (n_samples, n_features)
        Of numbers, NaN where a cell is missing; of objects where there is text, None where a cell
        is missing there.
    y : ndarray of shape (n_samples,)
    text : list of int
        Positions of the columns that are text.
    task : {"regression", "classification"}
    """

    title: str
    names: list[str]
    X: NDArray[Any]
    y: NDArray[Any]
    text: list[int]
    task: str


def read_csv(path: str, target: str, task: str = "auto") -> Table:
    """Read a table.

    Parameters
    ----------
    path : str
        A CSV file whose first line names the columns.
    target : str
        The column to predict; text is allowed there, for classification.
    task : {"auto", "regression", "classification"}, default="auto"
        ``"auto"`` is classification if the target is text, or whole numbers of which there are at
        most 10 different ones.

    Returns
    -------
    Table

    Raises
    ------
    TableError
        If the file or its contents are not what is required.
    """
    header, rows = _read(path)
    if target not in header:
        raise TableError(f"there is no column {target!r} in {path}; there are {', '.join(header)}.")
    names = [name for name in header if name != target]
    if not names:
        raise TableError(f"{path} has no column beside the target {target!r}.")
    cells = dict(zip(header, zip(*rows, strict=True), strict=True))
    columns = [_column(name, cells[name]) for name in names]
    text = [k for k, column in enumerate(columns) if column.dtype.kind == "O"]
    X = np.column_stack(columns)
    y = _target(target, cells[target], task)
    if task == "auto":
        whole = y.dtype.kind == "f" and np.array_equal(y, np.round(y))
        few = len(np.unique(y)) <= _MOST_CLASSES
        task = "classification" if y.dtype.kind != "f" or (whole and few) else "regression"
    if task == "classification" and len(np.unique(y)) < 2:
        raise TableError(f"column {target!r} has one class only: {y[0]!r}.")
    return Table(Path(path).name, names, X, y, text, task)


def _read(path: str) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a file."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TableError(f"cannot read {path}: {reason}.") from error
    if len(lines) < 2:
        raise TableError(f"{path} has no rows; a header and at least one row are required.")
    header = [name.strip() for name in lines[0]]
    if len(set(header)) < len(header):
        raise TableError(f"the column names of {path} are not distinct.")
    for number, row in enumerate(lines[1:], start=2):
        if len(row) != len(header):
            raise TableError(
                f"row {number} of {path} has {len(row)} cells, the header has {len(header)}."
            )
    return header, lines[1:]


def _column(name: str, cells: tuple[str, ...]) -> NDArray[Any]:
    """Return a column: numbers if it can be, else text, as objects."""
    here = [row for row, cell in enumerate(cells) if cell.strip().lower() not in _MISSING]
    if all(map(_is_number, (cells[row] for row in here))):
        numbers = np.full(len(cells), np.nan)
        numbers[here] = _numbers(name, cells, here)
        return numbers
    text = np.full(len(cells), None)
    text[here] = [cells[row].strip() for row in here]
    return text


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(name: str, cells: tuple[str, ...], rows: Sequence[int]) -> list[float]:
    """Return some cells as numbers."""
    values = []
    for row in rows:
        cell = cells[row]
        if not _is_number(cell):
            raise TableError(
                f"column {name!r} must be numbers, but has the text {cell!r} in row {row + 2}."
            )
        values.append(float(cell))
        if not math.isfinite(values[-1]):
            raise TableError(
                f"column {name!r} must be finite numbers, but has {cell!r} in row {row + 2}."
            )
    return values


def _target(name: str, cells: tuple[str, ...], task: str) -> NDArray[Any]:
    """Return the target: numbers if it can be, unless it is to be classes and is text."""
    for row, cell in enumerate(cells):
        if not cell.strip():
            raise TableError(f"target {name!r} has an empty cell in row {row + 2}.")
    if task != "regression" and not all(map(_is_number, cells)):
        return np.array(cells)
    return np.array(_numbers(name, cells, range(len(cells))))
