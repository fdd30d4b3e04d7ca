"""Formulas: a network as text, in the user's columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ._preprocessing import Scaling
from .core.network import Network
from .core.operators import Operator
from .core.topology import CONSTANT

__all__ = ["column_texts", "formula_text"]


@dataclass(frozen=True)
class _Term:
    """A column as ``factor * text``; ``atomic`` texts need no parentheses in a quotient."""

    factor: float
    text: str
    atomic: bool

    def __str__(self) -> str:
        if _number(self.factor) == "1":
            return self.text
        return f"{_number(self.factor)} * {self.text}" if self.text else _number(self.factor)


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
        parts: list[tuple[float, float, str]] = []
        for column, (value, term) in enumerate(zip(weight, terms, strict=True)):
            if value == 0.0:
                continue
            text, factor = term.text, value * term.factor
            if column < len(names) and _is_centred(scaling, column):
                # Linear terms are written in the column itself; its centre joins the constant.
                text, constant = names[column], constant - factor * scaling.center[column]
            parts.append((abs(value), factor, text))
        parts.sort(key=lambda part: -part[0])
        written = [_number(constant)]
        for _, factor, text in parts:
            size = _number(abs(factor))
            product = text if size == "1" else f"{size} * {text}"
            written.append(f"{'-' if factor < 0 else '+'} {product}")
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
        text = str(names[column]) if column < len(names) else term.text
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
        text = " * ".join(term.text for term in (left, right) if term.text)
        return _Term(left.factor * right.factor / scale, text, False)
    if operator.name == "div":
        factor = left.factor / right.factor / scale
        if not right.text:
            return _Term(factor, left.text, left.atomic)
        divisor = right.text if right.atomic else f"({right.text})"
        return _Term(factor, f"{left.text or '1'} / {divisor}", False)
    factor = 1.0
    if operator.name == "gate" and left.text:
        left, factor = _Term(1.0, left.text, left.atomic), left.factor
    text = operator.text.format(a=left, b=right)
    text = text.replace(" + -", " - ").replace(" - -", " + ")
    if operator.name == "gate":
        return _Term(factor / scale, text, False)
    return _Term(1.0 / scale, text if _is_atomic(text) else f"({text})", True)


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
