"""Exports as text: Python, NumPy, C, SQL."""

import subprocess
import sys

import exporting
import numpy as np
import pandas as pd
import pytest
from exporting import CASES, expected, fitted
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_diabetes

from skevo import EvolvingClassifier, EvolvingRegressor
from skevo.core.operators import Operator, get_operators
from skevo.export.expression import Expression, Program, affine, apply, midmean, number
from skevo.export.model import Model
from skevo.export.to_c import c_source
from skevo.export.to_numpy import numpy_source
from skevo.export.to_python import python_source
from skevo.export.to_sql import DIALECTS, sql_source
from skevo.export.tracing import trace

# Of the same operations in the same order but for sums, in double precision.
EQUAL = {"rtol": 1e-9, "atol": 1e-12}
A, B = (Expression("cell", (), (column, 0.5)) for column in range(2))


def model_of(*expressions):
    """Return a model of two columns of numbers."""
    names = tuple(f"y{k}" for k in range(len(expressions)))
    return Model(
        ("x0", "x1"), False, names, {}, frozenset(), expressions, names, None, len(names) == 1
    )


def evaluated(expression, cells):
    """Evaluate an expression by its NumPy source."""
    module = {}
    exec(numpy_source(model_of(expression)), module)
    return module["predict"](cells)


def pairs():
    """Return all pairs of some values."""
    values = [0.0, -0.0, 1e-9, -1e-9, 0.5, -0.5, 1.0, 3.7, -12.0, 1e3, -1e3]
    return np.array([(a, b) for a in values for b in values])


@pytest.mark.parametrize("case", CASES)
def test_python_equals_predict(case):
    model, table = fitted(case)
    assert_allclose(exporting.run_python(model, table), expected(model, table), **EQUAL)


@pytest.mark.parametrize("case", CASES)
def test_numpy_equals_predict(case):
    model, table = fitted(case)
    assert_allclose(exporting.run_numpy(model, table), expected(model, table), **EQUAL)


@pytest.mark.parametrize("case", CASES)
def test_c_equals_predict(case, tmp_path):
    model, table = fitted(case)
    assert_allclose(exporting.run_c(model, table, tmp_path), expected(model, table), **EQUAL)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("case", CASES)
def test_sql_equals_predict(case, dialect):
    model, table = fitted(case)
    text = model.to_source("sql", dialect=dialect)
    assert_allclose(exporting.run_sql(text, table, dialect), expected(model, table), **EQUAL)


@pytest.mark.parametrize("case", ["two classes", "three classes", "three classes of one network"])
def test_labels_equal_predict(case, tmp_path):
    model, table = fitted(case)
    labels = model.predict(table)
    namespace = {}
    exec(model.to_source("numpy"), namespace)
    assert_array_equal(namespace["predict"](table), labels)
    exec(model.to_source("python"), namespace)
    cells = table.to_dict("records") if hasattr(table, "columns") else table.tolist()
    assert [namespace["predict"](row) for row in cells] == labels.tolist()
    if case == "three classes of one network":
        library = exporting.compiled(model.to_source("c"), tmp_path)
        numbers = exporting.ctypes.POINTER(exporting.ctypes.c_double)
        codes = [library.predict(row.copy().ctypes.data_as(numbers)) for row in table]
        assert_array_equal(model.classes_[codes], labels)


@pytest.mark.parametrize("operator", get_operators(exporting.OPERATORS), ids=lambda item: item.name)
@pytest.mark.parametrize("language", ["python", "numpy", "c", *DIALECTS])
def test_operator_equals_its_function(operator, language, tmp_path):
    cells = pairs()
    value = exporting.torch_value(operator, cells)
    model = model_of(trace(operator, A, B))
    if language == "python":
        module = {}
        exec(python_source(model), module)
        result = [module["predict"](row) for row in cells.tolist()]
    elif language == "numpy":
        result = evaluated(model.expressions[0], cells)
    elif language == "c":
        library = exporting.compiled(c_source(model), tmp_path)
        library.predict.restype = exporting.ctypes.c_double
        numbers = exporting.ctypes.POINTER(exporting.ctypes.c_double)
        result = [library.predict(row.copy().ctypes.data_as(numbers)) for row in cells]
    else:
        result = exporting.run_sql(sql_source(model, language), cells, language)[:, 0]
    assert_allclose(result, value, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_sql_of_deep_network_runs(dialect):
    # Databases limit how deep brackets nest.
    deep = A
    for step in range(200):
        deep = apply("sin", deep * 1.01 + B) if step % 2 else apply("max", deep, B) + deep
    cells = np.random.default_rng(0).normal(size=(20, 2))
    text = sql_source(model_of(deep), dialect)
    result = exporting.run_sql(text, cells, dialect)[:, 0]
    assert_allclose(result, evaluated(deep, cells), rtol=1e-6)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_sql_of_long_sum_runs(dialect):
    terms = [apply("max", A, k / 500) for k in range(1500)]
    total = affine(1.0, np.linspace(-1.0, 1.0, 1500), terms)
    cells = np.random.default_rng(0).normal(size=(20, 2))
    text = sql_source(model_of(total), dialect)
    result = exporting.run_sql(text, cells, dialect)[:, 0]
    assert_allclose(result, evaluated(total, cells), rtol=1e-9)


def test_constant_target_is_exported():
    X, _ = load_diabetes(return_X_y=True)
    model = EvolvingRegressor(n_members=4, n_generations=2).fit(X, np.full(len(X), 3.5))
    assert_allclose(exporting.run_numpy(model, X), 3.5)
    assert_allclose(exporting.run_python(model, X[:3]), 3.5)
    assert_allclose(exporting.run_sql(model.to_source("sql", dialect="sqlite"), X, "sqlite"), 3.5)


def test_names_that_are_no_identifiers_are_quoted(tmp_path):
    X, y = load_diabetes(return_X_y=True)
    table = pd.DataFrame(X[:, :2], columns=['it\'s "a"\n*/ name', "\\ %"])
    model = EvolvingRegressor(n_members=1, n_generations=3, random_state=0).fit(table, y)
    assert_allclose(exporting.run_python(model, table), expected(model, table), **EQUAL)
    text = model.to_source("sql", dialect="sqlite")
    assert_allclose(exporting.run_sql(text, table, "sqlite"), expected(model, table), **EQUAL)
    # Nothing in a name ends the comment.
    assert_allclose(exporting.run_c(model, table, tmp_path), expected(model, table), **EQUAL)


def test_source_needs_nothing_of_ours():
    model, _ = fitted("three classes")
    assert "skevo" not in model.to_source("python") + model.to_source("numpy")
    check = "import sys\nassert not {'torch', 'sklearn'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", f"{model.to_source('numpy')}\n{check}"], check=True)


@pytest.mark.parametrize(
    ("language", "dialect", "message"),
    [
        ("fortran", None, r"language must be one of \['python', 'numpy', 'c', 'sql'\]"),
        ("sql", None, "dialect must be one of .* got None"),
        ("c", "sqlite", "must be None for 'c', got 'sqlite'"),
    ],
)
def test_source_of_unknown_language_raises(language, dialect, message):
    model, _ = fitted("two targets")
    with pytest.raises(ValueError, match=message):
        model.to_source(language, dialect=dialect)


# -- expressions and tracing -----------------------------------------------------------------------


def test_program_lists_equal_parts_once():
    program = Program.of([(A + B) * (A + B), A + B])
    assert [step.function for step in program.steps] == ["cell", "cell", "add", "mul"]
    assert program.outputs == (3, 2)
    assert program.uses == [1, 1, 3, 1]


def test_constants_are_folded():
    assert (number(2.0) * 3.0 - 1.0).value == 5.0
    assert A + 0.0 is A
    assert A / 1.0 is A


@pytest.mark.parametrize("n_members", [1, 2, 3, 4, 5, 8, 9])
def test_midmean_equals_that_of_tensors(n_members):
    cells = np.random.default_rng(0).normal(size=(50, 2))
    members = [A * k + apply("abs", B * (k - 3.0)) for k in map(float, range(n_members))]
    values = exporting.torch_midmean([evaluated(member, cells) for member in members])
    assert_allclose(evaluated(midmean(members), cells), values, rtol=1e-12, atol=1e-14)


def test_own_operator_is_traced():
    torch = exporting.torch

    def own(a, b):
        total = 1.0 - 2.0 * a + (b - 0.5) ** 2
        total.mul_(torch.where(a > b, 1.0, -b))
        return torch.nn.functional.softplus(total).clamp(max=5.0) / (3.0 + torch.square(a))

    operator = Operator("own", own, "own({a}, {b})")
    cells = np.random.default_rng(0).normal(size=(50, 2))
    value = exporting.torch_value(operator, cells)
    assert_allclose(evaluated(trace(operator, A, B), cells), value, rtol=1e-12)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda a, b: exporting.torch.hypot(a, b),
            "'own' cannot be exported: it calls torch.hypot",
        ),
        (lambda a, b: a.erf() + b, "it uses Tensor.erf"),
        (lambda a, b: a if a > b else b, "it decides by values in Python"),
        (lambda a, b: a ** (b * 0.5), "it raises to a power"),
        (lambda a, b: a + exporting.torch.ones(3) * b, r"it uses tensor\(\[1., 1., 1.\]\)"),
    ],
)
def test_own_operator_that_cannot_be_traced_raises(function, message):
    with pytest.raises(ValueError, match=message):
        trace(Operator("own", function, "own({a}, {b})"), A, B)


def test_unfitted_model_raises():
    with pytest.raises(ValueError, match="not fitted"):
        EvolvingClassifier().to_source("python")
