"""Selection of input columns: the correlation ratio against an analysis of variance."""

import numpy as np
import pytest
import torch
from builders import normal
from scipy.stats import f_oneway

from skevo.core.selection import correlation_ratio, most_telling


def ones(n):
    return torch.ones(n, dtype=torch.float64)


def test_correlation_ratio_is_that_of_an_analysis_of_variance():
    n = 800
    columns = normal(4, n)
    target = torch.stack([columns[0].square() + 0.5 * columns[1], columns[2].sin()])[:1]
    found = correlation_ratio(columns, target, ones(n))
    for column, ratio in zip(columns.numpy(), found.tolist(), strict=True):
        # Eight parts of a hundred rows each.
        parts = target[0].numpy()[np.argsort(column)].reshape(8, -1)
        statistic = f_oneway(*parts).statistic
        assert ratio == pytest.approx(1.0 / (1.0 + (n - 8) / (7 * statistic)), rel=1e-9)


def test_correlation_ratio_of_several_outputs_is_that_of_the_summed_variances():
    columns, target = normal(3, 400), 3.0 * normal(2, 400, seed=1)
    target[0] += columns[1].abs()
    variance = target.var(dim=1, correction=0)
    alone = torch.stack([correlation_ratio(columns, row[None], ones(400)) for row in target])
    expected = (variance @ alone) / variance.sum()
    torch.testing.assert_close(correlation_ratio(columns, target, ones(400)), expected)


def test_weight_is_as_good_as_copies():
    columns, target = normal(3, 60), normal(1, 60, seed=1)
    counts = torch.arange(60) % 4
    weighted = correlation_ratio(columns, target, counts.double())
    copied = (part.repeat_interleave(counts, dim=1) for part in (columns, target))
    torch.testing.assert_close(weighted, correlation_ratio(*copied, ones(int(counts.sum()))))


def test_columns_that_tell_most_are_found_whatever_the_form():
    columns = normal(30, 2000)
    target = columns[[7]].square() + columns[[19]].sign() + columns[[3]] + 0.5 * normal(1, 2000)
    assert most_telling(columns, target, ones(2000), 3).tolist() == [3, 7, 19]


@pytest.mark.parametrize("target", [torch.zeros(1, 50), torch.full((1, 50), 7.0)])
def test_constant_columns_and_targets_tell_nothing(target):
    columns = torch.cat([normal(2, 50), torch.ones(1, 50)])
    found = correlation_ratio(columns, target.double(), ones(50))
    assert found.tolist() == [0.0, 0.0, 0.0]
    assert correlation_ratio(columns, normal(1, 50, seed=1), ones(50))[2] == pytest.approx(0.0)
    assert len(most_telling(columns, target.double(), ones(50), 2)) == 2
