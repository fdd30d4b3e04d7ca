r"""Tridiagonal matrices: a symmetric matrix and all its shifts at the cost of one.

With :math:`M = Q T Q'`, where :math:`Q` is a product of Householder's reflections and :math:`T`
tridiagonal, :math:`M + \alpha I` is :math:`Q (T + \alpha I) Q'` for any :math:`\alpha`, and solved
in linear time [1]_. Eigenvectors, which take four times as long, are not needed.

References
----------
.. [1] L. Elden, "A note on the computation of the generalized cross-validation function for
   ill-conditioned least squares problems", BIT 24, 1984.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

__all__ = ["eigenvalues", "reduce", "solve_shifted"]

Floats = NDArray[np.float64]
# Columns that LAPACK works on at a time, for which it is given memory.
_BLOCK = 64


def reduce(matrix: Floats, right: Floats) -> tuple[Floats, Floats, Floats]:
    """Reduce a symmetric matrix to a tridiagonal one, by Householder's reflections.

    Parameters
    ----------
    matrix : ndarray of shape (n, n)
    right : ndarray of shape (n, n_right)

    Returns
    -------
    diagonal : ndarray of shape (n,)
    beside : ndarray of shape (n - 1,)
        What is beside the diagonal.
    right : ndarray of shape (n, n_right)
        In the basis of that matrix.
    """
    n = len(matrix)
    if n == 1:
        return matrix[0].copy(), np.empty(0), right
    work = _BLOCK * max(right.shape)
    vectors, diagonal, beside, lengths, _ = lapack.dsytrd(matrix, lower=1, lwork=work)
    # The first row stays; the reflections of the others are stored as those of a QR factorisation.
    rest, *_ = lapack.dormqr("L", "T", vectors[1:, :-1], lengths, right[1:], lwork=work)
    return diagonal, beside, np.concatenate([right[:1], rest])


def eigenvalues(diagonal: Floats, beside: Floats) -> Floats:
    """Return the eigenvalues of a symmetric tridiagonal matrix, in ascending order."""
    if len(diagonal) == 1:
        return diagonal
    values, _ = lapack.dsterf(diagonal, beside)
    return values


def solve_shifted(diagonal: Floats, beside: Floats, shifts: Floats, right: Floats) -> Floats:
    """Solve with a symmetric tridiagonal matrix plus several multiples of the identity.

    Parameters
    ----------
    diagonal : ndarray of shape (n,)
    beside : ndarray of shape (n - 1,)
    shifts : ndarray of shape (n_shifts,)
        With each of which the matrix is positive definite.
    right : ndarray of shape (n, n_right)

    Returns
    -------
    ndarray of shape (n_shifts, n, n_right)
    """
    n_shifts, (n, n_right) = len(shifts), right.shape
    # One matrix of blocks that nothing is beside.
    shifted = (diagonal + shifts[:, None]).ravel()
    between = np.tile(np.append(beside, 0.0), n_shifts)[:-1]
    _, _, solved, failed = lapack.dptsv(shifted, between, np.tile(right, (n_shifts, 1)))
    if failed:
        raise np.linalg.LinAlgError("A shifted matrix is not positive definite.")
    return solved.reshape(n_shifts, n, n_right)
