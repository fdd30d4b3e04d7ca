"""Settings: how a network is grown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Settings"]


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
        Ridge penalty on standardised columns, in units of the summed loss. None has it chosen, by
        held-out rows for log-likelihoods and by generalised cross-validation otherwise; with the
        ``adam`` solver it is 0.
    n_averaged : int
        How many networks' outputs are averaged: the penalty that is chosen depends on it.
    pruning : {"loss", "std"}
    n_new : int
        At most so many nodes are grown per generation; up to twice as many whose gain is
        certain.
    n_short : int
        Candidates whose score is recomputed on all rows.
    grow_above, prune_below : float
        A node is grown if it lowers the objective by more, and pruned if it lowers it by less, than
        so many units of the noise; see `Residuals.noise`.
    refine_every : int
        Generations from one refinement of the constants to the next, and of a penalty that follows
        held-out rows; another penalty is chosen in each generation. Twice as many generations
        where candidates are screened on some of the rows only.
    learning_rate : float
    batch_size : int
        Of the ``adam`` solver.
    """

    solver: Literal["exact", "adam"] = "exact"
    n_candidates: int = 250
    max_nodes: int = 200
    alpha: float | None = None
    n_averaged: int = 1
    pruning: Literal["loss", "std"] = "loss"
    n_new: int = 3
    n_short: int = 48
    grow_above: float = 4.0
    prune_below: float = 2.0
    refine_every: int = 5
    learning_rate: float = 0.01
    batch_size: int = 256
