"""Members: several networks, each held to rows of its own.

The members are cross-fitted: each holds out its own fold, by which its size is selected, and trains
on the others. Their interquartile mean predicts: a member that goes astray where the training rows
were few is not heard there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from .course import Course, Evolution, Stopping, Watch
from .evolution import evolve_networks
from .grower import SCALE_ROWS, Grower, GrowerState, Settings
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
    "group_size",
    "hold_out",
    "plan_members",
]

# Candidates are screened on at most so many rows: a multiple of `_WHOLE`.
_SKETCH = 1024
# So many members make a group: a call of torch serves all of them.
_GROUP = 8
# On more rows than that a group of fewer takes no longer, and groups can be grown side by side.
_FEW_ROWS, _GROUP_MANY_ROWS = 4096, 4
# Rows come in whole multiples of what a vector instruction takes: what remained would be computed
# by others, with other last bits, depending on what stands beside it.
_WHOLE = 32
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


def group_size(n_members: int, n_rows: int, settings: Settings, device: torch.device) -> int:
    """Return how many members make a group, whose networks are computed together.

    One with the ``adam`` solver, where members have an optimizer each; else groups of about one
    size.

    Parameters
    ----------
    n_members : int
    n_rows : int
        Of the table.
    settings : Settings
    device : torch.device
    """
    if settings.solver != "exact":
        return 1
    most = _GROUP_MANY_ROWS if n_rows > _FEW_ROWS and device.type == "cpu" else _GROUP
    return math.ceil(n_members / math.ceil(n_members / most))


def fit_members(
    table: Table,
    tasks: Sequence[Task],
    operators: tuple[Operator, ...],
    loss: Loss,
    settings: Settings,
    stopping: Stopping,
    block_size: int = 16_384,
    watch: Watch | None = None,
    earlier: Sequence[Evolution] | None = None,
    n_jobs: int = 1,
) -> list[Evolution]:
    """Grow members.

    Parameters
    ----------
    table : Table
    tasks : sequence of Task
    operators : tuple of Operator
    loss : Loss
    settings : Settings
    stopping : Stopping
    block_size : int, default=16_384
        Rows that are reduced at a time.
    watch : callable, default=None
        See `evolve_networks`.
    earlier : sequence of Evolution, default=None
        Those to go on from, with their states. Those that were grown in a group go on in one.
    n_jobs : int, default=1
        Groups that are grown at a time.

    Returns
    -------
    list of Evolution
    """
    exact, n_inputs = settings.solver == "exact", len(table.inputs)
    starts: Sequence[Evolution | None] = earlier or [None] * len(tasks)
    size = group_size(len(tasks), len(table.weight), settings, table.inputs.device)
    # Where no row is held out, members train on the same rows, and averaging gains little.
    share = stopping.training_share if tasks[0].validation is not None else 0.0
    growers, courses, views = [], [], []
    pairs = enumerate(zip(tasks, starts, strict=True))
    with torch.no_grad():
        for _, group in groupby(
            pairs, lambda pair: pair[0] // size if pair[1][1] is None else id(pair[1][1].state)
        ):
            own, before = zip(*(pair for _, pair in group), strict=True)
            if before[0] is None:
                seen = [_inputs_to_see(table, task.train) if exact else None for task in own]
            else:
                seen = [evolution.inputs for evolution in before]
            of_group = [table if inputs is None else table.of(inputs) for inputs in seen]
            state = None if before[0] is None else before[0].state
            growers.append(_grower(of_group, own, operators, loss, settings, block_size, state))
            views += of_group
            courses += [
                Course(share, inputs, n_inputs, start)
                for inputs, start in zip(seen, before, strict=True)
            ]
        evolutions = evolve_networks(growers, courses, stopping, watch, n_jobs)
        if len(table.weight) > _MOST_ROWS and exact:
            evolutions = _fit_to_all(views, evolutions, loss, block_size)
    return evolutions


def _grower(
    views: Sequence[Table],
    tasks: Sequence[Task],
    operators: tuple[Operator, ...],
    loss: Loss,
    settings: Settings,
    block_size: int,
    state: GrowerState | None,
) -> Grower:
    """Return the grower of a group, from each member's view of the table."""
    table, dtype = views[0], views[0].inputs.dtype
    generators = [torch.Generator().manual_seed(task.seed) for task in tasks]
    train = [task.train for task in tasks]
    exact, held_out = settings.solver == "exact", train[0] is not None
    whole = _WHOLE if exact else 1
    rows = sketch = _gather(views, train, dtype, block_size, whole)
    # Single precision is enough to rank candidates. Where no row is held out, though, nothing may
    # depend on the order of rows, nor on rounding, as long as possible; and the other solver
    # searches nowhere else.
    if max(len(table.weight) if some is None else len(some) for some in train) > _SKETCH:
        picked = [
            _some(taken, len(table.weight), generator)
            for taken, generator in zip(train, generators, strict=True)
        ]
        sketch = _gather(views, picked, torch.float32 if exact else dtype, block_size, whole)
    elif held_out and exact and dtype != torch.float32:
        sketch = _gather(views, train, torch.float32, block_size, whole)
    validation = (
        _gather(views, [task.validation for task in tasks], dtype, block_size, whole)
        if held_out
        else None
    )
    if state is not None:
        population = state.population
    else:
        linear = Network.linear(
            operators,
            len(table.inputs),
            len(table.target),
            device=table.inputs.device,
            dtype=dtype,
        )
        population = Population.of([linear] * len(tasks))
    grower = Grower(population, rows, sketch, validation, loss, settings, generators)
    if state is not None:
        grower.resume(state)
    return grower


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
        networks = [evolution.narrow_network for evolution in batch]
        population = Population.of(networks)
        source = StreamedRows(view.inputs, view.target, view.weight, population, block_size)
        moments = measure_moments(source)
        alpha = moments.gram.new_tensor([evolution.alpha for evolution in batch])
        scaled = _at_scale(loss, view, networks) if loss.is_adaptive else loss
        population, _ = fit_head(source, population, scaled, alpha, moments)
        fitted += [
            evolution.with_narrow(population.network(member))
            for member, evolution in enumerate(batch)
        ]
    return fitted


def _at_scale(loss: Loss, view: Table, networks: Sequence[Network]) -> Loss:
    """Return the loss at the scale of the networks' residuals on some rows of a table."""
    some = slice(None, None, max(1, len(view.weight) // SCALE_ROWS))
    inputs = view.inputs[:, some]
    output = torch.stack([network.predict(inputs.T).T for network in networks])
    return loss.at_scale(output, view.target[:, some], view.weight[some])


def _inputs_to_see(table: Table, rows: Tensor | None) -> Index | None:
    """Return the input columns for a member with some training rows; None stands for all."""
    if len(table.inputs) <= MOST_INPUTS:
        return None
    some = slice(_SELECTION_ROWS) if rows is None else rows[:_SELECTION_ROWS]
    return most_telling(
        table.inputs[:, some], table.target[:, some], table.weight[some], MOST_INPUTS
    )


def _some(rows: Tensor | None, n_rows: int, generator: torch.Generator) -> Tensor:
    """Return at most a sketch's number of some rows, or of all."""
    n_rows = n_rows if rows is None else len(rows)
    picked = torch.randperm(n_rows, generator=generator)[:_SKETCH]
    return picked if rows is None else rows[picked]


def _gather(
    views: Sequence[Table],
    members: Sequence[Tensor | None],
    dtype: torch.dtype,
    block_size: int,
    whole: int,
) -> MemoryRows:
    """Return the rows of each member, from its view of the table; None stands for all rows.

    Members get one of their rows again, of weight zero, until all have the same multiple of
    ``whole``.
    """
    table = views[0]
    device, everything = table.inputs.device, torch.arange(len(table.weight))
    chosen = [everything if rows is None else rows for rows in members]
    n_rows = whole * math.ceil(max(len(rows) for rows in chosen) / whole)
    filled = [torch.cat([rows, rows[:1].expand(n_rows - len(rows))]).to(device) for rows in chosen]
    weight = torch.stack([table.weight[rows] for rows in filled])
    for own, rows in zip(weight, chosen, strict=True):
        own[len(rows) :] = 0.0
    inputs = [view.inputs[:, rows].to(dtype) for view, rows in zip(views, filled, strict=True)]
    return MemoryRows(
        torch.stack(inputs),
        torch.stack([table.target[:, rows].to(dtype) for rows in filled]),
        weight.to(dtype),
        block_size=whole * math.ceil(block_size / whole),
    )
