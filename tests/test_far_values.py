"""Far values: leave-one-out errors against fits without the row, and laws of heavy tails."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict

import skevo
from skevo import EvolvingClassifier, EvolvingRegressor
from skevo._far_values import _squared_errors, are_followed


def table(n_rows, seed, noise=0.0, law=lambda X: X @ [1.0, 2.0, -1.0, 0.5]):
    """Return rows of a law of columns with heavy tails."""
    rng = np.random.default_rng(seed)
    X = rng.lognormal(size=(n_rows, 4))
    y = law(X)
    return X, y + noise * y.std() * rng.normal(size=n_rows)


def test_errors_are_those_of_ridge_regression_without_the_row():
    X, y = table(40, 0, noise=0.3)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    left_out = y - cross_val_predict(Ridge(alpha=1.0), Z, y, cv=LeaveOneOut())
    found = _squared_errors(X, y[:, None], np.ones(40))
    np.testing.assert_allclose(found, left_out**2, rtol=1e-9)


def test_a_weight_is_as_good_as_copies():
    X, y = table(40, 0, noise=0.3)
    weight = np.resize([0.0, 1.0, 2.0], 40)
    copies = np.repeat(np.arange(40), weight.astype(int))
    found = weight @ _squared_errors(X, y[:, None], weight)
    expected = _squared_errors(X[copies], y[copies, None], np.ones(len(copies))).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_two_outputs_are_judged_by_the_sum_of_their_errors():
    X, y = table(40, 0, noise=0.3)
    both = _squared_errors(X, np.column_stack([y, 2.0 * y]), np.ones(40))
    np.testing.assert_allclose(both, 5.0 * _squared_errors(X, y[:, None], np.ones(40)))


@pytest.mark.parametrize("extreme", [1e30, 1e200])
def test_what_is_extreme_is_no_reason_to_fail(extreme):
    X, y = table(40, 0)
    X[3, 0] = extreme
    assert not are_followed(X, np.log1p(X), y[:, None], np.ones(40))


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("n_members", [1, 8])
def test_a_linear_law_of_heavy_tails_is_learned_as_well_as_by_linear_regression(n_members, noise):
    X, y = table(2000, 0, noise)
    X_new, truth = table(2000, 1)
    model = EvolvingRegressor(n_members=n_members, n_generations=10, random_state=0).fit(X, y)
    # The largest of the new rows are clipped.
    inside = truth <= y.max()
    linear = LinearRegression().fit(X, y)
    assert model.score(X_new[inside], truth[inside]) > linear.score(X_new, truth) - 0.005


@pytest.mark.parametrize(
    "law",
    [
        lambda X: np.log(X).sum(axis=1),
        lambda X: np.where(X[:, 0] > 8.0, -1.0, X[:, 0]),
    ],
    ids=["logarithms", "far values are errors"],
)
def test_far_values_that_are_not_followed_are_drawn_in(law):
    X, y = table(500, 0, 0.1, law)
    model = EvolvingRegressor(n_generations=0, random_state=0).fit(X, y)
    assert model._scaling.draws_in


def test_a_model_that_follows_far_values_is_exported_and_stored(tmp_path):
    X, y = table(500, 0)
    model = EvolvingRegressor(n_members=2, n_generations=3, random_state=0).fit(X, y)
    expected = model.predict(X)
    assert not model._scaling.draws_in
    torch_model = model.to_torch()
    np.testing.assert_allclose(torch_model(torch.from_numpy(X)).detach(), expected, rtol=1e-9)
    space = {}
    exec(model.to_source("numpy"), space)
    np.testing.assert_allclose(space["predict"](X), expected, rtol=1e-9)
    path = tmp_path / "model.skevo"
    model.save(path)
    np.testing.assert_array_equal(skevo.load(path).predict(X), expected)


def test_labels_follow_far_values_too():
    X, y = table(1000, 0)
    labels = y > np.median(y)
    model = EvolvingClassifier(n_generations=3, random_state=0).fit(X, labels)
    assert model.score(X, labels) > 0.95
