"""Monotonic constraints, as users state them and as the engine reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._columns import Encoding

__all__ = ["monotonic_inputs"]


def monotonic_inputs(
    constraints: Any, names: Sequence[str], encoding: Encoding, n_outputs: int
) -> NDArray[np.int64] | None:
    """Return what the output must do as a column that the engine reads rises.

    Parameters
    ----------
    constraints : array-like of shape (n_features,), mapping of str to int, or None
    names : sequence of str
        Of the columns of the table; empty if they have none.
    encoding : Encoding
    n_outputs : int

    Returns
    -------
    ndarray of shape (n_inputs,), or None
        1, -1, or 0; None if nothing is constrained.

    Raises
    ------
    ValueError
        If the constraints do not fit the table, constrain a category, or if there are several
        outputs.
    """
    if constraints is None:
        return None
    if isinstance(constraints, Mapping):
        unknown = sorted(set(constraints) - set(names), key=str)
        if unknown:
            raise ValueError(
                "monotonic_constraints has names that no column of X has: "
                f"{', '.join(map(str, unknown))}."
            )
        constraints = [constraints.get(name, 0) for name in names]
    features = np.asarray(constraints)
    if features.shape != (encoding.n_features,) or not np.isin(features, (-1, 0, 1)).all():
        raise ValueError(
            f"monotonic_constraints must have -1, 0 or 1 for each of the {encoding.n_features} "
            f"columns of X, or for names of them, got {constraints!r}."
        )
    features = features.astype(np.int64)
    if not features.any():
        return None
    if n_outputs > 1:
        raise ValueError(
            f"monotonic_constraints requires one target or two classes, got {n_outputs} outputs."
        )
    wrong = np.setdiff1d(np.flatnonzero(features), encoding.numeric).tolist()
    if wrong:
        raise ValueError(
            f"monotonic_constraints requires numeric columns; these are categories: {wrong}."
        )
    inputs = np.zeros(len(encoding), dtype=np.int64)
    inputs[: len(encoding.numeric)] = features[encoding.numeric]
    return inputs
