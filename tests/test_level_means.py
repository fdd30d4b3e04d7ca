"""Categories of many levels: what rows are told, and by whom they are not."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import train_test_split

from skevo import EvolvingClassifier, EvolvingRegressor
from skevo._level_means import OrderedMeans, places

N, LEVELS = 60, 7


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, LEVELS, N).astype(float)
    codes[rng.random(N) < 0.1] = np.nan
    target = np.column_stack([np.nan_to_num(codes, nan=3.0), -codes % 2]) + rng.normal(size=(N, 2))
    target[np.isnan(target)] = 0.5
    return codes, target, rng.integers(1, 4, N).astype(float)


def by_hand(codes, target, weight, rows):
    """Return mean and strength of the prior of some rows, and sums at each place."""
    at = places(codes, LEVELS)[rows]
    y, w = target[rows], weight[rows]
    mean = (w * y).sum() / w.sum()
    found = {}
    for level in range(LEVELS + 2):
        own = at == level
        found[level] = (w[own] * y[own]).sum(), w[own].sum()
    inside = sum(
        (w[at == level] * (y[at == level] - s / n) ** 2).sum()
        for level, (s, n) in found.items() if n
    )  # fmt: skip
    within = inside / (w.sum() - sum(n > 0 for _, n in found.values()))
    between = (w * (y - mean) ** 2).sum() / w.sum() - within
    return mean, np.clip(within / between if between > 0 else 1000, 1, 1000), found


def test_means_are_those_of_the_equation(data):
    codes, target, weight = data
    (means,) = OrderedMeans(codes[:, None], [LEVELS], target, weight).means
    for output in range(2):
        mean, strength, found = by_hand(codes, target[:, output], weight, np.arange(N))
        expected = [(s + strength * mean) / (n + strength) for s, n in found.values()]
        assert_allclose(means[output], expected, rtol=1e-12)
    # An unknown level is told the mean of all.
    assert_allclose(means[:, -1], np.average(target, axis=0, weights=weight))


def test_rows_are_told_of_rows_before_them(data):
    codes, target, weight = data
    ordered = OrderedMeans(codes[:, None], [LEVELS], target, weight)
    order, at = np.random.default_rng(0).permutation(N), places(codes, LEVELS)
    told = ordered.of()
    for output in range(2):
        y = target[:, output]
        mean, strength, _ = by_hand(codes, y, weight, np.arange(N))
        for place, row in enumerate(order):
            before = [other for other in order[:place] if at[other] == at[row]]
            total = (weight[before] * y[before]).sum()
            expected = (total + strength * mean) / (weight[before].sum() + strength)
            assert told[output, row] == pytest.approx(expected, rel=1e-12)


def test_nobody_is_told_of_rows_that_are_held_out(data):
    codes, target, weight = data
    held = np.arange(0, N, 4)
    other = target.copy()
    other[held] = 1e6
    first, second = (
        OrderedMeans(codes[:, None], [LEVELS], part, weight).of(held) for part in (target, other)
    )
    assert_array_equal(first, second)
    rest = np.setdiff1d(np.arange(N), held)
    mean, strength, found = by_hand(codes, target[:, 0], weight, rest)
    at = places(codes, LEVELS)
    for row in held:
        s, n = found[at[row]]
        assert first[0, row] == pytest.approx((s + strength * mean) / (n + strength), rel=1e-12)


def test_each_fold_is_told_what_its_judge_knows(data):
    codes, target, weight = data
    ordered = OrderedMeans(codes[:, None], [LEVELS], target, weight)
    folds = [np.arange(k, N, 3) for k in range(3)]
    told = ordered.held_out(folds)
    for fold in folds:
        assert_array_equal(told[:, fold], ordered.of(fold)[:, fold])


def many_levels(n_levels=700, n_each=5, effect=1.0):
    rng = np.random.default_rng(0)
    level = rng.permutation(np.arange(n_levels).repeat(n_each))
    size, noise = rng.normal(size=(2, len(level)))
    X = pd.DataFrame({"zip": np.char.add("z", level.astype(str)), "size": size})
    return X, effect * rng.normal(size=n_levels)[level] + size + 0.3 * noise


def test_many_levels_are_learnt():
    X, y = many_levels()
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    model = EvolvingRegressor(n_members=4, random_state=0).fit(X_train, y_train)
    assert "mean(y | zip)" in model.formula_
    assert len(model._encoding) == 2
    without = EvolvingRegressor(n_members=4, random_state=0).fit(X_train[["size"]], y_train)
    # Of a variance of 2.09 the levels have 1, about 0.92 of which four rows each can tell.
    assert model.score(X_test, y_test) > without.score(X_test[["size"]], y_test) + 0.3
    assert model.score(X_test, y_test) > 0.8
    held = model.history_["validation_loss"].reshape(4, -1).min(axis=1).mean()
    # What a member is judged by is told of fewer rows than new rows are, never of more.
    assert held > 1 - model.score(X_test, y_test) - 0.01


def test_levels_that_say_nothing_do_no_harm():
    X, y = many_levels(effect=0.0)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    model = EvolvingRegressor(n_members=4, random_state=0).fit(X_train, y_train)
    without = EvolvingRegressor(n_members=4, random_state=0).fit(X_train[["size"]], y_train)
    assert model.score(X_test, y_test) > without.score(X_test[["size"]], y_test) - 0.01


def test_a_classifier_is_told_of_each_class():
    X, y = many_levels()
    labels = np.array(["low", "mid", "high"])[np.digitize(y, [-0.7, 0.7])]
    X_train, X_test, y_train, y_test = train_test_split(X, labels, random_state=0)
    model = EvolvingClassifier(n_members=2, random_state=0).fit(X_train, y_train)
    assert model.score(X_test, y_test) > 0.65
    assert "mean([class = low] | zip)" in model.formula_


def test_unknown_and_missing_cells_of_many_levels():
    X, y = many_levels()
    X.loc[:200, "zip"] = None
    model = EvolvingRegressor(n_members=2, n_generations=3, random_state=0).fit(X, y)
    rows = X[:2].assign(zip=["nowhere", None])
    assert np.isfinite(model.predict(rows)).all()
    interval = model.predict_interval(X)
    assert (interval[:, 1] > interval[:, 0]).all()


def test_many_levels_part_by_part_and_going_on():
    X, y = many_levels()
    model = EvolvingRegressor(n_members=2, random_state=0)
    for part in np.array_split(np.arange(len(X)), 3):
        model.partial_fit(X.iloc[part], y[part])
    assert model.score(X, y) > 0.5
    longer = EvolvingRegressor(n_members=2, n_generations=6, random_state=0).fit(X, y)
    warm = EvolvingRegressor(n_members=2, n_generations=3, warm_start=True, random_state=0)
    warm.fit(X, y).set_params(n_generations=6).fit(X, y)
    assert_array_equal(warm.predict(X), longer.predict(X))


def test_a_start_with_many_levels_needs_as_many_outputs():
    X, y = many_levels()
    quick = {"n_members": 1, "n_generations": 2, "random_state": 0}
    first = EvolvingRegressor(**quick).fit(X, y)
    model = EvolvingRegressor(init=first, **quick).fit(X, -y)
    assert model.score(X, -y) > 0.5
    with pytest.raises(ValueError, match="as many outputs"):
        EvolvingRegressor(init=first, **quick).fit(X, np.column_stack([y, y]))
