"""Proposals: random nodes that could join a network."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .network import Network, Nodes
from .statistics import weighted_quantiles
from .topology import CONSTANT, Index

__all__ = ["propose", "propose_blindly", "quantile_table"]

# Share of operands that are drawn by use; each use of a column as an operand makes it this much
# more likely to be drawn again.
_GUIDED_SHARE = 0.8
_GUIDED_WEIGHT = 2.0
# How many quantiles of a column a constant is drawn from.
N_QUANTILES = 32


def propose_blindly(
    n_columns: int, operators: int, generator: torch.Generator | None
) -> tuple[int, int, int, float]:
    """Draw one random node as the source text does: no column preferred, nothing screened.

    With probability 1/3 the left operand is a constant and the right one a column; otherwise the
    left one is a column, and the right one a constant with probability 1/3.

    Parameters
    ----------
    n_columns : int
        Columns that can be read.
    operators : int
        Number of operators.
    generator : torch.Generator or None
        On the CPU; torch's global one if None.

    Returns
    -------
    operator, left, right : int
    constant : float
        Standard normal.
    """

    def integer(high: int) -> int:
        return int(torch.randint(high, (), generator=generator))

    operator, left, right = integer(operators), integer(n_columns), integer(n_columns)
    if integer(3) == 0:
        left = CONSTANT
    elif integer(3) == 0:
        right = CONSTANT
    return operator, left, right, float(torch.randn((), generator=generator))


def propose(
    network: Network, n_candidates: int, quantiles: Tensor, generator: torch.Generator
) -> Nodes:
    """Draw a pool of distinct candidates.

    Operators are drawn uniformly. Most operands are drawn by use, with probability proportional to
    1 + 2 x times the column is an operand already, the others uniformly; a third of the operands
    that may be constants are. A constant is drawn from the other operand's quantiles.

    Parameters
    ----------
    network : Network
    n_candidates : int
        Draws; the pool is smaller by those drawn twice and those that exist already.
    quantiles : Tensor of shape (n_columns, n_quantiles)
        See `quantile_table`.
    generator : torch.Generator
        On the CPU; the draws depend on nothing else than it and the topology.

    Returns
    -------
    Nodes
        With scale 1, those of one operator side by side.
    """
    topology = network.topology
    n_columns = topology.n_columns
    draws = torch.rand(7, n_candidates, generator=generator, dtype=torch.float64).numpy()
    operator = np.sort((draws[0] * len(network.operators)).astype(np.int64))
    left = _draw_operands(topology.use, draws[1], draws[2])
    right = _draw_operands(topology.use, draws[3], draws[4])

    commutative = np.array([item.commutative for item in network.operators])[operator]
    swap = commutative & (left > right)
    left, right = np.where(swap, right, left), np.where(swap, left, right)

    side = np.array([item.constant for item in network.operators])[operator]
    constant = (draws[5] < 1 / 3) & (side != "none")
    # A commutative operator's column may be either of the two drawn: keep both equally likely.
    column = np.where(swap, right, left)
    place = (draws[6] * quantiles.shape[1]).astype(np.int64)
    location = np.array([item.location for item in network.operators])[operator]
    value = location * quantiles.numpy(force=True)[column, place]
    left = np.where(constant, np.where(side == "left", CONSTANT, column), left)
    right = np.where(constant, np.where(side == "left", column, CONSTANT), right)
    # As a numerator a constant only scales its node, which the head does as well.
    value = np.where(constant, np.where(side == "left", 1.0, value), 0.0)

    distinct = _distinct(n_columns, operator, left, right, value, network)
    # Candidates that are computed in one call stand together.
    kind = 2 * operator[distinct] + constant[distinct]
    distinct = distinct[np.argsort(kind, kind="stable")]
    weight = network.weight
    return Nodes(
        operator[distinct],
        left[distinct],
        right[distinct],
        torch.as_tensor(value[distinct], dtype=weight.dtype, device=weight.device),
        weight.new_ones(len(distinct)),
    )


def _draw_operands(use: Index, which: NDArray[np.float64], where: NDArray[np.float64]) -> Index:
    """Draw columns: by use where ``which`` says so, uniformly elsewhere."""
    cumulative = np.cumsum(1.0 + _GUIDED_WEIGHT * use)
    guided = np.searchsorted(cumulative, where * cumulative[-1], side="right")
    return np.where(which < _GUIDED_SHARE, guided, (where * len(use)).astype(np.int64))


def _distinct(
    n_columns: int,
    operator: Index,
    left: Index,
    right: Index,
    value: NDArray[np.float64],
    network: Network,
) -> Index:
    """Return positions of candidates that are neither repeated nor present as nodes already."""
    topology = network.topology
    base = n_columns + 1
    present = (topology.operator * base + topology.left + 1) * base + topology.right + 1
    key = (operator * base + left + 1) * base + right + 1
    plain = (left != CONSTANT) & (right != CONSTANT)
    order = np.lexsort((value, key))
    repeated = (np.diff(key[order]) == 0) & (np.diff(value[order]) == 0)
    first = np.sort(order[np.append(True, ~repeated)])
    return first[~(plain & np.isin(key, present))[first]]


def quantile_table(columns: Tensor, weight: Tensor) -> Tensor:
    """Return the quantiles of each column that constants are drawn from.

    Parameters
    ----------
    columns : Tensor of shape (n_columns, n_samples)
    weight : Tensor of shape (n_samples,)

    Returns
    -------
    Tensor of shape (n_columns, 32)
        At the midpoints of equal shares of the weight.
    """
    return weighted_quantiles(
        columns, weight, [(k + 0.5) / N_QUANTILES for k in range(N_QUANTILES)]
    )
