r"""Relevance: which inputs held-out rows do not miss.

An input that has nothing to do with the target still gets a weight, and nodes read it; each of them
adds the variance of an estimate to predictions. What a head would be without an input, and without
all nodes that depend on it, follows from the inverse of the curvature: with the columns :math:`S`
that go,

.. math:: \beta - (M^{-1})_{\cdot S} \, \bigl((M^{-1})_{SS}\bigr)^{-1} \beta_S ,

as for the leaves of "Optimal Brain Surgeon" [1]_, several at a time. The rows that members hold out
tell what it predicts. Inputs are ordered by how much each is missed, the others being there, and go
in that order: backward elimination [2]_ in two passes, by all members together, who hold out all
rows between them. As many go as lower the held-out loss most, and more as long as it is within one
standard error of that, the rule that trees are pruned by [3]_.

References
----------
.. [1] B. Hassibi and D. G. Stork, "Second order derivatives for network pruning: Optimal Brain
   Surgeon", Advances in Neural Information Processing Systems 5, 1992.
.. [2] R. Kohavi and G. H. John, "Wrappers for feature subset selection", Artificial Intelligence
   97, 1997.
.. [3] L. Breiman, J. H. Friedman, R. A. Olshen and C. J. Stone, "Classification and Regression
   Trees", Wadsworth, 1984, section 3.4.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .curvature import Curvature
from .heads import coefficients
from .linalg import cholesky_ex, cholesky_solve, solve_triangular
from .losses import Loss
from .measures import mean_falls_and_errors
from .population import Population, Wiring
from .rows import RowSource
from .topology import Index

__all__ = ["Irrelevant", "dependence", "irrelevant_inputs", "without_each", "without_first"]

# The held-out loss has to fall by so many of its standard errors: one or two rows cannot decide.
_SURE = 2.0


@dataclass(frozen=True)
class Irrelevant:
    """Inputs that go, and the heads without them.

    Attributes
    ----------
    inputs : ndarray of shape (n_members, n_inputs), bool
    nodes : ndarray of shape (n_members, n_slots), bool
        Those that depend on them.
    coefficients : Tensor of shape (n_members, n_columns + 1, n_outputs)
        ``[b, W]'`` of the present columns; zero for those that go.
    """

    inputs: NDArray[np.bool_]
    nodes: NDArray[np.bool_]
    coefficients: Tensor


def irrelevant_inputs(
    held: RowSource,
    population: Population,
    loss: Loss,
    curvature: Curvature,
    limits: tuple[Tensor, Tensor] | None,
    names: Index,
) -> Irrelevant | None:
    """Find the inputs that held-out rows do not miss.

    Parameters
    ----------
    held : RowSource
        Rows that the members hold out, with the columns of the population.
    population : Population
        With the heads at their optimum.
    loss : Loss
    curvature : Curvature
        Of the training rows at the heads.
    limits : (Tensor, Tensor) of shape (n_members, n_outputs, 1), or None
        What outputs are clipped to.
    names : ndarray of shape (n_members, n_inputs), int64
        Which columns of the table the inputs of each member are, in ascending order.

    Returns
    -------
    Irrelevant or None
        None if all are relevant, as far as can be told. One column stays in any case.
    """
    wiring = population.wiring
    present = np.unique(names[wiring.inputs])
    if len(present) < 2:
        return None
    depends = _by_name(dependence(wiring), names, present)
    beta, inverse = coefficients(population), curvature.inverse

    def falls_and_errors(heads: Tensor) -> tuple[Tensor, Tensor]:
        return mean_falls_and_errors(held, population, heads, loss, limits)

    singly = without_each(depends, beta, inverse)
    if singly is None:
        return None
    order = falls_and_errors(singly)[0].argsort(descending=True, stable=True).numpy(force=True)
    together = without_first(depends[:, order], beta, inverse)
    if together is None:
        return None
    fall, error = falls_and_errors(together[:, :-1])
    sure = fall > _SURE * error
    if not sure.any():
        return None
    best = int(torch.where(sure, fall, -torch.inf).argmax())
    last = int((sure & (fall >= fall[best] - error[best])).nonzero()[-1])
    gone = order[: last + 1]
    inputs = wiring.inputs & np.isin(names, present[gone])
    nodes = np.any(depends[:, gone, wiring.n_inputs :], axis=1)
    return Irrelevant(inputs, nodes, together[:, last])


def dependence(wiring: Wiring) -> NDArray[np.bool_]:
    """Return which columns depend on which inputs, of shape (n_members, n_inputs, n_columns)."""
    n_inputs = wiring.n_inputs
    # The last column is the constant's, which is read through index -1.
    found = np.zeros((len(wiring.operator), n_inputs, wiring.n_columns + 1), dtype=bool)
    found[:, range(n_inputs), range(n_inputs)] = True
    for level in range(1, wiring.level.max(initial=0) + 1):
        member, slot = np.nonzero(wiring.level == level)
        sides = (side[member, slot] for side in (wiring.left, wiring.right))
        left, right = (found[member, :, side] for side in sides)
        found[member, :, n_inputs + slot] = left | right
    return found[:, :, :-1]


def _by_name(depends: NDArray[np.bool_], names: Index, present: Index) -> NDArray[np.bool_]:
    """Return which columns depend on which columns of the table, some of which a member lacks."""
    found = np.zeros((len(depends), len(present), depends.shape[2]), dtype=bool)
    for own, of_member, name in zip(found, depends, names, strict=True):
        place = np.searchsorted(present, name).clip(max=len(present) - 1)
        there = present[place] == name
        own[place[there]] = of_member[there]
    return found


def without_each(depends: NDArray[np.bool_], beta: Tensor, inverse: Tensor) -> Tensor | None:
    """Return the heads without each input and all that depends on it.

    Parameters
    ----------
    depends : ndarray of shape (n_members, n, n_columns), bool
        The columns that depend on each of some inputs.
    beta : Tensor of shape (n_members, n_columns + 1, n_outputs)
        The heads, at their optimum.
    inverse : Tensor of shape (n_members, n_columns + 1, n_columns + 1)
        Of the curvature.

    Returns
    -------
    Tensor of shape (n_members, n, n_columns + 1, n_outputs), or None
        None if rounding has made the inverse indefinite.
    """
    most = depends.sum(axis=2).max()
    # As many places for each input; those that are left over stand for nothing.
    order = np.argsort(~depends, axis=2, kind="stable")[:, :, :most]
    there = torch.as_tensor(np.take_along_axis(depends, order, axis=2), device=beta.device)
    at = torch.as_tensor(order, device=beta.device) + 1
    found = []
    for k, own in enumerate(inverse):
        blocks = own[at[k, :, :, None], at[k, :, None, :]]
        both = there[k, :, :, None] & there[k, :, None, :]
        blocks = torch.where(both, blocks, 0.0) + torch.diag_embed((~there[k]).to(blocks))
        factor, failed = cholesky_ex(blocks)
        if (failed > 0).any():
            return None
        share = cholesky_solve(beta[k, at[k]] * there[k, ..., None], factor)
        wide = beta.new_zeros(len(at[k]), *beta.shape[1:])
        wide.scatter_(1, at[k, ..., None].expand_as(share), share)
        found.append(beta[k] - own @ wide)
    gone = torch.as_tensor(depends, device=beta.device)
    return _zeroed(torch.stack(found), gone)


def without_first(depends: NDArray[np.bool_], beta: Tensor, inverse: Tensor) -> Tensor | None:
    """Return the heads without the first input, the first two, and so on.

    One factorisation of the inverse, its columns in the order in which they go, has them all.

    Parameters
    ----------
    depends, beta, inverse
        See `without_each`.

    Returns
    -------
    Tensor of shape (n_members, n, n_columns + 1, n_outputs), or None
        None if rounding has made the inverse indefinite.
    """
    n = depends.shape[1]
    # The intercept and empty slots stay.
    first = np.where(depends.any(axis=1), depends.argmax(axis=1), n)
    first = np.pad(first, ((0, 0), (1, 0)), constant_values=n)
    order = np.argsort(first, axis=1, kind="stable")
    at = torch.as_tensor(order, device=beta.device)
    ordered = inverse.gather(1, at[..., None].expand_as(inverse))
    ordered = ordered.gather(2, at[:, None].expand_as(inverse))
    # Of columns that are empty the inverse is zero.
    empty = (ordered.diagonal(dim1=1, dim2=2) == 0).to(ordered)
    factor, failed = cholesky_ex(ordered + torch.diag_embed(empty))
    if (failed > 0).any():
        return None
    share = solve_triangular(factor, beta.gather(1, at[..., None].expand_as(beta)), upper=False)
    goes = torch.as_tensor(np.take_along_axis(first, order, axis=1), device=beta.device)
    gone = goes[:, None] <= torch.arange(n, device=beta.device)[:, None]
    shares = (share[:, None] * gone[..., None]).permute(0, 2, 1, 3)
    moves = (factor @ shares.flatten(2)).unflatten(2, shares.shape[2:])
    places = at[..., None, None].expand_as(moves)
    found = beta[:, None] - torch.zeros_like(moves).scatter(1, places, moves).permute(0, 2, 1, 3)
    return _zeroed(found, torch.as_tensor(depends, device=beta.device).cummax(dim=1).values)


def _zeroed(heads: Tensor, gone: Tensor) -> Tensor:
    """Return heads with the weights of some columns exactly zero."""
    heads[:, :, 1:].masked_fill_(gone[..., None], 0.0)
    return heads
