"""Columns that together reproduce outputs, beside least squares on the rows themselves."""

import numpy as np
import pytest
import torch
from builders import normal, weights

from skevo.core.distinct import choose_distinct, output_noise
from skevo.core.losses import CrossEntropy, LogLoss, SquaredError, TorchLoss


def lost(columns, output, weight):
    """Return the weighted sum of squares that a linear function of columns leaves."""
    root = np.sqrt(weight)[:, None]
    design = np.column_stack([np.ones(output.shape[1]), *columns]) * root
    target = output.T * root
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    return float(((target - design @ solution) ** 2).sum())


def slowly(candidates, given, output, weight, n_most):
    """Return what stepwise regression takes, each step by a fit for each candidate."""
    chosen = []
    while len(chosen) < n_most:
        columns = [*given, *(candidates[k] for k in chosen)]
        left = [
            np.inf if k in chosen else lost([*columns, column], output, weight)
            for k, column in enumerate(candidates)
        ]
        chosen.append(int(np.argmin(left)))
    return chosen


def ones(n):
    return torch.ones(n, dtype=torch.float64)


def silent(output):
    return 0.0


@pytest.mark.parametrize("n_given", [0, 3])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("kind", ["ones", "counts", "random"])
def test_columns_are_those_of_stepwise_regression(kind, n_outputs, n_given):
    n = 80
    shared = normal(4, n)
    candidates = normal(12, 4, seed=1) @ shared + 0.7 * normal(12, n, seed=2) + 5.0
    output = normal(n_outputs, 12, seed=3) @ candidates + normal(n_outputs, n, seed=4)
    given, weight = normal(n_given, n, seed=5) + shared[:1], weights(kind, n)
    chosen = choose_distinct(candidates, given, output, weight, silent, 6, 1.0)
    expected = slowly(*(part.numpy() for part in (candidates, given, output, weight)), 6)
    assert chosen == expected


@pytest.mark.parametrize(("noise", "n_expected"), [(1.0, 2), (100.0, 1), (500.0, 0)])
def test_columns_end_where_they_explain_less_than_the_noise_of_four_rows(noise, n_expected):
    n = 1000
    # Of variance 1 and a quarter, beside 4 / 1000 of the noise.
    candidates = torch.linalg.qr(normal(n, 3) - normal(n, 3).mean(dim=0)).Q.T * n**0.5
    output = candidates[:1] + 0.5 * candidates[1:2] + 0.001 * candidates[2:]
    chosen = choose_distinct(candidates, output[:0], output, ones(n), lambda _: noise, 3, 1.0)
    assert chosen == [0, 1][:n_expected]


def test_noise_is_asked_of_what_the_columns_so_far_say():
    n, seen = 200, []
    candidates = normal(3, n)
    output = candidates[:1] + 2.0

    def noise(said):
        seen.append(said)
        return 0.0

    weight = weights("random", n)
    assert choose_distinct(candidates, output[:0], output, weight, noise, 1, 1.0) == [0]
    mean = (output * weight).sum() / weight.sum()
    torch.testing.assert_close(seen[0], mean.expand_as(output))


@pytest.mark.parametrize("most", [0.5, 0.9, 0.99])
def test_no_chosen_column_is_correlated_more_than_is_allowed(most):
    n = 300
    shared = normal(5, n)
    candidates = shared.repeat(8, 1) + 0.5 * normal(40, n, seed=1)
    given = shared[:2] + 0.3 * normal(2, n, seed=2)
    output, weight = candidates.sum(dim=0, keepdim=True), weights("random", n)
    chosen = choose_distinct(candidates, given, output, weight, silent, 40, most)
    assert chosen
    together = np.vstack([given, candidates[chosen]])
    correlation = np.cov(together, aweights=weight)
    deviation = np.sqrt(np.diag(correlation))
    correlation = np.abs(correlation / np.outer(deviation, deviation))
    np.fill_diagonal(correlation, 0.0)
    assert correlation[2:].max() <= most + 1e-9


def test_copies_of_a_row_count_as_its_weight():
    n = 60
    candidates, output = normal(20, n), normal(1, n, seed=1)
    weight = weights("counts", n)
    rows = torch.arange(n).repeat_interleave(weight.long())
    one = choose_distinct(candidates, output[:0], output, weight, silent, 8, 0.9)
    other = choose_distinct(
        candidates[:, rows], output[:0, rows], output[:, rows], ones(len(rows)), silent, 8, 0.9
    )
    assert one == other


def test_constant_equal_and_dependent_columns_are_left_out():
    n = 100
    free = normal(2, n)
    candidates = torch.cat(
        [
            torch.full((1, n), 1e6, dtype=torch.float64),
            free,
            free[:1],
            -3.0 * free[:1] + 2.0,
            free.sum(0, keepdim=True),
        ]
    )
    output = free.sum(dim=0, keepdim=True) + normal(1, n, seed=3)
    chosen = choose_distinct(candidates, free[:0], output, ones(n), silent, 10, 1.0)
    assert len(chosen) == 2
    assert 0 not in chosen


def test_a_column_of_a_single_row_is_left_out():
    n = 1000
    lonely = torch.zeros(1, n, dtype=torch.float64)
    lonely[0, 17] = 50.0
    candidates = torch.cat([lonely, normal(1, n)])
    output = 10.0 * lonely + 0.1 * candidates[1:]
    assert choose_distinct(candidates, output[:0], output, ones(n), silent, 5, 1.0) == [1]


def test_given_columns_that_are_more_than_rows_leave_room():
    n = 40
    given, fresh = normal(60, n), normal(1, n, seed=9)
    assert choose_distinct(fresh, given, fresh, ones(n), silent, 1, 0.95) == [0]


@pytest.mark.parametrize("n_candidates", [0, 3])
def test_constant_outputs_need_no_column(n_candidates):
    none = torch.zeros(0, 10, dtype=torch.float64)
    output = torch.full((1, 10), 3.0, dtype=torch.float64)
    weight = ones(10)
    assert choose_distinct(normal(n_candidates, 10), none, output, weight, silent, 5, 1.0) == []


def test_noise_of_squared_errors_is_their_mean():
    output, target, weight = normal(2, 50), normal(2, 50, seed=1), weights("random", 50)
    expected = np.average((output - target).square().mean(dim=0), weights=weight)
    assert output_noise(SquaredError(), output, target, weight) == pytest.approx(expected)


def test_noise_of_labels_is_one_over_their_variance():
    share = 0.2
    target = torch.zeros(1, 1000, dtype=torch.float64)
    target[0, :200] = 1.0
    expected = 1.0 / (share * (1.0 - share))
    # However sure the output is.
    for output in (0.0 * target, 50.0 * target - 25.0):
        assert output_noise(LogLoss(), output, target, ones(1000)) == pytest.approx(expected)
    both = torch.cat([1.0 - target, target])
    assert output_noise(CrossEntropy(), both, both, ones(1000)) == pytest.approx(expected)


def test_noise_of_a_function_is_that_of_the_loss_whatever_its_units():
    output, target, weight = normal(1, 200), normal(1, 200, seed=1), weights("random", 200)
    expected = output_noise(SquaredError(), output, target, weight)
    for factor in (1e-3, 1.0, 30.0):
        loss = TorchLoss(
            lambda p, t, k=factor: k * (p - t).square(), ones(1)[:, None], 7.0 * ones(1)
        )
        assert output_noise(loss, output, target, weight) == pytest.approx(expected)
