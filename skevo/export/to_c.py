"""C source: functions of one row, with the standard library alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .model import Model
from .text import Language, statements
from .to_python import assemble

__all__ = ["c_source"]

_HELPERS = {
    "number": """
static double number(double cell, double fill) {
    return isnan(cell) ? fill : cell;
}
""",
    "mean": """
static double mean(double level, const double *means, int n_levels) {
    return means[isnan(level) ? n_levels : level < 0.0 ? n_levels + 1 : (int)level];
}
""",
    "sigmoid": """
static double sigmoid(double z) {
    return 1.0 / (1.0 + exp(-z));
}
""",
    "midmean": """
static double midmean(double *values, int n, int left_out) {
    double sum = 0.0;
    for (int i = 1; i < n; i++) {
        double value = values[i];
        int k = i;
        for (; k > 0 && values[k - 1] > value; k--)
            values[k] = values[k - 1];
        values[k] = value;
    }
    for (int i = left_out; i < n - left_out; i++)
        sum += values[i];
    return sum / (n - 2 * left_out);
}
""",
    "softmax": """
static void softmax(double *values, int n) {
    double highest = values[0], sum = 0.0;
    for (int i = 1; i < n; i++)
        highest = fmax(highest, values[i]);
    for (int i = 0; i < n; i++)
        sum += values[i] = exp(values[i] - highest);
    for (int i = 0; i < n; i++)
        values[i] /= sum;
}
""",
}


class _C(Language):
    templates: ClassVar[dict[str, str]] = {
        **Language.templates,
        "abs": "fabs({0})",
        "max": "fmax({0}, {1})",
        "min": "fmin({0}, {1})",
        "where": "({0} ? {1} : {2})",
        "sigmoid": "sigmoid({0})",
        **{name: name + "({0})" for name in ("exp", "log", "sqrt", "tanh", "sin", "cos")},
    }

    def __init__(self) -> None:
        self.constants: list[str] = []

    def cell(self, column: int, fill: float) -> str:
        return f"number(x[{column}], {fill!r})"

    def missing(self, column: int) -> str:
        return f"(isnan(x[{column}]) ? 1.0 : 0.0)"

    def level(self, column: int, code: int) -> str:
        return f"(x[{column}] == {code} ? 1.0 : 0.0)"

    def mean(self, column: int, means: Sequence[float]) -> str:
        name = f"MEANS_{len(self.constants)}"
        numbers = ", ".join(map(repr, means))
        self.constants.append(f"static const double {name}[] = {{{numbers}}};")
        return f"mean(x[{column}], {name}, {len(means) - 2})"

    def midmean(self, args: Sequence[str], left_out: int) -> str:
        return f"midmean((double[]){{{', '.join(args)}}}, {len(args)}, {left_out})"


def c_source(model: Model) -> str:
    """Write a model in C99.

    Parameters
    ----------
    model : Model

    Returns
    -------
    str
        With ``double predict(const double *x)``, ``void predict(const double *x, double *y)`` for
        several targets, or, for classes, ``void predict_proba(const double *x, double *proba)`` and
        ``int predict(const double *x)``, which returns the position of the class.
    """
    language = _C()
    variables, outputs = statements(model.program, language)
    body = [f"const double {name} = {text};" for name, text, _ in variables]
    if model.classes is None:
        if model.single:
            lines = _function("double predict(const double *x)", [*body, f"return {outputs[0]};"])
        else:
            lines = _function(
                "void predict(const double *x, double *y)", body + _fill("y", outputs)
            )
    else:
        if len(outputs) == 1:
            (logit,) = outputs
            body += _fill("proba", [f"sigmoid(-{logit})", f"sigmoid({logit})"])
        else:
            body += [*_fill("proba", outputs), f"softmax(proba, {len(outputs)});"]
        n_classes = len(model.classes)
        lines = [
            *_function("void predict_proba(const double *x, double *proba)", body),
            *_function("int predict(const double *x)", _most_probable(n_classes)),
        ]
    comment = "\n".join(["/*", *(f" * {line}" for line in _comment(model)), " */"])
    code = "\n".join([*language.constants, *lines])
    return f"{comment}\n{assemble('#include <math.h>', _HELPERS, code)}"


def _function(head: str, body: Sequence[str]) -> list[str]:
    return ["", f"{head} {{", *(f"    {line}" for line in body), "}"]


def _fill(array: str, values: Sequence[str]) -> list[str]:
    return [f"{array}[{k}] = {value};" for k, value in enumerate(values)]


def _most_probable(n_classes: int) -> list[str]:
    return [
        f"double proba[{n_classes}];",
        "int best = 0;",
        "predict_proba(x, proba);",
        f"for (int i = 1; i < {n_classes}; i++)",
        "    if (proba[i] > proba[best])",
        "        best = i;",
        "return best;",
    ]


def _comment(model: Model) -> list[str]:
    """Say what is where."""
    lines = ["Cells of a row, NAN where one is missing; of text, the number of its level, else -1:"]
    for column, name in enumerate(model.columns):
        shown = "".join(
            f", {code} = {level}" for code, level in enumerate(model.levels.get(column, ()))
        )
        lines.append(f"x[{column}] {name}{shown}")
    if model.classes is not None:
        lines += ["Classes:", *(f"{k} = {label}" for k, label in enumerate(model.classes))]
    elif not model.single:
        lines += ["Targets:", *(f"y[{k}] {name}" for k, name in enumerate(model.outputs))]
    # Nothing in a name ends the comment.
    return [line.replace("*/", "* /").replace("\n", " ") for line in lines]
