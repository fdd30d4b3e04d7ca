r"""Folds: which rows each member trains on, how much they count, and by which it is judged.

Members that are averaged weigh their rows differently, as by a bootstrap whose draws are continuous
[1]_, [2]_: what a few rows far from all others say is then said by some members, not by all. A row
of :math:`n` counts 1 on average, give or take :math:`6 / \sqrt n`, which costs each member as much
as twelve rows less would.

References
----------
.. [1] Rubin, D. B. (1981). The Bayesian bootstrap. Annals of Statistics 9(1).
.. [2] Xu, L., Gotwalt, C., Hong, Y., King, C. B. and Meeker, W. Q. (2020). Applications of the
   fractional-random-weight bootstrap. The American Statistician 74(4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .shuffle import Shuffle

__all__ = ["MOST_ROWS", "Task", "hold_out", "plan_members"]

# A member evolves on at most so many rows and is judged by at most a quarter as many; its head is
# then fitted to all.
MOST_ROWS = 20_000
# Below this total weight no row is held out: see `hold_out`.
_SMALLEST_WEIGHT = 40.0
# How far from 1 rows may count, times the root of their number; of more rows each counts as 1.
_REWEIGHTING, _REWEIGHTED_ROWS = 6.0, 512


@dataclass(frozen=True)
class Task:
    """What one member is to do.

    Attributes
    ----------
    number : int
    train, validation : Tensor of int64 or None
        Rows; None stands for all rows and for no rows. Validation rows are of the same table,
        unless one is given for them.
    seed : int
    factor : Tensor of shape (n_train,), or None
        What the weights of the training rows are multiplied by; None for 1.
    """

    number: int
    train: Tensor | None
    validation: Tensor | None
    seed: int
    factor: Tensor | None = None


def hold_out(
    n_rows: int,
    total_weight: float,
    n_members: int,
    fraction: float | None,
    generator: torch.Generator,
) -> list[tuple[Tensor | None, Tensor | None]]:
    """Return each member's training and validation rows.

    Several members hold out disjoint folds; one member holds out ``fraction`` of the rows. No row
    is held out if ``fraction`` is None, or if there are too few: then the size is selected by a
    closed-form criterion, and a fit depends neither on the order of rows nor on whether a row is
    weighted or repeated.

    Parameters
    ----------
    n_rows : int
        Of a large table, time and memory do not depend on it.
    total_weight : float
        Of all rows.
    n_members : int
    fraction : float or None
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    list of (train, validation)
        Index tensors, in random order; (None, None) where all rows are trained on.
    """
    if fraction is None or total_weight < _SMALLEST_WEIGHT or n_rows < 2 * n_members:
        if n_rows <= MOST_ROWS:
            return [(None, None)] * n_members
        some = torch.arange(MOST_ROWS)
        return [(_random_order(n_rows, generator)(some), None) for _ in range(n_members)]
    order, n_judging = _random_order(n_rows, generator), MOST_ROWS // 4
    if n_members == 1:
        n_held = min(max(1, round(fraction * n_rows)), n_rows - 1)
        train = torch.arange(n_held, min(n_rows, n_held + MOST_ROWS))
        return [(order(train), order(torch.arange(min(n_held, n_judging))))]
    splits: list[tuple[Tensor | None, Tensor | None]] = []
    for k in range(n_members):
        # Of a large table the members take their rows from different places.
        shift = 0 if n_rows <= MOST_ROWS else k * (n_rows // n_members)
        place = (torch.arange(min(n_rows, 2 * MOST_ROWS)) + shift) % n_rows
        train = place[place % n_members != k][:MOST_ROWS]
        held = torch.arange(k, min(n_rows, k + n_members * n_judging), n_members)
        splits.append((order(train), order(held)))
    return splits


def _random_order(n_rows: int, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Return what says which rows stand at some places of a random order of all."""
    if n_rows <= MOST_ROWS:
        return torch.randperm(n_rows, generator=generator).__getitem__
    return Shuffle(n_rows, int(torch.randint(2**62, (1,), generator=generator)))


def plan_members(
    n_rows: int,
    total_weight: float,
    n_members: int,
    fraction: float | None,
    seed: int,
    n_given: int | None = None,
) -> list[Task]:
    """Return the members' tasks, each with rows and a seed of its own.

    Parameters
    ----------
    n_rows, total_weight, n_members, fraction
        See `hold_out`.
    seed : int
    n_given : int, default=None
        Validation rows that are given apart, in a table of their own. All members are judged by
        them, and no other row is held out.
    """
    generator = torch.Generator().manual_seed(seed)
    fraction = None if n_given else fraction
    splits = hold_out(n_rows, total_weight, n_members, fraction, generator)
    seeds = torch.randint(2**62, (n_members,), generator=generator).tolist()
    if n_given:
        given = torch.randperm(n_given, generator=generator)[: MOST_ROWS // 4]
        splits = [(train, given) for train, _ in splits]
    return [
        Task(
            number, train, validation, seeds[number],
            _factor(train, generator) if n_members > 1 else None,
        )
        for number, (train, validation) in enumerate(splits)
    ]  # fmt: skip


def _factor(train: Tensor | None, generator: torch.Generator) -> Tensor | None:
    """Return how much each training row counts, if not all count the same."""
    if train is None or len(train) > _REWEIGHTED_ROWS:
        return None
    spread = min(1.0, _REWEIGHTING / math.sqrt(len(train)))
    drawn = torch.rand(len(train), generator=generator, dtype=torch.float64)
    factor = 1.0 + spread * (2.0 * drawn - 1.0)
    return factor / factor.mean()
