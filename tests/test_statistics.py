"""Statistics: the interquartile mean against scipy's trimmed mean; ranges."""

import numpy as np
import pytest
import torch
from builders import normal
from scipy.stats import trim_mean

from skevo.core.statistics import midmean, positive_range, target_range


@pytest.mark.parametrize("shape", [(), (7,), (5, 3)])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 9, 32])
def test_midmean_is_the_mean_without_the_outer_quarters(n, shape):
    values = normal(n, *shape, seed=n)
    before = values.clone()
    np.testing.assert_allclose(midmean(values), trim_mean(values, 0.25, axis=0), rtol=1e-12)
    assert torch.equal(values, before)


@pytest.mark.parametrize(("copies", "margin"), [(1, 1.0), (4, 1.0), (5, 0.0), (60, 0.0)])
def test_range_ends_where_five_rows_have_the_lowest_or_highest_target(copies, margin):
    rising = torch.cat([torch.linspace(0, 9, 30), torch.full((copies,), 10.0)]).double()[None]
    one = torch.ones(rising.shape[1], dtype=torch.float64)
    assert [float(end) for end in target_range(rising, one)] == [-1.0, 10.0 + margin]
    assert [float(end) for end in target_range(-rising, one)] == [-10.0 - margin, 1.0]
    weight = torch.cat([torch.ones(30), torch.tensor([float(copies)])]).double()
    found = target_range(rising[:, :31], weight)
    assert [float(end) for end in found] == [-1.0, 10.0 + margin]


def test_positive_range_is_the_widened_range_but_positive():
    target = torch.tensor([[2.0, 3.0, 12.0], [0.0, 0.5, 5.0], [0.0, 0.0, 0.0]]).double()
    low, high = positive_range(target, torch.tensor([1.0, 1.0, 2.0]).double())
    # A thousandth of the smallest positive target; of any number where there is none.
    np.testing.assert_allclose(low[:, 0], [1.0, 0.5e-3, 1e-3])
    np.testing.assert_allclose(high[:, 0], [13.0, 5.5, 1e-3])


def test_positive_range_of_rare_events_goes_by_their_rate():
    target = torch.zeros(1, 10_000, dtype=torch.float64)
    target[0, 0] = 1.0
    low, high = positive_range(target, torch.ones(10_000, dtype=torch.float64))
    assert float(low) == pytest.approx(1e-7)
    assert float(high) == pytest.approx(1.1)
