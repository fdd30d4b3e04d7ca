"""EvolvingTransformer as a user meets it: in pipelines, on frames, and by the names it gives."""

import pickle
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import skops.io
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris, make_friedman1, make_moons
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skevo import EvolvingClassifier, EvolvingRegressor, EvolvingTransformer

QUICK = EvolvingRegressor(n_members=3, n_generations=10)


def quick(**parameters):
    """Return a transformer whose fit is short."""
    return EvolvingTransformer(**{"estimator": QUICK, "random_state": 0, **parameters})


@pytest.fixture
def table():
    """Numbers within three spreads, and a target that is far from linear."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.uniform(1.0, 3.0, (300, 4)), columns=["area", "b c", "rooms", "year"])
    y = X["area"] * X["b c"] + np.sin(3.0 * X["rooms"]) + 0.1 * rng.normal(size=len(X))
    return X, y.to_numpy()


@pytest.fixture
def flats():
    """A table with text and missing cells, and a target that needs them."""
    rng = np.random.default_rng(1)
    X = pd.DataFrame({"area": rng.uniform(20, 90, 300), "town": rng.choice(["Bonn", "Ulm"], 300)})
    y = X["area"] * (1.0 + (X["town"] == "Ulm")) + rng.normal(size=300)
    X.loc[::12, "area"] = None
    X["town"] = X["town"].where(rng.random(300) > 0.1, None)
    return X, y.to_numpy()


def evaluated(name, X):
    """Compute a column from its name and the columns of the table."""
    for place, column in enumerate(X.columns):
        name = name.replace(column, f"X.iloc[:, {place}].to_numpy()")
    functions = {
        "tanh": np.tanh, "sin": np.sin, "exp": np.exp, "max": np.maximum, "min": np.minimum,
        "sigmoid": lambda a: 1.0 / (1.0 + np.exp(-a)), "relu": lambda a: np.maximum(a, 0.0),
    }  # fmt: skip
    return eval(name.replace("^", "**"), {"X": X, **functions})


# -- columns and names -----------------------------------------------------------------------------


def test_columns_are_what_their_names_say(table):
    X, y = table
    evolved = EvolvingTransformer(passthrough=False, random_state=1).set_output(transform="pandas")
    Z = evolved.fit_transform(X, y)
    assert len(Z.columns) == evolved.n_columns_ > 5
    for name in Z:
        # Numbers in names are rounded to four digits, and steep steps magnify that.
        assert np.median(abs(evaluated(name, X) - Z[name])) < 0.01 * Z[name].std(), name


def test_columns_of_products_are_products(table):
    X, _ = table
    y = X["area"] * X["b c"]
    model = EvolvingRegressor(operators=("mul",), n_members=1, n_generations=1)
    evolved = quick(estimator=model, passthrough=False).fit(X, y)
    assert evolved.get_feature_names_out()[0] in ("area * b c", "b c * area")
    assert_allclose(evolved.transform(X)[:, 0], y, rtol=1e-12)


def test_the_table_comes_first_unless_it_is_left_out(table):
    X, y = table
    both, alone = quick().fit(X, y), quick(passthrough=False).fit(X, y)
    assert_array_equal(both.transform(X)[:, :4], X)
    assert list(both.get_feature_names_out()[:4]) == list(X.columns)
    assert both.transform(X).shape[1] == 4 + both.n_columns_
    assert alone.transform(X).shape[1] == alone.n_columns_


def test_text_and_missing_cells_become_numbers(flats):
    X, y = flats
    evolved = quick().set_output(transform="pandas").fit(X, y)
    Z = evolved.transform(X)
    first = ["area", "missing(area)", "missing(town)", "[town = Bonn]", "[town = Ulm]"]
    assert list(Z.columns[:5]) == first
    assert evolved.n_columns_ > 0
    assert np.isfinite(Z.to_numpy()).all()
    assert_array_equal(Z["area"], X["area"].fillna(X["area"].median()))
    assert_array_equal(Z["[town = Ulm]"], X["town"] == "Ulm")
    as_polars = pl.DataFrame({name: X[name].astype(object).where(X[name].notna(), None).tolist()
                              for name in X})  # fmt: skip
    assert_array_equal(quick().fit_transform(as_polars, y), Z)


@pytest.mark.parametrize(("output", "kind"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)])
def test_output_can_be_a_frame(table, output, kind):
    X, y = table
    evolved = quick().set_output(transform=output)
    Z = evolved.fit_transform(X[::-1], y[::-1])
    assert isinstance(Z, kind)
    assert list(Z.columns) == list(evolved.get_feature_names_out())
    assert_array_equal(Z.to_numpy(), quick().fit(X[::-1], y[::-1]).transform(X[::-1]))
    if output == "pandas":
        assert_array_equal(Z.index, X.index[::-1])


def test_names_are_unique_whatever_the_columns_are_called(table):
    X, y = table
    # A column of the table that is called as the formula of others, whichever comes first.
    X = X.rename(columns={"rooms": "area * b c", "year": "b c * area"})
    model = EvolvingRegressor(operators=("mul",), n_members=1, n_generations=1)
    evolved = quick(estimator=model).set_output(transform="polars").fit(X, X["area"] * X["b c"])
    names = evolved.transform(X).columns
    assert names[:4] == list(X.columns)
    assert names[4] in ("area * b c #2", "b c * area #2")
    doubled = ["a", "a", "b", "a #2"]
    names = quick().fit(X.to_numpy(), y).get_feature_names_out(doubled)
    assert list(names[:4]) == ["a", "a #2", "b", "a #2 #2"]
    assert len(set(names)) == len(names)


def test_names_follow_the_names_that_are_given(table):
    X, y = table
    evolved = quick().fit(X.to_numpy(), y)
    assert list(evolved.get_feature_names_out()[:4]) == ["x0", "x1", "x2", "x3"]
    given = evolved.get_feature_names_out(["p", "q", "r", "s"])
    assert list(given[:4]) == ["p", "q", "r", "s"]
    assert not any("x0" in name for name in given)
    with pytest.raises(ValueError, match="length equal to number of features"):
        evolved.get_feature_names_out(["p"])
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        quick().fit(X, y).get_feature_names_out(["p", "q", "r", "s"])


@pytest.mark.parametrize("most", [1, 2])
def test_formulas_are_as_short_as_is_asked_for(table, most):
    X, y = table
    model = EvolvingRegressor(operators=("mul", "div"), n_members=2, n_generations=8)
    evolved = quick(estimator=model, max_operators=most, passthrough=False).fit(X, y)
    lengths = [len(re.findall(r" [*/] ", name)) for name in evolved.get_feature_names_out()]
    assert max(lengths) == most


# -- near-copies -----------------------------------------------------------------------------------


def correlations(Z, n_table, weight=None):
    """Return the largest correlation of an evolved column with any other column."""
    covariance = np.cov(Z.T, aweights=weight)
    deviation = np.sqrt(np.diag(covariance))
    found = np.abs(covariance / np.outer(deviation, deviation))
    np.fill_diagonal(found, 0.0)
    return found[n_table:].max()


@pytest.mark.parametrize("passthrough", [True, False])
@pytest.mark.parametrize("most", [0.95, 0.7])
def test_no_column_is_a_near_copy_of_another(table, most, passthrough):
    X, y = table
    weight = np.random.default_rng(2).uniform(0.1, 3.0, len(y))
    evolved = quick(max_correlation=most, passthrough=passthrough)
    Z = evolved.fit_transform(X, y, sample_weight=weight)
    assert evolved.n_columns_ > 3
    assert correlations(Z, 4 if passthrough else 0, weight) <= most + 1e-6


def test_copies_in_the_table_lead_to_no_copies_among_evolved_columns(table):
    X, y = table
    rng = np.random.default_rng(3)
    copies = X + 1e-3 * rng.normal(size=X.shape)
    doubled = pd.concat([X, copies.add_suffix(" again")], axis=1)
    evolved = quick()
    Z = evolved.fit_transform(doubled, y)
    assert_array_equal(Z[:, :8], doubled)
    assert evolved.n_columns_ > 3
    assert correlations(Z, 8) <= 0.95 + 1e-6


# -- in pipelines ----------------------------------------------------------------------------------


def test_ridge_sees_what_it_could_not():
    X, y = make_friedman1(600, noise=0.5, random_state=0)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    alone = make_pipeline(StandardScaler(), Ridge()).fit(X, y).score(X_test, y_test)
    evolved = make_pipeline(quick(), StandardScaler(), Ridge()).fit(X, y)
    assert alone < 0.8 < 0.9 < evolved.score(X_test, y_test)


def test_logistic_regression_sees_what_it_could_not():
    X, y = make_moons(600, noise=0.1, random_state=0)
    X, X_test, y, y_test = train_test_split(X, np.array(["up", "down"])[y], random_state=0)
    alone = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    evolved = make_pipeline(quick(estimator=None), StandardScaler(), LogisticRegression())
    evolved.fit(X, y)
    assert alone.score(X_test, y_test) < 0.9 < 0.97 < evolved.score(X_test, y_test)


def test_boosting_sees_what_it_could_not():
    X = np.random.default_rng(0).uniform(-1.0, 1.0, (800, 6))
    y = X[:, 0] * X[:, 1] + X[:, 2] * X[:, 3]
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    alone = HistGradientBoostingRegressor(random_state=0).fit(X, y).score(X_test, y_test)
    evolved = make_pipeline(quick(), HistGradientBoostingRegressor(random_state=0)).fit(X, y)
    assert evolved.score(X_test, y_test) > alone + 0.05


def test_its_parameters_can_be_searched(table):
    X, y = table
    grid = {
        "evolvingtransformer__max_columns": [1, 20],
        "evolvingtransformer__estimator__max_nodes": [2, 50],
    }
    search = GridSearchCV(make_pipeline(quick(), StandardScaler(), Ridge()), grid, cv=2)
    search.fit(X, y)
    assert search.best_params_["evolvingtransformer__max_columns"] == 20
    assert search.best_estimator_[0].n_columns_ > 1


def test_it_can_transform_some_of_the_columns(table):
    X, y = table
    some = make_column_transformer((quick(), ["area", "b c"]), remainder="passthrough")
    Z = some.set_output(transform="pandas").fit(X, y).transform(X)
    assert {"evolvingtransformer__area", "remainder__rooms"} <= set(Z.columns)
    assert Z.shape[1] == 4 + some.named_transformers_["evolvingtransformer"].n_columns_


def test_weights_reach_it_in_a_pipeline(table):
    X, y = table
    weight = np.random.default_rng(4).uniform(0.1, 3.0, len(y))
    both = {"evolvingtransformer__sample_weight": weight, "ridge__sample_weight": weight}
    pipeline = make_pipeline(quick(), Ridge()).fit(X, y, **both)
    Z = quick().fit_transform(X, y, sample_weight=weight)
    assert_array_equal(pipeline.predict(X), Ridge().fit(Z, y, sample_weight=weight).predict(Z))


# -- targets ---------------------------------------------------------------------------------------

TARGETS = {
    "text": (lambda y: np.where(y > 5.0, "high", "low"), EvolvingClassifier),
    "booleans": (lambda y: y > 5.0, EvolvingClassifier),
    "few whole numbers": (lambda y: np.digitize(y, [3.0, 5.0]), EvolvingClassifier),
    "whole numbers as floats": (lambda y: np.round(y), EvolvingClassifier),
    "a category": (lambda y: pd.Series(y > 5.0).astype("category"), EvolvingClassifier),
    "many whole numbers": (lambda y: np.round(20.0 * y).astype(int), EvolvingRegressor),
    "numbers": (lambda y: y, EvolvingRegressor),
    "a list": (list, EvolvingRegressor),
    "two outputs": (lambda y: np.column_stack([y, -(y**2)]), EvolvingRegressor),
    "whole outputs": (lambda y: np.column_stack([y > 5.0, y > 3.0]).astype(int), EvolvingRegressor),
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_target_says_which_estimator_finds_the_nodes(table, name):
    X, y = table
    target, expected = TARGETS[name]
    evolved = EvolvingTransformer(random_state=0).fit(X, target(y))
    assert type(evolved.estimator_) is expected
    assert evolved.n_columns_ > 0
    assert np.isfinite(evolved.transform(X)).all()


def test_labels_of_weight_zero_do_not_say_what_the_target_is(table):
    X, y = table
    target, weight = np.digitize(y, [4.0]).astype(float), np.ones(len(y))
    target[:30], weight[:30] = y[:30], 0.0
    evolved = EvolvingTransformer().fit(X, target, sample_weight=weight)
    assert type(evolved.estimator_) is EvolvingClassifier


def upper_expectile(prediction, target):
    rest = target - prediction
    return torch.where(rest > 0, 0.9, 0.1) * rest.square()


@pytest.mark.parametrize(
    "parameters",
    [
        {"loss": "huber"},
        {"loss": "quantile", "quantile": 0.8},
        {"loss": "poisson"},
        {"loss": "gamma"},
        {"loss": upper_expectile, "n_generations": 30, "learning_rate": 0.03, "batch_size": 32},
        {"dtype": "float32"},
    ],
    ids=["huber", "quantile", "poisson", "gamma", "function", "float32"],
)
def test_any_loss_of_the_estimator_finds_columns(table, parameters):
    X, y = table
    model = clone(QUICK).set_params(**parameters)
    evolved = quick(estimator=model).fit(X, y - y.min() + 0.1)
    assert evolved.n_columns_ > 0
    assert np.isfinite(evolved.transform(X)).all()


def test_another_estimator_is_refused(table):
    with pytest.raises(ValueError, match="must be an EvolvingRegressor or an EvolvingClassifier"):
        quick(estimator=Ridge()).fit(*table)


# -- few columns, and none -------------------------------------------------------------------------


def test_a_linear_target_needs_no_evolved_column(table):
    X, _ = table
    evolved = quick().fit(X, X @ [1.0, -2.0, 0.5, 3.0])
    assert evolved.n_columns_ == 0
    assert_array_equal(evolved.transform(X), X)
    assert list(evolved.get_feature_names_out()) == list(X.columns)


@pytest.mark.parametrize(
    "parameters",
    [{"max_columns": 0}, {"estimator": EvolvingRegressor(n_members=2, n_generations=0)}],
    ids=["max_columns", "n_generations"],
)
def test_no_column_at_all_is_warned_of(table, parameters):
    X, y = table
    evolved = quick(passthrough=False, **parameters)
    with pytest.warns(UserWarning, match="There is no column"):
        evolved.fit(X, y)
    assert evolved.transform(X).shape == (len(X), 0)
    assert len(evolved.get_feature_names_out()) == 0
    assert quick(**parameters).fit(X, y).transform(X).shape == X.shape


def test_there_are_no_more_columns_than_are_asked_for(table):
    X, y = table
    many = quick(max_columns=1000).fit(X, y)
    assert 3 < many.n_columns_ <= many.estimator_.n_nodes_
    few = quick(max_columns=3).fit(X, y)
    assert few.n_columns_ == 3
    assert_array_equal(few.transform(X), many.transform(X)[:, : 4 + 3])


def test_one_column_will_do():
    x = np.linspace(-2.0, 2.0, 200)[:, None]
    evolved = quick()
    Z = evolved.fit_transform(x, x[:, 0] ** 2)
    assert evolved.n_columns_ > 0
    assert Ridge().fit(Z, x[:, 0] ** 2).score(Z, x[:, 0] ** 2) > 0.95


def test_constant_columns_are_harmless(table):
    X, y = table
    X = X.assign(zero=0.0, large=1e12)
    evolved = quick().fit(X, y)
    assert evolved.n_columns_ > 3
    assert np.isfinite(evolved.transform(X)).all()


# -- new rows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_of_any_row_are_finite_and_near_those_of_training_rows(table, dtype):
    X, y = (part.astype(dtype) for part in (table[0].to_numpy(), table[1]))
    evolved = quick(passthrough=False).fit(X, y)
    Z = evolved.transform(X)
    # Divided by a spread below 1, the largest number would overflow.
    most = np.finfo(dtype).max / 1e6
    wild = np.array([[most, -most, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0], [np.nan] * 4, [-1e9] * 4])
    W = evolved.transform(wild.astype(dtype))
    assert W.dtype == dtype
    margin = 0.1001 * np.ptp(Z, axis=0)
    assert (Z.min(axis=0) - margin <= W).all()
    assert (Z.max(axis=0) + margin >= W).all()


def test_huge_units_stay_finite(table):
    X, y = table
    for unit in (1e-120, 1e120):
        evolved = quick().fit(X * unit, y)
        assert np.isfinite(evolved.transform(X * unit)).all()


def test_a_row_has_the_same_columns_alone_and_among_others(table):
    X, y = table
    evolved = quick().fit(X, y)
    alone = np.vstack([evolved.transform(X.iloc[[row]]) for row in range(5)])
    assert_allclose(alone, evolved.transform(X)[:5], rtol=1e-9)


def test_rows_are_refused_before_the_fit_and_with_other_columns(table):
    X, y = table
    with pytest.raises(NotFittedError):
        quick().transform(X)
    with pytest.raises(ValueError, match="feature names should match"):
        quick().fit(X, y).transform(X.rename(columns={"area": "size"}))


# -- weights and levels ----------------------------------------------------------------------------


def test_rows_of_weight_zero_are_as_good_as_removed(table):
    X, y = table
    weight = np.ones(len(y))
    weight[::5] = 0.0
    one, other = quick(), quick()
    Z = one.fit_transform(X, np.where(weight > 0, y, -1e3), sample_weight=weight)
    kept = weight > 0
    assert_array_equal(Z[kept], other.fit_transform(X[kept], y[kept]))
    assert_array_equal(Z, other.transform(X))


def test_a_weight_of_two_is_as_good_as_two_copies(table):
    X, y = table
    model = EvolvingRegressor(n_members=2, n_generations=4, validation_fraction=None)
    weight = np.where(np.arange(len(y)) % 3, 1, 2)
    one = quick(estimator=model).fit(X, y, sample_weight=weight)
    other = quick(estimator=model).fit(X.loc[X.index.repeat(weight)], np.repeat(y, weight))
    assert list(one.get_feature_names_out()) == list(other.get_feature_names_out())
    assert_allclose(one.transform(X), other.transform(X), rtol=1e-6)


@pytest.mark.parametrize("labels", [False, True])
def test_no_training_row_is_told_its_own_target(labels):
    rng = np.random.default_rng(0)
    code = np.repeat(np.arange(300), 3)
    X = pd.DataFrame({"zip": [f"{k:03}" for k in code], "b": rng.normal(size=900)})
    y = rng.normal(size=900) + X["b"] ** 2
    weight = np.ones(900)
    weight[:90] = 0.0
    target = np.where(y > 1, "high", "low") if labels else y
    model = EvolvingClassifier(n_members=2, n_generations=3) if labels else QUICK
    evolved = quick(estimator=model).set_output(transform="pandas")
    Z = evolved.fit_transform(X, target, sample_weight=weight)
    (name,) = [name for name in Z if name.startswith("mean(")]
    noise = (y - X["b"] ** 2)[90:]
    told = abs(np.corrcoef(Z[name][90:], noise)[0, 1])
    after = abs(np.corrcoef(evolved.transform(X)[name][90:], noise)[0, 1])
    assert told < 0.1 < 0.2 < after
    assert_allclose(Z[:90], evolved.transform(X[:90]), rtol=1e-12)


# -- as an object ----------------------------------------------------------------------------------


def test_a_fit_depends_on_the_seed_alone(table):
    X, y = table
    one, same, other = (quick(random_state=seed).fit(X, y) for seed in (0, 0, 1))
    assert_array_equal(one.transform(X), same.transform(X))
    assert list(one.get_feature_names_out()) == list(same.get_feature_names_out())
    assert list(one.get_feature_names_out()) != list(other.get_feature_names_out())


def test_the_estimator_that_is_passed_is_not_touched(table):
    model = EvolvingRegressor(n_members=2, n_generations=2, random_state=5)
    evolved = EvolvingTransformer(estimator=model).fit(*table)
    assert not hasattr(model, "history_")
    assert evolved.estimator_.random_state == 5
    assert clone(evolved).estimator.random_state == 5
    assert not hasattr(clone(evolved), "estimator_")


def test_a_fit_that_fails_leaves_the_transformer_as_it_was(table):
    X, y = table
    evolved = quick().fit(X, y)
    before = evolved.transform(X)
    with pytest.raises(ValueError, match="NaN"):
        evolved.fit(X[["area"]], np.where(y > 5.0, np.nan, y))
    assert_array_equal(evolved.transform(X), before)


def test_pickles_and_skops_give_the_same_columns(flats):
    X, y = flats
    evolved = quick().fit(X, y)
    content = skops.io.dumps(evolved)
    types = skops.io.get_untrusted_types(data=content)
    assert all(kind.startswith("skevo.") for kind in types)
    for loaded in (pickle.loads(pickle.dumps(evolved)), skops.io.loads(content, trusted=types)):
        assert_array_equal(loaded.transform(X), evolved.transform(X))
        assert list(loaded.get_feature_names_out()) == list(evolved.get_feature_names_out())


def test_columns_of_many_classes_tell_them_apart():
    X, y = load_iris(return_X_y=True)
    evolved = EvolvingTransformer(passthrough=False, random_state=0)
    model = make_pipeline(evolved, StandardScaler(), LogisticRegression()).fit(X, y)
    assert model.score(X, y) > 0.95


def test_the_estimator_that_finds_the_nodes_predicts_as_if_fitted_alone():
    X = np.random.default_rng(0).uniform(1, 5, size=(300, 3))
    # Hardly any noise: predictions go farther beyond the targets than a tenth of their range.
    y, far = X.prod(axis=1), np.full((1, 3), 40.0)
    alone = EvolvingRegressor(random_state=0).fit(X, y)
    found = EvolvingTransformer(estimator=EvolvingRegressor(random_state=0)).fit(X, y).estimator_
    assert alone.predict(far) > y.max() + 0.2 * np.ptp(y)
    assert_array_equal(found.predict(far), alone.predict(far))
