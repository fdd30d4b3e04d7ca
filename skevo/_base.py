"""What the two estimators share: validate, build, call, store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from joblib import effective_n_jobs
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_is_fitted,
    check_X_y,
    validate_data,
)

from ._columns import Encoding, categorical_columns, find_levels, fit_encoding, read_codes
from ._formula import formula_text
from ._preprocessing import ScaledColumns, Scaling, fit_scaling
from .core.course import Evolution, Generation, Stopping
from .core.ensemble import Ensemble
from .core.grower import Settings
from .core.held_out import HeldOut, evaluate_held_out
from .core.losses import Loss
from .core.members import Table, Task, fit_members, n_together, plan_members, torch_threads
from .core.network import Network
from .core.operators import DEFAULT_OPERATORS, get_operators

__all__ = ["BaseEvolving"]

# Of so many rows the sums in single precision are as good as the rows.
_MANY_ROWS = 4096
# Generations without an improvement: of members side by side, whose mean loss is known better than
# that of one, on few and, where each takes longer, on many rows; and of one alone.
_PATIENCE, _PATIENCE_MANY_ROWS, _PATIENCE_ALONE = 8, 7, 15

# What is asked of rows; cells may be missing.
_CHECKS: dict[str, Any] = {"dtype": [np.float64, np.float32], "ensure_all_finite": "allow-nan"}


class BaseEvolving(BaseEstimator):
    """Constructor, fit and evaluation of both estimators."""

    _numeric_target: ClassVar[bool]
    _encoding: Encoding
    _scaling: Scaling
    _ensemble: Ensemble
    _members: list[Evolution] | None
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
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "block_size": [Interval(Integral, 1, None, closed="left")],
        "dtype": [StrOptions({"auto", "float32", "float64"})],
        "device": [str],
        "n_jobs": [Integral, None],
        "warm_start": ["boolean"],
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
        batch_size: int = 256,
        block_size: int = 16_384,
        device: str = "auto",
        dtype: str = "auto",
        n_jobs: int | None = None,
        warm_start: bool = False,
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
        self.block_size = block_size
        self.device = device
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    # -- fitting -------------------------------------------------------------------------------

    def _validate(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[NDArray[np.floating], NDArray[Any], NDArray[np.float64]]:
        """Check rows and weights; rows of weight zero are left out.

        Columns are fitted here: what is returned has codes for levels, and NaN for missing cells.
        """
        checks: dict[str, Any] = {
            **_CHECKS,
            "multi_output": True,
            "y_numeric": self._numeric_target,
            "ensure_min_samples": 2,
        }
        if self._goes_on:
            levels = self._encoding.levels
        else:
            levels = find_levels(X, categorical_columns(X, self.categorical_features))
        if levels:
            validate_data(self, X, y, skip_check_array=True)
            X, y = check_X_y(read_codes(X, levels), y, estimator=self, **checks)
        else:
            X, y = validate_data(self, X, y, **checks)
        sample_weight = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True
        )
        rows = sample_weight > 0
        if not rows.any():
            raise ValueError("sample_weight must have at least one positive value.")
        if not rows.all():
            X, y, sample_weight = X[rows], y[rows], sample_weight[rows]
        if not self._goes_on:
            self._encoding = fit_encoding(X, sample_weight, levels)
            self._scaling = fit_scaling(X, sample_weight, self._encoding)
        return X, y, sample_weight

    def _grow(
        self,
        X: NDArray[np.floating],
        target: NDArray[np.float64],
        sample_weight: NDArray[np.float64],
        loss: Loss,
    ) -> tuple[list[Evolution], Ensemble, HeldOut]:
        """Grow the members.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
        target : ndarray of shape (n_samples, n_outputs)
        sample_weight : ndarray of shape (n_samples,)
        loss : Loss

        Returns
        -------
        members : list of Evolution
        ensemble : Ensemble
        held_out : HeldOut
            What the members say of rows that one of them held out.
        """
        self.device_ = self._device()
        earlier = self._earlier(target.shape[1])
        if earlier is None:
            self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        operators = get_operators(DEFAULT_OPERATORS if self.operators is None else self.operators)
        settings = self._settings()
        size = n_together(self.n_members, len(X), settings)
        stopping = self._stopping(size, len(X))
        dtype = self._torch_dtype(len(X))
        table = Table(
            ScaledColumns(X, self._encoding, self._scaling, self.device_, dtype),
            *(
                torch.as_tensor(np.ascontiguousarray(part), dtype=dtype, device=self.device_)
                for part in (target.T, sample_weight)
            ),
        )
        tasks = plan_members(table.weight, self.n_members, self.validation_fraction, self._seed)
        monitor = print_generation if self.verbose else None
        of_task: dict[int, Evolution] = {}
        with torch_threads(effective_n_jobs(self.n_jobs)):
            for batch, start in _batches(tasks, size, earlier):
                found = fit_members(
                    table, batch, operators, loss, settings, stopping, self.block_size, monitor,
                    start,
                )  # fmt: skip
                of_task.update(zip((task.number for task in batch), found, strict=True))
        members = [of_task[task.number] for task in tasks]
        ensemble = Ensemble.of([member.network for member in members])
        # In one thread: several would show in the last bits of products that are not batched.
        with torch_threads(1):
            if settings.solver == "exact" and len(members) > 1:
                ensemble = ensemble.corrected(
                    table.inputs, table.target, table.weight, loss, members
                )
            held_out = evaluate_held_out(table, tasks, ensemble)
        # What it takes to go on is several times the size of the model.
        self._members = members if self.warm_start else None
        return members, ensemble, held_out

    @property
    def _goes_on(self) -> bool:
        """Whether a fit is to go on from the one before."""
        return self.warm_start and getattr(self, "_members", None) is not None

    def _earlier(self, n_outputs: int) -> list[Evolution] | None:
        """Return what a warm start goes on from; None if there is nothing."""
        if not self._goes_on:
            return None
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
        return Settings(
            solver=solver,
            n_candidates=self.n_candidates,
            max_nodes=self.max_nodes,
            alpha=None if self.alpha == "auto" else self.alpha,
            pruning=self.pruning,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
        )

    def _stopping(self, size: int, n_rows: int) -> Stopping:
        """Translate the parameters that say when to stop, for batches of so many members."""
        patience = self.n_iter_no_change
        if patience == "auto":
            patience = _PATIENCE_MANY_ROWS if n_rows > _MANY_ROWS else _PATIENCE
            if size == 1:
                patience = _PATIENCE_ALONE
        max_time = self.max_time
        if max_time is not None:
            # Batches share the time.
            max_time /= ceil(self.n_members / size)
        return Stopping(self.n_generations, patience, self.tol, max_time, self.n_members)

    def _store(self, members: list[Evolution], ensemble: Ensemble) -> None:
        """Keep what was grown: the networks, and the course of each member."""
        self._ensemble, network = ensemble, ensemble.network
        self.n_nodes_ = network.n_nodes
        self.n_parameters_ = network.n_parameters
        self.n_iter_ = max(len(member.history) for member in members) - 1
        lines = [
            (number, generation, *record)
            for number, member in enumerate(members)
            for generation, record in enumerate(member.history)
        ]
        names = ("member", "generation", *Generation._fields)
        self.history_ = {
            name: np.array(column)
            for name, column in zip(names, zip(*lines, strict=True), strict=True)
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
        encoding = self._encoding
        if encoding.levels and not issparse(X):
            validate_data(self, X, reset=False, skip_check_array=True)
            X = check_array(read_codes(X, encoding.levels), estimator=self, **_CHECKS)
        else:
            X = validate_data(self, X, reset=False, **_CHECKS)
        size = self._ensemble.network.predictor.block_size(len(X))
        memory = np.empty(size * len(encoding))

        def read(rows: slice) -> torch.Tensor:
            part = encoding(X[rows])
            return torch.from_numpy(self._scaling.columns(part, memory[: part.size]))

        with torch.no_grad():
            output = function(read, len(X), size)
        return output.T.double().numpy(force=True)

    def __sklearn_tags__(self) -> Any:
        """Return what is accepted: cells may be missing, columns may be categories."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle: a network grown on a GPU loads where there is none."""
        state = super().__getstate__()
        if "_ensemble" in state:
            state = {**state, "_ensemble": state["_ensemble"].to("cpu")}
        return state

    @property
    def formula_(self) -> str:
        """The network as text, with the user's column names.

        A line per output or, where there are several members, per output of each and one per
        output that says how they are combined.
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            names = [f"x{column}" for column in range(self.n_features_in_)]
        return self._formula(names)

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
        names = self._encoding.names(names)
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


def _batches(
    tasks: Sequence[Task], size: int, earlier: Sequence[Evolution] | None
) -> list[tuple[list[Task], list[Evolution] | None]]:
    """Return the tasks of members that are grown side by side, with what they go on from.

    Those that were grown together go on together.
    """
    if earlier is None:
        return [([*tasks[start : start + size]], None) for start in range(0, len(tasks), size)]
    ended: dict[int, tuple[list[Task], list[Evolution]]] = {}
    for task, evolution in zip(tasks, earlier, strict=True):
        batch, starts = ended.setdefault(id(evolution.state), ([], []))
        batch.append(task)
        starts.append(evolution)
    return [(batch, starts) for batch, starts in ended.values()]


def print_generation(member: int, generation: int, record: Generation) -> None:
    """Print a line of the course of an evolution."""
    print(
        f"member {member}  generation {generation:3d}  loss {record.loss:.5f}  "
        f"validation {record.validation_loss:.5f}  nodes {record.n_nodes:3d}  "
        f"{record.seconds:.2f} s",
        flush=True,
    )
