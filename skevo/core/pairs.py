r"""Pairs: which inputs act together on what the networks leave.

Of 300 inputs there are 45,000 pairs, and a pool of random candidates hardly ever holds the one that
matters. All their products can be looked at in two matrix products, though: for centred inputs
:math:`x_j` and the residual :math:`r` of an output,

.. math:: z_{jk}^2 = \frac{(\sum_i w_i r_i x_{ij} x_{ik})^2}{\sum_i w_i r_i^2 x_{ij}^2 x_{ik}^2},

a self-normalised sum, which no single row can make large. Of :math:`P` pairs that do not matter the
largest is about :math:`2 \log P` [1]_. Pairs beyond one and a half times that are proposed the more
often the farther they are. Interactions are screened in this way in linear models, too [2]_.

References
----------
.. [1] D. L. Donoho and I. M. Johnstone, "Ideal spatial adaptation by wavelet shrinkage",
   Biometrika 81, 1994.
.. [2] N. Hao and H. H. Zhang, "Interaction screening for ultrahigh-dimensional data", Journal of
   the American Statistical Association 109, 2014.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .rows import HeldRows

__all__ = ["Pairs"]

# In units of what the largest of all pairs has by chance.
_BEYOND = 1.5


class Pairs:
    """Pairs of inputs on some rows.

    Parameters
    ----------
    rows : HeldRows
    n_inputs : int
        How many of the columns are inputs.
    """

    def __init__(self, rows: HeldRows, n_inputs: int) -> None:
        inputs, self._weight = rows.columns[:, :n_inputs], rows.weight[:, None]
        total = self._weight.sum(dim=2, keepdim=True)
        self._inputs = inputs - (inputs * self._weight).sum(dim=2, keepdim=True) / total
        self._squares = self._inputs.square()

    def shares(self, residual: Tensor) -> NDArray[np.float64]:
        """Return how far pairs are beyond chance, of shape (n_members, n_inputs, n_inputs).

        Parameters
        ----------
        residual : Tensor of shape (n_members, n_outputs, n_samples)
            Without the weights of the rows. A pair counts by the output that depends on it most.
        """
        n_members, n_inputs, _ = self._inputs.shape
        highest = residual.new_zeros(n_members, n_inputs, n_inputs)
        for own in residual.split(1, dim=1):
            products = (self._inputs * (self._weight * own)) @ self._inputs.mT
            size = (self._squares * (self._weight * own.square())) @ self._squares.mT
            highest = torch.maximum(highest, torch.where(size > 0, products.square() / size, 0.0))
        by_chance = 2.0 * math.log(residual.shape[1] * n_inputs * (n_inputs + 1) / 2)
        return (highest.double() - _BEYOND * by_chance).clamp(min=0.0).numpy(force=True)
