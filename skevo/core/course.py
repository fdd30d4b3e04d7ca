"""Course: the generations of members, what they are judged by, and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple, Protocol

import numpy as np

from .network import Network
from .population import Population
from .state import GrowerState
from .topology import Index

__all__ = ["Course", "Evolution", "Generation", "Growth", "Stopping", "Watch", "stop_reason"]


class Generation(NamedTuple):
    """One line of the history.

    Attributes
    ----------
    loss : float
        Mean training loss.
    validation_loss : float
        Mean loss on the held-out rows or, where none are held out, the closed-form criterion that
        stands in for it.
    n_nodes : int
    seconds : float
        Since the evolution began.
    standard_error : float
        Of the validation loss or, where no row is held out, of the training loss, which rows of
        another draw would have.
    """

    loss: float
    validation_loss: float
    n_nodes: int
    seconds: float
    standard_error: float = float("nan")


@dataclass(frozen=True)
class Stopping:
    """When to stop.

    Attributes
    ----------
    n_generations : int
        After so many generations behind the linear start.
    n_iter_no_change : int or None
        After so many without an improvement of what the members are judged by, on average.
    tol : float
        What counts as one, relative to the best mean.
    max_time : float or None
        After so many seconds.
    n_averaged : int
        Members whose outputs will be averaged.
    n_least : int
        Generations before which a lack of improvement stops nothing.
    """

    n_generations: int = 100
    n_iter_no_change: int | None = None
    tol: float = 0.0
    max_time: float | None = None
    n_averaged: int = 1
    n_least: int = 0

    def after(self, seconds: float) -> Stopping:
        """Return when to stop, some seconds later."""
        if self.max_time is None:
            return self
        return replace(self, max_time=self.max_time - seconds)

    @property
    def training_share(self) -> float:
        """Share of the training loss in what a generation is judged by; see `_expected_loss`."""
        return 0.5 * (1.0 - 1.0 / self.n_averaged)


@dataclass(frozen=True)
class Evolution:
    """What an evolution gave.

    Attributes
    ----------
    network : Network
        Of the best generation.
    history : tuple of Generation
        The linear start first.
    best_generation : int
        Position in the history.
    stop_reason : str
        ``"n_generations"``, ``"n_iter_no_change"``, ``"max_time"``, or what stopped it from
        outside.
    alpha : float
        The ridge penalty of the last generation.
    expected_loss : float
        What the best generation was judged by; see `_expected_loss`.
    path : tuple of (int, Network)
        Each generation that was the best so far, and its network.
    state : GrowerState or None
        What it takes to go on from the last generation, the same object for all members that
        were grown together.
    inputs : ndarray of int64, or None
        The input columns that the member sees, which the state is in terms of; None for all.
    first_generation : int
        The first that could be chosen: those before it had inputs that held-out rows did not miss.
    n_inputs : int
        Inputs that the member had at the end.
    """

    network: Network
    history: tuple[Generation, ...]
    best_generation: int
    stop_reason: str
    alpha: float
    expected_loss: float
    path: tuple[tuple[int, Network], ...] = ()
    state: GrowerState | None = None
    inputs: Index | None = None
    first_generation: int = 0
    n_inputs: int = 0

    @classmethod
    def of(cls, network: Network) -> Evolution:
        """Return what stands for a network that is to start from, having no history."""
        return cls(network, (), 0, "", 0.0, 0.0)

    @property
    def narrow_network(self) -> Network:
        """The network in terms of the input columns that the member sees."""
        if self.inputs is None:
            return self.network
        places = np.full(self.network.topology.n_inputs, -1)
        places[self.inputs] = np.arange(len(self.inputs))
        return self.network.relocate(places, len(self.inputs))

    def with_narrow(self, network: Network) -> Evolution:
        """Return the evolution with another network, in terms of the columns that it sees."""
        if self.inputs is not None:
            network = network.relocate(self.inputs, self.network.topology.n_inputs)
        return replace(self, network=network)


class Course:
    """The course of one member: its history, and where its best network is.

    Parameters
    ----------
    share : float
        See `Stopping.training_share`.
    inputs : ndarray of int64, or None
        The input columns that the member sees; None for all.
    n_inputs : int
        Input columns in all.
    earlier : Evolution, default=None
        What it goes on from.
    """

    def __init__(
        self, share: float, inputs: Index | None, n_inputs: int, earlier: Evolution | None = None
    ) -> None:
        self.history = [] if earlier is None else list(earlier.history)
        # What the generations are judged by.
        self.losses = [_expected_loss(record, share) for record in self.history]
        self._share, self._inputs, self._n_inputs = share, inputs, n_inputs
        # Those before this one had more inputs: they are not chosen any more.
        self._first = 0 if earlier is None else earlier.first_generation
        self._n_present = n_inputs if inputs is None else len(inputs)
        if earlier is not None and earlier.state is not None:
            self._n_present = earlier.n_inputs
        # The generations that were the best so far: networks, or members of populations.
        self._path: list[tuple[int, Network | tuple[Population, int]]] = []
        if earlier is not None:
            self._path += earlier.path

    def add(self, record: Generation, population: Population, member: int) -> None:
        """Add a generation, of a member of the population."""
        self.history.append(record)
        self.losses.append(_expected_loss(record, self._share))
        last, n_present = len(self.history) - 1, int(population.wiring.inputs[member].sum())
        if n_present < self._n_present:
            self._first = last
        self._n_present = n_present
        if self.best_generation == last:
            self._path.append((last, (population, member)))

    @property
    def network(self) -> Network:
        """The network of the best generation so far, in terms of all input columns."""
        return self._network(-1)

    def _network(self, place: int) -> Network:
        generation, network = self._path[place]
        if isinstance(network, tuple):
            population, member = network
            network = population.network(member)
            if self._inputs is not None:
                network = network.relocate(self._inputs, self._n_inputs)
            self._path[place] = generation, network
        return network

    @property
    def best_generation(self) -> int:
        """Position of the best generation in the history."""
        return self.losses.index(min(self.losses[self._first :]), self._first)

    def end(self, reason: str, state: GrowerState, member: int) -> Evolution:
        """Return what the evolution of a member of a group with that state has given so far."""
        best = self.best_generation
        return Evolution(
            self.network,
            tuple(self.history),
            best,
            reason,
            float(state.alpha[member]),
            self.losses[best],
            tuple((at, self._network(place)) for place, (at, _) in enumerate(self._path)),
            state,
            self._inputs,
            self._first,
            self._n_present,
        )


class Growing(Protocol):
    """A group of members that grow, wherever that is: a grower, or what stands for one."""

    @property
    def n_members(self) -> int:
        """Members of the group."""
        ...

    @property
    def population(self) -> Population:
        """The networks as they are."""
        ...

    @property
    def state(self) -> GrowerState:
        """What it takes to go on from here."""
        ...


class Growth:
    """Members as they grow: the grower of each group, and the course of each member.

    Parameters
    ----------
    growers : sequence of Growing
        One for each group.
    courses : sequence of Course
        Of the members of the first group, then of the second, and so on.

    Attributes
    ----------
    growers, courses
    """

    def __init__(self, growers: Sequence[Growing], courses: Sequence[Course]) -> None:
        self.growers, self.courses = growers, courses

    @property
    def n_generations(self) -> int:
        """Generations behind the linear start; -1 before it."""
        return len(self.courses[0].history) - 1

    def add(self, records: Iterable[Sequence[Generation]]) -> None:
        """Add a generation of each group."""
        courses = iter(self.courses)
        for grower, of_group in zip(self.growers, records, strict=True):
            for member, record in enumerate(of_group):
                next(courses).add(record, grower.population, member)

    def evolutions(self, reason: str) -> list[Evolution]:
        """Return what the members' evolutions have given so far, and why they stop."""
        found, courses = [], iter(self.courses)
        for grower in self.growers:
            state = grower.state
            found += [
                next(courses).end(reason, state, member) for member in range(grower.n_members)
            ]
        return found


# Called after each generation, it returns why to stop, or nothing.
Watch = Callable[[Growth], str]


def _expected_loss(record: Generation, share: float) -> float:
    r"""Estimate the loss of the average of members by that of one.

    For a fit of :math:`d` parameters the gap between held-out and training loss is about twice what
    the variance of the fit adds to the loss. Averaging :math:`K` members leaves :math:`1/K` of that
    variance, so that of the gap :math:`(1 - 1/K)/2` has to be taken off [1]_.

    References
    ----------
    .. [1] A. Krogh and J. Vedelsby, "Neural network ensembles, cross validation, and active
       learning", Advances in Neural Information Processing Systems 7, 1995.
    """
    return record.validation_loss - share * (record.validation_loss - record.loss)


def stop_reason(stopping: Stopping, courses: Sequence[Course], before: float) -> str:
    """Return why to stop, or nothing; ``before`` are seconds that do not count."""
    history = courses[0].history
    if not history:
        return ""
    if len(history) - 1 >= stopping.n_generations:
        return "n_generations"
    bar, stale = float("inf"), 0
    for losses in zip(*(course.losses for course in courses), strict=True):
        mean = fmean(losses)
        stale += 1
        if mean < bar:
            bar = mean - stopping.tol * abs(mean)
            stale = 0
    patience = stopping.n_iter_no_change
    if patience is not None and stale >= patience and len(history) > stopping.n_least:
        return "n_iter_no_change"
    if stopping.max_time is not None and history[-1].seconds - before >= stopping.max_time:
        return "max_time"
    return ""
