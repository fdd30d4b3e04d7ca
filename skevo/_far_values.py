"""Far values: whether a target follows them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .core.selection import MOST_INPUTS

__all__ = ["are_followed"]

Floats = NDArray[np.float64]

# Far values are followed if that leaves less than this share of the error, by more than its
# standard error.
_SHARE = 0.5


def are_followed(plain: Floats, drawn_in: Floats, target: Floats, weight: Floats) -> bool:
    r"""Return whether a linear model is far better off with far values as they are.

    That is ridge regression, judged by its leave-one-out errors

    .. math:: e_i = \frac{y_i - \hat y_i}{1 - x_i^\top M^{-1} x_i}

    with the inverse of the penalised moments :math:`M` [1]_. Few tables are like that: mostly the
    far values of a column are errors, or their effect levels off. Where there are so many columns
    that members see only some of them, it is not asked.

    Parameters
    ----------
    plain, drawn_in : ndarray of shape (n_samples, n_columns)
        Scaled rows, their far values left as they are and drawn in.
    target : ndarray of shape (n_samples, n_outputs)
    weight : ndarray of shape (n_samples,)

    References
    ----------
    .. [1] D. M. Allen, "The relationship between variable selection and data augmentation and a
       method for prediction", Technometrics 16, 1974.
    """
    if plain.shape[1] > MOST_INPUTS or np.array_equal(plain, drawn_in) or not weight.any():
        return False
    share = weight / weight.sum()
    # Squares of what is very far overflow: then it is not followed.
    with np.errstate(over="ignore", invalid="ignore"):
        followed, without = (
            _squared_errors(columns, target, weight) for columns in (plain, drawn_in)
        )
        gain = without - followed
        mean = share @ gain
        error = np.sqrt(share @ (gain - mean) ** 2 / weight.sum())
        return bool(share @ followed < _SHARE * (share @ without) and mean > error)


def _squared_errors(columns: Floats, target: Floats, weight: Floats) -> Floats:
    """Return squared leave-one-out errors of each row, summed over outputs."""
    share = weight / weight.sum()
    centred = columns - share @ columns
    deviation = np.sqrt(share @ centred**2)
    design = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)
    design = np.column_stack([np.ones(len(design)), design])
    weighted = design * weight[:, None]
    penalty = np.eye(design.shape[1])
    penalty[0, 0] = 0.0
    solved = np.linalg.solve(weighted.T @ design + penalty, design.T).T
    residual = target - design @ (solved.T @ (weight[:, None] * target))
    leverage = (design * solved).sum(axis=1)
    # A row that decides its own fit tells nothing.
    return (residual**2).sum(axis=1) / np.maximum(1.0 - leverage, 0.05) ** 2
