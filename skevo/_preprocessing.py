"""Columns in, float matrix out: each column scaled to unit spread, far values drawn in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ._columns import Encoding
from ._far_values import are_followed
from .core.statistics import weighted_quantiles
from .core.table import every_so_many

__all__ = ["KNEE", "Scaling", "fit_scaling"]

# The median and the quartiles.
_LEVELS = (0.25, 0.5, 0.75)
# Interquartile range of a standard normal.
_NORMAL_RANGE = 1.3489795
# Values farther than so many spreads from the median are drawn in.
KNEE = 3.0
# Columns whose median is farther from zero, in spreads, are centred.
_FAR = 10.0
# At most so many rows are asked whether the target follows far values.
_ASKED_ROWS = 4000


class ScaledColumns:
    """Columns of a table, encoded and scaled as they are read, so that the table is not copied.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        In memory or mapped.
    encoding : Encoding
    scaling : Scaling
    device : torch.device
    dtype : torch.dtype
    told : ndarray of shape (n_told, n_samples), default=None
        What stands in the encoding's columns of means: see `OrderedMeans`.
    """

    def __init__(
        self,
        X: NDArray[np.floating],
        encoding: Encoding,
        scaling: Scaling,
        device: torch.device,
        dtype: torch.dtype,
        told: NDArray[np.float64] | None = None,
    ) -> None:
        self.told = told
        self.X = X
        self.encoding = encoding
        self.scaling = scaling
        self.device = device
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self.encoding)

    def __getitem__(self, at: tuple[slice, torch.Tensor | slice]) -> torch.Tensor:
        """Return the scaled columns of some rows, of shape (n_columns, n)."""
        rows = at[1].numpy(force=True) if isinstance(at[1], torch.Tensor) else at[1]
        encoded = self.encoding(self.X[rows])
        if self.told is not None:
            encoded[:, len(self) - len(self.told) :] = self.told[:, rows].T
        scaled = self.scaling.columns(encoded)
        return torch.as_tensor(scaled, dtype=self.dtype, device=self.device)


@dataclass(frozen=True)
class Scaling:
    r"""Scaling of the columns, fitted on training rows.

    With the median m and the spread s of a column, a value becomes

    .. math:: u = f\left(\frac{x - m}{s}\right) + \frac{m}{s},
              \quad f(z) = z \text{ for } |z| \le 3,
              \quad \mathrm{sign}(z) (3 + \log(|z| - 2)) \text{ beyond}.

    So a column is only divided by its spread, and products and ratios of columns stay what they
    are, but far values are drawn in, smoothly and in order. A column that lies far from zero (a
    year, say) is centred as well: the term m/s is left out.

    Attributes
    ----------
    center, spread, offset : ndarray of shape (n_columns,)
        m, s, and m/s or 0.
    draws_in : bool, default=True
        Whether far values are drawn in; if not, f(z) is z everywhere.
    """

    center: NDArray[np.float64]
    spread: NDArray[np.float64]
    offset: NDArray[np.float64]
    draws_in: bool = True

    def __call__(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """Scale rows.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        return self.columns(X).T

    def columns(
        self, X: NDArray[np.floating], memory: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Scale rows and return them as columns, contiguous, which is how they are computed.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
        memory : ndarray of shape (n_samples * n_features,), default=None
            Where to; new memory if None, which costs about as much as the work.

        Returns
        -------
        ndarray of shape (n_features, n_samples)
        """
        flat = np.empty(X.size) if memory is None else memory
        z = flat.reshape(X.shape[::-1])
        shift = np.where(self.offset == 0.0, self.center, 0.0)
        # Where no column is centred, (x - m) / s + m / s is a pass less.
        from_zero = np.subtract(X.T, shift[:, None], out=z) if shift.any() else X.T
        np.divide(from_zero, self.spread[:, None], out=z)
        if not self.draws_in:
            return z
        offset = self.offset[:, None]
        # Few values are far.
        far = np.flatnonzero((z > offset + KNEE) | (z < offset - KNEE))
        if len(far):
            middle = self.offset[far // len(X)]
            distance = flat[far] - middle
            drawn_in = np.sign(distance) * (KNEE + np.log1p(np.abs(distance) - KNEE))
            flat[far] = drawn_in + middle
        return z


def fit_scaling(
    X: NDArray[np.floating],
    target: NDArray[np.float64],
    sample_weight: NDArray[np.float64],
    encoding: Encoding,
) -> Scaling:
    """Fit the scaling.

    The spread is the interquartile range in units of the normal distribution's or, where half of
    the values are equal, the standard deviation; 1 for constant columns. Of a column of two values
    it is at least a third of their distance, so that neither is drawn in. Far values of no column
    are drawn in if the target follows them, see `are_followed`.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    target : ndarray of shape (n_samples, n_outputs)
    sample_weight : ndarray of shape (n_samples,)
    encoding : Encoding

    Returns
    -------
    Scaling
        Of the encoded columns.
    """
    X = encoding(X)
    columns = torch.from_numpy(np.array(X.T, dtype=np.float64, order="C"))
    quartiles = weighted_quantiles(columns, torch.from_numpy(sample_weight), _LEVELS).numpy()
    center = quartiles[:, 1]
    spread = (quartiles[:, 2] - quartiles[:, 0]) / _NORMAL_RANGE
    mean = np.average(X, axis=0, weights=sample_weight)
    deviation = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=sample_weight))
    spread = np.where(spread > 1e-9 * deviation, spread, deviation)
    # Equal values whose mean was rounded have a deviation of rounding size.
    spread = np.where(spread > 1e-12 * np.abs(center), spread, 1.0)
    low, high = X.min(axis=0), X.max(axis=0)
    two_valued = np.minimum(X - low, high - X).max(axis=0) == 0.0
    spread = np.where(two_valued, np.maximum(spread, (high - low) / KNEE), spread)
    offset = center / spread
    scaling = Scaling(center, spread, np.where(np.abs(offset) <= _FAR, offset, 0.0))
    plain = replace(scaling, draws_in=False)
    some = every_so_many(len(X), _ASKED_ROWS)
    parts = plain(X[some]), scaling(X[some]), target[some], sample_weight[some]
    return plain if are_followed(*parts) else scaling
