"""Pairs of inputs that act together."""

import numpy as np
import pytest
import torch
from builders import normal
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import r2_score

from skevo import EvolvingClassifier, EvolvingRegressor
from skevo.core.pairs import Pairs
from skevo.core.rows import MemoryRows


def rows_of(inputs, weight=None):
    """Return rows of members that see tables of shape (n_members, n_inputs, n_samples)."""
    n_members, _, n_rows = inputs.shape
    weight = torch.ones(n_members, n_rows, dtype=inputs.dtype) if weight is None else weight
    return MemoryRows(inputs, torch.zeros(n_members, 1, n_rows, dtype=inputs.dtype), weight)


def slow_shares(inputs, residual, weight):
    """Return the shares of one member and output, pair by pair."""
    n_inputs = len(inputs)
    x = inputs - (inputs @ weight / weight.sum())[:, None]
    least = 3 * np.log(n_inputs * (n_inputs + 1) / 2)
    found = np.zeros((n_inputs, n_inputs))
    for j, k in np.ndindex(*found.shape):
        terms = residual * x[j] * x[k]
        found[j, k] = max(0.0, (terms @ weight) ** 2 / (terms**2 @ weight) - least)
    return found


def test_shares_are_those_of_each_pair_by_itself():
    inputs, noise = normal(2, 6, 200, seed=1), normal(2, 1, 200, seed=2)
    weight = normal(2, 200, seed=3).abs()
    residual = noise + inputs[:, [1]] * inputs[:, [4]] + inputs[:, [2]] ** 2
    found = Pairs(rows_of(inputs, weight), 6).shares(residual)
    assert (found > 0).any(axis=(1, 2)).all()
    assert (found == 0).any(axis=(1, 2)).all()
    for member in range(2):
        parts = inputs[member], residual[member, 0], weight[member]
        expected = slow_shares(*(part.numpy() for part in parts))
        assert_allclose(found[member], expected, rtol=1e-9, atol=1e-9)


def test_a_pair_counts_by_the_output_that_depends_on_it_most():
    inputs = normal(1, 5, 200, seed=1)
    residual = torch.cat([normal(1, 1, 200, seed=2), inputs[:, [0]] * inputs[:, [3]]], dim=1)
    found = Pairs(rows_of(inputs), 5).shares(residual)[0]
    assert_array_equal(np.argwhere(found > 0), [[0, 3], [3, 0]])


def test_weights_count_rows():
    inputs, residual = normal(1, 4, 50, seed=1), normal(1, 1, 50, seed=2)
    residual = residual + 3 * inputs[:, [0]] * inputs[:, [1]]
    times = torch.arange(50) % 3
    found = Pairs(rows_of(inputs, times[None].double()), 4).shares(residual)
    again = Pairs(rows_of(inputs.repeat_interleave(times, dim=2)), 4)
    assert_allclose(found, again.shares(residual.repeat_interleave(times, dim=2)), rtol=1e-9)
    assert found.any()


def test_noise_and_constants_make_no_pairs():
    inputs = normal(8, 30, 300, seed=1)
    inputs[:, 0] = 7.0
    pairs = Pairs(rows_of(inputs), 30)
    assert not pairs.shares(normal(8, 1, 300, seed=2)).any()
    assert not pairs.shares(torch.zeros(8, 1, 300, dtype=torch.float64)).any()


def test_no_pair_rests_on_a_few_rows():
    inputs = normal(1, 10, 500, seed=1)
    residual = normal(1, 1, 500, seed=2)
    inputs[:, 2:4, :5] = 1e3
    residual[..., :5] = 5.0
    assert not Pairs(rows_of(inputs), 10).shares(residual).any()


def wide(n_rows, n_inputs, seed):
    """Return a table whose target depends on one input, and on two others only together."""
    draw = np.random.default_rng(seed)
    X = draw.normal(size=(n_rows, n_inputs))
    return X, X[:, 0] + X[:, 1] * X[:, 2] + 0.5 * draw.normal(size=n_rows)


def test_two_of_many_inputs_that_act_together_are_found():
    X, y = wide(1200, 150, 0)
    model = EvolvingRegressor(n_members=2, n_generations=12, random_state=0).fit(X[:600], y[:600])
    # The best that one input does is 0.44, and the noise leaves 0.89.
    assert r2_score(y[600:], model.predict(X[600:])) > 0.7
    assert set(model.feature_importances_.argsort()[-3:]) == {0, 1, 2}


@pytest.mark.parametrize("n_classes", [2, 3])
def test_classes_may_depend_on_inputs_together(n_classes):
    X, y = wide(1600, 100, 1)
    y = np.digitize(y, np.quantile(y, np.arange(1, n_classes) / n_classes))
    model = EvolvingClassifier(n_members=2, n_generations=12, random_state=0)
    assert model.fit(X[:800], y[:800]).score(X[800:], y[800:]) > {2: 0.82, 3: 0.68}[n_classes]


@pytest.mark.parametrize(("n_inputs", "n_candidates", "there"), [(9, 45, False), (9, 44, True)])
def test_pairs_count_where_a_pool_does_not_hold_them_all(
    monkeypatch, n_inputs, n_candidates, there
):
    seen = []
    monkeypatch.setattr(Pairs, "shares", lambda self, residual: seen.append(residual.shape))
    X, y = wide(100, n_inputs, 0)
    model = EvolvingRegressor(n_members=1, n_generations=3, n_candidates=n_candidates)
    model.fit(X, y)
    assert bool(seen) == there
