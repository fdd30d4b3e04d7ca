"""Evolution: train, prune, evolve, generation after generation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from .constants import constant_nodes, constant_step
from .grower import Grower, GrowerState
from .heads import (
    coefficients,
    fit_head,
    mean_loss,
    quadratic_model,
    with_coefficients,
)
from .losses import SquaredError
from .moments import variances
from .network import Network, Nodes
from .proposals import propose, propose_blindly
from .pruning import contribution_std, eliminate, weakest_leaf
from .ridge import choose_alpha
from .rows import node_columns
from .screening import pair_products, pick, screen
from .statistics import weighted_deviation

__all__ = ["Evolution", "Generation", "Stopping", "evolve", "evolve_network", "prune", "train"]


class Generation(NamedTuple):
    """One line of the history.

    Attributes
    ----------
    loss : float
        Mean training loss.
    validation_loss : float
        Mean loss on the held-out rows or, where none are held out, the closed-form criterion that
        stands in for it.
    n_nodes : int
    seconds : float
        Since the evolution began.
    """

    loss: float
    validation_loss: float
    n_nodes: int
    seconds: float


@dataclass(frozen=True)
class Stopping:
    """When to stop.

    Attributes
    ----------
    n_generations : int
        After so many generations behind the linear start.
    n_iter_no_change : int or None
        After so many without an improvement.
    tol : float
        What counts as one, relative to the best validation loss.
    max_time : float or None
        After so many seconds.
    """

    n_generations: int = 100
    n_iter_no_change: int | None = 15
    tol: float = 1e-4
    max_time: float | None = None


@dataclass(frozen=True)
class Evolution:
    """What an evolution gave.

    Attributes
    ----------
    network : Network
        Of the best generation.
    history : tuple of Generation
        The linear start first.
    best_generation : int
        Position in the history.
    stop_reason : str
        ``"n_generations"``, ``"n_iter_no_change"`` or ``"max_time"``.
    state : GrowerState or None
        What it takes to go on from the last generation.
    """

    network: Network
    history: tuple[Generation, ...]
    best_generation: int
    stop_reason: str
    state: GrowerState | None = None


# A gain of so many times the threshold is no chance.
_SURE = 4.0

Monitor = Callable[[int, Generation], None]


def evolve_network(
    grower: Grower,
    stopping: Stopping,
    monitor: Monitor | None = None,
    earlier: Evolution | None = None,
) -> Evolution:
    """Grow a network: train, prune, evolve until it stops improving.

    Parameters
    ----------
    grower : Grower
        The network to start from, with its rows.
    stopping : Stopping
    monitor : callable, default=None
        Called as ``monitor(generation, record)`` after each generation.
    earlier : Evolution, default=None
        One to go on from, whose state the grower has taken over.

    Returns
    -------
    Evolution
        With the network of the generation whose validation loss was lowest.
    """
    began = time.perf_counter()
    history = list(earlier.history) if earlier else []
    before = history[-1].seconds if history else 0.0
    best = earlier.network if earlier else grower.network
    while not (reason := _stop_reason(stopping, history, before)):
        if history:
            prune(grower)
            evolve(grower)
        train(grower)
        history.append(_assess(grower, before + time.perf_counter() - began))
        if _best_generation(history) == len(history) - 1:
            best = grower.network
        if monitor is not None:
            monitor(len(history) - 1, history[-1])
    return Evolution(best, tuple(history), _best_generation(history), reason, grower.state)


def train(grower: Grower) -> None:
    """Fit head and constants to the training rows, with the topology as it is."""
    if grower.trainer is not None:
        grower.revalue(
            grower.trainer.epoch(grower.rows, grower.loss, grower.alpha, grower.generator)
        )
        grower.measure()
        return
    due = grower.age % grower.settings.refine_every == 0
    grower.age += 1
    if grower.network is grower.settled:
        return
    _solve_head(grower)
    solved = grower.network
    if due:
        if len(constant_nodes(grower.network)):
            _refine_constants(grower)
        if grower.settings.alpha is None and not grower.loss.known_scale:
            _choose_alpha(grower)
    grower.measure()
    grower.settled = solved if due and grower.network is solved else None


def prune(grower: Grower) -> None:
    """Remove leaves: those that are not worth their place, and the weakest if it is needed."""
    settings, network = grower.settings, grower.network
    full = network.n_nodes >= settings.max_nodes
    if settings.pruning == "std":
        if full:
            n_inputs = network.topology.n_inputs
            deviation = variances(grower.moments.gram)[n_inputs:].sqrt()
            node = weakest_leaf(network, contribution_std(network.weight[:, n_inputs:], deviation))
            grower.remove([] if node is None else [node])
        return
    threshold = settings.prune_below * grower.noise
    elimination = eliminate(network, grower.curvature.inverse, threshold, n_forced=int(full))
    if len(elimination.nodes):
        grower.rehead(with_coefficients(network, elimination.coefficients))
        grower.remove(elimination.nodes)


def evolve(grower: Grower) -> None:
    """Add nodes with head weight zero: one at random, or the best of a screened pool."""
    room = grower.settings.max_nodes - grower.network.n_nodes
    if room <= 0:
        return
    nodes = _mutate(grower) if grower.settings.n_candidates == 1 else _select(grower, room)
    if len(nodes):
        grower.grow(nodes)


def _assess(grower: Grower, seconds: float) -> Generation:
    """Measure the present network."""
    loss = grower.loss_value
    if grower.validation is not None:
        validation_loss = mean_loss(grower.validation, grower.network, grower.loss)
    else:
        validation_loss = _criterion(grower, loss)
    n_outputs = len(grower.network.bias)
    loss, validation_loss = (
        grower.loss.reported(value, n_outputs) for value in (loss, validation_loss)
    )
    return Generation(loss, validation_loss, grower.network.n_nodes, seconds)


def _criterion(grower: Grower, loss: float) -> float:
    """Estimate the loss on new rows from that on the training rows.

    Generalised cross-validation for squared error; for other losses the optimism of a fit is added
    to its loss, which is AIC per sample for log-likelihoods. A node costs two degrees of freedom
    beside its weight: it was chosen among many [1]_.

    References
    ----------
    .. [1] J. H. Friedman, "Multivariate adaptive regression splines", Annals of Statistics 19,
       1991, section 3.6.
    """
    degrees = grower.curvature.degrees + 2.0 * grower.network.n_nodes
    share = degrees / grower.searched.total_weight
    if not isinstance(grower.loss, SquaredError):
        # The outputs of a softmax are free up to a common term.
        n_free = max(1, len(grower.network.bias) - 1) if grower.loss.known_scale else 1
        return loss + 2.0 * grower.noise * n_free * share
    # Where hardly a degree of freedom is left, the residual says nothing about new rows.
    return loss / (1.0 - share) ** 2 if share < 0.9 else float("inf")


def _best_generation(history: Sequence[Generation]) -> int:
    """Return the first generation of the lowest validation loss."""
    losses = [record.validation_loss for record in history]
    return losses.index(min(losses))


def _stop_reason(stopping: Stopping, history: Sequence[Generation], before: float) -> str:
    """Return why to stop, or nothing; ``before`` are seconds that do not count."""
    if not history:
        return ""
    if len(history) - 1 >= stopping.n_generations:
        return "n_generations"
    bar, stale = float("inf"), 0
    for record in history:
        stale += 1
        if record.validation_loss < bar:
            bar = record.validation_loss - stopping.tol * abs(record.validation_loss)
            stale = 0
    if stopping.n_iter_no_change is not None and stale >= stopping.n_iter_no_change:
        return "n_iter_no_change"
    if stopping.max_time is not None and history[-1].seconds - before >= stopping.max_time:
        return "max_time"
    return ""


def _solve_head(grower: Grower) -> None:
    grower.rehead(*fit_head(grower.rows, grower.network, grower.loss, grower.alpha, grower.moments))


def _choose_alpha(grower: Grower) -> None:
    """Choose the ridge penalty anew, and solve the head with it."""
    alpha = choose_alpha(
        grower.curvature,
        grower.network,
        variances(grower.moments.gram).sqrt(),
        0.5 * grower.moments.squared_residual(coefficients(grower.network)),
        grower.rows.total_weight,
    )
    if alpha != grower.alpha:
        grower.alpha = alpha
        _solve_head(grower)


def _refine_constants(grower: Grower) -> None:
    """Take a step on the constants if it lowers the objective; halve it if it does not."""
    before, moments, curvature = grower.network, grower.moments, grower.curvature
    value = grower.objective
    step = constant_step(grower.rows, before, grower.loss, curvature, damping=1e-3)
    for _ in range(3):
        grower.revalue(replace(before, constants=before.constants + step))
        _solve_head(grower)
        if grower.objective < value:
            return
        step = 0.5 * step
    grower.revalue(before, moments, curvature)


def _mutate(grower: Grower) -> Nodes:
    """Draw one random node, as the source text does."""
    network = grower.network
    operator, left, right, constant = propose_blindly(
        network.topology.n_columns, len(network.operators), grower.generator
    )
    one = network.scale.new_ones(1)
    node = Nodes(np.array([operator]), np.array([left]), np.array([right]), constant * one, one)
    sketch = grower.sketch
    column = node_columns(network, node, sketch.columns)
    spread = weighted_deviation(column, sketch.weight)
    if not bool(torch.isfinite(spread)):
        return node.take([])
    # A constant column's is rounding, not a scale.
    return (
        replace(node, scale=spread.to(network.scale))
        if bool(spread > 1e-6 * column.abs().max())
        else node
    )


def _select(grower: Grower, room: int) -> Nodes:
    """Draw a pool, screen it on the sketch, and pick the best by all rows."""
    settings, network, loss = grower.settings, grower.network, grower.loss
    sketch, searched = grower.sketch, grower.searched
    pool = propose(network, settings.n_candidates, grower.quantiles, grower.generator)
    alpha = grower.alpha_on(sketch)
    if searched is sketch:
        screened = screen(sketch, network, loss, alpha, grower.curvature, pool)
        screened = screened.take(screened.best(settings.n_short))
        screened = pair_products(sketch, network, loss, screened)
    else:
        rough = network.to(dtype=sketch.columns.dtype)
        model = quadratic_model(sketch, rough, loss, alpha, grower.moments_of(sketch))
        screened = screen(sketch, rough, loss, alpha, model, pool)
        pool = screened.nodes.take(screened.best(settings.n_short).numpy(force=True))
        alpha = grower.alpha_on(searched)
        screened = screen(searched, network, loss, alpha, grower.curvature, pool, pairs=True)
    threshold = settings.grow_above * grower.noise
    picked, gains = pick(screened, grower.curvature, min(2 * settings.n_new, room), threshold)
    # More than a few at a time only if there can be no doubt about them.
    n_sure = sum(gain > _SURE * threshold for gain in gains)
    return screened.nodes.take(picked[: max(settings.n_new, n_sure)])
