"""Models to export, rows with edge values, and what runs the sources."""

import ctypes
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris, make_friedman1

from skevo import EvolvingClassifier, EvolvingRegressor
from skevo._frames import read_codes
from skevo.core.operators import available_operators
from skevo.core.statistics import midmean

OPERATORS = available_operators()
CASES = (
    "regressor", "regressor of one network", "two targets", "two classes", "three classes",
    "three classes of one network", "counts at many places",
)  # fmt: skip


@cache
def fitted(case):
    """Return a model and 1,000 rows, of which it has seen the first 250."""
    table, target = rows(), make_friedman1(1000, n_features=5, random_state=0)[1]
    target += 4.0 * (table["the city"] == "Bern").to_numpy()
    options = {"n_generations": 6, "operators": OPERATORS, "random_state": 0}
    few = slice(250)
    terciles = np.digitize(target, np.quantile(target, [1 / 3, 2 / 3]))
    if case == "regressor":
        model = EvolvingRegressor(n_members=8, **{**options, "n_generations": 3}).fit(
            table[few], target[few]
        )
    elif case == "regressor of one network":
        table = table[["a", "b", "c", "d", "e"]].to_numpy()
        model = EvolvingRegressor(n_members=1, **options).fit(table[few], target[few])
    elif case == "counts at many places":
        # More levels than have columns of their own, three rows of each at least, and unknown ones.
        table["place"] = np.resize([f"place {k}" for k in range(260)], 1000)
        counts = np.round(target.clip(0.0))
        model = EvolvingRegressor(n_members=4, loss="poisson", **{**options, "n_generations": 3})
        model.fit(table, counts)
        assert len(model._encoding.told) == 1
        table.loc[:50, "place"] = None
        table.loc[50:100, "place"] = "elsewhere"
    elif case == "two targets":
        both = np.column_stack([target, target**2])
        model = EvolvingRegressor(n_members=2, **options).fit(table[few], both[few])
    elif case == "two classes":
        model = EvolvingClassifier(n_members=5, **options).fit(table[few], target[few] > 15.0)
    elif case == "three classes":
        model = EvolvingClassifier(n_members=4, **options).fit(table[few], terciles[few])
    else:
        table = np.resize(load_iris().data, (1000, 4)) * np.linspace(0.5, 3.0, 1000)[:, None]
        names = load_iris().target_names[load_iris().target]
        model = EvolvingClassifier(n_members=1, **options).fit(load_iris().data, names)
    return model, table


def rows():
    """Return a table with text, categories, missing cells, and edge values in later rows."""
    draw = np.random.default_rng(0)
    table = pd.DataFrame(make_friedman1(1000, n_features=5, random_state=0)[0], columns=[*"abcde"])
    table["the city"] = draw.choice(["Bern", "O'Hare", 'a "quoted" one', "rare"], 1000)
    table["grade"] = pd.Categorical(draw.choice([1, 2, 5], 1000))
    table["year"] = draw.integers(1990, 2020, 1000)
    table.loc[draw.random(1000) < 0.1, ["b", "the city"]] = None
    edges = [0.0, -0.0, 1e-9, -1e-9, 1e3, -1e3, 1e6, -1e6, np.nan]
    later = np.arange(300, 500)
    for column in "abcde":
        table.loc[later, column] = draw.choice(edges, len(later))
    table.loc[later, "year"] = draw.choice([-5, 0, 2005, 10**6], len(later))
    table.loc[draw.choice(later, 50), "the city"] = "unknown"
    return table


def torch_value(operator, cells):
    """Return an operator of two columns."""
    return operator(*torch.from_numpy(cells.T.copy())).numpy()


def torch_midmean(values):
    """Return the interquartile mean of columns."""
    return midmean(torch.from_numpy(np.stack(values))).numpy()


def expected(model, table):
    """Return what an export has to give, of shape (n_samples, n_outputs)."""
    method = model.predict_proba if hasattr(model, "classes_") else model.predict
    return method(table).reshape(len(table), -1)


def run_python(model, table):
    """Run the Python source in an interpreter that has the standard library alone."""
    method = "predict_proba" if hasattr(model, "classes_") else "predict"
    named = hasattr(table, "columns")
    cells = table.to_dict("records") if named else table.tolist()
    main = f"\nimport json\nprint(json.dumps([{method}(row) for row in json.loads(input())]))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", model.to_source("python") + main],
        input=json.dumps(cells), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return np.array(json.loads(done.stdout)).reshape(len(table), -1)


def run_numpy(model, table):
    """Run the NumPy source."""
    module = {}
    exec(model.to_source("numpy"), module)
    method = module["predict_proba" if hasattr(model, "classes_") else "predict"]
    return method(table).reshape(len(table), -1)


def compiled(source, directory):
    """Compile a source of C."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    (directory / "model.c").write_text(source)
    warnings = ["-Wall", "-Wextra", "-pedantic", "-Werror"]
    subprocess.run(
        ["gcc", "-std=c99", *warnings, "-shared", "-fPIC", "model.c", "-o", "model.so", "-lm"],
        cwd=directory, check=True,
    )  # fmt: skip
    return ctypes.CDLL(str(directory / "model.so"))


def run_c(model, table, directory):
    """Compile and run the C source."""
    library = compiled(model.to_source("c"), directory)
    numbers = ctypes.POINTER(ctypes.c_double)
    codes = np.ascontiguousarray(read_codes(table, model._encoding.levels))
    result = np.empty(expected(model, table).shape)
    for row, out in zip(codes, result, strict=True):
        pointers = (row.ctypes.data_as(numbers), out.ctypes.data_as(numbers))
        if hasattr(model, "classes_"):
            library.predict_proba(*pointers)
        elif result.shape[1] > 1:
            library.predict(*pointers)
        else:
            library.predict.restype = ctypes.c_double
            out[0] = library.predict(pointers[0])
    return result


def run_sql(text, table, dialect):
    """Select expressions from a table, in its order."""
    table = table if hasattr(table, "columns") else pd.DataFrame(table).add_prefix("x")
    table = table.assign(number=np.arange(len(table)))
    query = f"SELECT number, {text} FROM cells"
    answer = {"sqlite": _sqlite, "duckdb": _duckdb, "postgresql": _postgresql}[dialect](
        table, query
    )
    return np.array(sorted(answer), dtype=float)[:, 1:]


def _sqlite(table, query):
    database = sqlite3.connect(":memory:")
    try:
        database.execute("SELECT tanh(1.0)")
    except sqlite3.OperationalError:
        pytest.skip("SQLite has no mathematical functions")
    table.to_sql("cells", database, index=False)
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


def _duckdb(table, query):
    with pytest.importorskip("duckdb").connect() as database:
        database.register("frame", table)
        database.execute("CREATE TABLE cells AS SELECT * FROM frame")
        return database.execute(query).fetchall()


def _postgresql(table, query):
    # A server is not started here: the variable says how to reach one.
    server = os.environ.get("SKEVO_TEST_POSTGRESQL")
    if server is None:
        pytest.skip("SKEVO_TEST_POSTGRESQL is not set")
    types = {"f": "double precision", "i": "bigint"}
    columns = ", ".join(
        '"{}" {}'.format(name.replace('"', '""'), types.get(getattr(dtype, "kind", "O"), "text"))
        for name, dtype in table.astype({"grade": int} if "grade" in table else {}).dtypes.items()
    )
    with pytest.importorskip("psycopg").connect(server) as database:
        database.execute(f"CREATE TEMPORARY TABLE cells ({columns})")
        with database.cursor().copy("COPY cells FROM STDIN") as copy:
            for row in table.itertuples(index=False):
                copy.write_row([None if cell is None or cell != cell else cell for cell in row])
        return database.execute(query).fetchall()
