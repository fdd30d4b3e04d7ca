"""Side by side: groups of members that grow in processes beside each other.

Threads of torch share what is large enough to be shared; the many small calls between take the
interpreter, of which a process has one. The first group stays in this process. The others move to
workers as soon as there are some, with what it takes to go on, so that the result is the same
wherever, and for however long, a group has grown where it did.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from .course import Generation
from .evolution import advance_all
from .group import Group
from .grower import Grower
from .nursery import Make
from .operators import Operator
from .population import Population
from .state import GrowerState
from .table import Table
from .threads import torch_threads, within
from .workers import TravelError, Worker, borrow, give_back

__all__ = ["side_by_side"]

# A worker is started once growth that it would have shared has taken so many seconds, about what
# starting one takes: whenever growth ends, that has cost about as much as it saves at the most.
_PATIENCE = 3.0


@contextmanager
def side_by_side(operators: Sequence[Operator], n_jobs: int) -> Iterator[SideBySide]:
    """Provide where groups grow side by side."""
    nursery = SideBySide(operators, n_jobs)
    try:
        yield nursery
        nursery.leave()
    finally:
        nursery.close()


class SideBySide:
    """Where groups of members grow: in this process and others.

    Parameters
    ----------
    operators : sequence of Operator
        Those that nodes can have.
    n_jobs : int
        Threads in all of them together.
    """

    # Seconds of growth, in any fits, that had too few workers, since one was started.
    _seconds: ClassVar[float] = 0.0

    def __init__(self, operators: Sequence[Operator], n_jobs: int) -> None:
        self._operators, self._n_jobs = tuple(operators), n_jobs
        self._workers: list[Worker] = []
        # Those that have not started yet.
        self._coming: list[Worker] = []
        self._n_groups, self._is_alone = 0, False

    def start(self, make: Make, group: Group, table: Any, given: Any) -> _Somewhere:
        """Return what stands for the grower of a group."""
        self._n_groups += 1
        return _Somewhere(self._n_groups, self._operators, _Plan(make, group, table, given))

    def advance(self, groups: Sequence[_Somewhere], first: bool) -> list[list[Generation]]:
        """Have groups take a generation, side by side."""
        began = time.perf_counter()
        self._call_workers(groups)
        self._move(groups)
        n_threads = self._threads
        away = [[group for group in groups if group.home is worker] for worker in self._workers]
        for worker, theirs, n in zip(self._workers, away, n_threads[1:], strict=False):
            worker.ask(_advance, [group.number for group in theirs], first, n)
        here = [group for group in groups if group.home is None]
        with within(min(torch.get_num_threads(), n_threads[0])):
            found = advance_all([group.grower for group in here], first)
        records = dict(zip(here, found, strict=True))
        for worker, theirs in zip(self._workers, away, strict=True):
            for group, (of_group, population) in zip(theirs, worker.answer(), strict=True):
                group.tell(population)
                records[group] = of_group
        if self._n_missing(groups):
            SideBySide._seconds += time.perf_counter() - began
        return [records[group] for group in groups]

    def leave(self) -> None:
        """Give the workers back, who have done what they were asked."""
        for worker in [*self._workers]:
            # Nothing is lost with one that has ended since: it is closed.
            with suppress(RuntimeError):
                worker.ask(_forget)
                worker.answer()
                self._workers.remove(worker)
                give_back(worker)
        while self._coming:
            give_back(self._coming.pop())

    def close(self) -> None:
        """End the workers that have been left in the middle of something."""
        for worker in [*self._workers, *self._coming]:
            worker.close()

    def _n_missing(self, groups: Sequence[_Somewhere]) -> int:
        """Return how many workers more there could be."""
        n_there = 1 + len(self._workers) + len(self._coming)
        return 0 if self._is_alone else min(len(groups), self._n_jobs) - n_there

    def _call_workers(self, groups: Sequence[_Somewhere]) -> None:
        """Take workers that wait, and start others once growth has taken a while."""
        while self._n_missing(groups) > 0:
            worker = borrow()
            if worker is None and SideBySide._seconds < _PATIENCE:
                break
            if worker is None:
                try:
                    worker = Worker()
                except OSError as error:
                    self._stay_alone(f"no worker process could be started ({error})")
                    break
                SideBySide._seconds = 0.0
            self._coming.append(worker)
        for worker in [*self._coming]:
            if worker.has_started or worker.has_ended:
                self._coming.remove(worker)
                if worker.has_started:
                    self._workers.append(worker)
                else:
                    worker.close()
                    self._stay_alone("a worker process ended as it started")

    def _stay_alone(self, reason: str) -> None:
        self._is_alone = True
        message = f"n_jobs: {reason}; threads of this one share the work."
        warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _move(self, groups: Sequence[_Somewhere]) -> None:
        """Move groups to workers, in turn; a share of them stays here."""
        n_homes = min(len(groups), self._n_jobs)
        for place, group in enumerate(groups):
            home = place % n_homes - 1
            if self._is_alone or group.home is not None or not 0 <= home < len(self._workers):
                continue
            try:
                group.move(self._workers[home])
            except TravelError as error:
                self._stay_alone(f"members cannot travel to another process ({error})")

    @property
    def _threads(self) -> list[int]:
        """Threads of this process, and of each worker; one that is starting takes one."""
        n_processes = 1 + len(self._workers)
        share, left = divmod(self._n_jobs - len(self._coming), n_processes)
        return [share + (place < left) for place in range(n_processes)]


class _Somewhere:
    """What stands for the grower of a group, which is made where it is first needed.

    Parameters
    ----------
    number : int
        By which workers know it.
    operators : tuple of Operator
    plan : _Plan

    Attributes
    ----------
    home : Worker or None
        Where it grows; None is here.
    """

    def __init__(self, number: int, operators: tuple[Operator, ...], plan: _Plan) -> None:
        self.number, self.n_members = number, len(plan.group.tasks)
        self.home: Worker | None = None
        self._operators = operators
        self._plan: _Plan | None = plan
        self._grower: Grower | None = None
        self._last: Population | None = None

    @property
    def grower(self) -> Grower:
        """The grower of the group, which grows here."""
        if self._grower is None:
            assert self._plan is not None
            self._grower = self._plan.grower()
        return self._grower

    @property
    def population(self) -> Population:
        """The networks as they are."""
        return self.grower.population if self._last is None else self._last

    @property
    def state(self) -> GrowerState:
        """What it takes to go on from here."""
        if self.home is None:
            return self.grower.state
        self.home.ask(_state, self.number)
        state: GrowerState = self.home.answer()
        return replace(state, population=self._with_operators(state.population))

    def move(self, home: Worker) -> None:
        """Have the group go on growing in a worker."""
        assert self._plan is not None
        plan = self._plan if self._grower is None else self._plan.going_on(self._grower.state)
        home.ask(_take, self.number, plan.packed())
        home.answer()
        self.home, self._plan, self._grower = home, None, None

    def tell(self, population: Population) -> None:
        """Take what a worker tells of the networks."""
        self._last = self._with_operators(population)

    def _with_operators(self, population: Population) -> Population:
        """Return what has travelled without its operators."""
        return replace(population, operators=self._operators)


@dataclass(frozen=True)
class _Plan:
    """How a group is grown.

    Attributes
    ----------
    make : callable
        Makes the grower.
    group : Group
    table, given : Table
        See `fit_members`.
    """

    make: Make
    group: Group
    table: Table
    given: Table

    def grower(self) -> Grower:
        """Return a grower."""
        return self.make(self.group, self.table, self.given)

    def going_on(self, state: GrowerState) -> _Plan:
        """Return the plan to go on from a state."""
        return replace(self, group=self.group.going_on(state))

    def packed(self) -> _Plan:
        """Return the plan with no other rows than are needed, which are in memory."""
        apart = self.given is not self.table
        group, rows, given_rows = self.group.packed(apart)
        table = _taken(self.table, rows, group)
        given = _taken(self.given, given_rows, group) if apart else table
        return replace(self, group=group, table=table, given=given)


def _taken(table: Table, rows: Tensor | slice, group: Group) -> Table:
    """Return some rows of a table, as the members of a group read them."""
    own = {task.number: table.own[task.number][:, rows] for task in group.tasks if table.own}
    return replace(table.take(rows), own=own)


# -- in a worker -------------------------------------------------------------------------------

# What grows in this process, if it is a worker, by its number.
_growing: dict[int, _Plan | Grower] = {}


def _take(number: int, plan: _Plan) -> None:
    _growing[number] = plan


def _advance(
    numbers: Sequence[int], first: bool, n_threads: int
) -> list[tuple[list[Generation], Population]]:
    """Have groups take a generation; return what is told of it."""
    told = []
    with torch_threads(n_threads), torch.no_grad():
        for number in numbers:
            grower = _growing[number]
            if isinstance(grower, _Plan):
                grower = _growing[number] = grower.grower()
            with within(min(n_threads, grower.n_members)):
                (records,) = advance_all([grower], first)
            told.append((records, grower.population.to_travel()))
    return told


def _state(number: int) -> GrowerState:
    grower = _growing[number]
    assert isinstance(grower, Grower)
    with torch.no_grad():
        state = grower.state
    return replace(state, population=state.population.to_travel())


def _forget() -> None:
    _growing.clear()
