"""Rows on a cluster: the model is that of the local estimator."""

import os
import pickle
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from builders import assert_same_network, take_rows
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.utils.fixes import parse_version

from skevo import EvolvingClassifier, EvolvingRegressor, load
from skevo.callbacks import Checkpoint, EarlyStopping, TimeLimit
from skevo.core import members, operators
from skevo.core.folds import plan_members
from skevo.core.group import Group
from skevo.core.losses import SquaredError
from skevo.core.operators import get_operators
from skevo.core.settings import Settings
from skevo.core.table import Table

pytest.importorskip("distributed")

import dask.array as da
import dask.dataframe as dd
from distributed import Client, LocalCluster

from skevo.dask import DaskEvolvingClassifier, DaskEvolvingRegressor
from skevo.dask import _cluster as cluster_module
from skevo.dask._device import moved
from skevo.dask._growing import ClusterNursery, _advance, _Plan

pytestmark = [
    # What distributed does in its own threads as it comes and goes.
    pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]
needs_callbacks = pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"), reason="scikit-learn < 1.9"
)
QUICK = {"n_members": 3, "n_generations": 4, "dtype": "float64", "random_state": 0}
N = 800


def client_of_two(processes):
    """Yield the client of a cluster of two workers of one thread."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def client():
    yield from client_of_two(processes=False)


@pytest.fixture(params=[20_000, 100], ids=["small", "large"])
def most_rows(request, monkeypatch):
    """Have tables be small or large: of large ones members see some rows, heads all."""
    take_rows(monkeypatch, request.param)


@pytest.fixture
def large(monkeypatch):
    """Have tables be large."""
    take_rows(monkeypatch, 100)


def numbers(n=N):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(n, 4))
    signal = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2])
    weight = generator.uniform(0.3, 3.0, n)
    weight[::11] = 0.0
    return X, signal + 0.2 * generator.normal(size=n), weight


def problem(kind):
    """Return both estimators, rows, targets and weights."""
    X, y, weight = numbers()
    if kind == "regression":
        return EvolvingRegressor, DaskEvolvingRegressor, X, y, weight
    if kind == "limited targets":
        return EvolvingRegressor, DaskEvolvingRegressor, X, np.clip(y, -0.5, 1.0), weight
    if kind == "two targets":
        y = np.column_stack([y, X[:, 3] ** 2])
        return EvolvingRegressor, DaskEvolvingRegressor, X, y, weight
    labels = np.array(["low", "middle", "high"])
    y = labels[np.digitize(y, [0.0] if kind == "two classes" else [-0.5, 0.5])]
    return EvolvingClassifier, DaskEvolvingClassifier, X, y, weight


def cut(table, n_parts):
    """Return an array in so many chunks."""
    size = -(-len(table) // n_parts)
    return da.from_array(table, chunks=(size, *table.shape[1:]))


def uneven(table):
    """Return an array of chunks of any size, which is not known, some of them empty."""
    parts = [table[a:b] for a, b in [(0, 7), (7, 7), (7, 500), (500, 501), (501, 501), (501, None)]]
    whole = da.concatenate([da.from_array(part, chunks=-1) for part in parts])
    return whole[da.ones(len(table), dtype=bool, chunks=whole.chunks[0])]


def assert_same_model(found, expected, X):
    assert found._ensemble.network.topology == expected._ensemble.network.topology
    assert found.history_["n_nodes"].tolist() == expected.history_["n_nodes"].tolist()
    local, function = found.to_local(), "predict"
    if hasattr(expected, "classes_"):
        function = "predict_proba"
        assert_array_equal(found.classes_, expected.classes_)
    assert_allclose(getattr(local, function)(X), getattr(expected, function)(X), atol=1e-8)


# -- the model -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_parts", [1, 2, 7, 40])
@pytest.mark.parametrize(
    "kind", ["regression", "limited targets", "two targets", "two classes", "three classes"]
)
def test_model_is_that_of_the_local_estimator(client, large, kind, n_parts):
    local, on_dask, X, y, weight = problem(kind)
    expected = local(**QUICK).fit(X, y, weight)
    model = on_dask(**QUICK).fit(*(cut(part, n_parts) for part in (X, y, weight)))
    assert_same_model(model, expected, X)
    assert_allclose(model.history_["loss"], expected.history_["loss"], rtol=1e-9)


@pytest.mark.parametrize(
    "parameters",
    [
        {"loss": "quantile", "quantile": 0.8},
        {"loss": "huber"},
        {"loss": "poisson"},
        {"loss": "gamma"},
        {"n_members": 1},
        {"validation_fraction": None},
        {"monotonic_constraints": [1, 0, 0, 0]},
        {"solver": "adam"},
    ],
    ids=str,
)
def test_parameters_mean_what_they_mean_locally(client, most_rows, parameters):
    X, y, _ = numbers()
    y = np.exp(y)
    expected = EvolvingRegressor(**{**QUICK, **parameters}).fit(X, y)
    model = DaskEvolvingRegressor(**{**QUICK, **parameters}).fit(uneven(X), uneven(y))
    assert_same_model(model, expected, X)
    assert_allclose(model.predict(uneven(X)).compute(), expected.predict(X), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("class_weight", ["balanced", {"high": 3.0, "low": 0.0}])
def test_classes_have_their_weights(client, most_rows, class_weight):
    local, on_dask, X, y, weight = problem("three classes")
    quick = {**QUICK, "class_weight": class_weight}
    expected = local(**quick).fit(X, y, weight)
    model = on_dask(**quick).fit(uneven(X), uneven(y), uneven(weight))
    assert_same_model(model, expected, X)


def test_wide_tables_show_members_the_columns_that_tell_most(client, large, monkeypatch):
    for name in ("members", "ensemble"):
        monkeypatch.setattr(f"skevo.core.{name}.MOST_INPUTS", 3)
    X, y, _ = numbers()
    expected = EvolvingRegressor(**QUICK).fit(X, y)
    model = DaskEvolvingRegressor(**QUICK).fit(uneven(X), uneven(y))
    assert_same_model(model, expected, X)


def frame():
    """Return a table with text, a category, missing cells and names."""
    X, y, weight = numbers()
    generator = np.random.default_rng(1)
    table = pd.DataFrame(X, columns=list("abcd"))
    table.loc[::9, "b"] = np.nan
    table["town"] = generator.choice(["Bonn", "Jena", "Ulm"], N, p=[0.6, 0.395, 0.005])
    table["kind"] = pd.Categorical(generator.choice(["x", "y"], N), categories=["y", "z", "x"])
    table.loc[5:20, "town"] = None
    y = pd.Series(y + (table["town"] == "Bonn").to_numpy(), name="target")
    return table, y, pd.Series(weight)


def frames(*tables, known=True):
    """Return frames in uneven partitions, one of them empty, without divisions."""
    places = [0, 7, 7, 500, N]
    found = []
    for table in tables:
        parts = [table.iloc[a:b] for a, b in pairwise(places)]
        whole = dd.concat([dd.from_pandas(part, npartitions=1, sort=False) for part in parts])
        if not known and isinstance(table, pd.DataFrame):
            whole["kind"] = whole["kind"].cat.as_unknown()
        found.append(whole.clear_divisions())
    return found


@pytest.mark.parametrize("known", [True, False])
def test_frames_with_categories_and_missing_cells(client, most_rows, known):
    X, y, weight = frame()
    expected = EvolvingRegressor(**QUICK).fit(X, y, weight)
    X_parts, y_parts, weight_parts = frames(X, y, weight, known=known)
    model = DaskEvolvingRegressor(**QUICK).fit(X_parts, y_parts, weight_parts)
    assert_same_model(model, expected, X)
    # Terms of equal weight may stand in another order.
    assert sorted(re.findall(r"[a-z]\w*", model.formula_)) == sorted(
        re.findall(r"[a-z]\w*", expected.formula_)
    )
    assert_array_equal(model.feature_names_in_, X.columns)
    predicted = model.predict(X_parts)
    assert isinstance(predicted, dd.Series)
    assert_allclose(predicted.compute(), expected.predict(X), atol=1e-8)
    assert_array_equal(predicted.compute().index, X.index)


def test_labels_of_frames_are_those_of_the_local_estimator(client):
    X, y, _ = frame()
    labels = pd.Series(np.where(y > 0, "high", "low"), name="label")
    expected = EvolvingClassifier(**QUICK).fit(X, labels)
    X_parts, y_parts = frames(X, labels)
    model = DaskEvolvingClassifier(**QUICK).fit(X_parts, y_parts)
    assert_same_model(model, expected, X)
    found = model.predict(X_parts).compute()
    assert_array_equal(found.to_numpy(), expected.predict(X))
    assert model.score(X_parts, y_parts) == pytest.approx(expected.score(X, labels))


def test_text_that_is_in_one_partition_only_makes_a_category(client):
    X, y, _ = numbers()
    table = pd.DataFrame(X[:, :2], columns=["a", "b"])
    table["mixed"] = np.where(np.arange(N) % 2, 1, 2).astype(object)
    table.loc[N - 100 :, "mixed"] = "three"
    expected = EvolvingRegressor(**QUICK).fit(table, y)
    assert len(expected._encoding.levels[2]) == 3
    with pytest.MonkeyPatch.context():
        import dask

        with dask.config.set({"dataframe.convert-string": False}):
            parts = frames(table, pd.Series(y))
            model = DaskEvolvingRegressor(**QUICK).fit(*parts)
    assert_same_model(model, expected, table)


# -- predictions and scores ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["regression", "two targets", "two classes", "three classes"])
def test_predictions_are_lazy_and_have_shape_and_dtype(client, kind):
    local, on_dask, X, y, _ = problem(kind)
    expected = local(**QUICK).fit(X, y)
    model = on_dask(**QUICK).fit(cut(X, 2), cut(y, 2))

    def refuse(block):
        raise AssertionError("computed")

    X_parts = da.from_array(X, chunks=(300, 3))
    lazy = X_parts.map_blocks(refuse, dtype=float, meta=np.empty((0, 0)))
    functions = ["predict", *(["predict_proba", "decision_function"] * hasattr(local, "classes_"))]
    for function in functions:
        whole = getattr(expected, function)(X)
        found = getattr(model, function)(X_parts)
        assert isinstance(found, da.Array)
        assert (found.shape, found.dtype) == (whole.shape, whole.dtype)
        assert found.chunks[0] == (300, 300, 200)
        assert found._meta.ndim == whole.ndim
        if whole.dtype.kind == "f":
            assert_allclose(found.compute(), whole, atol=1e-8)
        else:
            assert_array_equal(found.compute(), whole)
        with pytest.raises(AssertionError, match="computed"):
            getattr(model, function)(lazy).compute()


@pytest.mark.parametrize("kind", ["two targets", "three classes"])
def test_predictions_of_frames_are_frames(client, kind):
    local, on_dask, X, y, _ = problem(kind)
    X = pd.DataFrame(X, columns=list("abcd"), index=np.arange(N)[::-1])
    expected = local(**QUICK).fit(X, y)
    model = on_dask(**QUICK).fit(dd.from_pandas(X, npartitions=3, sort=False), cut(y, 3))
    function = "predict" if kind == "two targets" else "predict_proba"
    (parts,) = frames(X)
    found = getattr(model, function)(parts)
    assert isinstance(found, dd.DataFrame)
    assert_allclose(found.compute(), getattr(expected, function)(X), atol=1e-8)
    assert_array_equal(found.compute().index, X.index)
    labels = model.predict(parts)
    assert labels._meta.shape[1:] == labels.compute().shape[1:]


@pytest.mark.parametrize("kind", ["regression", "two targets", "two classes"])
@pytest.mark.parametrize("weighted", [True, False])
def test_score_is_that_of_the_local_estimator(client, kind, weighted):
    _, on_dask, X, y, weight = problem(kind)
    model = on_dask(**QUICK).fit(cut(X, 2), cut(y, 2))
    given = {"sample_weight": weight} if weighted else {}
    expected = model.to_local().score(X, y, **given)
    parts = {name: uneven(value) for name, value in given.items()}
    assert model.score(uneven(X), uneven(y), **parts) == pytest.approx(expected, abs=1e-12)


def test_weights_below_1_are_relative(client):
    X, y, _ = numbers()
    small, plain = (
        DaskEvolvingRegressor(**QUICK).fit(cut(X, 3), cut(y, 3), cut(np.full(N, weight), 3))
        for weight in (2.0**-10, 1.0)
    )
    assert_array_equal(small.predict(cut(X, 2)).compute(), plain.predict(cut(X, 2)).compute())


def test_score_of_targets_far_from_zero_or_constant(client):
    X, y, _ = numbers()
    far = 1e9 + y
    model = DaskEvolvingRegressor(**QUICK).fit(cut(X, 3), cut(far, 3))
    expected = model.to_local().score(X, far)
    assert model.score(cut(X, 5), cut(far, 5)) == pytest.approx(expected, abs=1e-6)
    same = np.full(N, 3.0)
    assert model.score(cut(X, 5), cut(same, 5)) == 0.0
    model.fit(cut(X, 3), cut(same, 3))
    assert model.score(cut(X, 5), cut(same, 5)) == 1.0


# -- the face --------------------------------------------------------------------------------------


WITHOUT_DASK = """
import pickle, sys
sys.modules["dask"] = sys.modules["distributed"] = None
model = pickle.load(open(sys.argv[1], "rb"))
assert type(model).__name__ == "EvolvingRegressor"
assert model.predict([[0.0, 1.0, 2.0, 3.0]]).shape == (1,)
assert "def predict" in model.to_source("python")
"""


def test_local_model_needs_no_dask(client, tmp_path):
    X, y, _ = numbers()
    model = DaskEvolvingRegressor(client=client, **QUICK).fit(cut(X, 2), cut(y, 2))
    local = model.to_local()
    assert type(local) is EvolvingRegressor
    assert "client" not in local.get_params()
    (tmp_path / "model").write_bytes(pickle.dumps(local))
    subprocess.run([sys.executable, "-c", WITHOUT_DASK, tmp_path / "model"], check=True)
    model.save(tmp_path / "file")
    assert_array_equal(load(tmp_path / "file").predict(X), local.predict(X))


def test_estimators_have_the_parameters_of_the_local_ones_and_a_client(client):
    for on_dask, local in (
        (DaskEvolvingRegressor, EvolvingRegressor),
        (DaskEvolvingClassifier, EvolvingClassifier),
    ):
        model = on_dask(client=client, n_members=2)
        assert {*model.get_params()} == {*local().get_params(), "client"}
        copied = clone(model)
        assert copied.client is client
        assert copied.n_members == 2
        assert pickle.loads(pickle.dumps(model)).client is None
        with sklearn.config_context(enable_metadata_routing=True):
            asking = clone(model.set_fit_request(sample_weight=True))
            assert asking.get_metadata_routing().fit.requests["sample_weight"] is True


def test_a_fitted_model_is_pickled_without_its_client(client):
    X, y, _ = numbers()
    model = DaskEvolvingRegressor(client=client, **QUICK).fit(cut(X, 2), cut(y, 2))
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(cut(X, 3)).compute(), model.predict(cut(X, 3)).compute())


@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
def test_rows_in_memory_raise_and_name_the_local_estimator(client, name):
    X, y, weight = numbers()
    given = {"X": cut(X, 2), "y": cut(y, 2), "sample_weight": cut(weight, 2)}
    given[name] = given[name].compute()
    with pytest.raises(TypeError, match=rf"{name} must be .* got ndarray.*EvolvingRegressor"):
        DaskEvolvingRegressor(**QUICK).fit(**given)


def test_predicting_rows_in_memory_raises(client):
    _, on_dask, X, y, _ = problem("two classes")
    model = on_dask(**QUICK).fit(cut(X, 2), cut(y, 2))
    for function in (model.predict, model.predict_proba):
        with pytest.raises(TypeError, match=r"skevo\.EvolvingClassifier"):
            function(X)


def bad(X=None, y=None, weight=None):
    """Return rows as they should be, but for some."""
    right = numbers()
    return [
        given if given is not None else own
        for given, own in zip((X, y, weight), right, strict=True)
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (bad(X=np.full((N, 4), np.inf)), "infinity"),
        (bad(y=np.full(N, np.nan)), "NaN"),
        (bad(weight=np.full(N, -1.0)), "Negative"),
        (bad(weight=np.zeros(N)), "at least one"),
    ],
    ids=["X", "y", "negative", "zero"],
)
def test_bad_rows_raise_as_they_do_locally(client, rows, message):
    with pytest.raises(ValueError, match=message):
        EvolvingRegressor(**QUICK).fit(*rows)
    with pytest.raises(ValueError, match=message):
        DaskEvolvingRegressor(**QUICK).fit(*(cut(part, 3) for part in rows))


def test_partitions_that_do_not_match_raise(client):
    X, y, _ = numbers()
    with pytest.raises(ValueError, match="as many rows, got 800 and 700 of y"):
        DaskEvolvingRegressor(**QUICK).fit(cut(X, 2), cut(y[:700], 2))
    with pytest.raises(ValueError, match="as many partitions"):
        DaskEvolvingRegressor(**QUICK).fit(uneven(X), cut(y, 2))
    with pytest.raises(ValueError, match="two dimensions"):
        DaskEvolvingRegressor(**QUICK).fit(cut(y, 2), cut(y, 2))
    with pytest.raises(ValueError, match="two rows"):
        DaskEvolvingRegressor(**QUICK).fit(cut(X[:1], 1), cut(y[:1], 1))
    shifted = da.concatenate([cut(y[:5], 1), cut(y[5:], 1)])[da.ones(N, dtype=bool, chunks=400)]
    with pytest.raises(ValueError, match="as many"):
        DaskEvolvingRegressor(**QUICK).fit(uneven(X), shifted)


def test_one_class_raises(client):
    X, _, _ = numbers()
    with pytest.raises(ValueError, match="at least 2 classes"):
        DaskEvolvingClassifier(**QUICK).fit(cut(X, 2), cut(np.ones(N), 2))


def test_what_takes_rows_in_memory_raises(client):
    X, y, _ = numbers()
    with pytest.raises(ValueError, match=r"to_local\(\) returns the EvolvingRegressor"):
        DaskEvolvingRegressor(**QUICK).partial_fit(X, y)
    codes = pd.DataFrame({"a": X[:, 0], "code": [f"c{k % 300}" for k in range(N)]})
    with pytest.raises(ValueError, match="column 1 has 300 levels"):
        DaskEvolvingRegressor(**QUICK).fit(dd.from_pandas(codes, npartitions=2), cut(y, 2))


def test_a_fit_that_fails_leaves_the_model_as_it_was(client):
    X, y, _ = numbers()
    model = DaskEvolvingRegressor(**QUICK).fit(cut(X, 2), cut(y, 2))
    before = model.to_local().predict(X)
    with pytest.raises(ValueError, match="infinity"):
        model.fit(cut(np.full((N, 3), np.inf), 2), cut(y, 2))
    assert model.n_features_in_ == 4
    assert_array_equal(model.to_local().predict(X), before)


# -- going on --------------------------------------------------------------------------------------


def test_warm_start_goes_on_as_one_longer_fit(client, large):
    X, y, _ = numbers()
    model = DaskEvolvingRegressor(**{**QUICK, "n_generations": 2}, warm_start=True)
    model.fit(cut(X, 3), cut(y, 3)).set_params(n_generations=4).fit(cut(X, 3), cut(y, 3))
    assert_same_model(model, EvolvingRegressor(**QUICK).fit(X, y), X)


def test_verbose_prints_a_line_per_generation(client, capsys):
    X, y, _ = numbers()
    DaskEvolvingRegressor(**QUICK, verbose=1).fit(cut(X, 2), cut(y, 2))
    assert capsys.readouterr().out.count("generation") == 5


class CrashError(Exception):
    """What a fit dies of."""


class Call(TimeLimit):
    """A callback that calls a function after some of the generations."""

    def __init__(self, function, after):
        super().__init__(1.0)
        self.function, self.after = function, after

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "generation" and context.task_id in self.after:
            self.function()
        return False


def fail():
    raise CrashError


@needs_callbacks
def test_callbacks_score_collections(client):
    X, y, _ = numbers()
    X, y = cut(X, 3), cut(y, 3)
    model = DaskEvolvingRegressor(**{**QUICK, "n_generations": 30}, client=client)
    model.set_callbacks(EarlyStopping(X, y, n_iter_no_change=1, tol=0.05)).fit(X, y)
    assert model.stop_reason_ == "callback"
    assert model.n_iter_ < 30


@needs_callbacks
def test_a_fit_that_was_killed_goes_on_from_its_checkpoint(client, large, tmp_path):
    X, y, _ = numbers()
    rows = cut(X, 3), cut(y, 3)
    model = DaskEvolvingRegressor(**QUICK, client=client)
    model.set_callbacks(Checkpoint(tmp_path, interval=0.0), Call(fail, [2]))
    with pytest.raises(CrashError):
        model.fit(*rows)
    (state,) = tmp_path.glob("*/state")
    seen = []
    model.set_callbacks(Checkpoint(tmp_path, interval=0.0), Call(lambda: seen.append(1), range(9)))
    model.fit(*rows)
    assert len(seen) == 2
    assert not state.exists()
    assert_same_model(model, EvolvingRegressor(**QUICK).fit(X, y), X)


# -- devices ---------------------------------------------------------------------------------------


@dataclass
class Nested:
    function: Any
    parts: list[Any]


def test_values_move_to_a_device_with_all_tensors_in_them():
    tensor, number = torch.arange(3.0), 4

    def function():
        return tensor, number

    cpu, meta = torch.device("cpu"), torch.device("meta")
    value = Nested(function, [{"a": tensor}, (tensor[1:], "text")])
    assert moved(value, cpu, cpu) is value
    there = moved(value, cpu, meta)
    found = [*there.function()[:1], there.parts[0]["a"], there.parts[1][0]]
    assert [part.device for part in found] == [meta] * 3
    assert [part.shape for part in found] == [(3,), (3,), (2,)]
    assert there.function()[1] == number
    assert there.parts[1][1] == "text"
    assert tensor.device == cpu


@pytest.fixture(scope="module")
def second_device():
    """Return a name by which the CPU is another device, to which things have to be moved."""
    name = "cpu:0"
    torch.serialization.register_package(
        1_000, lambda storage: None, lambda storage, to: storage if to == name else None
    )
    return name


@pytest.mark.parametrize("kind", ["regression", "three classes"])
def test_workers_compute_on_their_device(client, large, second_device, kind):
    local, on_dask, X, y, weight = problem(kind)
    expected = local(**QUICK).fit(X, y, weight)
    model = on_dask(device=second_device, **QUICK).fit(*(cut(part, 3) for part in (X, y, weight)))
    assert_same_model(model, expected, X)
    assert model.device_ == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ["regression", "two classes", "three classes"])
def test_workers_compute_on_a_gpu(client, large, kind):
    local, on_dask, X, y, weight = problem(kind)
    expected = local(device="cpu", **QUICK).fit(X, y, weight)
    model = on_dask(device="cuda", **QUICK).fit(*(cut(part, 3) for part in (X, y, weight)))
    assert_same_model(model, expected, X)
    assert model.device_ == torch.device("cpu")


def test_a_device_that_workers_lack_raises(client):
    X, y, _ = numbers()
    model = DaskEvolvingRegressor(device="cuda:99", **QUICK)
    with pytest.raises(ValueError, match="device 'cuda:99' is not available"):
        model.fit(cut(X, 2), cut(y, 2))


# -- workers that are lost -------------------------------------------------------------------------


def test_a_generation_that_is_computed_again_is_the_same():
    X, y, weight = (torch.from_numpy(part) for part in numbers())
    table, n_members = Table(X.T, y[None], weight), 3
    tasks = plan_members(N, float(weight.sum()), n_members, 0.1, seed=0)
    make = partial(
        members._grower,
        operators=get_operators(("mul", "sin")),
        loss=SquaredError(),
        settings=Settings(),
        block_size=64,
    )
    plan = _Plan(make, Group(tasks, [None] * n_members, [None] * n_members), "cpu")
    step = _advance(None, table, plan, True)
    for _ in range(7):
        sent = pickle.loads(pickle.dumps(step))
        # The first has the grower itself; others make their own from the state.
        first, second, third = (_advance(start, table, plan, False) for start in (step, step, sent))
        for other in (second, third):
            assert_allclose(
                [record[:3] for record in other.records],
                [record[:3] for record in first.records],
                rtol=1e-9,
            )
            for member in range(n_members):
                assert_same_network(
                    other.state.population.network(member), first.state.population.network(member)
                )
        step = first


@pytest.fixture(scope="module")
def processes():
    """Provide a cluster of processes, whose nannies start them again."""
    yield from client_of_two(processes=True)


def interrupt(monkeypatch, moments, function):
    """Have a function called before some of the times that a fit waits for results."""
    fetch, count = cluster_module.Cluster.fetch, iter(range(10**6))

    def patched(self, futures):
        if next(count) in moments:
            function()
        return fetch(self, futures)

    monkeypatch.setattr(cluster_module.Cluster, "fetch", patched)
    return count


def test_a_fit_survives_the_loss_of_workers(processes, large, monkeypatch):
    X, y, _ = numbers()
    rows, generator = (cut(X, 5), cut(y, 5)), np.random.default_rng(0)
    expected = EvolvingRegressor(**QUICK).fit(X, y)
    with monkeypatch.context() as patch:
        count = interrupt(patch, [], None)
        model = DaskEvolvingRegressor(**QUICK, client=processes).fit(*rows)
        n_waits = next(count)
    assert_same_model(model, expected, X)

    def kill():
        # A nanny gives up a process that dies before it is there.
        there = [
            nanny.pid
            for nanny in processes.cluster.workers.values()
            if nanny.worker_address in processes.nthreads()
            and nanny.process.status.name == "running"
        ]
        if there:
            killed.append(generator.choice(there))
            os.kill(killed[-1], signal.SIGKILL)

    killed = []
    interrupt(monkeypatch, generator.choice(n_waits, 2, replace=False), kill)
    assert_same_model(model.fit(*rows), expected, X)
    assert killed


@needs_callbacks
def test_the_loss_of_all_workers_is_said_and_keeps_the_checkpoint(large, tmp_path, monkeypatch):
    X, y, _ = numbers()
    monkeypatch.setattr(cluster_module, "_PATIENCE", 0.0)
    monkeypatch.setattr(cluster_module, "_GLANCE", 0.1)
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        model = DaskEvolvingRegressor(**QUICK, client=client)
        model.set_callbacks(Checkpoint(tmp_path, interval=0.0), Call(lambda: cluster.scale(0), [2]))
        with pytest.raises(RuntimeError, match="All workers of the cluster are lost"):
            model.fit(cut(X, 3), cut(y, 3))
    (state,) = tmp_path.glob("*/state")
    assert state.exists()


def test_what_a_generation_sends_does_not_depend_on_the_number_of_rows(client, large, monkeypatch):
    sizes = []
    fetch = cluster_module.Cluster.fetch

    def weigh(self, futures):
        found = fetch(self, futures)
        sizes[-1].append(len(pickle.dumps(found)))
        return found

    advance = ClusterNursery.advance

    def watch(self, groups, first):
        with monkeypatch.context() as patch:
            patch.setattr(cluster_module.Cluster, "fetch", weigh)
            return advance(self, groups, first)

    monkeypatch.setattr(ClusterNursery, "advance", watch)
    for n_rows in (N, 10 * N):
        sizes.append([])
        X, y, _ = numbers(n_rows)
        DaskEvolvingRegressor(**QUICK).fit(cut(X, 5), cut(y, 5))
    few, many = sizes
    assert len(few) == len(many) == 5
    assert_allclose(many, few, rtol=0.2)
    assert max(many) < 10_000


def test_own_operators_travel(processes, monkeypatch):
    monkeypatch.setattr(operators, "_REGISTRY", dict(operators._REGISTRY))
    operators.register_operator("bump", lambda a, b: torch.exp(-((a - b) ** 2)))
    X, y, _ = numbers()
    quick = {**QUICK, "operators": ("mul", "bump")}
    expected = EvolvingRegressor(**quick).fit(X, y)
    model = DaskEvolvingRegressor(**quick, client=processes).fit(cut(X, 3), cut(y, 3))
    assert_same_model(model, expected, X)
    assert "bump" in model.formula_
