"""Rows to fit to, which may be in parts and elsewhere.

What a fit has to know of all rows is a sum over parts, or that of some rows at equal distances. So
rows in memory, which are one part, and rows on a cluster give the same model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ._columns import Encoding
from ._level_means import OrderedMeans
from ._preprocessing import ScaledColumns, Scaling
from .core.folds import Task
from .core.table import AnyTable, Table
from .core.topology import Index

__all__ = ["Part", "Recipe", "TrainingRows", "Whole", "at_equal_distances"]

# What is known of the distribution of cells and targets is that of at least so many rows, if there
# are as many.
_SAMPLE = 100_000
# Of many rows so many are looked at at a time: what is computed on the way takes memory.
_PIECE = 2**18

_S = TypeVar("_S")


class Part(NamedTuple):
    """Some rows in memory.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
        With codes for levels, and NaN for missing cells.
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Targets as they were passed.
    weight : ndarray of shape (n_samples,)
    """

    X: NDArray[np.floating]
    y: NDArray[Any]
    weight: NDArray[np.float64]

    def of(self, rows: Any) -> Part:
        """Return some of the rows."""
        return Part(self.X[rows], self.y[rows], self.weight[rows])


@dataclass(frozen=True)
class Recipe:
    """How rows become what the engine reads.

    Attributes
    ----------
    targets : callable
        Brings targets as they were passed to those of the networks, of shape
        (n_samples, n_outputs).
    encoding : Encoding
    scaling : Scaling
    device : torch.device
    dtype : torch.dtype
    n_outputs : int
    monotonic : ndarray of shape (n_columns,), or None
    """

    targets: Callable[[NDArray[Any]], NDArray[np.float64]]
    encoding: Encoding
    scaling: Scaling
    device: torch.device
    dtype: torch.dtype
    n_outputs: int
    monotonic: Index | None = None

    def columns(
        self, X: NDArray[np.floating], told: NDArray[np.float64] | None = None
    ) -> ScaledColumns:
        """Return the columns of rows, with what they are told of categories of many levels."""
        return ScaledColumns(X, self.encoding, self.scaling, self.device, self.dtype, told)

    def table(self, part: Part, told: NDArray[np.float64] | None = None) -> Table:
        """Return rows as the engine reads them."""
        n_rows = len(part.weight)
        target = torch.empty(self.n_outputs, n_rows, dtype=self.dtype, device=self.device)
        for rows in _pieces(n_rows):
            target[:, rows] = torch.from_numpy(self.targets(part.y[rows]).T)
        # Weights that are all the same number, and take no memory, take none here.
        own = part.weight[:1] if part.weight.strides == (0,) else part.weight
        own = np.ascontiguousarray(own)
        weight = torch.tensor(own, dtype=self.dtype, device=self.device).expand(n_rows)
        return Table(self.columns(part.X, told), target, weight, monotonic=self.monotonic)


class TrainingRows(Protocol):
    """Rows to fit to, wherever they are."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    @property
    def identity(self) -> Any:
        """What tells the rows from others, of what can be hashed by joblib."""
        ...

    def map(self, function: Callable[[Part], Part]) -> Self:
        """Return what a function makes of each part."""
        ...

    def sum(self, function: Callable[[Part], _S]) -> _S:
        """Return the sum over parts of what a function returns, which can be added."""
        ...

    def sample(self) -> Part:
        """Return rows at equal distances: all, or 100,000 and more."""
        ...

    def table(self, recipe: Recipe) -> AnyTable:
        """Return the rows as the engine reads them."""
        ...

    def for_members(
        self, table: Any, recipe: Recipe, tasks: Sequence[Task]
    ) -> tuple[AnyTable, AnyTable]:
        """Return the table to train on, and that by which members are judged."""
        ...


class Whole:
    """Rows in memory.

    Parameters
    ----------
    part : Part

    Attributes
    ----------
    part
    means : OrderedMeans, or None
        What rows to fit to are told of categories of many levels, if there are any.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self.means: OrderedMeans | None = None

    def __len__(self) -> int:
        return len(self.part.weight)

    @property
    def identity(self) -> Any:
        """The rows themselves."""
        return self.part

    def map(self, function: Callable[[Part], Part]) -> Whole:
        """Return what a function makes of the rows."""
        return Whole(function(self.part))

    def sum(self, function: Callable[[Part], _S]) -> _S:
        """Return the sum over pieces of what a function returns, which can be added."""
        found = (function(self.part.of(rows)) for rows in _pieces(len(self)))
        return reduce(add, found)

    def sample(self) -> Part:
        """Return rows at equal distances: all, or 100,000 and more."""
        some = self.part.of(at_equal_distances(len(self)))
        return some._replace(weight=some.weight.copy())

    def table(self, recipe: Recipe) -> Table:
        """Return the rows as the engine reads them."""
        return recipe.table(self.part, None if self.means is None else self.means.of())

    def for_members(
        self, table: Table, recipe: Recipe, tasks: Sequence[Task]
    ) -> tuple[Table, Table]:
        """Return the table to train on, and that by which members are judged.

        No member is told of what it is judged by.
        """
        folds = [task.validation.numpy() for task in tasks if task.validation is not None]
        if self.means is None or not folds:
            return table, table
        own = {
            number: recipe.columns(self.part.X, self.means.of(fold))
            for number, fold in enumerate(folds)
        }
        judged = recipe.columns(self.part.X, self.means.held_out(folds))
        return replace(table, own=own), replace(table, inputs=judged)


def _pieces(n_rows: int) -> list[slice]:
    """Return slices of rows, one after another; at least one."""
    return [slice(start, start + _PIECE) for start in range(0, max(1, n_rows), _PIECE)]


def at_equal_distances(n_rows: int) -> slice:
    """Return which rows are the sample of so many."""
    return slice(None, None, max(1, n_rows // _SAMPLE))
