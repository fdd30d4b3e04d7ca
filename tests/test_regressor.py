"""EvolvingRegressor as users use it."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_linnerud, make_friedman1
from sklearn.ensemble import BaggingRegressor, HistGradientBoostingRegressor, StackingRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skevo import EvolvingRegressor, register_operator
from skevo.core import operators

FAST = {"n_members": 2, "n_generations": 8, "random_state": 0}


def signed_square(a, b):
    return a * b.abs()


@pytest.fixture
def signed():
    operator = register_operator("signed_square", signed_square, "{a} * |{b}|", constant="none")
    yield operator
    del operators._REGISTRY["signed_square"]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 10.0])
def test_fit_no_generations_equals_ridge(alpha, weighted):
    X, y = load_diabetes(return_X_y=True)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y)) if weighted else None
    model = EvolvingRegressor(
        n_generations=0, alpha=alpha, n_members=1, validation_fraction=None
    ).fit(X, y, sample_weight=weight)
    columns = model._scaling(X)
    ridge = make_pipeline(StandardScaler(), Ridge(alpha)).fit(
        columns, y, standardscaler__sample_weight=weight, ridge__sample_weight=weight
    )
    # Two solvers of one system of condition number 1e4 (two of the columns are nearly collinear).
    assert_allclose(model.predict(X), ridge.predict(columns), rtol=1e-8)


def test_fit_friedman_beats_boosted_trees():
    X, y = make_friedman1(n_samples=400, noise=0.5, random_state=0)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    model = EvolvingRegressor(n_members=2, n_generations=40, random_state=0).fit(X_train, y_train)
    trees = HistGradientBoostingRegressor(random_state=0).fit(X_train, y_train)
    assert model.score(X_test, y_test) > max(0.95, trees.score(X_test, y_test))


@pytest.mark.parametrize(
    "function",
    [lambda a, b, c: a * b / c, lambda a, b, c: a * np.exp(-((b - c) ** 2))],
    ids=["ratio", "bell"],
)
def test_fit_formula_of_few_columns_found(function):
    rng = np.random.default_rng(0)
    X = rng.uniform(1, 5, (600, 3))
    y = function(*X.T)
    model = EvolvingRegressor(n_members=1, n_generations=40, random_state=0).fit(X[:400], y[:400])
    assert model.score(X[400:], y[400:]) > 0.99


def test_fit_multi_output_shares_nodes():
    X, y = make_friedman1(n_samples=300, noise=0.1, random_state=0)
    targets = np.column_stack([y, -2.0 * y + 5.0, X[:, 3]])
    model = EvolvingRegressor(**FAST).fit(X, targets)
    prediction = model.predict(X)
    assert prediction.shape == targets.shape
    assert model.score(X, targets) > 0.95
    lines = model.formula_.splitlines()
    assert [line.split(" = ")[0] for line in lines] == [
        "y0[0]", "y1[0]", "y2[0]", "y0[1]", "y1[1]", "y2[1]",
        "y0[rest]", "y1[rest]", "y2[rest]", "y0", "y1", "y2",
    ]  # fmt: skip
    assert lines[-1].startswith("y2 = mean(y2[0], y2[1]) + clip(y2[rest], -")
    # One head per output and member over the same nodes, and one per output for the correction.
    assert model._ensemble.network.weight.shape == (9, 10 + model.n_nodes_)


def test_member_that_goes_astray_is_not_heard():
    X, y = make_friedman1(n_samples=200, noise=0.1, random_state=0)
    model = EvolvingRegressor(**{**FAST, "n_members": 8}).fit(X, y)
    assert model.formula_.splitlines()[-1].startswith("y = midmean(y[0], y[1], ")
    before = model.predict(X)
    model._ensemble.network.bias[3] += 1e6
    # It is left out, and the one that it takes the place of at the upper end comes in.
    assert np.abs(model.predict(X) - before).max() < 0.25 * y.std()


def test_fit_multi_output_real_data_finite():
    X, y = load_linnerud(return_X_y=True)
    model = EvolvingRegressor(**FAST).fit(X, y)
    assert np.isfinite(model.predict(X)).all()


def test_fit_constant_target_predicts_it():
    X, _ = load_diabetes(return_X_y=True)
    model = EvolvingRegressor(**FAST).fit(X, np.full(len(X), 3.5))
    assert_allclose(model.predict(X), 3.5, rtol=1e-12)


@pytest.mark.parametrize(
    "labels",
    [["a", "b"] * 20, np.array(["a", "b"] * 20, dtype=object), pd.Series(["a", "b"] * 20)],
    ids=["list", "objects", "series"],
)
def test_labels_are_refused_with_the_name_of_the_classifier(labels):
    X, y = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40.0)
    model = EvolvingRegressor(n_members=1, n_generations=1)
    message = "y must be numbers, got the text 'a'; EvolvingClassifier takes labels"
    with pytest.raises(ValueError, match=message):
        model.fit(X, labels)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, X_val=X, y_val=labels)


def test_numbers_that_are_objects_or_text_are_numbers():
    X, y = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40.0)
    model = EvolvingRegressor(n_members=1, n_generations=1, random_state=0)
    expected = model.fit(X, y).predict(X)
    for same in (y.astype(object), np.array([*map(str, y)], dtype=object)):
        assert_array_equal(model.fit(X, same).predict(X), expected)


def test_predict_far_away_stays_in_range():
    X, y = load_diabetes(return_X_y=True)
    model = EvolvingRegressor(**FAST).fit(X, y)
    prediction = model.predict(1e6 * X)
    margin = 0.1 * np.ptp(y)
    assert np.isfinite(prediction).all()
    assert prediction.min() >= y.min() - margin
    assert prediction.max() <= y.max() + margin


@pytest.mark.parametrize("low", [True, False])
def test_predictions_end_where_many_targets_do(low):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (300, 2))
    # So noisy that nothing but a tenth of the range is added to it.
    whole = 3 * X[:, 0] + X[:, 1] + rng.normal(size=300)
    y = np.clip(whole, -1.5, np.inf) if low else np.clip(whole, -np.inf, 1.5)
    model = EvolvingRegressor(n_members=2, n_generations=3, random_state=0).fit(X, y)
    predicted = model.predict(4 * X)
    margin = 0.1 * np.ptp(y)
    assert_allclose(predicted.min(), y.min() - margin * (not low))
    assert_allclose(predicted.max(), y.max() + margin * low)


def test_fit_own_loss_learns_quantile():
    X, y = load_diabetes(return_X_y=True)

    def pinball(prediction, target):
        error = target - prediction
        return torch.maximum(0.9 * error, -0.1 * error)

    model = EvolvingRegressor(
        loss=pinball, n_members=1, n_generations=40, learning_rate=0.03, random_state=0
    ).fit(X, y)
    assert 0.8 < (y <= model.predict(X)).mean() < 0.97


def test_fit_loss_of_user_units_gets_them():
    X, y = load_diabetes(return_X_y=True)
    seen = []

    def loss(prediction, target):
        seen.append((float(target.min()), float(target.max())))
        return (prediction - target).square()

    EvolvingRegressor(loss=loss, n_members=1, n_generations=1, random_state=0).fit(X, y)
    assert_allclose(min(low for low, _ in seen), y.min(), rtol=1e-6)
    assert_allclose(max(high for _, high in seen), y.max(), rtol=1e-6)


def test_fit_exact_solver_with_callable_raises():
    X, y = load_diabetes(return_X_y=True)
    with pytest.raises(ValueError, match="solver='exact' requires a named loss"):
        EvolvingRegressor(loss=torch.nn.functional.mse_loss, solver="exact").fit(X, y)


def test_fit_own_operator_is_used(signed):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = X[:, 0] * np.abs(X[:, 1])
    model = EvolvingRegressor(operators=("mul", signed), **FAST).fit(X, y)
    assert model.score(X, y) > 0.99
    assert "|x1|" in model.formula_ or "* |" in model.formula_


def test_formula_uses_column_names():
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    model = EvolvingRegressor(n_members=1, n_generations=5, max_nodes=3, random_state=0).fit(X, y)
    assert_array_equal(model.feature_names_in_, X.columns)
    assert model.formula_.startswith("y = ")
    assert "bmi" in model.formula_
    assert "\n" not in model.formula_


@pytest.mark.parametrize("operator", sorted(set(operators.available_operators()) - {"add", "sub"}))
def test_formula_evaluates_to_prediction(operator):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.uniform(1, 5, (200, 2)), columns=["mass", "speed"])
    y = 0.5 * X["mass"] * X["speed"] ** 2 + np.sin(2 * X["speed"])
    model = EvolvingRegressor(
        operators=(operator,), n_members=1, n_generations=5, max_nodes=4,
        validation_fraction=None, random_state=0,
    ).fit(X, y)  # fmt: skip
    assert model.n_nodes_ > 0
    formula = model.formula_.removeprefix("y = ").replace("^", "**")
    functions = {
        "exp": np.exp,
        "tanh": np.tanh,
        "sin": np.sin,
        "max": np.maximum,
        "min": np.minimum,
        "relu": lambda z: np.maximum(z, 0.0),
        "sigmoid": lambda z: 1.0 / (1.0 + np.exp(-z)),
    }
    value = eval(formula, {**functions, **{name: X[name].to_numpy() for name in X}})
    # The formula's numbers are rounded to four digits, some of them inside steep functions.
    assert_allclose(value, model._output(X)[:, 0], rtol=0, atol=0.02 * np.ptp(y))


def test_grid_search_over_pipeline_with_frame():
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    X = X.assign(sex=np.where(X["sex"] > 0, "f", "m"))[:200]
    columns = make_column_transformer(
        (OneHotEncoder(drop="if_binary"), ["sex"]), remainder="passthrough"
    )
    search = GridSearchCV(
        make_pipeline(columns, EvolvingRegressor(**FAST)),
        {"evolvingregressor__max_nodes": [0, 10]},
        cv=2,
        n_jobs=2,
        error_score="raise",
    ).fit(X, y[:200])
    assert search.best_score_ > 0.3


def test_cross_val_score_real_data():
    X, y = load_diabetes(return_X_y=True)
    assert cross_val_score(EvolvingRegressor(**FAST), X, y, cv=3).mean() > 0.4


def test_bagging_real_data():
    X, y = load_diabetes(return_X_y=True)
    model = BaggingRegressor(EvolvingRegressor(**FAST), n_estimators=3, random_state=0)
    assert model.fit(X[:300], y[:300]).score(X[300:], y[300:]) > 0.3


def test_stacking_real_data():
    X, y = load_diabetes(return_X_y=True)
    model = StackingRegressor([("evolving", EvolvingRegressor(**FAST)), ("ridge", Ridge())], cv=2)
    assert model.fit(X[:300], y[:300]).score(X[300:], y[300:]) > 0.3


@pytest.mark.parametrize(
    ("n_rows", "parameters", "expected"),
    [
        (4100, {}, 45),
        (4100, {"n_generations": 12}, 12),
        (4100, {"n_iter_no_change": 4}, 4),
        (4100, {"n_members": 1}, 15),
        (300, {}, 10),
    ],
)
def test_noise_alone_takes_the_least_of_generations(n_rows, parameters, expected):
    X = np.random.default_rng(0).normal(size=(n_rows, 2))
    y = np.random.default_rng(1).normal(size=n_rows)
    model = EvolvingRegressor(**{"n_members": 2, "random_state": 0, **parameters}).fit(X, y)
    assert model.n_iter_ == expected


def test_fit_codes_in_single_precision_sums_are_not_quite_definite():
    # Steps of nodes on codes are near-copies of each other: rounding is above the least penalty.
    rng = np.random.default_rng(0)
    X = rng.integers(-1, 2, size=(5000, 10)).astype(float)
    X[:, 0] = np.sign(X[:, 0] + 0.5)
    mean = np.where(X[:, 0] > 0, 3 + X[:, 1:4] @ [3.0, 2.0, 1.0], -3 + X[:, 4:7] @ [3.0, 2.0, 1.0])
    model = EvolvingRegressor(n_members=2, n_generations=30, dtype="float32", random_state=0)
    model.fit(X, mean + rng.normal(size=5000))
    assert np.square(model.predict(X) - mean).mean() < 0.01 * mean.var()
