"""NumPy source: functions of many rows, with NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .model import Model
from .text import Language, statements
from .to_python import assemble, plain

__all__ = ["numpy_source"]

_HELPERS = {
    "_number": """
def _number(cells, fill):
    numbers = np.asarray(cells, dtype=float)
    return np.where(np.isnan(numbers), fill, numbers)
""",
    "_missing": """
def _missing(cells):
    return np.array([float(cell is None or cell != cell) for cell in cells])
""",
    "_level": """
def _level(cells, level):
    return np.array([float(cell == level) for cell in cells])
""",
    "_mean": """
def _mean(cells, means, missing, unknown):
    is_missing = _missing(cells) == 1.0
    return np.where(is_missing, missing, [means.get(cell, unknown) for cell in cells])
""",
    "_sigmoid": """
def _sigmoid(z):
    odds = np.exp(-np.abs(z))
    return np.where(z < 0.0, odds, 1.0) / (1.0 + odds)
""",
    "_midmean": """
def _midmean(values, left_out):
    ordered = np.sort(np.stack(np.broadcast_arrays(*values)), axis=0)
    return ordered[left_out : len(values) - left_out].mean(axis=0)
""",
    "_columns": """
def _columns(values, n_rows):
    return np.stack([np.broadcast_to(value, n_rows) for value in values], axis=1)
""",
    "_softmax": """
def _softmax(logits):
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
""",
}


class _NumPy(Language):
    templates: ClassVar[dict[str, str]] = {
        **Language.templates,
        "abs": "np.abs({0})",
        "max": "np.maximum({0}, {1})",
        "min": "np.minimum({0}, {1})",
        "exp": "np.exp({0})",
        "log": "np.log({0})",
        "sqrt": "np.sqrt({0})",
        "tanh": "np.tanh({0})",
        "sin": "np.sin({0})",
        "cos": "np.cos({0})",
        "sigmoid": "_sigmoid({0})",
        "where": "np.where({0}, {1}, {2})",
    }

    def __init__(self, model: Model) -> None:
        self._levels = model.levels
        self.constants: list[str] = []

    def cell(self, column: int, fill: float) -> str:
        return f"_number(X[:, {column}], {fill!r})"

    def missing(self, column: int) -> str:
        return f"_missing(X[:, {column}])"

    def level(self, column: int, code: int) -> str:
        return f"_level(X[:, {column}], {plain(self._levels[column][code])!r})"

    def mean(self, column: int, means: Sequence[float]) -> str:
        *known, missing, unknown = means
        table = dict(zip(map(plain, self._levels[column]), known, strict=True))
        name = f"MEANS_{len(self.constants)}"
        self.constants.append(f"{name} = {table!r}")
        return f"_mean(X[:, {column}], {name}, {missing!r}, {unknown!r})"

    def midmean(self, args: Sequence[str], left_out: int) -> str:
        return f"_midmean([{', '.join(args)}], {left_out})"


def numpy_source(model: Model) -> str:
    """Write a model as a module of Python that uses NumPy.

    Parameters
    ----------
    model : Model

    Returns
    -------
    str
        With ``predict(X)`` and, for classes, ``predict_proba(X)``.
    """
    language = _NumPy(model)
    variables, outputs = statements(model.program, language)
    columns = f"_columns([{', '.join(outputs)}], len(X))"
    body = [
        '"""Columns of the array are found by position; NaN or None where a cell is missing."""',
        f"X = np.asarray(X, dtype={'object' if model.levels else 'float'})",
        *(f"{name} = {text}" for name, text, _ in variables),
    ]
    if model.classes is None:
        lines = _function("predict", [*body, f"return {columns}{'[:, 0]' if model.single else ''}"])
    else:
        result = f"logits = {columns}"
        if len(outputs) == 1:
            last = "return _sigmoid(np.hstack([-logits, logits]))"
        else:
            last = "return _softmax(logits)"
        lines = [
            f"CLASSES = np.array({[plain(label) for label in model.classes]!r})",
            *_function("predict_proba", [*body, result, last]),
            *_function("predict", ["return CLASSES[predict_proba(X).argmax(axis=1)]"]),
        ]
    return assemble("import numpy as np", _HELPERS, "\n".join([*language.constants, *lines]))


def _function(name: str, body: Sequence[str]) -> list[str]:
    return ["", "", f"def {name}(X):", *(f"    {line}" for line in body)]
