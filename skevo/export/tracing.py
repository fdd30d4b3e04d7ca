"""Tracing: an operator's torch function as an expression.

The function is called with stand-ins for its tensors, which note what is done to them. So an
operator is defined in one place, and operators of the user's can be exported too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ..core.operators import Operator
from .expression import Expression, apply, number

__all__ = ["trace"]


def trace(operator: Operator, left: Expression, right: Expression) -> Expression:
    """Return an operator of two expressions.

    Parameters
    ----------
    operator : Operator
    left, right : Expression

    Returns
    -------
    Expression

    Raises
    ------
    ValueError
        If the operator does what no expression can say.
    """
    try:
        return _expression(operator.function(_Traced(left), _Traced(right)))
    except Exception as error:
        raise ValueError(
            f"Operator {operator.name!r} cannot be exported: {error} Write its function with "
            f"arithmetic, comparisons and these functions of torch: {', '.join(_FUNCTIONS)}; or "
            "use to_torch, which takes any operator."
        ) from error


class _Traced:
    """Stands for a tensor.

    Parameters
    ----------
    expression : Expression
    """

    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> _Traced:
        return _call(function.__name__, *args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Callable[..., _Traced]:
        if name.startswith("_") or name.strip("_") not in _FUNCTIONS:
            raise AttributeError(f"it uses Tensor.{name}.")
        return partial(_call, name, self)

    def __bool__(self) -> bool:
        raise TypeError("it decides by values in Python.")

    def __add__(self, other: Any) -> _Traced:
        return _call("add", self, other)

    def __sub__(self, other: Any) -> _Traced:
        return _call("sub", self, other)

    def __rsub__(self, other: Any) -> _Traced:
        return _call("sub", other, self)

    def __mul__(self, other: Any) -> _Traced:
        return _call("mul", self, other)

    def __truediv__(self, other: Any) -> _Traced:
        return _call("div", self, other)

    def __rtruediv__(self, other: Any) -> _Traced:
        return _call("div", other, self)

    def __pow__(self, exponent: Any) -> _Traced:
        return _call("pow", self, exponent)

    def __neg__(self) -> _Traced:
        return _call("neg", self)

    def __abs__(self) -> _Traced:
        return _call("abs", self)

    def __lt__(self, other: Any) -> _Traced:
        return _call("lt", self, other)

    def __gt__(self, other: Any) -> _Traced:
        return _call("gt", self, other)

    __radd__, __rmul__ = __add__, __mul__


def _call(name: str, *args: Any, **options: Any) -> _Traced:
    """Note a call of torch's function, or a tensor's method, of that name."""
    key = name.strip("_")
    if key not in _FUNCTIONS:
        raise ValueError(f"it calls torch.{key}.")
    given = {option: value for option, value in options.items() if value is not None}
    operands = [_expression(arg) for arg in args]
    numbers = {option: _expression(value) for option, value in given.items()}
    result = _FUNCTIONS[key](*operands, **numbers)
    if name.endswith("_") and not name.startswith("_"):
        # In place.
        args[0].expression = result
        return args[0]
    return _Traced(result)


def _expression(value: Any) -> Expression:
    """Return what is known of a tensor or number."""
    if isinstance(value, _Traced):
        return value.expression
    if isinstance(value, torch.Tensor) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, (int, float)):
        raise TypeError(f"it uses {value!r}.")
    return number(value)


def _clamp(x: Expression, *bounds: Expression, **named: Expression) -> Expression:
    given = {**dict(zip(("min", "max"), bounds, strict=False)), **named}
    if "min" in given:
        x = apply("max", x, given["min"])
    return apply("min", x, given["max"]) if "max" in given else x


def _copysign(x: Expression, sign: Expression) -> Expression:
    size = apply("abs", x)
    return apply("where", apply("less", sign, 0.0), -size, size)


def _power(x: Expression, exponent: Expression) -> Expression:
    if exponent.value not in (2.0, 3.0):
        raise ValueError("it raises to a power that is neither 2 nor 3.")
    return x * x if exponent.value == 2.0 else x * x * x


def _softplus(x: Expression) -> Expression:
    return apply("max", x, 0.0) + apply("log", apply("exp", -apply("abs", x)) + 1.0)


_FUNCTIONS: dict[str, Callable[..., Expression]] = {
    **{name: partial(apply, name) for name in ("add", "sub", "mul", "div", "neg", "abs")},
    **{name: partial(apply, name) for name in ("exp", "log", "sqrt", "tanh", "sin", "cos")},
    "sigmoid": partial(apply, "sigmoid"),
    "maximum": partial(apply, "max"),
    "minimum": partial(apply, "min"),
    "clamp": _clamp,
    "copysign": _copysign,
    "square": lambda x: x * x,
    "pow": _power,
    "relu": lambda x: apply("max", x, 0.0),
    "softplus": _softplus,
    "log1p": lambda x: apply("log", x + 1.0),
    "lt": partial(apply, "less"),
    "gt": lambda a, b: apply("less", b, a),
    "where": partial(apply, "where"),
}
