"""State: what it takes to go on where a grower stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .curvature import Curvature
from .losses import Loss
from .population import Population
from .summary import SummaryState

__all__ = ["GrowerState"]


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
