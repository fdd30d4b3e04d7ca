"""What holds for both estimators: the parameters, the same result however it is computed."""

import pickle
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from builders import take_rows
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_wine,
    make_friedman1,
    make_moons,
)
from sklearn.ensemble import AdaBoostClassifier

from skevo import EvolvingClassifier, EvolvingRegressor

FAST = {"n_members": 2, "n_generations": 6, "random_state": 0}


def regression():
    X, y = load_diabetes(return_X_y=True)
    return X[:200], y[:200]


def binary():
    X, y = load_breast_cancer(return_X_y=True)
    # Few of the columns, lest the classes be separable by a linear model.
    return X[:200, [1, 4, 8, 9, 14]], y[:200]


def multiclass():
    X, y = load_wine(return_X_y=True)
    return X[:, [1, 2, 3, 4]], y


CASES = {
    "regression": (EvolvingRegressor, regression),
    "binary": (EvolvingClassifier, binary),
    "multiclass": (EvolvingClassifier, multiclass),
}
each_case = pytest.mark.parametrize(("estimator", "data"), list(CASES.values()), ids=list(CASES))


def output(model, X):
    return model.predict(X) if isinstance(model, EvolvingRegressor) else model.decision_function(X)


@each_case
def test_fit_same_seed_equal(estimator, data):
    X, y = data()
    first, second = (estimator(**FAST).fit(X, y) for _ in range(2))
    assert_array_equal(output(first, X), output(second, X))
    assert first.formula_ == second.formula_


@each_case
def test_fit_other_seed_differs(estimator, data):
    X, y = data()
    first = estimator(**FAST).fit(X, y)
    second = estimator(**{**FAST, "random_state": 1}).fit(X, y)
    assert (output(first, X) != output(second, X)).any()


@each_case
@pytest.mark.parametrize("n_jobs", [2, -1])
def test_fit_n_jobs_bit_equal(estimator, data, n_jobs):
    X, y = data()
    one = estimator(**FAST).fit(X, y)
    several = estimator(**FAST, n_jobs=n_jobs).fit(X, y)
    assert_array_equal(output(one, X), output(several, X))
    for name in ("loss", "validation_loss", "n_nodes"):
        assert_array_equal(one.history_[name], several.history_[name])


@pytest.mark.parametrize(
    ("estimator", "n_rows", "expected"),
    [
        (EvolvingRegressor, 47, 8), (EvolvingRegressor, 48, 16), (EvolvingRegressor, 72, 24),
        (EvolvingRegressor, 160, 15), (EvolvingRegressor, 267, 8), (EvolvingClassifier, 72, 8),
    ],
)  # fmt: skip
def test_more_members_are_averaged_of_few_rows(estimator, n_rows, expected):
    X, y = make_friedman1(n_rows, random_state=0)
    y = y if estimator is EvolvingRegressor else y > np.median(y)
    parameters = {"n_generations": 2, "random_state": 0}
    model = estimator(**parameters).fit(X, y)
    assert model.n_members_ == expected == len(np.unique(model.history_["member"]))
    told, two = (estimator(n_members=k, **parameters).fit(X, y) for k in (expected, 2))
    assert_array_equal(output(model, X), output(told, X))
    assert two.n_members_ == 2


@pytest.mark.parametrize("given", ["no-fraction", "X_val", "adam", "part"])
def test_as_many_members_of_any_rows_without_folds_or_side_by_side(given):
    X, y = make_friedman1(100, random_state=0)
    parameters = {"n_generations": 1, "random_state": 0}
    if given == "part":
        model = EvolvingRegressor(**parameters).partial_fit(X, y)
    elif given == "X_val":
        model = EvolvingRegressor(**parameters).fit(X, y, X_val=X, y_val=y)
    else:
        own = {"validation_fraction": None} if given == "no-fraction" else {"solver": "adam"}
        model = EvolvingRegressor(**parameters, **own).fit(X, y)
    assert model.n_members_ == 8


def test_many_members_of_few_rows_do_not_depend_on_n_jobs():
    X, y = make_friedman1(90, random_state=0)
    one, two = (EvolvingRegressor(**{**FAST, "n_members": "auto"}, n_jobs=k) for k in (1, 2))
    assert_array_equal(one.fit(X, y).predict(X), two.fit(X, y).predict(X))
    assert one.n_members_ == 24


@each_case
@pytest.mark.parametrize("n_rows", [1, 3, 20])
def test_rows_do_not_depend_on_their_number(estimator, data, n_rows):
    X, y = data()
    model = estimator(**FAST).fit(X, y)
    # Few rows are computed in Python's floats, many block by block.
    many = output(model, np.tile(X, (200, 1)))
    assert_allclose(output(model, X[:n_rows]), many[-len(X) :][:n_rows], rtol=1e-9, atol=1e-9)


@each_case
@pytest.mark.parametrize("block_size", [64, 100_000])
def test_fit_block_size_agrees(estimator, data, block_size):
    X, y = data()
    usual = estimator(**FAST).fit(X, y)
    other = estimator(**FAST, batch_size=block_size).fit(X, y)
    assert_array_equal(usual.history_["n_nodes"], other.history_["n_nodes"])
    # Sums over blocks are rounded differently, and Newton steps end when little is to be gained.
    assert_allclose(output(usual, X), output(other, X), rtol=1e-5, atol=1e-5)


@each_case
def test_fit_threads_agree_and_are_restored(estimator, data):
    X, y = data()
    before = torch.get_num_threads()
    one = output(estimator(**FAST).fit(X, y), X)
    torch.set_num_threads(2)
    try:
        two = output(estimator(**FAST).fit(X, y), X)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert_array_equal(one, two)


@each_case
def test_fit_global_random_state_untouched(estimator, data):
    X, y = data()
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    estimator(**FAST).fit(X, y)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.is_grad_enabled()


@each_case
def test_predict_rows_independent_of_each_other(estimator, data):
    X, y = data()
    model = estimator(**FAST).fit(X, y)
    one_by_one = np.concatenate([output(model, X[i : i + 1]) for i in range(20)])
    # Matrix products of one and of many rows are summed in different orders.
    assert_allclose(one_by_one, output(model, X)[:20], rtol=1e-10, atol=1e-10)


@each_case
def test_pickle_other_process_predicts_same(estimator, data, tmp_path):
    X, y = data()
    model = estimator(**FAST).fit(X, y)
    file = tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps((model, X)))
    program = (
        "import pickle, sys, numpy\n"
        "model, X = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        "numpy.save(sys.argv[2], model.predict(X))\n"
    )
    result = tmp_path / "result.npy"
    subprocess.run([sys.executable, "-c", program, file, result], check=True)
    assert_array_equal(np.load(result), model.predict(X))


@each_case
def test_clone_refitted_equal(estimator, data):
    X, y = data()
    model = estimator(**FAST).fit(X, y)
    assert_array_equal(output(clone(model).fit(X, y), X), output(model, X))


@each_case
def test_fit_rows_of_weight_zero_ignored(estimator, data):
    X, y = data()
    weight = np.ones(len(y))
    weight[::7] = 0.0
    weighted = estimator(**FAST).fit(X, y, sample_weight=weight)
    removed = estimator(**FAST).fit(X[weight > 0], y[weight > 0])
    assert_array_equal(output(weighted, X), output(removed, X))


@each_case
def test_fit_weights_equal_copies_without_hold_out(estimator, data):
    X, y = data()
    X, y = X[::3], y[::3]
    weight = np.random.default_rng(0).integers(1, 4, len(y))
    parameters = {**FAST, "validation_fraction": None}
    weighted = estimator(**parameters).fit(X, y, sample_weight=weight)
    repeated = estimator(**parameters).fit(X.repeat(weight, axis=0), y.repeat(weight))
    # Equal sums, rounded differently.
    assert_allclose(output(weighted, X), output(repeated, X), rtol=1e-6, atol=1e-6)


@each_case
@pytest.mark.parametrize("total", ["1", "less than rows"])
def test_weights_below_1_are_relative(estimator, data, total):
    X, y = data()
    relative = np.random.default_rng(0).choice([0.5, 1.0, 1.5], len(y))
    relative /= relative.mean()
    factor = 1.0 / len(y) if total == "1" else 0.75
    parameters = {**FAST, "n_generations": 2}
    small = estimator(**parameters).fit(X, y, sample_weight=factor * relative)
    plain = estimator(**parameters).fit(X, y, sample_weight=relative)
    assert_allclose(output(small, X), output(plain, X), rtol=1e-6, atol=1e-6)


def test_levels_are_told_by_rows_where_weights_are_relative():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"town": rng.choice(["Bonn", "Ulm"], 80), "area": rng.normal(size=80)})
    y = X["area"] + 2.0 * (X["town"] == "Ulm")
    small, plain = (
        EvolvingRegressor(**FAST).fit(X, y, sample_weight=np.full(80, weight))
        for weight in (2.0**-10, 1.0)
    )
    assert_array_equal(small.predict(X), plain.predict(X))


def test_weights_of_parts_are_relative_to_each_other():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    y = X[:, 0] + np.repeat([0.0, 5.0], 100)
    model = EvolvingRegressor(**FAST)
    for half, weight in ((slice(100), 2.0**-10), (slice(100, 200), 2.0**-14)):
        model.partial_fit(X[half], y[half], sample_weight=np.full(100, weight))
    # The second half counts a sixteenth of the first.
    assert model.predict(X).mean() == pytest.approx(5.0 / 17.0, abs=0.5)


def test_boosting_passes_weights_that_sum_to_1():
    X, y = make_moons(200, noise=0.3, random_state=0)
    weak = EvolvingClassifier(n_members=1, n_generations=3, max_nodes=2, random_state=0)
    boosted = AdaBoostClassifier(weak, n_estimators=5, random_state=0).fit(X, y)
    assert len(boosted.estimators_) == 5
    assert boosted.score(X, y) > 0.9


@each_case
def test_history_tells_the_course(estimator, data):
    X, y = data()
    model = estimator(**FAST).fit(X, y)
    history = model.history_
    assert set(history) == {
        "member", "generation", "loss", "validation_loss", "n_nodes", "seconds", "standard_error",
    }  # fmt: skip
    assert set(history["member"]) == {0, 1}
    assert model.n_iter_ == history["generation"].max() == 6
    first = history["generation"] == 0
    assert (history["n_nodes"][first] == 0).all()
    last = history["generation"] == 6
    assert history["loss"][last].mean() < history["loss"][first].mean()
    assert (np.diff(history["seconds"][history["member"] == 0]) >= 0).all()
    assert model.n_nodes_ == model._ensemble.network.n_nodes


@each_case
def test_fit_verbose_prints_each_generation(estimator, data, capsys):
    X, y = data()
    estimator(n_members=1, n_generations=3, verbose=1, random_state=0).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["0", "1", "2", "3"]
    assert all("s to go" in line for line in lines[1:])
    assert float(lines[-1].split("validation ")[1].split()[0]) > 0


@each_case
def test_fit_max_time_stops(estimator, data):
    X, y = data()
    model = estimator(n_members=1, max_time=1e-9, random_state=0).fit(X, y)
    assert model.n_iter_ == 0


@each_case
def test_fit_max_nodes_respected(estimator, data):
    X, y = data()
    model = estimator(n_members=1, n_generations=8, max_nodes=1, random_state=0).fit(X, y)
    assert model.history_["n_nodes"].max() == 1


@each_case
def test_fit_float32_agrees_roughly(estimator, data):
    X, y = data()
    double = estimator(**{**FAST, "n_generations": 0}).fit(X, y)
    single = estimator(**{**FAST, "n_generations": 0}, dtype="float32").fit(X, y)
    scale = np.abs(output(double, X)).max()
    # Float32 columns, float64 sums: single precision, a few digits lost in the solve, and a little
    # ridge against rounding.
    assert_allclose(output(single, X), output(double, X), rtol=0, atol=5e-3 * scale)


@each_case
def test_fit_source_text_setting_learns(estimator, data):
    X, y = data()
    model = estimator(
        operators=("add", "mul"), n_candidates=1, pruning="std", solver="adam", n_members=1,
        n_generations=40, n_iter_no_change=None, max_nodes=8, random_state=0,
    ).fit(X, y)  # fmt: skip
    assert model.history_["n_nodes"][-1] == 8
    assert model.history_["validation_loss"].min() < 0.9 * model.history_["validation_loss"][0]


@each_case
def test_fit_many_columns_works(estimator, data):
    X, y = data()
    wide = np.random.default_rng(0).normal(size=(len(y), 2000))
    wide[:, : X.shape[1]] = X
    model = estimator(n_members=1, n_generations=1, random_state=0).fit(wide, y)
    assert np.isfinite(output(model, wide)).all()


def wrong_tables():
    X, y = regression()
    endless = X.copy()
    endless[3, 2] = np.inf
    return {
        "inf": (endless, y, "infinity"),
        "text": (np.full((len(y), 2), "a"), y, "could not convert|dtype|numeric"),
        "empty": (X[:0], y[:0], "minimum of 2 is required|0 sample"),
        "no columns": (X[:, :0], y, "0 feature"),
        "one row": (X[:1], y[:1], "1 sample|minimum of 2|n_samples"),
        "short y": (X, y[:-1], "inconsistent numbers of samples"),
        "one-dimensional X": (X[:, 0], y, "2D array"),
    }


@pytest.mark.parametrize("case", list(wrong_tables()))
@pytest.mark.parametrize("estimator", [EvolvingRegressor, EvolvingClassifier])
def test_fit_wrong_table_raises(estimator, case):
    X, y, message = wrong_tables()[case]
    y = y if estimator is EvolvingRegressor else (y > 100).astype(int)
    with pytest.raises(ValueError, match=message):
        estimator().fit(X, y)


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("n_generations", -1, "n_generations"),
        ("n_candidates", 0, "n_candidates"),
        ("max_nodes", -1, "max_nodes"),
        ("n_members", 0, "n_members"),
        ("solver", "sgd", "solver"),
        ("loss", "hinge", "loss"),
        ("alpha", -1.0, "alpha"),
        ("pruning", "random", "pruning"),
        ("validation_fraction", 1.0, "validation_fraction"),
        ("dtype", "int8", "dtype"),
        ("operators", ("mul", "unheard_of"), "Unknown operator 'unheard_of'"),
        ("operators", (), "at least one"),
        ("operators", ("mul", "mul"), "distinct"),
        ("device", "gpu7", "device 'gpu7' is not available"),
        ("device", "cuda:99", "device 'cuda:99' is not available"),
        ("random_state", "seed", "random_state"),
    ],
)
@pytest.mark.parametrize("estimator", [EvolvingRegressor, EvolvingClassifier])
def test_fit_wrong_parameter_raises(estimator, parameter, value, message):
    X, y = binary()
    with pytest.raises(ValueError, match=message):
        estimator(**{parameter: value}).fit(X, y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells what happens where there is no GPU")
@pytest.mark.parametrize("estimator", [EvolvingRegressor, EvolvingClassifier])
def test_fit_cuda_missing_raises(estimator):
    X, y = binary()
    with pytest.raises(ValueError, match="device 'cuda' is not available"):
        estimator(device="cuda").fit(X, y)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_case
def test_fit_cuda_same_topology(estimator, data):
    X, y = data()
    cpu = estimator(**FAST, device="cpu").fit(X, y)
    gpu = estimator(**FAST, device="cuda").fit(X, y)
    assert gpu.device_.type == "cuda"
    assert cpu._ensemble.network.topology == gpu._ensemble.network.topology
    assert_allclose(output(cpu, X), output(gpu, X), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("estimator", [EvolvingRegressor, EvolvingClassifier])
def test_fit_constant_and_duplicate_columns_harmless(estimator):
    X, y = binary()
    extended = np.column_stack([X, np.full(len(y), 7.0), X[:, 0], 2.0 * X[:, 1], np.zeros(len(y))])
    model = estimator(**FAST).fit(extended, y)
    assert np.isfinite(output(model, extended)).all()
    assert model.score(extended, y) > 0.4
    # The constant columns carry no weight.
    weight = model._ensemble.network.weight[:, [X.shape[1], extended.shape[1] - 1]]
    assert float(weight.abs().max()) < 1e-6


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e30])
@pytest.mark.parametrize("estimator", [EvolvingRegressor, EvolvingClassifier])
def test_fit_scale_of_columns_irrelevant(estimator, scale):
    X, y = binary()
    usual = estimator(**FAST).fit(X, y)
    scaled = estimator(**FAST).fit(X * scale, y)
    assert_allclose(output(scaled, X * scale), output(usual, X), rtol=1e-5, atol=1e-5)


def test_fit_zero_weights_everywhere_raises():
    X, y = regression()
    with pytest.raises(ValueError, match="weight"):
        EvolvingRegressor().fit(X, y, sample_weight=np.zeros(len(y)))


def test_fit_negative_weight_raises():
    X, y = regression()
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        EvolvingRegressor().fit(X, y, sample_weight=np.linspace(-1, 1, len(y)))


def test_predict_other_columns_raises():
    X, y = regression()
    model = EvolvingRegressor(**FAST).fit(X, y)
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, :3])


@pytest.mark.parametrize("estimator", [EvolvingRegressor, EvolvingClassifier])
@pytest.mark.parametrize(
    ("name", "hint"),
    [("max_node", "did you mean 'max_nodes'?"), ("depth", "there are alpha, batch_size, ")],
)
def test_unknown_parameter_is_told_with_the_class_and_a_hint(estimator, name, hint):
    message = f"{estimator.__name__} has no parameter {name!r}; {hint}"
    with pytest.raises(TypeError, match=re.escape(message)):
        estimator(**{name: 3})


def test_parameters_few_and_keyword_only():
    assert len(EvolvingRegressor().get_params()) <= 25
    with pytest.raises(TypeError):
        EvolvingRegressor(100)


@each_case
@pytest.mark.parametrize("solver", ["exact", "adam"])
def test_warm_start_equals_one_longer_fit(estimator, data, solver):
    X, y = data()
    parameters = {**FAST, "solver": solver, "max_nodes": 12}
    longer = estimator(**{**parameters, "n_generations": 14}).fit(X, y)
    model = estimator(**parameters, warm_start=True).fit(X, y)
    assert model.n_iter_ == 6
    model = pickle.loads(pickle.dumps(model)).set_params(n_generations=14).fit(X, y)
    assert_array_equal(output(model, X), output(longer, X))
    for name in ("loss", "validation_loss", "n_nodes"):
        assert_array_equal(model.history_[name], longer.history_[name])


@pytest.mark.cpu
@pytest.mark.parametrize(("n_rows", "rtol"), [(1300, 0.0), (5000, 0.0)])
def test_warm_start_of_rows_that_have_a_sketch(n_rows, rtol):
    X, y = make_friedman1(n_samples=n_rows, noise=0.1, random_state=0)
    longer = EvolvingRegressor(**{**FAST, "n_generations": 11}).fit(X, y)
    model = EvolvingRegressor(**FAST, warm_start=True).fit(X, y)
    model.set_params(n_generations=11).fit(X, y)
    # In single precision, which many rows are in, columns that are computed anew may differ from
    # grown ones in the last bit.
    assert_allclose(model.predict(X), longer.predict(X), rtol=rtol)


@each_case
def test_warm_start_other_rows_goes_on(estimator, data):
    X, y = data()
    model = estimator(**FAST, warm_start=True, n_iter_no_change=None).fit(X[::2], y[::2])
    model.set_params(n_generations=9).fit(X, y)
    assert model.n_iter_ == 9
    assert model.score(X, y) > 0.4


def test_as_many_members_go_on_as_there_are():
    X, y = make_friedman1(300, random_state=0)
    model = EvolvingRegressor(n_generations=2, random_state=0, warm_start=True).fit(X[:90], y[:90])
    assert model.set_params(n_generations=3).fit(X, y).n_members_ == 24
    assert model.partial_fit(X, y).n_members_ == 24


def test_warm_start_other_target_is_learnt_at_once():
    X, y = regression()
    parameters = {**FAST, "n_members": 1, "validation_fraction": None, "n_iter_no_change": None}
    model = EvolvingRegressor(**parameters, warm_start=True).fit(X, y)
    other = X[:, 0] + 0.1 * y / y.std()
    model.set_params(n_generations=model.n_iter_ + 1).fit(X, other)
    # The model that is kept may be the one before, of the other target.
    assert model.history_["loss"][-1] > 1e-6
    model.set_params(n_generations=model.n_iter_ + 5).fit(X, other)
    assert model.history_["loss"][-1] == pytest.approx(1 - model.score(X, other), rel=0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"n_members": 3}, "n_members of the fit before"), ({"n_generations": 2}, ">= 6")],
)
def test_warm_start_what_cannot_go_on_raises(change, message):
    X, y = regression()
    model = EvolvingRegressor(**FAST, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=message):
        model.set_params(**change).fit(X, y)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_fit_memory_mapped_rows_equal_rows_in_memory(tmp_path, monkeypatch, kind):
    take_rows(monkeypatch, 100)
    X, y = regression()
    X = X.astype(kind)
    X.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", dtype=kind, mode="r", shape=X.shape)
    from_memory = EvolvingRegressor(**FAST).fit(X, y)
    from_file = EvolvingRegressor(**FAST).fit(mapped, y)
    assert_array_equal(from_file.predict(mapped), from_memory.predict(X))
    assert from_memory.score(X, y) > 0.4


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_fit_does_not_depend_on_the_pieces_that_rows_are_read_in(monkeypatch, loss, weighted):
    X, y = regression()
    y, weight = np.abs(y), np.arange(len(y)) % 3 if weighted else None
    whole = EvolvingRegressor(**FAST, loss=loss).fit(X, y, weight)
    monkeypatch.setattr("skevo._rows._PIECE", 7)
    in_pieces = EvolvingRegressor(**FAST, loss=loss).fit(X, y, weight)
    assert_array_equal(in_pieces.predict(X), whole.predict(X))


def test_weights_that_are_one_number_equal_those_that_are_written_out():
    X, y = regression()
    half = np.full(len(y), 0.5)
    for one, other in [(None, np.ones(len(y))), (np.broadcast_to(0.5, len(y)), half[::-1])]:
        models = [EvolvingRegressor(**FAST).fit(X, y, weight) for weight in (one, other)]
        assert_array_equal(models[0].predict(X), models[1].predict(X))
    with pytest.raises(ValueError, match="at least one"):
        EvolvingRegressor(**FAST).fit(X, y, np.broadcast_to(0.0, len(y)))
