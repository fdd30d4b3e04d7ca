"""Training: heads, constants and penalty fitted to the rows, with the wiring as it is."""

from __future__ import annotations

from dataclasses import replace

import torch

from .constants import constant_step
from .curvature import Curvature
from .grower import Grower
from .heads import fit_head, penalty_for
from .measures import mean_fall_and_error, mean_loss
from .moments import variances
from .population import Population
from .ridge import ALPHAS, choose_alpha, heads_at, neighbour
from .rows import HeldRows

__all__ = ["train"]

# Steps of heads in the first generation, and in later ones on a bound of the curvature, which are
# shorter than Newton's.
_STEPS, _STEPS_ON_BOUND = 15, 6
# At most so many rounds of heads and what follows them at the start, as long as the loss falls by
# that share.
_ADAPTATIONS, _SETTLED = 20, 1e-3
# Where a sketch stands for the rows, a step on the constants takes as long as some generations: it
# is taken less often by this factor, and the penalty chosen.
_LESS_OFTEN = 2


def train(grower: Grower) -> None:
    """Fit heads and constants to the training rows, with the wiring as it is."""
    if grower.trainer is not None:
        trained = grower.trainer.epoch(
            grower.rows, grower.loss, float(grower.alpha), grower.generators[0]
        )
        grower.revalue(Population.of([trained]))
        grower.measure()
        return
    if grower.is_adaptive and not grower.age:
        _adapt(grower)
    refining, choosing = _is_due(grower, grower.settings.refine_every), _is_due(grower, 1)
    grower.age += 1
    # Now and then the factorisation is made anew, rid of rounding.
    _solve_heads(grower, None if refining else grower.factor)
    if refining and grower.population.wiring.constant_nodes.any():
        _refine_constants(grower)
    if grower.settings.alpha is None:
        if not grower.loss.known_scale:
            # The first nodes take the penalty from one end of its path to the other.
            if choosing:
                _choose_alpha(grower)
        elif refining and grower.validation is not None and grower.age > 1:
            _follow_alpha(grower, grower.validation)
    grower.measure()


def _is_due(grower: Grower, every: int) -> bool:
    """Return whether it is time for what is done every so many generations."""
    return grower.age % (every if grower.sketch_is_all else _LESS_OFTEN * every) == 0


def _solve_heads(grower: Grower, factor: Curvature | None = None) -> None:
    n_steps = _STEPS
    if grower.validation is not None and grower.age > 1:
        # What is judged by held-out rows need not be at the optimum: the next generation goes on.
        n_steps = _STEPS_ON_BOUND if grower.loss.metric is not None else 1
    population, curvature = fit_head(
        grower.rows, grower.population, grower.loss, grower.alpha, grower.moments, factor,
        n_steps, directions=grower.constraints.of_columns(grower.population),
    )  # fmt: skip
    grower.rehead(population, curvature)


def _adapt(grower: Grower) -> None:
    """Fit heads and what follows them in turn: a scale, which of the targets is too wide."""
    before = torch.full_like(grower.loss_value, torch.inf)
    for _ in range(_ADAPTATIONS):
        grower.adapt()
        _solve_heads(grower)
        grower.measure()
        if not (grower.loss_value < (1.0 - _SETTLED) * before).any():
            return
        before = grower.loss_value


def _choose_alpha(grower: Grower) -> None:
    """Choose the ridge penalties anew, and solve the heads with them."""
    alpha = choose_alpha(
        grower.curvature,
        grower.population,
        variances(grower.moments.gram).sqrt(),
        0.5 * grower.residuals.summed_square,
        grower.rows.total_weight,
        grower.settings.n_averaged,
    )
    if not torch.equal(alpha, grower.alpha):
        grower.repenalise(alpha)
        _solve_heads(grower)


def _follow_alpha(grower: Grower, held: HeldRows) -> None:
    """Move the ridge penalty along its path, all members' alike, while held-out rows are for it.

    The rows that the members hold out are all rows together: their mean loss tells a penalty from
    the next one better than closed-form criteria do, which log-likelihoods of separable classes
    lead astray. A quadratic model says which way to go, and the loss has to fall by more than its
    standard error. Not at the linear start, where heads are still far from their optimum and the
    steps that a move takes help more than the penalty does.
    """
    steps: tuple[int, ...] = (-1, 1)
    for _ in ALPHAS:
        # Of equal ones the present penalty.
        best = min((0, *steps), key=lambda step: _loss_at(grower, held, step))
        if not best:
            return
        alpha, population, curvature = grower.alpha, grower.population, grower.curvature
        grower.repenalise(neighbour(alpha, best))
        _solve_heads(grower)
        fall, error = mean_fall_and_error(held, population, grower.population, grower.loss)
        if not fall > error:
            grower.repenalise(alpha)
            grower.rehead(population, curvature)
            return
        steps = (best,)


def _loss_at(grower: Grower, held: HeldRows, step: int) -> float:
    """Return the loss on held-out rows with a penalty some places along its path, by the model."""
    population, loss = grower.population, grower.loss
    alpha, dtype = neighbour(grower.alpha, step), population.weight.dtype
    ridge = penalty_for(loss, grower.moments.gram, alpha, dtype)
    still = grower.constraints.still(population)
    other = heads_at(ridge, grower.curvature, population, still)
    return float(mean_loss(held, other, loss).mean())


def _refine_constants(grower: Grower) -> None:
    """Take a step on the constants of those members whose objective it lowers."""
    population = grower.population
    value, before = grower.objective, (population, grower.moments, grower.curvature)
    step = constant_step(grower.searched, population, grower.loss, grower.curvature, damping=0.1)
    grower.revalue(replace(population, constants=population.constants + step))
    _solve_heads(grower)
    worse = ~(grower.objective < value) & (step != 0).any(dim=1)
    if worse.any():
        grower.take_back(worse, *before)
