"""Formulas: a network as text, in the user's columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ._preprocessing import Scaling
from .core.network import Network
from .core.topology import CONSTANT

__all__ = ["formula_text"]


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
        if operator.name == "mul":
            factors = [term.text for term in (left, right) if term.text]
            term = _Term(left.factor * right.factor, " * ".join(factors), False)
        elif operator.name == "div":
            divisor = right.text if right.atomic else f"({right.text})"
            term = _Term(left.factor / right.factor, f"{left.text or '1'} / {divisor}", False)
        else:
            term = _Term(1.0, operator.text.format(a=left, b=right), " * " not in operator.text[:6])
        terms.append(_Term(term.factor / scales[node], term.text, term.atomic))
    return terms


def _is_centred(scaling: Scaling, column: int) -> bool:
    return bool(scaling.offset[column] == 0.0 and scaling.center[column] != 0.0)


def _number(value: float) -> str:
    """Round a number for reading."""
    return f"{value:.4g}"
