"""Tables: training rows as members read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .rows import Inputs, MemoryRows
from .topology import Index

__all__ = ["WHOLE", "Table", "gather"]

# Rows come in whole multiples of what a vector instruction takes: what remained would be computed
# by others, with other last bits, depending on what stands beside it.
WHOLE = 32


@dataclass(frozen=True)
class Table:
    """Training rows.

    Attributes
    ----------
    inputs : Inputs of shape (n_inputs, n_samples)
    target : Tensor of shape (n_outputs, n_samples)
    weight : Tensor of shape (n_samples,)
    own : sequence of Inputs
        What each member reads instead of ``inputs``, if not all of them read the same.
    monotonic : ndarray of shape (n_inputs,), int64, or None
        What the output must do as an input rises, 1 or -1, or 0; None constrains nothing.
    """

    inputs: Inputs
    target: Tensor
    weight: Tensor
    own: Sequence[Inputs] = ()
    monotonic: Index | None = None

    def for_member(self, number: int) -> Table:
        """Return the table as a member reads it."""
        return replace(self, inputs=self.own[number], own=()) if self.own else self

    def of(self, columns: Index) -> Table:
        """Return the table with some of the input columns."""
        monotonic = None if self.monotonic is None else self.monotonic[columns]
        return replace(self, inputs=_SomeInputs(self.inputs, columns), monotonic=monotonic)


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
    parts: Sequence[tuple[Sequence[Table], Sequence[Tensor]]],
    dtype: torch.dtype,
    block_size: int,
    whole: int,
) -> tuple[MemoryRows, list[slice]]:
    """Return rows of each member, one behind the other, and which of them are those of each part.

    Parameters
    ----------
    parts : sequence of (views, rows)
        What each member sees of a table, and which rows of it. Members get one of their rows again,
        of weight zero, until all have the same multiple of ``whole``.
    dtype : torch.dtype
    block_size : int
    whole : int
    """
    taken = [_take(views, rows, dtype, whole) for views, rows in parts]
    inputs, target, weight = (torch.cat(part, dim=-1) for part in zip(*taken, strict=True))
    ends = np.cumsum([own.shape[-1] for *_, own in taken]).tolist()
    places = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    return MemoryRows(inputs, target, weight, whole * math.ceil(block_size / whole)), places


def _take(
    views: Sequence[Table], chosen: Sequence[Tensor], dtype: torch.dtype, whole: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs, targets and weights of some rows of each member."""
    table = views[0]
    n_rows = whole * math.ceil(max(map(len, chosen)) / whole)
    filled = [
        torch.cat([rows, rows[:1].expand(n_rows - len(rows))]).to(table.inputs.device)
        for rows in chosen
    ]
    weight = torch.stack([table.weight[rows] for rows in filled])
    for own, rows in zip(weight, chosen, strict=True):
        own[len(rows) :] = 0.0
    inputs = [view.inputs[:, rows].to(dtype) for view, rows in zip(views, filled, strict=True)]
    target = [table.target[:, rows].to(dtype) for rows in filled]
    return torch.stack(inputs), torch.stack(target), weight.to(dtype)
