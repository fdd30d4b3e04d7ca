r"""Calibration: how far the log-odds of an ensemble are drawn towards zero.

The outputs are multiplied by one number (temperature scaling [1]_), that for which the loss that is
expected of the members' average is lowest:

.. math:: \min_{0 < s \le 1} \; (1 - \pi) \, L(s) + \pi \, T(s), \qquad
          \pi = \tfrac12 \Bigl(1 - \frac1K\Bigr),

where :math:`L` is the mean loss of members on rows that they held out, and :math:`T` that of
members on rows that they were trained on. A member alone is too sure of itself on new rows, and the
average less so: the share :math:`\pi` is the one by which generations are judged. Outputs are never
enlarged: where classes are nearly separate, a few rows would say by how much.

References
----------
.. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural networks",
   International Conference on Machine Learning, 2017.
"""

from __future__ import annotations

import math

import torch

from .course import Stopping
from .held_out import HeldOut
from .losses import Loss

__all__ = ["fit_scale"]

# The factor is not lower; the range of its logarithm is halved so many times.
_LOWEST = 0.1
_N_HALVINGS = 16


@torch.no_grad()
def fit_scale(held_out: HeldOut, loss: Loss) -> float:
    """Return what outputs are to be multiplied by.

    Parameters
    ----------
    held_out : HeldOut
    loss : Loss
        Convex in the output.

    Returns
    -------
    float
        At most 1; 1 for a single member, whose held-out rows are few, and where none were held out.
    """
    outputs, holder = held_out.outputs, held_out.holder
    if holder is None or len(outputs) == 1:
        return 1.0
    share = Stopping(n_averaged=len(outputs)).training_share
    # Beside the member that held the row out, the next one, which was trained on it.
    pair = torch.stack([holder, (holder + 1) % len(outputs)])
    held, seen = outputs.gather(0, pair[:, None].expand(2, *outputs.shape[1:]))
    # The average does not follow a member that is far astray on a row, which would decide alone.
    held = held.clamp(*seen.aminmax(dim=-1, keepdim=True))
    outputs = torch.stack([held, seen])
    weight = held_out.weight * outputs.new_tensor([[1.0 - share], [share]])
    low, high = math.log(_LOWEST), 0.0
    for _ in range(_N_HALVINGS):
        middle = 0.5 * (low + high)
        # The loss falls towards the minimum, which lies where its derivative changes sign.
        residual = loss.residual(math.exp(middle) * outputs, held_out.target)
        if ((residual * outputs).sum(dim=1) * weight).sum() > 0.0:
            low = middle
        else:
            high = middle
    return math.exp(high)
