"""A fitted model as expressions of the cells of a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from .._columns import Encoding
from .._frames import Levels
from .._preprocessing import KNEE, Scaling
from .._target import TargetUnits
from ..core.ensemble import Ensemble
from ..core.network import Network
from ..core.topology import CONSTANT
from .expression import Expression, Program, affine, apply, clip, midmean, number
from .tracing import trace

__all__ = ["Model", "combined", "express", "heads", "inputs", "scaled"]

Scale = Callable[[Expression, float, float, float], Expression]


@dataclass(frozen=True)
class Model:
    """What a language has to write.

    Attributes
    ----------
    columns : tuple of str
        Names of the table's columns.
    named : bool
        Whether these are the user's.
    targets : tuple of str
        What the targets are called of which levels have means.
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
    targets: tuple[str, ...]
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
    units: TargetUnits | None,
    exact: bool = True,
    scale: Scale | None = None,
) -> list[Expression]:
    """Return the predictions, or log-odds, as expressions of cells.

    Parameters
    ----------
    encoding : Encoding
    scaling : Scaling
    ensemble : Ensemble
    units : TargetUnits or None
        None for log-odds.
    exact : bool, default=True
        Whether far values are drawn in, denominators kept from zero, and predictions clipped.
    scale : callable, default=None
        Scales a cell of numbers, given shift, spread and offset; `scaled` if None.

    Returns
    -------
    list of Expression
        One per output.
    """
    columns = inputs(encoding, scaling, (scale or scaled) if exact else None)
    lines = heads(ensemble.network, columns, exact)
    outputs = combined(ensemble, lines)
    if units is None:
        return outputs
    numbers = [part.tolist() for part in (units.factor, units.offset, units.low, units.high)]
    predictions = [
        clip(output * factor + shift, low, high) if exact else output * factor + shift
        for output, factor, shift, low, high in zip(outputs, *numbers, strict=True)
    ]
    return [apply("exp", value) for value in predictions] if units.log else predictions


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


def inputs(encoding: Encoding, scaling: Scaling, scale: Scale | None) -> list[Expression]:
    """Return the columns that the network reads, scaled; see `Encoding` and `Scaling`.

    Parameters
    ----------
    encoding : Encoding
    scaling : Scaling
    scale : callable or None
        See `express`; far values are not drawn in if None.
    """
    fill = encoding.fill.tolist()
    cells = [
        *(Expression("cell", (), (int(c), fill[k])) for k, c in enumerate(encoding.numeric)),
        *(Expression("missing", (), int(column)) for column in encoding.missing),
        *(Expression("level", (), (int(column), int(code))) for column, code in encoding.shown),
        *(
            Expression("mean", (), (int(column), output, tuple(row)))
            for column, means in zip(encoding.told, encoding.means, strict=True)
            for output, row in enumerate(means.tolist())
        ),
    ]
    shift = np.where(scaling.offset == 0.0, scaling.center, 0.0)
    numbers = [part.tolist() for part in (shift, scaling.spread, scaling.offset)]
    columns = []
    for cell, *numbers_of in zip(cells, *numbers, strict=True):
        # Columns of zeros and ones are scaled so that neither is far.
        if scale is not None and scaling.draws_in and cell.function in ("cell", "mean"):
            columns.append(scale(cell, *numbers_of))
        else:
            columns.append((cell - numbers_of[0]) / numbers_of[1])
    return columns


def scaled(cell: Expression, shift: float, spread: float, offset: float) -> Expression:
    """Return a scaled cell; far values are drawn in by terms that are 0 where it is not far."""
    value = (cell - shift) / spread
    distance = value - offset
    above, below = (
        apply("log", apply("max", far, KNEE) - (KNEE - 1.0)) for far in (distance, -distance)
    )
    return clip(value, offset - KNEE, offset + KNEE) + above - below
