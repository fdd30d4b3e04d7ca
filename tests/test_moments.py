"""Moments: against sums of outer products and two-pass variances."""

import numpy as np
import pytest
import reference
import torch
from builders import normal, random_network, rows_for, weights

from skevo.core.heads import coefficients, mean_square_residual, penalty, with_coefficients
from skevo.core.losses import SquaredError
from skevo.core.moments import Moments, extend_moments, measure_moments, variances
from skevo.core.rows import MemoryRows

N = 150


def problem(kind="ones", n_outputs=1, block_size=4096):
    """Return rows, network and dense columns."""
    network = random_network(n_nodes=5, n_outputs=n_outputs)
    target = normal(n_outputs, N, seed=3) + 2.0
    rows = rows_for(network, target, normal(3, N), weights(kind, N), block_size)
    return rows, network, rows.columns.T.numpy()


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("block_size", [64, 100_000])
@pytest.mark.parametrize("kind", ["ones", "random"])
def test_moments_equal_sums_of_outer_products(kind, block_size, n_outputs):
    rows, _, columns = problem(kind, n_outputs, block_size)
    found, weight, target = measure_moments(rows), rows.weight.numpy(), rows.target.T.numpy()
    augmented = np.column_stack([np.ones(N), columns])
    # Sums of 150 terms in another order.
    near = {"rtol": 1e-11, "atol": 1e-11}
    np.testing.assert_allclose(found.gram, reference.gram(columns, weight), **near)
    np.testing.assert_allclose(found.cross, augmented.T @ (weight[:, None] * target), **near)
    np.testing.assert_allclose(found.square, weight @ target**2, **near)


def test_moments_of_single_precision_columns_are_double():
    rows, _, _ = problem()
    single = MemoryRows(rows.columns.float(), rows.target.float(), rows.weight.float())
    assert {part.dtype for part in vars(measure_moments(single)).values()} == {torch.float64}


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_squared_residual_equals_that_of_the_rows(n_outputs):
    rows, network, _ = problem("random", n_outputs)
    found = measure_moments(rows).squared_residual(coefficients(network))
    expected = mean_square_residual(rows, network, SquaredError()) * rows.total_weight
    assert found == pytest.approx(expected, rel=1e-11)


def test_squared_residual_of_an_exact_fit_is_rounding_but_positive():
    rows, network, _ = problem()
    exact = MemoryRows(rows.columns, network.output(rows.columns), rows.weight)
    moments = measure_moments(exact)
    found = moments.squared_residual(coefficients(network))
    assert 0.0 < found <= 1e-12 * float(moments.square.sum())


def test_gradient_equals_finite_differences_of_the_objective():
    rows, network, _ = problem("random", 2)
    moments = measure_moments(rows)
    beta = coefficients(network)
    ridge = penalty(moments.gram, 2.0)

    def objective(at):
        trial = with_coefficients(network, at)
        loss = mean_square_residual(rows, trial, SquaredError()) * rows.total_weight
        return 0.5 * (loss + float((ridge[:, None] * at.square()).sum()))

    found = moments.gradient(beta, ridge)
    for at in np.ndindex(*beta.shape):
        move = torch.zeros_like(beta)
        move[at] = 1e-4
        slope = (objective(beta + move) - objective(beta - move)) / 2e-4
        assert -slope == pytest.approx(float(found[at]), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("kind", ["ones", "random", "counts"])
def test_variances_equal_two_pass_formula(kind):
    rows, _, columns = problem(kind)
    # One pass loses digits of columns whose mean exceeds their spread.
    np.testing.assert_allclose(
        variances(measure_moments(rows).gram),
        reference.variances(columns, rows.weight.numpy()),
        rtol=1e-9,
    )


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e6, 1e-9])
def test_variances_of_constant_columns_are_exactly_zero(value):
    columns = torch.stack([torch.full((N,), value, dtype=torch.float64), normal(N)])
    rows = MemoryRows(columns, normal(1, N), weights("random", N))
    found = variances(measure_moments(rows).gram)
    assert found[0] == 0.0
    assert found[1] > 0.5


def assert_equal(found: Moments, expected: Moments):
    for part, other in zip(vars(found).values(), vars(expected).values(), strict=True):
        # The same products, in matrix products of other sizes.
        torch.testing.assert_close(part, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_new", [1, 4])
def test_extended_moments_equal_those_of_all_columns(n_new):
    rows, network, _ = problem("random", 2)
    assert network.n_nodes >= n_new
    old = MemoryRows(rows.columns[:-n_new], rows.target, rows.weight)
    assert_equal(extend_moments(rows, measure_moments(old)), measure_moments(rows))


def test_taken_moments_equal_those_of_the_columns():
    rows, _, _ = problem("random", 2)
    some = np.array([0, 2, 5])
    left = MemoryRows(rows.columns[some], rows.target, rows.weight)
    assert_equal(measure_moments(rows).take(some), measure_moments(left))
