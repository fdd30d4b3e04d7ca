"""The grower: a network that is being grown, with its rows and statistics.

`Network` is frozen; this is the mutable bookkeeping around it. The three steps of the method, in
`skevo.core.evolution`, read and change it through the methods here, which keep columns, statistics
and optimizer in step with the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .gradient import GradientTrainer
from .heads import (
    Curvature,
    coefficients,
    mean_loss,
    mean_square_residual,
    objective,
    quadratic_model,
)
from .losses import Loss, SquaredError
from .moments import Moments, extend_moments, measure_moments
from .network import Network, Nodes
from .proposals import N_QUANTILES, quantile_table
from .rows import MemoryRows
from .topology import Index

__all__ = ["Grower", "GrowerState", "Settings"]

# The penalty that is not given: for squared error, where the choice by cross-validation begins.
_ALPHA = 3.0
_ALPHA_LIKELIHOOD = 0.3
# Quantiles are those of at least so many rows, if there are as many.
_QUANTILE_ROWS = 512


@dataclass(frozen=True)
class Settings:
    """How a network is grown.

    Attributes
    ----------
    solver : {"exact", "adam"}
    n_candidates : int
        Size of the pool that is screened per generation; 1 is blind mutation.
    max_nodes : int
    alpha : float or None
        Ridge penalty on standardised columns, in units of the summed loss. None has it chosen by
        generalised cross-validation for squared error, and is 0.3 for log-likelihoods; with the
        ``adam`` solver it is 0.
    pruning : {"loss", "std"}
    n_new : int
        At most so many nodes are grown per generation; up to twice as many whose gain is
        certain.
    n_short : int
        Candidates whose score is recomputed on all rows.
    grow_above, prune_below : float
        A node is grown if it lowers the objective by more, and pruned if it lowers it by less, than
        so many units of the noise; see `Grower.noise`.
    refine_every : int
        Generations from one refinement of constants and penalty to the next.
    learning_rate : float
    batch_size : int
        Of the ``adam`` solver.
    """

    solver: Literal["exact", "adam"] = "exact"
    n_candidates: int = 500
    max_nodes: int = 200
    alpha: float | None = None
    pruning: Literal["loss", "std"] = "loss"
    n_new: int = 3
    n_short: int = 24
    grow_above: float = 4.0
    prune_below: float = 2.0
    refine_every: int = 5
    learning_rate: float = 0.01
    batch_size: int = 256


@dataclass(frozen=True)
class GrowerState:
    """What a grower needs, beside rows and settings, to go on where another one stopped.

    Attributes
    ----------
    network : Network
        Of the last generation, not of the best.
    moments : Moments
        Of the searched rows, as they were put together.
    curvature : Curvature
    alpha, noise, loss_value : float
    age : int
    settled : bool
        Whether training left the network as it was.
    generator : Tensor
        State of the random generator.
    optimizer : dict or None
        State of the ``adam`` solver's optimizer.
    """

    network: Network
    moments: Moments
    curvature: Curvature
    alpha: float
    noise: float
    loss_value: float
    age: int
    settled: bool
    generator: Tensor
    optimizer: dict[str, Any] | None


class Grower:
    """A network that is being grown on rows.

    Parameters
    ----------
    network : Network
        To start from.
    rows : MemoryRows
        Training rows.
    sketch : MemoryRows
        Some of them, on which candidates are screened; may be ``rows`` itself.
    validation : MemoryRows or None
        Rows that are held out.
    loss : Loss
    settings : Settings
    generator : torch.Generator
        On the CPU; the only source of randomness.

    Attributes
    ----------
    network : Network
    alpha : float
        The ridge penalty as it stands.
    age : int
        Generations that were trained.
    loss_value : float
        Mean loss on the searched rows after the last training.
    settled : Network or None
        The last network that training left as it was.
    trainer : GradientTrainer or None
        What holds the optimizer of the ``adam`` solver.
    """

    def __init__(
        self,
        network: Network,
        rows: MemoryRows,
        sketch: MemoryRows,
        validation: MemoryRows | None,
        loss: Loss,
        settings: Settings,
        generator: torch.Generator,
    ) -> None:
        self.network = network
        self.loss = loss
        self.settings = settings
        self.generator = generator
        self.age = 0
        self.alpha = _first_alpha(loss, settings)
        self.trainer = (
            GradientTrainer(network, settings.learning_rate, settings.batch_size)
            if settings.solver == "adam"
            else None
        )
        self._rows, self._sketch, self._validation = rows, sketch, validation
        self._moments: dict[MemoryRows, Moments] = {}
        self._curvature: Curvature | None = None
        self._quantiles = sketch.weight.new_empty(0, N_QUANTILES)
        self.loss_value = float("nan")
        self.settled: Network | None = None
        self._noise: float | None = None

    # -- rows ----------------------------------------------------------------------------------

    @property
    def rows(self) -> MemoryRows:
        """Training rows; they hold the columns of the network where the exact solver needs them."""
        return self._rows if self.trainer is not None else self._held(self._rows)

    @property
    def sketch(self) -> MemoryRows:
        """Rows that candidates are screened on, with the columns of the network."""
        return self._held(self._sketch)

    @property
    def searched(self) -> MemoryRows:
        """Rows that pruning and evolving look at, with the columns of the network.

        All training rows with the exact solver, the sketch with the other one, which never sees
        all rows at once.
        """
        return self.rows if self.trainer is None else self.sketch

    @property
    def validation(self) -> MemoryRows | None:
        """Rows that are held out, with the columns of the network."""
        return None if self._validation is None else self._held(self._validation)

    def _held(self, rows: MemoryRows) -> MemoryRows:
        """Return rows once they hold the columns of the network."""
        rows.assign(self.network)
        return rows

    # -- statistics ----------------------------------------------------------------------------

    @property
    def moments(self) -> Moments:
        """Moments of the searched rows."""
        return self.moments_of(self.searched)

    @property
    def curvature(self) -> Curvature:
        """Quadratic model of the objective at the present head, on the searched rows."""
        if self._curvature is None:
            self._curvature = quadratic_model(
                self.searched, self.network, self.loss, self.alpha_on(self.searched), self.moments
            )
        return self._curvature

    def moments_of(self, rows: MemoryRows) -> Moments:
        """Return the moments of the training rows or of those that are searched."""
        if rows not in self._moments:
            self._moments[rows] = measure_moments(rows)
        return self._moments[rows]

    @property
    def quantiles(self) -> Tensor:
        """Quantiles of the columns on the sketch, of shape (n_columns, n_quantiles)."""
        n_known = len(self._quantiles)
        if n_known < self.network.topology.n_columns:
            some = slice(None)
            if self.sketch is not self.rows:
                some = slice(None, None, max(1, self.sketch.n_rows // _QUANTILE_ROWS))
            new = quantile_table(self.sketch.columns[n_known:, some], self.sketch.weight[some])
            self._quantiles = torch.cat([self._quantiles, new])
        return self._quantiles

    def measure(self) -> None:
        """Update ``loss_value``, and with it ``noise``, for the network as it has been trained."""
        if isinstance(self.loss, SquaredError):
            self.loss_value = 0.5 * self._mean_square()
        else:
            self.loss_value = mean_loss(self.searched, self.network, self.loss)
        self._noise = None

    @property
    def noise(self) -> float:
        """What a column of pure noise lowers the objective by, on average.

        Half the variance of the residual, summed over outputs, or 1/2 for log-likelihoods.
        """
        if self._noise is None:
            self._noise = 0.5
            if not self.loss.known_scale:
                self._noise *= self._mean_square()
                # What has been fitted away of the noise.
                spent = self.curvature.degrees / self.searched.total_weight
                self._noise /= max(1.0 - spent, 0.1)
        return self._noise

    def _mean_square(self) -> float:
        """Return the mean squared residual of the searched rows, summed over outputs."""
        if isinstance(self.loss, SquaredError):
            summed = self.moments.squared_residual(coefficients(self.network))
            return summed / self.searched.total_weight
        return mean_square_residual(self.searched, self.network, self.loss)

    def alpha_on(self, rows: MemoryRows) -> float:
        """Return the ridge penalty for some of the training rows, by their share of the weight."""
        return self.alpha * rows.total_weight / self.rows.total_weight

    @property
    def state(self) -> GrowerState:
        """What it takes to go on from here."""
        return GrowerState(
            self.network,
            self.moments,
            self.curvature,
            self.alpha,
            self.noise,
            self.loss_value,
            self.age,
            self.network is self.settled,
            self.generator.get_state(),
            None if self.trainer is None else deepcopy(self.trainer.optimizer.state_dict()),
        )

    @property
    def objective(self) -> float:
        """The penalised summed loss of the training rows."""
        ridge = self.curvature.ridge
        if not isinstance(self.loss, SquaredError):
            return objective(self.rows, self.network, self.loss, ridge)
        beta = coefficients(self.network)
        penalised = float((ridge[:, None] * beta.square()).sum())
        return 0.5 * (self.moments.squared_residual(beta) + penalised)

    # -- changes -------------------------------------------------------------------------------

    def rehead(self, network: Network, curvature: Curvature | None = None) -> None:
        """Take over a network that differs in its head only."""
        self.network = network
        self._curvature = curvature

    def revalue(
        self,
        network: Network,
        moments: Moments | None = None,
        curvature: Curvature | None = None,
    ) -> None:
        """Take over a network whose constants, or everything, differ.

        Columns and statistics that are not given are computed anew when they are asked for.
        """
        self.network = network
        self._moments = {} if moments is None else {self.searched: moments}
        self._curvature = curvature
        self._quantiles = self._quantiles[:0]

    def resume(self, state: GrowerState) -> None:
        """Go on where another grower stopped; this one has to start from that one's network.

        On the same rows the statistics are taken over, so that nothing tells the two apart; on
        other rows they are computed anew.
        """
        self.alpha, self.age = state.alpha, state.age
        self.settled = self.network if state.settled else None
        self.generator.set_state(state.generator)
        if self.trainer is not None and state.optimizer is not None:
            self.trainer.optimizer.load_state_dict(deepcopy(state.optimizer))
        gram = self.moments.gram
        if torch.allclose(gram, state.moments.gram.to(gram), rtol=1e-9, atol=0.0):
            self._moments[self.searched], self._curvature = state.moments, state.curvature
            self._noise, self.loss_value = state.noise, state.loss_value
        else:
            self.measure()

    def _holding(self) -> list[MemoryRows]:
        """Return the sources that hold the columns of the network at present."""
        sources = dict.fromkeys([self._rows, self._sketch, self._validation])
        return [rows for rows in sources if rows is not None and rows.holds(self.network)]

    def grow(self, nodes: Nodes) -> None:
        """Add nodes to the network."""
        holding = self._holding()
        self.network = grown = self.network.grow(nodes)
        for source in holding:
            source.grow(grown, nodes)
        for rows, moments in self._moments.items():
            self._moments[rows] = extend_moments(self._held(rows), moments)
        self._curvature = None
        if self.trainer is not None:
            self.trainer.grow(grown)

    def remove(self, nodes: Sequence[int] | Index) -> None:
        """Remove nodes from the network."""
        n_nodes, n_inputs = self.network.n_nodes, self.network.topology.n_inputs
        kept = np.setdiff1d(np.arange(n_nodes), nodes)
        holding = self._holding()
        self.network = self.network.prune(nodes)
        for source in holding:
            source.prune(self.network, kept)
        columns = np.concatenate([np.arange(n_inputs), n_inputs + kept])
        for rows, moments in self._moments.items():
            self._moments[rows] = moments.take(columns)
        known = columns[columns < len(self._quantiles)]
        self._quantiles = self._quantiles[torch.as_tensor(known, device=self._quantiles.device)]
        self._curvature = None
        if self.trainer is not None:
            self.trainer.prune(self.network, torch.as_tensor(kept))


def _first_alpha(loss: Loss, settings: Settings) -> float:
    """Return the ridge penalty to start with."""
    if settings.alpha is not None:
        return settings.alpha
    if settings.solver == "adam":
        return 0.0
    return _ALPHA_LIKELIHOOD if loss.known_scale else _ALPHA
