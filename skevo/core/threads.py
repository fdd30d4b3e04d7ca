"""Threads: how many torch uses, and groups that are worked on side by side.

Whatever is computed is computed in one thread, for the last bits of a sum depend on how it is
divided; what runs beside each other are groups of members, whose results do not depend on it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

__all__ = ["side_by_side", "torch_threads"]

Map = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]

if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork, and OpenMP would wait for its own forever.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

_lock = threading.Lock()
_inside = 0
_outer_threads = 1


@contextlib.contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Have torch use so many threads.

    Each Python thread puts back, as it leaves, what the first of the fits that run beside each
    other in this process found.
    """
    global _inside, _outer_threads
    with _lock:
        if _inside == 0:
            _outer_threads = torch.get_num_threads()
        _inside += 1
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            torch.set_num_threads(_outer_threads)


@contextlib.contextmanager
def side_by_side(n_jobs: int) -> Iterator[Map]:
    """Give a map that works on several items at a time, without gradients.

    Parameters
    ----------
    n_jobs : int
        Threads, in each of which torch uses one.

    Yields
    ------
    callable
        ``map(function, items)`` returns the list of results, in the order of the items.
    """
    quiet = torch.no_grad()
    if n_jobs == 1:
        yield lambda function, items: [quiet(function)(item) for item in items]
        return
    with ThreadPoolExecutor(n_jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield lambda function, items: list(pool.map(quiet(function), items))
