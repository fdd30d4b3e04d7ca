"""Linear algebra of several matrices, with the same bits for any number of threads."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .threads import undivided

__all__ = ["cholesky_ex", "cholesky_solve", "eigh", "gram", "solve_triangular"]

cholesky_ex = undivided(torch.linalg.cholesky_ex)
cholesky_solve = undivided(torch.cholesky_solve)
eigh = undivided(torch.linalg.eigh)
solve_triangular = undivided(torch.linalg.solve_triangular)


def gram(columns: Tensor) -> Tensor:
    """Return the products of columns among each other, summed over rows: ``columns @ columns.mT``.

    On a CPU by NumPy, whose BLAS library computes one half where both factors are the same, which
    torch's product does not ask for; by one thread.

    Parameters
    ----------
    columns : Tensor of shape (..., n_columns, n_samples)

    Returns
    -------
    Tensor of shape (..., n_columns, n_columns)
    """
    if columns.device.type != "cpu":
        return columns @ columns.mT
    array = columns.numpy()
    return torch.from_numpy(np.matmul(array, array.swapaxes(-1, -2)))
