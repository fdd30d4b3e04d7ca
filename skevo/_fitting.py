"""Fitting: what both estimators do with checked rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import sklearn
import torch
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from ._callbacks import (
    CallbackSupportMixin,
    Told,
    interruptible,
    print_generations,
    resumable,
    watch_all,
)
from ._devices import CPU, moved
from ._explain import Explains
from ._memory import check_memory, enough_memory, peak_memory
from ._monotonic import monotonic_inputs
from ._parameters import HasParameters
from ._path import path_of
from ._reading import as_copies
from ._rows import Part, Recipe, TrainingRows, Whole
from ._sample import Sample, take_in
from ._target import TargetRange
from .core.course import Course, Evolution, Generation, Stopping
from .core.ensemble import CORRECTED_ROWS, Ensemble
from .core.folds import MOST_ROWS, plan_members
from .core.held_out import HeldOut, evaluate_held_out
from .core.losses import Loss
from .core.members import fit_members
from .core.network import Network
from .core.nursery import HERE, Nursery
from .core.side_by_side import side_by_side
from .core.table import every_so_many
from .core.threads import torch_threads

__all__ = ["Fits", "Goal"]


class Goal(NamedTuple):
    """What a fit is after.

    Attributes
    ----------
    loss : Loss
        In the network's units.
    targets : TargetRange, default=None
        Of a regression.
    """

    loss: Loss
    targets: TargetRange | None = None


class Fits(CallbackSupportMixin, HasParameters, Explains):
    """Fit, as a whole or part by part."""

    _ensemble: Ensemble
    _members: list[Evolution] | None
    _sample: Sample | None
    _path: list[list[Network]]
    _seed: int
    n_iter_: int
    n_members_: int
    # Parameters on which the model does not depend, or only through what the members start from.
    _beside_the_model: ClassVar[tuple[str, ...]] = ("n_jobs", "verbose", "warm_start", "init")

    # In one thread of torch: several would show in the last bits of what each computes a part of.

    def _fit(self, X: Any, y: Any, sample_weight: Any, given: tuple[Any, Any, Any]) -> Self:
        """Fit to rows, as a whole or going on from the fit before."""
        with self._whole_or_not(), torch_threads(1), enough_memory():
            told = Told(self, self.n_generations, X, y, sample_weight)
            rows = as_copies(self._take_in(X, y, sample_weight, self._goes_on))
            goal = self._prepare(rows)
            n_folded = len(rows) if given[0] is None else None
            n_members = self._n_grown(n_folded, self._members if self._goes_on else None)
            earlier = self._earlier(n_members)
            if not self._goes_on:
                self._seed = self._draw_seed()
            self._sample = None
            self._learn_scale(rows, self._goes_on)
            stopping = self._stopping(len(rows), n_members)
            self._seed = self._grow(
                rows, self._given(*given), goal, self._seed, earlier, stopping, told
            )
            told.end()
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        """Grow a generation on a sample of all rows that have come so far."""
        with self._whole_or_not(), torch_threads(1), enough_memory():
            told, known = Told(self, 1, X, y, sample_weight), hasattr(self, "_ensemble")
            taken = self._take_in(X, y, sample_weight, known, reset=not known)
            assert isinstance(taken, Whole)
            if not known:
                self._seed, self._sample, self.n_iter_ = self._draw_seed(), None, 0
            seed, n_iter = self._seed + self.n_iter_, self.n_iter_ + 1
            self._sample = sample = take_in(self._sample, *taken.part, seed)
            rows = as_copies(Whole(Part(sample.X, sample.y, sample.weight)))
            goal = self._prepare(rows, known=True)
            earlier: list[Evolution] | None = None
            # How many rows there will be is not known.
            n_members = self._n_grown(None, self._path[-1] if known else None)
            if known:
                earlier = [Evolution.of(network) for network in self._path[-1]]
            elif self.init is not None:
                earlier = self._start_members(n_members)
            stopping = Stopping(1, None, max_time=self.max_time, n_averaged=n_members)
            self._learn_scale(rows, known)
            self._grow(rows, None, goal, seed, earlier, stopping, told)
            self.n_iter_ = n_iter
            told.end()
        return self

    def _training_rows(self, X: Any, y: Any, sample_weight: Any) -> tuple[Whole, Loss]:
        """Return the rows that the model was fitted to, as it reads them, and their loss."""
        # What the fit has learned from the members stays as it is.
        twin = copy(self)
        rows = as_copies(twin._take_in(X, y, sample_weight, known=True))
        assert isinstance(rows, Whole)
        goal = twin._prepare(rows, known=True)
        twin._learn_scale(rows, known=True)
        return rows, goal.loss

    @contextmanager
    def _whole_or_not(self) -> Iterator[None]:
        """Have a fit that fails leave the estimator as it was."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            # What scikit-learn keeps of callbacks it needs to tear them down.
            for name in set(self.__dict__) - set(before):
                if not name.startswith(("_callback_", "_skl_")):
                    del self.__dict__[name]
            self.__dict__.update(before)
            raise

    def _n_grown(self, n_rows: int | None, before: Sequence[Any] | None) -> int:
        """Return how many members are grown: as many as before, where it is not said how many."""
        if self.n_members == "auto" and before is not None:
            return len(before)
        return self._count_members(n_rows)

    def _draw_seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    @abstractmethod
    def _prepare(self, rows: TrainingRows, known: bool = False) -> Goal:
        """Learn what targets are, and return what to do about them.

        Parameters
        ----------
        rows : TrainingRows
        known : bool
            Whether what the targets can be is known: classes, say.
        """

    @property
    @abstractmethod
    def _n_outputs(self) -> int:
        """Outputs of a network."""

    @property
    @abstractmethod
    def _as_targets(self) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
        """What brings targets as they were passed to those of the networks."""

    @abstractmethod
    def _finish(
        self, ensemble: Ensemble, held_out: HeldOut, members: Sequence[Evolution], goal: Goal
    ) -> Ensemble:
        """Return the ensemble as the members' held-out rows say that it should be."""

    def _recipe(self, dtype: torch.dtype) -> Recipe:
        """Return how rows become what the engine reads."""
        n_outputs = self._n_outputs
        monotonic = monotonic_inputs(
            self.monotonic_constraints,
            getattr(self, "feature_names_in_", ()),
            self._encoding,
            n_outputs,
        )
        return Recipe(
            self._as_targets,
            self._encoding,
            self._scaling,
            self.device_,
            dtype,
            n_outputs,
            monotonic,
        )

    def _check_memory(self, n_rows: int, n_members: int, dtype: torch.dtype) -> None:
        """Raise MemoryError if the fit would take more memory than there is."""
        if self.device_.type == "cpu":
            # Without a node yet.
            sizes = n_rows, len(self._encoding), self._n_outputs, 0, n_members
            check_memory(peak_memory(*sizes, dtype.itemsize), n_members)

    def _nursery(self, n_rows: int, n_jobs: int) -> AbstractContextManager[Nursery]:
        """Provide where the members grow."""
        # A process takes more memory than growth on many rows does.
        if n_jobs == 1 or self.device_.type != "cpu" or n_rows > MOST_ROWS:
            return nullcontext(HERE)
        return side_by_side(self._operators, n_jobs)

    def _grow(
        self,
        train: TrainingRows,
        given: Whole | None,
        goal: Goal,
        seed: int,
        earlier: Sequence[Evolution] | None,
        stopping: Stopping,
        told: Told,
    ) -> int:
        """Grow the members, and set the fitted attributes.

        Parameters
        ----------
        train : TrainingRows
        given : Whole, or None
            To judge all members by.
        goal : Goal
        seed : int
        earlier : sequence of Evolution, or None
            What the members go on from.
        stopping : Stopping
        told : Told

        Returns
        -------
        int
            The seed, which is another one if the fit was resumed.
        """
        self.device_ = self._device(len(train))
        n_jobs = effective_n_jobs(self.n_jobs)
        n_members, dtype = stopping.n_averaged, self._torch_dtype(len(train))
        settings = self._settings(n_members)
        self._check_memory(len(train), n_members, dtype)
        recipe = self._recipe(dtype)
        table, validation = train.table(recipe), None if given is None else given.table(recipe)
        known_by = (
            self._known_by(earlier), train.identity, None if given is None else given.identity
        )  # fmt: skip
        callbacks = getattr(self, "_skl_callbacks", [])
        with (
            interruptible() as interrupted,
            resumable(callbacks, seed, earlier, known_by, self.device_) as saved,
            self._nursery(len(train), n_jobs) as nursery,
        ):
            tasks = plan_members(
                len(table), table.total_weight, n_members, self.validation_fraction,
                saved.seed, None if given is None else len(given),
            )  # fmt: skip
            table, judged = train.for_members(table, recipe, [] if given else tasks)
            watch = watch_all(
                interrupted,
                print_generations(stopping, self.verbose),
                saved.watch,
                told.watch(self._fitted),
            )
            members = fit_members(
                table, tasks, self._operators, goal.loss, settings, stopping.after(saved.spent),
                self._block_size(settings), watch, moved(saved.members, CPU, self.device_), n_jobs,
                validation, nursery,
            )  # fmt: skip
            ensemble = Ensemble.of([member.network for member in members])
            if settings.solver == "exact" and len(members) > 1:
                some = table.take(every_so_many(len(table), CORRECTED_ROWS))
                ensemble = ensemble.corrected(some, goal.loss, members, n_jobs)
            held_out = evaluate_held_out(judged, tasks, ensemble, validation)
            ensemble = self._finish(ensemble, held_out, members, goal)
            saved.done = members[0].stop_reason != "interrupted"
        path, networks = path_of(members)
        self.__dict__.update(
            self._fitted(members, ensemble),
            stop_reason_=members[0].stop_reason,
            path_=path._asdict(),
            _path=networks,
            # What it takes to go on is several times the size of the model.
            _members=moved(members, self.device_, CPU) if self.warm_start else None,
        )
        self._measure(judged, goal.loss)
        return saved.seed

    @property
    def _goes_on(self) -> bool:
        """Whether a fit is to go on from the one before."""
        return self.warm_start and getattr(self, "_members", None) is not None

    def _known_by(self, earlier: Sequence[Evolution] | None) -> Any:
        """Return what tells this fit from others, beside the rows."""
        parameters = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in self._beside_the_model
        }
        before = [
            (member.network.weight.numpy(force=True), [record[:3] for record in member.history])
            for member in earlier or []
        ]
        versions = [package.__version__ for package in (torch, np, sklearn)]
        return type(self).__name__, parameters, versions, self._encoding.levels, before

    def _earlier(self, n_members: int) -> Sequence[Evolution] | None:
        """Return what the members go on from; None if there is nothing."""
        if not self._goes_on:
            return None if self.init is None else self._start_members(n_members)
        members = self._members
        assert members is not None
        before = (self._encoding.n_features, self._ensemble.n_outputs, len(members))
        now = (self.n_features_in_, self._n_outputs, n_members)
        if before != now:
            raise ValueError(
                "warm_start requires the columns, outputs and n_members of the fit before, "
                f"{before}, got {now}."
            )
        if self.n_generations < self.n_iter_:
            raise ValueError(
                f"n_generations must be >= {self.n_iter_}, the generations that were grown, for a "
                f"warm start, got {self.n_generations}."
            )
        return members

    def _start_members(self, n_members: int) -> list[Evolution]:
        """Return the networks of the estimator to start from, with bare heads, as members."""
        networks = self._start()._path[-1]
        if networks[0].operators != self._operators:
            raise ValueError("init must have been fitted with the same operators.")
        bare = [network.bare(self._n_outputs) for network in networks]
        return [Evolution.of(bare[member % len(bare)]) for member in range(n_members)]

    def _fitted(
        self, members: Sequence[Course | Evolution], ensemble: Ensemble | None = None
    ) -> dict[str, Any]:
        """Return the attributes of an estimator whose members have come so far.

        Parameters
        ----------
        members : sequence of Course or Evolution
        ensemble : Ensemble, default=None
            Of their networks.
        """
        if ensemble is None:
            ensemble = Ensemble.of([member.network for member in members])
        lines = [
            (number, generation, *record)
            for number, member in enumerate(members)
            for generation, record in enumerate(member.history)
        ]
        names = ("member", "generation", *Generation._fields)
        columns = zip(names, zip(*lines, strict=True), strict=True)
        return {
            "_ensemble": ensemble,
            "n_members_": ensemble.n_members,
            "n_nodes_": ensemble.network.n_nodes,
            "n_parameters_": ensemble.network.n_parameters,
            "n_iter_": max(len(member.history) for member in members) - 1,
            "history_": {name: np.array(column) for name, column in columns},
        }
