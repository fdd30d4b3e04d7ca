"""Loading: models from files."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ._classifier import EvolvingClassifier
from ._regressor import EvolvingRegressor
from ._storage import restore
from .core.operators import Operator

__all__ = ["load"]

_ESTIMATORS = {cls.__name__: cls for cls in (EvolvingRegressor, EvolvingClassifier)}


def load(
    path: str | os.PathLike[str], *, operators: Sequence[Operator] = ()
) -> EvolvingRegressor | EvolvingClassifier:
    """Return the model that was saved to a file; nothing in the file is run.

    Parameters
    ----------
    path : path-like
        What `EvolvingRegressor.save` or `EvolvingClassifier.save` wrote, on any device.
    operators : sequence of Operator, default=()
        Operators of your own that the model has and that are not registered, under the names that
        they had.

    Returns
    -------
    EvolvingRegressor or EvolvingClassifier
        On the CPU. It predicts what the saved one did, bit by bit on the same machine.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If the file is no model, damaged or of a newer version, or if an operator is unknown.
    ImportError
        If safetensors is not installed.
    """
    return restore(path, _ESTIMATORS, operators)
