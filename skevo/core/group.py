"""Group: members whose networks are computed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .course import Evolution
from .folds import Task
from .network import Network
from .population import Population
from .state import GrowerState
from .table import AnyTable
from .topology import Index

__all__ = ["Group"]


@dataclass(frozen=True)
class Group:
    """Members whose networks are computed together.

    Attributes
    ----------
    tasks : sequence of Task
    starts : sequence of Evolution or None
        What each goes on from.
    seen : sequence of ndarray or None
        The input columns that each sees; None for all.
    """

    tasks: Sequence[Task]
    starts: Sequence[Evolution | None]
    seen: Sequence[Index | None]

    def packed(self, apart: bool = False) -> tuple[Group, Tensor | slice, Tensor | slice]:
        """Return the group whose tables have only the rows that its members take, and those rows.

        Parameters
        ----------
        apart : bool, default=False
            Whether validation rows are of a table of their own.

        Returns
        -------
        group : Group
        rows, given : Tensor of int64, or slice
            Of the table, and of that of the validation rows; both the same unless they are apart.
        """
        train = [task.train for task in self.tasks]
        held = [task.validation for task in self.tasks if task.validation is not None]
        rows = _distinct(train if apart else [*train, *held])
        given = _distinct(held) if apart else rows
        tasks = [
            replace(task, train=_place(task.train, rows), validation=_place(task.validation, given))
            for task in self.tasks
        ]
        return replace(self, tasks=tasks), rows, given

    def going_on(self, state: GrowerState) -> Group:
        """Return the group that goes on from the state of a grower."""
        starts = [
            replace(Evolution.of(state.population.network(k)), state=state)
            for k in range(len(self.tasks))
        ]
        return replace(self, starts=starts)

    def views(self, table: AnyTable) -> list[AnyTable]:
        """Return what each member sees of a table."""
        tables = [table.for_member(task.number) for task in self.tasks]
        return [
            table if inputs is None else table.of(inputs)
            for table, inputs in zip(tables, self.seen, strict=True)
        ]

    def population(self, linear: Network) -> Population:
        """Return what to start from without a state: the networks, if any, or linear ones."""
        networks = []
        for start, inputs in zip(self.starts, self.seen, strict=True):
            network = linear if start is None else start.network
            if start is not None and inputs is not None:
                places = np.full(network.topology.n_inputs, -1)
                places[inputs] = np.arange(len(inputs))
                network = network.bare(len(network.bias)).relocate(places, len(inputs))
            networks.append(network.to(linear.bias.device, linear.bias.dtype))
        return Population.of(networks)


def _distinct(parts: Sequence[Tensor | None]) -> Tensor | slice:
    """Return the rows of some parts in ascending order, each once; None stands for all rows."""
    known = [part for part in parts if part is not None]
    return torch.cat(known).unique() if len(known) == len(parts) else slice(None)


def _place(part: Tensor | None, rows: Tensor | slice) -> Tensor | None:
    """Return where rows are among others."""
    return part if part is None or isinstance(rows, slice) else torch.searchsorted(rows, part)
