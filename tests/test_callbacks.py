"""What looks on while an estimator is fitted."""

import os
import pickle
import signal
import threading
import warnings

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.utils.fixes import parse_version

from skevo import EvolvingClassifier, EvolvingRegressor

HAS_CALLBACKS = parse_version(sklearn.__version__) >= parse_version("1.9")
needs_callbacks = pytest.mark.skipif(not HAS_CALLBACKS, reason="scikit-learn < 1.9")


@pytest.fixture
def rows():
    X = np.random.default_rng(0).normal(size=(300, 4))
    return X, X[:, 0] * X[:, 1] + np.sin(X[:, 2])


class Look:
    """A callback that keeps what it is told, and stops after so many generations."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.seen, self.ended = [], []

    def setup(self, estimator, context):
        self.ended.append("setup")

    def teardown(self, estimator, context):
        self.ended.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.ended.append(context.task_name)
        if context.task_name == "generation":
            score = fitted_estimator.score(X, y, **metadata)
            self.seen.append((context.task_id, score, fitted_estimator.n_iter_))
            return self.stop_after is not None and context.task_id >= self.stop_after
        return False


# -- scikit-learn's callbacks ----------------------------------------------------------------------


@needs_callbacks
@pytest.mark.parametrize("estimator", [EvolvingRegressor, EvolvingClassifier])
def test_callbacks_see_a_fitted_estimator_after_each_generation(estimator, rows):
    X, y = rows
    y = y if estimator is EvolvingRegressor else np.digitize(y, [-0.5, 0.5])
    look, weight = Look(), np.linspace(0.5, 1.5, len(y))
    model = estimator(n_members=2, n_generations=4, random_state=0).set_callbacks(look)
    model.fit(X, y, sample_weight=weight)
    numbers, scores, n_iter = zip(*look.seen, strict=True)
    assert numbers == n_iter == (0, 1, 2, 3, 4)
    assert scores[-1] > scores[0]
    assert look.ended == ["setup", *["generation"] * 5, "fit", "teardown"]
    silent = estimator(n_members=2, n_generations=4, random_state=0).fit(X, y, weight)
    assert_array_equal(silent.predict(X), model.predict(X))


@needs_callbacks
def test_a_callback_stops_the_fit(rows):
    look = Look(stop_after=2)
    model = EvolvingRegressor(n_members=2, random_state=0).set_callbacks(look).fit(*rows)
    assert model.stop_reason_ == "callback"
    assert model.n_iter_ == 2
    shorter = EvolvingRegressor(n_members=2, n_generations=2, random_state=0).fit(*rows)
    assert_array_equal(shorter.predict(rows[0]), model.predict(rows[0]))


@needs_callbacks
def test_callbacks_are_torn_down_when_the_fit_raises(rows):
    look = Look()
    model = EvolvingRegressor(n_members=2).set_callbacks(look)
    with pytest.raises(ValueError, match="inconsistent"):
        model.fit(rows[0], rows[1][1:])
    assert look.ended == ["setup", "teardown"]


@needs_callbacks
def test_scoring_monitor_follows_a_fit_and_a_grid_search(rows):
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring="r2")
    model = EvolvingRegressor(n_members=2, n_generations=3, random_state=0)
    model.set_callbacks(monitor).fit(*rows)
    log = monitor.get_logs().data
    scores = [line["r2"] for line in log if line["task_name"] == "generation"]
    assert len(scores) == 4
    assert scores[-1] > scores[0]
    monitor = ScoringMonitor(scoring="r2")
    model = EvolvingRegressor(n_members=2, n_generations=3, random_state=0).set_callbacks(monitor)
    search = GridSearchCV(model, {"max_nodes": [1, 3]}, cv=2, n_jobs=2).fit(*rows)
    log = monitor.get_logs(select="all")
    lines = [line for run in log for line in run.data if line["task_name"] == "generation"]
    # Two values on two folds, and the refit.
    assert len(lines) == 5 * 4
    assert search.best_score_ > 0


@needs_callbacks
def test_progress_bar_reaches_the_end(rows, capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    model = EvolvingRegressor(n_members=2, n_generations=3, random_state=0)
    model.set_callbacks(ProgressBar()).fit(*rows)
    printed = capsys.readouterr().out
    assert "EvolvingRegressor - fit" in printed
    assert "100%" in printed


@needs_callbacks
@pytest.mark.cpu
def test_an_estimator_with_callbacks_can_be_pickled(rows):
    model = EvolvingRegressor(n_members=2, n_generations=2, random_state=0)
    model.set_callbacks(Look()).fit(*rows)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(rows[0]), model.predict(rows[0]))


@pytest.mark.skipif(HAS_CALLBACKS, reason="scikit-learn >= 1.9")
def test_callbacks_say_what_they_need():
    with pytest.raises(RuntimeError, match=r"require scikit-learn 1\.9"):
        EvolvingRegressor().set_callbacks(Look())


# -- time and Ctrl-C -------------------------------------------------------------------------------


def test_max_time_stops_and_says_so(rows):
    model = EvolvingRegressor(max_time=1e-6, random_state=0).fit(*rows)
    assert model.stop_reason_ == "max_time"
    assert model.n_iter_ == 0


@pytest.fixture(autouse=True)
def _python_handles_ctrl_c():
    """Have Ctrl-C do what it does in Python, which workers of pytest ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class PressesCtrlC:
    """A target whose loss presses Ctrl-C, now and then."""

    def __init__(self, times):
        self.times, self.calls = times, 0

    def __call__(self, prediction, target):
        self.calls += 1
        if self.calls in self.times:
            os.kill(os.getpid(), signal.SIGINT)
        return (prediction - target).square()


def test_ctrl_c_keeps_the_best_model_so_far(rows):
    loss = PressesCtrlC({30})
    model = EvolvingRegressor(loss=loss, n_members=2, random_state=0)
    with pytest.warns(ConvergenceWarning, match="keeps the best model so far"):
        model.fit(*rows)
    assert model.stop_reason_ == "interrupted"
    assert model.n_iter_ < 20
    assert np.isfinite(model.predict(rows[0])).all()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_interrupts(rows):
    model = EvolvingRegressor(loss=PressesCtrlC({30, 31}), n_members=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.raises(KeyboardInterrupt):
            model.fit(*rows)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not hasattr(model, "n_iter_")


def test_a_fit_in_another_thread_leaves_ctrl_c_alone(rows):
    found = set()

    def loss(prediction, target):
        found.add(signal.getsignal(signal.SIGINT))
        return (prediction - target).square()

    model = EvolvingRegressor(loss=loss, n_members=1, n_generations=1)
    worker = threading.Thread(target=model.fit, args=rows)
    worker.start()
    worker.join()
    assert model.n_iter_ == 1
    assert found == {signal.default_int_handler}


def test_a_handler_of_the_user_stays(rows):
    presses = []
    before = signal.signal(signal.SIGINT, lambda *_: presses.append(True))
    try:
        loss = PressesCtrlC({30})
        model = EvolvingRegressor(loss=loss, n_members=1, n_generations=5, random_state=0)
        model.fit(*rows)
    finally:
        signal.signal(signal.SIGINT, before)
    assert presses == [True]
    assert model.stop_reason_ == "n_generations"
