"""Evaluation: the columns of a network, computed group by group.

Inside the core, columns are rows of memory: a tensor of columns has shape (n_columns, n_samples),
so that each column is contiguous and an operator runs over whole groups of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .operators import Operator
from .topology import Group, Topology

__all__ = ["compute_group", "evaluate"]

# Values of operands that are copied at a time: memory that the allocator has at hand.
_CHUNK = 2**14


def evaluate(
    operators: Sequence[Operator],
    topology: Topology,
    constants: Tensor,
    scale: Tensor,
    inputs: Tensor,
) -> Tensor:
    r"""Compute all columns of a network.

    Node ``k`` with operands ``a`` and ``b`` is the column ``operator_k(a, b) / scale_k``.

    Parameters
    ----------
    operators : sequence of Operator
        What the topology's codes stand for.
    topology : Topology
    constants : Tensor of shape (n_nodes,) or (n_nodes, n_samples)
        Each node's constant; read only where an operand is one. The second form gives every sample
        its own copy, whose gradient is then the Jacobian of a sum over samples.
    scale : Tensor of shape (n_nodes,)
    inputs : Tensor of shape (n_inputs, n_samples)

    Returns
    -------
    Tensor of shape (n_columns, n_samples)
        Inputs first, then nodes.
    """
    columns = inputs.new_empty(topology.n_columns, inputs.shape[1])
    columns[: topology.n_inputs] = inputs
    if constants.ndim == 1:
        constants = constants.unsqueeze(1)
    # A product is cheaper than a quotient.
    factor = scale.reciprocal()[:, None]
    for group in topology.groups:
        nodes = group.place
        if nodes is not None:
            # Side by side, as they are in merged networks: no copy through an index.
            place = columns[topology.n_inputs + nodes.start : topology.n_inputs + nodes.stop]
            if torch.is_grad_enabled():
                values = compute_group(operators, group, constants[nodes], columns)
                place.copy_(values * factor[nodes])
            else:
                size = max(1, _CHUNK // max(1, inputs.shape[1]))
                for start in range(0, len(group.nodes), size):
                    part = slice(start, start + size)
                    left, right = _operands(group, constants[nodes], columns, part)
                    operators[group.operator].write(left, right, out=place[part])
                place.mul_(factor[nodes])
        else:
            at = torch.as_tensor(group.nodes, device=inputs.device)
            values = compute_group(operators, group, constants[at], columns)
            # In place under autograd too: a gather's backward needs its indices, not its values.
            columns.index_copy_(0, topology.n_inputs + at, values * factor[at])
    return columns


def compute_group(
    operators: Sequence[Operator], group: Group, constants: Tensor, columns: Tensor
) -> Tensor:
    """Compute a group of nodes, not yet scaled.

    Parameters
    ----------
    operators : sequence of Operator
    group : Group
    constants : Tensor of shape (n, 1) or (n, n_samples)
        The constants of the group's nodes.
    columns : Tensor of shape (n_columns, n_samples)
        Columns that the group reads; others may still be unset.

    Returns
    -------
    Tensor of shape (n, n_samples)
    """
    return operators[group.operator](*_operands(group, constants, columns))


def _operands(
    group: Group, constants: Tensor, columns: Tensor, part: slice = slice(None)
) -> tuple[Tensor, Tensor]:
    """Return the operands of part of a group side by side, both of shape (n, n_samples)."""
    device = columns.device
    left, right = (
        constants[part].expand(-1, columns.shape[1])
        if operand is None
        else columns.index_select(0, operand[part].to(device))
        for operand in group.operands
    )
    return left, right
