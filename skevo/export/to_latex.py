"""LaTeX: the formula of a model, for reading."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sympy

from .expression import Expression, Program
from .model import Model
from .to_sympy import sympy_expressions

__all__ = ["latex_source"]

_SPECIAL = re.compile(r"([#$%&_{}])")


def latex_source(
    model: Model,
    heads: Sequence[Expression],
    names: Sequence[str],
    limits: Sequence[tuple[float, float]],
    digits: int,
    simplify: bool,
) -> str:
    """Write the outputs of a network, and how they are combined.

    Parameters
    ----------
    model : Model
    heads : sequence of Expression
        In the order of those of `Ensemble`.
    names : sequence of str, of length n_outputs
    limits : sequence of (float, float)
        What the correction of each output is clipped to, or empty.
    digits : int
        Numbers are rounded to so many.
    simplify : bool

    Returns
    -------
    str
    """
    names = [_name(name) for name in names]
    n_average = len(heads) - len(limits)
    n_members = n_average // len(names)
    lines = []
    if n_members > 1:
        called = [_of(name, str(k)) for k in range(n_members) for name in names]
        called += [_of(name, r"\mathrm{rest}") for name in names if limits]
        lines = _combinations(names, called, n_members, limits, digits)
    else:
        called = names
    # What stands for a missing cell is not shown.
    values = sympy_expressions(Program.of(heads), replace(model, indicated=frozenset()))
    lines += [
        (name, _expression(value, digits, simplify))
        for name, value in zip(called, values, strict=True)
    ]
    if len(lines) == 1:
        return " = ".join(lines[0])
    rows = " \\\\\n".join(f"{name} &= {text}" for name, text in lines)
    return f"\\begin{{aligned}}\n{rows}\n\\end{{aligned}}"


def _combinations(
    names: Sequence[str],
    called: Sequence[str],
    n_members: int,
    limits: Sequence[tuple[float, float]],
    digits: int,
) -> list[tuple[str, str]]:
    """Write how the members are combined."""
    how = "mean" if n_members < 4 else "midmean"
    lines = []
    for k, name in enumerate(names):
        members = ", ".join(called[k : n_members * len(names) : len(names)])
        text = rf"\operatorname{{{how}}}\left({members}\right)"
        if limits:
            low, high = (_expression(sympy.Float(limit), digits, False) for limit in limits[k])
            rest = called[n_members * len(names) + k]
            text += rf" + \operatorname{{clip}}\left({rest}, {low}, {high}\right)"
        lines.append((name, text))
    return lines


def _expression(value: Any, digits: int, simplify: bool) -> str:
    if simplify:
        value = sympy.simplify(value)
    rounded = {number: sympy.Float(number, digits) for number in value.atoms(sympy.Float)}
    names = {symbol: _name(symbol.name) for symbol in value.free_symbols}
    return sympy.latex(value.xreplace(rounded), symbol_names=names, full_prec=False)


def _name(name: str) -> str:
    """Write a name: x1 with an index, others upright."""
    indexed = re.fullmatch(r"([a-zA-Z])(\d*)", name)
    if indexed:
        letter, index = indexed.groups()
        return f"{letter}_{{{index}}}" if index else letter
    escaped = _SPECIAL.sub(r"\\\1", name.replace("\\", "")).replace(" ", r"\ ")
    return rf"\mathrm{{{escaped}}}"


def _of(name: str, part: str) -> str:
    return rf"{name}^{{({part})}}"
