"""Formulas: a network as text, in the user's columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from string import Formatter

import numpy as np

from ._preprocessing import Scaling
from .core.network import Network
from .core.operators import Operator
from .core.topology import CONSTANT

__all__ = ["column_texts", "formula_text"]

# A number that an operand is multiplied with, at the end of what stands before it.
_MULTIPLIER = re.compile(r"(?:^|\(|, |[+-] )(\d+(?:\.\d+)?) \* $")


@dataclass(frozen=True)
class _Term:
    """A column as a factor times a text, which is empty for a number.

    ``atomic`` texts need no parentheses in a quotient; before a ``reciprocal`` one stands ``1 /``.
    """

    factor: float
    text: str
    atomic: bool
    reciprocal: bool = False

    def __str__(self) -> str:
        number = _number(self.factor)
        if not self.text:
            return number
        if self.reciprocal:
            return f"{number} / {self.text}"
        return self.text if number == "1" else f"{number} * {self.text}"

    @property
    def alone(self) -> _Term:
        """The term without its factor."""
        return replace(self, factor=1.0)


def formula_text(
    network: Network, scaling: Scaling, names: Sequence[str], outputs: Sequence[str]
) -> str:
    """Write a network as text.

    Numbers are rounded for reading. Values farther than three spreads from the median of their
    column are drawn in before they enter (see `Scaling`), which the text leaves out.

    Parameters
    ----------
    network : Network
    scaling : Scaling
    names : sequence of str, of length n_features
    outputs : sequence of str, of length n_outputs
        What stands on the left-hand sides.

    Returns
    -------
    str
        One line per output, its terms by descending weight on standardised columns.
    """
    terms = _column_terms(network, scaling, names)
    lines = []
    for name, weight, bias in zip(
        outputs, network.weight.tolist(), network.bias.tolist(), strict=True
    ):
        constant = bias
        parts: list[tuple[float, _Term]] = []
        for column, (value, term) in enumerate(zip(weight, terms, strict=True)):
            if value == 0.0:
                continue
            part = replace(term, factor=value * term.factor)
            if column < len(names) and _is_centred(scaling, column):
                # Linear terms are written in the column itself; its centre joins the constant.
                constant -= part.factor * float(scaling.center[column])
                part = replace(part, text=str(names[column]))
            parts.append((abs(value), part))
        parts.sort(key=lambda part: -part[0])
        written = [_number(constant)]
        for _, part in parts:
            sign = "-" if part.factor < 0 else "+"
            written.append(f"{sign} {replace(part, factor=abs(part.factor))}")
        lines.append(f"{name} = {' '.join(written)}")
    return "\n".join(lines)


def column_texts(
    network: Network, scaling: Scaling, names: Sequence[str]
) -> list[tuple[float, str]]:
    """Write each column of a network, inputs first, then nodes, as factor and text.

    Parameters
    ----------
    network, scaling, names
        See `formula_text`.

    Returns
    -------
    list of (float, str)
    """
    texts = []
    for column, term in enumerate(_column_terms(network, scaling, names)):
        text = str(names[column]) if column < len(names) else str(term.alone)
        is_bracket = text.startswith("(") and _is_atomic(text)
        texts.append((term.factor, text[1:-1] if is_bracket else text))
    return texts


def _column_terms(network: Network, scaling: Scaling, names: Sequence[str]) -> list[_Term]:
    """Write each column, inputs first, then nodes."""
    terms = []
    for column, name in enumerate(names):
        factor = 1.0 / float(scaling.spread[column])
        if _is_centred(scaling, column):
            text = f"({name} - {_number(float(scaling.center[column]))})"
        else:
            text = str(name)
        terms.append(_Term(factor, text, True))
    topology = network.topology
    constants, scales = network.constants.tolist(), network.scale.tolist()
    for node in range(topology.n_nodes):
        constant = _Term(constants[node], "", True)
        left, right = (
            constant if operand == CONSTANT else terms[operand]
            for operand in (topology.left[node], topology.right[node])
        )
        operator = network.operators[topology.operator[node]]
        terms.append(_apply(operator, left, right, scales[node]))
    return terms


def _apply(operator: Operator, left: _Term, right: _Term, scale: float) -> _Term:
    """Write a node; factors of products and quotients move to the front."""
    if operator.name == "mul":
        return _product(left.factor * right.factor / scale, left, right)
    if operator.name == "div":
        factor = left.factor / right.factor / scale
        if not right.text:
            return replace(left, factor=factor)
        is_single = right.atomic and not right.reciprocal
        divisor = right.text if is_single else f"({right.alone})"
        return _product(factor, left, _Term(1.0, divisor, False, reciprocal=True))
    operands = {"a": left, "b": right}
    if operator.name == "gate":
        gate = _Term(1.0, _filled(operator.text.removeprefix("{a} * "), operands), True)
        return _product(left.factor / scale, left, gate)
    text = _filled(operator.text, operands).replace(" + -", " - ").replace(" - -", " + ")
    return _Term(1.0 / scale, text if _is_atomic(text) else f"({text})", True)


def _product(factor: float, left: _Term, right: _Term) -> _Term:
    """Write the product of two texts; a number in front of it makes ``1 /`` superfluous."""
    if left.reciprocal and not right.reciprocal and right.text:
        left, right = right, left
    if not left.text or not right.text:
        return replace(right if right.text else left, factor=factor, atomic=False)
    sign = "/" if right.reciprocal else "*"
    return _Term(factor, f"{left.text} {sign} {right.text}", False, left.reciprocal)


def _filled(template: str, operands: Mapping[str, _Term]) -> str:
    """Write operands into an operator's text; one that it multiplies has its factor multiplied."""
    text = ""
    for before, field, *_ in Formatter().parse(template):
        if not field:
            text += before
            continue
        operand, multiplier = operands[field], _MULTIPLIER.search(before)
        if multiplier:
            before = before[: multiplier.start(1)]
            operand = replace(operand, factor=float(multiplier[1]) * operand.factor)
        text += before + str(operand)
    return text


def _is_atomic(text: str) -> bool:
    """Whether a text is one bracket, or one call of a function."""
    if not re.fullmatch(r"\w*\(.*\)", text):
        return False
    open_brackets = np.cumsum([(letter == "(") - (letter == ")") for letter in text])
    return bool((open_brackets[text.index("(") : -1] > 0).all())


def _is_centred(scaling: Scaling, column: int) -> bool:
    return bool(scaling.offset[column] == 0.0 and scaling.center[column] != 0.0)


def _number(value: float) -> str:
    """Round a number for reading."""
    return f"{value:.4g}"
