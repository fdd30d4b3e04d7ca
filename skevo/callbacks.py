"""Callbacks for the estimators, on scikit-learn's protocol (1.9 and newer).

``model.set_callbacks(TimeLimit(60), Checkpoint("checkpoints")).fit(X, y)``
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from sklearn.metrics import check_scoring

__all__ = ["Checkpoint", "EarlyStopping", "TensorBoard", "TimeLimit"]


class _Callback:
    """The hooks, which do nothing yet, and what is known of the fits that are going on."""

    def __init__(self) -> None:
        # By the context of a fit; in this process alone.
        self._fits: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the fits that are going on."""
        return {**self.__dict__, "_fits": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state."""
        self.__dict__.update(state, _fits=WeakKeyDictionary())

    def setup(self, estimator: Any, context: Any) -> None:
        """Do nothing before a fit."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing after a fit."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing before a generation."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        """Do nothing after a generation."""
        return False


class TimeLimit(_Callback):
    """Stop a fit after the generation in which a time has passed.

    Unlike ``max_time`` it counts what came before the first generation, too.

    Parameters
    ----------
    seconds : float
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        """Return whether the time has passed."""
        began = (context.parent or context).init_time
        return (datetime.now(UTC) - began).total_seconds() >= self.seconds


class EarlyStopping(_Callback):
    """Stop a fit when a score has stopped improving.

    The score is that of the model that the fit would give, had it stopped after the generation.
    What it gives in the end is chosen by its own validation loss, as ever.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows to score, which should not be among those of the fit.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    scoring : str, callable or None, default=None
        See scikit-learn's scorers; None stands for the estimator's ``score``.
    n_iter_no_change : int, default=10
        Generations without an improvement after which the fit stops.
    tol : float, default=0.0
        What an improvement has to exceed.
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        *,
        scoring: str | Callable[..., float] | None = None,
        n_iter_no_change: int = 10,
        tol: float = 0.0,
    ) -> None:
        super().__init__()
        self.X = X
        self.y = y
        self.scoring = scoring
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> bool:
        """Return whether the score has not improved for long."""
        if context.task_name != "generation":
            return False
        score = check_scoring(estimator, self.scoring)(fitted_estimator, self.X, self.y)
        # The best score, and generations since.
        best, stale = self._fits.get(context.parent, (-float("inf"), 0))
        improved = score > best + self.tol
        self._fits[context.parent] = (score, 0) if improved else (best, stale + 1)
        return not improved and stale + 1 >= self.n_iter_no_change


class Checkpoint(_Callback):
    """Save a fit's state now and then, and go on from it after a crash.

    A fit that was killed is started again by the same call: on the same rows, with the same
    parameters. It goes on from the last state that was saved and ends with the very model of a fit
    that was not disturbed. States are keyed by rows, parameters and versions; fits beside each
    other have folders of their own. A damaged file is reported, and the fit starts from the
    beginning. When a fit has ended its state is removed, unless it was ended by Ctrl-C.

    Parameters
    ----------
    directory : str or Path
        Where to; it is made if there is none. It must be as trusted as a pickle: load none of
        others.
    interval : float, default=10.0
        Seconds between two states that are saved. A state takes about as much memory as the Gram
        matrices of the members.
    """

    def __init__(self, directory: str | Path, *, interval: float = 10.0) -> None:
        super().__init__()
        self.directory = Path(directory)
        self.interval = interval


class TensorBoard(_Callback):
    """Write the course of a fit for TensorBoard (``pip install tensorboard``).

    Parameters
    ----------
    directory : str or Path
        Each fit writes to a folder of its own in it.
    """

    def __init__(self, directory: str | Path) -> None:
        super().__init__()
        self.directory = Path(directory)

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> bool:
        """Write a generation: mean losses over the members, and their nodes."""
        if context.task_name != "generation":
            return False
        root = context.parent
        if root not in self._fits:
            from torch.utils.tensorboard import SummaryWriter

            folder = f"{root.estimator_name}-{root.init_time:%Y%m%d-%H%M%S-%f}-{id(root):x}"
            self._fits[root] = SummaryWriter(str(self.directory / folder))
        history = fitted_estimator.history_
        last = history["generation"] == history["generation"].max()
        for name in ("loss", "validation_loss", "n_nodes"):
            value = float(history[name][last].mean())
            self._fits[root].add_scalar(name, value, int(fitted_estimator.n_iter_))
        return False

    def teardown(self, estimator: Any, context: Any) -> None:
        """Close what was written to."""
        if context in self._fits:
            self._fits.pop(context).close()
