"""``skevo export``: a model as source, formula or graph."""

from __future__ import annotations

import io
from argparse import Namespace
from typing import Any

from ..export.to_sql import DIALECTS
from .errors import UsageError
from .models import add_model_options, explained, open_model
from .outputs import STANDARD, check_output, open_output
from .parsing import add_command

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to a program."""
    parser = add_command(
        commands,
        "export",
        _run,
        "Write a saved model in another language.",
        "skevo export rent.skevo --to python --out rent.py",
        "skevo export rent.skevo --to sql --dialect sqlite",
        "skevo export rent.skevo --to onnx --out rent.onnx",
    )
    add_model_options(parser)
    add = parser.add_argument
    add("--to", required=True, choices=[*_TEXTS, *_GRAPHS], help="what to write")
    add("--dialect", choices=[*DIALECTS], help="of SQL; required there")
    add(
        "--out",
        default=STANDARD,
        metavar="FILE",
        help="where to; the standard output, but for onnx and torch",
    )
    add("--force", action="store_true", help="replace a file that is there")


def _run(options: Namespace) -> int:
    if (options.to == "sql") != (options.dialect is not None):
        raise UsageError("--to sql requires --dialect, and nothing else takes it.")
    if options.to in _GRAPHS and options.out == STANDARD:
        raise UsageError(f"--to {options.to} is no text, it requires --out.")
    check_output(options.out, options.force, options.model)
    model = open_model(options)
    with explained():
        if options.to in _GRAPHS:
            content = _GRAPHS[options.to](model)
        else:
            text = _TEXTS[options.to](model, options.dialect)
            content = f"{text.rstrip()}\n".encode()
    with open_output(options.out, options.force) as file:
        file.write(content)
    return 0


def _source(language: str) -> Any:
    return lambda model, dialect: model.to_source(language, dialect=dialect)


def _sympy(model: Any, _: None) -> str:
    # The package is optional, and to_sympy says so.
    expressions = model.to_sympy()
    import sympy

    return sympy.srepr(expressions)


def _latex(model: Any, _: None) -> str:
    return model.to_latex()


def _onnx(model: Any) -> bytes:
    return model.to_onnx().SerializeToString()


def _torch(model: Any) -> bytes:
    # A program that runs without skevo, for any number of rows.
    import torch

    module = model.to_torch()
    example = torch.zeros(2, model.n_features_in_, dtype=torch.float64)
    rows = torch.export.Dim("rows")
    program = torch.export.export(module, (example,), dynamic_shapes=({0: rows},))
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


_TEXTS = {
    **{language: _source(language) for language in ("python", "numpy", "c", "sql")},
    "sympy": _sympy,
    "latex": _latex,
}
_GRAPHS = {"onnx": _onnx, "torch": _torch}
