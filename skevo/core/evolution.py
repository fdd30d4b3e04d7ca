"""Evolution: train, prune, evolve, generation after generation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.special import chdtrc, chdtri
from torch import Tensor

from .columns import node_columns
from .course import (
    Course,
    Evolution,
    Generation,
    Growing,
    Growth,
    Stopping,
    Watch,
    stop_reason,
)
from .grower import Grower
from .heads import with_coefficients
from .measures import mean_loss_and_error
from .moments import Products, variances
from .network import Nodes
from .population import EMPTY
from .proposals import propose, propose_blindly
from .pruning import contribution_std, eliminate, weakest_leaf
from .relevance import irrelevant_inputs
from .screening import pick, screen
from .statistics import weighted_deviation
from .threads import within
from .topology import CONSTANT, Index
from .training import train

__all__ = ["advance_all", "evolve", "evolve_networks", "prune"]

# Held-out rows are asked which inputs they miss every so many generations, where there are at most
# so many training rows for each input: with more of them, one that does not matter costs nothing.
_INPUTS_EVERY, _ROWS_PER_INPUT = 10, 100
# A gain of so many times the threshold is no chance.
_SURE = 4.0
# Has groups take a generation; see `advance_all`.
Advance = Callable[[Sequence[Any], bool], list[list[Generation]]]


def evolve_networks(
    growers: Sequence[Growing],
    courses: Sequence[Course],
    stopping: Stopping,
    watch: Watch | None = None,
    n_jobs: int = 1,
    advance: Advance | None = None,
) -> list[Evolution]:
    """Grow networks: train, prune, evolve until they stop improving.

    They stop together, when the mean of what they are judged by does: it is known better than that
    of one member, whose fold may be small. Each member keeps its own best generation.

    Parameters
    ----------
    growers : sequence of Growing
        Groups of members to start from, with their rows.
    courses : sequence of Course
        Of each member, in the order of the groups; all of the same length.
    stopping : Stopping
    watch : callable, default=None
        Called with the `Growth` after each generation; it may stop the evolution.
    n_jobs : int, default=1
        Threads that share the members of a group.
    advance : callable, default=advance_all
        Has the groups take a generation.

    Returns
    -------
    list of Evolution
        Of each member, with the network of its best generation.
    """
    growth = Growth(growers, courses)
    before = courses[0].history[-1].seconds if courses[0].history else 0.0
    began = time.perf_counter() - before
    reason = stop_reason(stopping, courses, before)
    # What a member computes is not divided, see `skevo.core.threads`.
    n_threads = min([n_jobs, *(grower.n_members for grower in growers)])
    with within(n_threads), torch.no_grad():
        while not reason:
            records = (advance or advance_all)(growers, growth.n_generations < 0)
            seconds = time.perf_counter() - began
            growth.add([[one._replace(seconds=seconds) for one in own] for own in records])
            told = "" if watch is None else watch(growth)
            reason = told or stop_reason(stopping, courses, before)
    return growth.evolutions(reason)


def advance_all(growers: Sequence[Any], first: bool) -> list[list[Generation]]:
    """Have groups take a generation, one after the other.

    Parameters
    ----------
    growers : sequence of Grower
    first : bool
        Whether it is the first: what they start from.

    Returns
    -------
    list of list of Generation
        Of the members of each group; when that was is left open.
    """
    found = []
    for grower in growers:
        if not first:
            prune(grower)
            evolve(grower)
        train(grower)
        found.append(_assess(grower))
        grower.adapt()
    return found


def prune(grower: Grower) -> None:
    """Remove what is not worth its place: now and then inputs, and leaves.

    The weakest leaf goes in any case where there is no room.
    """
    settings = grower.settings
    if settings.pruning == "std":
        _prune_as_the_source_text(grower)
        return
    if _inputs_are_due(grower):
        _prune_inputs(grower)
    population = grower.population
    threshold = settings.prune_below * grower.noise
    n_forced = (_room(grower) <= 0).astype(np.int64)
    elimination = eliminate(population, grower.curvature.inverse, threshold, n_forced)
    if elimination.gone.any():
        grower.rehead(with_coefficients(population, elimination.coefficients))
        grower.remove(elimination.gone)


def _prune_as_the_source_text(grower: Grower) -> None:
    """Remove the leaf that contributes least, of members that have no room."""
    population = grower.population
    n_inputs = population.wiring.n_inputs
    deviation = variances(grower.moments.gram)[:, n_inputs:].sqrt()
    weight = population.weight[:, :, n_inputs:]
    scores = torch.stack([contribution_std(*pair) for pair in zip(weight, deviation, strict=True)])
    gone = weakest_leaf(scores, population.wiring.leaves & (_room(grower) <= 0)[:, None])
    if gone.any():
        grower.remove(gone)


def _inputs_are_due(grower: Grower) -> bool:
    """Return whether held-out rows are to be asked which inputs they miss.

    They are asked of heads at their optimum, which those of log-likelihoods are not.
    """
    if grower.validation is None or grower.trainer is not None or grower.loss.known_scale:
        return False
    few = grower.rows.n_rows <= _ROWS_PER_INPUT * grower.population.wiring.n_inputs
    return few and grower.age % _INPUTS_EVERY == 0


def _prune_inputs(grower: Grower) -> None:
    """Remove inputs that held-out rows do not miss, with all nodes that depend on them."""
    held, population = grower.validation, grower.population
    assert held is not None
    found = irrelevant_inputs(
        held, population, grower.loss, grower.curvature, grower.limits, grower.names
    )
    if found is None:
        return
    grower.rehead(with_coefficients(population, found.coefficients))
    grower.remove(found.nodes, found.inputs)


def evolve(grower: Grower) -> None:
    """Add nodes with head weight zero: one at random, or the best of a screened pool."""
    room = _room(grower)
    if not (room > 0).any():
        return
    nodes, products = (_mutate if grower.settings.n_candidates == 1 else _select)(grower, room)
    if (nodes.operator != EMPTY).any():
        grower.grow(nodes, products)


def _room(grower: Grower) -> Index:
    """Return how many more nodes each member may have, of shape (n_members,)."""
    return grower.settings.max_nodes - grower.population.wiring.n_nodes


def _assess(grower: Grower) -> list[Generation]:
    """Measure the present networks."""
    loss, held = grower.loss_value, grower.validation
    rows, limits = (grower.searched, None) if held is None else (held, grower.limits)
    mean, error = mean_loss_and_error(rows, grower.population, grower.loss, limits)
    validation_loss = mean if held is not None else _criterion(grower, loss)
    n_outputs = grower.population.bias.shape[1]
    columns = [
        [grower.loss.reported(value, n_outputs) for value in part.tolist()]
        for part in (loss, validation_loss, error)
    ]
    return [
        Generation(training, held_out, n, math.nan, deviation)
        for training, held_out, deviation, n in zip(
            *columns, grower.population.wiring.n_nodes.tolist(), strict=True
        )
    ]


def _criterion(grower: Grower, loss: Tensor) -> Tensor:
    """Estimate the loss on new rows from that on the training rows.

    Generalised cross-validation for squared error and other deviances; for other losses the
    optimism of a fit is added to its loss, which is AIC per sample for log-likelihoods. A node
    costs two degrees of freedom beside its weight: it was chosen among many [1]_.

    References
    ----------
    .. [1] J. H. Friedman, "Multivariate adaptive regression splines", Annals of Statistics 19,
       1991, section 3.6.
    """
    n_nodes = torch.as_tensor(grower.population.wiring.n_nodes, device=loss.device)
    share = (grower.curvature.degrees + 2.0 * n_nodes) / grower.searched.total_weight
    if not grower.loss.is_deviance:
        n_free = _n_free(grower) if grower.loss.known_scale else 1
        return loss + 2.0 * grower.noise * n_free * share
    # Where hardly a degree of freedom is left, the residual says nothing about new rows.
    return torch.where(share < 0.9, loss / (1.0 - share).square(), torch.inf)


def _n_free(grower: Grower) -> int:
    """Return how many outputs are free: those of a softmax are up to a common term."""
    n_outputs = grower.population.bias.shape[1]
    return max(1, n_outputs - 1) if grower.loss.known_scale else n_outputs


def _threshold(grower: Grower) -> Tensor:
    r"""Return the gain above which candidates are grown.

    It is as strict for several outputs as for one.

    What noise of k outputs gains, in units of its mean, is :math:`\chi^2_k / k`, which varies less
    the larger k is.
    """
    units, n_outputs = grower.settings.grow_above, _n_free(grower)
    if n_outputs > 1:
        units = chdtri(n_outputs, chdtrc(1, units)) / n_outputs
    return units * grower.apparent_noise


def _mutate(grower: Grower, room: Index) -> tuple[Nodes, None]:
    """Draw one random node for each member that has room, as the source text does."""
    population, sketch = grower.population, grower.sketch
    wiring = population.wiring
    drawn = [
        propose_blindly(n_columns, len(population.operators), generator)
        for n_columns, generator in zip(
            wiring.columns.sum(axis=1).tolist(), grower.generators, strict=True
        )
    ]
    operator, left, right, constant = (np.array(part)[:, None] for part in zip(*drawn, strict=True))
    # Columns that are read, with empty ones among them.
    columns = [np.append(np.flatnonzero(there), CONSTANT) for there in wiring.columns]
    left, right = (
        np.array([[own[int(side)] for own, side in zip(columns, sides[:, 0], strict=True)]]).T
        for sides in (left, right)
    )
    one = population.scale.new_ones(len(population), 1)
    values = torch.as_tensor(constant, dtype=one.dtype, device=one.device)
    nodes = Nodes(operator, left, right, values, one)
    nodes = grower.constraints.allowed(population, nodes)
    column = node_columns(population, nodes, sketch.columns)
    spread = weighted_deviation(column, sketch.weight)
    finite = torch.isfinite(spread)
    # A constant column's is rounding, not a scale.
    scale = torch.where(finite & (spread > 1e-6 * column.abs().amax(dim=2)), spread, 1.0)
    usable = finite.numpy(force=True) & (room > 0)[:, None]
    operator = np.where(usable, nodes.operator, EMPTY)
    return replace(nodes, operator=operator, scale=scale.to(one.dtype)), None


def _select(grower: Grower, room: Index) -> tuple[Nodes, Products | None]:
    """Draw pools, screen them on the sketch, and pick the best by all rows.

    Returns
    -------
    nodes : Nodes
        At most as many of each member as it has room for.
    products : Products or None
        Of their columns on the searched rows, where the screening has computed them.
    """
    settings, population, loss = grower.settings, grower.population, grower.loss
    constraints = grower.constraints
    sketch, rough, model = grower.on_sketch()
    shares = None
    if grower.pairs is not None:
        shares = grower.pairs.shares(loss.residual(rough.output(sketch.columns), sketch.target))
    pool = propose(
        population, settings.n_candidates, grower.quantiles, grower.generators, grower.age,
        shares,
    )  # fmt: skip
    pool = constraints.allowed(population, pool)
    rated = screen(
        sketch,
        rough,
        loss,
        grower.alpha_on(sketch),
        model,
        pool,
        constraints.of_nodes(population, pool),
    )
    short = rated.best(settings.n_short)
    searched, alpha = grower.searched, grower.alpha_on(grower.searched)
    screened = screen(
        searched, population, loss, alpha, grower.curvature, short,
        constraints.of_nodes(population, short), pairs=True,
    )  # fmt: skip
    threshold = _threshold(grower)
    picked, gains = pick(screened, grower.curvature, 2 * settings.n_new, threshold)
    # More than a few at a time only if there can be no doubt about them.
    sure = gains > _SURE * threshold.numpy(force=True)[:, None]
    place = np.arange(picked.shape[1])
    taken = ((place < settings.n_new) | sure) & (place < room[:, None])
    picked = np.where(taken, picked, -1)[:, taken.any(axis=0)]
    products = None if loss.metric is None else screened.products(picked, loss.metric)
    return screened.nodes.take(picked), products
