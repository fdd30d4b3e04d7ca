"""Held-out rows: what the members say of rows that one of them has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .ensemble import Ensemble
from .folds import Task
from .statistics import midmean
from .table import AnyTable, Table, every_so_many

__all__ = ["HeldOut", "evaluate_held_out"]

# Of at most so many rows, to which the members contribute alike.
_MOST_ROWS = 20_000


@dataclass(frozen=True)
class HeldOut:
    """The members' outputs on rows that one of them held out.

    Attributes
    ----------
    table : Table
        Those rows.
    outputs : Tensor of shape (n_members, n_outputs, n_samples)
    holder : Tensor of int64 of shape (n_samples,), or None
        The member that held the row out; None where no row was held out, and the rows are some
        that all members were trained on.
    """

    table: Table
    outputs: Tensor
    holder: Tensor | None

    @property
    def inputs(self) -> Tensor:
        """Inputs of the rows, of shape (n_inputs, n_samples)."""
        return self.table.inputs[:, :]

    @property
    def target(self) -> Tensor:
        """Targets of the rows, of shape (n_outputs, n_samples)."""
        return self.table.target

    @property
    def weight(self) -> Tensor:
        """Weights of the rows, of shape (n_samples,)."""
        return self.table.weight

    def unexplained(self, inflation: Tensor | None = None) -> Tensor:
        """Return the share of each output's variance that errors on new rows have, at least.

        Errors are those of the member that held the row out. That none has gone astray among a few
        rows does not say that none will: as in Laplace's rule of succession there is one more row,
        with an error of the standard deviation of the targets. It is as large as their range where
        there are less than four members: `midmean` leaves none out of them.

        Parameters
        ----------
        inflation : Tensor of shape (n_members,), default=None
            Where no row was held out, what each member's errors on rows that it was trained on are
            to be multiplied by.

        Returns
        -------
        Tensor of shape (n_outputs,), float64
        """
        target, weight = self.target.double(), self.weight.double()
        errors = target - self.outputs.double()
        if self.holder is None:
            assert inflation is not None
            errors = midmean(errors * inflation.to(errors)[:, None, None])
        else:
            errors = errors.gather(0, self.holder.expand(1, *target.shape))[0]
        total = weight.sum()
        variance = (target - (target @ weight / total)[:, None]).square() @ weight / total
        astray = variance if len(self.outputs) >= 4 else (target.amax(1) - target.amin(1)).square()
        return (errors.square() @ weight + astray) / (variance * (total + 1.0))


def evaluate_held_out(
    table: AnyTable, tasks: Sequence[Task], ensemble: Ensemble, given: AnyTable | None = None
) -> HeldOut:
    """Evaluate the members on the rows that they held out.

    Parameters
    ----------
    table : AnyTable
    tasks : sequence of Task
    ensemble : Ensemble
        Of the members that did the tasks, in their order.
    given : AnyTable, default=None
        Of the validation rows, if they are not rows of ``table``; they are shared out among the
        members, none of which has seen them.

    Returns
    -------
    HeldOut
    """
    n_most = -(-_MOST_ROWS // (len(tasks) if given is None else 1))
    folds = [task.validation[:n_most] for task in tasks if task.validation is not None]
    if given is not None:
        found = given.take(folds[0])
        holder = torch.arange(len(found)) % len(tasks)
    elif folds:
        found, n_each = table.take(torch.cat(folds)), torch.tensor([len(fold) for fold in folds])
        holder = torch.arange(len(folds)).repeat_interleave(n_each)
    else:
        found, holder = table.take(every_so_many(len(table), _MOST_ROWS)), None
    blocks = ensemble.network.predictor.blocks(lambda some: found.inputs[:, some], len(found))
    with torch.no_grad():
        outputs = torch.cat([ensemble.members(heads) for heads in blocks], dim=-1)
    return HeldOut(found, outputs, None if holder is None else holder.to(outputs.device))
