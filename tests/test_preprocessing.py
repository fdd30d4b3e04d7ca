"""Scaling: columns agree with the definition, value by value."""

import numpy as np
import pytest

from skevo._columns import Encoding, fit_encoding
from skevo._preprocessing import Scaling, fit_scaling


def plain(n_features: int) -> Encoding:
    """Return the encoding of numbers none of which is missing."""
    return fit_encoding(np.zeros((2, n_features)), np.ones(2), {})


def scaled(scaling, x, column):
    """Return one value, scaled as the docstring of `Scaling` says."""
    z = (float(x) - scaling.center[column]) / scaling.spread[column]
    if abs(z) > 3:
        z = np.sign(z) * (3 + np.log(abs(z) - 2))
    return z + scaling.offset[column]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_rows", [0, 1, 40])
@pytest.mark.parametrize("centred", [True, False])
def test_scaling_equals_definition(dtype, n_rows, centred):
    X = np.random.default_rng(0).standard_cauchy((n_rows, 3)).astype(dtype)
    X[:1, 0] = 1e30
    center, spread = np.array([0.0, 2.0, -1e3]), np.array([1.0, 0.5, 7.0])
    offset = np.array([0.0, 4.0, 0.0 if centred else -1e3 / 7.0])
    scaling = Scaling(center, spread, offset)
    expected = [[scaled(scaling, x, column) for column, x in enumerate(row)] for row in X]
    # The terms are added in another order.
    np.testing.assert_allclose(scaling(X), np.reshape(expected, X.shape), rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(scaling.columns(X), scaling(X).T)


def test_columns_in_given_memory_are_equal():
    X = np.random.default_rng(0).standard_cauchy((40, 3))
    scaling, memory = fit_scaling(X, np.zeros((40, 1)), np.ones(40), plain(3)), np.full(120, np.nan)
    columns = scaling.columns(X, memory)
    assert np.shares_memory(columns, memory)
    np.testing.assert_array_equal(columns, scaling.columns(X))


def test_columns_are_contiguous_and_leave_rows_alone():
    X = np.random.default_rng(0).normal(size=(20, 3))
    before = X.copy()
    columns = fit_scaling(X, np.zeros((20, 1)), np.ones(20), plain(3)).columns(X)
    assert columns.flags.c_contiguous
    np.testing.assert_array_equal(X, before)


def test_a_column_of_two_values_is_not_drawn_in():
    X = np.zeros((400, 1))
    X[:3] = 1.0
    scaling = fit_scaling(X, np.zeros((400, 1)), np.ones(400), plain(1))
    low, half, high = scaling(np.array([[0.0], [0.5], [1.0]]))[:, 0]
    assert half == (low + high) / 2
