"""A fitted model as expressions of the cells of a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .._columns import Encoding, Levels
from .._preprocessing import KNEE, Scaling
from ..core.ensemble import Ensemble
from ..core.network import Network
from ..core.topology import CONSTANT
from .expression import Expression, Program, affine, apply, clip, midmean, number
from .tracing import trace

__all__ = ["Model", "Units", "combined", "express", "heads", "inputs"]


@dataclass(frozen=True)
class Units:
    """How outputs become predictions: ``factor * output + shift``, clipped.

    Attributes
    ----------
    factor, shift, low, high : ndarray of shape (n_outputs,)
    """

    factor: NDArray[np.float64]
    shift: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """What a language has to write.

    Attributes
    ----------
    columns : tuple of str
        Names of the table's columns.
    named : bool
        Whether these are the user's.
    levels : dict of int to tuple
        The levels of each categorical column.
    indicated : frozenset of int
        Columns whose missing cells count as such.
    expressions : tuple of Expression
        One per target; for classes, log-odds of the second of two, or one per class.
    outputs : tuple of str
        Names of the targets, or what probabilities are called, one per class.
    classes : tuple or None
        Labels of a classifier.
    single : bool
        Whether predictions are one number per row.
    """

    columns: tuple[str, ...]
    named: bool
    levels: Levels
    indicated: frozenset[int]
    expressions: tuple[Expression, ...]
    outputs: tuple[str, ...]
    classes: tuple[Any, ...] | None
    single: bool

    @cached_property
    def program(self) -> Program:
        """The expressions as a list of steps."""
        return Program.of(self.expressions)


def express(
    encoding: Encoding,
    scaling: Scaling,
    ensemble: Ensemble,
    units: Units | None,
    exact: bool = True,
) -> list[Expression]:
    """Return the predictions, or log-odds, as expressions of cells.

    Parameters
    ----------
    encoding : Encoding
    scaling : Scaling
    ensemble : Ensemble
    units : Units or None
        None for log-odds.
    exact : bool, default=True
        Whether far values are drawn in, denominators kept from zero, and predictions clipped.

    Returns
    -------
    list of Expression
        One per output.
    """
    lines = heads(ensemble.network, inputs(encoding, scaling, exact), exact)
    outputs = combined(ensemble, lines)
    if units is None:
        return outputs
    numbers = [part.tolist() for part in (units.factor, units.shift, units.low, units.high)]
    return [
        clip(output * factor + shift, low, high) if exact else output * factor + shift
        for output, factor, shift, low, high in zip(outputs, *numbers, strict=True)
    ]


def heads(
    network: Network,
    columns: Sequence[Expression],
    exact: bool = True,
) -> list[Expression]:
    """Return each output of a network.

    Parameters
    ----------
    network : Network
    columns : sequence of Expression, of length n_inputs
    exact : bool, default=True
        Whether denominators are kept from zero.
    """
    topology = network.topology
    network = network.to("cpu", torch.float64)
    constants, factors = network.constants.tolist(), network.scale.reciprocal().tolist()
    columns = [*columns]
    weight = network.weight.clone()
    for node, factor in enumerate(factors):
        left, right = (
            number(constants[node]) if operand == CONSTANT else columns[operand]
            for operand in (topology.left[node], topology.right[node])
        )
        operator = network.operators[topology.operator[node]]
        if not exact and operator.is_built_in and operator.name == "div":
            value = apply("div", left, right)
        else:
            value = trace(operator, left, right)
        # Only the head reads a leaf: what it is multiplied by is left to the weight.
        if topology.leaves[node]:
            weight[:, topology.n_inputs + node] *= factor
        columns.append(value if topology.leaves[node] else value * factor)
    return [
        affine(bias, row, columns)
        for bias, row in zip(network.bias.tolist(), weight.tolist(), strict=True)
    ]


def combined(ensemble: Ensemble, lines: Sequence[Expression]) -> list[Expression]:
    """Return the outputs of an ensemble from those of its network; see `Ensemble.combine`."""
    n_outputs = ensemble.n_outputs
    n_average = ensemble.n_members * n_outputs
    outputs = [midmean(lines[k:n_average:n_outputs]) for k in range(n_outputs)]
    if ensemble.limits is None:
        return outputs
    low, high = (limit[:, 0].tolist() for limit in ensemble.limits)
    return [
        output + clip(rest, a, b)
        for output, rest, a, b in zip(outputs, lines[n_average:], low, high, strict=True)
    ]


def inputs(encoding: Encoding, scaling: Scaling, exact: bool = True) -> list[Expression]:
    """Return the columns that the network reads, scaled; see `Encoding` and `Scaling`.

    Parameters
    ----------
    encoding : Encoding
    scaling : Scaling
    exact : bool, default=True
        Whether far values are drawn in.
    """
    fill = encoding.fill.tolist()
    cells = [
        *(Expression("cell", (), (int(c), fill[k])) for k, c in enumerate(encoding.numeric)),
        *(Expression("missing", (), int(column)) for column in encoding.missing),
        *(Expression("level", (), (int(column), int(code))) for column, code in encoding.shown),
    ]
    numbers = [part.tolist() for part in (scaling.center, scaling.spread, scaling.offset)]
    columns = []
    for place, (cell, center, spread, offset) in enumerate(zip(cells, *numbers, strict=True)):
        scaled = (cell - (center if offset == 0.0 else 0.0)) / spread
        # Columns of zeros and ones are scaled so that neither is far.
        far = exact and place < len(encoding.numeric)
        columns.append(_drawn_in(scaled, offset) if far else scaled)
    return columns


def _drawn_in(scaled: Expression, offset: float) -> Expression:
    """Return a scaled number with far values drawn in, by terms that are 0 where it is not far."""
    distance = scaled - offset
    above, below = (
        apply("log", apply("max", far, KNEE) - (KNEE - 1.0)) for far in (distance, -distance)
    )
    return clip(scaled, offset - KNEE, offset + KNEE) + above - below
