"""Workers: processes beside this one that keep what they are given.

A pool of processes hands each task to whichever is free. What grows for generations has to stay
where its columns are: a worker does what it is told, one thing after the other, until it is given
back. Starting one takes a second or two, most of it to import torch. So those that were given back
wait a while for somebody else.

A worker ends when its standard input does: it survives neither its process nor a `Worker.close`.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from typing import IO, Any, ClassVar

import torch
from torch import Tensor

try:
    from cloudpickle import Pickler  # type: ignore[import-untyped]
except ImportError:
    # Before joblib required it, joblib had it inside.
    from joblib.externals.cloudpickle import Pickler

__all__ = ["TravelError", "Worker", "borrow", "give_back", "serve"]

# Seconds that a worker waits for somebody else.
_IDLE_SECONDS = 300.0
# What a worker runs. Ctrl-C reaches it as well, but is for the process that waits for it to handle.
_PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path[:] = sys.argv[1:]
from skevo.core.workers import serve
serve()
"""


class TravelError(Exception):
    """What a worker is asked for cannot be pickled, or not be loaded there."""


class Worker:
    """A process beside this one.

    Raises
    ------
    OSError
        If no process can be started.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, *map(os.fspath, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self._has_started, self._has_failed = False, False
        threading.Thread(target=self._greet, daemon=True).start()

    def _greet(self) -> None:
        """Wait until the worker says that it has started."""
        try:
            _read(self._replies)
        except (EOFError, OSError, ValueError):
            self._has_failed = True
        else:
            self._has_started = True

    @property
    def has_started(self) -> bool:
        """Whether the worker waits to be told what to do, or does so."""
        return self._has_started and not self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended, or has not come as far as to start."""
        return self._has_failed or self._process.poll() is not None

    def ask(self, function: Callable[..., Any], *args: Any) -> None:
        """Have the worker call a function; `answer` returns what it returns.

        Raises
        ------
        TravelError
            If the function or its arguments cannot be pickled; then nothing has been asked.
        RuntimeError
            If the process has ended.
        """
        try:
            request = _pickled((function, args))
        except Exception as error:
            raise TravelError(f"{type(error).__name__}: {error}") from error
        try:
            _write(request, self._requests)
        except OSError as error:
            raise _ended() from error

    def answer(self) -> Any:
        """Wait for what the function that the worker was asked for returns.

        Raises
        ------
        RuntimeError
            If the process has ended.
        TravelError
            If what it was asked for cannot be loaded there.
        Exception
            What the function has raised.
        """
        try:
            value, error, told = pickle.loads(_read(self._replies))
        except (EOFError, OSError) as ended:
            raise _ended() from ended
        if error is not None:
            error.add_note(f"In a worker process:\n{told}")
            raise error
        return value

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            # What nobody has read.
            self._requests.close()
        self._replies.close()


def _ended() -> RuntimeError:
    return RuntimeError(
        "A worker process has ended: it may have been killed for want of memory. n_jobs=1 takes "
        "no process but this one."
    )


class _Waiting:
    """The workers that wait for somebody to borrow them, those given back last at the end."""

    lock: ClassVar = threading.Lock()
    workers: ClassVar[dict[Worker, threading.Timer]] = {}


def borrow() -> Worker | None:
    """Return a worker that waits, or is about to start, if there is one.

    Whoever takes it gives it back, or closes it.
    """
    with _Waiting.lock:
        while _Waiting.workers:
            worker, timer = _Waiting.workers.popitem()
            timer.cancel()
            if not worker.has_ended:
                return worker
            worker.close()
    return None


def give_back(worker: Worker) -> None:
    """Leave a worker to whoever borrows one next; it has answered all that it was asked."""
    timer = threading.Timer(_IDLE_SECONDS, _dismiss, (worker,))
    timer.daemon = True
    with _Waiting.lock:
        _Waiting.workers[worker] = timer
        timer.start()


def _dismiss(worker: Worker) -> None:
    with _Waiting.lock:
        waited = _Waiting.workers.pop(worker, None) is not None
    if waited:
        worker.close()


def _dismiss_all() -> None:
    for worker in [*_Waiting.workers]:
        _dismiss(worker)


def _forget_all() -> None:
    """Leave the workers to the process that this one was forked from."""
    _Waiting.lock = threading.Lock()
    _Waiting.workers = {}


atexit.register(_dismiss_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def serve() -> None:
    """Do what the process on the other side asks for, until there is no other side."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # What libraries print is not a reply.
    os.dup2(2, 1)
    with contextlib.suppress(EOFError, BrokenPipeError):
        _write(b"", replies)
        while True:
            _write(_pickled(_outcome(_read(requests))), replies)


def _outcome(request: bytes) -> tuple[Any, Exception | None, str]:
    """Return what a function returns that is asked for, or what it raises and where."""
    try:
        function, args = pickle.loads(request)
    except Exception as error:
        return None, TravelError(f"{type(error).__name__}: {error}"), traceback.format_exc()
    try:
        return function(*args), None, ""
    except Exception as error:
        return None, _that_travels(error), traceback.format_exc()


def _that_travels(error: Exception) -> Exception:
    """Return an error, or what stands for one that would not be what it is on the other side."""
    try:
        pickle.loads(_pickled(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Pickler(Pickler):
    """Pickles functions of scripts by value, and tensors as arrays: torch takes 0.1 ms for each."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is Tensor:
            return torch.from_numpy, (value.numpy(),)
        return super().reducer_override(value)


def _pickled(value: Any) -> bytes:
    written = io.BytesIO()
    _Pickler(written, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return written.getvalue()


def _write(message: bytes, stream: IO[bytes]) -> None:
    """Write a message behind its length."""
    stream.write(len(message).to_bytes(8, "little"))
    stream.write(message)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes:
    """Read a message.

    Raises
    ------
    EOFError
        If the stream ends before it does.
    """
    head = stream.read(8)
    message = stream.read(int.from_bytes(head, "little"))
    if len(head) < 8 or len(message) < int.from_bytes(head, "little"):
        raise EOFError
    return message
