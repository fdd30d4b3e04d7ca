"""SymPy expressions: exact ones, and such as are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sympy

from .._preprocessing import KNEE
from .expression import Expression, Program, Step
from .model import Model

__all__ = ["Midmean", "Scaled", "Sigmoid", "scaled", "sympy_expressions", "sympy_outputs"]

# A decimal more than a double has, so that sums of numbers round as doubles do, or better.
_DIGITS = 18


class Scaled(sympy.Function):
    """A cell, scaled with shift, spread and offset; see `skevo._preprocessing.Scaling`.

    As a function of its own it is not taken apart: a product with the reciprocal, and sums in
    another order, round otherwise, which shows where a quotient jumps.
    """

    @classmethod
    def eval(cls, cell: Any, shift: Any, spread: Any, offset: Any) -> Any:
        """Return the value of a number."""
        if not cell.is_number:
            return None
        value = (cell - shift) / spread
        distance = value - offset
        if abs(distance) <= KNEE:
            return value
        size = KNEE + sympy.log(abs(distance) - (KNEE - 1.0))
        return offset + (size if distance > 0 else -size)

    def fdiff(self, argindex: int = 1) -> Any:
        """Return the slope."""
        cell, shift, spread, offset = self.args
        distance = (cell - shift) / spread - offset
        return 1 / (_max(KNEE, _max(distance, -distance)) - (KNEE - 1.0)) / spread

    def _numpycode(self, printer: Any) -> str:
        name = printer._module_format
        return self._code(printer, *map(name, ("numpy.minimum", "numpy.maximum", "numpy.log")))

    def _pythoncode(self, printer: Any) -> str:
        return self._code(printer, "min", "max", printer._module_format("math.log"))

    def _code(self, printer: Any, low: str, high: str, log: str) -> str:
        cell, shift, spread, offset = (f"({printer._print(arg)})" for arg in self.args)
        value = f"({cell} - {shift}) / {spread}"
        near = f"{low}({high}({value}, {offset} - {KNEE}), {offset} + {KNEE})"
        above, below = (
            f"{log}({high}({far}, {KNEE}) - {KNEE - 1.0})"
            for far in (f"{value} - {offset}", f"{offset} - {value}")
        )
        return f"({near} + {above} - {below})"


class Sigmoid(sympy.Function):
    """The logistic function, which SymPy would write as a quotient of infinities.

    ``rewrite(sympy.exp)`` gives it by exponentials.
    """

    @classmethod
    def eval(cls, value: Any) -> Any:
        """Return the value of a number."""
        return 1 / (1 + sympy.exp(-value)) if value.is_number else None

    def fdiff(self, argindex: int = 1) -> Any:
        """Return the slope."""
        return self * (1 - self)

    def _eval_rewrite_as_exp(self, value: Any, **options: Any) -> Any:
        return 1 / (1 + sympy.exp(-value))

    def _numpycode(self, printer: Any) -> str:
        exp = printer._module_format("numpy.exp")
        return f"(1.0 / (1.0 + {exp}(-({printer._print(self.args[0])}))))"

    def _pythoncode(self, printer: Any) -> str:
        # An exponential that overflows raises an error in Python.
        exp, arg = printer._module_format("math.exp"), printer._print(self.args[0])
        return f"(1.0 / (1.0 + {exp}(min(-({arg}), 700.0))))"

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        power = "" if exp is None else f"^{{{exp}}}"
        arg = printer._print(self.args[0])
        return rf"\operatorname{{sigmoid}}{power}\left({arg}\right)"


class Midmean(sympy.Function):
    """The interquartile mean of its arguments; see `skevo.core.statistics.midmean`."""

    @classmethod
    def eval(cls, *args: Any) -> Any:
        """Return the mean of numbers."""
        if all(arg.is_number for arg in args):
            left_out = len(args) // 4
            middle = sorted(args)[left_out : len(args) - left_out]
            return sympy.Add(*middle) / len(middle)
        return None

    def fdiff(self, argindex: int = 1) -> Any:
        """Return the share of an argument, 0 if it is left out."""
        arg, left_out, n = self.args[argindex - 1], len(self.args) // 4, len(self.args)
        below = sum(sympy.Piecewise((1, other < arg), (0, True)) for other in self.args)
        heard = sympy.And(below >= left_out, below < n - left_out)
        return sympy.Piecewise((sympy.Rational(1, n - 2 * left_out), heard), (0, True))

    def _numpycode(self, printer: Any) -> str:
        args = ", ".join(map(printer._print, self.args))
        name, left_out = printer._module_format, len(self.args) // 4
        stack = f"{name('numpy.stack')}({name('numpy.broadcast_arrays')}({args}))"
        middle = f"[{left_out}:{len(self.args) - left_out}]"
        return f"{name('numpy.sort')}({stack}, axis=0){middle}.mean(axis=0)"

    def _pythoncode(self, printer: Any) -> str:
        args = ", ".join(map(printer._print, self.args))
        left_out, n = len(self.args) // 4, len(self.args)
        return f"(sum(sorted([{args}])[{left_out}:{n - left_out}]) / {n - 2 * left_out})"

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        args = ", ".join(map(printer._print, self.args))
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"\operatorname{{midmean}}{power}\left({args}\right)"


def _max(a: Any, b: Any) -> Any:
    # Evaluated, they compare what they are given, which takes long where it is large.
    return sympy.Max(a, b, evaluate=False)


def _where(condition: Any, then: Any, otherwise: Any) -> Any:
    return sympy.Piecewise((then, condition), (otherwise, True), evaluate=False)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    # Of a symbol that may be complex, the derivative of Abs is of no use.
    "abs": lambda a: _max(a, -a),
    "max": _max,
    "min": lambda a, b: sympy.Min(a, b, evaluate=False),
    "exp": sympy.exp,
    "log": sympy.log,
    "sqrt": sympy.sqrt,
    "tanh": sympy.tanh,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "sigmoid": Sigmoid,
    "where": _where,
    "less": lambda a, b: sympy.StrictLessThan(a, b, evaluate=False),
    "midmean": Midmean,
}


def scaled(cell: Expression, *numbers: float) -> Expression:
    """Return a scaled cell, as one function."""
    return Expression("scaled", (cell,), numbers)


def sympy_expressions(program: Program, model: Model) -> list[Any]:
    """Return the outputs of a program, with symbols that are called as the columns are.

    Parameters
    ----------
    program : Program
    model : Model

    Returns
    -------
    list of sympy.Expr
    """
    values: list[Any] = []
    for step in program.steps:
        values.append(_value(step, [values[arg] for arg in step.args], model))
    return [values[output] for output in program.outputs]


def _value(step: Step, args: Sequence[Any], model: Model) -> Any:
    match step.function:
        case "number":
            return sympy.Float(step.value, _DIGITS)
        case "cell":
            column, fill = step.value
            cell = sympy.Symbol(model.columns[column])
            if column not in model.indicated:
                return cell
            is_missing = sympy.Eq(_missing(model, column), 1)
            return sympy.Piecewise((sympy.Float(fill, _DIGITS), is_missing), (cell, True))
        case "missing":
            return _missing(model, step.value)
        case "level":
            column, code = step.value
            return sympy.Symbol(f"[{model.columns[column]} = {model.levels[column][code]}]")
        case "scaled":
            return Scaled(*args, *(sympy.Float(number, _DIGITS) for number in step.value))
        case "mean":
            column, output, _ = step.value
            return sympy.Symbol(f"mean({model.targets[output]} | {model.columns[column]})")
        case "affine":
            intercept, weights = step.value
            terms = (sympy.Float(w, _DIGITS) * a for w, a in zip(weights, args, strict=True))
            return sympy.Add(sympy.Float(intercept, _DIGITS), *terms)
    return _FUNCTIONS[step.function](*args)


def _missing(model: Model, column: int) -> Any:
    return sympy.Symbol(f"missing({model.columns[column]})")


def sympy_outputs(model: Model, simplify: bool) -> Any:
    """Return predictions or class probabilities.

    Parameters
    ----------
    model : Model
    simplify : bool

    Returns
    -------
    sympy.Expr, or list of sympy.Expr
    """
    outputs = sympy_expressions(model.program, model)
    if model.classes is not None:
        outputs = _probabilities(outputs)
    if simplify:
        outputs = [sympy.simplify(output) for output in outputs]
    return outputs[0] if model.single else outputs


def _probabilities(logits: Sequence[Any]) -> list[Any]:
    if len(logits) == 1:
        (logit,) = logits
        return [Sigmoid(-logit), Sigmoid(logit)]
    # Differences of log-odds: an exponential that is infinite gives 0, as it should.
    return [1 / sympy.Add(*(sympy.exp(other - logit) for other in logits)) for logit in logits]
