r"""Screening: which candidates explain the residual.

A candidate column ``z`` is scored by how far it would lower the head's objective, together with all
present columns re-solved: with the quadratic model at the head,

.. math:: \mathrm{gain}(z) = \frac{\sum_t (g_t - v' M^{-1} G_t)^2}{2 (s - v' M^{-1} v)},

where :math:`g_t = \sum_i w_i z_i r_{it}`, :math:`G` is the gradient at the head, :math:`v` and
:math:`s` are the products of ``z`` with the present columns and with itself in the metric of the
curvature, penalties included. One matrix product scores the whole pool. This is orthogonal least
squares [1]_ on random candidates.

References
----------
.. [1] S. Chen, S. A. Billings and W. Luo, "Orthogonal least squares methods and their application
   to non-linear system identification", International Journal of Control 50, 1989.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .heads import Curvature
from .losses import Loss
from .network import Network, Nodes
from .rows import Block, RowSource, node_columns

__all__ = ["Screened", "pair_products", "pick", "screen"]

# Candidates of which less than this share is new are near-copies of the present columns.
_SMALLEST_NEW_SHARE = 1e-5
# Elements of candidates' columns that are in work at a time.
_CHUNK = 2**17


@dataclass(frozen=True)
class Screened:
    """Candidates with their scores.

    Attributes
    ----------
    nodes : Nodes
        The candidates, their scale set to the standard deviation of the rows screened on.
    gain : Tensor of shape (n_candidates,)
        Fall of the objective; -inf for those that are not finite or constant, and for copies of
        the present columns where no penalty tells them apart.
    cross : Tensor of shape (n_candidates, n_columns + 1)
        Products with the augmented columns in the metric of the curvature, of scaled candidates.
    inner : Tensor of shape (n_candidates, n_candidates) or (n_candidates,)
        Products among the scaled candidates, penalty not included; the diagonal only, unless
        ``pairs`` was asked for.
    slope : Tensor of shape (n_candidates, n_outputs)
        Products with the residual after projection on the present columns.
    ridge : float
        The penalty of one scaled candidate.
    """

    nodes: Nodes
    gain: Tensor
    cross: Tensor
    inner: Tensor
    slope: Tensor
    ridge: float

    def best(self, n: int) -> Tensor:
        """Return the positions of the candidates of the highest gain, in their order.

        Gains that differ by rounding only are equal, and the first of equal ones is better: so it
        does not matter how the sums were rounded.
        """
        order = self.gain.float().sort(descending=True, stable=True).indices[:n]
        return order[self.gain[order] > 0].sort().values

    def take(self, index: Tensor) -> Screened:
        """Return some of the candidates, without the products among them."""
        inner = self.inner if self.inner.ndim == 1 else self.inner.diagonal()
        return Screened(
            self.nodes.take(index.numpy(force=True)),
            self.gain[index],
            self.cross[index],
            inner[index],
            self.slope[index],
            self.ridge,
        )


def screen(
    rows: RowSource,
    network: Network,
    loss: Loss,
    alpha: float,
    curvature: Curvature,
    nodes: Nodes,
    *,
    pairs: bool = False,
) -> Screened:
    """Score candidates on rows.

    Parameters
    ----------
    rows : RowSource
        Holding the columns of the network.
    network : Network
        With its head fitted.
    loss : Loss
    alpha : float
        Ridge penalty on these rows.
    curvature : Curvature
        Of these rows at the head.
    nodes : Nodes
    pairs : bool, default=False
        Whether to compute products among the candidates, as `pick` needs them.

    Returns
    -------
    Screened
    """

    def function(block: Block) -> tuple[Tensor, ...]:
        output = network.output(block.columns)
        residual = loss.residual(output, block.target) * block.weight
        metric = block.weight * loss.curvature(output)
        ends = torch.stack([block.weight, metric, *residual], dim=1)
        squares = ends[:, :2].contiguous()
        # Of the two factors of the large product, the smaller one is weighted.
        few = len(nodes) < len(block.columns)
        present = (block.columns if few else block.columns * metric).T
        # Chunks that stay in the processor's cache from the operator to the product.
        n_chunk = len(nodes) if pairs else _CHUNK // len(block.weight)
        parts = []
        for chunk in nodes.split(max(1, n_chunk)):
            z = node_columns(network, chunk, block.columns)
            weighted = z * metric if few or pairs else z
            part = [z @ ends, (weighted if few else z) @ present]
            part += [weighted @ z.T] if pairs else []
            parts.append(torch.cat([z.square() @ squares, *part], dim=1))
        return (torch.cat(parts).double(),)

    products = rows.reduce(function)[0]
    n_outputs, n_columns = len(network.bias), network.topology.n_columns
    second, inner, first = products[:, 0], products[:, 1], products[:, 2]
    # The intercept's product stands beside those with the residual.
    slope = products[:, 4 : 4 + n_outputs]
    cross = products[:, 4 + n_outputs : 4 + n_outputs + n_columns]
    cross = torch.cat([products[:, 3:4], cross], dim=1)
    if pairs:
        inner = products[:, 4 + n_outputs + n_columns :]
    square = second / rows.total_weight
    variance = square - (first / rows.total_weight).square()
    usable = torch.isfinite(variance) & (variance > 1e-10 * square) & (variance > 1e-30)
    # Columns that are not usable are zeroed, so that nothing below can be undefined.
    unit = torch.where(usable, variance, torch.inf).rsqrt()
    cross, slope = (
        torch.where(usable[:, None], part * unit[:, None], 0.0) for part in (cross, slope)
    )
    inner = inner * unit[:, None] * unit if pairs else inner * unit.square()
    inner = torch.where(usable[:, None] & usable if pairs else usable, inner, 0.0)
    slope = slope - cross @ (curvature.inverse @ curvature.gradient)

    diagonal = inner.diagonal() if pairs else inner
    remaining = diagonal + alpha - (curvature.half @ cross.T).square().sum(dim=0)
    new = usable & (remaining > _SMALLEST_NEW_SHARE * (diagonal + alpha))
    gain = 0.5 * slope.square().sum(dim=1) / torch.where(new, remaining, 1.0)
    gain = torch.where(new & torch.isfinite(gain), gain, -torch.inf)
    # The spread joins the scale the nodes were computed with.
    scale = torch.where(usable, nodes.scale / unit, nodes.scale).to(nodes.scale.dtype)
    return Screened(replace(nodes, scale=scale), gain, cross, inner, slope, alpha)


def pair_products(rows: RowSource, network: Network, loss: Loss, screened: Screened) -> Screened:
    """Add the products among the candidates, as `pick` needs them.

    Parameters
    ----------
    rows : RowSource
        That the candidates were screened on.
    network : Network
    loss : Loss
    screened : Screened

    Returns
    -------
    Screened
    """

    def function(block: Block) -> tuple[Tensor]:
        z = node_columns(network, screened.nodes, block.columns)
        metric = block.weight * loss.curvature(network.output(block.columns))
        return (((z * metric) @ z.T).double(),)

    inner = rows.reduce(function)[0]
    usable = torch.isfinite(screened.gain)
    return replace(screened, inner=torch.where(usable[:, None] & usable, inner, 0.0))


def pick(
    screened: Screened, curvature: Curvature, n_picks: int, threshold: float
) -> tuple[list[int], list[float]]:
    """Pick candidates greedily, each scored orthogonally to those picked before.

    Parameters
    ----------
    screened : Screened
        With ``pairs``.
    curvature : Curvature
        Of the same rows.
    n_picks : int
        At most so many.
    threshold : float
        Gains that are not above it are not picked.

    Returns
    -------
    picked : list of int
    gains : list of float
    """
    projected = screened.cross @ curvature.half.T
    matrix = screened.inner - projected @ projected.T
    original = screened.inner.diagonal() + screened.ridge
    remaining = matrix.diagonal() + screened.ridge
    slope = screened.slope.clone()
    gain = screened.gain.clone()
    rows: list[Tensor] = []
    picked: list[int] = []
    gains: list[float] = []
    for _ in range(min(n_picks, len(gain))):
        # The first of those that are equal but for rounding.
        best = int(np.argmax(gain.float().numpy(force=True)))
        if not float(gain[best]) > threshold:
            break
        picked.append(best)
        gains.append(float(gain[best]))
        # One step of a pivoted Cholesky factorisation of the projected products.
        row = matrix[best].clone()
        row[best] += screened.ridge
        for earlier in rows:
            row -= earlier[best] * earlier
        row /= row[best].sqrt()
        rows.append(row)
        slope = slope - row[:, None] * (slope[best] / row[best])
        remaining = remaining - row.square()
        new = remaining > _SMALLEST_NEW_SHARE * original
        gain = 0.5 * slope.square().sum(dim=1) / torch.where(new, remaining, 1.0)
        gain = torch.where(new & torch.isfinite(screened.gain), gain, -torch.inf)
        gain[picked] = -torch.inf
    return picked, gains
