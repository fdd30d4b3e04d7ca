"""Monotonic constraints: on random networks, against SciPy's bounds, and as users set them."""

import numpy as np
import pandas as pd
import pytest
import torch
from builders import OPERATORS, crowd, normal, random_population
from scipy.optimize import lsq_linear, minimize
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV

from skevo import EvolvingClassifier, EvolvingRegressor
from skevo.core.heads import fit_head, objective, penalty_for
from skevo.core.losses import LogLoss, SquaredError
from skevo.core.moments import measure_moments
from skevo.core.monotone import DOWN, EITHER, STILL, UP, column_directions, node_directions
from skevo.core.operators import available_operators, get_operators, register_operator
from skevo.core.rows import MemoryRows

# Far beyond the training rows too.
GRID = np.concatenate([[-1e9, -100.0], np.linspace(-6, 6, 61), [100.0, 1e9]])
CONSTRAINTS = [1, -1, 0, 1]
QUICK = {"n_generations": 12, "n_members": 2, "random_state": 0}


def table(n=300, seed=0):
    """Return rows of a function that rises in columns 0 and 3 and falls in column 1, with noise."""
    draw = np.random.default_rng(seed)
    X = draw.normal(size=(n, 4))
    f = np.exp(0.5 * X[:, 0]) - 2 * np.tanh(2 * X[:, 1]) + np.sin(3 * X[:, 2])
    return X, f, f + draw.normal(size=n)


def steps(function, constraints=CONSTRAINTS, n=40):
    """Return by how much outputs change as one column goes up, by the column's constraint."""
    base = 2.0 * np.random.default_rng(7).normal(size=(n, len(constraints)))
    for column, sign in enumerate(constraints):
        rows = np.repeat(base, len(GRID), axis=0)
        rows[:, column] = np.tile(GRID, n)
        yield sign, np.diff(function(rows).reshape(n, -1), axis=1)


def assert_monotonic(function, constraints=CONSTRAINTS):
    for sign, step in steps(function, constraints):
        if sign:
            assert (sign * step >= -1e-12).all()


@pytest.mark.parametrize("name", available_operators())
def test_operators_go_the_way_they_say(name):
    (operator,) = get_operators([name])
    grid = torch.linspace(-4, 4, 201, dtype=torch.float64)
    values = operator(*torch.meshgrid(grid, grid, indexing="ij"))
    for axis, sign in enumerate(operator.monotonic):
        change = values.diff(dim=axis)
        ways = [way for way in (1, -1) if (way * change >= 0).all()]
        assert ways == ([sign] if sign else [])


def test_operator_that_is_not_monotonic_as_declared_is_refused():
    with pytest.raises(ValueError, match="not monotonic as declared"):
        register_operator("wave", torch.atan2, monotonic=(1, 1))
    with pytest.raises(ValueError, match="monotonic must be two of"):
        register_operator("wave", torch.atan2, monotonic=(2, 1))


def test_columns_go_the_way_that_is_found():
    found = set()
    for seed in range(20):
        draw = np.random.default_rng(seed)
        population = random_population(operators=OPERATORS)
        wiring = population.wiring
        constraints = draw.integers(-1, 2, size=(len(population), wiring.n_inputs))
        directions = column_directions(wiring, population.operators, constraints)
        inputs = normal(len(population), wiring.n_inputs, 50, seed=seed)
        # All constrained inputs go up, the way that the output must go up, at once.
        moved = inputs + torch.as_tensor(constraints)[..., None] * torch.rand(50)
        target, weight = torch.zeros(len(population), 1, 50), torch.ones(len(population), 50)
        before, after = (MemoryRows(part, target, weight) for part in (inputs, moved))
        before.assign(population)
        after.assign(population)
        change = after.columns - before.columns
        for way, holds in ((STILL, change == 0), (UP, change >= 0), (DOWN, change <= 0)):
            assert holds[torch.as_tensor(directions == way)].all()
        found |= set(directions[:, wiring.n_inputs :].ravel().tolist())
    assert found == {STILL, UP, DOWN, EITHER}


def test_directions_of_nodes_are_those_they_get_as_columns():
    population = random_population(operators=OPERATORS)
    wiring, constraints = population.wiring, np.array([[1, 0, -1]] * 4)
    columns = column_directions(wiring, population.operators, constraints)
    parts = wiring.operator, wiring.left, wiring.right
    found = node_directions(population.operators, *parts, columns)
    present = wiring.present
    assert np.array_equal(found[present], columns[:, wiring.n_inputs :][present])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("loss", [SquaredError(), LogLoss()], ids=["squared", "log"])
def test_head_is_the_best_of_those_whose_weights_have_their_signs(loss, seed):
    rows, population = crowd(loss)
    alpha, moments = torch.full((4,), 0.5, dtype=torch.float64), measure_moments(rows)
    n_columns = population.n_columns
    draw = np.random.default_rng(seed)
    directions = draw.choice(
        [STILL, UP, DOWN, EITHER], p=[0.4, 0.25, 0.25, 0.1], size=(4, n_columns)
    )
    found, curvature = fit_head(
        rows, population, loss, alpha, moments, n_steps=100, directions=torch.as_tensor(directions)
    )
    ridge = penalty_for(loss, moments.gram, alpha, torch.float64)
    value = objective(rows, found, loss, ridge)
    kept = (directions != STILL) & (found.weight[:, 0].numpy() == 0)
    assert kept.any()
    assert (curvature.gradient[:, 1:][torch.as_tensor(kept)] == 0).all()
    for member in range(4):
        weight = found.weight[member, 0].numpy()
        assert (weight * (directions[member] % 2) * np.sign(directions[member]) >= 0).all()
        assert (weight[directions[member] == EITHER] == 0).all()
        expected = best_value(rows, loss, ridge[member].numpy(), member, directions[member])
        assert float(value[member]) == pytest.approx(expected, rel=1e-6)


def best_value(rows, loss, ridge, member, directions):
    """Return the lowest objective, by SciPy."""
    columns = np.vstack([np.ones(rows.n_rows), rows.columns[member].numpy()])
    target, weight = rows.target[member, 0].numpy(), rows.weight[member].numpy()
    low = np.append(-np.inf, np.where(np.isin(directions, (UP, EITHER)), 0.0, -np.inf))
    high = np.append(np.inf, np.where(np.isin(directions, (DOWN, EITHER)), 0.0, np.inf))
    if isinstance(loss, SquaredError):
        # Bounds must be apart.
        matrix = np.vstack([columns.T * np.sqrt(weight)[:, None], np.diag(np.sqrt(ridge))])
        right = np.append(target * np.sqrt(weight), np.zeros(len(ridge)))
        return lsq_linear(matrix, right, (low, np.maximum(high, low + 1e-12)), tol=1e-14).cost

    def function(beta):
        output = beta @ columns
        value = weight @ (np.logaddexp(0.0, output) - target * output)
        residual = weight * (1.0 / (1.0 + np.exp(-output)) - target)
        return value + 0.5 * ridge @ beta**2, columns @ residual + ridge * beta

    bounds = list(zip(low, high, strict=True))
    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000, "maxfun": 100_000}
    start = np.zeros(len(ridge))
    return minimize(
        function, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    ).fun


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber", "quantile", "gamma"])
def test_regressor_is_monotonic(loss):
    X, _, y = table()
    y = np.exp(y / 4) if loss == "gamma" else y
    model = EvolvingRegressor(
        loss=loss, quantile=0.8, monotonic_constraints=CONSTRAINTS, **QUICK
    ).fit(X, y)
    assert model.n_nodes_ > 0
    assert_monotonic(model.predict)
    assert_monotonic(model.select(rule="steepest").predict)


def test_regressor_without_constraints_is_not():
    X, _, y = table()
    model = EvolvingRegressor(**QUICK).fit(X, y)
    with pytest.raises(AssertionError):
        assert_monotonic(model.predict)


@pytest.mark.parametrize("n_members", [1, 8])
def test_constraints_that_hold_do_not_cost_accuracy(n_members):
    X, _, y = table()
    new, expected, _ = table(1000, seed=1)
    free = EvolvingRegressor(n_members=n_members, random_state=0)
    bound = clone(free).set_params(monotonic_constraints=CONSTRAINTS)
    scores = [r2_score(expected, model.fit(X, y).predict(new)) for model in (free, bound)]
    assert scores[1] > scores[0] - 0.02
    assert_monotonic(bound.predict)


def test_constraint_against_the_data_leaves_the_column_out():
    X, _, y = table()
    model = EvolvingRegressor(monotonic_constraints=[-1, 1, 0, 0], **QUICK).fit(X, y)
    for sign, step in steps(model.predict, [-1, 1, 0, 0]):
        if sign:
            assert np.abs(step).max() < 0.2
    assert_monotonic(model.predict, [-1, 1, 0, 0])


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_classifier_is_monotonic(class_weight):
    X, _, y = table()
    model = EvolvingClassifier(
        monotonic_constraints=CONSTRAINTS, class_weight=class_weight, **QUICK
    ).fit(X, np.where(y > 1, "high", "low"))
    # The second class is "low".
    assert_monotonic(model.decision_function)
    assert_monotonic(lambda rows: model.predict_proba(rows)[:, 1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_rows_are_monotonic(dtype):
    X, _, y = table(21_000)
    model = EvolvingRegressor(
        monotonic_constraints=CONSTRAINTS, dtype=dtype, n_members=2, n_generations=4, random_state=0
    ).fit(X, y)
    assert_monotonic(model.predict)


def test_partial_fit_and_warm_start_are_monotonic():
    X, _, y = table()
    model = EvolvingRegressor(monotonic_constraints=CONSTRAINTS, n_members=2, random_state=0)
    for _ in range(4):
        model.partial_fit(X, y)
    assert_monotonic(model.predict)
    first = clone(model).set_params(warm_start=True, n_generations=5, n_iter_no_change=None)
    first.fit(X, y).set_params(n_generations=10).fit(X, y)
    once = clone(first).fit(X, y)
    assert np.array_equal(first.predict(X), once.predict(X))
    assert_monotonic(first.predict)


def test_a_start_from_a_model_that_is_not_monotonic():
    X, _, y = table()
    free = EvolvingRegressor(**QUICK).fit(X, y)
    model = EvolvingRegressor(init=free, monotonic_constraints=CONSTRAINTS, **QUICK).fit(X, y)
    assert_monotonic(model.predict)


def test_blind_mutation_and_no_generation_are_monotonic():
    X, _, y = table()
    parameters = {"monotonic_constraints": CONSTRAINTS, "random_state": 0}
    blind = EvolvingRegressor(
        operators=("add", "mul", "max"), n_candidates=1, pruning="std", n_members=1,
        n_generations=40, n_iter_no_change=None, **parameters,
    )  # fmt: skip
    linear = EvolvingRegressor(n_generations=0, **parameters)
    for model in (blind, linear):
        assert_monotonic(model.fit(X, y).predict)


def test_frames_with_names_missing_cells_and_categories():
    X, _, y = table()
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"]).astype({"a": float})
    frame["town"] = pd.Categorical(np.where(X[:, 2] > 0, "Bonn", "Rome"))
    frame.loc[::7, "c"] = np.nan
    model = EvolvingRegressor(monotonic_constraints={"a": 1, "b": -1}, **QUICK).fit(frame, y)

    def predict(rows):
        new = pd.DataFrame(rows, columns=["a", "b", "c", "d"])
        return model.predict(new.assign(town=pd.Categorical(["Bonn"] * len(new))))

    assert_monotonic(predict, [1, -1, 0, 0])


def test_constraints_can_be_searched():
    X, _, y = table(100)
    grid = {"monotonic_constraints": [None, CONSTRAINTS]}
    search = GridSearchCV(EvolvingRegressor(n_generations=3, n_members=1), grid, cv=2).fit(X, y)
    assert search.best_params_["monotonic_constraints"] in (None, CONSTRAINTS)


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ([1, 0], "for each of the 4 columns of X"),
        ([1, 0, 2, 0], "-1, 0 or 1"),
        ({"a": 1}, "no column of X has: a"),
    ],
)
def test_constraints_that_do_not_fit_are_refused(constraints, message):
    X, _, y = table(60)
    with pytest.raises(ValueError, match=message):
        EvolvingRegressor(monotonic_constraints=constraints).fit(X, y)


def test_constraints_that_cannot_be_had_are_refused():
    X, _, y = table(60)
    constrained = {"monotonic_constraints": CONSTRAINTS}
    with pytest.raises(ValueError, match="one target or two classes, got 2 outputs"):
        EvolvingRegressor(**constrained).fit(X, np.stack([y, y], axis=1))
    with pytest.raises(ValueError, match="one target or two classes, got 3 outputs"):
        EvolvingClassifier(**constrained).fit(X, np.arange(60) % 3)
    with pytest.raises(ValueError, match="requires solver='exact'"):
        EvolvingRegressor(solver="adam", **constrained).fit(X, y)
    with pytest.raises(ValueError, match=r"these are categories: \[3\]"):
        EvolvingRegressor(categorical_features=[3], **constrained).fit(
            np.column_stack([X[:, :3], np.arange(60) % 5]), y
        )
