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
from torch import Tensor

from .heads import coefficients
from .network import Network
from .topology import Index

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


def weakest_leaf(network: Network, scores: Tensor) -> int | None:
    """Return the leaf with the lowest score; None if there are no nodes.

    Parameters
    ----------
    network : Network
    scores : Tensor of shape (n_nodes,)
    """
    leaves = np.flatnonzero(network.topology.leaves)
    if not len(leaves):
        return None
    return int(leaves[int(scores[torch.as_tensor(leaves, device=scores.device)].argmin())])


@dataclass(frozen=True)
class Elimination:
    """Leaves that go, and the head without them.

    Attributes
    ----------
    nodes : ndarray of shape (n_removed,)
    coefficients : Tensor of shape (n_columns + 1, n_outputs)
        ``[b, W]'`` of the present columns; zero for the removed ones.
    """

    nodes: Index
    coefficients: Tensor


def eliminate(
    network: Network, inverse: Tensor, threshold: float, n_forced: int = 0
) -> Elimination:
    r"""Remove leaves one after another, each time the one that costs least.

    Removing column ``k`` raises the objective by
    :math:`\lVert W_{\cdot k} \rVert^2 / (2 (M^{-1})_{kk})`; the other weights move to their new
    optimum in closed form. Nodes that lose their last reader become leaves in turn.

    Parameters
    ----------
    network : Network
        With the head at its optimum.
    inverse : Tensor of shape (n_columns + 1, n_columns + 1)
        Inverse of the curvature.
    threshold : float
        Leaves go as long as the objective rises by less.
    n_forced : int, default=0
        So many leaves go at any cost.

    Returns
    -------
    Elimination
    """
    topology = network.topology
    first = topology.n_inputs + 1
    use = topology.use[topology.n_inputs :].copy()
    alive = np.ones(topology.n_nodes, dtype=bool)
    beta, inverse = coefficients(network), inverse.clone()
    removed: list[int] = []
    while True:
        leaves = np.flatnonzero(alive & (use == 0))
        if not len(leaves):
            break
        at = torch.as_tensor(first + leaves, device=beta.device)
        rise = 0.5 * beta[at].square().sum(dim=1) / inverse.diagonal()[at].clamp(min=1e-300)
        best = int(rise.argmin())
        if len(removed) >= n_forced and not float(rise[best]) < threshold:
            break
        node = int(leaves[best])
        k = first + node
        pivot = inverse[k, k].clamp(min=1e-300)
        beta -= inverse[:, k, None] * (beta[k] / pivot)
        inverse -= torch.outer(inverse[:, k], inverse[k]) / pivot
        # Exactly zero, and out of the reach of later eliminations.
        beta[k] = 0.0
        inverse[k] = inverse[:, k] = 0.0
        alive[node] = False
        removed.append(node)
        for operand in (topology.left[node], topology.right[node]):
            if operand >= topology.n_inputs:
                use[operand - topology.n_inputs] -= 1
    return Elimination(np.array(sorted(removed), dtype=np.int64), beta)
