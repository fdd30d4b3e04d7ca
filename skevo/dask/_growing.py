"""Growing on workers: each group of members on one of them, generation by generation.

The generations of a group are a chain of tasks. What a task returns is all that the next one needs,
and stays on the worker; what comes back are a few numbers for each member, and its network. When a
worker is lost, Dask computes again what was there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from dask.sizeof import sizeof
from distributed import Future

from ..core.course import Generation
from ..core.evolution import advance_all
from ..core.group import Group
from ..core.grower import Grower, GrowerState
from ..core.nursery import Make
from ..core.operators import Operator
from ..core.population import Population
from ..core.table import Table
from ..core.threads import torch_threads
from ._cluster import Cluster

__all__ = ["ClusterNursery"]


class ClusterNursery:
    """Where groups of members grow: on the workers of a cluster.

    Parameters
    ----------
    cluster : Cluster
    operators : sequence of Operator
        Those that nodes can have.
    """

    def __init__(self, cluster: Cluster, operators: Sequence[Operator]) -> None:
        self._cluster, self._operators = cluster, tuple(operators)
        self._n_started = 0

    def start(self, make: Make, group: Group, table: Any, given: Any) -> _Away:
        """Return what stands for the grower of a group, on the next of the workers."""
        workers = self._cluster.workers
        # There may be none while lost ones are started again.
        home = workers[self._n_started % max(1, len(workers)) :][:1]
        self._n_started += 1
        rows = group.rows
        part = table.take_to(home, slice(None) if rows is None else rows)
        plan = self._cluster.share((make, group if rows is None else group.within(rows)))
        return _Away(self._cluster, len(group.tasks), part, plan, home)

    def advance(self, groups: Sequence[Any], first: bool) -> list[list[Generation]]:
        """Have groups take a generation, side by side."""
        reports = self._cluster.fetch([group.advance(first) for group in groups])
        for group, (_, population) in zip(groups, reports, strict=True):
            # A user's function that has been sent to a worker comes back as another one.
            group.population = replace(population, operators=self._operators)
        return [records for records, _ in reports]


class _Away:
    """What stands for the grower of a group that grows on a worker.

    Parameters
    ----------
    cluster : Cluster
    n_members : int
    part : Future
        Of a `Table` with the rows of the group.
    plan : Future
        Of a function that makes the grower, and the group as the table has it.
    home : sequence of str
        Workers that should do it, unless they are lost.
    """

    population: Population

    def __init__(
        self, cluster: Cluster, n_members: int, part: Future, plan: Future, home: Sequence[str]
    ) -> None:
        self._cluster, self._part, self._plan, self._home = cluster, part, plan, home
        self._last: Future | None = None
        self.n_members = n_members

    @property
    def state(self) -> GrowerState:
        """What it takes to go on from here."""
        state: GrowerState
        (state,) = self._cluster.fetch([self._on_worker(_state_of, self._last)])
        return state

    def advance(self, first: bool) -> Future:
        """Have the group take a generation, and return what will be told of it."""
        self._last = self._on_worker(_advance, self._last, self._part, self._plan, first)
        return self._on_worker(_report, self._last)

    def _on_worker(self, function: Any, *args: Any) -> Future:
        return self._cluster.submit_to(self._home, function, *args)


class _Step:
    """What a generation of a group leaves to the next one.

    The grower itself goes with it as long as it stays in the process where it was made; but whoever
    takes it changes it, and a second one makes its own from the state.

    Parameters
    ----------
    grower : Grower
    records : list of Generation
    """

    def __init__(self, grower: Grower, records: list[Generation]) -> None:
        self.state, self.records = grower.state, records
        self._grower = [grower]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the grower, which holds columns of all rows of the group."""
        return {**self.__dict__, "_grower": []}

    def grower(self, make: Make, group: Group, part: Table) -> Grower:
        """Return a grower that nobody else has."""
        try:
            return self._grower.pop()
        except IndexError:
            return make(group.going_on(self.state), part, part)


def _advance(last: _Step | None, part: Table, plan: tuple[Make, Group], first: bool) -> _Step:
    """Return the next generation of a group."""
    make, group = plan
    with torch_threads(1), torch.no_grad():
        grower = make(group, part, part) if last is None else last.grower(make, group, part)
        (records,) = advance_all([grower], first)
        return _Step(grower, records)


def _report(step: _Step) -> tuple[list[Generation], Population]:
    """Return what is told of a generation."""
    population = step.state.population
    # Without what is known from elsewhere, or follows from the wiring.
    return step.records, replace(population, operators=(), wiring=replace(population.wiring))


def _state_of(step: _Step) -> GrowerState:
    return step.state


@sizeof.register(_Step)
def _bytes_of(step: _Step) -> int:
    """Return about how large a step is, so that Dask does not move it lightly."""
    parts = [step.state.curvature.half, step.state.curvature.inverse, step.state.curvature.matrix]
    return 3 * sum(part.nbytes for part in parts)
