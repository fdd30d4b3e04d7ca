r"""Curvature: the quadratic model of the objective, factorised, and kept up as columns come and go.

The factorisation is that of the Gram matrix with the penalty on its diagonal. When columns join it
is bordered, and when columns leave it is projected, at the cost of some products with a vector for
each column instead of a new factorisation [1]_.

References
----------
.. [1] P. E. Gill, G. H. Golub, W. Murray and M. A. Saunders, "Methods for modifying matrix
   factorizations", Mathematics of Computation 28, 1974.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from .linalg import cholesky_ex, cholesky_solve, eigh, solve_triangular

__all__ = ["Curvature", "factorise"]

# Columns of which less than this share is new to the present ones are too close to dependent for a
# factorisation to be bordered by them.
_SMALLEST_NEW_SHARE = 1e-8


@dataclass(frozen=True)
class Curvature:
    r"""The quadratic model of the objective at the heads, in augmented columns.

    Attributes
    ----------
    matrix : Tensor of shape (n_members, n_columns + 1, n_columns + 1)
        :math:`M = \sum_i w_i h_i [1, c_i][1, c_i]' + P`, with the penalty on its diagonal.
    half : Tensor of shape (n_members, n, n_columns + 1)
        ``half.mT @ half`` is its (pseudo-)inverse.
    gradient : Tensor of shape (n_members, n_columns + 1, n_outputs)
        :math:`\sum_i w_i [1, c_i] r_i' - P [b, W]'`; zero where the head is optimal.
    ridge : Tensor of shape (n_members, n_columns + 1)
        Diagonal of the penalty P.
    rounding : float
        The share of the diagonal that was added to it before the factorisation.
    derived : dict of Tensor
        What has been computed from the factorisation so far.
    """

    matrix: Tensor
    half: Tensor
    gradient: Tensor
    ridge: Tensor
    rounding: float
    # Not copied by `replace`: other factors have another inverse.
    derived: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def inverse(self) -> Tensor:
        """The (pseudo-)inverse, of shape (n_members, n_columns + 1, n_columns + 1).

        It takes twice as long as the factorisation, and who solves once has no need of it.
        """
        if "inverse" not in self.derived:
            self.derived["inverse"] = self.half.mT @ self.half
        return self.derived["inverse"]

    @property
    def degrees(self) -> Tensor:
        """Effective degrees of freedom of the head, of shape (n_members,).

        The trace of the inverse times the unpenalised part.
        """
        if "degrees" not in self.derived:
            penalty = (self.inverse.diagonal(dim1=1, dim2=2) * self.ridge).sum(dim=1)
            self.derived["degrees"] = (self.inverse * self.matrix).sum(dim=(1, 2)) - penalty
        return self.derived["degrees"]

    def solve(self, right: Tensor) -> Tensor:
        """Return the inverse times a right-hand side of shape (n_members, n_columns + 1, n)."""
        return self.half.mT @ (self.half @ right)

    def with_gradient(self, gradient: Tensor) -> Curvature:
        """Return the model with another gradient."""
        other = replace(self, gradient=gradient)
        object.__setattr__(other, "derived", self.derived)
        return other

    def bordered(self, unpenalised: Tensor, ridge: Tensor) -> Curvature | None:
        """Return the model with columns added behind the present ones.

        Parameters
        ----------
        unpenalised : Tensor of shape (n_members, n, n)
            The curvature of all columns, without the penalty.
        ridge : Tensor of shape (n_members, n)

        Returns
        -------
        Curvature or None
            Without a gradient; None where columns are so close to dependent that the matrix should
            be factorised anew.
        """
        n_old, n_new = self.inverse.shape[2], unpenalised.shape[2] - self.inverse.shape[2]
        matrix = _penalised(unpenalised, ridge)
        cross, own = matrix[:, :n_old, n_old:], matrix[:, n_old:, n_old:].clone()
        diagonal = own.diagonal(dim1=1, dim2=2)
        diagonal *= 1.0 + self.rounding
        projected = self.half @ cross
        factor, failed = cholesky_ex(own - projected.mT @ projected)
        new_share = factor.diagonal(dim1=1, dim2=2).square() / diagonal
        if (failed > 0).any() or not (new_share > _SMALLEST_NEW_SHARE).all():
            return None
        identity = torch.eye(n_new, dtype=own.dtype, device=own.device).expand_as(own)
        corner = solve_triangular(factor, identity, upper=False)
        below = torch.cat([-corner @ (projected.mT @ self.half), corner], dim=2)
        half = functional.pad(self.half, (0, n_new, 0, n_new))
        half[:, -n_new:] = below
        inverse = functional.pad(self.inverse, (0, n_new, 0, n_new)).baddbmm_(below.mT, below)
        return self._updated(matrix, inverse, half, ridge)

    def without(self, gone: Tensor) -> Curvature | None:
        """Return the model once some columns are zero.

        Parameters
        ----------
        gone : Tensor of shape (n_members, n_columns), bool
            Columns that have not been zero before.

        Returns
        -------
        Curvature or None
            Without a gradient; its inverse is zero where a column is. None where the columns are so
            close to dependent that the matrix should be factorised anew.
        """
        gone = functional.pad(gone, (1, 0))
        n_gone = int(gone.sum(dim=1).max())
        if not n_gone:
            return self
        # The columns of each member side by side, some of them present if others have lost more.
        lost, at = torch.sort(gone.byte(), dim=1, descending=True, stable=True)
        lost, at = lost[:, :n_gone].bool(), at[:, :n_gone]
        rows = self.inverse.gather(1, at[..., None].expand(-1, -1, self.inverse.shape[2]))
        rows = rows * lost[..., None]
        square = rows.gather(2, at[:, None].expand(-1, n_gone, -1)) * lost[:, None]
        square = square + torch.diag_embed((~lost).to(square.dtype))
        factor, failed = cholesky_ex(square)
        new_share = factor.diagonal(dim1=1, dim2=2).square() / square.diagonal(dim1=1, dim2=2)
        if (failed > 0).any() or not (new_share > _SMALLEST_NEW_SHARE).all():
            return None
        share = cholesky_solve(rows, factor)
        taken = self.half.gather(2, at[:, None].expand(-1, self.half.shape[1], -1))
        inverse = torch.baddbmm(self.inverse, rows.mT, share, alpha=-1.0)
        half = torch.baddbmm(self.half, taken * lost[:, None], share, alpha=-1.0)
        matrix = self.matrix.clone()
        member, column = gone.nonzero(as_tuple=True)
        half[member, :, column] = 0.0
        for square in (inverse, matrix):
            square[member, column] = 0.0
            square[member, :, column] = 0.0
        ridge = torch.where(gone, 0.0, self.ridge)
        return self._updated(matrix, inverse, half, ridge)

    def restricted(self, gone: Tensor) -> Curvature:
        """Return the model whose inverse is zero for some columns, which therefore do not move.

        Parameters
        ----------
        gone : Tensor of shape (n_members, n_columns), bool
        """
        found = self.without(gone)
        if found is None:
            gone = functional.pad(gone, (1, 0))
            kept = (~gone[..., None] & ~gone[:, None]).to(self.matrix.dtype)
            unpenalised = (self.matrix - torch.diag_embed(self.ridge)) * kept
            dtype = torch.float32 if self.rounding else torch.float64
            found = factorise(unpenalised, torch.where(gone, 1.0, self.ridge), dtype)
            found = replace(found, half=found.half * ~gone[:, None])
        return found.with_gradient(self.gradient)

    def compact(self, kept: Tensor) -> Curvature:
        """Return the model of some columns of each member, and of zero where one is negative.

        Parameters
        ----------
        kept : Tensor of shape (n_members, n_kept), int64
            All that the inverse is not zero for.
        """
        at = functional.pad(kept.clamp(min=0) + 1, (1, 0))
        there = functional.pad(kept >= 0, (1, 0), value=True)
        member = torch.arange(len(kept), device=kept.device)[:, None]

        def square(matrix: Tensor) -> Tensor:
            taken = matrix[member[..., None], at[..., None], at[:, None]]
            return taken * there[..., None] * there[:, None]

        half = self.half.gather(2, at[:, None].expand(-1, self.half.shape[1], -1))
        return self._updated(
            square(self.matrix),
            square(self.inverse),
            half * there[:, None],
            self.ridge[member, at] * there,
        )

    def _updated(self, matrix: Tensor, inverse: Tensor, half: Tensor, ridge: Tensor) -> Curvature:
        nothing = torch.zeros_like(matrix[..., :0])
        found = replace(self, matrix=matrix, half=half, gradient=nothing, ridge=ridge)
        found.derived["inverse"] = inverse
        return found


def factorise(unpenalised: Tensor, ridge: Tensor, dtype: torch.dtype) -> Curvature:
    """Factorise the penalised curvature, by Cholesky or, where it is singular, by eigenvalues.

    Products of single-precision columns are off by their rounding, which is added to the diagonal.
    """
    rounding = 1e-6 if dtype == torch.float32 else 0.0
    matrix = _penalised(unpenalised, ridge)
    # Unit diagonal: columns of any scale, and exact zeros for constant columns' rows.
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    unit = torch.where(diagonal > 0, diagonal, 1.0).rsqrt()
    scaled = (matrix * unit[..., None]).mul_(unit[..., None, :])
    scaled.diagonal(dim1=-2, dim2=-1).add_(rounding)
    factor, failed = cholesky_ex(scaled)
    singular = failed > 0
    if not rounding:
        singular = singular | (factor.diagonal(dim1=-2, dim2=-1).amin(dim=-1) < 1e-5)
    identity = torch.eye(scaled.shape[-1], dtype=scaled.dtype, device=scaled.device)
    half = solve_triangular(factor, identity.expand_as(scaled), upper=False)
    if singular.any():
        values, vectors = eigh(scaled[singular])
        keep = values > 1e-10 * values[..., -1:]
        inverse_root = torch.where(keep, values, 1.0).rsqrt() * keep
        half[singular] = inverse_root[..., None] * vectors.mT
    half *= unit[..., None, :]
    return Curvature(matrix, half, torch.zeros_like(matrix[..., :0]), ridge, rounding)


def _penalised(unpenalised: Tensor, ridge: Tensor) -> Tensor:
    """Return a matrix with the penalty added to its diagonal."""
    matrix = unpenalised.clone()
    matrix.diagonal(dim1=-2, dim2=-1).add_(ridge)
    return matrix
