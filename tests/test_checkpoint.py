"""Checkpoints: a fit that was killed ends with the very model of one that was not."""

import os
import pickle
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV
from sklearn.utils.fixes import parse_version

from skevo import EvolvingClassifier, EvolvingRegressor
from skevo._checkpoint import CheckpointFile, open_checkpoint
from skevo.callbacks import Checkpoint, EarlyStopping, TensorBoard, TimeLimit

needs_callbacks = pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"), reason="scikit-learn < 1.9"
)
QUICK = {"n_members": 2, "n_generations": 6, "random_state": 0}


@pytest.fixture
def rows():
    X = np.random.default_rng(0).normal(size=(200, 4))
    return X, X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2])


class CrashError(Exception):
    """What a fit dies of, in this process."""


class Crash(TimeLimit):
    """A callback that lets a fit die after so many of its generations."""

    def __init__(self, after):
        super().__init__(1.0)
        self.after = after

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "generation" and context.task_id == self.after:
            raise CrashError
        return False


def crash(model, rows, directory, after=2):
    model.set_callbacks(Checkpoint(directory, interval=0.0), Crash(after))
    with pytest.raises(CrashError):
        model.fit(*rows)


def states(directory):
    return sorted(directory.glob("*/state"))


# -- files -----------------------------------------------------------------------------------------


def test_a_file_has_what_was_saved_last(tmp_path):
    with open_checkpoint(tmp_path, "key") as file:
        assert file.load() is None
        file.save([1, 2])
        file.save({"a": np.arange(3)})
    with open_checkpoint(tmp_path, "key") as file:
        assert_array_equal(file.load()["a"], np.arange(3))
        file.remove()
        assert file.load() is None
        file.remove()


def test_a_file_that_was_cut_off_or_changed_anywhere_is_reported(tmp_path):
    file = CheckpointFile(tmp_path)
    file.save(list(range(50)))
    whole = (tmp_path / "state").read_bytes()
    broken = [whole[:length] for length in range(0, len(whole), 7)]
    broken += [
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 5)
    ]
    for content in broken:
        (tmp_path / "state").write_bytes(content)
        with pytest.warns(UserWarning, match="is damaged; the fit starts from the beginning"):
            assert file.load() is None


def test_what_was_being_written_is_ignored(tmp_path):
    file = CheckpointFile(tmp_path)
    file.save("old")
    (tmp_path / "state.part").write_bytes(b"half")
    assert file.load() == "old"
    file.save("new")
    assert file.load() == "new"


def test_fits_beside_each_other_have_folders_of_their_own(tmp_path):
    with open_checkpoint(tmp_path, "key") as first, open_checkpoint(tmp_path, "key") as second:
        first.save(1)
        second.save(2)
        assert (first.load(), second.load()) == (1, 2)
    with open_checkpoint(tmp_path, "key") as again:
        assert again.load() == 1


# -- fits ------------------------------------------------------------------------------------------


@needs_callbacks
@pytest.mark.parametrize("solver", ["exact", "adam"])
@pytest.mark.parametrize("estimator", [EvolvingRegressor, EvolvingClassifier])
def test_a_fit_goes_on_after_a_crash(tmp_path, rows, estimator, solver):
    X, y = rows
    y = y if estimator is EvolvingRegressor else np.digitize(y, [-0.5, 0.5])
    model = estimator(solver=solver, **QUICK)
    expected = estimator(solver=solver, **QUICK).fit(X, y)
    for _ in range(2):
        crash(model, (X, y), tmp_path, after=1)
        assert len(states(tmp_path)) == 1
    model.set_callbacks(Checkpoint(tmp_path)).fit(X, y)
    for found, wanted in zip(model._ensemble.network.weight, expected._ensemble.network.weight,
                             strict=True):  # fmt: skip
        assert_array_equal(found.numpy(force=True), wanted.numpy(force=True))
    assert_array_equal(model.predict(X), expected.predict(X))
    assert_array_equal(model.history_["loss"], expected.history_["loss"])
    assert states(tmp_path) == []


@needs_callbacks
def test_a_fit_without_a_seed_goes_on_with_the_one_it_had(tmp_path, rows):
    model = EvolvingRegressor(**{**QUICK, "random_state": None})
    crash(model, rows, tmp_path)
    (path,) = states(tmp_path)
    seed, _ = CheckpointFile(path.parent).load()
    model.set_callbacks(Checkpoint(tmp_path)).fit(*rows)
    assert model._seed == seed
    again = EvolvingRegressor(**{**QUICK, "random_state": None})
    again.set_callbacks(Checkpoint(tmp_path)).fit(*rows)
    assert again._seed != seed


@needs_callbacks
def test_other_rows_weights_or_parameters_are_another_fit(tmp_path, rows):
    X, y = rows
    crash(EvolvingRegressor(**QUICK), rows, tmp_path)
    weight = np.ones(len(y))
    weight[0] = 2.0
    for parameters, data in (
        ({"max_nodes": 3}, (X, y)),
        ({}, (X + 1e-9, y)),
        ({}, (X, y + 1e-9)),
        ({}, (X, y, weight)),
    ):
        model = EvolvingRegressor(**QUICK, **parameters).set_callbacks(Checkpoint(tmp_path))
        expected = EvolvingRegressor(**QUICK, **parameters).fit(*data)
        assert_array_equal(model.fit(*data).predict(X), expected.predict(X))
    assert len(states(tmp_path)) == 1


@needs_callbacks
def test_a_damaged_state_means_a_fit_from_the_beginning(tmp_path, rows):
    model = EvolvingRegressor(**QUICK)
    crash(model, rows, tmp_path)
    (path,) = states(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    model.set_callbacks(Checkpoint(tmp_path))
    with pytest.warns(UserWarning, match="damaged"):
        model.fit(*rows)
    expected = EvolvingRegressor(**QUICK).fit(*rows)
    assert_array_equal(model.predict(rows[0]), expected.predict(rows[0]))


@needs_callbacks
def test_a_warm_start_goes_on_after_a_crash(tmp_path, rows):
    expected = EvolvingRegressor(**{**QUICK, "n_generations": 12}).fit(*rows)
    model = EvolvingRegressor(warm_start=True, **QUICK).fit(*rows)
    before = pickle.dumps(model)
    crash(model.set_params(n_generations=12), rows, tmp_path)
    model = pickle.loads(before).set_params(n_generations=12)
    model.set_callbacks(Checkpoint(tmp_path)).fit(*rows)
    assert_array_equal(model.predict(rows[0]), expected.predict(rows[0]))


@needs_callbacks
def test_equal_fits_in_threads_do_not_disturb_each_other(tmp_path, rows):
    models = [EvolvingRegressor(**QUICK) for _ in range(4)]
    workers = [
        threading.Thread(target=model.set_callbacks(Checkpoint(tmp_path, interval=0.0)).fit,
                         args=rows)
        for model in models
    ]  # fmt: skip
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    expected = EvolvingRegressor(**QUICK).fit(*rows).predict(rows[0])
    for model in models:
        assert_array_equal(model.predict(rows[0]), expected)
    assert states(tmp_path) == []


@pytest.mark.cpu
@needs_callbacks
def test_fits_of_a_grid_search_have_checkpoints(tmp_path, rows):
    model = EvolvingRegressor(**QUICK).set_callbacks(Checkpoint(tmp_path, interval=0.0))
    search = GridSearchCV(model, {"max_nodes": [2, 4]}, cv=2, n_jobs=2).fit(*rows)
    plain = GridSearchCV(EvolvingRegressor(**QUICK), {"max_nodes": [2, 4]}, cv=2).fit(*rows)
    assert_array_equal(search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])
    # Two values on two folds, and the refit.
    assert len(list(tmp_path.glob("*-0"))) == 5


KILLED = """
    import os, random, signal, sys, time
    from pathlib import Path
    import numpy as np
    import torch
    from skevo import EvolvingRegressor
    from skevo.callbacks import Checkpoint

    torch.set_num_threads(1)
    folder, result = Path(sys.argv[1]), sys.argv[2]
    X = np.random.default_rng(0).normal(size=(300, 4))
    y = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2])

    def fit():
        model = EvolvingRegressor(n_members=2, n_generations=25, n_iter_no_change=None,
                                  random_state=0)
        model.set_callbacks(Checkpoint(folder, interval=0.0)).fit(X, y)
        np.save(result, np.stack([model.predict(X), *[
            np.resize(model.history_[name], len(X)) for name in ("loss", "n_nodes")]]))

    draw = random.Random(1)
    kills = 0
    while True:
        child = os.fork()
        if not child:
            fit()
            os._exit(0)
        if kills < 20:
            time.sleep(draw.uniform(0.02, 0.3))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            print("ended", os.WEXITSTATUS(status), "after", kills)
            if kills == 20:
                break
            os.remove(result)
            continue
        kills += 1
        for path in folder.glob("*/state"):
            if kills % 5 == 0:
                content = path.read_bytes()
                cut = draw.randrange(len(content))
                damaged = bytes([content[cut] ^ 255]) + content[cut + 1:] if kills % 2 else b""
                path.write_bytes(content[:cut] + damaged)
"""


@pytest.mark.cpu
@needs_callbacks
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fit_that_was_killed_at_twenty_moments_ends_with_the_same_model(tmp_path):
    result = tmp_path / "result.npy"
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(KILLED), str(tmp_path / "states"),
         str(result)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout.splitlines()[-1] == "ended 0 after 20"
    X = np.random.default_rng(0).normal(size=(300, 4))
    y = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2])
    model = EvolvingRegressor(n_members=2, n_generations=25, n_iter_no_change=None, random_state=0)
    model.fit(X, y)
    prediction, loss, n_nodes = np.load(result)
    assert_array_equal(prediction, model.predict(X))
    assert_array_equal(loss, np.resize(model.history_["loss"], len(X)))
    assert_array_equal(n_nodes, np.resize(model.history_["n_nodes"], len(X)))


# -- the other callbacks ---------------------------------------------------------------------------


@needs_callbacks
def test_time_limit_stops_a_fit(rows):
    model = EvolvingRegressor(random_state=0).set_callbacks(TimeLimit(1e-9)).fit(*rows)
    assert (model.n_iter_, model.stop_reason_) == (0, "callback")
    model.set_callbacks(TimeLimit(1e9)).set_params(n_generations=3).fit(*rows)
    assert (model.n_iter_, model.stop_reason_) == (3, "n_generations")


@needs_callbacks
def test_early_stopping_stops_when_the_score_does_not_rise(rows):
    X, y = rows
    stopping = EarlyStopping(
        X[150:], y[150:], scoring="neg_mean_absolute_error", n_iter_no_change=2, tol=0.01
    )
    # One member: its average is the model, without a correction.
    model = EvolvingRegressor(n_members=1, n_iter_no_change=None, random_state=0)
    model.set_callbacks(stopping).fit(X[:150], y[:150])
    scores = []
    for n in range(model.n_iter_ + 1):
        shorter = EvolvingRegressor(n_members=1, n_generations=n, random_state=0)
        shorter.fit(X[:150], y[:150])
        scores.append(-np.abs(shorter.predict(X[150:]) - y[150:]).mean())
    best, stale = -np.inf, []
    for score in scores:
        stale.append(0 if score > best + 0.01 else stale[-1] + 1)
        best = score if stale[-1] == 0 else best
    assert stale[-1] == 2
    assert 2 not in stale[:-1]
    assert model.stop_reason_ == "callback"
    pickle.loads(pickle.dumps(stopping))


@needs_callbacks
def test_early_stopping_scores_with_the_estimators_own_score(rows):
    X, y = rows
    stopping = EarlyStopping(X[150:], y[150:] > 0, n_iter_no_change=1)
    model = EvolvingClassifier(n_members=2, n_iter_no_change=None, random_state=0)
    model.set_callbacks(stopping).fit(X[:150], y[:150] > 0)
    assert model.stop_reason_ == "callback"


@needs_callbacks
def test_tensorboard_has_the_course(tmp_path, rows):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    model = EvolvingRegressor(**QUICK).set_callbacks(TensorBoard(tmp_path)).fit(*rows)
    model.fit(*rows)
    runs = sorted(tmp_path.iterdir())
    assert len(runs) == 2
    events = reader.EventAccumulator(str(runs[0]))
    events.Reload()
    written = events.Scalars("validation_loss")
    history = model.history_["validation_loss"].reshape(2, -1).mean(axis=0)
    np.testing.assert_allclose([event.value for event in written], history, rtol=1e-6)
    assert [event.step for event in written] == list(range(len(history)))
