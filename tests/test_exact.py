"""Exact sums: against rational arithmetic, whatever the order and the parts."""

from fractions import Fraction

import numpy as np
import pytest

from skevo import _exact
from skevo._exact import exact_sum


def numbers(n=300, spread=40, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=n) * 2.0 ** generator.integers(-spread, spread, n)


@pytest.mark.parametrize(
    "values",
    [
        numbers(),
        numbers(spread=1000),
        np.zeros(3),
        np.array([5e-324, 1.7e308, -1.7e308, -0.0]),
        np.array([-(2.0**53) + 1, -1.0, 0.1]),
    ],
)
def test_sum_is_exact(values):
    assert exact_sum(values) == sum(map(Fraction, values.tolist()))


def test_sum_of_no_number_is_zero():
    assert exact_sum(np.empty(0)) == 0


def test_parts_in_any_order_have_the_same_sum(monkeypatch):
    values = numbers()
    monkeypatch.setattr(_exact, "_BLOCK", 7)
    parts = np.array_split(np.random.default_rng(1).permutation(values), 11)
    assert sum(map(exact_sum, parts)) == exact_sum(values)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_raises(value):
    with pytest.raises(ValueError, match="are not finite"):
        exact_sum(np.array([1.0, value]))
