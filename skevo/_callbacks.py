"""What looks on while an estimator is fitted: printing, Ctrl-C, and scikit-learn's callbacks."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import joblib
import torch
from sklearn.exceptions import ConvergenceWarning

from ._checkpoint import open_checkpoint
from ._devices import CPU, moved
from .callbacks import Checkpoint
from .core.course import Course, Evolution, Growth, Stopping, Watch

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    def with_callbacks(method: Any) -> Any:
        """Return the method: there are no callbacks to be torn down."""
        return method

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in for callbacks where scikit-learn has none."""

        def set_callbacks(self, *callbacks: Any) -> None:
            """Say what callbacks need."""
            raise RuntimeError("callbacks require scikit-learn 1.9 or newer; verbose=1 prints.")

        def _init_callback_context(self, **_: Any) -> _NoContext:
            return _NoContext()

    class _NoContext:
        def subcontext(self, **_: Any) -> _NoContext:
            return self

        def call_on_fit_task_begin(self, **_: Any) -> None:
            pass

        def call_on_fit_task_end(self, **_: Any) -> bool:
            return False


__all__ = [
    "CallbackSupportMixin",
    "Told",
    "interruptible",
    "print_generations",
    "resumable",
    "watch_all",
    "with_callbacks",
]


def watch_all(*watches: Watch) -> Watch:
    """Return the watch that has all of some look, and stops if one of them says so."""

    def watch(growth: Growth) -> str:
        return next(filter(None, [each(growth) for each in watches]), "")

    return watch


def print_generations(stopping: Stopping, verbose: int) -> Watch:
    """Return a watch that prints a line per generation, with the means over members.

    Parameters
    ----------
    stopping : Stopping
    verbose : int
        0 prints nothing, and 2 a line per member as well.
    """
    start: list[float] = []

    def watch(growth: Growth) -> str:
        done, records = growth.n_generations, [course.history[-1] for course in growth.courses]
        seconds = max(record.seconds for record in records)
        start.append(seconds)
        # The linear start says nothing about how long a generation takes.
        left = stopping.n_generations - done
        rate = (seconds - start[0]) / max(1, len(start) - 1)
        eta = left * rate
        if stopping.max_time is not None:
            eta = min(eta, max(0.0, stopping.max_time - seconds))
        loss, held = (fmean(part) for part in list(zip(*records, strict=True))[:2])
        print(
            f"generation {done:3d} of {stopping.n_generations}  loss {loss:.5f}  "
            f"validation {held:.5f}  nodes {sum(record.n_nodes for record in records):3d}  "
            f"{seconds:.1f} s" + (f", at most {eta:.0f} s to go" if len(start) > 1 else ""),
            flush=True,
        )
        if verbose > 1:
            for member, record in enumerate(records):
                print(
                    f"  member {member:2d}  loss {record.loss:.5f}  "
                    f"validation {record.validation_loss:.5f}  nodes {record.n_nodes:3d}",
                    flush=True,
                )
        return ""

    return watch if verbose else lambda _: ""


@contextlib.contextmanager
def interruptible() -> Iterator[Watch]:
    """Have Ctrl-C stop the evolution after the present generation; a second one interrupts it.

    Only in the main thread, and only where Ctrl-C does what it does in Python.

    Yields
    ------
    callable
        The watch that says ``"interrupted"`` when it was pressed.
    """
    pressed = []
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )

    def handle(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        pressed.append(True)
        warnings.warn(
            "Interrupted: the fit stops after this generation and keeps the best model so far; "
            "press Ctrl-C again to stop at once.",
            ConvergenceWarning,
            stacklevel=2,
        )

    if ours:
        signal.signal(signal.SIGINT, handle)
    try:
        yield lambda _: "interrupted" if pressed else ""
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class Saved:
    """Where a fit starts, as saved when it was killed or as it is.

    Attributes
    ----------
    seed : int
        That the members' tasks are drawn with.
    members : sequence of Evolution, or None
        To go on from.
    watch : callable
        Saves where the fit has come to.
    spent : float
        Seconds that had passed when it was killed.
    done : bool
        Whether what was saved can be removed.
    """

    seed: int
    members: Sequence[Evolution] | None
    watch: Watch = lambda _: ""
    spent: float = 0.0
    done: bool = True


@contextlib.contextmanager
def resumable(
    callbacks: Sequence[Any],
    seed: int,
    members: Sequence[Evolution] | None,
    known_by: Any,
    device: torch.device,
) -> Iterator[Saved]:
    """Go on from where the same fit was killed, if there is a `Checkpoint` among its callbacks.

    Parameters
    ----------
    callbacks : sequence
    seed : int
    members : sequence of Evolution, or None
        Where the fit starts if nothing was saved.
    known_by : object
        What tells the fit from others, of what can be pickled.
    device : torch.device
        That the fit computes on; what is saved is on the CPU.
    """
    saved = Saved(seed, members)
    checkpoint = next((one for one in callbacks if isinstance(one, Checkpoint)), None)
    if checkpoint is None:
        yield saved
        return
    with open_checkpoint(checkpoint.directory, joblib.hash(known_by, coerce_mmap=True)) as file:
        state = file.load()
        if state is not None:
            saved.seed, saved.members = state
            saved.spent = state[1][0].history[-1].seconds
            if members is not None:
                saved.spent -= members[0].history[-1].seconds
        last = time.monotonic()

        def watch(growth: Growth) -> str:
            nonlocal last
            if time.monotonic() - last >= checkpoint.interval:
                file.save((saved.seed, moved(growth.evolutions("killed"), device, CPU)))
                last = time.monotonic()
            return ""

        saved.watch = watch
        yield saved
        if saved.done:
            file.remove()


class Told:
    """What scikit-learn's callbacks are told of a fit: a task per generation.

    Parameters
    ----------
    estimator : BaseEvolving
    n_generations : int
        At most so many tasks, and the linear start.
    X, y, sample_weight
        As the user passed them.
    """

    def __init__(
        self, estimator: Any, n_generations: int, X: Any, y: Any, sample_weight: Any
    ) -> None:
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        self._rows = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._context = estimator._init_callback_context(max_subtasks=n_generations + 1)
        self._context.call_on_fit_task_begin(**self._rows)

    def watch(self, fitted: Callable[[Sequence[Course]], dict[str, Any]]) -> Watch:
        """Return the watch that calls them.

        Parameters
        ----------
        fitted : callable
            Returns the attributes of an estimator that was fitted as far as some courses have come.
        """

        def watch(growth: Growth) -> str:
            task = self._context.subcontext(task_name="generation")
            task.call_on_fit_task_begin(**self._rows)
            stop = task.call_on_fit_task_end(
                **self._rows, reconstruction_attributes=lambda: fitted(growth.courses)
            )
            return "callback" if stop else ""

        return watch

    def end(self) -> None:
        """Tell them that the estimator is fitted."""
        self._context.call_on_fit_task_end(**self._rows, reconstruction_attributes={})
