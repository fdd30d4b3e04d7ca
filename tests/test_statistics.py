"""Statistics: the interquartile mean against scipy's trimmed mean; ranges."""

import numpy as np
import pytest
import torch
from builders import normal
from scipy.stats import trim_mean

from skevo.core.statistics import midmean, positive_range


@pytest.mark.parametrize("shape", [(), (7,), (5, 3)])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 9, 32])
def test_midmean_is_the_mean_without_the_outer_quarters(n, shape):
    values = normal(n, *shape, seed=n)
    before = values.clone()
    np.testing.assert_allclose(midmean(values), trim_mean(values, 0.25, axis=0), rtol=1e-12)
    assert torch.equal(values, before)


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
