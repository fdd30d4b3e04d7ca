"""Exports as objects: SymPy, LaTeX, torch, ONNX, skl2onnx."""

import copy
import pickle
import sys

import numpy as np
import pytest
import torch
from exporting import CASES, expected, fitted
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_diabetes, load_iris, make_friedman1
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skevo import EvolvingClassifier, EvolvingRegressor
from skevo._frames import read_codes
from skevo.core.operators import Operator
from skevo.export import register_onnx_converters

# Inputs and outputs are in single precision, between them double.
SINGLE = {"rtol": 3e-7, "atol": 1e-7}


def small_regressor(**options):
    """Return a small model of one network, and its rows."""
    X, y = make_friedman1(200, n_features=5, random_state=0)
    options = {"n_members": 1, "n_generations": 5, "max_nodes": 4, "random_state": 0, **options}
    return EvolvingRegressor(**options).fit(X, y), X, y


@pytest.mark.parametrize(
    ("method", "package"),
    [("to_sympy", "sympy"), ("to_latex", "sympy"), ("to_onnx", "onnx")],
)
def test_without_the_package_it_is_said_what_to_install(method, package, monkeypatch):
    model = small_regressor()[0]
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"skevo.export.{method}", raising=False)
    message = rf"require {package}: install it with pip install 'skevo\[{package}\]'"
    with pytest.raises(ImportError, match=message):
        getattr(model, method)()


def test_without_skl2onnx_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    monkeypatch.delitem(sys.modules, "skevo.export.onnx_converter", raising=False)
    with pytest.raises(ImportError, match=r"skl2onnx: .* pip install 'skevo\[onnx\]'"):
        register_onnx_converters()


# -- SymPy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_sympy_equals_predict(case):
    sympy = pytest.importorskip("sympy")
    model, table = fitted(case)
    encoding = model._encoding
    columns = encoding(read_codes(table, encoding.levels)).T
    if case == "regressor":
        # A missing cell has a symbol of its own, and the cell itself is not looked at.
        place = encoding.names(model._column_names(), model._target_names()).index("missing(b)")
        columns[1][columns[place] == 1.0] = np.nan
    symbols = [
        sympy.Symbol(name) for name in encoding.names(model._column_names(), model._target_names())
    ]
    function = sympy.lambdify(symbols, model.to_sympy(), "numpy")
    with np.errstate(over="ignore"):
        result = function(*columns)
    result = np.broadcast_to(result, (expected(model, table).shape[1], len(table)))
    assert_allclose(result.T, expected(model, table), rtol=1e-9, atol=1e-12)


def test_sympy_at_a_point_equals_predict():
    sympy = pytest.importorskip("sympy")
    X, y = make_friedman1(200, n_features=5, random_state=0)
    model = EvolvingRegressor(n_members=4, n_generations=2, random_state=0).fit(X, y)
    formula = model.to_sympy()
    symbols = sympy.symbols("x0:5")
    assert formula.free_symbols == {*symbols}
    point = dict(zip(symbols, map(sympy.Float, X[0]), strict=True))
    assert_allclose(float(formula.xreplace(point)), model.predict(X[:1])[0], rtol=1e-9)
    function = sympy.lambdify(symbols, formula, "math")
    assert_allclose(function(*X[1]), model.predict(X[1:2])[0], rtol=1e-9)


def test_sympy_midmean_and_its_derivative():
    sympy = pytest.importorskip("sympy")
    from skevo.export.to_sympy import Midmean

    symbols = sympy.symbols("a:e")
    formula = Midmean(*symbols)
    point = dict(zip(symbols, map(sympy.Integer, (9, 1, 2, 6, -7)), strict=True))
    assert formula.xreplace(point) == 3
    shares = [formula.diff(symbol).xreplace(point).doit() for symbol in symbols]
    assert shares == [0, *[sympy.Rational(1, 3)] * 3, 0]
    assert sympy.latex(formula) == r"\operatorname{midmean}\left(a, b, c, d, e\right)"


def test_sympy_sigmoid_of_far_values():
    sympy = pytest.importorskip("sympy")
    from skevo.export.to_sympy import Sigmoid

    x = sympy.Symbol("x")
    formula = x * Sigmoid(4.0 * x) / Sigmoid(x)
    values = np.array([-300.0, -20.0, 0.0, 300.0])
    expected = values * torch.sigmoid(torch.from_numpy(4.0 * values)).numpy()
    expected /= torch.sigmoid(torch.from_numpy(values)).numpy()
    function = sympy.lambdify(x, formula, "numpy", cse=True)
    with np.errstate(over="ignore"):
        assert_allclose(function(values), expected, rtol=1e-12, atol=1e-300)
    function = sympy.lambdify(x, formula, "math")
    # An exponent is at most 700 there.
    assert_allclose([function(value) for value in values], expected, rtol=1e-12, atol=1e-150)
    plain = Sigmoid(x).rewrite(sympy.exp)
    difference = Sigmoid(x).diff(x).rewrite(sympy.exp) - plain.diff(x)
    assert difference.simplify() == 0
    assert sympy.latex(Sigmoid(x) ** 2) == r"\operatorname{sigmoid}^{2}\left(x\right)"


def test_sympy_not_exact_is_the_formula_that_is_read():
    sympy = pytest.importorskip("sympy")
    model, X, _ = small_regressor(operators=("mul", "div"))
    formula = model.to_sympy(exact=False)
    assert not formula.has(sympy.Max, sympy.log, sympy.Piecewise)
    function = sympy.lambdify(sympy.symbols("x0:5"), formula)
    # No value is far in this table, but predictions may be clipped.
    assert_allclose(function(*X.T), model._output(X)[:, 0], rtol=1e-9)
    simple = sympy.lambdify(sympy.symbols("x0:5"), model.to_sympy(exact=False, simplify=True))
    assert_allclose(simple(*X.T), model._output(X)[:, 0], rtol=1e-9)
    slope = sympy.lambdify(sympy.symbols("x0:5"), sympy.diff(formula, "x3"))
    step = 1e-6 * np.eye(5)[3]
    rise = (model._output(X + step) - model._output(X - step))[:, 0] / 2e-6
    assert_allclose(np.broadcast_to(slope(*X.T), len(X)), rise, rtol=1e-6)


# -- LaTeX -----------------------------------------------------------------------------------------


def test_latex_of_one_network_is_one_equation():
    pytest.importorskip("sympy")
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    table = X.rename(columns={"bmi": "body_mass index", "bp": "p"})
    options = {"n_members": 1, "n_generations": 5, "max_nodes": 3, "random_state": 0}
    model = EvolvingRegressor(operators=("mul",), **options).fit(table, y)
    latex = model.to_latex(digits=3)
    assert latex.startswith("y = ")
    assert r"\mathrm{body\_mass\ index}" in latex
    assert "s_{5}" in latex
    assert "\n" not in latex
    assert len(latex) < len(model.to_latex(digits=9))
    assert model.to_latex(simplify=True).startswith("y = ")


def test_latex_of_members_says_how_they_are_combined():
    pytest.importorskip("sympy")
    model, _ = fitted("two targets")
    lines = model.to_latex().splitlines()
    assert lines[0] == r"\begin{aligned}"
    assert lines[-1] == r"\end{aligned}"
    mean = r"y_{1} &= \operatorname{mean}\left(y_{1}^{(0)}, y_{1}^{(1)}\right)"
    assert lines[2].startswith(mean + r" + \operatorname{clip}\left(y_{1}^{(\mathrm{rest})}, -")
    assert [line.split(" &= ")[0] for line in lines[3:-1]] == [
        "y_{0}^{(0)}", "y_{1}^{(0)}", "y_{0}^{(1)}", "y_{1}^{(1)}",
        r"y_{0}^{(\mathrm{rest})}", r"y_{1}^{(\mathrm{rest})}",
    ]  # fmt: skip


# -- torch -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_torch_equals_predict(case):
    model, table = fitted(case)
    module = pickle.loads(pickle.dumps(model.to_torch()))
    with torch.no_grad():
        output = module(module.read(table)).numpy()
    method = model.decision_function if hasattr(model, "classes_") else model.predict
    assert output.shape == method(table).shape
    assert_allclose(output, method(table), rtol=1e-9, atol=1e-12)


def test_torch_module_is_trained_on():
    model, X, y = small_regressor()
    module = model.to_torch().train()
    rows, target = module.read(X), torch.from_numpy(y)
    before = copy.deepcopy(dict(module.named_parameters()))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(50):
        loss = (module(rows) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert before.keys() == {"layer.weight", "layer.bias", "layer.constants"}
    assert not torch.equal(module.layer.weight, before["layer.weight"])
    other = model.to_torch()
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(rows), module.eval()(rows))


def test_torch_module_keeps_members_apart():
    model, table = fitted("regressor")
    module = model.to_torch()
    module(module.read(table[:50])).sum().backward()
    silent = model._ensemble.network.weight.cpu() == 0
    assert silent.any()
    assert (module.layer.weight.grad[silent] == 0).all()


# -- ONNX ------------------------------------------------------------------------------------------


def single(table):
    """Return rows in single precision, as a model and as a graph take them."""
    if not hasattr(table, "columns"):
        return table.astype(np.float32), {"X": table.astype(np.float32)}
    table, feed = table.copy(), {}
    for name in table:
        if table[name].dtype == object or str(table[name].dtype).startswith("str"):
            feed[name] = table[name].fillna("").to_numpy(dtype=object)[:, None]
            continue
        feed[name] = table[name].to_numpy(dtype=np.float32)[:, None]
        if name != "grade":
            table[name] = feed[name][:, 0]
    return table, feed


@pytest.mark.parametrize("case", CASES)
def test_onnx_equals_predict(case, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    model, table = fitted(case)
    table, feed = single(table)
    model.to_onnx(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    assert {item.name for item in session.get_inputs()} == {*feed}
    answer = session.run(None, feed)
    assert_allclose(answer[-1], expected(model, table), **SINGLE)
    if hasattr(model, "classes_"):
        assert_array_equal(answer[0], model.predict(table))


def test_onnx_of_single_precision_equals_predict():
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    X, y = make_friedman1(400, random_state=0)
    X = X.astype(np.float32)
    model = EvolvingRegressor(n_members=4, n_generations=5, dtype="float32", random_state=0)
    session = runtime.InferenceSession(model.fit(X, y).to_onnx().SerializeToString())
    (answer,) = session.run(None, {"X": X})
    # Both round each operation, of which steep ones make more.
    assert_allclose(answer[:, 0], model.predict(X), rtol=1e-4)


def test_onnx_of_constant_equals_predict():
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    X, _ = load_diabetes(return_X_y=True)
    model = EvolvingRegressor(n_members=4, n_generations=2).fit(X, np.full(len(X), 3.5))
    session = runtime.InferenceSession(model.to_onnx().SerializeToString())
    (answer,) = session.run(None, {"X": X.astype(np.float32)})
    assert_array_equal(answer, np.full((len(X), 1), 3.5))


def test_onnx_of_mixed_levels_raises():
    pytest.importorskip("onnx")
    X, y = load_diabetes(return_X_y=True)
    mixed = np.array(X[:, :2], dtype=object)
    mixed[:, 0] = np.resize(np.array(["a", 1, "b", 2], dtype=object), len(X))
    options = {"n_members": 1, "n_generations": 1, "categorical_features": [0]}
    model = EvolvingRegressor(**options).fit(mixed, y)
    with pytest.raises(ValueError, match="Levels must be all text or all numbers for ONNX, got"):
        model.to_onnx()


def test_own_operator_is_exported_or_refused():
    known = Operator("signed_square", lambda a, b: a * b.abs(), "{a} * |{b}|", constant="none")
    unknown = Operator("hypot", torch.hypot, "hypot({a}, {b})")
    model, X, _ = small_regressor(operators=("mul", known))
    module = {}
    exec(model.to_source("numpy"), module)
    assert_allclose(module["predict"](X), model.predict(X), rtol=1e-9)
    model, X, _ = small_regressor(operators=(unknown,))
    with pytest.raises(ValueError, match=r"'hypot' cannot be exported: it calls torch\.hypot\. "):
        model.to_source("c")
    module = model.to_torch()
    assert_allclose(module(module.read(X)).detach(), model.predict(X), rtol=1e-9)


# -- skl2onnx --------------------------------------------------------------------------------------


@pytest.fixture
def converted():
    """Return a function that converts a pipeline with skl2onnx and makes it runnable."""
    skl2onnx = pytest.importorskip("skl2onnx")
    runtime = pytest.importorskip("onnxruntime")
    register_onnx_converters()

    def convert(pipeline, example=None, **options):
        graph = skl2onnx.to_onnx(pipeline, example, **options)
        return runtime.InferenceSession(graph.SerializeToString())

    return convert


def test_skl2onnx_converts_pipeline_of_regressor(converted):
    X, y = load_diabetes(return_X_y=True)
    model = EvolvingRegressor(n_members=4, n_generations=4, random_state=0)
    pipeline = make_pipeline(StandardScaler(), model).fit(X, np.column_stack([y, -y]))
    (answer,) = converted(pipeline, X[:1]).run(None, {"X": X})
    assert_allclose(answer, pipeline.predict(X), **SINGLE)


@pytest.mark.parametrize("labels", ["numbers", "names", "booleans"])
def test_skl2onnx_converts_pipeline_of_classifier(converted, labels):
    X, y = load_iris(return_X_y=True)
    y = {"numbers": y, "names": load_iris().target_names[y], "booleans": y == 1}[labels]
    model = EvolvingClassifier(n_members=2, n_generations=4, random_state=0)
    pipeline = make_pipeline(StandardScaler(), model).fit(X, y)
    session = converted(pipeline, X[:1], options={"zipmap": False})
    label, probabilities = session.run(None, {"X": X})
    assert_allclose(probabilities, pipeline.predict_proba(X), **SINGLE)
    assert_array_equal(label, pipeline.predict(X))
    _, maps = converted(pipeline, X[:1]).run(None, {"X": X})
    assert_allclose([*maps[0].values()], probabilities[0])


def test_skl2onnx_converts_columns_of_frame(converted):
    types = pytest.importorskip("skl2onnx.common.data_types")
    model, table = fitted("regressor")
    table, feed = single(table)
    kinds = [
        (name, (types.StringTensorType if name == "the city" else types.FloatTensorType)([None, 1]))
        for name in table
    ]
    session = converted(make_pipeline(model), initial_types=kinds)
    # Names are made identifiers.
    (answer,) = session.run(None, {name.replace(" ", "_"): cells for name, cells in feed.items()})
    assert_allclose(answer, expected(model, table), **SINGLE)
