"""Statistics: the interquartile mean against scipy's trimmed mean."""

import numpy as np
import pytest
import torch
from builders import normal
from scipy.stats import trim_mean

from skevo.core.statistics import midmean


@pytest.mark.parametrize("shape", [(), (7,), (5, 3)])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 9, 32])
def test_midmean_is_the_mean_without_the_outer_quarters(n, shape):
    values = normal(n, *shape, seed=n)
    before = values.clone()
    np.testing.assert_allclose(midmean(values), trim_mean(values, 0.25, axis=0), rtol=1e-12)
    assert torch.equal(values, before)
