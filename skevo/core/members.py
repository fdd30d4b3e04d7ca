"""Members: several networks, each held to rows of its own.

The members are cross-fitted: each holds out its own fold, by which its size is selected, and trains
on the others. Their interquartile mean predicts: a member that goes astray where the training rows
were few is not heard there.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .course import Evolution, Monitor, Stopping
from .evolution import evolve_networks
from .grower import Grower, Settings
from .heads import fit_head
from .losses import Loss
from .moments import measure_moments
from .network import Network
from .operators import Operator
from .population import Population
from .rows import Inputs, MemoryRows, StreamedRows
from .selection import MOST_INPUTS, most_telling
from .topology import Index

__all__ = [
    "Table",
    "Task",
    "fit_members",
    "hold_out",
    "n_together",
    "plan_members",
    "torch_threads",
]

# Candidates are screened on at most so many rows.
_SKETCH = 1000
# So many members are grown side by side: a call of torch serves all of them.
_BATCH = 8
# And so many training rows in all, whose columns are in memory.
_BATCH_ROWS = 80_000
# A member evolves on at most so many rows and is judged by at most a quarter as many; its head is
# then fitted to all.
_MOST_ROWS = 20_000
# The input columns that a member sees are those that tell most on at most so many rows.
_SELECTION_ROWS = 4000
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

    def of(self, columns: Index) -> Table:
        """Return the table with some of the input columns."""
        return replace(self, inputs=_SomeInputs(self.inputs, columns))


class _SomeInputs:
    """Some of the input columns of a table, taken as rows are read.

    Parameters
    ----------
    inputs : Inputs
    columns : ndarray of int64
    """

    def __init__(self, inputs: Inputs, columns: Index) -> None:
        self._inputs = inputs
        self._columns = torch.as_tensor(columns, device=inputs.device)
        self.device, self.dtype = inputs.device, inputs.dtype

    def __len__(self) -> int:
        return len(self._columns)

    def __getitem__(self, at: tuple[slice, Tensor | slice]) -> Tensor:
        """Return the columns of some rows."""
        return self._inputs[at][self._columns]


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


def n_together(n_members: int, n_rows: int, settings: Settings) -> int:
    """Return how many members are grown side by side.

    One with the ``adam`` solver, where members have an optimizer each; else as many as memory
    bears, in batches of about one size.

    Parameters
    ----------
    n_members : int
    n_rows : int
        Of the table.
    settings : Settings
    """
    if settings.solver != "exact":
        return 1
    most = max(1, min(_BATCH, _BATCH_ROWS // min(n_rows, _MOST_ROWS)))
    return math.ceil(n_members / math.ceil(n_members / most))


def fit_members(
    table: Table,
    tasks: Sequence[Task],
    operators: tuple[Operator, ...],
    loss: Loss,
    settings: Settings,
    stopping: Stopping,
    block_size: int = 16_384,
    monitor: Monitor | None = None,
    earlier: Sequence[Evolution] | None = None,
) -> list[Evolution]:
    """Grow members side by side.

    Parameters
    ----------
    table : Table
    tasks : sequence of Task
        More than one only with the ``exact`` solver.
    operators : tuple of Operator
    loss : Loss
    settings : Settings
    stopping : Stopping
    block_size : int, default=16_384
        Rows that are reduced at a time.
    monitor : callable, default=None
        Called as ``monitor(member, generation, record)``.
    earlier : sequence of Evolution, default=None
        Those to go on from, with their state, which is one and the same.

    Returns
    -------
    list of Evolution
    """
    dtype = table.inputs.dtype
    generators = [torch.Generator().manual_seed(task.seed) for task in tasks]
    train = [task.train for task in tasks]
    # Single precision is enough to rank candidates. Where no row is held out, though, nothing may
    # depend on the order of rows, nor on rounding, as long as possible; and the other solver
    # searches nowhere else.
    exact, held_out = settings.solver == "exact", train[0] is not None
    with torch.no_grad():
        if earlier is None:
            seen = [_inputs_to_see(table, rows) if exact else None for rows in train]
        else:
            seen = [evolution.inputs for evolution in earlier]
        views = [table if inputs is None else table.of(inputs) for inputs in seen]
        n_inputs = len(views[0].inputs)
        rows = sketch = _gather(views, train, dtype, block_size)
        if rows.n_rows > _SKETCH:
            picked = [
                _some(taken, len(table.weight), generator)
                for taken, generator in zip(train, generators, strict=True)
            ]
            sketch = _gather(views, picked, torch.float32 if exact else dtype, block_size)
        elif held_out and exact and dtype != torch.float32:
            sketch = _gather(views, train, torch.float32, block_size)
        validation = (
            _gather(views, [task.validation for task in tasks], dtype, block_size)
            if held_out
            else None
        )
        linear = Network.linear(
            operators, n_inputs, len(table.target), device=table.inputs.device, dtype=dtype
        )
        state = None if earlier is None else earlier[0].state
        population = Population.of([linear] * len(tasks)) if state is None else state.population
        grower = Grower(population, rows, sketch, validation, loss, settings, generators)
        if state is not None:
            grower.resume(state)
        evolutions = evolve_networks(
            grower,
            stopping,
            None if monitor is None else lambda k, *line: monitor(tasks[k].number, *line),
            None if earlier is None else [_narrowed(evolution) for evolution in earlier],
        )
        if len(table.weight) > _MOST_ROWS and exact:
            evolutions = _fit_to_all(views, evolutions, loss, block_size)
        return [
            _widened(evolution, inputs, len(table.inputs))
            for evolution, inputs in zip(evolutions, seen, strict=True)
        ]


def _fit_to_all(
    views: Sequence[Table], evolutions: Sequence[Evolution], loss: Loss, block_size: int
) -> list[Evolution]:
    """Fit the members' heads to all rows."""
    # Members that see the same columns share the pass over the rows.
    if all(view is views[0] for view in views):
        batches = [(views[0], [*evolutions])]
    else:
        batches = [(view, [own]) for view, own in zip(views, evolutions, strict=True)]
    fitted = []
    for view, batch in batches:
        population = Population.of([evolution.network for evolution in batch])
        source = StreamedRows(view.inputs, view.target, view.weight, population, block_size)
        moments = measure_moments(source)
        alpha = moments.gram.new_tensor([evolution.alpha for evolution in batch])
        population, _ = fit_head(source, population, loss, alpha, moments)
        fitted += [
            replace(evolution, network=population.network(member))
            for member, evolution in enumerate(batch)
        ]
    return fitted


def _inputs_to_see(table: Table, rows: Tensor | None) -> Index | None:
    """Return the input columns for a member with some training rows; None stands for all."""
    if len(table.inputs) <= MOST_INPUTS:
        return None
    some = slice(_SELECTION_ROWS) if rows is None else rows[:_SELECTION_ROWS]
    return most_telling(
        table.inputs[:, some], table.target[:, some], table.weight[some], MOST_INPUTS
    )


def _narrowed(evolution: Evolution) -> Evolution:
    """Return an evolution in terms of the input columns that the member sees."""
    if evolution.inputs is None:
        return evolution
    places = np.full(evolution.network.topology.n_inputs, -1)
    places[evolution.inputs] = np.arange(len(evolution.inputs))
    return replace(evolution, network=evolution.network.relocate(places, len(evolution.inputs)))


def _widened(evolution: Evolution, inputs: Index | None, n_inputs: int) -> Evolution:
    """Return an evolution on some input columns in terms of all."""
    if inputs is None:
        return evolution
    return replace(evolution, network=evolution.network.relocate(inputs, n_inputs), inputs=inputs)


def _some(rows: Tensor | None, n_rows: int, generator: torch.Generator) -> Tensor:
    """Return at most a sketch's number of some rows, or of all."""
    n_rows = n_rows if rows is None else len(rows)
    picked = torch.randperm(n_rows, generator=generator)[:_SKETCH]
    return picked if rows is None else rows[picked]


def _gather(
    views: Sequence[Table], members: Sequence[Tensor | None], dtype: torch.dtype, block_size: int
) -> MemoryRows:
    """Return the rows of each member, from its view of the table; None stands for all rows.

    Members that have fewer rows than others get one of theirs again, of weight zero.
    """
    table = views[0]
    device, everything = table.inputs.device, torch.arange(len(table.weight))
    chosen = [everything if rows is None else rows for rows in members]
    n_rows = max(len(rows) for rows in chosen)
    filled = [torch.cat([rows, rows[:1].expand(n_rows - len(rows))]).to(device) for rows in chosen]
    weight = torch.stack([table.weight[rows] for rows in filled])
    for own, rows in zip(weight, chosen, strict=True):
        own[len(rows) :] = 0.0
    inputs = [view.inputs[:, rows].to(dtype) for view, rows in zip(views, filled, strict=True)]
    return MemoryRows(
        torch.stack(inputs),
        torch.stack([table.target[:, rows].to(dtype) for rows in filled]),
        weight.to(dtype),
        block_size=block_size,
    )


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
