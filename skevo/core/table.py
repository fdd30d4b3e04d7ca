"""Tables: training rows as members read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .population import Population
from .rows import Inputs, MemoryRows, RowSource, StreamedRows
from .topology import Index

__all__ = ["WHOLE", "AnyTable", "Table", "every_so_many", "gather"]

# Rows come in whole multiples of what a vector instruction takes: what remained would be computed
# by others, with other last bits, depending on what stands beside it.
WHOLE = 32


class AnyTable(Protocol):
    """Training rows, wherever they are: what the engine asks of a table.

    Attributes
    ----------
    n_inputs, n_outputs : int
    total_weight : float
    device : torch.device
        Where columns are computed.
    dtype : torch.dtype
        Of the inputs.
    monotonic : ndarray of shape (n_inputs,), int64, or None
        See `Table`.
    """

    @property
    def n_inputs(self) -> int: ...  # noqa: D102

    @property
    def n_outputs(self) -> int: ...  # noqa: D102

    @property
    def total_weight(self) -> float: ...  # noqa: D102

    @property
    def device(self) -> torch.device: ...  # noqa: D102

    @property
    def dtype(self) -> torch.dtype: ...  # noqa: D102

    @property
    def monotonic(self) -> Index | None: ...  # noqa: D102

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def take(self, rows: Tensor | slice) -> Table:
        """Return some rows, read into memory."""
        ...

    def stream(self, population: Population, block_size: int, n_threads: int = 1) -> RowSource:
        """Return all rows as a source that holds the columns of a population."""
        ...

    def for_member(self, number: int) -> AnyTable:
        """Return the table as a member reads it."""
        ...

    def of(self, columns: Index) -> AnyTable:
        """Return the table with some of the input columns."""
        ...


@dataclass(frozen=True)
class Table:
    """Training rows in memory, or read from where they are mapped to.

    Attributes
    ----------
    inputs : Inputs of shape (n_inputs, n_samples)
    target : Tensor of shape (n_outputs, n_samples)
    weight : Tensor of shape (n_samples,)
    own : mapping of int to Inputs
        What each member, by its number, reads instead of ``inputs``, if not all of them read the
        same.
    monotonic : ndarray of shape (n_inputs,), int64, or None
        What the output must do as an input rises, 1 or -1, or 0; None constrains nothing.
    """

    inputs: Inputs
    target: Tensor
    weight: Tensor
    own: Mapping[int, Inputs] = field(default_factory=dict)
    monotonic: Index | None = None

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def n_inputs(self) -> int:
        """Number of input columns."""
        return len(self.inputs)

    @property
    def n_outputs(self) -> int:
        """Number of targets."""
        return len(self.target)

    @property
    def total_weight(self) -> float:
        """Weight of all rows."""
        return float(self.weight.sum(dtype=torch.float64))

    @property
    def device(self) -> torch.device:
        """Where columns are computed."""
        return self.inputs.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the inputs."""
        return self.inputs.dtype

    def take(self, rows: Tensor | slice) -> Table:
        """Return some rows, read into memory."""
        on_device = rows.to(self.device) if isinstance(rows, Tensor) else rows
        inputs, target = self.inputs[:, rows], self.target[:, on_device]
        return Table(inputs, target, self.weight[on_device], monotonic=self.monotonic)

    def stream(self, population: Population, block_size: int, n_threads: int = 1) -> StreamedRows:
        """Return all rows as a source that holds the columns of a population."""
        rows = (self.inputs, self.target, self.weight)
        return StreamedRows(*rows, population, block_size, n_threads)

    def for_member(self, number: int) -> Table:
        """Return the table as a member reads it."""
        return replace(self, inputs=self.own[number], own={}) if self.own else self

    def of(self, columns: Index) -> Table:
        """Return the table with some of the input columns."""
        monotonic = None if self.monotonic is None else self.monotonic[columns]
        return replace(self, inputs=_SomeInputs(self.inputs, columns), monotonic=monotonic)


def every_so_many(n_rows: int, n_most: int) -> slice:
    """Return rows at equal distances, at most so many."""
    return slice(None, None, max(1, -(-n_rows // n_most)))


class _SomeInputs:
    """Some of the input columns of a table, taken as rows are read.

    Parameters
    ----------
    inputs : Inputs
    columns : ndarray of int64
    """

    def __init__(self, inputs: Inputs, columns: Index) -> None:
        self._inputs = inputs
        self._columns = torch.as_tensor(columns, device=inputs.device)
        self.device, self.dtype = inputs.device, inputs.dtype

    def __len__(self) -> int:
        return len(self._columns)

    def __getitem__(self, at: tuple[slice, Tensor | slice]) -> Tensor:
        """Return the columns of some rows."""
        return self._inputs[at][self._columns]


def gather(
    parts: Sequence[tuple[Sequence[AnyTable], Sequence[Tensor], Sequence[Tensor | None]]],
    dtype: torch.dtype,
    block_size: int,
    whole: int,
) -> tuple[MemoryRows, list[slice]]:
    """Return rows of each member, one behind the other, and which of them are those of each part.

    Parameters
    ----------
    parts : sequence of (views, rows, factors)
        What each member sees of a table, which rows of it, and what their weights are multiplied
        by, if not by 1. Members get one of their rows again, of weight zero, until all have the
        same multiple of ``whole``.
    dtype : torch.dtype
    block_size : int
    whole : int
    """
    taken = [_take(*part, dtype, whole) for part in parts]
    inputs, target, weight = (torch.cat(part, dim=-1) for part in zip(*taken, strict=True))
    ends = np.cumsum([own.shape[-1] for *_, own in taken]).tolist()
    places = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    return MemoryRows(inputs, target, weight, whole * math.ceil(block_size / whole)), places


def _take(
    views: Sequence[AnyTable],
    chosen: Sequence[Tensor],
    factors: Sequence[Tensor | None],
    dtype: torch.dtype,
    whole: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs, targets and weights of some rows of each member."""
    n_rows = whole * math.ceil(max(map(len, chosen)) / whole)
    inputs, target, weight = [], [], []
    for view, rows, factor in zip(views, chosen, factors, strict=True):
        taken = view.take(torch.cat([rows, rows[:1].expand(n_rows - len(rows))]))
        taken.weight[len(rows) :] = 0.0
        if factor is not None:
            taken.weight[: len(rows)] *= factor.to(taken.weight)
        inputs.append(taken.inputs[:, :].to(dtype))
        target.append(taken.target.to(dtype))
        weight.append(taken.weight.to(dtype))
    return torch.stack(inputs), torch.stack(target), torch.stack(weight)
