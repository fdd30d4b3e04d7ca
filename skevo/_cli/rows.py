"""Rows to learn from: features, target and weights of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import categories, import_pandas, is_text, labels, numbers
from .errors import CommandError, UsageError
from .messages import say
from .tables import check_columns, read_table

__all__ = ["TASKS", "Training", "read_training"]

TASKS = ("auto", "regression", "classification")
# A numeric target with at most so many distinct values, all whole, is taken for classes.
_MOST_CLASSES = 10
# Of more numbers than this that are to be classes it is said that they could be amounts.
_MANY_CLASSES = 20


@dataclass(frozen=True)
class Training:
    """Rows to learn from.

    Attributes
    ----------
    X : import_pandas().DataFrame
        Numbers and categories.
    y : ndarray of shape (n_samples,)
    weight : ndarray of shape (n_samples,), or None
        All positive.
    task : {"regression", "classification"}
    """

    X: Any
    y: NDArray[Any]
    weight: NDArray[np.float64] | None
    task: str

    @property
    def categories(self) -> list[str]:
        """The columns that are categories."""
        return [*self.X.columns[self.X.dtypes == "category"]]

    def take(self, rows: NDArray[Any]) -> Training:
        """Return some of the rows, by position or by a mask."""
        weight = None if self.weight is None else self.weight[rows]
        return replace(self, X=self.X.iloc[rows], y=self.y[rows], weight=weight)

    def check_folds(self, n_folds: int) -> None:
        """Raise CommandError if there are too few rows to be cross-validated."""
        if self.task == "classification":
            most, where = int(np.unique(self.y, return_counts=True)[1].min()), "in the rarest class"
        else:
            # A score needs two rows.
            most, where = len(self.y) // 2, "per fold"
        if most < n_folds:
            raise CommandError(f"there are too few rows {where} for {n_folds} folds.")


def read_training(
    path: str,
    target: str,
    task: str = "auto",
    *,
    weight: str | None = None,
    drop: Sequence[str] = (),
    categorical: Sequence[str] = (),
    drop_missing_target: bool = False,
) -> Training:
    """Read rows to learn from.

    Parameters
    ----------
    path : str
    target : str
        The column to predict.
    task : {"auto", "regression", "classification"}, default="auto"
        ``"auto"`` is classification if the target is text, booleans, or whole numbers of which
        there are at most 10 different ones.
    weight : str, default=None
        The column of the rows' weights; rows of weight 0 are left out.
    drop : sequence of str, default=()
        Columns to leave out.
    categorical : sequence of str, default=()
        Columns that are categories whatever their cells look like.
    drop_missing_target : bool, default=False
        Whether rows without a target are left out, and not refused.

    Raises
    ------
    CommandError
        If the file or its content is not what is required.
    """
    apart = [target, *([] if weight is None else [weight]), *drop]
    for name in apart:
        if name in categorical or apart.count(name) > 1:
            raise UsageError(f"column {name!r} cannot be of use twice.")
    table = read_table(path, categorical)
    check_columns(path, table, [*apart, *categorical])
    names = [name for name in table.column_names if name not in apart]
    if not names:
        raise CommandError(f"{path} has no column to predict {target!r} from.")
    X = import_pandas().DataFrame({name: _feature(name, table[name]) for name in names})
    there = ~table[target].is_null(nan_is_null=True).to_pandas().to_numpy()
    if not there.all() and not drop_missing_target:
        raise CommandError(
            f"the target {target!r} is missing in {np.count_nonzero(~there)} of {len(there)} rows, "
            f"first in row {np.argmin(there) + 1}; --drop-missing-target leaves them out."
        )
    column = table[target].filter(there)
    y, found = _target(target, column, task)
    if found == "classification" and y.dtype.kind in "uif":
        n_classes = len(np.unique(y))
        if n_classes > _MANY_CLASSES:
            say(
                f"warning: each of the {n_classes} different numbers in {target!r} is a class; "
                "--task regression predicts amounts."
            )
    rows = Training(X[there], y, None, found)
    if weight is not None:
        weights = numbers(weight, table[weight], complete=True)[there]
        if (weights < 0).any():
            raise CommandError(f"the weights {weight!r} must not be negative.")
        rows = replace(rows, weight=weights).take(weights > 0)
    if not len(rows.y):
        raise CommandError(f"no row of {path} has a target and a weight.")
    if found == "classification" and len(np.unique(rows.y)) < 2:
        raise CommandError(f"the target {target!r} has one class only: {rows.y[0]!s}.")
    return rows


def _feature(name: str, column: Any) -> Any:
    return categories(name, column) if is_text(column) else numbers(name, column)


def _target(name: str, column: Any, task: str) -> tuple[NDArray[Any], str]:
    """Return a target, and which task it is of."""
    if task == "regression":
        return numbers(name, column), task
    y = labels(name, column)
    if task == "classification":
        return y, task
    whole = y.dtype.kind in "Ubi" or (y.dtype.kind == "f" and np.array_equal(y, np.round(y)))
    if y.dtype.kind in "Ub" or (whole and len(np.unique(y)) <= _MOST_CLASSES):
        return y, "classification"
    return numbers(name, column), "regression"
