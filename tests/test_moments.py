"""Moments: against sums of outer products and two-pass variances."""

import numpy as np
import pytest
import reference
import torch
from builders import alone, crowd, normal, random_network, rows_for, singles, weights

from skevo.core.heads import coefficients, penalty, with_coefficients
from skevo.core.losses import SquaredError
from skevo.core.measures import dispersion
from skevo.core.moments import (
    Moments,
    extend_moments,
    inner_products,
    measure_moments,
    variances,
)
from skevo.core.rows import MemoryRows

N = 150
# Sums of 150 terms in another order.
NEAR = {"rtol": 1e-11, "atol": 1e-11}


def problem(kind="ones", n_outputs=1, block_size=4096):
    """Return rows, population of one and dense columns."""
    population = alone(random_network(n_nodes=5, n_outputs=n_outputs))
    target = normal(n_outputs, N, seed=3) + 2.0
    rows = rows_for(population, target, normal(3, N), weights(kind, N), block_size)
    return rows, population, rows.columns[0].T.numpy()


@pytest.mark.parametrize("n_known", [2, 40])
def test_products_of_many_single_precision_rows_are_nearly_those_in_double(n_known):
    # Positive terms: sums in single precision would drift.
    columns = 1.0 + normal(1, 40, 20_000).abs().float()
    rows = MemoryRows(columns, columns[:, :1], torch.ones(1, 20_000), 100_000)
    known = MemoryRows(columns[:, :n_known], rows.target, rows.weight, 100_000)
    found = extend_moments(rows, measure_moments(known)).gram[0, 1:, 1:]
    expected = columns[0].double() @ columns[0].double().T
    scale = expected.diagonal().rsqrt()
    error = (found - expected) * scale[:, None] * scale
    assert float(error.abs().max()) < 3e-7


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("block_size", [64, 100_000])
@pytest.mark.parametrize("kind", ["ones", "random"])
def test_moments_equal_sums_of_outer_products(kind, block_size, n_outputs):
    rows, _, columns = problem(kind, n_outputs, block_size)
    found, weight, target = measure_moments(rows), rows.weight[0].numpy(), rows.target[0].T.numpy()
    augmented = np.column_stack([np.ones(N), columns])
    np.testing.assert_allclose(found.gram[0], reference.gram(columns, weight), **NEAR)
    np.testing.assert_allclose(found.cross[0], augmented.T @ (weight[:, None] * target), **NEAR)
    np.testing.assert_allclose(found.square[0], weight @ target**2, **NEAR)


def test_moments_of_each_member_are_its_own_and_zero_for_empty_slots():
    rows, population = crowd(n_outputs=2, block_size=64)
    found = measure_moments(rows)
    for member, single in enumerate(singles(rows, population)):
        expected, at = measure_moments(single.rows), single.augmented
        gram = torch.zeros_like(found.gram[member])
        gram[at[:, None], at] = expected.gram[0]
        cross = torch.zeros_like(found.cross[member])
        cross[at] = expected.cross[0]
        torch.testing.assert_close(found.gram[member], gram, rtol=1e-11, atol=1e-10)
        torch.testing.assert_close(found.cross[member], cross, rtol=1e-11, atol=1e-10)
        torch.testing.assert_close(found.square[member], expected.square[0], **NEAR)


def test_moments_of_single_precision_columns_are_double():
    rows, _, _ = problem()
    single = MemoryRows(rows.columns.float(), rows.target.float(), rows.weight.float())
    assert {part.dtype for part in vars(measure_moments(single)).values()} == {torch.float64}


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_squared_residual_equals_that_of_each_members_rows(n_outputs):
    rows, population = crowd(n_outputs=n_outputs)
    found = measure_moments(rows).squared_residual(coefficients(population))
    expected = dispersion(rows, population, SquaredError()) * rows.total_weight
    torch.testing.assert_close(found, expected, **NEAR)


def test_squared_residual_of_an_exact_fit_is_rounding_but_positive():
    rows, population, _ = problem()
    exact = MemoryRows(rows.columns, population.output(rows.columns), rows.weight)
    moments = measure_moments(exact)
    found = moments.squared_residual(coefficients(population))
    assert 0.0 < found <= 1e-12 * float(moments.square.sum())


def test_gradient_equals_finite_differences_of_the_objective():
    rows, population, _ = problem("random", 2)
    moments = measure_moments(rows)
    beta = coefficients(population)
    ridge = penalty(moments.gram, torch.tensor([2.0]))

    def objective(at):
        trial = with_coefficients(population, at)
        loss = dispersion(rows, trial, SquaredError()) * rows.total_weight
        return 0.5 * (float(loss) + float((ridge[..., None] * at.square()).sum()))

    found = moments.gradient(beta, ridge)
    for at in np.ndindex(*beta.shape):
        move = torch.zeros_like(beta)
        move[at] = 1e-4
        slope = (objective(beta + move) - objective(beta - move)) / 2e-4
        assert -slope == pytest.approx(float(found[at]), rel=1e-6, abs=1e-6)


def test_gradient_of_each_member_is_its_own():
    rows, population = crowd(n_outputs=2)
    alpha = torch.tensor([0.0, 0.5, 2.0, 30.0], dtype=torch.float64)
    moments = measure_moments(rows)
    found = moments.gradient(coefficients(population), penalty(moments.gram, alpha))
    for member, single in enumerate(singles(rows, population)):
        own = measure_moments(single.rows)
        ridge = penalty(own.gram, alpha[member, None])
        expected = own.gradient(coefficients(single.population), ridge)
        # Differences of sums of some hundreds.
        torch.testing.assert_close(
            found[member, single.augmented], expected[0], rtol=1e-9, atol=1e-9
        )


# -- variances -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ones", "random", "counts"])
def test_variances_equal_two_pass_formula(kind):
    rows, _, columns = problem(kind)
    # One pass loses digits of columns whose mean exceeds their spread.
    np.testing.assert_allclose(
        variances(measure_moments(rows).gram)[0],
        reference.variances(columns, rows.weight[0].numpy()),
        rtol=1e-9,
    )


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e6, 1e-9])
def test_variances_of_constant_columns_are_exactly_zero(value):
    columns = torch.stack([torch.full((N,), value, dtype=torch.float64), normal(N)])
    # The constant column is the first of one member and the second of the other.
    both = torch.stack([columns, columns.flip(0)])
    weight = torch.stack([weights("random", N), weights("counts", N)])
    found = variances(measure_moments(MemoryRows(both, normal(2, 1, N), weight)).gram)
    assert found[0, 0] == found[1, 1] == 0.0
    assert min(found[0, 1], found[1, 0]) > 0.5


# -- columns that come and go ----------------------------------------------------------------------


def assert_equal(found: Moments, expected: Moments):
    for part, other in zip(vars(found).values(), vars(expected).values(), strict=True):
        # The same products, in matrix products of other sizes.
        torch.testing.assert_close(part, other, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("n_new", [1, 4])
def test_extended_moments_equal_those_of_all_columns(n_new):
    rows, _ = crowd(n_outputs=2, block_size=64)
    old = MemoryRows(rows.columns[:, :-n_new], rows.target, rows.weight)
    assert_equal(extend_moments(rows, measure_moments(old)), measure_moments(rows))


def test_moments_without_columns_equal_those_of_zeros():
    rows, population = crowd(n_outputs=2)
    gone = torch.from_numpy(np.pad(population.wiring.leaves, ((0, 0), (3, 0))))
    assert gone.any()
    left = MemoryRows(rows.columns * ~gone[..., None], rows.target, rows.weight)
    assert_equal(measure_moments(rows).without(gone), measure_moments(left))


def test_compact_moments_equal_those_of_the_compact_population():
    rows, population = crowd(n_outputs=2)
    moments = measure_moments(rows)
    population, kept = population.compact()
    kept = torch.from_numpy(kept)
    rows.compact(population, kept)
    inputs = torch.arange(3).expand(4, -1)
    columns = torch.cat([inputs, torch.where(kept < 0, -1, 3 + kept)], dim=1)
    assert (columns < 0).any()
    assert_equal(moments.compact(columns), measure_moments(rows))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n_left", "n_right"), [(1, 1), (40, 2), (2, 40), (40, 9), (9, 40)])
def test_inner_products_equal_their_definition(n_left, n_right, dtype):
    left, right = torch.randn(3, n_left, 50, dtype=dtype), torch.randn(3, n_right, 50, dtype=dtype)
    expected = np.einsum("mir,mjr->mij", left.double().numpy(), right.double().numpy())
    found = inner_products(left, right)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, atol=1e-4 if dtype == torch.float32 else 1e-12)
