"""Predictor: a network frozen for the evaluation of new rows, node by node.

Training keeps the columns of all rows and computes nodes in groups, whose operands it gathers. Here
the same memory serves block after block, so every operand is a view of it and nothing is gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .operators import Operator
from .scalars import SCALARS
from .topology import CONSTANT, Topology

__all__ = ["Predictor"]

# Rows and bytes of a block: as many as make a call's overhead small against its work.
_BLOCK_ROWS = 2**15
_BLOCK_BYTES = 20 * 2**20
# So few rows are computed in Python's floats sooner than a call per node and operation begins.
_FEW_ROWS = 4


class Predictor:
    """The output of a network, as a list of steps: one per node.

    Parameters
    ----------
    operators : sequence of Operator
        What the topology's codes stand for.
    topology : Topology
    constants, scale : Tensor of shape (n_nodes,)
    weight : Tensor of shape (n_outputs, n_columns)
    bias : Tensor of shape (n_outputs,)
    """

    def __init__(
        self,
        operators: Sequence[Operator],
        topology: Topology,
        constants: Tensor,
        scale: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> None:
        self.n_inputs = topology.n_inputs
        self.n_columns = topology.n_columns
        self.constants = constants
        self.bias = bias[:, None]
        # Only the head reads a leaf: what it is multiplied by is left to the weight.
        leaf = torch.as_tensor(topology.leaves, device=weight.device)
        factor = scale.reciprocal()
        self.weight = weight.clone()
        self.weight[:, self.n_inputs :] *= torch.where(leaf, factor, 1.0)
        self.factors = [
            None if is_leaf else value
            for is_leaf, value in zip(leaf.tolist(), factor.unbind(), strict=True)
        ]
        self.operators = [operators[code] for code in topology.operator]
        # Constants are operands like columns, numbered behind them.
        behind = self.n_columns + np.arange(topology.n_nodes)
        self.left, self.right = (
            np.where(operand == CONSTANT, behind, operand).tolist()
            for operand in (topology.left, topology.right)
        )

        # The same in Python's floats, unless there are functions of tensors only.
        self._scalars = [SCALARS[item.name] for item in self.operators if item.is_built_in]
        self._scalar_factors = [1.0 if factor is None else float(factor) for factor in self.factors]
        self._behind_inputs = [*[0.0] * topology.n_nodes, *constants.tolist()]

    def blocks(
        self, read: Callable[[slice], Tensor], n_samples: int, size: int | None = None
    ) -> Iterator[Tensor]:
        """Yield the output of one block of rows after the other.

        Parameters
        ----------
        read : callable
            ``read(rows)`` returns the inputs of a slice of rows, of shape (n_inputs, n).
        n_samples : int
        size : int, default=None
            Rows of a block; chosen by the memory that their columns need if None.

        Yields
        ------
        Tensor of shape (n_outputs, n)
        """
        if 0 < n_samples <= _FEW_ROWS and len(self._scalars) == len(self.operators):
            yield self._few(read(slice(n_samples)))
            return
        if size is None:
            row_bytes = max(1, self.n_columns * self.weight.element_size())
            size = min(max(_BLOCK_BYTES // row_bytes, 1), _BLOCK_ROWS)
        # All blocks but the last in the same memory.
        columns = self.weight.new_empty(self.n_columns, min(size, n_samples))
        operands = self._operands(columns)
        for start in range(0, max(n_samples, 1), size):
            n = min(size, n_samples - start)
            if n < columns.shape[1]:
                columns = columns[:, :n]
                operands = self._operands(columns)
            columns[: self.n_inputs] = read(slice(start, start + n))
            self._run(operands)
            yield torch.addmm(self.bias, self.weight, columns)

    def _few(self, inputs: Tensor) -> Tensor:
        """Return the output of some rows, computed in Python's floats."""
        columns = []
        for row in inputs.T.tolist():
            values = [*row, *self._behind_inputs]
            steps = zip(self._scalars, self.left, self.right, self._scalar_factors, strict=True)
            for node, (function, left, right, factor) in enumerate(steps, self.n_inputs):
                values[node] = function(values[left], values[right]) * factor
            columns.append(values[: self.n_columns])
        return torch.addmm(self.bias, self.weight, self.weight.new_tensor(columns).T)

    def _operands(self, columns: Tensor) -> list[Tensor]:
        """Return the columns one by one, and behind them the constants as columns."""
        constants = self.constants[:, None].expand(-1, columns.shape[1])
        return [*columns.unbind(), *constants.unbind()]

    def _run(self, operands: list[Tensor]) -> None:
        """Compute the nodes, in the memory that is theirs among the operands."""
        nodes = operands[self.n_inputs : self.n_columns]
        steps = zip(nodes, self.operators, self.left, self.right, self.factors, strict=True)
        for out, operator, left, right, factor in steps:
            operator.write(operands[left], operands[right], out)
            if factor is not None:
                out.mul_(factor)
