"""Relevance: heads without inputs against dense solutions, and what becomes of inputs that go."""

import numpy as np
import pytest
import reference
import torch
from builders import alone, crowd, random_network, rows_for, singles, take_rows
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from test_evolution import assert_consistent, make_grower

from skevo import EvolvingClassifier, EvolvingRegressor
from skevo.core.evolution import evolve
from skevo.core.heads import coefficients, fit_head
from skevo.core.losses import SquaredError
from skevo.core.moments import measure_moments
from skevo.core.population import Population
from skevo.core.relevance import (
    dependence,
    irrelevant_inputs,
    without_each,
    without_first,
)
from skevo.core.rows import MemoryRows
from skevo.core.training import train

ALPHA = 1.0


def fitted_crowd(n_outputs=1):
    """Return rows and members with optimal heads, and the curvature."""
    rows, population = crowd(n_outputs=n_outputs)
    alpha = torch.full_like(rows.total_weight, ALPHA)
    return rows, *fit_head(rows, population, SquaredError(), alpha, measure_moments(rows))


def dependent(topology, some):
    """Return the columns that depend on some inputs."""
    nodes = [
        topology.n_inputs + node
        for node in range(topology.n_nodes)
        if any(
            operand in some
            for other in reference.ancestors(topology, node)
            for operand in (int(topology.left[other]), int(topology.right[other]))
        )
    ]
    return sorted([*some, *nodes])


def test_columns_depend_on_the_inputs_that_are_among_their_ancestors():
    rows, population = crowd()
    found = dependence(population.wiring)
    for member, single in enumerate(singles(rows, population)):
        topology = single.population.network(0).topology
        for k in range(3):
            own = np.flatnonzero(found[member, k, single.columns])
            assert own.tolist() == dependent(topology, [k])
        empty = np.setdiff1d(np.arange(found.shape[2]), single.columns)
        assert not found[member][:, empty].any()


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_heads_without_inputs_are_those_that_are_fitted_without_them(order, n_outputs):
    rows, population, curvature = fitted_crowd(n_outputs)
    depends = dependence(population.wiring)[:, order]
    parts = depends, coefficients(population), curvature.inverse
    found = {"each": without_each(*parts), "first": without_first(*parts)}
    assert found["each"].shape == found["first"].shape == (4, 3, 13, n_outputs)
    for member, single in enumerate(singles(rows, population)):
        columns, weight = single.rows.columns[0].T.numpy(), single.rows.weight[0].numpy()
        target, topology = single.rows.target[0].T.numpy(), single.population.network(0).topology
        ridge = reference.ridge_of(columns, weight, ALPHA)
        for place in range(3):
            for way, gone in (("each", [order[place]]), ("first", order[: place + 1])):
                kept = np.setdiff1d(np.arange(columns.shape[1]), dependent(topology, gone))
                kept = np.append(0, kept + 1)
                slow = np.zeros((columns.shape[1] + 1, n_outputs))
                slow[kept] = reference.solve_head(
                    columns[:, kept[1:] - 1], target, weight, ridge[kept]
                )
                own = found[way][member, place]
                np.testing.assert_allclose(own[single.augmented], slow, rtol=1e-8, atol=1e-10)
                # Exactly zero, and in empty slots, too.
                others = np.setdiff1d(np.arange(len(own)), single.augmented[kept])
                assert (own[others] == 0).all()


def test_inverse_that_rounding_made_indefinite_says_nothing():
    _, population, curvature = fitted_crowd()
    parts = dependence(population.wiring), coefficients(population), -curvature.inverse
    assert without_each(*parts) is None
    assert without_first(*parts) is None


def judge(noise, n_inputs=4, n=200, gone=(), outlier=0.0):
    """Return what held-out rows say of a linear model of which only two inputs matter."""
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(size=(n_inputs, 2 * n)))
    target = (inputs[0] - 2.0 * inputs[1] + noise * torch.from_numpy(rng.normal(size=2 * n)))[None]
    target[0, n] += outlier
    empty = np.isin(np.arange(n_inputs), gone)[None]
    population = alone(random_network(0, n_inputs=n_inputs, n_nodes=0))
    population = population.without(np.zeros((1, 0), dtype=bool), empty)
    training, held = (
        rows_for(population, target[:, some], inputs[:, some])
        for some in (slice(n), slice(n, None))
    )
    assert (training.columns[0, list(gone)] == 0).all()
    alpha = torch.full_like(training.total_weight, 1e-6)
    population, curvature = fit_head(
        training, population, SquaredError(), alpha, measure_moments(training)
    )
    return irrelevant_inputs(
        held, population, SquaredError(), curvature, None, np.arange(n_inputs)[None]
    )


def test_inputs_that_held_out_rows_do_not_miss_go_together():
    found = judge(3.0, n_inputs=60)
    gone = np.flatnonzero(found.inputs[0])
    assert len(gone) > 30
    assert gone.min() > 1
    assert (found.coefficients[0, gone + 1] == 0).all()
    assert found.nodes.shape == (1, 0)


def test_one_held_out_row_does_not_decide():
    assert judge(0.0) is None
    assert judge(0.01, outlier=1e3) is None


def test_last_input_stays():
    assert judge(3.0, n_inputs=60, gone=range(1, 60)) is None
    # Of those that are left, none matters.
    found = judge(3.0, n_inputs=60, gone=(0, 1))
    assert not found.inputs[0, :2].any()
    assert 30 < found.inputs.sum() < 58


def test_columns_of_a_table_go_for_those_members_that_see_them():
    rng = np.random.default_rng(0)
    # The first three of five columns, and the last three.
    names = np.array([[0, 1, 2], [2, 3, 4]])
    table = torch.from_numpy(rng.normal(size=(5, 400)))
    target = (table[2] + 0.5 * torch.from_numpy(rng.normal(size=400)))[None]

    def rows(some):
        inputs = torch.stack([table[:, some][own] for own in names])
        held = MemoryRows(
            inputs, target[:, some].expand(2, -1, -1), torch.ones(2, inputs.shape[2]).double()
        )
        held.assign(population)
        return held

    population = Population.of([random_network(0, n_inputs=3, n_nodes=0)] * 2)
    training = rows(slice(20))
    alpha = torch.full_like(training.total_weight, 1e-6)
    population, curvature = fit_head(
        training, population, SquaredError(), alpha, measure_moments(training)
    )
    found = irrelevant_inputs(
        rows(slice(20, None)), population, SquaredError(), curvature, None, names
    )
    assert found.inputs.tolist() == [[True, True, False], [False, True, True]]
    kept = found.coefficients[:, 1:, 0] != 0
    assert kept.tolist() == [[False, False, True], [True, False, False]]


@pytest.mark.parametrize("blindly", [False, True])
def test_inputs_that_went_are_not_read(blindly):
    grower = make_grower(
        network=random_network(0, n_inputs=3, n_nodes=0), n_candidates=1 if blindly else 250
    )
    train(grower)
    grower.remove(np.zeros((1, 0), dtype=bool), np.array([[False, True, False]]))
    for _ in range(10):
        evolve(grower)
        train(grower)
    network = grower.population.network(0)
    assert network.n_nodes > 0
    assert network.heard_inputs.tolist() == [True, False, True]
    assert_consistent(grower)


@pytest.fixture(scope="module")
def table():
    """Five inputs that matter and 25 that do not."""
    return make_friedman1(400, 30, noise=1.0, random_state=1)


def heard(model):
    """Return the inputs that a fitted model depends on."""
    return np.flatnonzero(model._ensemble.network.heard_inputs).tolist()


def test_model_does_not_depend_on_inputs_that_do_not_matter(table):
    X, y = table
    model = EvolvingRegressor(random_state=0).fit(X, y)
    assert set(range(5)) <= set(heard(model))
    assert len(heard(model)) < 10
    assert np.flatnonzero(model.feature_importances_).tolist() == heard(model)
    shuffled = X.copy()
    gone = np.setdiff1d(np.arange(30), heard(model))
    shuffled[:, gone] = np.random.default_rng(0).normal(size=(len(X), len(gone)))
    np.testing.assert_array_equal(model.predict(X), model.predict(shuffled))


@pytest.mark.parametrize(
    "parameters",
    [
        {"loss": "absolute_error"},
        {"quantile": 0.5, "loss": "quantile"},
        {"n_members": 12},
        {"monotonic_constraints": [0, 0, 0, 1, 1] + 25 * [0]},
    ],
)  # fmt: skip
def test_inputs_go_whatever_the_loss_and_the_members(table, parameters):
    X, y = table
    model = EvolvingRegressor(random_state=0, **parameters).fit(X, y)
    assert {0, 1, 3} <= set(heard(model))
    assert len(heard(model)) < 20


@pytest.mark.parametrize(
    "parameters",
    [
        {"validation_fraction": None},
        {"solver": "adam", "n_members": 1},
        {"pruning": "std"},
        {"n_generations": 9},
    ],
)
def test_inputs_stay_where_nothing_is_known_of_them(table, parameters):
    X, y = table
    model = EvolvingRegressor(random_state=0, **{"n_generations": 15, **parameters}).fit(X, y)
    assert heard(model) == list(range(30))


def test_inputs_of_classes_stay(table):
    X, y = table
    model = EvolvingClassifier(n_generations=15, random_state=0).fit(X, y > np.median(y))
    assert heard(model) == list(range(30))


@pytest.mark.parametrize("first", [9, 13])
def test_growth_that_goes_on_is_that_which_did_not_stop(table, first):
    """Also where inputs go in the first generation after it was interrupted."""
    X, y = table
    whole = EvolvingRegressor(n_generations=24, n_iter_no_change=None, random_state=0)
    parts = clone(whole).set_params(n_generations=first, warm_start=True)
    whole.fit(X, y)
    parts.fit(X, y)
    assert (len(heard(parts)) < 30) == (first > 10)
    parts.set_params(n_generations=24).fit(X, y)
    assert len(heard(whole)) < 30
    assert heard(parts) == heard(whole)
    np.testing.assert_array_equal(parts.predict(X), whole.predict(X))


def test_model_of_a_wide_table_does_not_depend_on_inputs_that_do_not_matter():
    X, y = make_friedman1(400, 320, noise=0.5, random_state=0)
    model = EvolvingRegressor(random_state=0).fit(X, y)
    assert set(range(5)) <= set(heard(model))
    assert len(heard(model)) < 40


def test_heads_that_are_fitted_to_all_rows_do_without_them(table, monkeypatch):
    X, y = table
    take_rows(monkeypatch, 300)
    model = EvolvingRegressor(random_state=0).fit(X, y)
    assert set(range(5)) <= set(heard(model))
    assert len(heard(model)) < 20
