"""Validation rows that are given, and starting from another model."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split

from skevo import EvolvingClassifier, EvolvingRegressor

QUICK = {"n_members": 2, "n_generations": 6, "random_state": 0}


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 4))
    y = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + 0.3 * rng.normal(size=500)
    return train_test_split(X, y, test_size=0.4, random_state=0)


# -- validation rows -------------------------------------------------------------------------------


def test_validation_loss_is_that_of_the_given_rows(rows):
    X, X_val, y, y_val = rows
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(y_val))
    model = EvolvingRegressor(n_members=1, n_generations=8, random_state=0)
    model.fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weight)
    error = np.average((model.predict(X_val) - y_val) ** 2, weights=weight) / y.var()
    best = model.history_["validation_loss"].min()
    assert error == pytest.approx(best, rel=1e-9)


def test_all_rows_are_trained_on(rows):
    X, X_val, y, y_val = rows
    model = EvolvingRegressor(n_members=1, n_generations=0, alpha=0.0, random_state=0)
    model.fit(X, y, X_val=X_val, y_val=y_val)
    spread = model._scaling.spread
    coefficients = np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), y, rcond=None)[0]
    inner = (np.abs(X_val) < 2.5 * spread).all(axis=1)
    assert inner.any()
    drawn_in = model._scaling(X_val[inner]) * spread
    expected = np.column_stack([drawn_in, np.ones(inner.sum())]) @ coefficients
    np.testing.assert_allclose(model.predict(X_val[inner]), expected, atol=0.02)


def test_classifier_is_judged_by_the_given_rows(rows):
    X, X_val, y, y_val = rows
    labels, labels_val = (np.array(["low", "mid", "high"])[np.digitize(part, [-0.5, 0.5])]
                          for part in (y, y_val))  # fmt: skip
    model = EvolvingClassifier(n_members=1, n_generations=5, random_state=0)
    model.fit(X, labels, X_val=X_val, y_val=labels_val)
    loss = log_loss(labels_val, model.predict_proba(X_val))
    assert model.history_["validation_loss"].min() == pytest.approx(loss, rel=0.05)


def test_rows_of_weight_zero_do_not_judge(rows):
    X, X_val, y, y_val = rows
    weight = (np.arange(len(y_val)) % 2).astype(float)
    first = EvolvingRegressor(**QUICK).fit(
        X, y, X_val=X_val, y_val=np.where(weight, y_val, 1e9), sample_weight_val=weight
    )
    second = EvolvingRegressor(**QUICK).fit(X, y, X_val=X_val[1::2], y_val=y_val[1::2])
    assert_array_equal(first.predict(X), second.predict(X))


def test_frames_and_several_outputs_are_given(rows):
    X, X_val, y, y_val = rows

    def frame(part):
        sign = np.where(part[:, 3] > 0, "plus", "minus")
        return pd.DataFrame(part[:, :3], columns=list("abc")).assign(d=sign)

    two, two_val = (np.column_stack([part, -part]) for part in (y, y_val))
    model = EvolvingRegressor(**QUICK)
    model.fit(frame(X), two, X_val=frame(X_val), y_val=two_val)
    assert model.score(frame(X_val), two_val) > 0.5


def test_large_tables_are_judged_by_given_rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(21_000, 2))
    y = X[:, 0] * X[:, 1]
    model = EvolvingRegressor(n_members=2, n_generations=2, random_state=0)
    model.fit(X, y, X_val=X[:6000], y_val=y[:6000])
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"X_val": np.ones((5, 4))}, "must be given together"),
        ({"y_val": np.ones(5)}, "must be given together"),
        ({"sample_weight_val": np.ones(5)}, "requires X_val and y_val"),
        ({"X_val": np.ones((5, 3)), "y_val": np.ones(5)}, "expecting 4 features"),
        ({"X_val": np.ones((5, 4)), "y_val": np.ones(4)}, "inconsistent numbers of samples"),
        ({"X_val": np.ones((5, 4)), "y_val": np.ones((5, 2))}, "must have the outputs of y, 1"),
        ({"X_val": np.ones((5, 4)), "y_val": np.full(5, np.nan)}, "y_val contains NaN"),
        (
            {"X_val": np.ones((5, 4)), "y_val": np.ones(5), "sample_weight_val": np.zeros(5)},
            "at least one (non-zero|positive)",
        ),
    ],
)
def test_wrong_validation_rows_are_refused(rows, given, message):
    X, _, y, _ = rows
    with pytest.raises(ValueError, match=message):
        EvolvingRegressor(**QUICK).fit(X, y, **given)


def test_labels_that_are_unknown_are_refused(rows):
    X, X_val, y, y_val = rows
    with pytest.raises(ValueError, match=r"labels that are not among the classes: \[2\]"):
        EvolvingClassifier(**QUICK).fit(
            X, (y > 0).astype(int), X_val=X_val, y_val=(y_val > 0).astype(int) + 1
        )


def test_metadata_is_routed(rows):
    from sklearn import config_context

    X, X_val, y, y_val = rows
    with config_context(enable_metadata_routing=True):
        model = EvolvingRegressor(**QUICK).set_score_request(sample_weight=False)
        model.set_fit_request(sample_weight=True, X_val=True, y_val=True)
        search = GridSearchCV(model, {"max_nodes": [2, 5]}, cv=2)
        search.fit(X, y, sample_weight=np.ones(len(y)), X_val=X_val, y_val=y_val)
    best = EvolvingRegressor(**QUICK).set_params(**search.best_params_)
    best.fit(X, y, np.ones(len(y)), X_val=X_val, y_val=y_val)
    assert_array_equal(search.predict(X), best.predict(X))


# -- starting from another model -------------------------------------------------------------------


def test_a_start_has_the_nodes_of_the_other_model(rows):
    X, _, y, _ = rows
    first = EvolvingRegressor(n_members=1, n_generations=20, random_state=0).fit(X, y)
    model = EvolvingRegressor(n_members=1, n_generations=0, init=first, random_state=0)
    model.fit(X, 3.0 * y + X[:, 3])
    assert model.n_nodes_ == first.n_nodes_
    assert model._ensemble.network.topology == first._ensemble.network.topology
    linear = EvolvingRegressor(n_members=1, n_generations=0, random_state=0)
    assert model.score(X, 3.0 * y + X[:, 3]) > linear.fit(X, 3.0 * y + X[:, 3]).score(X, y) + 0.2


def test_weights_of_given_rows_below_1_are_relative(rows):
    X, X_val, y, y_val = rows
    small, plain = (
        EvolvingRegressor(**QUICK).fit(
            X, y, X_val=X_val, y_val=y_val, sample_weight_val=np.full(len(y_val), weight)
        )
        for weight in (2.0**-10, 1.0)
    )
    assert_array_equal(small.predict(X), plain.predict(X))
    assert_array_equal(small.predict_interval(X), plain.predict_interval(X))


def test_a_related_target_takes_fewer_generations(rows):
    X, X_val, y, y_val = rows
    first = EvolvingRegressor(n_members=2, n_generations=25, random_state=0).fit(X, y)
    other, other_val = (2.0 * part + np.cos(part) for part in (y, y_val))
    scores = {}
    for name, start in (("scratch", None), ("start", first)):
        model = EvolvingRegressor(n_members=2, n_generations=1, init=start, random_state=1)
        scores[name] = model.fit(X, other).score(X_val, other_val)
    assert scores["start"] > scores["scratch"]


def test_a_classifier_starts_from_a_regressor(rows):
    X, _, y, _ = rows
    first = EvolvingRegressor(n_members=2, n_generations=15, random_state=0).fit(X, y)
    labels = np.digitize(y, [-0.5, 0.5])
    model = EvolvingClassifier(n_members=3, n_generations=2, init=first, random_state=0)
    plain = EvolvingClassifier(n_members=3, n_generations=2, random_state=0).fit(X, labels)
    found, expected = (
        log_loss(labels, one.predict_proba(X)) for one in (model.fit(X, labels), plain)
    )
    assert found < 0.95 * expected


def test_a_start_takes_frames_over(rows):
    X, _, y, _ = rows
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["d"] = np.where(X[:, 3] > 0, "plus", "minus")
    first = EvolvingRegressor(**QUICK).fit(frame, y)
    model = EvolvingRegressor(init=first, **QUICK).fit(frame.assign(d="plus"), y)
    assert model._encoding is first._encoding
    assert model.score(frame, y) > 0.5


def test_a_start_of_a_wide_table(rows):
    X, _, y, _ = rows
    wide = np.column_stack([np.random.default_rng(1).normal(size=(len(y), 400)), X])
    first = EvolvingRegressor(**QUICK).fit(wide, y)
    model = EvolvingRegressor(init=first, **QUICK).fit(wide, -y)
    assert model.score(wide, -y) > 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operators": ("mul",)}, "same operators"),
        ({"columns": 3}, "same columns, 3, got 4"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(rows, change, message):
    X, _, y, _ = rows
    first = EvolvingRegressor(**QUICK).fit(X, y)
    columns = change.pop("columns", 4)
    model = EvolvingRegressor(init=first, **QUICK).set_params(**change)
    with pytest.raises(ValueError, match=message):
        model.fit(X[:, :columns], y)


def test_a_start_is_kept_in_a_search_that_clones(rows):
    X, _, y, _ = rows
    first = EvolvingRegressor(**QUICK).fit(X, y)
    start = EvolvingRegressor(init=FrozenEstimator(first), **QUICK)
    search = GridSearchCV(start, {"n_generations": [0]}, cv=2).fit(X, y)
    assert search.best_estimator_.n_nodes_ > 0
    with pytest.raises(NotFittedError, match=r"init=sklearn.frozen.FrozenEstimator\(fitted\)"):
        clone(start.set_params(init=first)).fit(X, y)


def test_a_start_of_another_kind_is_refused(rows):
    from sklearn.linear_model import Ridge

    X, _, y, _ = rows
    with pytest.raises(ValueError, match="must be a fitted EvolvingRegressor or EvolvingClass"):
        EvolvingRegressor(init=Ridge().fit(X, y), **QUICK).fit(X, y)
