"""The Python blocks of README and documentation run as they stand, and the commands."""

import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import sklearn
import torch
from PIL import Image
from sklearn.utils.fixes import parse_version

from skevo._cli import main
from skevo.core import operators

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    # What a build has left there is no page.
    if page.exists() and not {"_build", "auto_examples"} & {*page.parts}
]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
OPTIONAL = ("sympy", "onnxruntime", "skl2onnx", "optuna", "distributed", "dask")
MISSING = [name for name in OPTIONAL if find_spec(name) is None]
HAS_CALLBACKS = parse_version(sklearn.__version__) >= parse_version("1.9")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run(page, tmp_path, monkeypatch):
    text = page.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python")  # none is missed for its indentation
    # What a page writes, registers or seeds stays within it.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(operators, "_REGISTRY", dict(operators._REGISTRY))
    namespace = {"__name__": page.stem}
    with torch.random.fork_rng(devices=[]):
        for block in blocks:
            if "set_callbacks" in block[1] and not HAS_CALLBACKS:
                continue
            if any(re.search(rf"^(import|from) {name}\b", block[1], re.M) for name in MISSING):
                # What is left of the page may need what this block defines.
                break
            # As many lines as stand before the block, so that tracebacks name the page's lines.
            above = "\n" * text.count("\n", 0, block.start(1))
            exec(compile(above + block[1], str(page), "exec"), namespace)


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_examples_show_what_they_draw_in_a_shell_too(script):
    # That they run is seen when the site is built.
    text = script.read_text(encoding="utf-8")
    drawn = [*re.finditer(r"Display\.from_estimator\(|^figure, .*plt\.", text, re.MULTILINE)]
    assert drawn
    assert re.search(r"^plt\.show\(\)$", text[drawn[-1].end() :], re.MULTILINE)


@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX")
def test_commands_run(tmp_path, monkeypatch, capsys):
    for package in ("pyarrow", "matplotlib"):
        pytest.importorskip(package)
    page = ROOT / "docs" / "command-line.md"
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(python|sh)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == text.count("```python") + text.count("```sh")
    monkeypatch.chdir(tmp_path)
    # A pipe runs this Python, and this skevo.
    folders = [os.path.dirname(sys.executable), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for language, block in blocks:
        if language == "python":
            exec(block, {})
            continue
        for line in block.splitlines():
            if "|" in line:
                subprocess.run(line, shell=True, check=True)
                continue
            program, *arguments = shlex.split(line)
            assert program == "skevo"
            assert main(arguments) == 0, capsys.readouterr().err
    printed = capsys.readouterr()
    lines = {hide_numbers(line) for line in [*printed.out.splitlines(), *printed.err.splitlines()]}
    shown = re.search(r"^```text\n(patients.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]
    assert {hide_numbers(line) for line in shown.splitlines()} <= lines


def hide_numbers(line):
    """Return a line without what may differ from machine to machine."""
    return re.sub(r"\d[\d.]*", "0", line)


def test_pictures_of_benchmarks_show_the_figures_of_the_page(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "benchmarks")
    plot_page = import_module("plot_page")
    for name, (command, _) in plot_page.PICTURES.items():
        with Image.open(plot_page.FOLDER / name) as picture:
            assert picture.text["Source"] == plot_page.digest(command), "run plot_page.py"


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ('<a href="other.html#there">', None),
        ('<a href="other.html?highlight=a#:~:text=a">', None),
        ('<a href="https://example.org/#x">', None),
        ('<a href="other.html#not">', "has no such anchor"),
        ('<a href="missing.html">', "is not there"),
        ('<a href="../outside.html">', "is not there"),
        ('<img src="missing.png">', "is not there"),
        ('<script src="https://example.org/x.js"></script>', "loads"),
    ],
)
def test_check_of_the_site_finds_links_that_lead_nowhere(tmp_path, monkeypatch, link, fault):
    monkeypatch.syspath_prepend(ROOT / "docs")
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "outside.html").write_text("")
    (site / "other.html").write_text('<h1 id="there">')
    (site / "index.html").write_text(link)
    found = import_module("check_site").broken_links(site)
    assert len(found) == (fault is not None)
    assert fault is None or fault in found[0]
