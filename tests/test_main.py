"""The main job, as it is run from a shell: ``compare``, which is also what no command means."""

import re
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris

from skevo._cli import compare, main

QUICK = ("--folds", "2", "--jobs", "1")


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


def test_compare_regression_table(prices, capsys):
    assert main(["compare", prices, "--target", "price", *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "regression, 80 rows x 3 columns" in printed
    models = ("evolving network", "Ridge", "HistGradientBoosting", "MLP")
    assert all(f"\n  {name} " in printed for name in models)
    assert "generation   0" in printed
    assert "Its formula:\ny = " in printed


def test_compare_text_target_is_classification(species, capsys):
    assert main(["compare", species, "--target", "species", *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "classification, 150 rows x 4 columns" in printed
    assert "LogisticRegression" in printed
    assert "logit(virginica) = " in printed


def test_compare_takes_text_and_missing_cells(tmp_path, capsys):
    rng = np.random.default_rng(0)
    city = rng.choice(["Bonn", "Oslo", "Rome"], 90)
    area = rng.uniform(20.0, 90.0, 90)
    price = np.where(city == "Oslo", 3.0, 1.0) * area
    rows = [[*row] for row in zip(city.tolist(), area.tolist(), price.tolist(), strict=True)]
    rows[4][0] = rows[7][1] = ""
    rows[9][1] = "NA"
    path = write(tmp_path / "flats.csv", ["city", "area", "price"], rows)
    assert main(["compare", path, "--target", "price", *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "regression, 90 rows x 2 columns" in printed
    assert "[city = Oslo]" in printed


def test_no_command_is_compare_on_bundled_tables(monkeypatch):
    compared, shown = [], []
    monkeypatch.setattr(compare, "_compare", lambda tables, folds, jobs: compared.extend(tables))
    monkeypatch.setattr(compare, "_show", shown.append)
    assert main([]) == 0
    titles = [table.title for table in compared]
    assert titles == ["diabetes", "breast cancer", "wine", "digits, 400 rows"]
    assert shown == compared[:1]


WITHOUT_EXTRAS = """
import sys

class Refuse:
    def find_spec(name, *_):
        if name.partition(".")[0] in ("pandas", "pyarrow", "polars", "matplotlib", "safetensors"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse)
from skevo._cli import compare, main
first = next(compare._bundled())
compare._bundled = lambda: [first]
status = main(["compare", "--folds", "2", "--jobs", "1"])
sys.exit(status or main(["compare", "x.csv", "--target", "y"]))
"""


def test_main_job_needs_no_extras_and_files_say_which():
    command = [sys.executable, "-c", WITHOUT_EXTRAS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "diabetes: regression" in done.stdout
    message = "skevo: error: tables require pyarrow: install it with pip install 'skevo[cli]'.\n"
    assert (done.returncode, done.stderr) == (1, message)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["prices.csv"], 2, "a file of your own and its --target go together"),
        (["--target", "price"], 2, "a file of your own and its --target go together"),
        (
            ["prices.csv", "--target", "price", "--folds", "1"],
            2,
            "--folds: must be an integer >= 2",
        ),
        (["prices.csv", "--target", "price", "--folds", "50"], 1, "too few rows per fold"),
        (["species.csv", "--target", "species", "--folds", "51"], 1, "in the rarest class for 51"),
    ],
)
def test_compare_wrong_input_is_told(arguments, status, message, tmp_path, prices, species, capsys):
    given = [str(tmp_path / one) if one.endswith(".csv") else one for one in arguments]
    assert main(["compare", *given]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.search(f"^skevo: error: .*{message}", printed.err, re.M)
