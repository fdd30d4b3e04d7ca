"""Sums that are exact, so that neither the order of rows nor how they are divided shows in them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

__all__ = ["exact_sum"]

# A double is a whole number of 53 bits times a power of two; so many are the lower part of it.
_BITS, _LOWER = 53, 27
# Sums of so many parts are exact in doubles, being below 2**53; so few fit the cache.
_BLOCK = 2**15


def exact_sum(values: NDArray[np.float64]) -> Fraction:
    """Return the sum of some numbers, without rounding.

    Parameters
    ----------
    values : ndarray of shape (n,)

    Raises
    ------
    ValueError
        If there are some that are not finite.
    """
    total = Fraction(0)
    for start in range(0, len(values), _BLOCK):
        total += _sum_of_block(values[start : start + _BLOCK])
    return total


def _sum_of_block(values: NDArray[np.float64]) -> Fraction:
    fraction, exponent = np.frexp(values)
    if not np.isfinite(fraction).all():
        raise ValueError("y and sample_weight are too large: their products are not finite.")
    whole = np.ldexp(fraction, _BITS).astype(np.int64)
    lowest = int(exponent.min())
    # The numbers of each exponent are added up, upper and lower parts apart.
    upper, lower = (
        np.bincount(exponent - lowest, weights=part)
        for part in (whole >> _LOWER, whole & (2**_LOWER - 1))
    )
    total = sum(
        ((int(high) << _LOWER) + int(low)) << power
        for power, (high, low) in enumerate(zip(upper, lower, strict=True))
    )
    return total * Fraction(2) ** (lowest - _BITS)
