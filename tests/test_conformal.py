"""Conformal intervals: scores against a slow reference, quantiles against ranks counted by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import normal, weights
from scipy.stats import trim_mean

from skevo.core.conformal import fit_intervals
from skevo.core.held_out import HeldOut
from skevo.core.table import Table

WIDE = torch.tensor([[-100.0]], dtype=torch.float64), torch.tensor([[100.0]], dtype=torch.float64)
COVERAGES = (0.1, 0.5, 0.8, 0.9, 0.99)


def held_out_of(outputs, holder, target, weight):
    """Return what members say of all rows of a table with two input columns."""
    n_samples = target.shape[1]
    table = Table(normal(2, n_samples, seed=8), target, weight)
    return HeldOut(table, outputs, holder)


def problem(n_members, n_outputs, n_samples, weight="random"):
    """Return members that are near the target, and nearer on rows that they did not hold out."""
    target = normal(n_outputs, n_samples)
    errors = normal(n_members, n_outputs, n_samples, seed=1)
    holder = torch.arange(n_samples) % n_members
    seen = torch.arange(n_members)[:, None] != holder
    errors = torch.where(seen[:, None], 0.4 * errors, errors) * (1.0 + target.abs())
    return held_out_of(target + 0.3 * errors, holder, target, weights(weight, n_samples))


def distances(values):
    """Return the mean distance of values from their interquartile mean."""
    return float(np.abs(np.array(values) - trim_mean(values, 0.25)).mean())


def slow_expected(features, size, weight):
    """Return the error that is expected of each row, by a fit without a copy of the row."""
    error = np.average(size, weights=weight)
    mean = np.average(features, axis=0, weights=weight)
    columns = (features - mean) / np.sqrt(
        np.average((features - mean) ** 2, axis=0, weights=weight)
    )
    columns = np.nan_to_num(columns)
    capped = np.minimum(size, 5.0 * error)
    # The intercept is not penalised.
    augmented = np.column_stack([np.ones(len(columns)), columns])
    ridge = np.diag([0.0, *np.full(columns.shape[1], 100.0)])
    expected = []
    for row in range(len(size)):
        left = weight.copy()
        left[row] -= 1.0
        gram = (augmented.T * left) @ augmented + ridge
        fitted = augmented[row] @ np.linalg.solve(gram, augmented.T @ (left * capped))
        expected.append(error + min(max(fitted, 0.0), 5.0 * error))
    return np.array(expected)


def slow_scores(held_out, output):
    """Return the scores of an output, row by row."""
    members = held_out.outputs[:, output].numpy()
    target, weight = held_out.target[output].numpy(), held_out.weight.numpy()
    n_members = len(members)
    own, others, predicted = [], [], []
    for row, k in enumerate(held_out.holder.tolist()):
        errors = [float(target[row] - member[row]) for member in members]
        own.append(errors[k])
        others.append(errors[:k] + errors[k + 1 :])
        predicted.append(float(members[k][row]))
    own_mean = np.average(np.abs(own), weights=weight)
    inflation = 1.0
    if n_members > 1:
        inflation = own_mean / np.average(np.abs(others).mean(axis=1), weights=weight)
    others = [[inflation * error for error in errors] for errors in others]
    average = [trim_mean([error, *errors], 0.25) for error, errors in zip(own, others, strict=True)]
    factor = np.average(np.abs(average), weights=weight) / own_mean
    spread = np.zeros(len(own))
    if n_members > 2:
        grown = (n_members - 1) / math.sqrt(n_members * (n_members - 2))
        spread = grown * np.array([distances(errors) for errors in others])
    predicted = np.array(predicted)
    features = np.column_stack([spread, predicted, predicted**2, held_out.inputs.T.numpy()])
    size = factor * np.abs(own)
    return (size / slow_expected(features, size, weight)).tolist()


def slow_quantile(scores, weight, coverage):
    """Return the lowest score that rows of enough weight do not exceed."""
    wanted = (math.fsum(weight) + 1.0) * coverage
    below = 0.0
    for score, w in sorted(zip(scores, weight, strict=True)):
        below += w
        if below >= wanted - 1e-9:
            return score
    return math.inf


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")
@pytest.mark.parametrize("weight", ["ones", "random"])
@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("n_members", [1, 2, 3, 8])
def test_quantiles_are_those_of_slow_scores(n_members, n_outputs, weight):
    held_out = problem(n_members, n_outputs, 103, weight)
    intervals = fit_intervals(held_out, WIDE)
    for output in range(n_outputs):
        scores = slow_scores(held_out, output)
        for coverage in COVERAGES:
            expected = slow_quantile(scores, held_out.weight.tolist(), coverage)
            # Scores are kept in single precision.
            assert intervals.quantiles(coverage)[output, 0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("n_samples", [9, 19, 100])
@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.95])
def test_one_member_whose_rows_are_alike_is_split_conformal(monkeypatch, coverage, n_samples):
    # With a penalty without end all rows are equally difficult.
    monkeypatch.setattr("skevo.core.difficulty._ALPHA", 1e15)
    held_out = problem(1, 1, n_samples, "ones")
    intervals = fit_intervals(held_out, WIDE)
    half = intervals.half_width(normal(2, 5), normal(1, 1, 5, seed=7), coverage)
    sizes = (held_out.target - held_out.outputs[0])[0].abs().sort().values
    rank = math.ceil((n_samples + 1) * coverage - 1e-9)
    if rank > n_samples:
        torch.testing.assert_close(half, torch.full_like(half, 200.0))
        return
    # A row's difficulty is the mean error without the row: new rows' is the mean of all.
    mean, error = float(sizes.mean()), sizes[rank - 1].item()
    capped = sizes.clamp(max=5 * mean)
    left_out = (capped.sum() - capped) / (n_samples - 1)
    scores = (sizes / (mean + left_out)).sort().values
    expected = scores[rank - 1] * (mean + capped.mean())
    torch.testing.assert_close(half, expected.expand(1, 5), rtol=1e-6, atol=0.0)
    # Which is nearly the error of that rank.
    assert float(expected) == pytest.approx(error, rel=0.6 / n_samples * error / mean + 0.02)


def test_weight_of_k_is_k_copies():
    held_out = problem(4, 2, 300, "ones")
    copies = torch.arange(300).repeat_interleave(torch.arange(300) % 3 + 1)
    table = held_out.table
    weighted = replace(held_out, table=replace(table, weight=table.weight * (copies.bincount())))
    repeated = HeldOut(table.take(copies), held_out.outputs[..., copies], held_out.holder[copies])
    one, two = fit_intervals(weighted, WIDE), fit_intervals(repeated, WIDE)
    np.testing.assert_allclose(one.difficulty.error, two.difficulty.error, rtol=1e-12)
    np.testing.assert_allclose(one.difficulty.coefficients, two.difficulty.coefficients, atol=1e-12)
    for coverage in COVERAGES:
        np.testing.assert_allclose(one.quantiles(coverage), two.quantiles(coverage), rtol=1e-6)


def test_many_scores_are_thinned_upwards(monkeypatch):
    held_out = problem(3, 1, 3000)
    intervals = fit_intervals(held_out, WIDE)
    assert len(intervals.scores[0]) <= 512
    monkeypatch.setattr("skevo.core.conformal._MOST_SCORES", 10**6)
    whole = fit_intervals(held_out, WIDE)
    for coverage in COVERAGES:
        found, exact, next_level = (
            one.quantiles(level)[0, 0]
            for one, level in (
                (intervals, coverage),
                (whole, coverage),
                (whole, min(coverage + 1 / 512, 0.9995)),
            )
        )
        assert exact <= found <= next_level


def test_wider_where_members_disagree_or_err():
    target, inputs = normal(1, 2000), normal(2, 2000, seed=8)
    # Members go astray on some rows, and have larger errors for larger values of an input.
    size = 1.0 + 3.0 * (normal(2000, seed=4) > 1.0) + 2.0 * (inputs[1] > 0)
    outputs = target + size * normal(8, 1, 2000, seed=1)
    held_out = held_out_of(outputs, torch.arange(2000) % 8, target, weights("ones", 2000))
    intervals = fit_intervals(held_out, WIDE)
    inputs, members = torch.zeros(2, 1).double(), torch.zeros(8, 1, 1).double()
    apart = torch.linspace(-10.0, 10.0, 8).double()[:, None, None]
    plain = intervals.half_width(inputs, members, 0.8)
    assert intervals.half_width(inputs, apart, 0.8) > 1.05 * plain
    assert intervals.half_width(inputs + torch.tensor([[0.0], [1.0]]), members, 0.8) > 1.05 * plain
    # The difficulty is between once and six times the mean error.
    far = intervals.half_width(1e6 * normal(2, 50), members.expand(8, 1, 50), 0.8)
    unit = (intervals.quantiles(0.8) * intervals.difficulty.error).item()
    assert far.min().item() == pytest.approx(unit, rel=1e-9)
    assert far.max().item() == pytest.approx(6.0 * unit, rel=1e-9)


def test_never_wider_than_the_range_of_predictions():
    limits = torch.tensor([[-0.2]], dtype=torch.float64), torch.tensor([[0.3]], dtype=torch.float64)
    intervals = fit_intervals(problem(4, 1, 50), limits)
    half = intervals.half_width(normal(2, 20), 1e6 * normal(4, 1, 20), 0.999)
    torch.testing.assert_close(half, torch.full_like(half, 0.5))


def test_exact_members_have_intervals_of_no_width():
    target = normal(1, 60)
    held_out = held_out_of(
        target.expand(3, 1, 60), torch.arange(60) % 3, target, weights("ones", 60)
    )
    half = fit_intervals(held_out, WIDE).half_width(normal(2, 4), normal(3, 1, 4), 0.9)
    assert (half < 1e-300).all()


def test_nothing_held_out_errors_are_inflated():
    outputs, target = normal(4, 1, 80, seed=1), normal(1, 80)
    weight, inflation = weights("random", 80), torch.tensor([1.0, 1.5, 2.0, 3.0])
    held_out = held_out_of(outputs, None, target, weight)
    intervals = fit_intervals(held_out, WIDE, inflation)
    errors = ((target - outputs) * inflation[:, None, None])[:, 0].numpy()
    size = np.abs(trim_mean(errors, 0.25, axis=0))
    predicted = trim_mean(outputs[:, 0].numpy(), 0.25, axis=0)
    spread = [distances(row) for row in errors.T]
    features = np.column_stack([spread, predicted, predicted**2, held_out.inputs.T.numpy()])
    scores = size / slow_expected(features, size, weight.numpy())
    expected = slow_quantile(scores.tolist(), weight.tolist(), 0.8)
    np.testing.assert_allclose(intervals.quantiles(0.8), expected, rtol=1e-6)


@pytest.mark.parametrize("inflation", [math.inf, math.nan])
def test_errors_of_unknown_size_give_the_range(inflation):
    held_out = held_out_of(normal(2, 1, 30), None, normal(1, 30, seed=1), weights("ones", 30))
    intervals = fit_intervals(held_out, WIDE, torch.tensor([1.0, inflation]))
    half = intervals.half_width(normal(2, 5), normal(2, 1, 5), 0.5)
    torch.testing.assert_close(half, torch.full_like(half, 200.0))


def test_many_inputs_do_not_tell_difficulty():
    held_out = problem(3, 1, 50)
    table = replace(held_out.table, inputs=normal(301, 50))
    intervals = fit_intervals(replace(held_out, table=table), WIDE)
    assert intervals.difficulty.coefficients.shape == (1, 3)
    assert intervals.half_width(normal(301, 4), normal(3, 1, 4), 0.5).shape == (1, 4)


def test_quantiles_grow_with_coverage():
    intervals = fit_intervals(problem(8, 1, 90), WIDE)
    found = [intervals.quantiles(coverage)[0, 0] for coverage in np.linspace(0.01, 0.999, 50)]
    assert (np.diff(found[:-1]) >= 0.0).all()
    assert found[-1] == math.inf


def test_scores_of_few_rows_are_all_kept():
    assert len(fit_intervals(problem(2, 1, 512, "ones"), WIDE).scores[0]) == 512
