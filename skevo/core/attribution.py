r"""Attribution: what each column adds to an output, compared with a reference row.

The output of a row is a constant, the output that its head gives the reference row, and a
contribution of each column :math:`c_j` of the network,

.. math:: w_j \, (c_j(x) - c_j(x_0)) .

The contribution of a node is shared out among its operands, and so on down to the inputs, so that
the contributions of the inputs have the same sum. Of what a node :math:`op(a, b)` differs by from
that of the reference row, operand a is given its Shapley value in the game of two players,

.. math:: s_a = \tfrac12 [op(a, b_0) - op(a_0, b_0)] + \tfrac12 [op(a, b) - op(a_0, b)] ,

and b the rest, :math:`s_b` [1]_. Their shares of the contribution are :math:`s_a / (s_a + s_b)` and
what is left. Where the two cancel, so that these would be many times the contribution, they are
replaced step by step by :math:`|s_a| / (|s_a| + |s_b|)`.

References
----------
.. [1] S. M. Lundberg and S.-I. Lee, "A unified approach to interpreting model predictions",
   Advances in Neural Information Processing Systems 30, 2017, section 4.2 (Deep SHAP).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .ensemble import Ensemble
from .losses import Loss
from .network import Network
from .operators import Operator
from .statistics import midmean_weights

__all__ = ["Attribution", "attribute", "loss_rises", "most_typical"]

# Values cancel whose sum is less than this share of the sum of their sizes.
_CANCELLED = 0.2


class Attribution(NamedTuple):
    """Contributions to the outputs of some rows, before the correction is clipped.

    Attributes
    ----------
    output : Tensor of shape (n_outputs, n_samples)
        What is predicted.
    constant : Tensor of shape (n_outputs, n_samples)
        The output of the reference row; it depends on the row where several members are combined,
        of which not all are heard.
    columns : Tensor of shape (n_outputs, n_columns, n_samples)
        Contributions of the columns of the network.
    inputs : Tensor of shape (n_outputs, n_inputs, n_samples)
        The same, shared out among the inputs.
    """

    output: Tensor
    constant: Tensor
    columns: Tensor
    inputs: Tensor


@torch.no_grad()
def attribute(ensemble: Ensemble, columns: Tensor, reference: Tensor) -> Attribution:
    """Attribute the outputs of rows to columns.

    Parameters
    ----------
    ensemble : Ensemble
    columns : Tensor of shape (n_columns, n_samples)
        Of its network.
    reference : Tensor of shape (n_columns, 1)
        The columns of the row to compare with.

    Returns
    -------
    Attribution
    """
    heads = ensemble.network.output(columns)
    weight, bias = _heard_head(ensemble, heads)
    contributions = weight * (columns - reference)
    return Attribution(
        ensemble.combine(heads),
        bias + (weight * reference).sum(dim=1),
        contributions,
        _share_out(ensemble.network, columns, reference, contributions),
    )


def most_typical(network: Network, columns: Tensor) -> int:
    """Return the row whose columns are nearest to their means, by what they weigh in the head.

    Parameters
    ----------
    network : Network
    columns : Tensor of shape (n_columns, n_samples)

    Returns
    -------
    int
    """
    weight = network.weight.abs().sum(dim=0)
    distance = weight @ (columns - columns.mean(dim=1, keepdim=True)).abs()
    return int(distance.argmin())


def loss_rises(
    loss: Loss, output: Tensor, target: Tensor, weight: Tensor, contributions: Tensor
) -> Tensor:
    """Return by how much the mean loss rises when a contribution is replaced by its mean.

    Parameters
    ----------
    loss : Loss
    output, target : Tensor of shape (n_outputs, n_samples)
    weight : Tensor of shape (n_samples,)
    contributions : Tensor of shape (n_outputs, n, n_samples)
        To the outputs, of n columns.

    Returns
    -------
    Tensor of shape (n,)
    """
    share = weight / weight.sum()
    deviation = contributions - (contributions @ share)[..., None]
    without = output - deviation.movedim(1, 0)
    # Row by row: what contributes nothing has a rise of zero, not of rounding.
    rise = loss.judged(without, target.expand_as(without)) - loss.judged(output, target)
    return rise @ share


def _heard_head(ensemble: Ensemble, heads: Tensor) -> tuple[Tensor, Tensor]:
    """Return the head that each row sees: the mean of the members that are heard, corrected.

    Parameters
    ----------
    ensemble : Ensemble
    heads : Tensor of shape (n_heads, n_samples)
        The outputs of its network.

    Returns
    -------
    weight : Tensor of shape (n_outputs, n_columns, n_samples)
    bias : Tensor of shape (n_outputs, n_samples)
    """
    network, n_average = ensemble.network, ensemble.n_members * ensemble.n_outputs
    shape = ensemble.n_members, ensemble.n_outputs
    share = midmean_weights(ensemble.members(heads))
    weight = torch.einsum("koc,kon->ocn", network.weight[:n_average].unflatten(0, shape), share)
    bias = torch.einsum("ko,kon->on", network.bias[:n_average].unflatten(0, shape), share)
    if ensemble.limits is not None:
        weight += network.weight[n_average:, :, None]
        bias += network.bias[n_average:, None]
    return weight, bias


def _share_out(
    network: Network, columns: Tensor, reference: Tensor, contributions: Tensor
) -> Tensor:
    """Share the contributions of nodes out among the inputs.

    Parameters
    ----------
    network : Network
    columns : Tensor of shape (n_columns, n_samples)
    reference : Tensor of shape (n_columns, 1)
    contributions : Tensor of shape (n_outputs, n_columns, n_samples)

    Returns
    -------
    Tensor of shape (n_outputs, n_inputs, n_samples)
    """
    n_inputs = network.topology.n_inputs
    remaining = contributions.clone()
    for group in reversed(network.topology.groups):
        of_nodes = remaining[:, n_inputs + torch.as_tensor(group.nodes, device=columns.device)]
        left, right = (
            None if operand is None else operand.to(columns.device) for operand in group.operands
        )
        if left is not None and right is not None:
            operator = network.operators[group.operator]
            pairs = (columns[left], columns[right], reference[left], reference[right])
            of_left = of_nodes * _left_share(operator, *pairs)
            remaining.index_add_(1, left, of_left)
            remaining.index_add_(1, right, of_nodes - of_left)
        else:
            # A constant has no part in it.
            only = right if left is None else left
            assert only is not None
            remaining.index_add_(1, only, of_nodes)
    return remaining[:, :n_inputs]


def _left_share(
    operator: Operator, a: Tensor, b: Tensor, a_there: Tensor, b_there: Tensor
) -> Tensor:
    """Return the left operand's share of what nodes differ by from those of the reference row.

    Parameters
    ----------
    operator : Operator
    a, b : Tensor of shape (n, n_samples)
    a_there, b_there : Tensor of shape (n, 1)
        The operands of the reference row.

    Returns
    -------
    Tensor of shape (n, n_samples)
        A half where neither operand makes a difference.
    """
    a_there, b_there = a_there.expand_as(a), b_there.expand_as(b)
    both, neither = operator(a, b), operator(a_there, b_there)
    left, right = operator(a, b_there), operator(a_there, b)
    of_a, of_b = (left - neither) + (both - right), (right - neither) + (both - left)
    total, size = of_a + of_b, of_a.abs() + of_b.abs()
    none = size == 0
    size = size.masked_fill(none, 1.0)
    signed = of_a / torch.copysign(total.abs().clamp(min=_CANCELLED * size), total)
    cancelled = 1.0 - (total.abs() / (_CANCELLED * size)).clamp(max=1.0)
    return torch.where(none, 0.5, signed + cancelled * of_a.abs() / size)
