"""Linear algebra of several matrices, with the same bits for any number of threads."""

from __future__ import annotations

import torch

from .threads import undivided

__all__ = ["cholesky_ex", "cholesky_solve", "eigh", "solve_triangular"]

cholesky_ex = undivided(torch.linalg.cholesky_ex)
cholesky_solve = undivided(torch.cholesky_solve)
eigh = undivided(torch.linalg.eigh)
solve_triangular = undivided(torch.linalg.solve_triangular)
