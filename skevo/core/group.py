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

    @property
    def rows(self) -> Tensor | None:
        """The rows that the members take, in order; None where they take all."""
        taken = [part for task in self.tasks for part in (task.train, task.validation)]
        known = [part for part in taken if part is not None]
        if any(task.train is None for task in self.tasks):
            return None
        return torch.cat(known).unique()

    def within(self, rows: Tensor) -> Group:
        """Return the group whose table has some rows only, in order, all that the members take."""

        def place(part: Tensor | None) -> Tensor | None:
            return None if part is None else torch.searchsorted(rows, part)

        tasks = [
            replace(task, train=place(task.train), validation=place(task.validation))
            for task in self.tasks
        ]
        return replace(self, tasks=tasks)

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
