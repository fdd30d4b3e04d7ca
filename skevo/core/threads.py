"""Threads: how many torch uses.

The last bits of a sum depend on how it is divided among threads. Products of the members of a group
are not divided where there are no more threads than members: each member's is computed by one.
Factorisations are divided on some processors, and are computed by one, see `undivided`. Whatever
else is, is computed by one, beside others that work on other rows.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import torch
from threadpoolctl import ThreadpoolController

__all__ = ["in_order", "torch_threads", "undivided", "within"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Given = ParamSpec("Given")

if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork, and OpenMP would wait for its own forever.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

_lock = threading.Lock()
_inside = 0
_outer_threads = 1
_outer_blas = contextlib.ExitStack()


@functools.cache
def _libraries() -> ThreadpoolController:
    """Return what controls the threads of the libraries that are loaded: looking takes time."""
    return ThreadpoolController()


@contextlib.contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Have torch use so many threads, and NumPy's and SciPy's BLAS one.

    Each Python thread puts back, as it leaves, what the first of the fits that run beside each
    other in this process found.
    """
    global _inside, _outer_threads
    with _lock:
        if _inside == 0:
            _outer_threads = torch.get_num_threads()
            _outer_blas.enter_context(_libraries().limit(limits=1, user_api="blas"))
        _inside += 1
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _outer_blas.close()
            torch.set_num_threads(_outer_threads)


@contextlib.contextmanager
def within(n_threads: int) -> Iterator[None]:
    """Have torch use so many threads for a part of what `torch_threads` is around."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def undivided(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Return a function of torch, computed by one thread: with the same bits for any number."""

    @functools.wraps(function)
    def computed(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        with within(1):
            return function(*args, **kwargs)

    return computed


def in_order(
    function: Callable[[Item], Result], items: Sequence[Item], n_threads: int
) -> Iterator[Result]:
    """Yield what a function returns for items, in their order, without gradients.

    Parameters
    ----------
    function : callable
    items : sequence
    n_threads : int
        Items that are worked on at a time, each in a thread in which torch uses one.
    """
    quiet = torch.no_grad()(function)
    if n_threads == 1:
        yield from map(quiet, items)
        return
    with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        # One more than threads, so that none waits; no more, for results may be large.
        waiting = deque(pool.submit(quiet, item) for item in items[: n_threads + 1])
        for item in items[n_threads + 1 :]:
            yield waiting.popleft().result()
            waiting.append(pool.submit(quiet, item))
        while waiting:
            yield waiting.popleft().result()
