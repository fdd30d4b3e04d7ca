"""Models that are given their rows part by part."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from skevo import EvolvingClassifier, EvolvingRegressor, _sample
from skevo._sample import take_in


def rows(n=1500, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    return X, X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + 0.1 * rng.normal(size=n)


def parts(X, y, n=10):
    return zip(np.array_split(X, n), np.array_split(y, n), strict=True)


# -- the sample ------------------------------------------------------------------------------------


def test_a_sample_has_all_rows_until_there_are_too_many(monkeypatch):
    monkeypatch.setattr(_sample, "MOST_ROWS", 50)
    X = np.arange(70.0)[:, None]
    first = take_in(None, X[:30], X[:30, 0], np.ones(30), 0)
    assert_array_equal(first.X, X[:30])
    both = take_in(first, X[30:], X[30:, 0], np.full(40, 2.0), 1)
    assert len(both.X) == len(both.y) == len(both.weight) == 50
    assert_array_equal(both.X[:, 0], both.y)
    assert_array_equal(both.weight, np.where(both.y < 30, 1.0, 2.0))


def test_early_and_late_rows_are_as_likely(monkeypatch):
    monkeypatch.setattr(_sample, "MOST_ROWS", 20)
    counts = np.zeros(100)
    for seed in range(400):
        sample = None
        for part in range(10):
            y = np.arange(10 * part, 10 * part + 10)
            sample = take_in(sample, y[:, None] * 1.0, y, np.ones(10), 10 * seed + part)
        counts[sample.y] += 1
    # Each is there 80 times of 400, give or take 8.
    assert abs(counts - 80).max() < 5 * 8
    assert abs(counts[:50].sum() - 4000) < 5 * np.sqrt(2000)


# -- estimators ------------------------------------------------------------------------------------


def test_a_regressor_learns_part_by_part():
    X, y = rows()
    X_test, y_test = rows(seed=1)
    model = EvolvingRegressor(n_members=2, random_state=0)
    scores = [model.partial_fit(*part).score(X_test, y_test) for part in parts(X, y)]
    assert model.n_iter_ == 10
    assert scores[-1] > 0.9 > scores[0]
    whole = EvolvingRegressor(n_members=2, n_generations=10, random_state=0).fit(X, y)
    assert scores[-1] > whole.score(X_test, y_test) - 0.05


def test_rows_in_order_of_the_target_are_not_forgotten():
    X, y = rows()
    X_test, y_test = rows(seed=1)
    order = np.argsort(y)
    model = EvolvingRegressor(n_members=2, random_state=0)
    for part in parts(X[order], y[order]):
        model.partial_fit(*part)
    assert model.score(X_test, y_test) > 0.85


def test_a_classifier_learns_classes_that_come_later():
    X, y = rows()
    labels = np.array(["low", "mid", "high"])[np.digitize(y, [-0.5, 0.5])]
    order = np.argsort(labels)
    model = EvolvingClassifier(n_members=2, random_state=0)
    for number, part in enumerate(parts(X[order], labels[order])):
        model.partial_fit(*part, classes=["low", "mid", "high"] if number == 0 else None)
    assert_array_equal(model.classes_, ["high", "low", "mid"])
    assert model.score(X, labels) > 0.8


def test_wrong_classes_are_refused():
    X, y = rows(100)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        EvolvingClassifier().partial_fit(X, y > 0)
    with pytest.raises(ValueError, match="classes must be at least 2"):
        EvolvingClassifier().partial_fit(X, y > 0, classes=[True])
    model = EvolvingClassifier(n_members=1).partial_fit(X, y > 0, classes=[False, True])
    with pytest.raises(ValueError, match="not among the classes"):
        model.partial_fit(X, np.full(100, 7))


def test_frames_come_part_by_part():
    X, y = rows()
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["d"] = np.where(X[:, 3] > 0, "plus", "minus")
    frame.loc[::7, "a"] = np.nan
    model = EvolvingRegressor(n_members=2, random_state=0)
    for number in range(5):
        part = slice(300 * number, 300 * number + 300)
        model.partial_fit(frame[part], y[part])
    unknown = frame[:1].assign(d="neither")
    assert np.isfinite(model.predict(unknown)).all()
    assert "[d = plus]" in model._encoding.names(list("abcd"), ["y"])
    with pytest.raises(ValueError, match="feature names should match"):
        model.partial_fit(frame.rename(columns={"a": "z"}), y)


def test_weights_count():
    X, y = rows(400)
    weight = (np.arange(400) % 2).astype(float)
    model = EvolvingRegressor(n_members=2, random_state=0)
    half = EvolvingRegressor(n_members=2, random_state=0)
    for _ in range(2):
        model.partial_fit(X, np.where(weight, y, 1e6), weight)
        half.partial_fit(X[1::2], y[1::2])
    assert_array_equal(model.predict(X), half.predict(X))


def test_it_goes_on_from_a_fit_and_from_a_pickle():
    X, y = rows()
    model = EvolvingRegressor(n_members=2, n_generations=5, random_state=0).fit(X, y)
    before = model.score(X, y)
    again = pickle.loads(pickle.dumps(model))
    for _ in range(3):
        model.partial_fit(X, y)
    assert model.n_iter_ == 8
    assert model.score(X, y) > before
    again.partial_fit(X, y)
    again = pickle.loads(pickle.dumps(again))
    for _ in range(2):
        again.partial_fit(X, y)
    assert_array_equal(again.predict(X), model.predict(X))


def test_a_fit_starts_anew():
    X, y = rows(300)
    model = EvolvingRegressor(n_members=2, n_generations=3, random_state=0)
    expected = model.fit(X, y).predict(X)
    model.partial_fit(X, -y)
    assert_array_equal(model.fit(X, y).predict(X), expected)
    assert model._sample is None


def test_single_rows_are_taken_in():
    X, y = rows(60)
    model = EvolvingRegressor(n_members=1, random_state=0).partial_fit(X[:50], y[:50])
    for row in range(50, 53):
        model.partial_fit(X[row : row + 1], y[row : row + 1])
    assert len(model._sample.y) == 53


def test_a_loss_of_the_users_own_keeps_its_heads():
    import torch

    X, y = rows()
    model = EvolvingRegressor(
        loss=torch.nn.functional.l1_loss, n_members=1, batch_size=32, random_state=0
    )
    scores = [model.partial_fit(*part).score(X, y) for part in parts(X, y, 15)]
    assert scores[-1] > 0.6 > scores[0]
