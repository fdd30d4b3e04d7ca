"""Shuffle: a random order of many rows, of which any part can be had without the rest.

A Feistel network is a permutation of the numbers of an even number of bits, whatever its round
function is [1]_. A number that it takes out of the range is sent through it again until it is back,
which makes it a permutation of the range [2]_. So a row's place takes neither memory nor a look at
the others.

References
----------
.. [1] M. Luby and C. Rackoff, "How to construct pseudorandom permutations from pseudorandom
   functions", SIAM Journal on Computing 17, 1988.
.. [2] J. Black and P. Rogaway, "Ciphers with arbitrary finite domains", Topics in Cryptology,
   CT-RSA 2002.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Shuffle"]

# Four are enough for a permutation that looks random; of few bits some more do no harm.
_N_ROUNDS = 6


class Shuffle:
    """A random permutation of a range.

    Parameters
    ----------
    n : int
    seed : int
    """

    def __init__(self, n: int, seed: int) -> None:
        self._n = n
        self._bits = np.uint64(max(1, -(-(n - 1).bit_length() // 2)))
        self._mask = np.uint64((1 << int(self._bits)) - 1)
        self._keys = np.random.default_rng(seed).integers(2**64, size=_N_ROUNDS, dtype=np.uint64)

    def __call__(self, places: Tensor) -> Tensor:
        """Return what stands at some places, of shape (n,), int64."""
        found = self._permute(places.numpy().astype(np.uint64))
        while len(out := np.flatnonzero(found >= self._n)):
            found[out] = self._permute(found[out])
        return torch.from_numpy(found.astype(np.int64))

    def _permute(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Permute the numbers of twice as many bits as a half has."""
        left, right = numbers >> self._bits, numbers & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right + key) & self._mask)
        return (left << self._bits) | right


def _mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits of numbers (the finaliser of splitmix64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))
