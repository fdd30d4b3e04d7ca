"""Threads: how many torch uses.

The last bits of a sum depend on how it is divided among threads. Products of the members of a group
are not divided: each member's is computed by one thread. Whatever else is, is computed by one.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import torch

__all__ = ["torch_threads", "within"]

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
def within(n_threads: int) -> Iterator[None]:
    """Have torch use so many threads for a part of what `torch_threads` is around."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
