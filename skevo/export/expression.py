"""Expressions: what a model computes from a row, in few elementary functions.

A model becomes expressions once; each language then says how it writes these functions. Parts that
are the same are found when the expressions are listed as a program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Expression", "Program", "Step", "affine", "apply", "clip", "midmean", "number"]

_FOLDED: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "max": max,
    "min": min,
}
# What leaves the left operand as it is, on the right.
_NEUTRAL = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0}


@dataclass(frozen=True, eq=False)
class Expression:
    """An elementary function of other expressions.

    Attributes
    ----------
    function : str
        Of numbers: ``add``, ``sub``, ``mul``, ``div``, ``neg``, ``abs``, ``max``, ``min``, ``exp``,
        ``log``, ``sqrt``, ``tanh``, ``sin``, ``cos``, ``sigmoid``, ``affine``, ``midmean``, and
        ``where`` (a condition, and what to take if it holds and if not). A condition: ``less``.
        Without arguments: ``number``; and of a cell ``cell``, ``missing``, ``level``, ``mean``.
    args : tuple of Expression
    value : object
        Of a ``number`` its value; of ``affine`` the intercept and the weights of the arguments; of
        ``midmean`` how many arguments are left out at either end; of ``cell`` the column and what
        stands for a missing cell; of ``missing`` the column, and of ``level`` column and code: both
        are 1 or 0. Of ``mean`` the column, the output, and what it is at each level, where the cell
        is missing, and where it is an unknown level.
    """

    function: str
    args: tuple[Expression, ...] = ()
    value: Any = None

    def __add__(self, other: Expression | float) -> Expression:
        return apply("add", self, other)

    def __sub__(self, other: Expression | float) -> Expression:
        return apply("sub", self, other)

    def __mul__(self, other: Expression | float) -> Expression:
        return apply("mul", self, other)

    def __truediv__(self, other: Expression | float) -> Expression:
        return apply("div", self, other)

    def __neg__(self) -> Expression:
        return apply("neg", self)


def number(value: float) -> Expression:
    """Return a constant."""
    return Expression("number", (), float(value))


def apply(function: str, *args: Expression | float) -> Expression:
    """Apply a function; constants are folded."""
    operands = tuple(arg if isinstance(arg, Expression) else number(arg) for arg in args)
    values = [operand.value for operand in operands if operand.function == "number"]
    if function in _FOLDED and len(values) == len(operands):
        return number(_FOLDED[function](*values))
    last = operands[-1]
    if len(operands) == 2 and last.function == "number" and last.value == _NEUTRAL.get(function):
        return operands[0]
    return Expression(function, operands)


def clip(expression: Expression, low: float, high: float) -> Expression:
    """Return the expression within bounds."""
    return apply("min", apply("max", expression, float(low)), float(high))


def affine(intercept: float, weights: Sequence[float], columns: Sequence[Expression]) -> Expression:
    """Return a linear function; columns of weight 0 are left out."""
    heard = [(w, column) for w, column in zip(weights, columns, strict=True) if w != 0.0]
    if not heard:
        return number(intercept)
    return Expression(
        "affine",
        tuple(column for _, column in heard),
        (float(intercept), tuple(float(w) for w, _ in heard)),
    )


def midmean(members: Sequence[Expression]) -> Expression:
    """Return the interquartile mean; see `skevo.core.statistics.midmean`."""
    n = len(members)
    if n < 4:
        return affine(0.0, [1.0 / n] * n, members) if n > 1 else members[0]
    return Expression("midmean", tuple(members), n // 4)


class Step(NamedTuple):
    """An expression in a program: its arguments are numbers of earlier steps."""

    function: str
    args: tuple[int, ...]
    value: Any


@dataclass(frozen=True)
class Program:
    """Expressions as a list, each after its arguments, and equal ones once.

    Attributes
    ----------
    steps : tuple of Step
    outputs : tuple of int
        The steps that are asked for.
    """

    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    @classmethod
    def of(cls, outputs: Sequence[Expression]) -> Program:
        """List the expressions."""
        places: dict[Step, int] = {}
        place: dict[Expression, int] = {}
        # Without recursion, which deep networks would exhaust.
        waiting = list(reversed(outputs))
        while waiting:
            expression = waiting[-1]
            missing = [arg for arg in expression.args if arg not in place]
            if missing:
                waiting += reversed(missing)
                continue
            waiting.pop()
            args = tuple(place[arg] for arg in expression.args)
            step = Step(expression.function, args, expression.value)
            place[expression] = places.setdefault(step, len(places))
        return cls(tuple(places), tuple(place[output] for output in outputs))

    @property
    def uses(self) -> list[int]:
        """How often each step is an argument or output."""
        uses = [0] * len(self.steps)
        for step in self.steps:
            for arg in step.args:
                uses[arg] += 1
        for output in self.outputs:
            uses[output] += 1
        return uses
