"""The path of a fit, and smaller models from it."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from skevo import EvolvingClassifier, EvolvingRegressor
from skevo._path import Path


def path(n_nodes, losses, error=0.1):
    n = len(n_nodes)
    losses = np.array(losses, dtype=float)
    return Path(np.arange(n), np.array(n_nodes), losses, losses, np.full(n, error))


@pytest.fixture(scope="module")
def rows():
    X = np.random.default_rng(0).normal(size=(300, 4))
    noise = np.random.default_rng(1).normal(size=300)
    signal = X[:, 0] * X[:, 1] * X[:, 3] + np.sin(2 * X[:, 2]) + np.abs(X[:, 1] - X[:, 2])
    return X, signal + 0.1 * noise


@pytest.fixture(scope="module")
def model(rows):
    return EvolvingRegressor(n_members=3, n_generations=20, random_state=0).fit(*rows)


@pytest.mark.parametrize(
    ("nodes", "rule", "expected"),
    [
        (None, "best", 4),
        (7, "best", 3),
        (0, "best", 0),
        # Within 0.1 of 0.50: 0.55 with 7 nodes.
        (None, "one-standard-error", 3),
        # Within 0.1 of 0.55: 0.625 with 4 nodes.
        (7, "one-standard-error", 2),
        # Per node: log(2)/2, log(1.6)/2, log(1.14)/3; but 1.0 is more than 1.5 times 0.5.
        (None, "steepest", 2),
        (3, "steepest", 1),
        (0, "steepest", 0),
    ],
)
def test_rules_choose_as_they_say(nodes, rule, expected):
    found = path([0, 2, 4, 7, 12], [2.0, 1.0, 0.625, 0.55, 0.5])
    assert found.choose(nodes, rule) == expected


def test_one_standard_error_takes_fewest_nodes_even_of_a_later_model():
    assert path([0, 9, 4, 6], [2.0, 0.56, 0.55, 0.5]).choose(None, "one-standard-error") == 2


def test_a_model_that_a_later_one_beats_with_fewer_nodes_is_not_steep():
    # From 0 to 3 nodes the loss falls from 2 to 0.5, whatever came between.
    assert path([0, 5, 3, 8], [2.0, 0.9, 0.5, 0.49]).choose(None, "steepest") == 2


def test_wrong_choices_are_refused(model):
    with pytest.raises(ValueError, match="nodes must be >= 0, the smallest model, got -1"):
        model.select(nodes=-1)
    with pytest.raises(ValueError, match="rule must be one of"):
        model.select(rule="worst")
    with pytest.raises(ValueError, match="requires positive losses"):
        path([0, 2], [1.0, -1.0]).choose(None, "steepest")


def test_every_model_of_the_path_is_that_of_a_fit_that_stopped_there(rows, model):
    for place, generation in enumerate(model.path_["generation"][:-1]):
        shorter = EvolvingRegressor(n_members=3, n_generations=int(generation), random_state=0)
        shorter.fit(*rows)
        selected = model.select(nodes=int(model.path_["n_nodes"][place]))
        later = model.path_["n_nodes"][place + 1 :] <= model.path_["n_nodes"][place]
        if not later.any():
            # The average of the members, without the correction.
            heads = shorter._ensemble.network.weight[:3]
            assert torch.equal(selected._ensemble.network.weight, heads)


def test_the_best_of_the_path_is_the_fit(rows, model):
    best = model.select()
    assert_array_equal(best.predict(rows[0]), model.predict(rows[0]))
    assert best.formula_ == model.formula_
    assert len(pickle.dumps(best)) < 0.7 * len(pickle.dumps(model))


def test_a_selected_model_is_smaller_and_useful(rows, model):
    small = model.select(nodes=model.n_nodes_ // 2)
    assert small.n_nodes_ <= model.n_nodes_ // 2
    assert small.n_parameters_ < model.n_parameters_
    linear = model.select(nodes=0)
    assert linear.n_nodes_ == 0
    assert linear.score(*rows) < small.score(*rows) <= 1
    again = pickle.loads(pickle.dumps(small))
    assert_array_equal(again.predict(rows[0]), small.predict(rows[0]))
    assert "y[0] = " in small.formula_
    # The model itself is as it was.
    assert model.n_nodes_ > small.n_nodes_


def test_standard_error_is_that_of_the_mean_loss(rows):
    X, y = rows
    # Where no row is held out, it is that of the training rows.
    model = EvolvingRegressor(n_members=1, n_generations=0, validation_fraction=None).fit(X, y)
    loss = (y - model.predict(X)) ** 2 / y.var()
    expected = loss.std() / np.sqrt(len(y))
    assert model.history_["standard_error"][0] == pytest.approx(expected, rel=1e-6)


def test_a_classifier_has_a_path(rows):
    X, y = rows
    model = EvolvingClassifier(n_members=2, n_generations=6, random_state=0).fit(X, y > 0)
    small = model.select(rule="one-standard-error")
    assert small.n_nodes_ <= model.n_nodes_
    assert_array_equal(small.predict_proba(X).sum(axis=1).round(12), np.ones(len(X)))


def test_a_warm_start_keeps_the_path(rows):
    longer = EvolvingRegressor(n_members=2, n_generations=8, random_state=0).fit(*rows)
    model = EvolvingRegressor(n_members=2, n_generations=4, warm_start=True, random_state=0)
    model.fit(*rows).set_params(n_generations=8).fit(*rows)
    for name, column in longer.path_.items():
        assert_array_equal(model.path_[name], column)
