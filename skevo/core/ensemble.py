r"""Ensemble: the members as one network, and how their outputs are combined.

The interquartile mean :math:`\bar f` of the members predicts: a member that goes astray where the
training rows were few is not heard there. What all of them miss is then corrected by one more head
on the columns of all members together,

.. math:: \min_{v, a} \sum_i w_i \, \ell(\bar f(x_i) + v' c(x_i) + a, y_i)
          + \frac{\alpha}{2} \sum_j \mathrm{var}(c_j) v_j^2 ,

ridge regression with the members' average, not zero, for its prior mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor

from .blocks import on_device
from .course import Evolution
from .heads import coefficients, fit_head
from .losses import Loss, SquaredError
from .moments import measure_moments
from .monotone import weight_signs
from .network import Network, merge
from .population import Population
from .rows import Block, RowSource, StreamedRows, Sums
from .selection import MOST_INPUTS
from .statistics import midmean, weighted_deviation
from .table import Table

__all__ = ["CORRECTED_ROWS", "MOST_NODES", "Ensemble"]

# What a correction is fitted to: at most so many rows.
CORRECTED_ROWS = 20_000
# It has at most so many nodes, as many as the default number of members can have, and no more than
# there are rows: its cost grows with their square and cube.
MOST_NODES = 1600
# The penalty is at least this over the root of the number of rows: few of them say little about
# what networks miss that were fitted to them.
_LEAST_ALPHA = 15_000.0
# In standard deviations, how far a correction may be from its mean.
_FARTHEST = 4.0
# Rows whose columns are in memory at a time, and the most values.
_BLOCK_ROWS, _BLOCK_VALUES = 4096, 2**22


@dataclass(frozen=True)
class Ensemble:
    """Several networks whose outputs are combined.

    Attributes
    ----------
    network : Network
        Its outputs are those of the first member, of the second, and so on; last, where there is
        one, the correction.
    n_members, n_outputs : int
    limits : (Tensor, Tensor) of shape (n_outputs, 1), or None
        What the correction is clipped to: four of its deviations on the training rows; None where
        there is no correction.
    """

    network: Network
    n_members: int
    n_outputs: int
    limits: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(cls, networks: Sequence[Network]) -> Ensemble:
        """Return the ensemble of networks with the same operators, inputs and outputs."""
        return cls(merge(networks), len(networks), len(networks[0].bias))

    def combine(self, heads: Tensor) -> Tensor:
        """Return the output of the ensemble from that of its network.

        Parameters
        ----------
        heads : Tensor of shape (n_heads, n_samples)

        Returns
        -------
        Tensor of shape (n_outputs, n_samples)
        """
        output = midmean(self.members(heads))
        if self.limits is not None:
            output = output + heads[self.n_members * self.n_outputs :].clamp(*self.limits)
        return output

    def members(self, heads: Tensor) -> Tensor:
        """Return the outputs of the members from that of the network.

        Parameters
        ----------
        heads : Tensor of shape (n_heads, n_samples)

        Returns
        -------
        Tensor of shape (n_members, n_outputs, n_samples)
        """
        shape = self.n_members, self.n_outputs
        return heads[: self.n_members * self.n_outputs].unflatten(0, shape)

    def output(
        self, read: Callable[[slice], Tensor], n_samples: int, size: int | None = None
    ) -> Tensor:
        """Return the output for rows, block by block.

        Parameters
        ----------
        read, n_samples, size
            See `Predictor.blocks`.

        Returns
        -------
        Tensor of shape (n_outputs, n_samples)
        """
        blocks = self.network.predictor.blocks(read, n_samples, size)
        return torch.cat([self.combine(heads) for heads in blocks], dim=1)

    @torch.no_grad()
    def corrected(
        self,
        table: Table,
        loss: Loss,
        members: Sequence[Evolution],
        n_threads: int = 1,
    ) -> Ensemble:
        r"""Return the ensemble with a correction of its members' average.

        The penalty is a power of the ratio of noise to signal for each row,
        :math:`\alpha = n (\sigma^2 / \mathrm{var}(\bar f))^{3/2}`, where :math:`\sigma^2` is the
        error that is expected of the average, or 1 for likelihoods. A power of 1 would say that the
        correction explains as much as the average does; where there is little noise, a smaller
        penalty was seen to be better.

        Parameters
        ----------
        table : Table
            Some rows, in memory.
        loss : Loss
        members : sequence of Evolution
            What the networks come from.
        n_threads : int, default=1
            See `StreamedRows`.

        Returns
        -------
        Ensemble
            Itself, for a loss that is not corrected.
        """
        if not loss.is_corrected:
            return self
        inputs, target, weight = table.inputs, table.target, table.weight
        average = self.output(lambda some: inputs[:, some], len(weight))
        signal = weighted_deviation(average, weight).square()
        loss = loss.at_scale(average, target, weight)
        ratio = _noise(loss, average, target, weight, members) / signal.mean()
        n_rows = weight.sum()
        alpha = n_rows * ratio**1.5 + _LEAST_ALPHA / n_rows.sqrt()
        network, columns = self.network, self._columns(min(len(weight), MOST_NODES))
        if not torch.isfinite(alpha) or not len(columns):
            # Nothing is known of the noise, or there is no signal, or the output is a constant.
            return self
        remaining, beyond = loss.beyond(average, target)
        most = min(_BLOCK_ROWS, _BLOCK_VALUES // network.topology.n_columns)
        most = on_device(most, weight.device)
        # Pairs of blocks of one size: two threads are done at the same time.
        size = math.ceil(len(weight) / (2 * math.ceil(len(weight) / (2 * most))))
        source = _SomeColumns(
            StreamedRows(inputs, beyond, weight, Population.of([network]), size, n_threads),
            columns,
        )
        silent = Network.linear(
            network.operators,
            len(columns),
            self.n_outputs,
            device=weight.device,
            dtype=network.weight.dtype,
        )
        moments = measure_moments(source)
        signs = weight_signs(Population.of([network]), table.monotonic)
        population, _ = fit_head(
            source, Population.of([silent]), remaining, alpha.double()[None], moments,
            directions=None if signs is None else signs[:, columns],
        )  # fmt: skip
        correction = torch.zeros_like(network.weight[: self.n_outputs])
        correction[:, columns] = population.weight[0]
        beta, gram = coefficients(population)[0], moments.gram[0]
        mean = beta.mT @ gram[:, :1] / gram[0, 0]
        square = ((gram @ beta) * beta).sum(dim=0)[:, None] / gram[0, 0]
        far = _FARTHEST * (square - mean.square()).clamp(min=0.0).sqrt()
        return replace(
            self,
            network=replace(
                network,
                weight=torch.cat([network.weight, correction]),
                bias=torch.cat([network.bias, population.bias[0]]),
            ),
            limits=((mean - far).to(network.bias), (mean + far).to(network.bias)),
        )

    def scaled(self, factor: float) -> Ensemble:
        """Return the ensemble whose output is a positive multiple."""
        network, limits = self.network, self.limits
        return replace(
            self,
            network=replace(network, weight=factor * network.weight, bias=factor * network.bias),
            limits=limits and (factor * limits[0], factor * limits[1]),
        )

    def to(self, device: torch.device | str) -> Ensemble:
        """Return the ensemble on another device."""
        limits = self.limits and (self.limits[0].to(device), self.limits[1].to(device))
        return replace(self, network=self.network.to(device), limits=limits)

    def _columns(self, most_nodes: int) -> Tensor:
        """Return the columns of a correction: nodes, and inputs that most of the members weigh.

        Of more nodes than ``most_nodes``, those that weigh most; all have a spread of about 1.
        """
        n_inputs = self.network.topology.n_inputs
        weight = self.network.weight.abs()
        heard = (weight[:, :n_inputs] != 0).sum(dim=0)
        inputs = heard.sort(descending=True, stable=True).indices[:MOST_INPUTS]
        inputs = inputs[heard[inputs] > 0]
        nodes = weight[:, n_inputs:].sum(dim=0).sort(descending=True, stable=True).indices
        chosen = nodes[:most_nodes] + n_inputs
        return torch.cat([inputs.sort().values, chosen.sort().values])


def _noise(
    loss: Loss, average: Tensor, target: Tensor, weight: Tensor, members: Sequence[Evolution]
) -> float:
    """Return the noise of one row, in units of the curvature."""
    if loss.known_scale:
        return 1.0
    if isinstance(loss, SquaredError):
        return fmean(member.expected_loss for member in members)
    return float(loss.residual(average, target).square().mean(dim=0) @ (weight / weight.sum()))


class _SomeColumns:
    """Rows of a source, with some of their columns.

    Parameters
    ----------
    source : RowSource
    columns : Tensor of int64
    """

    def __init__(self, source: RowSource, columns: Tensor) -> None:
        self._source, self._columns = source, columns
        self.total_weight = source.total_weight

    def reduce(self, function: Callable[[Block], Sums]) -> Sums:
        """Return the sum over blocks of each tensor that ``function(block)`` returns."""
        n_columns = len(self._columns)

        def of_some(block: Block) -> Sums:
            columns = block.columns
            if n_columns < columns.shape[1]:
                columns = columns[:, self._columns]
            return function(replace(block, columns=columns))

        return self._source.reduce(of_some)
