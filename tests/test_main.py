"""The main job, as it is run from a shell."""

import pickle
import re

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris

from skevo.__main__ import main


def write(path, names, rows):
    lines = [",".join(names), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def prices(tmp_path):
    X, y = load_diabetes(return_X_y=True)
    rows = np.column_stack([X[:80, 2:5], y[:80]]).tolist()
    return write(tmp_path / "prices.csv", ["a", "b", "c", "price"], rows)


@pytest.fixture
def species(tmp_path):
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    rows = [[*row, name] for row, name in zip(X.tolist(), names, strict=True)]
    return write(tmp_path / "species.csv", ["a", "b", "c", "d", "species"], rows)


def test_main_regression_table(prices, capsys, tmp_path):
    file = tmp_path / "model.pkl"
    status = main([prices, "--target", "price", "--save", str(file), "--folds", "2", "--jobs", "1"])
    printed = capsys.readouterr().out
    assert status == 0
    assert "regression, 80 rows x 3 columns" in printed
    models = ("evolving network", "Ridge", "HistGradientBoosting", "MLP")
    assert all(f"\n  {name} " in printed for name in models)
    assert "generation   0" in printed
    assert "Its formula:\ny = " in printed
    model = pickle.loads(file.read_bytes())
    assert model.predict(np.zeros((2, 3))).shape == (2,)


def test_main_text_target_is_classification(species, capsys):
    assert main([species, "--target", "species", "--folds", "2", "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "classification, 150 rows x 4 columns" in printed
    assert "LogisticRegression" in printed
    assert "logit(virginica) = " in printed


def test_main_takes_text_and_missing_cells(tmp_path, capsys):
    rng = np.random.default_rng(0)
    city = rng.choice(["Bonn", "Oslo", "Rome"], 90)
    area = rng.uniform(20.0, 90.0, 90)
    price = np.where(city == "Oslo", 3.0, 1.0) * area
    rows = [[*row] for row in zip(city.tolist(), area.tolist(), price.tolist(), strict=True)]
    rows[4][0] = rows[7][1] = ""
    rows[9][1] = "NA"
    path = write(tmp_path / "flats.csv", ["city", "area", "price"], rows)
    assert main([path, "--target", "price", "--folds", "2", "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "regression, 90 rows x 2 columns" in printed
    assert "[city = Oslo]" in printed


def broken(tmp_path, prices):
    names = ["a", "price"]
    return {
        "path": ([str(tmp_path / "none.csv"), "--target", "y"], "cannot read"),
        "column": ([prices, "--target", "cost"], "no column 'cost'"),
        "no target": ([prices], "--target"),
        "no data": (["--save", "x.pkl"], "need a CSV file"),
        "hole": (
            [write(tmp_path / "h.csv", names, [[1, 1], [2, ""]]), "--target", "price"],
            "target 'price' has an empty cell in row 3",
        ),
        "infinite": (
            [write(tmp_path / "n.csv", names, [["inf", 1], [2, 3]]), "--target", "price"],
            "column 'a' must be finite numbers, but has 'inf' in row 2",
        ),
        "empty": ([write(tmp_path / "e.csv", names, []), "--target", "price"], "no rows"),
        "ragged": (
            [write(tmp_path / "r.csv", names, [[1, 2], [3]]), "--target", "price"],
            "row 3 of .* has 1 cells",
        ),
        "one column": (
            [write(tmp_path / "o.csv", ["price"], [[1], [2]]), "--target", "price"],
            "no column beside",
        ),
        "one class": (
            [
                write(tmp_path / "k.csv", names, [[1, "b"], [2, "b"]]),
                "--target", "price",
            ],
            "one class only",
        ),
        "text for regression": (
            [
                write(tmp_path / "g.csv", names, [[1, "b"], [2, "c"]]),
                "--target", "price", "--task", "regression",
            ],
            "column 'price' must be numbers",
        ),
        "too few": (
            [write(tmp_path / "f.csv", names, [[1, 2.5], [3, 4.5]]), "--target", "price"],
            "too few rows",
        ),
        "folder": (
            [prices, "--target", "price", "--save", str(tmp_path / "none" / "model.pkl")],
            "no folder",
        ),
        "folds": ([prices, "--target", "price", "--folds", "1"], "--folds must be >= 2"),
    }  # fmt: skip


CASES = [
    "path", "column", "no target", "no data", "hole", "infinite", "empty", "ragged",
    "one column", "one class", "text for regression", "too few", "folder", "folds",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_main_wrong_input_one_sentence_status_two(case, tmp_path, prices, capsys):

    arguments, message = broken(tmp_path, prices)[case]
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("skevo: ")
    assert printed.err.count("\n") == 1
    assert re.search(message, printed.err)
