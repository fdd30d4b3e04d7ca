"""Members: several networks, each held to rows of its own.

The members are cross-fitted: each holds out its own fold, by which its size is selected, and trains
on the others. Their interquartile mean predicts: a member that goes astray where the training rows
were few is not heard there.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .evolution import Evolution, Generation, Stopping, evolve_network
from .grower import Grower, Settings
from .heads import fit_head
from .losses import Loss
from .moments import measure_moments
from .network import Network
from .operators import Operator
from .rows import Inputs, MemoryRows, StreamedRows

__all__ = ["Table", "Task", "fit_member", "hold_out", "plan_members", "single_thread"]

# Candidates are screened on at most so many rows...
_SKETCH = 1500
# ... and, where a member trains on no more than these, on all of them at once.
_FEW_ROWS = 750
# A member evolves on at most so many rows and is judged by at most a quarter as many; its head is
# then fitted to all.
_MOST_ROWS = 20_000
# Below this total weight no row is held out: see `hold_out`.
_SMALLEST_WEIGHT = 40.0


@dataclass(frozen=True)
class Table:
    """Training rows.

    Attributes
    ----------
    inputs : Inputs of shape (n_inputs, n_samples)
    target : Tensor of shape (n_outputs, n_samples)
    weight : Tensor of shape (n_samples,)
    """

    inputs: Inputs
    target: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Task:
    """What one member is to do.

    Attributes
    ----------
    number : int
    train, validation : Tensor of int64 or None
        Rows; None stands for all rows and for no rows.
    seed : int
    """

    number: int
    train: Tensor | None
    validation: Tensor | None
    seed: int


def hold_out(
    weight: Tensor, n_members: int, fraction: float | None, generator: torch.Generator
) -> list[tuple[Tensor | None, Tensor | None]]:
    """Return each member's training and validation rows.

    Several members hold out disjoint folds; one member holds out ``fraction`` of the rows. No row
    is held out if ``fraction`` is None, or if there are too few: then the size is selected by a
    closed-form criterion, and a fit depends neither on the order of rows nor on whether a row is
    weighted or repeated.

    Parameters
    ----------
    weight : Tensor of shape (n_samples,)
    n_members : int
    fraction : float or None
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    list of (train, validation)
        Index tensors, in random order; (None, None) where all rows are trained on.
    """
    n_rows = len(weight)
    if fraction is None or float(weight.sum()) < _SMALLEST_WEIGHT or n_rows < 2 * n_members:
        if n_rows <= _MOST_ROWS:
            return [(None, None)] * n_members
        return [
            (torch.randperm(n_rows, generator=generator)[:_MOST_ROWS], None)
            for _ in range(n_members)
        ]
    order = torch.randperm(n_rows, generator=generator)
    if n_members == 1:
        n_held = min(max(1, round(fraction * n_rows)), n_rows - 1)
        return [(order[n_held:][:_MOST_ROWS].clone(), order[:n_held][: _MOST_ROWS // 4].clone())]
    splits: list[tuple[Tensor | None, Tensor | None]] = []
    for k in range(n_members):
        # Of a large table the members take their rows from different places.
        shift = 0 if n_rows <= _MOST_ROWS else k * (n_rows // n_members)
        n_taken = min(n_rows, 2 * _MOST_ROWS)
        position = (torch.arange(n_taken) + shift) % n_rows
        train = order[position[position % n_members != k]][:_MOST_ROWS].clone()
        splits.append((train, order[k::n_members][: _MOST_ROWS // 4].clone()))
    return splits


def plan_members(weight: Tensor, n_members: int, fraction: float | None, seed: int) -> list[Task]:
    """Return the members' tasks, each with rows and a seed of its own."""
    generator = torch.Generator().manual_seed(seed)
    splits = hold_out(weight, n_members, fraction, generator)
    seeds = torch.randint(2**62, (n_members,), generator=generator).tolist()
    return [
        Task(number, train, validation, seeds[number])
        for number, (train, validation) in enumerate(splits)
    ]


def fit_member(
    table: Table,
    task: Task,
    operators: tuple[Operator, ...],
    loss: Loss,
    settings: Settings,
    stopping: Stopping,
    block_size: int = 4096,
    monitor: Callable[[int, int, Generation], None] | None = None,
    earlier: Evolution | None = None,
) -> Evolution:
    """Grow one member.

    Parameters
    ----------
    table : Table
    task : Task
    operators : tuple of Operator
    loss : Loss
    settings : Settings
    stopping : Stopping
    block_size : int, default=4096
        Rows that are reduced at a time.
    monitor : callable, default=None
        Called as ``monitor(member, generation, record)``.
    earlier : Evolution, default=None
        One to go on from, with its state.

    Returns
    -------
    Evolution
    """

    def source(rows: Tensor | None, dtype: torch.dtype = table.inputs.dtype) -> MemoryRows:
        at = slice(None) if rows is None else rows.to(table.inputs.device)
        return MemoryRows(
            table.inputs[:, at].to(dtype),
            table.target[:, at].to(dtype),
            table.weight[at].to(dtype),
            block_size=block_size,
        )

    generator = torch.Generator().manual_seed(task.seed)
    state = None if earlier is None else earlier.state
    network = (
        Network.linear(
            operators,
            len(table.inputs),
            len(table.target),
            device=table.inputs.device,
            dtype=table.inputs.dtype,
        )
        if state is None
        else state.network
    )
    with single_thread(), torch.no_grad():
        rows = sketch = source(task.train)
        # Where no row is held out, nothing may depend on the order of rows as long as possible.
        if rows.n_rows > (_SKETCH if task.train is None else _FEW_ROWS):
            picked = torch.randperm(rows.n_rows, generator=generator)[:_SKETCH]
            picked = picked if task.train is None else task.train[picked]
            # Single precision is enough to rank candidates, but not for what is searched alone.
            exact = settings.solver == "exact"
            sketch = source(picked, torch.float32 if exact else rows.columns.dtype)
        validation = None if task.validation is None else source(task.validation)
        grower = Grower(network, rows, sketch, validation, loss, settings, generator)
        if state is not None:
            grower.resume(state)
        evolution = evolve_network(
            grower,
            stopping,
            None if monitor is None else lambda *line: monitor(task.number, *line),
            earlier,
        )
        if len(table.weight) <= _MOST_ROWS or settings.solver != "exact":
            return evolution
        everything = StreamedRows(
            table.inputs, table.target, table.weight, evolution.network, block_size
        )
        moments = measure_moments(everything)
        network, _ = fit_head(everything, evolution.network, loss, grower.alpha, moments)
        return replace(evolution, network=network)


_lock = threading.Lock()
_inside = 0
_outer_threads = 1


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Run torch on one thread, so that sums do not depend on how many there are.

    Members are what is computed in parallel. Each thread puts back, as it leaves, what the first
    of the fits that run beside each other in this process found.
    """
    global _inside, _outer_threads
    with _lock:
        if _inside == 0:
            _outer_threads = torch.get_num_threads()
        _inside += 1
    torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            torch.set_num_threads(_outer_threads)
