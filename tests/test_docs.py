"""The Python blocks of README and documentation run as they stand, and the commands."""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import sklearn
import torch
from sklearn.utils.fixes import parse_version

from skevo._cli import main
from skevo.core import operators

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if page.exists()
]
OPTIONAL = ("sympy", "onnxruntime", "skl2onnx")
MISSING = [name for name in OPTIONAL if find_spec(name) is None]
HAS_CALLBACKS = parse_version(sklearn.__version__) >= parse_version("1.9")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
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
