"""What the two estimators share: validate, build, call, store."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import sklearn
import torch
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ._callbacks import (
    CallbackSupportMixin,
    Told,
    interruptible,
    print_generations,
    resumable,
    watch_all,
)
from ._export import Exports
from ._formula import formula_text
from ._html import ShowsHTML
from ._memory import check_memory, peak_memory
from ._monotonic import monotonic_inputs
from ._packing import pack_state, unpack_state
from ._path import HasPath, path_of
from ._preprocessing import ScaledColumns
from ._reading import Rows
from ._sample import Sample, take_in
from ._storage import save
from .core.course import Course, Evolution, Generation, Stopping
from .core.ensemble import Ensemble
from .core.folds import plan_members
from .core.held_out import HeldOut, evaluate_held_out
from .core.losses import Loss
from .core.members import fit_members
from .core.network import Network
from .core.operators import DEFAULT_OPERATORS, Operator, get_operators
from .core.settings import Settings
from .core.table import Table
from .core.threads import torch_threads

__all__ = ["BaseEvolving"]

# Of so many rows the sums in single precision are as good as the rows.
_MANY_ROWS = 4096
# Generations without an improvement: of members side by side, whose mean loss is known better than
# that of one, on few and, where there is more to find, on many rows; and of one alone.
_PATIENCE, _PATIENCE_MANY_ROWS, _PATIENCE_ALONE = 8, 9, 15
# Rows of a step of the adam solver, and of a block elsewhere.
_STEP_ROWS, _BLOCK_ROWS = 256, 16_384


class BaseEvolving(CallbackSupportMixin, HasPath, ShowsHTML, Exports):
    """Constructor, fit and evaluation of both estimators."""

    _ensemble: Ensemble
    _members: list[Evolution] | None
    _sample: Sample | None
    _seed: int
    n_iter_: int
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_generations": [Interval(Integral, 0, None, closed="left")],
        "operators": ["array-like", None],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
        "max_nodes": [Interval(Integral, 0, None, closed="left")],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "solver": [StrOptions({"auto", "exact", "adam"})],
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "pruning": [StrOptions({"loss", "std"})],
        "categorical_features": [StrOptions({"from_dtype"}), "array-like", None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "n_iter_no_change": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "monotonic_constraints": ["array-like", dict, None],
        "dtype": [StrOptions({"auto", "float32", "float64"})],
        "device": [str],
        "n_jobs": [Integral, None],
        "warm_start": ["boolean"],
        "init": [HasMethods(["fit", "predict"]), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        n_generations: int = 100,
        operators: Any = None,
        n_candidates: int = 250,
        max_nodes: int = 200,
        n_members: int = 8,
        solver: str = "auto",
        loss: Any = "auto",
        alpha: Any = "auto",
        pruning: Any = "loss",
        categorical_features: Any = "from_dtype",
        validation_fraction: float | None = 0.1,
        n_iter_no_change: Any = "auto",
        tol: float = 0.02,
        max_time: float | None = None,
        learning_rate: float = 0.01,
        batch_size: Any = "auto",
        monotonic_constraints: Any = None,
        device: str = "auto",
        dtype: str = "auto",
        n_jobs: int | None = None,
        warm_start: bool = False,
        init: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.n_generations = n_generations
        self.operators = operators
        self.n_candidates = n_candidates
        self.max_nodes = max_nodes
        self.n_members = n_members
        self.solver = solver
        self.loss = loss
        self.alpha = alpha
        self.pruning = pruning
        self.categorical_features = categorical_features
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.max_time = max_time
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.monotonic_constraints = monotonic_constraints
        self.device = device
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.warm_start = warm_start
        self.init = init
        self.random_state = random_state
        self.verbose = verbose

    # -- fitting -------------------------------------------------------------------------------

    # In one thread of torch: several would show in the last bits of what each computes a part of.

    def _fit(self, X: Any, y: Any, sample_weight: Any, given: tuple[Any, Any, Any]) -> Self:
        """Fit to rows, as a whole or going on from the fit before."""
        with self._whole_or_not(), torch_threads(1):
            told = Told(self, self.n_generations, X, y, sample_weight)
            rows, y, weight = self._validate(X, y, sample_weight, self._goes_on)
            target, loss = self._prepare(y, weight)
            earlier = self._earlier(target.shape[1])
            if not self._goes_on:
                self._seed = self._draw_seed()
            self._sample = None
            means = self._learn_scale(rows, self._in_user_units(y, target), weight, self._goes_on)
            train, stopping = Rows(rows, target, weight, means), self._stopping(len(rows))
            self._seed = self._grow(
                train, self._given(*given), loss, self._seed, earlier, stopping, told
            )
            told.end()
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        """Grow a generation on a sample of all rows that have come so far."""
        with self._whole_or_not(), torch_threads(1):
            told, known = Told(self, 1, X, y, sample_weight), hasattr(self, "_ensemble")
            rows, y, weight = self._validate(X, y, sample_weight, known, reset=not known)
            if not known:
                self._seed, self._sample, self.n_iter_ = self._draw_seed(), None, 0
            seed, n_iter = self._seed + self.n_iter_, self.n_iter_ + 1
            self._sample = sample = take_in(self._sample, rows, y, weight, seed)
            target, loss = self._prepare(sample.y, sample.weight, known=True)
            earlier: list[Evolution] | None = None
            if known:
                earlier = [Evolution.of(network) for network in self._path[-1]]
            elif self.init is not None:
                earlier = self._start_members(target.shape[1])
            stopping = Stopping(1, None, max_time=self.max_time, n_averaged=self.n_members)
            shown = self._in_user_units(sample.y, target)
            means = self._learn_scale(sample.X, shown, sample.weight, known)
            train = Rows(sample.X, target, sample.weight, means)
            self._grow(train, None, loss, seed, earlier, stopping, told)
            self.n_iter_ = n_iter
            told.end()
        return self

    def _training_rows(self, X: Any, y: Any, sample_weight: Any) -> tuple[Rows, Loss]:
        """Return the rows that the model was fitted to, as it reads them, and their loss."""
        rows, y, weight = self._validate(X, y, sample_weight, known=True)
        target, loss = self._prepare(y, weight, known=True)
        means = self._learn_scale(rows, self._in_user_units(y, target), weight, known=True)
        return Rows(rows, target, weight, means), loss

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

    def _draw_seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    @abstractmethod
    def _prepare(
        self, y: NDArray[Any], sample_weight: NDArray[np.float64], known: bool = False
    ) -> tuple[NDArray[np.float64], Loss]:
        """Return targets of shape (n_samples, n_outputs), and their loss.

        Parameters
        ----------
        y : ndarray
        sample_weight : ndarray of shape (n_samples,)
        known : bool, default=False
            Whether what the targets can be is known: classes, say.
        """

    @abstractmethod
    def _finish(
        self, ensemble: Ensemble, held_out: HeldOut, members: Sequence[Evolution], loss: Loss
    ) -> Ensemble:
        """Return the ensemble as the members' held-out rows say that it should be."""

    def _in_user_units(self, y: NDArray[Any], target: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return targets, of shape (n_samples, n_outputs), as users know them."""
        return target

    def _table(self, rows: Rows, dtype: torch.dtype) -> Table:
        """Return rows as the engine reads them."""
        told = None if rows.means is None else rows.means.of()
        target, weight = (
            torch.as_tensor(np.ascontiguousarray(part), dtype=dtype, device=self.device_)
            for part in (rows.target.T, rows.weight)
        )
        names = getattr(self, "feature_names_in_", ())
        monotonic = monotonic_inputs(
            self.monotonic_constraints, names, self._encoding, rows.target.shape[1]
        )
        return Table(self._columns(rows, dtype, told), target, weight, monotonic=monotonic)

    def _columns(
        self, rows: Rows, dtype: torch.dtype, told: NDArray[np.float64] | None
    ) -> ScaledColumns:
        """Return the columns of rows, with what they are told of categories of many levels."""
        return ScaledColumns(rows.X, self._encoding, self._scaling, self.device_, dtype, told)

    def _grow(
        self,
        train: Rows,
        given: Rows | None,
        loss: Loss,
        seed: int,
        earlier: Sequence[Evolution] | None,
        stopping: Stopping,
        told: Told,
    ) -> int:
        """Grow the members, and set the fitted attributes.

        Parameters
        ----------
        train : Rows
        given : Rows, or None
            To judge all members by.
        loss : Loss
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
        self.device_ = self._device()
        n_jobs = effective_n_jobs(self.n_jobs)
        settings, dtype = self._settings(), self._torch_dtype(len(train.X))
        if self.device_.type == "cpu":
            # Without a node yet.
            sizes = len(train.X), len(self._encoding), train.target.shape[1], 0, self.n_members
            check_memory(peak_memory(*sizes, dtype.itemsize), self.n_members)
        table = self._table(train, dtype)
        validation = None if given is None else self._table(given, dtype)
        known_by = (self._known_by(earlier), train, given)
        callbacks = getattr(self, "_skl_callbacks", [])
        with (
            interruptible() as interrupted,
            resumable(callbacks, seed, earlier, known_by) as saved,
        ):
            tasks = plan_members(
                table.weight, self.n_members, self.validation_fraction, saved.seed,
                None if given is None else len(given.X),
            )  # fmt: skip
            judged = table
            if train.means is not None and given is None and tasks[0].validation is not None:
                # No member is told of what it is judged by.
                folds = [task.validation.numpy() for task in tasks if task.validation is not None]
                own = [self._columns(train, dtype, train.means.of(fold)) for fold in folds]
                judged = replace(
                    table, inputs=self._columns(train, dtype, train.means.held_out(folds))
                )
                table = replace(table, own=own)
            watch = watch_all(
                interrupted,
                print_generations(stopping, self.verbose),
                saved.watch,
                told.watch(self._fitted),
            )
            members = fit_members(
                table, tasks, self._operators, loss, settings, stopping.after(saved.spent),
                self._block_size(settings), watch, saved.members, n_jobs, validation,
            )  # fmt: skip
            ensemble = Ensemble.of([member.network for member in members])
            if settings.solver == "exact" and len(members) > 1:
                ensemble = ensemble.corrected(table, loss, members, n_jobs)
            held_out = evaluate_held_out(judged, tasks, ensemble, validation)
            ensemble = self._finish(ensemble, held_out, members, loss)
            saved.done = members[0].stop_reason != "interrupted"
        path, networks = path_of(members)
        self.__dict__.update(
            self._fitted(members, ensemble),
            stop_reason_=members[0].stop_reason,
            path_=path._asdict(),
            _path=networks,
            # What it takes to go on is several times the size of the model.
            _members=members if self.warm_start else None,
        )
        self._measure(judged, loss)
        return saved.seed

    @property
    def _goes_on(self) -> bool:
        """Whether a fit is to go on from the one before."""
        return self.warm_start and getattr(self, "_members", None) is not None

    def _known_by(self, earlier: Sequence[Evolution] | None) -> Any:
        """Return what tells this fit from others, beside the rows."""
        # On these the model does not depend, or only through ``earlier``.
        parameters = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in ("n_jobs", "verbose", "warm_start", "init")
        }
        before = [
            (member.network.weight.numpy(force=True), [record[:3] for record in member.history])
            for member in earlier or []
        ]
        versions = [package.__version__ for package in (torch, np, sklearn)]
        return type(self).__name__, parameters, versions, self._encoding.levels, before

    @property
    def _operators(self) -> tuple[Operator, ...]:
        """The operators that nodes can have."""
        return get_operators(DEFAULT_OPERATORS if self.operators is None else self.operators)

    def _earlier(self, n_outputs: int) -> Sequence[Evolution] | None:
        """Return what the members go on from; None if there is nothing."""
        if not self._goes_on:
            return None if self.init is None else self._start_members(n_outputs)
        members = self._members
        assert members is not None
        before = (self._encoding.n_features, self._ensemble.n_outputs, len(members))
        now = (self.n_features_in_, n_outputs, self.n_members)
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

    def _start_members(self, n_outputs: int) -> list[Evolution]:
        """Return the networks of the estimator to start from, with bare heads, as members."""
        networks = self._start()._path[-1]
        if networks[0].operators != self._operators:
            raise ValueError("init must have been fitted with the same operators.")
        bare = [network.bare(n_outputs) for network in networks]
        return [Evolution.of(bare[member % len(bare)]) for member in range(self.n_members)]

    def _device(self) -> torch.device:
        """Return the device to compute on."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"device {self.device!r} is not available: {reason}") from error
        return device

    def _torch_dtype(self, n_rows: int) -> torch.dtype:
        """Return the dtype of the columns."""
        if self.dtype == "auto":
            return torch.float32 if n_rows > _MANY_ROWS else torch.float64
        return getattr(torch, self.dtype)

    def _settings(self) -> Settings:
        """Translate the parameters that say how a network is grown."""
        solver: Any = self.solver
        if solver == "auto":
            solver = "adam" if callable(self.loss) else "exact"
        elif solver == "exact" and callable(self.loss):
            raise ValueError(
                "solver='exact' requires a named loss, got a callable; use solver='adam'."
            )
        if solver == "adam" and self.monotonic_constraints is not None:
            raise ValueError("monotonic_constraints requires solver='exact'.")
        return Settings(
            solver=solver,
            n_candidates=self.n_candidates,
            max_nodes=self.max_nodes,
            alpha=None if self.alpha == "auto" else self.alpha,
            pruning=self.pruning,
            learning_rate=self.learning_rate,
            batch_size=_STEP_ROWS if self.batch_size == "auto" else self.batch_size,
        )

    def _block_size(self, settings: Settings) -> int:
        """Return how many rows are looked at at a time where it matters for time and memory only.

        The ``adam`` solver reads batches of its own.
        """
        own = self.batch_size == "auto" or settings.solver == "adam"
        return _BLOCK_ROWS if own else self.batch_size

    def _stopping(self, n_rows: int) -> Stopping:
        """Translate the parameters that say when to stop."""
        patience = self.n_iter_no_change
        if patience == "auto":
            patience = _PATIENCE_MANY_ROWS if n_rows > _MANY_ROWS else _PATIENCE
            if self.n_members == 1 or self._settings().solver == "adam":
                patience = _PATIENCE_ALONE
        return Stopping(self.n_generations, patience, self.tol, self.max_time, self.n_members)

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
            "n_nodes_": ensemble.network.n_nodes,
            "n_parameters_": ensemble.network.n_parameters,
            "n_iter_": max(len(member.history) for member in members) - 1,
            "history_": {name: np.array(column) for name, column in columns},
        }

    # -- evaluation ----------------------------------------------------------------------------

    def _output(self, X: Any) -> NDArray[np.float64]:
        """Evaluate the network on new rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_outputs)
            The interquartile mean of the members, corrected.
        """
        check_is_fitted(self)
        return self._evaluate(X, self._ensemble.output)

    def _evaluate(self, X: Any, function: Callable[..., torch.Tensor]) -> NDArray[np.float64]:
        """Return what a function of the arguments of `Ensemble.output` gives for new rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        function : callable

        Returns
        -------
        ndarray of shape (n_samples, n)
            The transpose of what the function returns.
        """
        X = self._read(X)
        size = self._ensemble.network.predictor.block_size(len(X))
        encoding = self._encoding
        memory = np.empty(size * len(encoding))

        def read(rows: slice) -> torch.Tensor:
            part = encoding(X[rows])
            return torch.from_numpy(self._scaling.columns(part, memory[: part.size]))

        with torch.no_grad():
            output = function(read, len(X), size)
        return output.T.double().numpy(force=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to a file, from which `skevo.load` reads it on any device.

        The file is in the safetensors format: numbers and text, nothing that could run. It is
        written whole or not at all. A loaded model does all that a fitted one does, bit by bit on
        the same machine, but that a warm start begins anew, and `partial_fit` goes on from the
        networks with a new sample, for no rows are in the file. A loss of your own is replaced by
        its name, which `fit` refuses; operators of your own are looked up by name when the file is
        loaded. ``init`` and random number generators are replaced by None, with a warning.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        ImportError
            If safetensors is not installed.
        ValueError
            If a category has levels that are neither numbers nor text nor booleans.
        """
        save(self, path)

    def __copy__(self) -> Self:
        """Return a copy that shares what was fitted, without a detour through the stored state."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle: a network grown on a GPU loads where there is none."""
        state = super().__getstate__()
        if "_ensemble" in state:
            state = {**state, **pack_state(state)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state that was pickled."""
        super().__setstate__({**state, **unpack_state(state)} if "_ensemble" in state else state)

    @property
    def formula_(self) -> str:
        """The network as text, with the user's column names.

        A line per output or, where there are several members, per output of each and one per
        output that says how they are combined.
        """
        check_is_fitted(self)
        return self._formula(self._column_names())

    def _column_names(self) -> list[str]:
        """Return what the columns of the table are called."""
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            return [f"x{column}" for column in range(self.n_features_in_)]
        return [str(name) for name in names]

    def _response(self, X: Any) -> NDArray[np.float64]:
        """Return what contributions sum to, of shape (n_samples, n_outputs)."""
        return self._output(X)

    def _network_in_units(self) -> Network:
        """Return the network whose outputs are what the formula calls them."""
        return self._ensemble.network

    def _limits_in_units(self) -> NDArray[np.float64]:
        """Return what the correction is clipped to, of shape (2, n_outputs)."""
        limits = self._ensemble.limits
        assert limits is not None
        return torch.cat(limits, dim=1).T.double().numpy(force=True)

    def _formula(self, names: Sequence[str]) -> str:
        """Write the network, the columns of the table being called by the given names."""
        names = self._encoding.names(names, self._target_names())
        outputs, network = self._output_names(), self._network_in_units()
        ensemble = self._ensemble
        if ensemble.n_members == 1:
            return formula_text(network, self._scaling, names, outputs)
        heads = [f"{output}[{k}]" for k in range(ensemble.n_members) for output in outputs]
        rests = [f"{output}[rest]" for output in outputs if ensemble.limits is not None]
        text = formula_text(network, self._scaling, names, heads + rests)
        how = "mean" if ensemble.n_members < 4 else "midmean"
        means = [
            f"{output} = {how}({', '.join(heads[k :: len(outputs)])})"
            for k, output in enumerate(outputs)
        ]
        if rests:
            low, high = (limit.tolist() for limit in self._limits_in_units())
            means = [
                f"{mean} + clip({rest}, {a:.4g}, {b:.4g})"
                for mean, rest, a, b in zip(means, rests, low, high, strict=True)
            ]
        return "\n".join([text, *means])
