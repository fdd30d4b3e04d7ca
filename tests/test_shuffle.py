"""Shuffle: a permutation of which any part can be had."""

import numpy as np
import pytest
import torch

from skevo.core.shuffle import Shuffle


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 255, 256, 257, 20_001])
def test_shuffle_is_a_permutation(n):
    found = Shuffle(n, 0)(torch.arange(n))
    assert sorted(found.tolist()) == list(range(n))


def test_any_part_equals_that_of_the_whole():
    shuffle = Shuffle(30_011, 3)
    places = torch.randperm(30_011, generator=torch.Generator().manual_seed(0))[:500]
    assert torch.equal(shuffle(places), shuffle(torch.arange(30_011))[places])


def test_orders_of_other_seeds_differ():
    first, same, other = (Shuffle(1000, seed)(torch.arange(1000)) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    # About one of a thousand stands where it stood.
    assert (first == other).sum() < 10


def test_first_places_are_a_uniform_sample_of_more_rows_than_fit_into_memory():
    n = 10**11
    found = Shuffle(n, 0)(torch.arange(20_000)).numpy()
    assert len(np.unique(found)) == 20_000
    assert found.min() >= 0
    assert found.max() < n
    counts = np.bincount(found * 100 // n, minlength=100)
    # Of a uniform sample the statistic is 99, give or take 14.
    assert ((counts - 200) ** 2 / 200).sum() < 99 + 5 * 14
    # Neighbours do not stay together.
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.03
