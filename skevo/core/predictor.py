"""Predictor: a network frozen for the evaluation of new rows, node by node.

Training keeps the columns of all rows and computes nodes in groups, whose operands it gathers. Here
a block of rows needs little memory, the same for every block, and operands are views of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .blocks import on_device
from .operators import Operator
from .scalars import SCALARS
from .schedule import schedule
from .topology import CONSTANT, Topology

__all__ = ["Predictor"]

# Rows of a block: as many as make a call's overhead small against its work, and on the CPU few
# enough for the cache; and bytes that it may take.
_BLOCK_ROWS = 24_576
_BLOCK_BYTES = 2**24
# Rows that are read at a time: their cells are gone through more than once.
_READ_ROWS = 8192
# A node that more outputs hear is kept for the matrix product of all such nodes.
_FEW_OUTPUTS = 4
# So few rows are computed in Python's floats sooner than as tensors.
_FEW_ROWS = 4


class Predictor:
    """The output of a network as a list of steps, one per node.

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
        self.n_inputs, self.n_columns = topology.n_inputs, topology.n_columns
        self.bias = bias[:, None]
        # Only the head reads a leaf: what it is multiplied by is left to the weight.
        leaf = torch.as_tensor(topology.leaves, device=weight.device)
        factor = scale.reciprocal()
        self.weight = weight.clone()
        self.weight[:, self.n_inputs :] *= torch.where(leaf, factor, 1.0)
        self._prepare_few(operators, topology, constants, torch.where(leaf, 1.0, factor))
        self._prepare_many(operators, topology, constants, factor)

    def block_size(self, n_samples: int) -> int:
        """Return how many of so many rows to compute at a time."""
        row_bytes = max(1, self._n_rows * self.weight.element_size())
        most = min(_BLOCK_ROWS, _BLOCK_BYTES // row_bytes)
        return max(1, min(n_samples, on_device(most, self.weight.device)))

    def blocks(
        self, read: Callable[[slice], Tensor], n_samples: int, size: int | None = None
    ) -> Iterator[Tensor]:
        """Yield the output of one block of rows after the other.

        Parameters
        ----------
        read : callable
            ``read(rows)`` returns the inputs of a slice of rows, of shape (n_inputs, n), of a block
            or a part of one.
        n_samples : int
        size : int, default=None
            Rows of a block; `block_size` if None.

        Yields
        ------
        Tensor of shape (n_outputs, n)
        """
        if 0 < n_samples <= _FEW_ROWS and self._has_scalars:
            yield self._few(read(slice(n_samples)))
            return
        size = size or self.block_size(n_samples)
        # All blocks but the last in the same memory.
        memory = self.weight.new_empty(self._n_rows, min(size, n_samples))
        operands = self._operands(memory)
        for start in range(0, max(1, n_samples), size):
            n = min(size, n_samples - start)
            if n < memory.shape[1]:
                memory = memory[:, :n]
                operands = self._operands(memory)
            for first in range(0, n, _READ_ROWS):
                last = min(n, first + _READ_ROWS)
                memory[: self.n_inputs, first:last] = read(slice(start + first, start + last))
            yield self._many(memory, operands)

    def _prepare_few(
        self,
        operators: Sequence[Operator],
        topology: Topology,
        constants: Tensor,
        factor: Tensor,
    ) -> None:
        """List the steps on Python's floats."""
        self._behind_inputs = [0.0] * topology.n_nodes + constants.tolist()
        used = [operators[code] for code in topology.operator]
        self._has_scalars = all(operator.is_built_in for operator in used)
        functions = [SCALARS[operator.name] for operator in used if operator.is_built_in]
        left, right = _number(topology, range(self.n_columns), self.n_columns)
        self._scalar_steps = [*zip(functions, left, right, factor.tolist(), strict=False)]

    def _few(self, inputs: Tensor) -> Tensor:
        """Return the output of some rows, computed in Python's floats."""
        columns = []
        for row in inputs.T.tolist():
            values = row + self._behind_inputs
            for node, (function, left, right, factor) in enumerate(self._scalar_steps, len(row)):
                values[node] = function(values[left], values[right]) * factor
            columns.append(values[: self.n_columns])
        return torch.addmm(self.bias, self.weight, self.weight.new_tensor(columns).T)

    def _prepare_many(
        self,
        operators: Sequence[Operator],
        topology: Topology,
        constants: Tensor,
        factor: Tensor,
    ) -> None:
        """List the steps on tensors."""
        n_inputs = self.n_inputs
        self._constants = constants[:, None]
        of_nodes = self.weight[:, n_inputs:]
        heard = (of_nodes != 0).numpy(force=True)
        roots = np.flatnonzero(heard.any(axis=0))
        # By the first output that hears them, so that the nodes of one member follow each other.
        roots = roots[np.argsort(heard.argmax(axis=0)[roots], kind="stable")]
        wanted = heard.sum(axis=0) > _FEW_OUTPUTS
        plan = schedule(topology, roots.tolist(), wanted)
        self._n_rows = plan.n_rows
        self._kept_weight = of_nodes[:, torch.as_tensor(wanted, device=self.weight.device)]
        left, right = _number(topology, plan.row, plan.n_rows)
        factors, weights = factor.unbind(), of_nodes.T.tolist()
        self._steps = [
            (
                operators[topology.operator[node]].write,
                left[node],
                right[node],
                plan.row[n_inputs + node],
                None if topology.leaves[node] else factors[node],
                []
                if wanted[node]
                else [(output, weights[node][output]) for output in np.flatnonzero(heard[:, node])],
            )
            for node in plan.order
        ]

    def _operands(self, memory: Tensor) -> list[Tensor]:
        """Return the memory row by row, and behind it the constants as rows."""
        return [*memory.unbind(), *self._constants.expand(-1, memory.shape[1]).unbind()]

    def _many(self, memory: Tensor, operands: list[Tensor]) -> Tensor:
        """Return the output of the rows whose inputs are in the memory."""
        n_inputs = self.n_inputs
        result = torch.addmm(self.bias, self.weight[:, :n_inputs], memory[:n_inputs])
        outputs = result.unbind()
        for write, left, right, row, factor, weights in self._steps:
            out = operands[row]
            write(operands[left], operands[right], out=out)
            if factor is not None:
                out.mul_(factor)
            for output, weight in weights:
                outputs[output].add_(out, alpha=weight)
        n_kept = self._kept_weight.shape[1]
        return result.addmm_(self._kept_weight, memory[n_inputs : n_inputs + n_kept])


def _number(topology: Topology, columns: Sequence[int], n_rows: int) -> tuple[list[int], list[int]]:
    """Return where the operands are, if constants are behind the rows of columns."""
    behind = n_rows + np.arange(topology.n_nodes)
    places = np.append(columns, CONSTANT)
    left, right = (
        np.where(operand == CONSTANT, behind, places[operand]).tolist()
        for operand in (topology.left, topology.right)
    )
    return left, right
