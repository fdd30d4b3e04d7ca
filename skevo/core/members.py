"""Members: several networks, each held to rows of its own.

The members are cross-fitted: each holds out its own fold, by which its size is selected, and trains
on the others. Their interquartile mean predicts: a member that goes astray where the training rows
were few is not heard there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from .course import Course, Evolution, Stopping, Watch
from .evolution import evolve_networks
from .folds import MOST_ROWS, Task
from .group import Group
from .grower import SCALE_ROWS, Grower
from .heads import fit_head
from .limited import LimitedSquaredError, WorkingRows
from .losses import Loss
from .moments import measure_moments
from .monotone import weight_signs
from .network import Network
from .nursery import HERE, Nursery
from .operators import Operator
from .population import Population
from .rows import HeldRows
from .selection import MOST_INPUTS, most_telling
from .settings import Settings
from .table import WHOLE, AnyTable, every_so_many, gather
from .topology import Index

__all__ = ["fit_members", "group_size"]

# Candidates are screened on at most so many rows: a multiple of `WHOLE`.
_SKETCH = 1024
# So many members make a group: a call of torch serves all of them. Where there are many rows, fewer
# take hardly longer, and less memory; and groups can grow in processes side by side.
_GROUP, _GROUP_ROWS, _SMALLEST_GROUP = 24, 60_000, 4
# The input columns that a member sees are those that tell most on at most so many rows.
_SELECTION_ROWS = 4000


def group_size(n_members: int, n_rows: int, settings: Settings, device: torch.device) -> int:
    """Return how many members make a group, whose networks are computed together.

    One with the ``adam`` solver, where members have an optimizer each; else groups of about one
    size.

    Parameters
    ----------
    n_members : int
    n_rows : int
        That each of them trains on, at most.
    settings : Settings
    device : torch.device
    """
    if settings.solver != "exact":
        return 1
    fitting = max(_SMALLEST_GROUP, _GROUP_ROWS // n_rows) if device.type == "cpu" else n_members
    most = min(_GROUP, fitting)
    return math.ceil(n_members / math.ceil(n_members / most))


def fit_members(
    table: AnyTable,
    tasks: Sequence[Task],
    operators: tuple[Operator, ...],
    loss: Loss,
    settings: Settings,
    stopping: Stopping,
    block_size: int = 16_384,
    watch: Watch | None = None,
    earlier: Sequence[Evolution] | None = None,
    n_jobs: int = 1,
    given: AnyTable | None = None,
    nursery: Nursery = HERE,
) -> list[Evolution]:
    """Grow members.

    Parameters
    ----------
    table : AnyTable
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
        Those to go on from. Those that were grown in a group go on in one, with its state; where
        there is none, only the nodes of the networks are taken over.
    n_jobs : int, default=1
        Threads that share the members of a group, or the rows of the table.
    given : AnyTable, default=None
        Of the validation rows, if they are not rows of ``table``.
    nursery : Nursery, default=HERE
        Where the groups grow.

    Returns
    -------
    list of Evolution
    """
    exact, n_inputs = settings.solver == "exact", table.n_inputs
    starts: Sequence[Evolution | None] = earlier or [None] * len(tasks)
    n_rows = min(len(table), MOST_ROWS)
    size = group_size(len(tasks), n_rows, settings, table.device)
    # Where members train on the same rows, averaging gains little.
    folds = tasks[0].validation is not None and given is None
    share = stopping.training_share if folds else 0.0
    growers, courses = [], []
    make = partial(
        _grower, operators=operators, loss=loss, settings=settings, block_size=block_size
    )

    def group_of(pair: tuple[int, tuple[Task, Evolution | None]]) -> int:
        number, (_, start) = pair
        return number // size if start is None or start.state is None else id(start.state)

    with torch.no_grad():
        for _, pairs in groupby(enumerate(zip(tasks, starts, strict=True)), group_of):
            own, before = zip(*(pair for _, pair in pairs), strict=True)
            seen = _inputs_to_see(table, own, before) if exact else [None] * len(own)
            group = Group(own, before, seen)
            growers.append(nursery.start(make, group, table, given or table))
            courses += [
                Course(share, inputs, n_inputs, start)
                for inputs, start in zip(seen, before, strict=True)
            ]
        evolutions = evolve_networks(growers, courses, stopping, watch, n_jobs, nursery.advance)
        # Their rows are not needed any more.
        growers.clear()
        if len(table) > MOST_ROWS and exact:
            evolutions = _fit_to_all(table, evolutions, loss, block_size, n_jobs)
    return evolutions


def _grower(
    group: Group,
    table: AnyTable,
    given: AnyTable,
    operators: tuple[Operator, ...],
    loss: Loss,
    settings: Settings,
    block_size: int,
) -> Grower:
    """Return the grower of a group; its validation rows are of the given table."""
    views = group.views(table)
    generators = [torch.Generator().manual_seed(task.seed) for task in group.tasks]
    rows, sketch, validation = _sources(
        group, table, given, settings.solver == "exact", block_size, generators
    )
    state = None if group.starts[0] is None else group.starts[0].state
    linear = Network.linear(
        operators,
        views[0].n_inputs,
        table.n_outputs,
        device=table.device,
        dtype=table.dtype,
    )
    population = group.population(linear) if state is None else state.population
    grower = Grower(
        population, rows, sketch, validation, loss, settings, generators,
        _stacked(view.monotonic for view in views), _stacked(group.seen),
    )  # fmt: skip
    if state is not None:
        grower.resume(state)
    return grower


def _sources(
    group: Group,
    table: AnyTable,
    given: AnyTable,
    exact: bool,
    block_size: int,
    generators: Sequence[torch.Generator],
) -> tuple[HeldRows, HeldRows, HeldRows | None]:
    """Return the training rows of a group, the sketch, and the validation rows, if there are any.

    As far as columns of nodes are computed, those of all rows are, in one store.
    """
    views, dtype, whole = group.views(table), table.dtype, WHOLE if exact else 1
    train = [
        _in_random_order(task.train, len(table), generator)
        for task, generator in zip(group.tasks, generators, strict=True)
    ]
    held = [task.validation for task in group.tasks if task.validation is not None]
    factors = [task.factor for task in group.tasks]
    training = [(views, train, factors)]
    many = max(map(len, train)) > _SKETCH
    # The other solver computes no columns of the rows that it trains on, but for the sketch.
    apart = gather(training, dtype, block_size, whole)[0] if many and not exact else None
    parts = [(views, train if apart is None else [some[:_SKETCH] for some in train], factors)]
    if held:
        parts.append((group.views(given), held, [None] * len(held)))
    store, (searched, *judged) = gather(parts, dtype, block_size, whole)
    # Single precision is enough to rank candidates. Where no row is held out, though, nothing may
    # depend on the order of rows, nor on rounding, as long as possible; and the other solver
    # searches nowhere else.
    rough = torch.float32 if exact and (many or held) else dtype
    sketch = store.part(slice(min(searched.stop, _SKETCH)), rough)
    same = sketch.n_rows == searched.stop and rough == dtype
    rows = apart or (sketch if same else store.part(searched))
    return rows, sketch, store.part(judged[0]) if judged else None


def _stacked(of_members: Iterable[Index | None]) -> Index | None:
    """Return what each member has of its inputs, if members have it."""
    known = [own for own in of_members if own is not None]
    return np.stack(known) if known else None


def _fit_to_all(
    table: AnyTable,
    evolutions: Sequence[Evolution],
    loss: Loss,
    block_size: int,
    n_threads: int,
) -> list[Evolution]:
    """Fit the members' heads to all rows."""
    # Members that see the same columns share the pass over the rows.
    apart = any(evolution.inputs is not None for evolution in evolutions)
    batches = [[evolution] for evolution in evolutions] if apart else [[*evolutions]]
    fitted = []
    for members in batches:
        # Inputs that growth has done without stay out.
        heard = np.any([member.network.heard_inputs for member in members], axis=0)
        inputs = np.flatnonzero(heard) if heard.any() and not heard.all() else None
        view = table if inputs is None else table.of(inputs)
        batch = [replace(member, inputs=inputs) for member in members]
        networks = [evolution.narrow_network for evolution in batch]
        population = Population.of(networks)
        source = view.stream(population, block_size, n_threads)
        if isinstance(loss, LimitedSquaredError):
            source = WorkingRows(source, population, loss)
        moments = measure_moments(source)
        alpha = moments.gram.new_tensor([evolution.alpha for evolution in batch])
        scaled = _at_scale(loss, view, networks) if loss.is_adaptive else loss
        population, _ = fit_head(
            source, population, scaled, alpha, moments,
            directions=weight_signs(population, view.monotonic),
        )  # fmt: skip
        fitted += [
            replace(one.with_narrow(population.network(k)), inputs=members[k].inputs)
            for k, one in enumerate(batch)
        ]
    return fitted


def _at_scale(loss: Loss, view: AnyTable, networks: Sequence[Network]) -> Loss:
    """Return the loss at the scale of the networks' residuals on some rows of a table."""
    some = view.take(every_so_many(len(view), SCALE_ROWS))
    output = torch.stack([network.predict(some.inputs[:, :].T).T for network in networks])
    return loss.at_scale(output, some.target, some.weight)


def _inputs_to_see(
    table: AnyTable, tasks: Sequence[Task], starts: Sequence[Evolution | None]
) -> list[Index | None]:
    """Return the input columns that each member of a group sees; None stands for all."""
    if table.n_inputs <= MOST_INPUTS:
        return [None] * len(tasks)
    known = [start for start in starts if start is not None]
    if known and known[0].state is not None:
        return [start.inputs for start in known]
    telling = []
    for task in tasks:
        some = slice(_SELECTION_ROWS) if task.train is None else task.train[:_SELECTION_ROWS]
        part = table.for_member(task.number).take(some)
        telling.append(most_telling(part.inputs[:, :], part.target, part.weight, MOST_INPUTS))
    if not known:
        return [*telling]
    # And those that the nodes read which they start from; the same for all.
    read = [np.flatnonzero(start.network.topology.use[: table.n_inputs]) for start in known]
    return [np.unique(np.concatenate([telling[0], *read]))] * len(tasks)


def _in_random_order(rows: Tensor | None, n_rows: int, generator: torch.Generator) -> Tensor:
    """Return rows, of which the first are to be the sketch; None stands for all.

    Those that a fold leaves are in random order already.
    """
    if rows is not None:
        return rows
    if n_rows <= _SKETCH:
        return torch.arange(n_rows)
    return torch.randperm(n_rows, generator=generator)
