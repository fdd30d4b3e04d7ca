"""Whatever the table, and whatever runs beside it."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joblib import Parallel, delayed, parallel_config
from numpy.testing import assert_array_equal
from sklearn.datasets import make_regression
from sklearn.model_selection import GridSearchCV

from skevo import EvolvingClassifier, EvolvingRegressor, _memory

QUICK = {"n_members": 2, "n_generations": 2, "random_state": 0}


# -- tables ----------------------------------------------------------------------------------------


def column(kind, n_rows, rng):
    """Return a column of a kind."""
    exponent = rng.integers(-30, 31)
    return {
        "normal": lambda: rng.normal(size=n_rows) * 10.0**exponent,
        "shifted": lambda: 10.0**exponent * (1e6 + rng.normal(size=n_rows)),
        "heavy": lambda: rng.standard_cauchy(n_rows) ** 3,
        "constant": lambda: np.full(n_rows, rng.choice([0.0, -1e30, 1e-30, 7.0])),
        "few": lambda: rng.integers(0, 3, n_rows).astype(float),
        "rare": lambda: (np.arange(n_rows) == rng.integers(n_rows)) * 1e9,
        "denormal": lambda: rng.integers(0, 9, n_rows) * 5e-324,
        "large integers": lambda: rng.integers(2**53, 2**62, n_rows).astype(float),
        "missing": lambda: np.where(rng.random(n_rows) < 0.5, np.nan, rng.normal(size=n_rows)),
        "all missing": lambda: np.full(n_rows, np.nan),
        "far one": lambda: np.append(rng.normal(size=n_rows - 1), 1e30),
    }[kind]()


KINDS = [
    "normal", "shifted", "heavy", "constant", "few", "rare", "denormal", "large integers",
    "missing", "all missing", "far one",
]  # fmt: skip
TARGETS = [kind for kind in KINDS if "missing" not in kind]


@st.composite
def tables(draw):
    """Draw a table and a target."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_rows = draw(st.integers(2, 90))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))
    X = np.column_stack([column(kind, n_rows, rng) for kind in kinds])
    if draw(st.booleans()):
        X = np.column_stack([X, X[:, 0], X[:, 0]])
    if draw(st.booleans()) and np.nanmax(np.abs(X), initial=0.0) < 1e38:
        X = X.astype(np.float32)
    return X, column(draw(st.sampled_from(TARGETS)), n_rows, rng)


any_table = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@any_table
@given(tables(), st.sampled_from([1, 3]))
def test_any_table_gives_finite_predictions(table, n_members):
    X, y = table
    model = EvolvingRegressor(n_members=n_members, n_generations=2, random_state=0).fit(X, y)
    predicted = model.predict(X)
    assert np.isfinite(predicted).all()
    span = np.ptp(y)
    assert predicted.min() >= y.min() - 0.11 * span - 1e-12 * np.abs(y).max()
    assert predicted.max() <= y.max() + 0.11 * span + 1e-12 * np.abs(y).max()


@any_table
@given(tables(), st.sampled_from(["absolute_error", "huber"]))
def test_any_table_bears_robust_losses(table, loss):
    X, y = table
    model = EvolvingRegressor(loss=loss, n_members=1, n_generations=2, random_state=0).fit(X, y)
    assert np.isfinite(model.predict(X)).all()


@any_table
@given(tables(), st.integers(2, 5))
def test_any_table_gives_probabilities(table, n_classes):
    X, y = table
    labels = np.argsort(np.argsort(y)) * n_classes // len(y)
    if len(np.unique(labels)) < 2:
        return
    model = EvolvingClassifier(n_members=1, n_generations=2, random_state=0).fit(X, labels)
    probability = model.predict_proba(X)
    assert ((probability >= 0) & (probability <= 1)).all()
    np.testing.assert_allclose(probability.sum(axis=1), 1.0, atol=1e-9)


@pytest.mark.parametrize("n_classes", [2, 26])
def test_separable_and_rare_classes_are_stable(n_classes):
    rng = np.random.default_rng(0)
    # Two rows of the rarest class, and no overlap.
    labels = np.repeat(np.arange(n_classes), np.linspace(2, 30, n_classes).astype(int))
    X = np.column_stack([labels * 10.0, rng.normal(size=len(labels))])
    # Four members: the average of two hears one that goes astray on the rows it held out.
    model = EvolvingClassifier(n_members=4, n_generations=15, random_state=0).fit(X, labels)
    probability = model.predict_proba(X)
    assert np.isfinite(probability).all()
    assert -np.log(probability[np.arange(len(X)), labels]).mean() < 0.3 * np.log(n_classes)


# -- beside each other -----------------------------------------------------------------------------


def rows(n=400):
    X = np.random.default_rng(0).normal(size=(n, 4))
    return X, X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2])


def fit_and_predict(seed):
    X, y = rows()
    return EvolvingRegressor(**{**QUICK, "random_state": seed}).fit(X, y).predict(X)


def test_sixteen_threads_predict_with_one_model():
    X, y = rows(3000)
    model = EvolvingRegressor(**QUICK).fit(X, y)
    expected = model.predict(X), model.predict_interval(X), model.formula_
    again = EvolvingRegressor(**QUICK).fit(X, y)

    def work(_):
        return again.predict(X), again.predict_interval(X), again.formula_

    with ThreadPoolExecutor(16) as pool:
        for found in pool.map(work, range(32)):
            for part, wanted in zip(found, expected, strict=True):
                assert_array_equal(part, wanted)


def test_fits_in_threads_do_not_disturb_each_other():
    expected = [fit_and_predict(seed) for seed in range(4)]
    before = torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(fit_and_predict, range(4)), expected, strict=True):
            assert_array_equal(found, wanted)
    assert torch.get_num_threads() == before


@pytest.mark.cpu
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_backends_of_joblib_give_the_same_models(backend):
    expected = [fit_and_predict(seed) for seed in range(3)]
    with parallel_config(backend=backend, n_jobs=2):
        found = Parallel()(delayed(fit_and_predict)(seed) for seed in range(3))
    for part, wanted in zip(found, expected, strict=True):
        assert_array_equal(part, wanted)


@pytest.mark.cpu
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
# Python warns of forks beside threads, which is what this is about.
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_processes_give_the_same_models(method):
    expected = fit_and_predict(0)
    # What a process computed in several threads must not stop those that are forked from it.
    torch.ones(1500, 1500) @ torch.ones(1500, 1500)
    with multiprocessing.get_context(method).Pool(1) as pool:
        found = pool.apply_async(fit_and_predict, (0,)).get(timeout=120)
    assert_array_equal(found, expected)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_grid_search_gives_the_same_scores(n_jobs):
    X, y = rows()
    grid = {"max_nodes": [2, 6], "n_jobs": [1, 2]}
    search = GridSearchCV(EvolvingRegressor(**QUICK), grid, cv=2, n_jobs=n_jobs).fit(X, y)
    scores = search.cv_results_["mean_test_score"].reshape(2, 2)
    assert_array_equal(scores[:, 0], scores[:, 1])


# -- global state ----------------------------------------------------------------------------------


def state_of_the_process():
    """Return what a fit must leave as it was."""
    return (
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        np.geterr(),
        threading.active_count(),
    )


def failing_loss(prediction, target):
    raise RuntimeError("no loss today")


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("loss", ["squared_error", failing_loss])
def test_a_fit_leaves_the_process_as_it_was(loss, n_jobs):
    X, y = rows(5000)
    before = state_of_the_process()
    model = EvolvingRegressor(loss=loss, n_jobs=n_jobs, **QUICK)
    if callable(loss):
        with pytest.raises(RuntimeError, match="no loss today"):
            model.fit(X, y)
    else:
        model.fit(X, y).predict(X)
    assert state_of_the_process() == before


@pytest.mark.parametrize("estimator", [EvolvingRegressor, EvolvingClassifier])
def test_n_jobs_give_the_same_model_of_many_rows(estimator):
    X, y = rows(6000)
    y = y if estimator is EvolvingRegressor else np.digitize(y, [-0.5, 0.5])
    parameters = {"n_members": 8, "n_generations": 6, "random_state": 0}
    one, two = (estimator(n_jobs=n_jobs, **parameters).fit(X, y) for n_jobs in (1, 2))
    for name in ("weight", "bias", "constants", "scale"):
        first, second = (getattr(model._ensemble.network, name) for model in (one, two))
        assert torch.equal(first, second)


@pytest.mark.parametrize("block_size", [1000, 3333])
def test_block_size_gives_the_same_topology_of_many_rows(block_size):
    X, y = rows(6000)
    usual, other = (
        EvolvingRegressor(batch_size=size, **QUICK).fit(X, y) for size in (16_384, block_size)
    )
    assert usual._ensemble.network.topology == other._ensemble.network.topology
    np.testing.assert_allclose(usual.predict(X), other.predict(X), atol=1e-4)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_fit_that_fails_leaves_the_estimator_as_it_was(method):
    X, y = rows()
    model = EvolvingRegressor(**QUICK).fit(X, y)
    before, names = model.predict(X), set(vars(model))
    model.set_params(loss=failing_loss)
    with pytest.raises(RuntimeError, match="no loss today"):
        getattr(model, method)(10.0 * X[:, :3] if method == "fit" else X, y)
    assert_array_equal(model.predict(X), before)
    assert set(vars(model)) == names
    fresh = EvolvingRegressor(loss=failing_loss)
    with pytest.raises(RuntimeError, match="no loss today"):
        getattr(fresh, method)(X, y)
    assert set(vars(fresh)) == set(fresh.get_params())


# -- memory ----------------------------------------------------------------------------------------


def test_what_cannot_fit_is_refused_early(monkeypatch):
    X, y = rows()
    monkeypatch.setattr(_memory, "available_memory", lambda: 100 * 2**20)
    with pytest.raises(
        MemoryError, match=r"at least 7\.9 GiB, and 0\.1 GiB can be had: take fewer"
    ):
        EvolvingRegressor(n_members=2000).fit(X, y)
    assert EvolvingRegressor(**QUICK).fit(X, y).n_iter_ == 2
    monkeypatch.setattr(_memory, "available_memory", lambda: None)
    assert EvolvingRegressor(**QUICK).fit(X, y).n_iter_ == 2


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_gpu_without_memory_is_told_what_needs_less(monkeypatch, method):
    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("skevo._fitting.fit_members", fail)
    X, y = make_regression(50, 3, random_state=0)
    with pytest.raises(MemoryError, match=r"allocate 2.00 GiB.*try batch_size=4096"):
        getattr(EvolvingRegressor(), method)(X, y)


def test_available_memory_is_that_of_the_machine():
    there = _memory.available_memory()
    assert there is None or 2**20 < there < 2**50


def test_peak_memory_grows_as_documented():
    of = _memory.peak_memory
    base = of(1000, 10, 1, 20, 1, 8)
    of_member = 4 * 2**20 + 1.5 * 8 * 1000 * 30 + 250 * 30**2
    assert of(1000, 10, 1, 20, 2, 8) - base == of_member + 24 * (50**2 - 30**2)
    # Of more rows a member works on no more, and of more columns it sees no more.
    assert of(2_000_000, 10, 1, 20, 1, 4) - of(1_000_000, 10, 1, 20, 1, 4) == 24 * 10**6
    assert of(1000, 900, 1, 20, 1, 8) == of(1000, 300, 1, 20, 1, 8)
