r"""Difficulty: how large an error is to be expected of a row.

Ridge regression of the sizes of known errors on what is known of a row without its target: the
spread :math:`S` of the members, their average :math:`\bar f` and its square, and the inputs
:math:`u` [1]_,

.. math:: \sigma(x) = m + \min\bigl(\max(g(x), 0), 5 m\bigr), \qquad
          g(x) = a + b' \, \bigl(S, \bar f, \bar f^2, u\bigr),

where :math:`m` is the mean size of an error. A size counts as :math:`5 m` at most, so that a few
large errors do not decide; the columns are standardised and their penalty is that of 100 rows.

References
----------
.. [1] J. Lei, M. G'Sell, A. Rinaldo, R. J. Tibshirani and L. Wasserman, "Distribution-free
   predictive inference for regression", Journal of the American Statistical Association 113, 2018,
   section 5.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .selection import MOST_INPUTS

__all__ = ["Difficulty", "features_of", "fit_difficulty"]

_ALPHA = 100.0
# In units of the mean error, the most that is added to it.
_MOST = 5.0


@dataclass(frozen=True)
class Difficulty:
    """A linear function of features, within bounds.

    Attributes
    ----------
    coefficients : ndarray of shape (n_outputs, n_features)
    intercept : ndarray of shape (n_outputs, 1)
    error : ndarray of shape (n_outputs, 1)
        Mean size of an error.
    """

    coefficients: NDArray[np.float64]
    intercept: NDArray[np.float64]
    error: NDArray[np.float64]

    def __call__(self, features: Tensor) -> Tensor:
        """Return the size that is expected of the errors of rows.

        Parameters
        ----------
        features : Tensor of shape (n_outputs, n_features, n_samples)

        Returns
        -------
        Tensor of shape (n_outputs, n_samples)
            Above zero.
        """
        coefficients, intercept, error = (
            torch.as_tensor(part).to(features)
            for part in (self.coefficients, self.intercept, self.error)
        )
        return _bounded((coefficients[:, None] @ features)[:, 0] + intercept, error)


def features_of(spread: Tensor, prediction: Tensor, inputs: Tensor) -> Tensor:
    """Return what the difficulty of rows is told by.

    Parameters
    ----------
    spread, prediction : Tensor of shape (n_outputs, n_samples)
    inputs : Tensor of shape (n_inputs, n_samples)
        Left out where there are many.

    Returns
    -------
    Tensor of shape (n_outputs, n_features, n_samples)
        In double precision.
    """
    of_outputs = torch.stack([spread, prediction, prediction.square()], dim=1).double()
    if len(inputs) > MOST_INPUTS:
        return of_outputs
    return torch.cat([of_outputs, inputs.to(of_outputs).expand(len(of_outputs), -1, -1)], dim=1)


def fit_difficulty(features: Tensor, size: Tensor, weight: Tensor) -> tuple[Difficulty, Tensor]:
    """Fit the difficulty to the sizes of known errors.

    Parameters
    ----------
    features : Tensor of shape (n_outputs, n_features, n_samples)
    size : Tensor of shape (n_outputs, n_samples)
    weight : Tensor of shape (n_samples,)

    Returns
    -------
    difficulty : Difficulty
    expected : Tensor of shape (n_outputs, n_samples)
        What the difficulty of each row would be if a copy of the row had been left out: that of
        new rows is as far from the sizes of their errors.
    """
    total = weight.sum()
    share = (weight / total)[:, None]
    error = size @ share
    mean = features @ share
    centred = features - mean
    deviation = (centred.square() @ share).sqrt()
    # The deviation of a constant is rounding.
    varies = deviation > 1e-9 * mean.abs()
    columns = centred * torch.where(varies, 1.0 / deviation, 0.0)
    capped = torch.minimum(size, _MOST * error)
    middle = capped @ share
    gram = (columns * weight) @ columns.mT + _ALPHA * torch.eye(columns.shape[1]).to(columns)
    projection = torch.linalg.solve(gram, columns)
    beta = (projection * weight) @ (capped - middle)[..., None]
    fitted = middle + (columns.mT @ beta)[..., 0]
    leverage = 1.0 / total + (columns * projection).sum(dim=1)
    left_out = (fitted - leverage * capped) / (1.0 - leverage).clamp(min=1e-3)
    slope = torch.where(varies, beta / deviation, 0.0)
    intercept = middle - (slope * mean).sum(dim=1)
    difficulty = Difficulty(*(part.numpy(force=True) for part in (slope[..., 0], intercept, error)))
    return difficulty, _bounded(left_out, error)


def _bounded(expected: Tensor, error: Tensor) -> Tensor:
    """Return an expected size, and the mean error on top of it, within bounds."""
    added = torch.minimum(expected.clamp(min=0.0), _MOST * error)
    return (error + added).clamp(min=torch.finfo(expected.dtype).tiny)
