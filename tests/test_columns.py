"""Missing cells and categories, beside what scikit-learn makes of them."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from skevo import EvolvingClassifier, EvolvingRegressor
from skevo._columns import fit_encoding
from skevo._frames import categorical_columns, find_levels, read_codes

QUICK = {"n_members": 2, "n_generations": 3, "random_state": 0}


@pytest.fixture
def frame():
    """A table with text, a category, booleans and missing cells, and a target that needs them."""
    rng = np.random.default_rng(0)
    n = 400
    X = pd.DataFrame(
        {
            "age": rng.uniform(20.0, 60.0, n),
            "city": rng.choice(["Bonn", "Oslo", "Rome"], n),
            "member": rng.random(n) > 0.5,
            "size": pd.Categorical(rng.choice([1, 2, 5], n)),
        }
    )
    y = 0.1 * X["age"] + 2.0 * (X["city"] == "Oslo") + X["member"] - (X["size"] == 5)
    X.loc[rng.random(n) < 0.2, "age"] = np.nan
    X.loc[rng.random(n) < 0.1, "city"] = None
    y[X["age"].isna()] = 3.0
    return X, y.to_numpy() + rng.normal(0.0, 0.1, n)


def in_polars(X):
    """Return a frame in polars, cell by cell, for which it needs no other package."""
    return pl.DataFrame({name: X[name].astype(object).where(X[name].notna(), None).tolist()
                         for name in X})  # fmt: skip


def encoded(X, levels, weight=None):
    codes = read_codes(X, levels)
    weight = np.ones(len(codes)) if weight is None else weight
    encoding = fit_encoding(codes, weight, levels)
    return encoding, encoding(codes)


def test_missing_cells_are_imputed_as_scikit_learn_does():
    # An odd number of cells remains, so that there is one in the middle.
    X = np.random.default_rng(0).normal(size=(51, 4))
    X[::7, 0] = X[3:9, 2] = np.nan
    expected = SimpleImputer(strategy="median", add_indicator=True).fit_transform(X)
    _, found = encoded(X, {})
    np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_levels_are_encoded_as_scikit_learn_does():
    cells = np.random.default_rng(0).choice(list("abcdefgh"), 60, p=[0.4, 0.3, 0.2] + [0.02] * 5)
    column = cells[:, None].astype(object)
    levels = find_levels(column, [0])
    assert levels == {0: tuple(sorted(set(cells)))}
    _, found = encoded(column, levels)
    frequent = [level for level in levels[0] if (cells == level).sum() >= 5]
    expected = OneHotEncoder(
        categories=[frequent], handle_unknown="ignore", sparse_output=False
    ).fit_transform(column)
    assert len(frequent) < len(levels[0])
    assert_array_equal(found, expected)


def test_a_weight_is_as_good_as_copies():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=30), rng.choice(12, 30)])
    X[rng.random(30) < 0.3, 0] = np.nan
    weight = rng.integers(1, 4, 30)
    levels = find_levels(X, [1])
    weighted, _ = encoded(X, levels, weight.astype(float))
    repeated, _ = encoded(X.repeat(weight, axis=0), levels)
    assert_array_equal(weighted.fill, repeated.fill)
    assert_array_equal(weighted.shown, repeated.shown)


def test_of_two_levels_one_has_a_column_unless_cells_are_missing():
    column = np.array([["no"], ["yes"]] * 6, dtype=object)
    encoding, _ = encoded(column, find_levels(column, [0]))
    assert encoding.names(["b"], ["y"]) == ["[b = yes]"]
    column[0] = None
    encoding, _ = encoded(column, find_levels(column, [0]))
    assert encoding.names(["b"], ["y"]) == ["missing(b)", "[b = no]", "[b = yes]"]


def test_many_levels_have_no_columns_of_their_own():
    codes = np.arange(300.0).repeat(3)[:, None]
    encoding, _ = encoded(codes, {0: tuple(range(300))})
    assert len(encoding) == 0
    assert encoding.told.tolist() == [0]
    # Levels that are there once do not count.
    codes = np.append(np.arange(250.0).repeat(5), np.arange(250.0, 300.0))[:, None]
    encoding, _ = encoded(codes, {0: tuple(range(300))})
    assert len(encoding) == 250


def test_a_column_without_any_cell_is_zero():
    encoding, found = encoded(np.full((5, 1), np.nan), {})
    assert encoding.names(["a"], ["y"]) == ["a", "missing(a)"]
    assert_array_equal(found, [[0.0, 1.0]] * 5)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("from_dtype", [1, 3]),
        (None, []),
        ([], []),
        (["size"], [3]),
        ([-1, 1, 3], [1, 3]),
        ([True, False, False, True], [0, 3]),
    ],
)
def test_categorical_features(frame, given, expected):
    assert categorical_columns(frame[0], given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["height"], r"must be names of columns, got \['height'\]"),
        ([4], "must be positions of 4 columns"),
        ([True], "one for each of the 4 columns"),
    ],
)
def test_categorical_features_that_are_none_are_refused(frame, given, message):
    with pytest.raises(ValueError, match=message):
        EvolvingRegressor(categorical_features=given, **QUICK).fit(*frame)


def test_an_array_has_no_categories_of_its_own():
    assert categorical_columns(np.ones((3, 2)), "from_dtype") == []


def test_text_that_is_no_category_is_refused(frame):
    X, y = frame
    with pytest.raises(ValueError, match="column 'city' must be numbers, or be among"):
        EvolvingRegressor(categorical_features=["size"], **QUICK).fit(X, y)


def test_dates_are_refused(frame):
    X, y = frame
    with pytest.raises(ValueError, match=r"column 'born' must be numbers, .* got datetime64"):
        EvolvingRegressor(**QUICK).fit(X.assign(born=pd.Timestamp(2000, 1, 1)), y)
    born = in_polars(X).with_columns(born=dt.date(2000, 1, 1))
    with pytest.raises(ValueError, match=r"column 'born' must be numbers, .* got Date"):
        EvolvingRegressor(**QUICK).fit(born, y)


def test_infinite_and_sparse_cells_are_refused(frame):
    X, y = frame
    for table in (X.assign(age=np.inf), np.array([[np.inf], [1.0]] * 200)):
        with pytest.raises(ValueError, match="contains infinity"):
            EvolvingRegressor(**QUICK).fit(table, y)
    for features in ("from_dtype", [0]):
        model = EvolvingRegressor(categorical_features=features, **QUICK)
        with pytest.raises(TypeError, match="toarray"):
            model.fit(csr_array(np.eye(400)), y)
        with pytest.raises(ValueError, match="2D array"):
            model.fit(y, y)
    model = EvolvingRegressor(categorical_features=[1], **QUICK)
    model.fit(X.astype(object).to_numpy(), y)
    with pytest.raises(TypeError, match="toarray"):
        model.predict(csr_array(np.eye(4)))
    with pytest.raises(ValueError, match="expecting 4 features"):
        model.predict(y)


def test_a_frame_is_fitted_as_it_is(frame):
    model = EvolvingRegressor(**QUICK).fit(*frame)
    assert model.score(*frame) > 0.95
    assert model.n_features_in_ == 4
    for name in ("age", "missing(age)", "[city = Oslo]", "member", "[size = 5]"):
        assert f" {name}" in model.formula_


def test_a_formula_is_what_predict_computes(frame):
    X, y = frame
    model = EvolvingRegressor(n_members=1, n_generations=0, random_state=0).fit(X, y)
    values = {"age": X["age"].fillna(X["age"].median()), "member": X["member"]}
    formula = model.formula_.removeprefix("y = ")
    for name in model._encoding.names(X.columns, ["y"]):
        if name not in values:
            column, level = name.strip("[]").split(" = ") if "=" in name else (name[8:-1], None)
            cells = X[column].astype(str)
            formula = formula.replace(name, f"column{len(values)}")
            values[f"column{len(values)}"] = X[column].isna() if level is None else cells == level
    by_hand = eval(formula, {name: np.asarray(value, float) for name, value in values.items()})
    np.testing.assert_allclose(by_hand, model.predict(X), atol=0.01)


def test_polars_pandas_and_arrays_give_the_same_model(frame):
    X, y = frame
    expected = EvolvingRegressor(**QUICK).fit(X, y).predict(X)
    as_polars = in_polars(X).with_columns(pl.col("city").cast(pl.Categorical))
    model = EvolvingRegressor(categorical_features=["city", "size"], **QUICK)
    assert_array_equal(model.fit(as_polars, y).predict(as_polars), expected)
    as_array = X.astype(object).to_numpy()
    model = EvolvingRegressor(categorical_features=[1, 3], **QUICK)
    assert_array_equal(model.fit(as_array, y).predict(as_array), expected)
    nullable = X.convert_dtypes().astype({"city": "category"})
    assert_array_equal(EvolvingRegressor(**QUICK).fit(nullable, y).predict(nullable), expected)


def test_imputing_before_gives_the_same_model():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = X[:, 0] * X[:, 1]
    X[:31, 0] = X[90:101, 2] = np.nan
    model = EvolvingRegressor(**QUICK)
    before = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), clone(model))
    assert_array_equal(model.fit(X, y).predict(X), before.fit(X, y).predict(X))


def test_levels_that_are_unknown_or_rare_count_as_none(frame):
    X, y = frame
    X.loc[:1, "city"] = "Paris"
    model = EvolvingRegressor(**QUICK).fit(X, y)
    rare = model.predict(X[:1])
    for city in ("Lima", "", 7):
        assert_array_equal(model.predict(X[:1].assign(city=city)), rare)
    assert model.predict(X[:1].assign(city="Oslo")) != rare


def test_cells_may_be_missing_where_none_was_in_the_fit(frame):
    X, y = frame
    model = EvolvingRegressor(**QUICK).fit(X.fillna({"age": 40.0}), y)
    row = X[:1].assign(age=np.nan, member=None, size=None)
    half = float(X["member"].median())
    filled = row.assign(age=X["age"].fillna(40.0).median(), member=half)
    assert_array_equal(model.predict(row), model.predict(filled))


def test_a_classifier_takes_a_frame(frame):
    X, y = frame
    labels = np.where(y > np.median(y), "high", "low")
    model = EvolvingClassifier(**QUICK).fit(X, labels)
    assert model.score(X, labels) > 0.9


def test_rows_of_weight_zero_do_not_count(frame):
    X, y = frame
    weight = np.ones(len(X))
    weight[:20] = 0.0
    model = EvolvingRegressor(**QUICK)
    changed = X.copy()
    changed.loc[:19, ["age", "city"]] = [np.nan, "Nowhere"]
    expected = clone(model).fit(X[20:], y[20:]).predict(X)
    assert_array_equal(model.fit(changed, y, weight).predict(X), expected)


def test_a_warm_start_keeps_the_columns(frame):
    X, y = frame
    longer = EvolvingRegressor(**QUICK).set_params(n_generations=6).fit(X, y)
    model = EvolvingRegressor(warm_start=True, **QUICK).fit(X, y)
    model.set_params(n_generations=6).fit(X, y)
    assert_array_equal(model.predict(X), longer.predict(X))
    model.set_params(n_generations=8).fit(X.assign(city="Lima").fillna({"age": 1.0}), y)
    assert model.predict(X).shape == y.shape


def test_a_grid_search_takes_a_frame(frame):
    X, y = frame
    search = GridSearchCV(EvolvingRegressor(**QUICK), {"max_nodes": [0, 5]}, cv=2).fit(X, y)
    assert search.best_score_ > 0.9


def test_what_a_pipeline_makes_is_taken(frame):
    X, y = frame
    step = FunctionTransformer(lambda table: table.drop(columns="size"))
    model = make_pipeline(step, EvolvingRegressor(**QUICK)).fit(X, y)
    assert [*model[-1].feature_names_in_] == ["age", "city", "member"]


def test_columns_of_another_name_or_number_are_refused(frame):
    X, y = frame
    model = EvolvingRegressor(**QUICK).fit(X, y)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X.rename(columns={"city": "town"}))
    array = X.astype(object).to_numpy()
    model = EvolvingRegressor(categorical_features=[1], **QUICK).fit(array, y)
    with pytest.raises(ValueError, match="expecting 4 features"):
        model.predict(array[:, :3])
