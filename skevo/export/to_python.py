"""Python source: functions of one row, with the standard library alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from .model import Model
from .text import Language, statements

__all__ = ["python_source"]

_HELPERS = {
    "_number": """
def _number(cell, fill):
    return fill if cell is None or cell != cell else float(cell)
""",
    "_missing": """
def _missing(cell):
    return float(cell is None or cell != cell)
""",
    "_mean": """
def _mean(cell, means, missing, unknown):
    return missing if cell is None or cell != cell else means.get(cell, unknown)
""",
    "_sigmoid": """
def _sigmoid(z):
    if z >= 0.0:
        return 1.0 / (1.0 + math.exp(-z))
    odds = math.exp(z)
    return odds / (1.0 + odds)
""",
    "_midmean": """
def _midmean(values, left_out):
    middle = sorted(values)[left_out : len(values) - left_out]
    return sum(middle) / len(middle)
""",
    "_softmax": """
def _softmax(logits):
    highest = max(logits)
    odds = [math.exp(logit - highest) for logit in logits]
    total = sum(odds)
    return [part / total for part in odds]
""",
}


class _Python(Language):
    templates: ClassVar[dict[str, str]] = {
        **Language.templates,
        "abs": "abs({0})",
        "max": "max({0}, {1})",
        "min": "min({0}, {1})",
        "exp": "math.exp({0})",
        "log": "math.log({0})",
        "sqrt": "math.sqrt({0})",
        "tanh": "math.tanh({0})",
        "sin": "math.sin({0})",
        "cos": "math.cos({0})",
        "sigmoid": "_sigmoid({0})",
        "where": "({1} if {0} else {2})",
    }

    def __init__(self, model: Model) -> None:
        self._model = model
        self.constants: list[str] = []

    def _cell(self, column: int) -> str:
        return f"row[{self._model.columns[column]!r}]" if self._model.named else f"row[{column}]"

    def cell(self, column: int, fill: float) -> str:
        return f"_number({self._cell(column)}, {fill!r})"

    def missing(self, column: int) -> str:
        return f"_missing({self._cell(column)})"

    def level(self, column: int, code: int) -> str:
        return f"float({self._cell(column)} == {plain(self._model.levels[column][code])!r})"

    def mean(self, column: int, means: Sequence[float]) -> str:
        *known, missing, unknown = means
        table = dict(zip(map(plain, self._model.levels[column]), known, strict=True))
        name = f"MEANS_{len(self.constants)}"
        self.constants.append(f"{name} = {table!r}")
        return f"_mean({self._cell(column)}, {name}, {missing!r}, {unknown!r})"

    def midmean(self, args: Sequence[str], left_out: int) -> str:
        return f"_midmean(({', '.join(args)}), {left_out})"


def python_source(model: Model) -> str:
    """Write a model as a module of Python.

    Parameters
    ----------
    model : Model

    Returns
    -------
    str
        With ``predict(row)`` and, for classes, ``predict_proba(row)``.
    """
    language = _Python(model)
    variables, outputs = statements(model.program, language)
    body = [f"{name} = {text}" for name, text, _ in variables]
    what = "its columns' names" if model.named else "position"
    about = [f'"""Cells of the row are found by {what}; None or NaN where one is missing."""']
    if model.classes is None:
        result = outputs[0] if model.single else f"[{', '.join(outputs)}]"
        lines = _function("predict", [*about, *body, f"return {result}"])
    else:
        if len(outputs) == 1:
            (logit,) = outputs
            result = f"[_sigmoid(-{logit}), _sigmoid({logit})]"
        else:
            result = f"_softmax([{', '.join(outputs)}])"
        label = ["proba = predict_proba(row)", "return CLASSES[proba.index(max(proba))]"]
        lines = [
            f"CLASSES = {[plain(label) for label in model.classes]!r}",
            *_function("predict_proba", [*about, *body, f"return {result}"]),
            *_function("predict", label),
        ]
    return assemble("import math", _HELPERS, "\n".join([*language.constants, *lines]))


def _function(name: str, body: Sequence[str]) -> list[str]:
    return ["", "", f"def {name}(row):", *(f"    {line}" for line in body)]


def assemble(imports: str, helpers: dict[str, str], code: str) -> str:
    """Put the helpers that are called before the code."""
    called: list[str] = []
    # From the last, since helpers call those before them.
    for name, text in reversed(helpers.items()):
        if re.search(rf"\b{name}\(", "".join([code, *called])):
            called.insert(0, text)
    return "\n".join([imports, *(f"\n{text.rstrip()}\n" for text in called), code.lstrip("\n"), ""])


def plain(value: Any) -> Any:
    """Return a label or level as an object of Python's own."""
    return value.item() if hasattr(value, "item") else value
