"""Pruning: which leaves go.

Two scores of a leaf. The source text's: the standard deviation of its weighted contribution to the
output on a benchmark set. And the rise of the head's objective if it were removed and the head
solved again, which the inverse of the curvature gives for every column at no extra cost, as in
"Optimal Brain Surgeon" [1]_.

References
----------
.. [1] B. Hassibi and D. G. Stork, "Second order derivatives for network pruning: Optimal Brain
   Surgeon", Advances in Neural Information Processing Systems 5, 1992.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .heads import coefficients
from .population import Population
from .topology import CONSTANT, Index

__all__ = ["Elimination", "contribution_std", "eliminate", "weakest_leaf"]


def contribution_std(weight: Tensor, deviation: Tensor) -> Tensor:
    r"""Return the standard deviation of each column's weighted contribution.

    .. math:: s_k = \lVert W_{\cdot k} \rVert_2 \, \mathrm{std}(c_k)

    The norm over outputs, not the sum: weights of opposite sign do not cancel.

    Parameters
    ----------
    weight : Tensor of shape (n_outputs, n)
    deviation : Tensor of shape (n,)
        Standard deviations of the columns.

    Returns
    -------
    Tensor of shape (n,)
    """
    return torch.linalg.vector_norm(weight, dim=0) * deviation


def weakest_leaf(scores: Tensor, leaves: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where the leaf with the lowest score is; nowhere where there is none.

    Parameters
    ----------
    scores : Tensor of shape (n_members, n_slots)
    leaves : ndarray of shape (n_members, n_slots)

    Returns
    -------
    ndarray of shape (n_members, n_slots)
    """
    found = np.zeros_like(leaves)
    some = np.flatnonzero(leaves.any(axis=1))
    if len(some):
        lowest = np.where(leaves, scores.numpy(force=True), np.inf)[some].argmin(axis=1)
        found[some, lowest] = True
    return found


@dataclass(frozen=True)
class Elimination:
    """Leaves that go, and the heads without them.

    Attributes
    ----------
    gone : ndarray of shape (n_members, n_slots), bool
    coefficients : Tensor of shape (n_members, n_columns + 1, n_outputs)
        ``[b, W]'`` of the present columns; zero for the removed ones.
    """

    gone: NDArray[np.bool_]
    coefficients: Tensor


def eliminate(
    population: Population, inverse: Tensor, threshold: Tensor, n_forced: Index
) -> Elimination:
    r"""Remove leaves one after another, each time the one that costs least.

    Removing column ``k`` raises the objective by
    :math:`\lVert W_{\cdot k} \rVert^2 / (2 (M^{-1})_{kk})`; the other weights move to their new
    optimum in closed form. Nodes that lose their last reader become leaves in turn.

    Parameters
    ----------
    population : Population
        With the heads at their optimum.
    inverse : Tensor of shape (n_members, n_columns + 1, n_columns + 1)
        Inverse of the curvature.
    threshold : Tensor of shape (n_members,)
        Leaves go as long as the objective rises by less.
    n_forced : ndarray of shape (n_members,)
        So many leaves of each member go at any cost.

    Returns
    -------
    Elimination
    """
    wiring = population.wiring
    n_members, n_inputs = len(population), wiring.n_inputs
    use, alive = wiring.use.copy(), wiring.present.copy()
    beta = coefficients(population)
    gone = np.zeros_like(alive)
    if not alive.any():
        return Elimination(gone, beta)
    at = torch.arange(n_members, device=beta.device)
    while True:
        leaves = alive & (use[:, n_inputs:] == 0)
        square = beta[:, 1 + n_inputs :].square().sum(dim=2)
        pivots = inverse.diagonal(dim1=1, dim2=2)[:, 1 + n_inputs :]
        rise = 0.5 * square / pivots.clamp(min=1e-300)
        rise = torch.where(torch.as_tensor(leaves, device=beta.device), rise, torch.inf)
        least, cheapest = (part.numpy(force=True) for part in rise.min(dim=1))
        go = leaves.any(axis=1) & (
            (gone.sum(axis=1) < n_forced) | (least < threshold.numpy(force=True))
        )
        if not go.any():
            return Elimination(gone, beta)
        k = torch.as_tensor(1 + n_inputs + cheapest, device=beta.device)
        column = inverse[at, :, k]
        # Where nothing goes, nothing changes.
        pivot = torch.where(
            torch.as_tensor(go, device=beta.device), column[at, k].clamp(min=1e-300), torch.inf
        )
        beta = beta - column[..., None] * (beta[at, k] / pivot[:, None])[:, None]
        inverse = inverse - column[..., None] * (column / pivot[:, None])[:, None]
        going = at[torch.as_tensor(go, device=beta.device)]
        k = k[going]
        # Exactly zero, and out of the reach of later eliminations.
        beta[going, k] = 0.0
        inverse[going, k] = 0.0
        inverse[going, :, k] = 0.0
        member, node = np.flatnonzero(go), cheapest[go]
        alive[member, node], gone[member, node] = False, True
        for operand in (wiring.left[member, node], wiring.right[member, node]):
            read = operand != CONSTANT
            use[member[read], operand[read]] -= 1
