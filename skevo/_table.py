"""Tables from CSV files: numbers in every column but the target."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Table", "TableError", "read_csv"]

# A numeric target with at most so many distinct values, all whole, is taken for classes.
_MOST_CLASSES = 10


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
    y : ndarray of shape (n_samples,)
    task : {"regression", "classification"}
    """

    title: str
    names: list[str]
    X: NDArray[np.float64]
    y: NDArray[Any]
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
    X = np.column_stack([_numbers(name, cells[name]) for name in names])
    y = _target(target, cells[target], task)
    if task == "auto":
        whole = y.dtype.kind == "f" and np.array_equal(y, np.round(y))
        few = len(np.unique(y)) <= _MOST_CLASSES
        task = "classification" if y.dtype.kind != "f" or (whole and few) else "regression"
    if task == "classification" and len(np.unique(y)) < 2:
        raise TableError(f"column {target!r} has one class only: {y[0]!r}.")
    return Table(Path(path).name, names, X, y, task)


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


def _numbers(name: str, cells: tuple[str, ...]) -> NDArray[np.float64]:
    """Return a column of numbers."""
    values = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            values[row] = float(cell)
        except ValueError:
            what = "an empty cell" if not cell.strip() else f"the text {cell!r}"
            raise TableError(
                f"column {name!r} must be numbers, but has {what} in row {row + 2}."
            ) from None
        if not math.isfinite(values[row]):
            raise TableError(
                f"column {name!r} must be finite numbers, but has {cell!r} in row {row + 2}."
            )
    return values


def _target(name: str, cells: tuple[str, ...], task: str) -> NDArray[Any]:
    """Return the target: numbers if it can be, unless it is to be classes and is text."""
    if task == "regression":
        return _numbers(name, cells)
    try:
        return _numbers(name, cells)
    except TableError:
        if any(not cell.strip() for cell in cells):
            raise
        return np.array(cells)
