"""Proposals: random nodes that could join a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .network import Nodes
from .population import EMPTY, Population, Wiring
from .topology import CONSTANT, Index

__all__ = ["propose", "propose_blindly"]

# Share of operands that are drawn by use; each use of a column as an operand makes it this much
# more likely to be drawn again.
_GUIDED_SHARE = 0.8
_GUIDED_WEIGHT = 2.0
# Every so-manieth candidate reads a pair of inputs that act together, where some do.
_PAIRED_EVERY = 4
# The fractional parts of its multiples fill the unit interval evenly.
_GOLDEN = 0.6180339887498949


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
    population: Population,
    n_candidates: int,
    quantiles: Tensor,
    generators: Sequence[torch.Generator],
    generation: int,
    pairs: NDArray[np.float64] | None = None,
) -> Nodes:
    """Draw a pool of distinct candidates for each member.

    Operators have equal shares; of the candidates of one that may have a constant, every third has
    it. What is left over turns with the generation. So the pools of all members are alike but for
    the operands. Most operands are drawn by use, with probability proportional to 1 + 2 x times the
    column is an operand already, the others uniformly; where pairs of inputs act together, every
    fourth candidate reads one of those, or one of its inputs and a constant. A constant is drawn
    from the other operand's quantiles. What a column is divided by is not zero in one of them:
    otherwise the two change places, or the place is empty if neither will do.

    Parameters
    ----------
    population : Population
    n_candidates : int
        Draws of each member; fewer remain, without those drawn twice and those that exist already.
    quantiles : Tensor of shape (n_members, n_columns, n_quantiles)
        See `skevo.core.quantiles`.
    generators : sequence of torch.Generator
        One for each member, on the CPU; its draws depend on nothing else than it and its wiring.
    generation : int
    pairs : ndarray of shape (n_members, n_inputs, n_inputs), default=None
        Shares of the pairs of inputs, see `skevo.core.pairs`; zero for those that do not matter.

    Returns
    -------
    Nodes
        With scale 1, those of one operator side by side; places of repeated ones are empty, too.
    """
    wiring, operators = population.wiring, population.operators
    draws = np.stack(
        [
            torch.rand(5, n_candidates, generator=generator, dtype=torch.float64).numpy()
            for generator in generators
        ],
        axis=1,
    )
    # Systematic sampling, from a start that fills the unit interval evenly over generations.
    start = generation * _GOLDEN % 1.0
    position = np.arange(n_candidates)
    operator = ((position + start) * len(operators) / n_candidates).astype(np.int64)
    constant = (position + generation) % 3 == 0
    # Candidates that are computed in one call stand together.
    order = np.lexsort((constant, operator))
    operator = np.broadcast_to(operator[order], draws.shape[1:])
    left = _draw_operands(wiring, draws[0], draws[1])
    right = _draw_operands(wiring, draws[2], draws[3])
    if pairs is not None and pairs.any():
        some = np.any(pairs, axis=(1, 2), keepdims=True)[:, 0]
        together = some & ((position[order] + generation) % _PAIRED_EVERY == 0)
        first, second = _draw_pairs(pairs, draws[1])
        left, right = np.where(together, first, left), np.where(together, second, right)

    commutative = np.array([item.commutative for item in operators])[operator]
    swap = commutative & (left > right)
    left, right = np.where(swap, right, left), np.where(swap, left, right)

    member = np.arange(len(generators))[:, None]
    table = quantiles.numpy(force=True)
    divides = np.array([item.divides for item in operators])[operator]
    has_zeros = (table == 0).any(axis=2)
    swapped = divides & has_zeros[member, right]
    left, right = np.where(swapped, right, left), np.where(swapped, left, right)
    possible = ~(divides & has_zeros[member, right])

    side = np.array([item.constant for item in operators])[operator]
    constant = constant[order] & (side != "none")
    # A commutative operator's column may be either of the two drawn: keep both equally likely. What
    # divides is on the right.
    column = np.where(swap | divides, right, left)
    place = (draws[4] * quantiles.shape[2]).astype(np.int64)
    location = np.array([item.location for item in operators])[operator]
    value = location * table[member, column, place]
    left = np.where(constant, np.where(side == "left", CONSTANT, column), left)
    right = np.where(constant, np.where(side == "left", column, CONSTANT), right)
    # As a numerator a constant only scales its node, which the head does as well.
    value = np.where(constant, np.where(side == "left", 1.0, value), 0.0)

    possible &= _distinct(wiring, operator, left, right, value)
    operator = np.where(possible, operator, EMPTY)
    weight = population.weight
    return Nodes(
        operator,
        left,
        right,
        torch.as_tensor(value, dtype=weight.dtype, device=weight.device),
        weight.new_ones(operator.shape),
    )


def _draw_operands(wiring: Wiring, which: NDArray[np.float64], where: NDArray[np.float64]) -> Index:
    """Draw columns: by use where ``which`` says so, uniformly elsewhere."""
    present = wiring.columns
    guided, uniform = (
        _draw(shares, where) for shares in (present * (1.0 + _GUIDED_WEIGHT * wiring.use), present)
    )
    return np.where(which < _GUIDED_SHARE, guided, uniform)


def _draw_pairs(pairs: NDArray[np.float64], where: NDArray[np.float64]) -> tuple[Index, Index]:
    """Draw pairs of inputs by their shares; any where a member has none."""
    n_members, n_inputs, _ = pairs.shape
    shares = pairs.reshape(n_members, -1)
    shares = np.where(shares.any(axis=1, keepdims=True), shares, 1.0)
    first, second = np.divmod(_draw(shares, where), n_inputs)
    return first, second


def _draw(shares: NDArray[Any], where: NDArray[np.float64]) -> Index:
    """Return where numbers in [0, 1) fall among each member's shares, of shape (n_members, n)."""
    n_members, n_columns = shares.shape
    cumulative = np.cumsum(shares, axis=1, dtype=np.float64)
    cumulative /= cumulative[:, -1:]
    member = np.arange(n_members)[:, None]
    # One search for all members, one behind the other.
    found = np.searchsorted((cumulative + member).ravel(), (where + member).ravel(), side="right")
    # Rounding may reach the end of a member's shares, never an empty slot within them.
    last = n_columns - 1 - np.argmax(shares[:, ::-1] > 0, axis=1)[:, None]
    return np.minimum(found.reshape(where.shape) - n_columns * member, last)


def _distinct(
    wiring: Wiring, operator: Index, left: Index, right: Index, value: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return which candidates are neither repeated nor present as nodes already."""
    member = np.arange(len(operator))[:, None]
    n_operators = 1 + max(part.max(initial=0) for part in (operator, wiring.operator))
    base = wiring.n_columns + 1

    def keys(operator: Index, left: Index, right: Index) -> Index:
        key = (member * n_operators + operator) * base + left + 1
        return key * base + right + 1

    key = keys(operator, left, right)
    present = keys(wiring.operator, wiring.left, wiring.right)[wiring.present]
    order = np.lexsort((value.ravel(), key.ravel()))
    repeated = np.diff(key.ravel()[order]) == 0
    repeated &= np.diff(value.ravel()[order]) == 0
    distinct = np.empty(key.size, dtype=bool)
    distinct[order] = np.append(True, ~repeated)
    plain = (left != CONSTANT) & (right != CONSTANT)
    return distinct.reshape(key.shape) & ~(plain & np.isin(key, present))
