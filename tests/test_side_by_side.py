"""Groups that grow in other processes: the same models, and what happens if a process ends."""

import itertools
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone

from skevo import EvolvingClassifier, EvolvingRegressor, Operator
from skevo.core import evolution, members, side_by_side, workers

QUICK = {"n_members": 4, "n_generations": 6, "n_candidates": 64, "random_state": 0}


pytestmark = pytest.mark.cpu


@pytest.fixture(autouse=True)
def groups_of_two(monkeypatch):
    """Have four members be two groups, and nobody start workers but the tests."""
    monkeypatch.setattr(members, "_GROUP", 2)
    monkeypatch.setattr(side_by_side, "_PATIENCE", np.inf)


def wait_for(worker):
    while not worker.has_started:
        assert not worker.has_ended
        time.sleep(0.01)


@pytest.fixture
def worker():
    """Leave one worker for the next fit."""
    one = workers.borrow() or workers.Worker()
    wait_for(one)
    workers.give_back(one)
    return one


@pytest.fixture
def no_worker(monkeypatch):
    """Have nobody wait, and growth have taken no time yet."""
    while (one := workers.borrow()) is not None:
        one.close()
    monkeypatch.setattr(side_by_side.SideBySide, "_seconds", 0.0)


@pytest.fixture
def moves(monkeypatch):
    """Count the groups that move to a worker."""
    made, move = [], side_by_side._Somewhere.move
    monkeypatch.setattr(
        side_by_side._Somewhere, "move", lambda *args: (made.append(args), move(*args))
    )
    return made


def rows(n=300, n_outputs=1):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4))
    y = np.stack([X[:, 0] * X[:, 1], np.sin(X[:, 2])], axis=1) + 0.1 * rng.normal(size=(n, 2))
    return X, y[:, 0] if n_outputs == 1 else y


def classes(n=300):
    X, y = rows(n)
    return X, np.digitize(y, [-0.5, 0.5])


def categories(n=300):
    X, y = rows(n)
    rng = np.random.default_rng(1)
    town = rng.integers(60, size=n)
    table = pd.DataFrame(X).assign(town=pd.Categorical(town.astype(str)))
    return table.rename(columns=str), y + 0.05 * town


def swish(left, right):
    return left * torch.sigmoid(right)


SWISH = Operator("swish", swish, "swish({a}, {b})")
CASES = {
    "regression": (EvolvingRegressor, rows, {}),
    "outputs": (EvolvingRegressor, lambda: rows(n_outputs=2), {}),
    "no fold": (EvolvingRegressor, rows, {"validation_fraction": None}),
    "huber": (EvolvingRegressor, rows, {"loss": "huber"}),
    "quantile": (EvolvingRegressor, rows, {"loss": "quantile", "quantile": 0.3}),
    "adam": (EvolvingRegressor, rows, {"solver": "adam"}),
    "monotonic": (EvolvingRegressor, rows, {"monotonic_constraints": [1, 0, 0, -1]}),
    "a user's operator": (EvolvingRegressor, rows, {"operators": ("mul", SWISH)}),
    "categories": (EvolvingRegressor, categories, {}),
    "classes": (EvolvingClassifier, classes, {}),
}  # fmt: skip


def model_of(model):
    network = model._ensemble.network
    return [getattr(network, name) for name in ("weight", "bias", "constants", "scale")]


def assert_same(one, other):
    assert one._ensemble.network.topology == other._ensemble.network.topology
    assert all(map(torch.equal, model_of(one), model_of(other)))
    for name in ("loss", "validation_loss", "n_nodes"):
        assert_array_equal(one.history_[name], other.history_[name])


@pytest.mark.parametrize("case", CASES)
def test_a_worker_gives_the_same_model(case, worker, moves):
    estimator, data, parameters = CASES[case]
    X, y = data()
    one = estimator(**QUICK, **parameters).fit(X, y)
    assert not moves
    two = estimator(**QUICK, **parameters, n_jobs=2).fit(X, y)
    assert len(moves) == (2 if case == "adam" else 1)
    assert_same(one, two)
    assert one._ensemble.network.operators == two._ensemble.network.operators


@pytest.mark.parametrize("generation", [1, 4])
@pytest.mark.parametrize("case", ["regression", "adam", "classes", "categories"])
def test_a_group_that_moves_later_gives_the_same_model(
    case, generation, worker, moves, monkeypatch
):
    asked = []

    def borrow():
        asked.append(1)
        return workers.borrow() if len(asked) > generation else None

    monkeypatch.setattr(side_by_side, "borrow", borrow)
    estimator, data, parameters = CASES[case]
    X, y = data()
    one, two = (estimator(**QUICK, **parameters, n_jobs=k).fit(X, y) for k in (1, 2))
    assert moves
    assert_same(one, two)


def test_rows_to_be_judged_by_go_to_a_worker(worker, moves):
    (X, y), (X_val, y_val) = rows(), rows(7000)
    one, two = (
        EvolvingRegressor(**QUICK, n_jobs=k).fit(X, y, X_val=X_val, y_val=y_val) for k in (1, 2)
    )
    assert moves
    assert_same(one, two)


def test_what_grew_in_a_worker_goes_on(worker, moves):
    X, y = rows()
    whole = EvolvingRegressor(**QUICK, n_jobs=2).fit(X, y)
    parts = EvolvingRegressor(**QUICK, n_jobs=2, warm_start=True)
    parts.set_params(n_generations=3).fit(X, y)
    parts.set_params(n_generations=6).fit(X, y)
    assert len(moves) == 3
    assert_same(whole, parts)


def test_a_worker_starts_once_growth_has_taken_a_while(no_worker, moves, monkeypatch):
    started, calls = [], itertools.count()

    def start():
        started.append(workers.Worker())
        return started[-1]

    def advance(*args):
        # It comes as the third generation is about to begin.
        if next(calls) == 2:
            wait_for(started[0])
        return evolution.advance_all(*args)

    monkeypatch.setattr(side_by_side, "Worker", start)
    monkeypatch.setattr(side_by_side, "advance_all", advance)
    X, y = rows()
    model = EvolvingRegressor(**QUICK, n_jobs=2)
    monkeypatch.setattr(side_by_side, "_PATIENCE", 0.0)
    two = model.fit(X, y)
    assert len(started) == len(moves) == 1
    # It waits for the next fit.
    three = clone(model).fit(X, y)
    assert len(started) == 1
    assert len(moves) == 2
    for other in (two, three):
        assert_same(EvolvingRegressor(**QUICK).fit(X, y), other)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("raise SystemExit", "a worker process ended as it started"),
        ("no such executable", "no worker process could be started"),
    ],
)
def test_a_worker_that_cannot_start_is_told_and_done_without(program, told, no_worker, monkeypatch):
    monkeypatch.setattr(side_by_side, "_PATIENCE", 0.0)
    monkeypatch.setattr(workers, "_PROGRAM", program)
    if "executable" in program:
        monkeypatch.setattr(sys, "executable", program)
    X, y = rows(1000)
    many = {**QUICK, "n_generations": 60, "n_iter_no_change": None}
    with pytest.warns(RuntimeWarning, match=told) as warned:
        two = EvolvingRegressor(**many, n_jobs=2).fit(X, y)
    assert len(warned) == 1
    assert_same(EvolvingRegressor(**many).fit(X, y), two)


class Home:
    """Can be pickled here, and loaded nowhere else."""

    def __reduce__(self):
        return at_home, (os.getpid(),)


def at_home(process):
    if process != os.getpid():
        raise LookupError("far from home")
    return Home()


@pytest.mark.parametrize(
    ("with_it", "told"), [(threading.Lock(), "cannot pickle"), (Home(), "far from home")]
)
def test_what_cannot_travel_stays(with_it, told, worker, moves):
    def times(left, right):
        assert with_it is not None
        return left * right

    X, y = rows()
    own = Operator("times", times, "times({a}, {b})")
    one, two = (EvolvingRegressor(**QUICK, operators=(own,), n_jobs=k) for k in (1, 2))
    with pytest.warns(RuntimeWarning, match=f"cannot travel to another process .*{told}"):
        two.fit(X, y)
    assert_same(one.fit(X, y), two)
    assert workers.borrow() is worker
    workers.give_back(worker)


def test_a_worker_that_ends_is_told(worker, monkeypatch):
    X, y = rows()
    calls = itertools.count()

    def advance(*args):
        if next(calls) == 2:
            worker._process.kill()
        return evolution.advance_all(*args)

    monkeypatch.setattr(side_by_side, "advance_all", advance)
    with pytest.raises(RuntimeError, match="worker process has ended"):
        EvolvingRegressor(**QUICK, n_jobs=2).fit(X, y)
    # The next one does without.
    assert workers.borrow() is None
    assert_same(*(EvolvingRegressor(**QUICK, n_jobs=k).fit(X, y) for k in (1, 2)))


def test_a_worker_that_ends_as_it_waits_is_not_missed(worker, moves):
    X, y = rows()
    worker._process.kill()
    worker._process.wait()
    assert_same(*(EvolvingRegressor(**QUICK, n_jobs=k).fit(X, y) for k in (1, 2)))
    assert not moves


def test_a_worker_that_nobody_borrows_ends(monkeypatch, worker):
    assert workers.borrow() is worker
    monkeypatch.setattr(workers, "_IDLE_SECONDS", 0.01)
    workers.give_back(worker)
    worker._process.wait(10)
    assert workers.borrow() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_fork_leaves_workers_to_its_parent(worker):
    child = os.fork()
    if child == 0:
        os._exit(0 if workers.borrow() is None else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert workers.borrow() is worker
    workers.give_back(worker)


def test_a_process_takes_its_workers_along(tmp_path):
    script = tmp_path / "script.py"
    # No guard of the main module, whose functions a worker gets to know as well.
    script.write_text(
        """
import numpy as np, torch
from skevo import EvolvingRegressor, Operator
from skevo.core import members, side_by_side, workers

members._GROUP = 2
def own(left, right):
    return torch.tanh(left) * right

worker = workers.Worker()
while not worker.has_started:
    assert not worker.has_ended
workers.give_back(worker)
X = np.random.default_rng(0).normal(size=(200, 3))
own = Operator("own", own, "own({a}, {b})")
one, two = (
    EvolvingRegressor(n_members=4, n_generations=4, operators=(own,), random_state=0, n_jobs=k)
    .fit(X, X[:, 0] * X[:, 1]).predict(X)
    for k in (1, 2)
)
assert (one == two).all() and side_by_side.SideBySide._seconds == 0.0
print(worker._process.pid)
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert not done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


class AwkwardError(Exception):
    """Cannot be loaded from a pickle."""

    def __init__(self, what, where):
        super().__init__(f"{what} {where}")


@pytest.mark.parametrize(
    ("kind", "args", "raised"),
    [
        (ArithmeticError, ("not here",), pytest.raises(ArithmeticError, match=r"^not here")),
        (
            AwkwardError,
            ("not", "here"),
            pytest.raises(RuntimeError, match=r"^AwkwardError: not here"),
        ),
    ],
)
def test_what_a_worker_raises_is_raised(kind, args, raised, worker, moves):
    X, y = rows()
    home = os.getpid()

    def fails(left, right):
        if os.getpid() != home:
            raise kind(*args)
        return left * right

    own = Operator("fails", fails, "fails({a}, {b})")
    model = EvolvingRegressor(**QUICK, n_jobs=2, operators=(own,))
    with raised as told:
        model.fit(X, y)
    assert moves
    assert "In a worker process" in told.value.__notes__[0]
    # It was left in the middle of something.
    assert worker.has_ended
