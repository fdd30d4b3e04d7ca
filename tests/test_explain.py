"""Contributions, importances and the table of terms, as users see them."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, make_friedman1
from sklearn.feature_selection import SelectFromModel
from sklearn.metrics import log_loss

from skevo import EvolvingClassifier, EvolvingRegressor

FAST = {"n_generations": 6, "random_state": 0}


@pytest.fixture(scope="module")
def mixed():
    """Rows with a category and missing cells; the last column says nothing."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "town": rng.choice(["Bonn", "Kiel", "Ulm"], 300),
            "area": np.where(rng.random(300) < 0.1, np.nan, rng.normal(80, 20, 300)),
            "rooms": rng.integers(1, 6, 300),
            "noise": rng.normal(size=300),
        }
    )
    y = X["area"].fillna(20) * (1 + (X["town"] == "Ulm")) + 5.0 * X["rooms"]
    return X, y


@pytest.fixture(scope="module")
def model(mixed):
    return EvolvingRegressor(n_members=8, **FAST).fit(*mixed)


@pytest.fixture(scope="module")
def classifier():
    return EvolvingClassifier(n_members=4, **FAST).fit(*load_iris(return_X_y=True))


@pytest.mark.parametrize("by", ["column", "term"])
@pytest.mark.parametrize("n_members", [1, 8])
def test_contributions_sum_to_predictions(mixed, n_members, by):
    X, y = mixed
    model = EvolvingRegressor(n_members=n_members, **FAST).fit(X, y)
    found = model.contributions(X, by=by)
    assert_allclose(found.prediction, model.predict(X), rtol=1e-9)
    # The sum is not that of what clipping would hide: most rows are not clipped.
    assert np.median(np.abs(found.clipping)) < 1e-9 * np.ptp(y)
    assert len(found.names) == found.values.shape[1] == found.cells.shape[1]


def test_contributions_far_away_say_what_is_clipped(mixed):
    X, y = mixed
    model = EvolvingRegressor(n_members=1, n_generations=0, random_state=0).fit(X, y)
    far = X.assign(rooms=1_000_000, area=3 * X["area"])
    found = model.contributions(far)
    assert_allclose(found.prediction, model.predict(far), rtol=1e-9)
    unclipped = found.constant + found.values.sum(axis=1)
    highest = found.prediction.max()
    assert highest >= y.max() + 0.1 * np.ptp(y) * (1 - 1e-9)
    beyond = np.maximum(unclipped - highest, 0.0)
    assert 0.1 < (beyond > 0).mean() < 0.9
    assert_allclose(found.clipping, -beyond, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("by", ["column", "term"])
def test_contributions_of_each_class_sum_to_its_score(classifier, by):
    X, _ = load_iris(return_X_y=True)
    for output in range(3):
        found = classifier.contributions(X, by=by, output=output)
        score = classifier.decision_function(X)[:, output]
        assert_allclose(found.prediction, score, rtol=1e-9, atol=1e-9)
        assert_allclose(found.clipping, 0.0, atol=1e-9)


def test_contributions_of_two_classes_sum_to_log_odds():
    X, y = load_iris(return_X_y=True)
    model = EvolvingClassifier(n_members=2, **FAST).fit(X, y == 1)
    assert_allclose(model.contributions(X).prediction, model.decision_function(X), atol=1e-9)


def test_contributions_with_log_link_sum_to_logarithm(mixed):
    X, y = mixed
    model = EvolvingRegressor(loss="poisson", n_members=2, **FAST).fit(X, y)
    assert_allclose(np.exp(model.contributions(X).prediction), model.predict(X), rtol=1e-9)


def test_contributions_of_linear_model_are_its_terms():
    X, y = load_diabetes(return_X_y=True)
    model = EvolvingRegressor(n_members=1, n_generations=0).fit(X, y)
    found = model.contributions(X)
    slope = (model.predict(X[:1] + 1e-3 * np.eye(10)) - model.predict(X[:1])) / 1e-3
    # Differences between rows are those of the columns times the slopes, where none is drawn in.
    rows = np.flatnonzero(np.abs((X - np.median(X, axis=0)) / X.std(axis=0)).max(axis=1) < 2)
    step = found.values[rows[1:]] - found.values[rows[0]]
    assert_allclose(step, (X[rows[1:]] - X[rows[0]]) * slope, rtol=1e-6, atol=1e-6)
    assert_allclose(found.values, model.contributions(X, by="term").values, atol=1e-9)


def test_contributions_of_levels_count_for_their_column(model, mixed):
    X, _ = mixed
    found = model.contributions(X)
    assert found.names == ["town", "area", "rooms", "noise"]
    assert found.levels[0] == ("Bonn", "Kiel", "Ulm")
    in_ulm = (X["town"] == "Ulm").to_numpy()
    assert found.values[in_ulm, 0].mean() > found.values[~in_ulm, 0].mean() + 30.0


def test_contributions_of_many_levels_count_for_their_column():
    rng = np.random.default_rng(0)
    street, x = rng.integers(0, 400, 1500), rng.normal(size=1500)
    X = pd.DataFrame({"x": x, "street": [f"street {number}" for number in street], "z": 0.1 * x})
    height = rng.normal(size=400)[street]
    y = np.column_stack([3.0 * height + x, height - x])
    model = EvolvingRegressor(n_members=2, n_generations=2, random_state=0).fit(X, y)
    assert model._encoding.n_told == 2
    for output in range(2):
        found = model.contributions(X, output=output)
        assert_allclose(found.prediction, model.predict(X)[:, output], rtol=1e-9, atol=1e-9)
        assert np.corrcoef(found.values[:, 1], height)[0, 1] > 0.5
    assert model.feature_importances_.argmax() == 1
    assert "mean(y0 | street)" in set(model.nodes_table(output=0)["expression"])


def test_contributions_do_not_depend_on_blocks(model, mixed, monkeypatch):
    X, _ = mixed
    whole = model.contributions(X)
    monkeypatch.setattr("skevo._explain._MOST_VALUES", 500)
    parts = model.contributions(X)
    assert_allclose(parts.values, whole.values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_several_outputs_have_contributions_each(n_outputs):
    X, y = make_friedman1(n_samples=200, random_state=0)
    targets = np.column_stack([y, -3.0 * y + X[:, 0]])[:, :n_outputs]
    model = EvolvingRegressor(n_members=2, **FAST).fit(X, targets)
    for output in range(n_outputs):
        found = model.contributions(X, output=output)
        assert_allclose(found.prediction, model.predict(X).reshape(len(X), -1)[:, output])


@pytest.mark.parametrize("output", [None, 3, -1])
def test_contributions_without_an_output_say_which_there_are(classifier, output):
    X, _ = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=r"0 for logit\(0\) or .* or 2 for logit\(2\), got"):
        classifier.contributions(X, output=output)


def test_contributions_by_something_else_rejected(model, mixed):
    with pytest.raises(ValueError, match="by must be 'column' or 'term', got 'row'"):
        model.contributions(mixed[0], by="row")


# -- importances ---------------------------------------------------------------------------------


def test_importances_equal_direct_recomputation_of_r2(mixed):
    X, y = mixed
    model = EvolvingRegressor(n_members=1, **FAST).fit(X, y)
    found = model.contributions(X)
    output = found.prediction - found.clipping
    for column, importance in enumerate(model.feature_importances_):
        own = found.values[:, column]
        without = output - own + own.mean()
        rise = (np.mean((y - without) ** 2) - np.mean((y - output) ** 2)) / np.var(y)
        assert_allclose(importance, rise, rtol=1e-6, atol=1e-9)


def test_importances_equal_direct_recomputation_of_log_loss(classifier):
    X, y = load_iris(return_X_y=True)
    found = [classifier.contributions(X, output=output) for output in range(3)]

    def loss(scores):
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return log_loss(y, odds / odds.sum(axis=1, keepdims=True))

    scores = np.column_stack([each.prediction for each in found])
    for column, importance in enumerate(classifier.feature_importances_):
        own = np.column_stack([each.values[:, column] for each in found])
        rise = loss(scores - own + own.mean(axis=0)) - loss(scores)
        assert_allclose(importance, rise, rtol=1e-6, atol=1e-9)


def test_importances_find_what_counts(model):
    town, area, rooms, noise = model.feature_importances_
    assert min(town, area) > 0.1 > rooms > 0.001 > noise


def test_importances_are_measured_on_some_rows_of_many(monkeypatch):
    X, y = make_friedman1(n_samples=900, random_state=1)
    model = EvolvingRegressor(n_members=1, **FAST).fit(X, y)
    monkeypatch.setattr("skevo._explain._MOST_ROWS", 900)
    on_all = clone(model).fit(X, y).feature_importances_
    # Of 450 rows, the measure is off by some parts in a hundred.
    assert_allclose(model.feature_importances_, on_all, atol=0.05)
    assert not np.array_equal(model.feature_importances_, on_all)


def test_importances_serve_feature_selection(mixed):
    X = mixed[0][["area", "rooms", "noise"]]
    selection = SelectFromModel(EvolvingRegressor(n_members=1, **FAST), max_features=1)
    assert selection.fit(X, mixed[1]).get_feature_names_out() == ["area"]


def test_importances_of_own_loss_are_measured(mixed):
    X, y = mixed
    model = EvolvingRegressor(
        loss=lambda prediction, target: (prediction - target).abs(), n_members=1, **FAST
    )
    assert model.fit(X, y).feature_importances_.argmax() in (0, 1)


def test_selected_model_has_no_importances_but_contributions(model, mixed):
    X, _ = mixed
    small = model.select(nodes=0)
    assert not hasattr(small, "feature_importances_")
    with pytest.raises(AttributeError, match="measured at the end of a fit"):
        _ = small.feature_importances_
    assert_allclose(small.contributions(X).prediction, small.predict(X), rtol=1e-9)
    assert small.nodes_table()["importance"].isna().all()
    assert hasattr(model.select(), "feature_importances_")


def test_explanations_survive_pickling_and_partial_fit(mixed):
    X, y = mixed
    model = EvolvingRegressor(n_members=2, random_state=0).partial_fit(X, y).partial_fit(X, y)
    loaded = pickle.loads(pickle.dumps(model))
    assert_array_equal(loaded.feature_importances_, model.feature_importances_)
    assert_array_equal(loaded.contributions(X).values, model.contributions(X).values)


# -- the table of terms --------------------------------------------------------------------------


@pytest.mark.parametrize("n_members", [1, 2])
def test_nodes_table_says_what_the_head_reads(mixed, n_members):
    X, y = mixed
    model = EvolvingRegressor(n_members=n_members, **FAST).fit(X, y)
    table = model.nodes_table()
    assert list(table.columns) == ["expression", "level", "weight", "contribution", "importance"]
    assert (table["level"] > 0).sum() == model.n_nodes_
    assert {"area", "rooms", "[town = Ulm]", "missing(area)"} <= set(table["expression"])
    assert table["contribution"].is_monotonic_decreasing
    # With one or two members all are heard: contributions are those of the table.
    found = model.contributions(X, by="term")
    sizes = dict(zip(found.names, np.abs(found.values).mean(axis=0), strict=True))
    single = table[~table["expression"].duplicated(keep=False)]
    assert_allclose(single["contribution"], [sizes[name] for name in single["expression"]])


def test_nodes_table_without_pandas_says_what_to_install(mixed, monkeypatch):
    model = EvolvingRegressor(n_members=1, n_generations=1).fit(*mixed)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'skevo\[frames\]'"):
        model.nodes_table()


def test_nodes_table_weights_are_those_of_the_formula():
    X, y = make_friedman1(n_samples=200, n_features=5, random_state=0)
    X = pd.DataFrame(X, columns=list("abcde"))
    model = EvolvingRegressor(n_members=1, max_nodes=4, **FAST).fit(X, y)
    for line in model.nodes_table().itertuples():
        assert f"{abs(line.weight):.4g} * " in model.formula_
        if line.level == 0:
            assert (
                f"{'-' if line.weight < 0 else '+'} {abs(line.weight):.4g} * {line.expression}"
                in (model.formula_.replace("= ", "= + "))
            )


def test_nodes_table_of_a_class(classifier):
    tables = (classifier.nodes_table(output=output) for output in range(2))
    # Two nodes may read alike.
    importances = [
        table.drop_duplicates("expression", keep=False).set_index("expression")["importance"]
        for table in tables
    ]
    # What the loss of all classes rises by is the same, whichever class is looked at.
    both = importances[0].index.intersection(importances[1].index)
    assert_allclose(importances[0][both], importances[1][both])


# -- notebooks -----------------------------------------------------------------------------------


def test_notebooks_show_formula_and_course():
    X, y = make_friedman1(n_samples=200, n_features=5, random_state=0)
    names = ["a<b>", "b & c", "c", "d", "e"]
    model = EvolvingRegressor(n_members=1, max_nodes=3, **FAST).fit(
        pd.DataFrame(X, columns=names), y
    )
    text = model._repr_html_()
    assert "a&lt;b&gt;" in text
    assert "b &amp; c" in text
    assert "a<b>" not in text
    assert text.count("<polyline") == 2
    assert f"{model.n_nodes_} nodes, {model.n_iter_} generations" in text
    assert model._repr_mimebundle_()["text/html"].count("<polyline") == 2


def test_notebooks_show_an_unfitted_estimator():
    assert "<polyline" not in EvolvingRegressor()._repr_html_()


@pytest.mark.parametrize("estimator", [EvolvingRegressor(), EvolvingClassifier()])
def test_documentation_link_names_a_page_of_the_reference(estimator, pytestconfig):
    link = estimator._get_doc_link()
    assert f'href="{link}"' in estimator._repr_html_()
    # Pages are called as the reference lists what they describe.
    module, name = Path(link).stem.rsplit(".", 1)
    assert link == f"docs/_build/html/api/{module}.{name}.html"
    reference = (pytestconfig.rootpath / "docs" / "api" / "index.rst").read_text(encoding="utf-8")
    assert f".. currentmodule:: {module}\n" in reference
    assert f"   {name}\n" in reference
