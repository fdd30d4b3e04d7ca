"""Saved models: what is loaded does what was saved, and what is damaged or made up is refused."""

import json
import pickle
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import skevo
from skevo import EvolvingClassifier, EvolvingRegressor, Operator
from skevo._container import ModelFileError, read_container, write_container
from skevo.core import operators

GOLDEN = Path(__file__).parent / "golden"
QUICK = {"n_members": 2, "n_generations": 3, "random_state": 0}


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(operators, "_REGISTRY", dict(operators._REGISTRY))


def table(n_rows=240):
    """Return a frame with categories, missing cells and a boolean column."""
    row = np.arange(n_rows)
    frame = pd.DataFrame(
        {
            "a": np.sin(1.7 * row),
            "b": np.cos(2.3 * row) + 2.0,
            "town": np.array(["Ulm", "Bonn", "Kiel"])[row * 7 % 3],
            "mixed": pd.Series(
                np.array([1, 2.5, "x", None], dtype=object)[row * 5 % 4], dtype=object
            ),
            "yes": row * 11 % 13 > 6,
        }
    )
    frame.loc[row % 9 == 0, "a"] = np.nan
    return frame


def target(frame):
    return frame["b"] * (frame["town"] == "Ulm") + frame["a"].fillna(0.0) * frame["b"]


def zips():
    """Return a frame with a category of many levels."""
    row = np.arange(1040)
    return pd.DataFrame({"zip": [f"{k % 260:05}" for k in row], "b": np.cos(2.3 * row)})


def plane(n_rows=120):
    """Return rows of two numbers."""
    row = np.arange(n_rows)
    return np.column_stack([np.sin(1.7 * row), np.cos(2.3 * row)])


def fitted(name):
    """Return a model of that name, and rows for it."""
    frame, X = table(), plane()
    y = X[:, 0] * X[:, 1]
    regressors = {
        "frame": lambda: (frame, target(frame), {}),
        "many levels": lambda: (zips(), zips()["b"] + np.arange(1040) % 260, {}),
        "outputs": lambda: (frame, np.column_stack([target(frame), frame["b"]]), {}),
        "one column of outputs": lambda: (X, y[:, None], {}),
        "poisson": lambda: (X, np.round(np.exp(y) * 3), {"loss": "poisson"}),
        "gamma": lambda: (X, np.exp(y), {"loss": "gamma", "n_members": 1}),
        "quantile": lambda: (X, y, {"loss": "quantile", "quantile": 0.9}),
        "one member": lambda: (X, y, {"n_members": 1}),
        "eight members": lambda: (X, y, {"n_members": 8}),
        "single precision": lambda: (X, y, {"dtype": "float32"}),
        "no generation": lambda: (X, y, {"n_generations": 0}),
        "no intervals": lambda: (X, y, {"loss": "huber", "validation_fraction": None}),
        "warm start": lambda: (X, y, {"warm_start": True}),
    }
    labels = {
        "binary": lambda: (frame, (target(frame) > 1).to_numpy(), {}),
        "texts": lambda: (X, np.array(["no", "maybe", "yes"])[np.digitize(y, [-0.2, 0.2])], {}),
        "objects": lambda: (X, np.array(["no", "yes"], dtype=object)[1 * (y > 0)], {}),
        "small integers": lambda: (
            X,
            np.digitize(y, [-0.2, 0.2]).astype(np.int8),
            {"n_members": 1},
        ),
        "weighted": lambda: (X, np.digitize(y, [0.0]), {"class_weight": {0: 1, 1: 2.5}}),
        "floats": lambda: (X, np.digitize(y, [0.0]).astype(np.float32), {}),
    }
    if name == "selected":
        model, X = fitted("eight members")
        return model.select(nodes=model.n_nodes_ // 2), X
    if name == "partial":
        model = EvolvingRegressor(**QUICK)
        for part in np.split(np.arange(len(X)), 3):
            model.partial_fit(X[part], y[part])
        return model, X
    estimator = EvolvingRegressor if name in regressors else EvolvingClassifier
    X, y, parameters = {**regressors, **labels}[name]()
    return estimator(**{**QUICK, **parameters}).fit(X, y), X


NAMES = [
    "frame", "many levels", "outputs", "one column of outputs", "poisson", "gamma", "quantile",
    "one member", "eight members", "single precision", "no generation", "no intervals",
    "warm start", "binary", "texts", "objects", "small integers", "weighted", "floats", "selected",
    "partial",
]  # fmt: skip


def assert_same_model(one, other, X):
    """Fail unless two models do the same, bit by bit."""
    assert type(one) is type(other)
    assert str(one.get_params()) == str(other.get_params())
    assert one.formula_ == other.formula_
    for name in ("n_features_in_", "n_nodes_", "n_parameters_", "n_iter_", "stop_reason_"):
        assert getattr(one, name) == getattr(other, name), name
    told = [model.contributions(X[:9], output=0).values for model in (one, other)]
    assert_array_equal(*told)
    assert hasattr(one, "feature_importances_") == hasattr(other, "feature_importances_")
    pd.testing.assert_frame_equal(one.nodes_table(output=0), other.nodes_table(output=0))
    for name in ("history_", "path_"):
        tables = getattr(one, name), getattr(other, name)
        assert [*tables[0]] == [*tables[1]]
        for column in tables[0]:
            assert tables[0][column].dtype == tables[1][column].dtype
            assert_array_equal(tables[0][column], tables[1][column])
    methods = ["predict"]
    if isinstance(one, EvolvingClassifier):
        assert one.classes_.dtype == other.classes_.dtype
        assert [*map(type, one.classes_)] == [*map(type, other.classes_)]
        methods += ["predict_proba", "decision_function"]
    elif one._intervals is not None:
        methods.append("predict_interval")
    else:
        assert other._intervals is None
    if hasattr(one, "feature_names_in_"):
        assert_array_equal(one.feature_names_in_, other.feature_names_in_)
    # As few rows too are computed on their own.
    for rows in (X, X[:2]):
        for method in methods:
            results = getattr(one, method)(rows), getattr(other, method)(rows)
            assert results[0].dtype == results[1].dtype
            assert_array_equal(*results)


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_model_does_what_the_saved_one_does(name, tmp_path):
    model, X = fitted(name)
    model.save(tmp_path / "model.skevo")
    loaded = skevo.load(tmp_path / "model.skevo")
    assert_same_model(model, loaded, X)
    for rule in ("one-standard-error", "best"):
        assert_same_model(model.select(rule=rule), loaded.select(rule=rule), X)


def test_levels_keep_their_types_and_unknown_ones_are_unknown(tmp_path):
    model, X = fitted("frame")
    model.save(tmp_path / "model")
    loaded = skevo.load(str(tmp_path / "model"))
    levels = loaded._encoding.levels
    assert levels == model._encoding.levels
    assert [type(level) for level in levels[3]] == [
        type(level) for level in model._encoding.levels[3]
    ]
    new = X.assign(town="Jena", mixed="y")
    assert_array_equal(loaded.predict(new), model.predict(new))


def test_a_loaded_model_is_fitted_again_to_the_same_model(tmp_path):
    model, X = fitted("frame")
    model.save(tmp_path / "model")
    again = clone(skevo.load(tmp_path / "model")).fit(X, target(X))
    assert_array_equal(again.predict(X), model.predict(X))


def test_a_loaded_model_goes_on_from_its_networks(tmp_path):
    model, X = fitted("one member")
    model.save(tmp_path / "model")
    loaded, y = skevo.load(tmp_path / "model"), X[:, 0] * X[:, 1]
    assert_array_equal(loaded.partial_fit(X, y).predict(X), model.partial_fit(X, y).predict(X))
    started = EvolvingRegressor(init=skevo.load(tmp_path / "model"), **{**QUICK, "n_members": 1})
    assert started.fit(X, y).n_nodes_ > 0


def test_a_warm_start_of_a_loaded_model_begins_anew(tmp_path):
    model, X = fitted("warm start")
    model.save(tmp_path / "model")
    again = skevo.load(tmp_path / "model").fit(X, X[:, 0] * X[:, 1])
    assert_array_equal(again.predict(X), model.predict(X))


def test_another_process_predicts_the_same(tmp_path):
    model, X = fitted("frame")
    model.save(tmp_path / "model.skevo")
    X.to_pickle(tmp_path / "rows")
    code = (
        "import sys, pandas, skevo\n"
        "model = skevo.load(sys.argv[1])\n"
        "print(model.predict(pandas.read_pickle(sys.argv[2])).tobytes().hex())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model.skevo", tmp_path / "rows"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout.strip() == model.predict(X).tobytes().hex()


def absolute(prediction, target):
    return (prediction - target).abs()


def test_a_loss_of_ones_own_is_known_by_its_name_and_refused_by_fit(tmp_path):
    X = plane()
    model = EvolvingRegressor(loss=absolute, **QUICK).fit(X, X[:, 0])
    model.save(tmp_path / "model")
    loaded = skevo.load(tmp_path / "model")
    assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.loss == f"{__name__}.absolute"
    with pytest.raises(ValueError, match="'loss' parameter"):
        loaded.fit(X, X[:, 0])
    loaded.set_params(loss=absolute).fit(X, X[:, 0])
    assert_array_equal(loaded.predict(X), model.predict(X))


def test_operators_of_ones_own_are_registered_or_passed(tmp_path):
    X, own = plane(), Operator("hypot", torch.hypot, "hypot({a}, {b})", commutative=True)
    model = EvolvingRegressor(operators=("mul", own), **QUICK).fit(X, np.hypot(*X.T))
    assert "hypot" in model.formula_
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"needs the operator 'hypot': register it"):
        skevo.load(tmp_path / "model")
    loaded = skevo.load(tmp_path / "model", operators=[own])
    assert loaded.operators == ("mul", own)
    assert_same_model(model, loaded, X)
    skevo.register_operator("hypot", torch.hypot, "hypot({a}, {b})", commutative=True)
    assert_same_model(model, skevo.load(tmp_path / "model"), X)


def test_parameters_that_cannot_be_in_a_file_are_none_and_told_of(tmp_path):
    X, y = plane(), plane()[:, 0]
    start = EvolvingRegressor(**QUICK).fit(X, y)
    random = np.random.RandomState(0)
    model = EvolvingRegressor(init=start, n_members=1, n_generations=1, random_state=random)
    model.fit(X, y)
    with pytest.warns(UserWarning, match=r"init, random_state cannot be in a file"):
        model.save(tmp_path / "model")
    loaded = skevo.load(tmp_path / "model")
    assert loaded.init is loaded.random_state is None
    assert_array_equal(loaded.predict(X), model.predict(X))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (np.array([True, False]), np.array([True, False])),
        ([0], [0]),
        (pd.Index([0]), np.array([0])),
    ],
)
def test_arrays_among_parameters_are_stored(given, wanted, tmp_path):
    X = plane().round()
    model = EvolvingRegressor(categorical_features=given, **QUICK).fit(X, X[:, 0])
    model.save(tmp_path / "model")
    loaded = skevo.load(tmp_path / "model").categorical_features
    assert type(loaded) is type(wanted)
    assert_array_equal(loaded, wanted)


def test_levels_that_cannot_be_in_a_file_are_refused(tmp_path):
    X = table()
    X["b"] = pd.cut(X["b"], 3)
    model = EvolvingRegressor(**QUICK).fit(X, X["a"].fillna(0.0))
    with pytest.raises(ValueError, match=r"levels of categorical columns must be .* got Interval"):
        model.save(tmp_path / "model")
    assert not [*tmp_path.iterdir()]


def test_a_model_that_went_astray_is_refused(tmp_path):
    model, X = fitted("one member")
    model._ensemble.network.bias[0] = torch.nan
    with pytest.raises(ValueError, match=r"ensemble\.bias has numbers that are not finite"):
        model.save(tmp_path / "model")
    assert np.isnan(pickle.loads(pickle.dumps(model)).predict(X)).all()


class Mine(EvolvingRegressor):
    """A class that `load` does not know."""


def test_only_what_can_be_loaded_is_saved(tmp_path):
    with pytest.raises(NotFittedError):
        EvolvingRegressor().save(tmp_path / "model")
    with pytest.raises(TypeError, match="got Mine"):
        Mine(**QUICK).fit(plane(), plane()[:, 0]).save(tmp_path / "model")


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path, (model, X) = tmp_path / "model", fitted("one member")
    model.save(path)

    def fail(_):
        raise OSError("no space")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        model.select(nodes=0).save(path)
    assert_same_model(model, skevo.load(path), X)
    assert [*tmp_path.iterdir()] == [path]


def test_without_safetensors_it_is_said_what_to_install(tmp_path, monkeypatch):
    model, _ = fitted("one member")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install 'skevo\[save\]'"):
        model.save(tmp_path / "model")


# -- files that were written long ago --------------------------------------------------------------


def golden_models():
    """Return the models of the golden files.

    They were written when version 1 was made, once and for all, each by its ``save``; beside each
    stands what the model said of ``table(8)``. A version 2 gets files of its own; these stay.
    """
    frame = table()[["a", "b", "town"]]
    y = target(frame)
    small = {"n_members": 2, "n_generations": 6, "max_nodes": 6, "random_state": 0}
    product = frame["a"].fillna(0.0) * (frame["b"] - 2.0)
    labels = np.array(["low", "middle", "high"])[np.digitize(product, [-0.2, 0.2])]
    return {
        "regressor": (EvolvingRegressor(**small).fit(frame, y), frame),
        "classifier": (EvolvingClassifier(**small).fit(frame, labels), frame),
    }


@pytest.mark.parametrize("name", ["regressor", "classifier"])
def test_files_of_version_1_stay_readable(name):
    expected = json.loads((GOLDEN / f"{name}-v1.json").read_text())
    model, rows = skevo.load(GOLDEN / f"{name}-v1.skevo"), table(8)[["a", "b", "town"]]
    assert model.predict(rows).tolist() == pytest.approx(expected["predict"])
    method = "predict_interval" if name == "regressor" else "predict_proba"
    # Other machines round sines and exponentials in other ways.
    assert_allclose(getattr(model, method)(rows), expected[method], rtol=1e-9)
    assert_allclose(model.feature_importances_, expected["importances"], rtol=1e-9)
    assert np.isfinite(model.contributions(rows, output=0).values).all()
    assert model.select(nodes=0).n_nodes_ == 0 < model.n_nodes_
    assert len(model.formula_.splitlines()) == expected["lines"]
    assert clone(model).fit(rows.iloc[:6], model.predict(rows)[:6]) is not None


# -- files that are damaged or made up -------------------------------------------------------------


@pytest.fixture(scope="module")
def content():
    return (GOLDEN / "regressor-v1.skevo").read_bytes()


def test_cut_files_are_refused(content, tmp_path):
    for length in range(0, len(content), 61):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(ModelFileError):
            skevo.load(tmp_path / "cut")


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_files_with_other_bytes_are_refused_or_give_the_same_model(data, content, tmp_path):
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        # Half of them in the header.
        end = data.draw(st.sampled_from([8, len(content) // 2, len(content)]))
        damaged[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "damaged").write_bytes(damaged)
    rows = table(8)[["a", "b", "town"]]
    golden = skevo.load(GOLDEN / "regressor-v1.skevo")
    with suppress(ModelFileError):
        model = skevo.load(tmp_path / "damaged")
        assert_array_equal(model.predict(rows), golden.predict(rows))


@pytest.mark.parametrize(
    "content",
    [b"", b"model", pickle.dumps({}), b"\xff" * 64, b"\2\0\0\0\0\0\0\0{}", bytes(200)],
)
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(ModelFileError, match="is no model of skevo"):
        skevo.load(tmp_path / "other")


def test_no_file_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        skevo.load(tmp_path / "none")


def made_up(header, arrays, path):
    """Return what is said of the golden file with another header and other arrays."""
    known = read_container(GOLDEN / "regressor-v1.skevo")
    write_container(path, {**known[0], **header}, {**known[1], **arrays})
    with pytest.raises(ValueError, match=r"\.$") as told:
        skevo.load(path)
    return str(told.value)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"format": "other"}, "is no model of skevo"),
        ({"version": 0}, "its version is 0"),
        ({"version": 2}, "has version 2 of the format"),
        ({"estimator": "os.system"}, "there is no 'os.system'"),
        ({"parameters": {"__class__": 1}}, "__class__"),
        ({"parameters": {"alpha": {"pickle": "gASV"}}}, "kind 'pickle' are unknown"),
        ({"parameters": {"alpha": {"function": ["os", "system"]}}}, "the name of a function"),
        ({"operators": ["mul", "os.system"]}, "needs the operator 'os.system'"),
        ({"operators": ["mul"]}, "codes of no operator"),
        ({"operators": []}, "at least one operator"),
        ({"n_features": 10**12, "feature_names": None}, "fill has shape"),
        ({"n_features": 10**30}, "n_features is"),
        ({"n_features": True}, "n_features is True"),
        ({"n_members": 2**40}, "heads"),
        ({"n_outputs": 2}, "shape|heads|path"),
        ({"feature_names": ["a"]}, "1 names of 3 features"),
        ({"feature_names": [1, 2, 3]}, "a feature's name is 1"),
        ({"levels": [[7, ["x"]]]}, "column 7"),
        ({"levels": [[2, ["x", "x"]]]}, "not distinct"),
        ({"levels": [[2, [["x"], "y"]]]}, "unhashable"),
        ({"seed": -1}, "seed is -1"),
        ({"log": 1}, "log is 1"),
    ],
    ids=str,
)  # fmt: skip
def test_headers_that_do_not_fit_are_refused(header, words, tmp_path):
    assert re.search(words, made_up(header, {}, tmp_path / "made up"))


def changed(name, place, value):
    """Return an array of the golden file with another value."""
    _, arrays = read_container(GOLDEN / "regressor-v1.skevo")
    array = arrays[name].copy()
    array.flat[place] = value
    return {name: array}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ensemble.left", 10**6, "operand of node 0"),
        ("ensemble.operator", 99, "codes of no operator"),
        ("ensemble.operator", -1, "operator codes must be >= 0"),
        ("ensemble.size", -1, "negative"),
        ("ensemble.size", 10**6, "shape"),
        ("ensemble.weight", np.nan, "not finite"),
        ("path.constants", np.inf, "not finite"),
        ("ensemble.scale", 0.0, "not positive"),
        ("path.at", 10**6, "not there"),
        ("encoding.fill", np.nan, "not finite"),
        ("encoding.missing", 99, "not there"),
        ("encoding.shown", 1, "there is no 1"),
        ("scaling.spread", 0.0, "not positive"),
        ("units.low", np.nan, "not finite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name, value, words, tmp_path):
    assert words in made_up({}, changed(name, 0, value), tmp_path / "made up")


@pytest.mark.parametrize("name", [*read_container(GOLDEN / "regressor-v1.skevo")[1]])
def test_arrays_of_another_shape_are_refused(name, tmp_path):
    _, arrays = read_container(GOLDEN / "regressor-v1.skevo")
    shorter = {name: np.zeros((*arrays[name].shape, 2), dtype=arrays[name].dtype)}
    assert made_up({}, shorter, tmp_path / "made up")


# -- pickles and skops -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_pickled_model_does_what_the_model_does(name):
    model, X = fitted(name)
    assert_same_model(model, pickle.loads(pickle.dumps(model)), X)


@pytest.mark.parametrize("name", ["frame", "many levels", "poisson", "binary", "texts", "selected"])
def test_skops_needs_trust_in_types_of_skevo_alone(name):
    model, X = fitted(name)
    content = skops.io.dumps(model)
    types = skops.io.get_untrusted_types(data=content)
    assert all(kind.startswith("skevo.") for kind in types)
    assert_same_model(model, skops.io.loads(content, trusted=types), X)
