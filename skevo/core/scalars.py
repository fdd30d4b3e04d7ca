"""Scalars: the built-in operators in Python's floats, for rows too few to be worth a tensor."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

from .operators import SMALLEST_DENOMINATOR

__all__ = ["SCALARS"]


def _sigmoid(value: float) -> float:
    # Neither exponential overflows.
    if value >= 0.0:
        return 1.0 / (1.0 + math.exp(-value))
    odds = math.exp(value)
    return odds / (1.0 + odds)


def _div(a: float, b: float) -> float:
    away = max(abs(b), SMALLEST_DENOMINATOR)
    return a / (-away if b < 0.0 else away)


def _sin(a: float, b: float) -> float:
    total = a + b
    return math.sin(total) if math.isfinite(total) else math.nan


def _tanh(a: float, b: float) -> float:
    return math.tanh(a + b)


def _gauss(a: float, b: float) -> float:
    difference = a - b
    return math.exp(-difference * difference)


def _step(a: float, b: float) -> float:
    return _sigmoid(4.0 * (a - b))


def _steep(a: float, b: float) -> float:
    return _sigmoid(16.0 * (a - b))


def _relu(a: float, b: float) -> float:
    return a - b if a > b else 0.0


def _gate(a: float, b: float) -> float:
    return a * _sigmoid(4.0 * b)


SCALARS: dict[str, Callable[[float, float], float]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": _div,
    "max": max,
    "min": min,
    "tanh": _tanh,
    "sin": _sin,
    "gauss": _gauss,
    "step": _step,
    "steep": _steep,
    "relu": _relu,
    "gate": _gate,
}
