"""The grower: a population that is being grown, with its rows and statistics.

`Population` is frozen; this is the mutable bookkeeping around it. The three steps of the method, in
`skevo.core.evolution`, read and change it through the methods here, which keep columns, statistics
and optimizer in step with the population.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .curvature import Curvature
from .gradient import GradientTrainer
from .heads import ROUNDING
from .limited import LimitedSquaredError
from .losses import Loss, SquaredError
from .moments import Moments, Products
from .monotone import Constraints
from .network import Nodes
from .pairs import Pairs
from .population import Population, choose
from .quantiles import Quantiles
from .residuals import Residuals
from .ridge import first_alpha
from .rows import HeldRows, MemoryRows
from .settings import Settings
from .state import GrowerState
from .summary import Summary
from .topology import Index

__all__ = ["SCALE_ROWS", "Grower"]

# Empty slots are given up once there are so many slots per node of the largest member.
_SPARE_SLOTS = 1.15
# Quantiles are those of at least so many rows, if there are as many.
_QUANTILE_ROWS = 128
# The scale of the loss is that of so many rows.
SCALE_ROWS = 1000


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
    names : ndarray of shape (n_members, n_inputs), int64, default=None
        Which columns of the table each member sees as its inputs, in ascending order; all of them
        if None.

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
    constraints : Constraints
        On what outputs must do as an input rises.
    names
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
        names: Index | None = None,
    ) -> None:
        self.population = population
        self.loss = loss
        self.settings = settings
        self.generators = list(generators)
        self.age = 0
        self.alpha = torch.full_like(rows.total_weight, first_alpha(settings))
        self.trainer = (
            GradientTrainer(population.network(0), settings.learning_rate, settings.batch_size)
            if settings.solver == "adam"
            else None
        )
        self.limits = loss.limits(rows.target, rows.weight)
        self.constraints = Constraints(monotonic)
        n_inputs = population.wiring.n_inputs
        every = np.broadcast_to(np.arange(n_inputs), (len(population), n_inputs))
        self.names = every if names is None else names
        self._rows, self._sketch, self._validation = rows, sketch, validation
        # The sketch may be the training rows themselves.
        self._summaries = {source: Summary(source, loss) for source in (rows, sketch)}
        self._curvature: Curvature | None = None
        self._quantiles = Quantiles(sketch.weight)
        self._pairs: Pairs | None = None
        self.loss_value = torch.full_like(self.alpha, torch.nan)
        self._noise: Tensor | None = None

    @property
    def n_members(self) -> int:
        """Members of the group."""
        return len(self.population)

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
        return self.constraints.at_rest(population, model)

    @property
    def factor(self) -> Curvature | None:
        """A factorisation for the present columns and penalty on the searched rows, if known."""
        return self._summary(self.searched).factor

    @property
    def sketch_is_all(self) -> bool:
        """Whether the sketch has the same rows as are searched, be it in single precision."""
        return self._sketch.n_rows == self.searched.n_rows

    def on_sketch(self) -> tuple[HeldRows, Population, Curvature]:
        """Return the sketch, the population in its precision, and the quadratic model there."""
        sketch = self.sketch
        rough = self.population.to(dtype=sketch.columns.dtype)
        if self.sketch_is_all:
            # There is a model already.
            return sketch, rough, self.curvature
        return sketch, rough, self._model(sketch, rough)

    @property
    def quantiles(self) -> Tensor:
        """Quantiles of the columns on the sketch, of shape (n_members, n_columns, n_quantiles)."""
        some, sketch = slice(None), self.sketch
        if sketch is not self.rows:
            some = slice(None, None, max(1, sketch.n_rows // _QUANTILE_ROWS))
        return self._quantiles.of(sketch.columns[..., some], sketch.weight[:, some])

    @property
    def pairs(self) -> Pairs | None:
        """Pairs of inputs on the sketch; None where a pool has a candidate for each of them."""
        inputs = self.population.wiring.inputs
        n_inputs = int(inputs.sum(axis=1).max())
        if n_inputs * (n_inputs + 1) // 2 <= self.settings.n_candidates:
            return None
        if self._pairs is None:
            self._pairs = Pairs(self.sketch, inputs.shape[1])
        return self._pairs

    @property
    def residuals(self) -> Residuals:
        """What the networks leave of the searched rows."""
        moments = self.moments if isinstance(self.loss, SquaredError) else None
        return Residuals(self.searched, self.population, self.loss, moments)

    def measure(self) -> None:
        """Update ``loss_value``, and with it ``noise``, as the population has been trained."""
        self.loss_value, self._noise = self.residuals.mean_loss, None

    @property
    def noise(self) -> Tensor:
        """What a column of pure noise lowers the objective by, on average, for each member."""
        if self._noise is None:
            self._noise = self.residuals.noise(self.curvature)
        return self._noise

    @property
    def apparent_noise(self) -> Tensor:
        """What it lowers the quadratic model by, which may rest on a bound of the curvature."""
        bounded = self.loss.known_scale and self.loss.metric is not None
        return self.residuals.scatter(self.curvature) if bounded else self.noise

    def alpha_on(self, rows: HeldRows) -> Tensor:
        """Return the ridge penalty for some of the training rows, by their share of the weight."""
        return self.alpha * rows.total_weight / self.rows.total_weight

    @property
    def objective(self) -> Tensor:
        """The penalised summed loss of the training rows."""
        return self.residuals.objective(self.curvature.ridge)

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

    @property
    def is_adaptive(self) -> bool:
        """Whether the loss, or what it is told of the rows, follows the outputs; see `adapt`."""
        return self.loss.is_adaptive or isinstance(self.loss, LimitedSquaredError)

    def adapt(self) -> None:
        """Have the scale of the loss, or working targets, follow the outputs of searched rows."""
        self._retarget()
        if self.loss.is_adaptive:
            self._rescale()

    def _retarget(self) -> None:
        """Move limited targets along with the outputs; see `skevo.core.limited`."""
        loss = self.loss
        if not isinstance(loss, LimitedSquaredError):
            return
        for rows in dict.fromkeys((self.searched, self.sketch)):
            output = self.population.to(dtype=rows.columns.dtype).output(rows.columns)
            rows.target = loss.working(output, rows.target)
            self._summaries[rows].retarget()
        self._curvature = self._noise = None

    def _rescale(self) -> None:
        """Fit the scale of the loss to the residuals of some searched rows."""
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
        self._quantiles.forget()

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

    def remove(self, gone: NDArray[np.bool_], inputs: NDArray[np.bool_] | None = None) -> None:
        """Remove nodes from the population, and inputs that no other node reads.

        Parameters
        ----------
        gone : ndarray of shape (n_members, n_slots), bool
        inputs : ndarray of shape (n_members, n_inputs), bool, default=None
            None if all stay.
        """
        wiring, holding = self.population.wiring, self._holding()
        if self.trainer is not None:
            kept = torch.as_tensor(np.flatnonzero(~gone[0, wiring.present[0]]))
        self.population = self.population.without(gone, inputs)
        if inputs is None:
            inputs = np.zeros_like(wiring.inputs)
        else:
            # The noise, too, whether anyone has asked for it before or not.
            self._pairs = self._noise = None
        columns = np.concatenate([inputs, gone], axis=1)
        for store in holding:
            store.without(self.population, columns)
        self._curvature = None
        for summary in self._summaries.values():
            summary.without(torch.as_tensor(columns, device=self.alpha.device))
        self._compact()
        if self.trainer is not None:
            self.trainer.prune(self.population.network(0), kept)

    def _compact(self) -> None:
        """Give up empty slots, once there are many."""
        n_nodes, n_slots = self.population.wiring.n_nodes.max(), self.population.scale.shape[1]
        if n_slots <= _SPARE_SLOTS * n_nodes + 1:
            return
        holding, _ = self._holding(), self.quantiles
        self.population, slots = self.population.compact()
        kept = torch.as_tensor(slots, device=self.alpha.device)
        for store in holding:
            store.compact(self.population, kept)
        n_inputs = self.population.wiring.n_inputs
        inputs = torch.arange(n_inputs, device=kept.device).expand(len(kept), -1)
        columns = torch.cat([inputs, torch.where(kept < 0, -1, n_inputs + kept)], dim=1)
        for summary in self._summaries.values():
            summary.compact(columns)
        self._quantiles.compact(columns)

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
        self._retarget()
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
            self.adapt()
            self.measure()
