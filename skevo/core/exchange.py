"""Exchange: which weights are kept at zero, where weights must have a sign.

Block principal pivoting [1]_: weights of the wrong sign are kept, and kept ones that the gradient
pulls to the right side are released, all at once as long as there are fewer and fewer of both, for
some rounds longer, and then only the last one. The result is the minimum of a quadratic function.

References
----------
.. [1] J. Kim and H. Park, "Fast nonnegative matrix factorization: an active-set-like method and
   comparisons", SIAM Journal on Scientific Computing 33, 2011.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Exchange"]

# Rounds in which all are exchanged though there are no fewer of them.
_PATIENCE = 3
# After so many rounds weights are only kept: rounding could have the exchange go in circles.
_MOST_ROUNDS = 50


class Exchange:
    """The weights of several members that are kept at zero.

    Parameters
    ----------
    sign : Tensor of shape (n_members, n_columns), int64
        What the weights must not have the opposite sign of; zero where they are free.
    forbidden : Tensor of shape (n_members, n_columns), bool
        Those that stay at zero.

    Attributes
    ----------
    kept : Tensor of shape (n_members, n_columns), bool
    """

    def __init__(self, sign: Tensor, forbidden: Tensor) -> None:
        self.kept = forbidden
        self._sign = sign
        self._fewest = torch.full_like(sign[:, 0], sign.shape[1] + 1)
        self._patience = torch.full_like(self._fewest, _PATIENCE)
        self._round = 0

    def step(self, weight: Tensor, gradient: Tensor) -> bool:
        """Exchange weights, once the others are at their minimum.

        Parameters
        ----------
        weight, gradient : Tensor of shape (n_members, n_columns)
            The weights, and the negative gradient at them.

        Returns
        -------
        bool
            Whether any was exchanged, so that the minimum has to be found anew.
        """
        self._round += 1
        wrong = weight * self._sign < 0
        if self._round > _MOST_ROUNDS:
            self.kept = self.kept | wrong
            return bool(wrong.any())
        # Where the sign is free nothing is kept, but for what is forbidden.
        changed = wrong | (self.kept & (gradient * self._sign > 0))
        n_changed = changed.sum(dim=1)
        fewer = n_changed < self._fewest
        self._fewest = torch.minimum(n_changed, self._fewest)
        self._patience = torch.where(fewer, _PATIENCE, self._patience - 1)
        # The first of the largest counts is that of the last change.
        last = changed.cumsum(dim=1).argmax(dim=1, keepdim=True)
        place = torch.arange(changed.shape[1], device=changed.device)
        self.kept = self.kept ^ (changed & ((self._patience >= 0)[:, None] | (place == last)))
        return bool(changed.any())
