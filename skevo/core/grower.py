"""The grower: a population that is being grown, with its rows and statistics.

`Population` is frozen; this is the mutable bookkeeping around it. The three steps of the method, in
`skevo.core.evolution`, read and change it through the methods here, which keep columns, statistics
and optimizer in step with the population.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .curvature import Curvature
from .gradient import GradientTrainer
from .heads import (
    ROUNDING,
    coefficients,
    dispersion,
    mean_loss,
    objective,
)
from .losses import Loss, SquaredError
from .moments import Moments, Products
from .monotone import STILL, Constraints
from .network import Nodes
from .population import Population, choose
from .proposals import N_QUANTILES, quantile_table
from .rows import HeldRows, MemoryRows
from .settings import Settings
from .summary import Summary, SummaryState
from .topology import Index

__all__ = ["SCALE_ROWS", "Grower", "GrowerState"]

# The penalty that is not given: for squared error, where the choice by cross-validation begins.
_ALPHA = 3.0
_ALPHA_LIKELIHOOD = 0.3
# Empty slots are given up once there are so many slots per node of the largest member.
_SPARE_SLOTS = 1.15
# Where a sketch stands for the rows, a step on the constants takes as long as some generations: it
# is taken less often by this factor.
_LESS_OFTEN = 2
# Quantiles are those of at least so many rows, if there are as many.
_QUANTILE_ROWS = 128
# The scale of the loss is that of so many rows.
SCALE_ROWS = 1000


@dataclass(frozen=True)
class GrowerState:
    """What a grower needs, beside rows and settings, to go on where another one stopped.

    Attributes
    ----------
    population : Population
        Of the last generation, not of the best.
    summaries : list of SummaryState
        Of the training rows and of the sketch, as they were put together.
    curvature : Curvature
        On the searched rows.
    loss : Loss
        At the scale of the last generation.
    alpha, noise, loss_value : Tensor of shape (n_members,)
    age : int
    generators : list of Tensor
        States of the random generators.
    optimizer : dict or None
        State of the ``adam`` solver's optimizer.
    """

    population: Population
    summaries: list[SummaryState]
    curvature: Curvature
    loss: Loss
    alpha: Tensor
    noise: Tensor
    loss_value: Tensor
    age: int
    generators: list[Tensor]
    optimizer: dict[str, Any] | None


class Grower:
    """A population that is being grown on rows.

    Parameters
    ----------
    population : Population
        To start from; with the ``adam`` solver, of one member.
    rows : HeldRows
        Training rows.
    sketch : HeldRows
        Some of them, on which candidates are screened; may be ``rows`` itself.
    validation : HeldRows or None
        Rows that are held out.
    loss : Loss
    settings : Settings
    generators : sequence of torch.Generator
        One for each member, on the CPU; the only source of randomness.
    monotonic : ndarray of shape (n_members, n_inputs), default=None
        What outputs must do as an input rises; see `Constraints`.

    Attributes
    ----------
    population : Population
    alpha : Tensor of shape (n_members,)
        The ridge penalty as it stands.
    age : int
        Generations that were trained.
    loss_value : Tensor of shape (n_members,)
        Mean loss on the searched rows after the last training.
    limits : (Tensor, Tensor) of shape (n_members, n_outputs, 1), or None
        What predictions will be clipped to; None where they are not.
    trainer : GradientTrainer or None
        What holds the optimizer of the ``adam`` solver.
    """

    def __init__(
        self,
        population: Population,
        rows: HeldRows,
        sketch: HeldRows,
        validation: HeldRows | None,
        loss: Loss,
        settings: Settings,
        generators: Sequence[torch.Generator],
        monotonic: Index | None = None,
    ) -> None:
        self.population = population
        self.loss = loss
        self.settings = settings
        self.generators = list(generators)
        self.age = 0
        self.alpha = torch.full_like(rows.total_weight, _first_alpha(loss, settings))
        self.trainer = (
            GradientTrainer(population.network(0), settings.learning_rate, settings.batch_size)
            if settings.solver == "adam"
            else None
        )
        self.limits = loss.limits(rows.target, rows.weight)
        self._constraints = None if monotonic is None else Constraints(monotonic)
        self._rows, self._sketch, self._validation = rows, sketch, validation
        # The sketch may be the training rows themselves.
        self._summaries = {source: Summary(source, loss) for source in (rows, sketch)}
        self._curvature: Curvature | None = None
        self._quantiles = sketch.weight.new_empty(len(population), 0, N_QUANTILES)
        self.loss_value = torch.full_like(self.alpha, torch.nan)
        self._noise: Tensor | None = None

    @property
    def n_members(self) -> int:
        """Members of the group."""
        return len(self.population)

    # -- rows ----------------------------------------------------------------------------------

    @property
    def rows(self) -> HeldRows:
        """Training rows; they hold the columns of the nodes where the exact solver needs them."""
        return self._rows if self.trainer is not None else self._held(self._rows)

    @property
    def sketch(self) -> HeldRows:
        """Rows that candidates are screened on, with the columns of the population."""
        return self._held(self._sketch)

    @property
    def searched(self) -> HeldRows:
        """Rows that pruning and evolving look at, with the columns of the population.

        All training rows with the exact solver, the sketch with the other one, which never sees
        all rows at once.
        """
        return self.rows if self.trainer is None else self.sketch

    @property
    def validation(self) -> HeldRows | None:
        """Rows that are held out, with the columns of the population."""
        return None if self._validation is None else self._held(self._validation)

    def _held(self, rows: HeldRows) -> HeldRows:
        """Return rows once they hold the columns of the population."""
        rows.store.assign(self.population)
        return rows

    # -- statistics ----------------------------------------------------------------------------

    def _summary(self, rows: HeldRows) -> Summary:
        """Return the summary of the training rows or the sketch, once they hold the columns."""
        return self._summaries[self._held(rows)]

    @property
    def moments(self) -> Moments:
        """Moments of the searched rows."""
        return self._summary(self.searched).moments

    @property
    def curvature(self) -> Curvature:
        """Quadratic model of the objective at the present heads, on the searched rows."""
        if self._curvature is None:
            self._curvature = self._model(self.searched, self.population)
        return self._curvature

    def _model(self, rows: HeldRows, population: Population) -> Curvature:
        """Return the quadratic model on some rows; weights that are kept at zero do not pull."""
        model = self._summary(rows).model(population, self.alpha_on(rows))
        directions = self.directions
        if directions is None:
            return model
        still = (directions != STILL) & (population.weight[:, 0] == 0)
        pull = model.gradient[:, 1:].masked_fill(still[..., None], 0.0)
        return model.with_gradient(torch.cat([model.gradient[:, :1], pull], dim=1))

    @property
    def directions(self) -> Tensor | None:
        """What head weights must not have the opposite sign of; None if nothing is constrained."""
        if self._constraints is None:
            return None
        return self._constraints.of_columns(self.population)

    def directions_of(self, nodes: Nodes) -> Tensor | None:
        """Return the same of nodes that read the population's columns."""
        if self._constraints is None:
            return None
        return self._constraints.of_nodes(self.population, nodes)

    def allowed(self, nodes: Nodes) -> Nodes:
        """Return nodes without those that could go either way as constrained inputs rise."""
        if self._constraints is None:
            return nodes
        return self._constraints.allowed(self.population, nodes)

    @property
    def factor(self) -> Curvature | None:
        """A factorisation for the present columns and penalty on the searched rows, if known."""
        return self._summary(self.searched).factor

    @property
    def refine_every(self) -> int:
        """Generations from one refinement of constants and penalty to the next."""
        every = self.settings.refine_every
        return every if self._sketch_is_all else _LESS_OFTEN * every

    @property
    def _sketch_is_all(self) -> bool:
        """Whether the sketch has the same rows as are searched, be it in single precision."""
        return self._sketch.n_rows == self.searched.n_rows

    def on_sketch(self) -> tuple[HeldRows, Population, Curvature]:
        """Return the sketch, the population in its precision, and the quadratic model there."""
        sketch = self.sketch
        rough = self.population.to(dtype=sketch.columns.dtype)
        if self._sketch_is_all:
            # There is a model already.
            return sketch, rough, self.curvature
        return sketch, rough, self._model(sketch, rough)

    @property
    def quantiles(self) -> Tensor:
        """Quantiles of the columns on the sketch, of shape (n_members, n_columns, n_quantiles)."""
        n_known = self._quantiles.shape[1]
        if n_known < self.population.n_columns:
            some = slice(None)
            if self.sketch is not self.rows:
                some = slice(None, None, max(1, self.sketch.n_rows // _QUANTILE_ROWS))
            new = self.sketch.columns[:, n_known:, some]
            new = quantile_table(new, self.sketch.weight[:, some])
            self._quantiles = torch.cat([self._quantiles, new], dim=1)
        return self._quantiles

    def measure(self) -> None:
        """Update ``loss_value``, and with it ``noise``, as the population has been trained."""
        if isinstance(self.loss, SquaredError):
            self.loss_value = 0.5 * self._mean_square()
        else:
            self.loss_value = mean_loss(self.searched, self.population, self.loss)
        self._noise = None

    @property
    def noise(self) -> Tensor:
        """What a column of pure noise lowers the objective by, on average, for each member.

        Half the variance of the residual in units of the curvature, summed over outputs, or 1/2 for
        log-likelihoods.
        """
        if self._noise is None:
            self._noise = (
                torch.full_like(self.alpha, 0.5) if self.loss.known_scale else self._scatter()
            )
        return self._noise

    @property
    def apparent_noise(self) -> Tensor:
        """What it lowers the quadratic model of the objective by.

        A bound on the curvature makes that less: where the fit is confident, many times.
        """
        bounded = self.loss.known_scale and self.loss.metric is not None
        return self._scatter() if bounded else self.noise

    def _scatter(self) -> Tensor:
        """Return half the mean squared residual, corrected by what noise has been fitted away."""
        spent = self.curvature.degrees / self.searched.total_weight
        return 0.5 * self._mean_square() / (1.0 - spent).clamp(min=0.1)

    def _mean_square(self) -> Tensor:
        """Return the mean squared residual of the searched rows, in units of the curvature."""
        if isinstance(self.loss, SquaredError):
            return self.summed_square / self.searched.total_weight
        return dispersion(self.searched, self.population, self.loss)

    @property
    def summed_square(self) -> Tensor:
        """The sum of squared residuals of the searched rows, in units of the curvature."""
        if isinstance(self.loss, SquaredError):
            return self.moments.squared_residual(coefficients(self.population))
        return self._mean_square() * self.searched.total_weight

    def alpha_on(self, rows: HeldRows) -> Tensor:
        """Return the ridge penalty for some of the training rows, by their share of the weight."""
        return self.alpha * rows.total_weight / self.rows.total_weight

    @property
    def objective(self) -> Tensor:
        """The penalised summed loss of the training rows."""
        ridge = self.curvature.ridge
        if not isinstance(self.loss, SquaredError):
            return objective(self.rows, self.population, self.loss, ridge)
        beta = coefficients(self.population)
        penalised = (ridge[..., None] * beta.square()).sum(dim=(1, 2))
        return 0.5 * (self.moments.squared_residual(beta) + penalised)

    # -- changes -------------------------------------------------------------------------------

    def rehead(self, population: Population, curvature: Curvature | None = None) -> None:
        """Take over a population that differs in its heads only."""
        self.population = population
        self._curvature = curvature
        if curvature is not None:
            self._summary(self.searched).keep(curvature)

    def repenalise(self, alpha: Tensor) -> None:
        """Take over other penalties."""
        self.alpha = alpha
        self._curvature = None
        for summary in self._summaries.values():
            summary.factor = None

    def rescale(self) -> None:
        """Fit the scale of the loss, where it has one, to the residuals of some searched rows."""
        if not self.loss.is_adaptive:
            return
        rows = self.searched
        some = slice(None, None, max(1, rows.n_rows // SCALE_ROWS))
        output = self.population.output(rows.columns[..., some])
        parts = (rows.target[..., some], rows.weight[..., some])
        self._take_loss(self.loss.at_scale(output, *parts))
        self._curvature = self._noise = None

    def _take_loss(self, loss: Loss) -> None:
        self.loss = loss
        for summary in self._summaries.values():
            summary.loss = loss

    def revalue(self, population: Population) -> None:
        """Take over a population whose constants, or everything, differ."""
        self.population = population
        self._forget()
        self._quantiles = self._quantiles[:, :0]

    def take_back(
        self, members: Tensor, population: Population, moments: Moments, curvature: Curvature
    ) -> None:
        """Make some members again what they were before their constants changed.

        Parameters
        ----------
        members : Tensor of shape (n_members,), bool
        population, moments, curvature
            From before the change.
        """
        moments = choose(members, moments, self.moments)
        curvature = choose(members, curvature, self.curvature)
        self.population = choose(members, population, self.population)
        self._rows.store.assign(self.population, members.numpy(force=True))
        self._forget()
        self._summary(self.searched).replace(moments, curvature)
        self._curvature = curvature

    def _forget(self) -> None:
        self._curvature = None
        for summary in self._summaries.values():
            summary.forget()

    def _holding(self) -> list[MemoryRows]:
        """Return the stores that hold the columns of the population at present."""
        sources = [self._rows, self._sketch, self._validation]
        stores = dict.fromkeys(rows.store for rows in sources if rows is not None)
        return [store for store in stores if store.holds(self.population)]

    def grow(self, nodes: Nodes, products: Products | None = None) -> None:
        """Add nodes to the population.

        Parameters
        ----------
        nodes : Nodes
        products : Products, default=None
            Of their columns on the searched rows, if they are known.
        """
        holding = self._holding()
        self.population = self.population.grow(nodes)
        for store in holding:
            store.grow(self.population, nodes)
        self._curvature, searched = None, self.searched
        for rows, summary in self._summaries.items():
            if summary.known:
                self._held(rows)
                known = products if rows is searched else None
                summary.extend(self.alpha_on(rows), known)
        if self.trainer is not None:
            self.trainer.grow(self.population.network(0))

    def remove(self, gone: NDArray[np.bool_]) -> None:
        """Remove nodes from the population.

        Parameters
        ----------
        gone : ndarray of shape (n_members, n_slots), bool
        """
        wiring, holding = self.population.wiring, self._holding()
        if self.trainer is not None:
            kept = torch.as_tensor(np.flatnonzero(~gone[0, wiring.present[0]]))
        self.population = self.population.without(gone)
        emptied = torch.as_tensor(gone, device=self.alpha.device)
        for store in holding:
            store.without(self.population, gone)
        columns = torch.cat([emptied.new_zeros(len(gone), wiring.n_inputs), emptied], dim=1)
        self._curvature = None
        for summary in self._summaries.values():
            summary.without(columns)
        self._compact()
        if self.trainer is not None:
            self.trainer.prune(self.population.network(0), kept)

    def _compact(self) -> None:
        """Give up empty slots, once there are many."""
        n_nodes, n_slots = self.population.wiring.n_nodes.max(), self.population.scale.shape[1]
        if n_slots <= _SPARE_SLOTS * n_nodes + 1:
            return
        holding, quantiles = self._holding(), self.quantiles
        self.population, slots = self.population.compact()
        kept = torch.as_tensor(slots, device=self.alpha.device)
        for store in holding:
            store.compact(self.population, kept)
        n_inputs = self.population.wiring.n_inputs
        inputs = torch.arange(n_inputs, device=kept.device).expand(len(kept), -1)
        columns = torch.cat([inputs, torch.where(kept < 0, -1, n_inputs + kept)], dim=1)
        for summary in self._summaries.values():
            summary.compact(columns)
        at = columns.clamp(min=0)[..., None].expand(-1, -1, N_QUANTILES)
        self._quantiles = quantiles.gather(1, at)

    # -- going on ------------------------------------------------------------------------------

    @property
    def state(self) -> GrowerState:
        """What it takes to go on from here."""
        curvature = self.curvature
        return GrowerState(
            self.population,
            [summary.state for summary in self._summaries.values()],
            curvature,
            self.loss,
            self.alpha,
            self.noise,
            self.loss_value,
            self.age,
            [generator.get_state() for generator in self.generators],
            None if self.trainer is None else deepcopy(self.trainer.optimizer.state_dict()),
        )

    def resume(self, state: GrowerState) -> None:
        """Go on where another grower stopped; this one has to start from its population.

        On the same rows the statistics are taken over, so that nothing tells the two apart; on
        other rows they are computed anew.
        """
        for generator, its_state in zip(self.generators, state.generators, strict=True):
            # It may have travelled with what is on another device.
            generator.set_state(its_state.cpu())
        if self.trainer is not None and state.optimizer is not None:
            self.trainer.optimizer.load_state_dict(deepcopy(state.optimizer))
        moments = self.moments
        self.alpha, self.age = state.alpha, state.age
        summaries = dict(zip(self._summaries, state.summaries, strict=True))
        before = summaries[self.searched].moments
        assert before is not None
        rounding = 1e-9 if self.searched.columns.dtype == torch.float64 else ROUNDING
        if moments.equal(before, rounding):
            for rows, summary in self._summaries.items():
                summary.state = summaries[rows]
            self._curvature = state.curvature
            self._noise, self.loss_value = state.noise, state.loss_value
            self._take_loss(self.loss.at_scale_of(state.loss))
        else:
            self.rescale()
            self.measure()


def _first_alpha(loss: Loss, settings: Settings) -> float:
    """Return the ridge penalty to start with."""
    if settings.alpha is not None:
        return settings.alpha
    if settings.solver == "adam":
        return 0.0
    return _ALPHA_LIKELIHOOD if loss.known_scale else _ALPHA
