"""What the command line says of files and options that are not what is required."""

import errno
import gzip
import os
import re

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skevo
from skevo._cli import fit as fitting
from skevo._cli import main, outputs
from skevo._cli.errors import CommandError

QUICK = ("--no-cv", "--quiet", "--members", "1", "--param", "n_generations=1")
# Columns of files by what is wrong with them, and what is said.
FILES = {
    "empty": (b"", "cannot read .*: Empty CSV file"),
    "no rows": (b"a,y\n", "has no rows"),
    "semicolons": (b"a;y\n1;2\n3;4\n", "must be separated by commas, got 'a;y'"),
    "tabulators": (b"a\ty\n1\t2\n3\t4\n", "must be separated by commas"),
    "decimal commas": (b"a;y\n1,5;2\n", r"row 1: .* \(cells must be separated by commas\)"),
    "short row": (b"a,y\n1,2\n3\n", "row 2: Expected 2 columns, got 1"),
    "long row": (b"a,y\n1,2\n3,4,5\n", "row 2: Expected 2 columns, got 3"),
    "one name twice": (b"a,y,a\n1,2,3\n", "several columns called 'a'"),
    "one column": (b"y\n1\n2\n", "no column to predict 'y' from"),
    "no target": (b"a,b\n1,2\n", "no column 'y'; it has 'a', 'b'"),
    "names in Latin-1": (b"\xe4,y\n1,2\n", "no text in UTF-8"),
    "text in Latin-1": (b"a,y\n\xe4,2\nb,3\n", "'a' must be numbers, .* no text in UTF-8"),
    "zeros": (b"\0\0\n\0", "no column 'y'"),
    "infinite": (b"a,y\n1,2\ninf,3\n", "column 'a' has an infinite number in row 2"),
    "infinite target": (b"a,y\n1,2.5\n2,-inf\n", "column 'y' has an infinite number in row 2"),
    "dates": (b"a,y\n2020-01-01,2\n2020-01-02,3\n", "column 'a' must be .*, got dates or times"),
    "missing target": (b"a,y\n1,2\n2,NA\n", "'y' is missing in 1 of 2 rows, first in row 2"),
    "one class": (b"a,y\n1,b\n2,b\n", "one class only: b"),
    "one row": (b"a,y\n1,2.5\n", "minimum of 2"),
}


def fit(path, *options, target="y"):
    out = path.with_suffix(".skevo")
    return main(["fit", str(path), "--target", target, "--out", str(out), *QUICK, *options])


@pytest.fixture
def said(capsys):
    """Return the one line that was said; nothing else was, but for how a command is used."""

    def said():
        printed = capsys.readouterr()
        lines = printed.err.splitlines()
        assert lines[-1].startswith("skevo: error: ")
        assert all(line.startswith(("usage:", " ", "skevo: note:")) for line in lines[:-1])
        return lines[-1]

    return said


@pytest.mark.parametrize("case", FILES)
def test_fit_says_what_is_wrong_with_a_file(case, tmp_path, said):
    content, message = FILES[case]
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    assert fit(path) == 1
    assert re.search(message, said())
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "No such file or directory"),
        ("none.parquet", None, "No such file or directory"),
        ("table.parquet", b"a,y\n1,2\n", "Parquet magic bytes not found"),
        ("table.csv.gz", b"a,y\n1,2\n", "incorrect header check"),
        ("cut.csv.gz", gzip.compress(b"a,y\n1,2\n", mtime=0)[:-9], "Truncated"),
    ],
    ids=["no csv", "no parquet", "no real parquet", "no real gzip", "cut gzip"],
)
def test_fit_says_what_is_wrong_with_a_container(name, content, message, tmp_path, said):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert fit(path) == 1
    assert re.search(f"cannot read .*{message}", said())


def test_fit_refuses_a_folder(tmp_path, said):
    assert main(["fit", str(tmp_path), "--target", "y", "--out", str(tmp_path / "x")]) == 1
    assert "Is a directory" in said()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1], [2]]), "must be numbers, text or a category, got list"),
        (pa.array([b"a", b"\xff"]), "no text in UTF-8"),
        (pa.array([1, 2], pa.timestamp("s")), "got dates or times"),
        (pa.array([1, 2], pa.timestamp("s")).dictionary_encode(), "got dates or times"),
        (pa.array([[1], [2]]).cast(pa.list_(pa.int8(), 1)), "got fixed_size_list"),
    ],
    ids=str,
)
def test_fit_refuses_columns_of_other_kinds(column, message, tmp_path, said):
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"a": column, "y": [1.5, 2.5]}), path)
    assert fit(path) == 1
    assert re.search(message, said())


KINDS = {
    "category": pd.Categorical(["a", "b"] * 30),
    "category of numbers": pd.Categorical([2, 5] * 30),
    "large text": pa.array(["a", "b"] * 30, pa.large_string()),
    "view": pa.array(["a", "b"] * 30, pa.string_view()),
    "booleans": pa.array([True, None] * 30),
    "decimals": pa.array([1, 2] * 30).cast(pa.decimal128(30, 2)),
    "half precision": pa.array([1.0, 2.0] * 30).cast(pa.float16()),
    "nothing": pa.nulls(60),
}


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_parquet_are_read_again_as_they_were_fitted(kind, tmp_path, capsys):
    path, out = tmp_path / "table.parquet", tmp_path / "table.skevo"
    column = pa.array(KINDS[kind]) if isinstance(KINDS[kind], pd.Categorical) else KINDS[kind]
    pq.write_table(pa.table({"a": column, "b": range(60), "y": [1.5, 7.5] * 30}), path)
    assert fit(path) == 0
    capsys.readouterr()
    assert main(["predict", str(out), str(path), "--out", str(tmp_path / "p.parquet")]) == 0
    found = pd.read_parquet(tmp_path / "p.parquet")["prediction"]
    assert bool((abs(found - [1.5, 7.5] * 30) < 0.5).all()) == (kind != "nothing")
    if kind not in ("half precision", "nothing"):
        # Arrow does not write all of these as CSV.
        frame = pd.DataFrame({"a": column.to_pandas(), "b": range(60)})
        frame.to_csv(tmp_path / "table.csv", index=False)
        assert main(["predict", str(out), str(tmp_path / "table.csv")]) == 0
        printed = capsys.readouterr().out.splitlines()[1:]
        assert [*map(float, printed)] == found.to_list()


def test_numbers_written_as_text_are_numbers(tmp_path, capsys):
    path = tmp_path / "table.parquet"
    numbers = [1.5, None, 3.25, -4e3] * 20
    pq.write_table(pa.table({"a": numbers, "y": [1.5, 2.5, 3.5, 4.5] * 20}), path)
    assert fit(path) == 0
    pq.write_table(pa.table({"a": ["1.5", None, "3.25", "-4e3"] * 20}), tmp_path / "text.parquet")
    printed = []
    for name in ("table.parquet", "text.parquet"):
        capsys.readouterr()
        assert main(["predict", str(path.with_suffix(".skevo")), str(tmp_path / name)]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_index_of_a_frame_is_no_column(tmp_path):
    path = tmp_path / "table.parquet"
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0], "y": [1.5, 2.5, 9.0]}, index=[7, 8, 9])
    frame.rename_axis("key").to_parquet(path)
    assert fit(path) == 0
    assert skevo.load(path.with_suffix(".skevo")).feature_names_in_.tolist() == ["a"]


# -- options ---------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    rows = "".join(f"{k},{k % 7},{'uv'[k % 2]},{k % 5}.5\n" for k in range(50))
    path.write_text(f"a,b,c,y\n{rows}", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ("--param n_member=3", 2, "no parameter 'n_member'; did you mean 'n_members'?"),
        ("--param xyz=3", 2, "no parameter 'xyz'; there are alpha, "),
        ("--param n_members=3", 2, "n_members is given twice"),
        ("--param alpha=-3", 2, "'alpha' parameter .* Got -3"),
        ("--param alpha", 2, "argument --param: must be name=value, got 'alpha'"),
        ("--param class_weight=balanced", 2, "EvolvingRegressor has no parameter 'class_weight'"),
        ("--loss log_loss", 2, "'loss' parameter .* Got 'log_loss'"),
        ("--loss quantile", 1, "quantile must be set"),
        ("--max-time 0", 2, "argument --max-time: must be a number > 0, got '0'"),
        ("--seed -1", 2, "argument --seed: must be an integer >= 0, got '-1'"),
        ("--members two", 2, "argument --members: must be an integer >= 1, got 'two'"),
        ("--folds 3", 2, "argument --folds: not allowed with argument --no-cv"),
        ("--drop y", 2, "column 'y' cannot be of use twice"),
        ("--drop z", 1, "has no column 'z'; it has 'a', 'b', 'c', 'y'"),
        ("--weight c", 1, "column 'c' must be numbers, but has the text 'u' in row 1"),
        ("--task sorting", 2, "invalid choice: 'sorting'"),
        ("--param device=gpu9", 1, "device 'gpu9' is not available"),
        ("--nonsense", 2, "unrecognized arguments: --nonsense"),
    ],
)
def test_fit_says_what_is_wrong_with_options(options, status, message, table, said):
    assert fit(table, *options.split()) == status
    assert re.search(message, said())
    assert not table.with_suffix(".skevo").exists()


def test_text_for_regression_is_refused(table, said):
    assert fit(table, "--task", "regression", target="c") == 1
    assert "column 'c' must be numbers, but has the text 'u' in row 1." in said()


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("predict table.csv table.skevo", 1, r"table.csv is no model of skevo, or is damaged\.$"),
        ("predict none.skevo table.csv", 1, "cannot read none.skevo: No such file"),
        ("predict table.skevo none.csv", 1, "cannot read none.csv: No such file"),
        ("predict table.skevo table.csv --proba", 2, "--proba is for models of classes"),
        ("predict table.skevo table.csv --interval 1", 2, "a number between 0 and 1, got '1'"),
        ("predict table.skevo table.csv --keep z", 1, "has no column 'z'"),
        ("predict table.skevo table.csv --out none/p.csv", 1, "there is no folder"),
        ("predict table.skevo table.csv --out table.csv --force", 1, "is read, so it cannot"),
        ("predict table.skevo table.csv --out table.skevo --force", 1, "is read, so it cannot"),
        ("show table.skevo --rule worst", 2, "invalid choice: 'worst'"),
        ("show table.skevo --kind path", 2, "add --plot FILE"),
        ("show table.skevo --plot p.png --kind contribution", 2, "requires --data"),
        ("show table.skevo --plot p.png --row 1", 2, "--row requires --data"),
        ("show table.skevo --plot p.png --part path", 2, "--plot draws a picture instead"),
        ("show table.skevo --plot p.docx", 2, "a picture must be one of .*png"),
        ("show table.skevo --plot -", 2, "a picture requires a file"),
        ("show table.skevo --plot p.png --output 1", 1, "output must be 0 for y, got 1"),
        (
            "show table.skevo --plot p.png --kind contribution --data table.csv --row 51",
            1,
            "has 50 rows, there is no row 51",
        ),
        ("export table.skevo", 2, "required: --to"),
        ("export table.skevo --to cobol", 2, "invalid choice: 'cobol'"),
        ("export table.skevo --to sql", 2, "requires --dialect"),
        ("export table.skevo --to c --dialect sqlite", 2, "requires --dialect"),
        ("export table.skevo --to onnx", 2, "--to onnx is no text, it requires --out"),
        ("explain table.skevo", 2, "invalid choice: 'explain'"),
    ],
)
def test_commands_say_what_is_wrong(command, status, message, table, said, monkeypatch, capsys):
    monkeypatch.chdir(table.parent)
    assert fit(table) == 0
    capsys.readouterr()
    before = {path: path.read_bytes() for path in table.parent.iterdir()}
    assert main(command.split()) == status
    assert re.search(message, said())
    assert {path: path.read_bytes() for path in table.parent.iterdir()} == before


def test_predict_intervals_of_classes_are_refused(table, said):
    assert fit(table, target="c") == 0
    model = str(table.with_suffix(".skevo"))
    assert main(["predict", model, str(table), "--interval", "0.5"]) == 2
    assert "--interval is for regressions" in said()


def test_predict_text_where_numbers_were_fitted_is_refused(table, tmp_path, said):
    assert fit(table) == 0
    (tmp_path / "new.csv").write_text("a,b,c\n1,2,u\n1,two,u\n", encoding="utf-8")
    model = str(table.with_suffix(".skevo"))
    assert main(["predict", model, str(tmp_path / "new.csv")]) == 1
    assert "column 'b' must be numbers, but has the text 'two' in row 2." in said()


def test_damaged_model_is_refused(table, said):
    assert fit(table) == 0
    model = table.with_suffix(".skevo")
    content = bytearray(model.read_bytes())
    content[-20] ^= 1
    model.write_bytes(content)
    assert main(["show", str(model)]) == 1
    assert "is damaged" in said()


# -- what is written -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "fit table.csv --target y --out there --no-cv --quiet --members 1 --param n_generations=1",
        "predict table.skevo table.csv --out there",
        "show table.skevo --plot there.png",
        "export table.skevo --to python --out there",
        "export table.skevo --to onnx --out there",
    ],
)
def test_no_file_is_replaced_unless_forced(command, table, said, monkeypatch, capsys):
    monkeypatch.chdir(table.parent)
    assert fit(table) == 0
    there = table.with_name("there.png" if "plot" in command else "there")
    there.write_text("mine", encoding="utf-8")
    there.chmod(0o640)
    capsys.readouterr()
    assert main(command.split()) == 1
    assert said() == f"skevo: error: {there.name} exists; --force replaces it."
    assert there.read_text(encoding="utf-8") == "mine"
    assert main([*command.split(), "--force"]) == 0
    assert there.read_bytes() != b"mine"
    assert there.stat().st_mode & 0o777 == 0o640
    assert not [*table.parent.glob(".skevo-*")]


def overwrite(path, force, meanwhile):
    with outputs.open_output(str(path), force) as file:
        file.write(b"second")
        meanwhile()


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_appears_meanwhile_stays(has_links, tmp_path, monkeypatch):
    if not has_links:

        def link(*_):
            raise OSError(errno.EPERM, "no links")

        monkeypatch.setattr(os, "link", link)
    path = tmp_path / "a"
    with outputs.open_output(str(path), False) as file:
        file.write(b"first")
    assert path.read_bytes() == b"first"
    path.unlink()

    def other():
        path.write_bytes(b"other")

    with pytest.raises(CommandError, match="a exists"):
        overwrite(path, False, other)
    assert path.read_bytes() == b"other"
    assert [*tmp_path.iterdir()] == [path]


def test_who_is_interrupted_leaves_what_was_there(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        overwrite(path, True, interrupt)
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.skipif(os.name != "posix", reason="links and devices of POSIX")
def test_links_are_followed_and_devices_written_to(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with outputs.open_output(str(tmp_path / "link"), True) as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"
    with outputs.open_output(os.devnull, True) as file:
        file.write(b"new")
    assert not os.path.isfile(os.devnull)


def test_fit_without_safetensors_is_refused_before_the_work(table, said, monkeypatch):
    monkeypatch.setattr(fitting, "find_spec", lambda name: None)
    assert fit(table) == 1
    assert said().endswith("install it with pip install 'skevo[cli]'.")


@pytest.mark.skipif(os.name != "posix", reason="devices of POSIX")
def test_a_model_needs_an_ordinary_file(table, said):
    arguments = ["fit", str(table), "--target", "y", "--out", os.devnull, *QUICK, "--force"]
    assert main(arguments) == 1
    assert "it is no ordinary file" in said()
