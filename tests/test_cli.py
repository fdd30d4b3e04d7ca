"""The command line, as a user runs it."""

import io
import os
import re
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_friedman1
from sklearn.model_selection import KFold

import skevo
from skevo import EvolvingClassifier, EvolvingRegressor
from skevo._cli import main

QUICK = ("--members", "2", "--param", "n_generations=3")
N_ROWS = 120


def flats():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": [f"{row:04d}" for row in range(N_ROWS)],
            "floor area": rng.uniform(20.0, 90.0, N_ROWS).round(1),
            "städtchen": rng.choice(["Köln", "Bonn", "Ulm"], N_ROWS),
            "balcony": rng.choice([True, False], N_ROWS),
            "zip": rng.choice([1, 22, 333], N_ROWS),
        }
    )
    rent = frame["floor area"] * np.where(frame["städtchen"] == "Köln", 15.0, 10.0)
    frame["rent"] = (rent + rng.normal(0.0, 10.0, N_ROWS)).round(2)
    frame["class"] = np.where(frame["rent"] > 700, "dear", "cheap, or so")
    frame.loc[::13, "floor area"] = np.nan
    frame.loc[5, "städtchen"] = None
    return frame


def features(frame):
    return frame[["floor area", "städtchen", "balcony", "zip"]]


def read(source):
    """Return predictions as they are written, every digit of them."""
    source = io.StringIO(source) if isinstance(source, str) else source
    frame = pd.read_csv(source, dtype=str)
    numbers = [name for name in frame if "." in frame[name][0]]
    return frame.assign(**{name: [*map(float, frame[name])] for name in numbers})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tables, and models that were fitted to them by the command line."""
    path = tmp_path_factory.mktemp("cli")
    frame = flats()
    frame.to_csv(path / "flats.csv", index=False)
    frame.to_csv(path / "flats.csv.gz", index=False)
    frame.to_parquet(path / "flats.parquet")
    for target, other, model in (("rent", "class", "rent"), ("class", "rent", "class")):
        assert fit(path, path / f"{model}.skevo", target, "--drop", other, "--drop", "id") == 0
    return path


def fit(folder, out, target, *options, table="flats.csv", quick=QUICK):
    command = ["fit", folder / table, "--target", target, "--out", out, "--no-cv", "--quiet"]
    return main([*map(str, [*command, *quick, *options])])


@pytest.fixture
def run(folder, capsys, monkeypatch):
    """Run a command in the folder; it must succeed. Return what it prints."""
    monkeypatch.chdir(folder)

    def run(*arguments):
        capsys.readouterr()
        status = main([*map(str, arguments)])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        return printed.out

    return run


# -- fit -------------------------------------------------------------------------------------------


def expected(estimator=EvolvingRegressor, target="rent", **parameters):
    model = estimator(n_members=2, n_generations=3, random_state=0).set_params(**parameters)
    frame = flats()
    return model.fit(features(frame), frame[target])


@pytest.mark.parametrize("table", ["flats.csv", "flats.csv.gz", "flats.parquet"])
def test_fit_saves_the_model_of_the_estimator(folder, tmp_path, table):
    out = tmp_path / "model.skevo"
    assert fit(folder, out, "rent", "--drop", "id", "--drop", "class", table=table) == 0
    saved, X = skevo.load(out), features(flats())
    assert saved.verbose == 0
    assert saved.get_params() == expected().get_params()
    np.testing.assert_array_equal(saved.predict(X), expected().predict(X))


def test_fit_prints_cross_validated_scores(folder, tmp_path, capsys):
    out = tmp_path / "model.skevo"
    arguments = ["fit", str(folder / "flats.csv"), "--target", "rent", "--out", str(out)]
    assert main([*arguments, "--drop", "id", "--drop", "class", "--folds", "3", *QUICK]) == 0
    printed = capsys.readouterr()
    assert "regression of rent, 120 rows x 4 columns, categories: 'städtchen'" in printed.out
    frame, scores = flats(), []
    X, y = features(frame), frame["rent"]
    for train, test in KFold(3, shuffle=True, random_state=0).split(X):
        model = EvolvingRegressor(n_members=2, n_generations=3, random_state=0)
        scores.append(model.fit(X.iloc[train], y[train]).score(X.iloc[test], y[test]))
    assert f"3 folds: R2 {np.mean(scores):.4g} +- {np.std(scores):.3g}, MAE" in printed.out
    assert re.findall(r"^fold (\d) of 3: R2 \d", printed.err, re.M) == ["1", "2", "3"]


def test_fit_classes_prints_accuracy_and_log_loss(folder, tmp_path, capsys):
    arguments = ["fit", str(folder / "flats.csv"), "--target", "class", "--drop", "rent", "--quiet"]
    out = tmp_path / "model.skevo"
    assert main([*arguments, "--drop", "id", "--folds", "2", "--out", str(out), *QUICK]) == 0
    printed = capsys.readouterr()
    assert re.search(r"2 folds: accuracy \S+ \+- \S+, log-loss \S+ \+- \S+\n", printed.out)
    assert printed.err == ""
    assert skevo.load(out).classes_.tolist() == ["cheap, or so", "dear"]


@pytest.mark.parametrize(
    ("target", "task", "classes"),
    [
        ("zip", "auto", [1, 22, 333]),
        ("balcony", "auto", [False, True]),
        ("zip", "regression", None),
        ("rent", "auto", None),
    ],
)
def test_fit_tells_classes_from_numbers(folder, tmp_path, target, task, classes):
    out = tmp_path / "model.skevo"
    assert fit(folder, out, target, "--task", task, "--drop", "id") == 0
    model = skevo.load(out)
    assert getattr(model, "classes_", np.array(None)).tolist() == classes


def test_fit_warns_of_many_numbers_that_are_classes(tmp_path, capsys):
    rows = pd.DataFrame({"a": np.arange(84.0), "age": np.arange(84) % 21})
    rows.to_csv(tmp_path / "ages.csv", index=False)
    rows.assign(age=rows["age"] // 2).to_csv(tmp_path / "few.csv", index=False)
    rows.assign(age="is" + rows["age"].astype(str)).to_csv(tmp_path / "text.csv", index=False)
    quick, out = ("--members", "1", "--param", "n_generations=0"), tmp_path / "age.skevo"
    options = ("age", "--task", "classification", "--force")
    for table in ("few.csv", "text.csv"):
        assert fit(tmp_path, out, *options, table=table, quick=quick) == 0
        assert capsys.readouterr().err == ""
    assert fit(tmp_path, out, *options, table="ages.csv", quick=quick) == 0
    assert capsys.readouterr().err == (
        "skevo: warning: each of the 21 different numbers in 'age' is a class; --task regression "
        "predicts amounts.\n"
    )


def test_fit_options_are_parameters(folder, tmp_path):
    out = tmp_path / "model.skevo"
    options = (
        "--drop class --drop id --members 1 --max-nodes 2 --seed 3 --loss huber --max-time 99 "
        "--jobs 1 --param operators=['mul','div'] --param pruning=std --param n_generations=2"
    )
    assert fit(folder, out, "rent", *options.split(), quick=()) == 0
    model = skevo.load(out)
    assert model.n_nodes_ <= 2
    known = EvolvingRegressor(
        n_members=1, max_nodes=2, random_state=3, loss="huber", max_time=99.0, n_jobs=1,
        operators=["mul", "div"], pruning="std", n_generations=2,
    )  # fmt: skip
    assert model.get_params() == known.get_params()


def test_fit_weights_rows(folder, tmp_path):
    frame = flats()
    frame["w"] = np.arange(N_ROWS) % 3
    frame.to_csv(tmp_path / "weighted.csv", index=False)
    out = tmp_path / "model.skevo"
    options = ("--weight", "w", "--drop", "id", "--drop", "class")
    assert fit(tmp_path, out, "rent", *options, table="weighted.csv") == 0
    model = EvolvingRegressor(n_members=2, n_generations=3, random_state=0)
    model.fit(features(frame), frame["rent"], sample_weight=frame["w"])
    X = features(frame)
    np.testing.assert_array_equal(skevo.load(out).predict(X), model.predict(X))


def test_fit_leaves_out_rows_without_a_target_if_told_to(folder, tmp_path, capsys):
    frame = flats()
    frame.loc[3, "rent"] = np.nan
    frame.to_csv(tmp_path / "holes.csv", index=False)
    out = tmp_path / "model.skevo"
    options = ("--drop", "id", "--drop", "class")
    assert fit(tmp_path, out, "rent", *options, table="holes.csv") == 1
    message = "skevo: error: the target 'rent' is missing in 1 of 120 rows, first in row 4; "
    assert capsys.readouterr().err.startswith(message)
    assert fit(tmp_path, out, "rent", *options, "--drop-missing-target", table="holes.csv") == 0
    model = EvolvingRegressor(n_members=2, n_generations=3, random_state=0)
    known = frame.drop(index=3)
    model.fit(features(known), known["rent"])
    X = features(frame)
    np.testing.assert_array_equal(skevo.load(out).predict(X), model.predict(X))


def test_numbers_can_be_categories(folder, tmp_path, run):
    out = tmp_path / "model.skevo"
    options = ("--categorical", "zip", "--drop", "class", "--drop", "id", "--drop", "rent")
    assert fit(folder, out, "balcony", *options) == 0
    model = skevo.load(out)
    assert model._encoding.levels[2] == ("1", "22", "333")
    # A file of another kind has the same categories.
    assert run("predict", out, "flats.csv") == run("predict", out, "flats.parquet")


# -- predict ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["flats.csv", "flats.csv.gz", "flats.parquet"])
@pytest.mark.parametrize("out", ["p.csv", "p.csv.gz", "p.parquet", "-"])
def test_predict_equals_the_estimator(run, tmp_path, table, out):
    path = out if out == "-" else tmp_path / out
    printed = run("predict", "rent.skevo", table, "--out", path)
    if out == "-":
        found = read(printed)
    elif out == "p.parquet":
        found = pd.read_parquet(path)
    else:
        found = read(path)
    assert [*found] == ["prediction"]
    np.testing.assert_array_equal(found["prediction"], expected().predict(features(flats())))


def test_predict_reads_the_standard_input(run, folder, monkeypatch):
    content = io.BytesIO((folder / "flats.csv").read_bytes())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
    assert run("predict", "rent.skevo", "-") == run("predict", "rent.skevo", "flats.csv")


def test_predict_probabilities_of_classes(run):
    found = read(run("predict", "class.skevo", "flats.parquet", "--proba"))
    model, X = expected(EvolvingClassifier, "class"), features(flats())
    assert [*found] == ["prediction", "proba(cheap, or so)", "proba(dear)"]
    assert found["prediction"].tolist() == model.predict(X).tolist()
    np.testing.assert_array_equal(found.iloc[:, 1:], model.predict_proba(X))


def test_predict_intervals_and_kept_columns(run):
    options = ("--keep", "id", "--interval", "0.8")
    found = read(run("predict", "rent.skevo", "flats.csv", *options))
    assert [*found] == ["id", "prediction", "low", "high"]
    assert found["id"].tolist() == flats()["id"].tolist()
    interval = expected().predict_interval(features(flats()), coverage=0.8)
    np.testing.assert_array_equal(found[["low", "high"]], interval)


def test_predict_finds_columns_by_name(run, tmp_path, capsys):
    frame = features(flats())[["zip", "balcony", "städtchen", "floor area"]].assign(extra="x")
    frame.to_csv(tmp_path / "other.csv", index=False)
    assert main(["predict", "rent.skevo", str(tmp_path / "other.csv")]) == 0
    printed = capsys.readouterr()
    assert printed.out == run("predict", "rent.skevo", "flats.csv")
    note = "skevo: note: the model does not read 'extra'.\n"
    assert printed.err == note


def test_predict_names_the_columns_that_are_missing(run, tmp_path, capsys):
    features(flats()).drop(columns=["zip", "floor area"]).to_csv(tmp_path / "few.csv", index=False)
    assert main(["predict", "rent.skevo", str(tmp_path / "few.csv")]) == 1
    assert "few.csv has no column 'floor area', 'zip'; it has" in capsys.readouterr().err


def test_predict_takes_levels_for_text_whatever_they_look_like(run, tmp_path):
    frame = features(flats()).head(4).assign(städtchen=[1, 2, 3, 4])
    frame.to_csv(tmp_path / "towns.csv", index=False)
    found = read(run("predict", "rent.skevo", tmp_path / "towns.csv"))
    # Levels that the model does not know.
    frame["städtchen"] = frame["städtchen"].astype(str)
    np.testing.assert_array_equal(found["prediction"], expected().predict(frame))


def test_predict_several_targets_of_an_array(run, tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 2))
    model = EvolvingRegressor(n_members=1, n_generations=1, random_state=0)
    model.fit(X, np.column_stack([X[:, 0], X[:, 1] ** 2])).save(tmp_path / "two.skevo")
    pd.DataFrame(X, columns=["b", "a"]).to_csv(tmp_path / "rows.csv", index=False)
    found = read(run("predict", tmp_path / "two.skevo", tmp_path / "rows.csv"))
    assert [*found] == ["prediction0", "prediction1"]
    np.testing.assert_array_equal(found, model.predict(X))


# -- show and export -------------------------------------------------------------------------------


def test_show_prints_what_the_model_is(run):
    printed, model = run("show", "rent.skevo"), expected()
    assert repr(model) in printed
    # What may be long comes last.
    assert printed.endswith(f"\nFormula\n{model.formula_}\n")
    for name, value in zip(features(flats()), model.feature_importances_, strict=True):
        assert re.search(rf"^{name} +{value:.4g}$", printed, re.M)
    for expression in model.nodes_table()["expression"].head(20):
        assert f"  {expression}\n" in printed
    for loss in model.path_["validation_loss"]:
        assert f"{loss:.5g}" in printed


def test_show_parts_of_a_smaller_model(run):
    model = expected().select(nodes=2, rule="one-standard-error")
    options = ("--nodes", "2", "--rule", "one-standard-error")
    assert run("show", "rent.skevo", "--part", "formula", *options) == f"{model.formula_}\n"
    printed = run("show", "rent.skevo", "--part", "terms", "--terms", "1")
    assert len(printed.splitlines()) == 4
    assert f": --terms {expected().nodes_table()['expression'].nunique()}\n" in printed


@pytest.fixture(scope="module")
def large(folder):
    """A model with a long formula, whose members have terms in common, and its rows."""
    X, y = make_friedman1(200, n_features=5, noise=1.0, random_state=0)
    model = EvolvingRegressor(n_members=3, n_generations=10, random_state=0).fit(X, y)
    model.save(folder / "large.skevo")
    return model, X


def test_show_leaves_out_a_long_formula(run, large):
    text = large[0].formula_
    assert len(text) > 2000
    note = f"\nFormula\n{len(text)} characters: --part formula prints them\n"
    assert run("show", "large.skevo").endswith(note)
    assert run("show", "large.skevo", "--part", "formula") == f"{text}\n"


def test_show_has_one_line_for_what_several_members_have(run, large):
    printed = run("show", "large.skevo", "--part", "terms", "--terms", "1000")
    lines = [line.split(maxsplit=5) for line in printed.splitlines()[2:]]
    shown = {expression: measures for *measures, expression in lines}
    assert len(shown) == len(lines)
    model, X = large
    found, table = model.contributions(X, by="term"), model.nodes_table()
    repeated = table[table["expression"].duplicated(keep=False)]
    assert len(repeated) > 1
    for expression, same in table.groupby("expression"):
        weight, contribution, importance, _, nodes = shown[expression]
        # Of two members both are heard, so that what a row is told is what the table has.
        values = found.values[:, [name == expression for name in found.names]].sum(axis=1)
        assert weight == f"{same['weight'].sum():.4g}"
        assert float(contribution) == pytest.approx(np.abs(values).mean(), rel=1e-3)
        assert int(nodes) == (same["level"] > 0).sum()
        if len(same) == 1:
            assert importance == f"{same['importance'].item():.4g}"
        else:
            assert importance == "-"


def test_show_tells_of_a_selected_model_without_nodes(run, capsys):
    sizes = expected().path_["n_nodes"]
    fewest = sizes[sizes > 0].min()
    options = ("rent.skevo", "--part", "parameters", "--nodes")
    for nodes in (fewest, 0):
        assert main(["show", *options, str(nodes)]) == 0
        assert capsys.readouterr().err == ""
    assert main(["show", *options, str(fewest - 1)]) == 0
    printed = capsys.readouterr()
    assert " 0 nodes, " in printed.out
    assert printed.err.startswith("skevo: note: the model that is selected has no nodes")
    assert f" has {fewest} node" in printed.err


def test_one_of_a_thing_is_not_called_by_the_plural(folder, tmp_path, capsys):
    out = tmp_path / "one.skevo"
    quick = ("--members", "1", "--param", "n_generations=1")
    assert fit(folder, out, "rent", "--drop", "id", "--drop", "class", quick=quick) == 0
    assert re.search(r"one\.skevo: 1 member, \d+ nodes?, \d+ numbers\n", capsys.readouterr().out)
    assert main(["show", str(out), "--part", "parameters"]) == 0
    assert re.search(r"4 columns, 1 member, .*, 1 generation; stop", capsys.readouterr().out)


@pytest.mark.parametrize("kind", [None, "topology", "evolution", "path", "contribution"])
def test_show_draws_pictures(run, tmp_path, kind):
    options = ["--kind", kind] if kind else []
    if kind == "contribution":
        options += ["--data", "flats.csv", "--row", "3"]
    assert run("show", "rent.skevo", "--plot", tmp_path / "a.png", *options) == ""
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("language", ["python", "numpy", "c"])
def test_export_source_is_that_of_the_estimator(run, tmp_path, language):
    source = expected().to_source(language)
    assert run("export", "rent.skevo", "--to", language) == source
    run("export", "rent.skevo", "--to", language, "--out", tmp_path / "source")
    assert (tmp_path / "source").read_text(encoding="utf-8") == source


def test_export_sql_runs(run):
    expression = run("export", "rent.skevo", "--to", "sql", "--dialect", "sqlite")
    database = sqlite3.connect(":memory:")
    flats().to_sql("flats", database)
    answer = database.execute(f'SELECT {expression} FROM flats ORDER BY "index"').fetchall()
    known = expected().predict(features(flats()))
    np.testing.assert_allclose(np.ravel(answer), known, rtol=1e-10)


def test_export_formulas(run):
    sympy = pytest.importorskip("sympy")
    from skevo.export.to_sympy import Midmean, Scaled, Sigmoid

    assert run("export", "rent.skevo", "--to", "latex") == f"{expected().to_latex()}\n"
    functions = {"Midmean": Midmean, "Scaled": Scaled, "Sigmoid": Sigmoid}
    text = run("export", "rent.skevo", "--to", "sympy")
    formula, row = sympy.sympify(text, locals=functions), flats().iloc[0]
    cells = {
        "floor area": 0.0, "missing(floor area)": 1.0, "zip": row["zip"], "balcony": row["balcony"],
        "missing(städtchen)": 0.0, f"[städtchen = {row['städtchen']}]": 1.0,
    }  # fmt: skip
    values = {symbol: float(cells.get(symbol.name, 0.0)) for symbol in formula.free_symbols}
    assert row.isna()["floor area"]
    known = expected().predict(features(flats())[:1])
    np.testing.assert_allclose(float(formula.xreplace(values)), known[0], rtol=1e-12)


def test_export_onnx_graph(run, tmp_path):
    onnx = pytest.importorskip("onnx")
    run("export", "class.skevo", "--to", "onnx", "--out", tmp_path / "a.onnx")
    graph = onnx.load(tmp_path / "a.onnx")
    assert graph == expected(EvolvingClassifier, "class").to_onnx()


@pytest.mark.filterwarnings("default")
def test_export_torch_program(run, tmp_path):
    import torch

    run("export", "rent.skevo", "--to", "torch", "--out", tmp_path / "a.pt2")
    program = torch.export.load(tmp_path / "a.pt2").module()
    rows = expected().to_torch().read(features(flats()))
    found = program(rows).detach().numpy()
    np.testing.assert_allclose(found, expected().predict(features(flats())), rtol=1e-12)


def test_export_of_a_smaller_model(run):
    source = expected().select(nodes=2).to_source("python")
    assert run("export", "rent.skevo", "--to", "python", "--nodes", "2") == source


# -- the program -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["fit", "predict", "show", "export", "compare"])
def test_help_has_examples(command, capsys):
    assert main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    examples = printed.partition("\nexamples:\n")[2].splitlines()
    assert len(examples) >= 2
    assert all(line.startswith(f"  skevo {command}") for line in examples)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"skevo {skevo.__version__}\n"


def module(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "skevo", *map(str, arguments)],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
    )


def test_module_usage_error_has_status_two():
    process = module("fit", "x.csv")
    out, err = process.communicate()
    assert process.returncode == 2
    assert out == ""
    assert err.startswith("usage: python -m skevo fit [-h]")
    message = "skevo: error: the following arguments are required: --target, --out\n"
    assert err.endswith(message)


def test_unknown_option_shows_the_options_of_the_command(capsys):
    assert main(["fit", "x.csv", "--target", "y", "--out", "y", "--maxnodes", "5"]) == 2
    printed = capsys.readouterr().err
    assert re.match(r"usage: \S.* fit \[-h\] --target COLUMN", printed)
    assert "[--max-nodes N]" in printed
    assert printed.endswith("\nskevo: error: unrecognized arguments: --maxnodes 5\n")


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_broken_pipe_is_no_error(folder, tmp_path):
    frame = pd.concat([features(flats())] * 100)
    frame.to_csv(tmp_path / "many.csv", index=False)
    with module("predict", folder / "rent.skevo", tmp_path / "many.csv") as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("command", ["show", "predict"])
def test_full_disk_is_told(folder, tmp_path, command):
    features(flats()).to_csv(tmp_path / "flats.csv", index=False)
    table = [tmp_path / "flats.csv"] if command == "predict" else []
    with open("/dev/full", "w") as full:
        process = module(command, folder / "rent.skevo", *table, stdout=full)
        _, err = process.communicate()
    message = "skevo: error: cannot write the output: No space left on device.\n"
    assert (process.returncode, err) == (1, message)


@pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")
@pytest.mark.parametrize("is_validated", [False, True])
def test_interrupted_fit_saves_the_best_model(folder, tmp_path, is_validated):
    import pty

    out = tmp_path / "model.skevo"
    endless = ("--param", "n_generations=1000000", "--param", "n_iter_no_change=None")
    terminal, end = pty.openpty()
    process = module(
        "fit", folder / "flats.csv", "--target", "rent", "--out", out, "--members", "1", *endless,
        *([] if is_validated else ["--no-cv"]), stderr=end, env={**os.environ, "TERM": "xterm"},
        # A shell in the background has it ignored, and so would whatever it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    os.close(end)
    shown = b""
    # Progress shows that generations are grown.
    while b"to go" not in shown:
        shown += os.read(terminal, 1024)
    process.send_signal(signal.SIGINT)
    try:
        while part := os.read(terminal, 1024):
            shown += part
    except OSError:
        pass  # Linux says so at the end of what a terminal shows.
    process.communicate()
    os.close(terminal)
    assert process.returncode == 130
    assert b"Traceback" not in shown
    if is_validated:
        assert shown.endswith(b"skevo: interrupted: no model was fitted to all rows.\r\n")
        assert not out.exists()
    else:
        assert shown.endswith(b"model.skevo has the best model until then.\r\n")
        assert skevo.load(out).stop_reason_ == "interrupted"
