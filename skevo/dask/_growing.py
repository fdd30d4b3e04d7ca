"""Growing on workers: each group of members on one of them, generation by generation.

The generations of a group are a chain of tasks. What a task returns is all that the next one needs,
and stays on the worker, on its GPU if it is to use one; what comes back are a few numbers for each
member, and its network. When a worker is lost, Dask computes again what was there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import torch
from distributed import Future

from .._devices import CPU, find_device
from .._memory import enough_memory
from ..core.course import Generation
from ..core.evolution import advance_all
from ..core.group import Group
from ..core.grower import Grower
from ..core.nursery import Make
from ..core.operators import Operator
from ..core.population import Population
from ..core.state import GrowerState
from ..core.table import Table
from ..core.threads import torch_threads
from ._cluster import Cluster
from ._device import moved

__all__ = ["ClusterNursery"]


class ClusterNursery:
    """Where groups of members grow: on the workers of a cluster.

    Parameters
    ----------
    cluster : Cluster
    operators : sequence of Operator
        Those that nodes can have.
    device : str
        Of the workers.
    """

    def __init__(self, cluster: Cluster, operators: Sequence[Operator], device: str) -> None:
        self._cluster, self._operators, self._device = cluster, tuple(operators), device
        self._n_started = 0

    def start(self, make: Make, group: Group, table: Any, given: Any) -> _Away:
        """Return what stands for the grower of a group, on the next of the workers."""
        workers = self._cluster.workers
        # There may be none while lost ones are started again.
        home = workers[self._n_started % max(1, len(workers)) :][:1]
        self._n_started += 1
        own, rows, _ = group.packed()
        part = table.take_to(home, rows)
        plan = self._cluster.share(_Plan(make, own, self._device))
        return _Away(self._cluster, len(group.tasks), part, plan, home)

    def advance(self, groups: Sequence[Any], first: bool) -> list[list[Generation]]:
        """Have groups take a generation, side by side."""
        reports = self._cluster.fetch([group.advance(first) for group in groups])
        for group, (_, population) in zip(groups, reports, strict=True):
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
        Of a `_Plan`.
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
        (state,) = self._cluster.fetch([self._on_worker(attrgetter("state"), self._last)])
        return state

    def advance(self, first: bool) -> Future:
        """Have the group take a generation, and return what will be told of it."""
        self._last = self._on_worker(_advance, self._last, self._part, self._plan, first)
        return self._on_worker(_Step.report, self._last)

    def _on_worker(self, function: Any, *args: Any) -> Future:
        return self._cluster.submit_to(self._home, function, *args)


@dataclass(frozen=True)
class _Plan:
    """How a group is grown on a worker.

    Attributes
    ----------
    make : callable
        Makes the grower.
    group : Group
        As the table on the worker has it.
    device : str
    """

    make: Make
    group: Group
    device: str

    def grower(self, part: Table, state: GrowerState | None = None) -> Grower:
        """Return a grower on the device of the worker, going on from a state if there is one."""
        device = find_device(self.device)
        group = self.group if state is None else self.group.going_on(state)
        group = replace(group, starts=moved(group.starts, CPU, device))
        part = moved(part, CPU, device)
        return self.make(group, part, part)


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
        self._state, self.records = grower.state, records
        self._device = grower.alpha.device
        self._grower = [grower]

    @property
    def state(self) -> GrowerState:
        """What it takes to go on, on the CPU."""
        state: GrowerState = moved(self._state, self._device, CPU)
        return state

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the grower, which holds columns of all rows of the group."""
        return {**self.__dict__, "_state": self.state, "_device": CPU, "_grower": []}

    def grower(self, plan: _Plan, part: Table) -> Grower:
        """Return a grower that nobody else has."""
        try:
            return self._grower.pop()
        except IndexError:
            return plan.grower(part, self.state)

    def report(self) -> tuple[list[Generation], Population]:
        """Return what is told of the generation."""
        return self.records, moved(self._state.population.to_travel(), self._device, CPU)

    def __sizeof__(self) -> int:
        """Return about how large a step is, which Dask asks for: it is not to move it lightly."""
        curvature = self._state.curvature
        # The inverse is as large as the matrix, and need not be computed to say so.
        return 3 * (curvature.half.nbytes + 2 * curvature.matrix.nbytes)


def _advance(last: _Step | None, part: Table, plan: _Plan, first: bool) -> _Step:
    """Return the next generation of a group."""
    with torch_threads(1), torch.no_grad(), enough_memory():
        grower = plan.grower(part) if last is None else last.grower(plan, part)
        (records,) = advance_all([grower], first)
        return _Step(grower, records)
