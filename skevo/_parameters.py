"""Parameters of both estimators, and what they mean to the engine."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from ._devices import CPU, find_device
from .core.blocks import on_device
from .core.course import Stopping
from .core.folds import MOST_ROWS
from .core.members import group_size
from .core.operators import DEFAULT_OPERATORS, Operator, get_operators
from .core.settings import Settings

__all__ = ["HasParameters"]

# Of so many rows the sums in single precision are as good as the rows.
_MANY_ROWS = 4096
# Networks that are averaged; of few rows, which take little time, more: they have so many rows
# together, and hold out so many each.
_N_MEMBERS, _MEMBER_ROWS, _FOLD_ROWS = 8, 2400, 3
# Generations without an improvement of one member alone, whose loss is known less well than the
# mean of several.
_PATIENCE_ALONE = 15
# A GPU takes as long for so many rows, counted over the members of a group, as a CPU does.
_GPU_ROWS = 32_000
# Rows of a step of the adam solver, and of a block elsewhere.
_STEP_ROWS, _BLOCK_ROWS = 256, 16_384


class HasParameters:
    """Constructor of both estimators."""

    device_: torch.device
    # Generations without an improvement, and how many there are at least, on few rows and on many.
    # There each takes longer, but the first ones little; and where there is much noise, what
    # improves is slow to be seen.
    _patience: ClassVar[tuple[tuple[int, int], tuple[int, int]]]
    # Networks that are averaged at most, where it is not said how many.
    _most_members: ClassVar[int]
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_generations": [Interval(Integral, 0, None, closed="left")],
        "operators": ["array-like", None],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
        "max_nodes": [Interval(Integral, 0, None, closed="left")],
        "n_members": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
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
        n_members: Any = "auto",
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

    @property
    def _operators(self) -> tuple[Operator, ...]:
        """The operators that nodes can have."""
        return get_operators(DEFAULT_OPERATORS if self.operators is None else self.operators)

    def _count_members(self, n_rows: int | None) -> int:
        """Return how many networks are averaged; more of few rows.

        But not where no row is held out, for whatever reason: such a fit depends on neither the
        order of rows nor whether a row is weighted or repeated. Nor by the ``adam`` solver, which
        grows the members one by one.

        Parameters
        ----------
        n_rows : int or None
            None where it is not known, or none of them is held out.
        """
        if self.n_members != "auto":
            return int(self.n_members)
        most, none_held = self._most_members, self.validation_fraction is None
        if n_rows is None or none_held or n_rows < 2 * most or self._settings().solver == "adam":
            return _N_MEMBERS
        return max(_N_MEMBERS, min(most, _MEMBER_ROWS // n_rows, n_rows // _FOLD_ROWS))

    def _device(self, n_rows: int) -> torch.device:
        """Return the device to compute on: a GPU if there is one, and it is the faster one."""
        if self.device != "auto":
            return find_device(self.device)
        settings, found = self._settings(), find_device("auto")
        n_members = self._count_members(n_rows)
        n_rows = settings.batch_size if settings.solver == "adam" else min(n_rows, MOST_ROWS)
        n_at_once = group_size(n_members, n_rows, settings, found) * n_rows
        return found if n_at_once >= _GPU_ROWS else CPU

    def _torch_dtype(self, n_rows: int) -> torch.dtype:
        """Return the dtype of the columns."""
        if self.dtype == "auto":
            return torch.float32 if n_rows > _MANY_ROWS else torch.float64
        return getattr(torch, self.dtype)

    def _settings(self, n_averaged: int = 1) -> Settings:
        """Translate the parameters that say how networks are grown, so many to be averaged."""
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
            n_averaged=n_averaged,
            pruning=self.pruning,
            learning_rate=self.learning_rate,
            batch_size=_STEP_ROWS if self.batch_size == "auto" else self.batch_size,
        )

    def _block_size(self, settings: Settings) -> int:
        """Return how many rows are looked at at a time where it matters for time and memory only.

        The ``adam`` solver reads batches of its own.
        """
        own = self.batch_size == "auto" or settings.solver == "adam"
        return on_device(_BLOCK_ROWS, self.device_) if own else self.batch_size

    def _stopping(self, n_rows: int, n_members: int) -> Stopping:
        """Translate the parameters that say when to stop."""
        patience, n_least = self.n_iter_no_change, 0
        if patience == "auto":
            patience, n_least = self._patience[n_rows > _MANY_ROWS]
            if n_members == 1 or self._settings().solver == "adam":
                patience, n_least = _PATIENCE_ALONE, 0
        return Stopping(self.n_generations, patience, self.tol, self.max_time, n_members, n_least)
