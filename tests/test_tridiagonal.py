"""Tridiagonal matrices against dense ones of NumPy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skevo.core import tridiagonal
from skevo.core.threads import torch_threads

SHIFTS = np.array([0.1, 3.0, 100.0])


def problem(n, n_right, rank):
    """Return a positive semidefinite matrix, right-hand sides, and the matrix reduced."""
    rng = np.random.default_rng(n)
    factor, right = rng.normal(size=(n, rank)), rng.normal(size=(n, n_right))
    matrix = factor @ factor.T
    return matrix, right, *tridiagonal.reduce(matrix, right)


@pytest.mark.parametrize("n_right", [1, 3, 300])
@pytest.mark.parametrize(("n", "rank"), [(1, 1), (2, 5), (3, 1), (9, 20), (60, 30), (150, 400)])
def test_reduced_matrix_stands_for_the_matrix(n, rank, n_right):
    matrix, right, diagonal, beside, rotated = problem(n, n_right, rank)
    reduced = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    size = np.abs(matrix).sum()
    # Equal in every basis: eigenvalues, norms, and products with the matrix on both sides.
    values = np.linalg.eigvalsh(matrix)
    assert_allclose(tridiagonal.eigenvalues(diagonal, beside), values, atol=1e-14 * size)
    assert_allclose(rotated.T @ rotated, right.T @ right, atol=1e-11 * n)
    found = rotated.T @ reduced @ rotated
    assert_allclose(found, right.T @ matrix @ right, atol=1e-13 * size * n)


@pytest.mark.parametrize(("n", "rank"), [(1, 1), (2, 5), (9, 20), (60, 30)])
def test_shifted_matrices_are_solved(n, rank):
    matrix, right, diagonal, beside, rotated = problem(n, 2, rank)
    solved = tridiagonal.solve_shifted(diagonal, beside, SHIFTS, rotated)
    assert solved.shape == (3, n, 2)
    for shift, own in zip(SHIFTS, solved, strict=True):
        expected = np.linalg.solve(matrix + shift * np.eye(n), right)
        assert_allclose(own.T @ own, expected.T @ expected, rtol=1e-10)
        assert_allclose(own.T @ rotated, expected.T @ right, rtol=1e-10)


def test_matrix_that_is_not_definite_is_not_solved():
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        tridiagonal.solve_shifted(np.array([1.0, 1.0]), np.array([2.0]), SHIFTS, np.ones((2, 1)))


def test_threads_change_no_bit():
    found = []
    for n_threads in (1, 2):
        with torch_threads(n_threads):
            found.append(problem(300, 2, 200)[2:])
    for one, other in zip(*found, strict=True):
        assert_array_equal(one, other)
