r"""Memory: what a fit takes at its peak, beside the table itself.

.. math:: 50\,\text{MiB} + K \, \bigl( 4\,\text{MiB} + 1.5 \, b \, r \, c + 250 \, c^2 \bigr)
          + 24 \, (\min(K m, n, 1600) + p)^2 + 12 \, n \, (o + 1) \quad \text{bytes}

for K members of :math:`c = p + m` columns, p inputs (300 at most) and m nodes, n rows, of which a
member works on :math:`r = \min(n, 20000)`, o outputs, and :math:`b` bytes per number: 8 up to 4,096
rows, else 4. The terms are the pool of candidates, rows with their columns, Gram matrices of the
members, that of the correction, and targets.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from .core.ensemble import MOST_NODES
from .core.folds import MOST_ROWS
from .core.selection import MOST_INPUTS

__all__ = ["available_memory", "check_memory", "enough_memory", "peak_memory"]

_BASE, _POOL = 50 * 2**20, 4 * 2**20


def peak_memory(
    n_rows: int, n_inputs: int, n_outputs: int, n_nodes: int, n_members: int, n_bytes: int
) -> int:
    """Return about how many bytes a fit takes at its peak, beside the table.

    Parameters
    ----------
    n_rows, n_inputs, n_outputs : int
    n_nodes : int
        Of the largest member.
    n_members : int
    n_bytes : int
        Per number.
    """
    n_inputs, n_worked = min(n_inputs, MOST_INPUTS), min(n_rows, MOST_ROWS)
    columns = n_inputs + n_nodes
    of_member = _POOL + 1.5 * n_bytes * n_worked * columns + 250 * columns**2
    correction = 24 * (min(n_members * n_nodes, n_rows, MOST_NODES) + n_inputs) ** 2
    return int(_BASE + n_members * of_member + correction + 12 * n_rows * (n_outputs + 1))


def available_memory() -> int | None:
    """Return how many bytes can be had, or None where nobody says."""
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        limits += [1024 * int(line.split()[1]) for line in lines if "MemAvailable" in line]
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=None)


def check_memory(needed: int, n_members: int) -> None:
    """Raise MemoryError if so many bytes cannot be had."""
    there = available_memory()
    if there is not None and needed > there:
        advice = "take fewer members, " if n_members > 1 else ""
        raise MemoryError(
            f"The fit would take at least {needed / 2**30:.1f} GiB, and {there / 2**30:.1f} GiB "
            f"can be had: {advice}fewer columns, or dtype='float32'."
        )


@contextmanager
def enough_memory() -> Iterator[None]:
    """Have a GPU that runs out of memory say what would need less.

    Raises
    ------
    MemoryError
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"The device has too little memory ({str(error).splitlines()[0]}). Blocks of fewer "
            "rows need less of it, try batch_size=4096, then 1024; and so do fewer n_members, or "
            "max_nodes."
        ) from error
