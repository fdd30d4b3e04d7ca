"""Prediction intervals and calibrated probabilities as users use them."""

import itertools
import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_linnerud, make_friedman1, make_moons
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss

from skevo import EvolvingClassifier, EvolvingRegressor
from skevo.core import calibration

FAST = {"n_members": 2, "n_generations": 8, "random_state": 0}
COVERAGES = (0.5, 0.8, 0.9, 0.95)


def draw(noise, n_train=1000, n_test=5000, seed=0):
    """Return training and fresh rows whose noise has the given standard deviation of rows."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, (n_train + n_test, 4))
    y = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + noise(X) * rng.normal(size=len(X))
    return X[:n_train], y[:n_train], X[n_train:], y[n_train:]


def even(X):
    return np.full(len(X), 0.5)


def uneven(X):
    return np.where(X[:, 3] > 0, 1.0, 0.1)


def inside(interval, y):
    """Return the share of targets inside their intervals."""
    return np.mean((interval[..., 0] <= y) & (y <= interval[..., 1]), axis=0)


@pytest.mark.parametrize("noise", [even, uneven])
@pytest.mark.parametrize(
    "parameters",
    [{}, {"n_members": 1}, {"n_members": 3}, {"validation_fraction": None}],
    ids=["defaults", "one-member", "three-members", "nothing-held-out"],
)
def test_coverage_of_fresh_rows_is_what_was_asked(parameters, noise):
    X, y, X_test, y_test = draw(noise)
    model = EvolvingRegressor(**{"n_generations": 25, "random_state": 0, **parameters}).fit(X, y)
    n_scores = 100 if parameters.get("n_members") == 1 else 1000
    for coverage in COVERAGES:
        found = inside(model.predict_interval(X_test, coverage), y_test)
        # Three standard errors of a quantile of so many scores, and a point.
        assert abs(found - coverage) < 0.01 + 3 * math.sqrt(coverage * (1 - coverage) / n_scores)


def test_intervals_wider_where_noise_is_larger():
    X, y, X_test, _ = draw(uneven)
    interval = EvolvingRegressor(random_state=0).fit(X, y).predict_interval(X_test)
    width, loud = np.ptp(interval, axis=1), uneven(X_test) == 1.0
    assert width[loud].mean() > 1.4 * width[~loud].mean()


def test_intervals_are_nested_around_the_prediction():
    X, y, X_test, _ = draw(even, n_train=300, n_test=200)
    model = EvolvingRegressor(**FAST).fit(X, y)
    intervals = [model.predict_interval(X_test, coverage) for coverage in (0.2, 0.5, 0.9, 0.999)]
    for interval in intervals:
        assert interval.shape == (200, 2)
        assert_allclose(interval.mean(axis=1), model.predict(X_test), rtol=1e-10, atol=1e-12)
    for narrow, wide in itertools.pairwise(intervals):
        assert (np.ptp(narrow, axis=1) <= np.ptp(wide, axis=1)).all()
    # Of 300 rows none says what one of a thousand does: all that can be predicted is inside.
    assert_allclose(np.ptp(intervals[-1], axis=1), 2.4 * np.ptp(y), rtol=1e-6)
    assert_array_equal(model.predict_interval(X_test), intervals[2])


@pytest.mark.parametrize("n_rows", [2, 20, 39])
def test_few_rows_have_finite_intervals(n_rows):
    X, y, X_test, y_test = draw(even, n_train=n_rows)
    interval = EvolvingRegressor(**FAST).fit(X, y).predict_interval(X_test, 0.8)
    assert np.isfinite(interval).all()
    assert inside(interval, y_test) > 0.5


def test_each_output_has_intervals():
    X, y = make_friedman1(n_samples=400, noise=1.0, random_state=0)
    targets = np.column_stack([y, -100.0 * y + 5.0])
    model = EvolvingRegressor(**FAST).fit(X, targets)
    interval = model.predict_interval(X, 0.8)
    assert interval.shape == (400, 2, 2)
    assert_allclose(interval.mean(axis=2), model.predict(X), rtol=1e-10)
    # The second target is the first in other units.
    assert_allclose(np.ptp(interval[:, 1], axis=1), 100 * np.ptp(interval[:, 0], axis=1), rtol=1e-6)
    # The rows are the training rows, which the members are nearer to than to others.
    assert (inside(interval, targets) > 0.8).all()


def test_outputs_of_a_few_real_rows():
    X, y = load_linnerud(return_X_y=True)
    assert EvolvingRegressor(**FAST).fit(X, y).predict_interval(X).shape == (20, 3, 2)


def test_intervals_of_frames_with_text_and_missing_cells():
    X, y, X_test, _ = draw(even, n_train=200, n_test=100)
    frames = []
    for part in (X, X_test):
        frame = pd.DataFrame(part, columns=["a", "b", "c", "d"])
        frame["e"] = pd.Categorical(np.where(part[:, 0] > 0, "up", "down"))
        frame.loc[::7, "b"] = np.nan
        frames.append(frame)
    model = EvolvingRegressor(**FAST).fit(frames[0], y)
    interval = model.predict_interval(frames[1])
    assert_allclose(interval.mean(axis=1), model.predict(frames[1]), rtol=1e-10, atol=1e-12)


@pytest.mark.cpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_intervals_survive_pickling_and_stay_small(dtype):
    X, y, X_test, _ = draw(even, n_train=2000, n_test=50)
    model = EvolvingRegressor(**FAST, dtype=dtype).fit(X, y)
    loaded = pickle.loads(pickle.dumps(model))
    assert_array_equal(loaded.predict_interval(X_test), model.predict_interval(X_test))
    assert len(pickle.dumps(model._intervals)) < 6000


def test_intervals_do_not_depend_on_threads_and_follow_a_warm_start():
    X, y, X_test, _ = draw(even, n_train=200, n_test=50)
    expected = EvolvingRegressor(**FAST).fit(X, y).predict_interval(X_test)
    two = EvolvingRegressor(**FAST, n_jobs=2).fit(X, y).predict_interval(X_test)
    assert_array_equal(two, expected)
    warm = EvolvingRegressor(**{**FAST, "n_generations": 3}, warm_start=True).fit(X, y)
    assert not np.array_equal(warm.predict_interval(X_test), expected)
    warm.set_params(n_generations=8).fit(X, y)
    assert_array_equal(warm.predict_interval(X_test), expected)


def test_weight_of_k_is_k_copies_where_nothing_is_held_out():
    X, y, X_test, _ = draw(even, n_train=100, n_test=50)
    weight = np.arange(100) % 3
    model = EvolvingRegressor(**FAST, validation_fraction=None)
    weighted = model.fit(X, y, sample_weight=weight).predict_interval(X_test)
    repeated = model.fit(X.repeat(weight, axis=0), y.repeat(weight)).predict_interval(X_test)
    # Two sums over rows in another order, and scores in single precision.
    assert_allclose(weighted, repeated, rtol=1e-5, atol=1e-5)


def test_intervals_around_what_another_loss_predicts():
    X, y, X_test, y_test = draw(even, n_test=2000)
    model = EvolvingRegressor(loss=torch.nn.functional.l1_loss, **FAST).fit(X, y)
    assert 0.75 < inside(model.predict_interval(X_test, 0.8), y_test) < 0.88


def test_another_loss_without_held_out_rows_raises():
    X, y, _, _ = draw(even, n_train=60)
    model = EvolvingRegressor(
        loss=torch.nn.functional.l1_loss, validation_fraction=None, **FAST
    ).fit(X, y)
    with pytest.raises(ValueError, match="predict_interval requires rows that members held out"):
        model.predict_interval(X)


@pytest.mark.parametrize("coverage", [0, 1.0, -0.5, 90, "0.9", None, math.nan])
def test_coverage_outside_raises(coverage):
    X, y, _, _ = draw(even, n_train=60)
    model = EvolvingRegressor(**FAST).fit(X, y)
    with pytest.raises(ValueError, match="coverage"):
        model.predict_interval(X, coverage)


def test_not_fitted_raises():
    with pytest.raises(NotFittedError):
        EvolvingRegressor().predict_interval([[1.0]])


def test_wrong_columns_raise():
    X, y, _, _ = draw(even, n_train=60)
    with pytest.raises(ValueError, match="4 features"):
        EvolvingRegressor(**FAST).fit(X, y).predict_interval(X[:, :2])


def test_probabilities_are_calibrated(monkeypatch):
    X, y = make_moons(3000, noise=0.6, random_state=0)
    parameters = {"n_members": 4, "n_generations": 15, "alpha": 0.001, "random_state": 0}
    model = EvolvingClassifier(**parameters).fit(X[:120], y[:120])
    monkeypatch.setattr(calibration, "_LOWEST", 1.0)
    plain = EvolvingClassifier(**parameters).fit(X[:120], y[:120])
    ratio = model.decision_function(X) / plain.decision_function(X)
    assert_allclose(ratio, ratio[0], rtol=1e-9)
    assert ratio[0] < 0.95
    assert_array_equal(model.predict(X), plain.predict(X))
    losses = [log_loss(y[120:], one.predict_proba(X[120:])) for one in (model, plain)]
    assert losses[0] < losses[1]
