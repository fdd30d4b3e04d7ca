r"""Screening: which candidates explain the residual.

A candidate column ``z`` is scored by how far it would lower the head's objective, together with all
present columns re-solved: with the quadratic model at the head,

.. math:: \mathrm{gain}(z) = \frac{\sum_t (g_t - v' M^{-1} G_t)^2}{2 (s - v' M^{-1} v)},

where :math:`g_t = \sum_i w_i z_i r_{it}`, :math:`G` is the gradient at the head, :math:`v` and
:math:`s` are the products of ``z`` with the present columns and with itself in the metric of the
curvature, penalties included. One matrix product scores the whole pool. This is orthogonal least
squares [1]_ on random candidates. Members are screened side by side, each with a pool of its own.

References
----------
.. [1] S. Chen, S. A. Billings and W. Luo, "Orthogonal least squares methods and their application
   to non-linear system identification", International Journal of Control 50, 1989.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .columns import has_many_rows, node_columns
from .curvature import Curvature
from .losses import Loss
from .moments import Products, inner_products, sum_in_parts, times
from .network import Nodes
from .population import EMPTY, Population
from .rows import Block, RowSource
from .topology import Index

__all__ = ["Screened", "pick", "screen"]

# Candidates of which less than this share is new are near-copies of the present columns.
_SMALLEST_NEW_SHARE = 1e-5
# Elements of candidates' columns that are in work at a time.
_CHUNK = 2**20


@dataclass(frozen=True)
class Screened:
    """Candidates with their scores.

    Attributes
    ----------
    nodes : Nodes
        The candidates, their scale set to the standard deviation of the rows screened on.
    gain : Tensor of shape (n_members, n_candidates)
        Fall of the objective; -inf for those that are not finite or constant, and for copies of
        the present columns where no penalty tells them apart.
    cross : Tensor of shape (n_members, n_candidates, n_columns + 1)
        Products with the augmented columns in the metric of the curvature, of scaled candidates.
    inner : Tensor of shape (n_members, n_candidates, n_candidates) or (n_members, n_candidates)
        Products among the scaled candidates, penalty not included; the diagonal only, unless
        ``pairs`` was asked for.
    slope : Tensor of shape (n_members, n_candidates, n_outputs)
        Products with the residual after projection on the present columns.
    ridge : Tensor of shape (n_members,)
        The penalty of one scaled candidate.
    target : Tensor of shape (n_members, n_candidates, n_outputs or 0)
        Products of scaled candidates with the targets, where ``pairs`` was asked for.
    """

    nodes: Nodes
    gain: Tensor
    cross: Tensor
    inner: Tensor
    slope: Tensor
    ridge: Tensor
    target: Tensor

    def products(self, places: Index, metric: float) -> Products:
        """Return the products of some of the candidates, as columns that join the present ones.

        Parameters
        ----------
        places : ndarray of shape (n_members, n)
            Negative where the place is empty.
        metric : float
            The one curvature of the loss that they were screened with.
        """
        at = torch.as_tensor(places.clip(min=0), device=self.cross.device)[..., None]
        there = torch.as_tensor(places >= 0, device=self.cross.device)[..., None]
        present, among, target = (
            part.gather(1, at.expand(-1, -1, part.shape[2])) * there
            for part in (self.cross, self.inner, self.target)
        )
        among = among.gather(2, at.mT.expand(-1, at.shape[1], -1)) * there.mT
        return Products(present / metric, among / metric, target)

    def best(self, n: int) -> Nodes:
        """Return the candidates of the highest gain, of each member, in their order.

        Gains that differ by rounding only are equal, and the first of equal ones is better: so it
        does not matter how the sums were rounded.
        """
        order = self.gain.float().sort(dim=1, descending=True, stable=True).indices[:, :n]
        n_candidates = len(self.nodes)
        order = torch.where(self.gain.gather(1, order) > 0, order, n_candidates)
        places = order.sort(dim=1).values.numpy(force=True)
        places[places == n_candidates] = -1
        return self.nodes.take(places[:, (places >= 0).any(axis=0)])


def screen(
    rows: RowSource,
    population: Population,
    loss: Loss,
    alpha: Tensor,
    curvature: Curvature,
    nodes: Nodes,
    directions: Tensor | None = None,
    *,
    pairs: bool = False,
) -> Screened:
    """Score candidates on rows.

    Parameters
    ----------
    rows : RowSource
        Holding the columns of the population.
    population : Population
        With its heads fitted.
    loss : Loss
    alpha : Tensor of shape (n_members,)
        Ridge penalty on these rows.
    curvature : Curvature
        Of these rows at the heads.
    nodes : Nodes of shape (n_members, n_candidates)
    directions : Tensor of shape (n_members, n_candidates), default=None
        What the candidates' weights must not have the opposite sign of; None constrains nothing.
    pairs : bool, default=False
        Whether to compute products among the candidates, as `pick` needs them.

    Returns
    -------
    Screened
    """
    # Where the curvature is the same everywhere, squares are among the products of pairs.
    constant = loss.metric if pairs else None

    def function(block: Block) -> tuple[Tensor, ...]:
        output = population.output(block.columns)
        weight = block.weight[:, None]
        residual = loss.residual(output, block.target) * weight
        metric = weight * loss.curvature(output)[:, None]
        rows_of = [weight, metric, residual, block.target * weight]
        ends = torch.cat(rows_of if pairs else rows_of[:3], dim=1)
        # Of the two factors of the large product, the smaller one is weighted.
        if pairs or len(nodes) < block.columns.shape[1]:
            return (_of_few(population, nodes, block.columns, ends, metric, pairs, constant),)
        present = torch.cat([ends, times(block.columns, metric)], dim=1)
        parts = []
        for chunk in nodes.split(max(16, _CHUNK // block.weight.numel())):
            z = node_columns(population, chunk, block.columns)
            products = inner_products(z, present).double()
            squares = inner_products(z.square_(), ends[:, :2]).double()
            parts.append(torch.cat([products, squares], dim=2))
        return (torch.cat(parts, dim=1),)

    products = rows.reduce(function)[0]
    n_outputs, n_columns = population.weight.shape[1:]
    sizes = [1, 1, n_outputs, n_outputs * pairs, n_columns, len(nodes) * pairs]
    first, intercept, slope, target, cross, inner, squares = products.tensor_split(
        list(accumulate(sizes)), dim=2
    )
    first, cross = first[..., 0], torch.cat([intercept, cross], dim=2)
    if constant is not None:
        second = inner.diagonal(dim1=1, dim2=2) / constant
    else:
        second, own = squares.unbind(dim=2)
        inner = inner if pairs else own
    total_weight = rows.total_weight[:, None]
    square = second / total_weight
    variance = square - (first / total_weight).square()
    usable = torch.as_tensor(nodes.operator != EMPTY, device=variance.device)
    usable &= torch.isfinite(variance) & (variance > 1e-10 * square) & (variance > 1e-30)
    # Columns that are not usable are zeroed, so that nothing below can be undefined.
    unit = torch.where(usable, variance, torch.inf).rsqrt()
    cross, slope, target = (
        torch.where(usable[..., None], part * unit[..., None], 0.0)
        for part in (cross, slope, target)
    )
    inner = inner * unit[..., None] * unit[:, None] if pairs else inner * unit.square()
    both = usable[..., None] & usable[:, None] if pairs else usable
    inner = torch.where(both, inner, 0.0)
    slope = slope - cross @ curvature.solve(curvature.gradient)
    if directions is not None:
        slope = torch.where(slope * directions[..., None] < 0, 0.0, slope)

    diagonal = inner.diagonal(dim1=1, dim2=2) if pairs else inner
    penalised = diagonal + alpha[:, None]
    remaining = penalised - (cross @ curvature.half.mT).square().sum(dim=2)
    new = usable & (remaining > _SMALLEST_NEW_SHARE * penalised)
    gain = 0.5 * slope.square().sum(dim=2) / torch.where(new, remaining, 1.0)
    gain = torch.where(new & torch.isfinite(gain), gain, -torch.inf)
    scale = torch.where(usable, 1.0 / unit, 1.0).to(nodes.scale.dtype)
    return Screened(replace(nodes, scale=scale), gain, cross, inner, slope, alpha, target)


def _of_few(
    population: Population,
    nodes: Nodes,
    columns: Tensor,
    ends: Tensor,
    metric: Tensor,
    pairs: bool,
    constant: float | None,
) -> Tensor:
    """Return the products of few candidates with ends and present columns, and among them.

    Many rows are gone through by some members at a time, whose candidates then fit in the cache;
    what threads share is those of all.
    """

    def of_some(members: slice) -> Tensor:
        present, first, own_metric = columns[members], ends[members], metric[members]
        z = node_columns(population, nodes.of(members), present)

        def function(rows: slice) -> Tensor:
            own = z[..., rows]
            weighted = times(own, own_metric[..., rows])
            parts = [inner_products(own, first[..., rows])]
            parts += [inner_products(weighted, present[..., rows])]
            parts += [weighted @ own.mT] if pairs else []
            return torch.cat(parts, dim=2)

        products = sum_in_parts(z.shape[2], function)
        if constant is not None:
            return products
        return torch.cat([products, inner_products(z.square_(), first[:, :2]).double()], dim=2)

    n_members = len(columns)
    # At least two, whose products threads would not divide, as everywhere.
    size = max(2, _CHUNK // (len(nodes) * columns.shape[2] + 1))
    if torch.get_num_threads() > 1 or not has_many_rows(columns) or n_members < 2 * size:
        return of_some(slice(n_members))
    bounds = np.linspace(0, n_members, n_members // size + 1).round().astype(int).tolist()
    return torch.cat([of_some(slice(*pair)) for pair in pairwise(bounds)])


@np.errstate(over="ignore")
def pick(
    screened: Screened, curvature: Curvature, n_picks: int, threshold: Tensor
) -> tuple[Index, NDArray[np.float64]]:
    """Pick candidates greedily, each scored orthogonally to those picked before.

    Parameters
    ----------
    screened : Screened
        With ``pairs``.
    curvature : Curvature
        Of the same rows.
    n_picks : int
        At most so many of each member.
    threshold : Tensor of shape (n_members,)
        Gains that are not above it are not picked.

    Returns
    -------
    picked : ndarray of shape (n_members, n)
        Places of the candidates; negative behind those of a member that has fewer.
    gains : ndarray of shape (n_members, n)
    """
    projected = screened.cross @ curvature.half.mT
    # A few small arrays, and many steps: NumPy's calls take less time than torch's.
    matrix, inner, slope, gain, ridge, least = (
        part.numpy(force=True)
        for part in (
            screened.inner - projected @ projected.mT, screened.inner, screened.slope,
            screened.gain, screened.ridge, threshold,
        )
    )  # fmt: skip
    diagonals = (part.diagonal(axis1=1, axis2=2) for part in (inner, matrix))
    original, remaining = (part + ridge[:, None] for part in diagonals)
    finite, member = np.isfinite(gain), np.arange(len(gain))
    rows = np.empty((*gain.shape, 0))
    picked = np.empty((len(gain), 0), dtype=np.int64)
    gains = np.empty((len(gain), 0))
    going = np.ones(len(gain), dtype=bool)
    for _ in range(min(n_picks, gain.shape[1])):
        # The first of those that are equal but for rounding.
        best = gain.astype(np.float32).argmax(axis=1)
        highest = gain[member, best]
        going = going & (highest > least)
        if not going.any():
            break
        picked = np.append(picked, np.where(going, best, -1)[:, None], axis=1)
        gains = np.append(gains, highest[:, None], axis=1)
        # One step of a pivoted Cholesky factorisation of the projected products.
        row = matrix[member, best]
        row[member, best] += ridge
        row = row - (rows @ rows[member, best][..., None])[..., 0]
        pivot = np.sqrt(np.where(going, row[member, best], np.inf))[:, None]
        row = row / pivot
        rows = np.append(rows, row[..., None], axis=2)
        slope = slope - row[..., None] * (slope[member, best] / pivot)[:, None]
        remaining = remaining - np.square(row)
        new = finite & (remaining > _SMALLEST_NEW_SHARE * original)
        gain = 0.5 * np.square(slope).sum(axis=2) / np.where(new, remaining, 1.0)
        gain = np.where(new, gain, -np.inf)
        gain[member[:, None], picked.clip(min=0)] = -np.inf
    return picked, gains
