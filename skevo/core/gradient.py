"""The ``adam`` solver: mini-batches over head and constants, with any torch loss."""

from __future__ import annotations

import torch
from torch import Tensor

from .layer import EvolvingLayer
from .losses import Loss
from .network import Network
from .rows import HeldRows

__all__ = ["GradientTrainer", "resize_state"]


class GradientTrainer:
    """Trains a network whose topology changes between epochs.

    Parameters
    ----------
    network : Network
        To start from.
    learning_rate : float
    batch_size : int
    """

    def __init__(self, network: Network, learning_rate: float, batch_size: int) -> None:
        self.layer = EvolvingLayer.from_network(network)
        self.batch_size = batch_size
        self.optimizer = torch.optim.Adam(self.layer.parameters(), lr=learning_rate)

    def grow(self, network: Network) -> None:
        """Follow the network, which got nodes."""
        self._follow(network, torch.arange(self.layer.n_nodes))

    def prune(self, network: Network, kept: Tensor) -> None:
        """Follow the network, of which nodes ``kept`` remain."""
        self._follow(network, kept)

    def epoch(
        self, rows: HeldRows, loss: Loss, alpha: float, generator: torch.Generator
    ) -> Network:
        """Train on all rows once, in random order, and return the network.

        Parameters
        ----------
        rows : HeldRows
            Of one member.
        loss : Loss
        alpha : float
            Ridge penalty, in units of the summed loss.
        generator : torch.Generator
            On the CPU.
        """
        layer, n_inputs = self.layer, self.layer.in_features
        inputs, target, weights = rows.columns[0, :n_inputs], rows.target[0], rows.weight[0]
        total_weight = float(rows.total_weight)
        order = torch.randperm(rows.n_rows, generator=generator).to(inputs.device)
        decay = 0.5 * alpha / total_weight
        with torch.enable_grad():
            for batch in order.split(self.batch_size):
                output = layer(inputs[:, batch].T).T
                weight = weights[batch]
                value = (loss.value(output, target[:, batch]) * weight).sum()
                # By the mean weight, not the batch's own: batches count by what weighs in them.
                value = value * (rows.n_rows / (len(batch) * total_weight))
                value = value + decay * layer.weight.square().sum()
                self.optimizer.zero_grad()
                value.backward()
                self.optimizer.step()
        return layer.network

    def _follow(self, network: Network, kept: Tensor) -> None:
        """Take over a network; slots of ``kept`` nodes keep their state, new ones get zeros."""
        layer = self.layer
        columns = torch.cat([torch.arange(layer.in_features), layer.in_features + kept])
        layer._assign(network)
        resize_state(self.optimizer, layer.constants, kept)
        resize_state(self.optimizer, layer.weight, columns)


def resize_state(optimizer: torch.optim.Optimizer, parameter: Tensor, kept: Tensor) -> None:
    """Fit an optimizer's state to a parameter whose last dimension was cut and lengthened.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    parameter : Parameter of shape (..., n)
        In its new shape: the kept slots first, then the new ones.
    kept : Tensor of shape (n_kept,), int64
        Old positions of the kept slots.
    """
    for name, value in optimizer.state.get(parameter, {}).items():
        # Moments have the parameter's shape; step counters are scalars.
        if isinstance(value, Tensor) and value.ndim == parameter.ndim and value.ndim:
            resized = torch.zeros_like(parameter, dtype=value.dtype)
            resized[..., : len(kept)] = value[..., kept.to(value.device)]
            optimizer.state[parameter][name] = resized
