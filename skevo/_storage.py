"""Storage: a fitted model as a header and arrays in a file; docs/format.md says what is in them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ._container import write_container
from ._frames import Levels
from ._packing import pack_ensemble, pack_path
from ._path import Path
from ._values import to_json
from ._version import __version__
from .core.conformal import Intervals
from .core.course import Generation
from .core.operators import Operator

__all__ = ["HISTORY", "PATH", "VERSION", "check_numbers", "save"]

# Of the format. What is added to it is a new version; those before stay readable.
VERSION = 1

Arrays = Mapping[str, NDArray[Any]]

# Columns of ``history_`` and ``path_``, and the kinds of their dtypes.
HISTORY = {"member": "i", "generation": "i", **dict.fromkeys(Generation._fields, "f")}
HISTORY["n_nodes"] = "i"
PATH = {**dict.fromkeys(Path._fields, "f"), "generation": "i", "n_nodes": "i"}
_LOSSES = [f"path.{name}" for name, kind in PATH.items() if kind == "f"]


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted model to a file; see `BaseEvolving.save`."""
    check_is_fitted(model)
    if type(model).__module__.partition(".")[0] != "skevo":
        raise TypeError(
            "save writes EvolvingRegressor and EvolvingClassifier, whose attributes it knows, got "
            f"{type(model).__name__}."
        )
    header, arrays = _describe(model), _arrays(model)
    check_numbers(arrays)
    lost = [name for name, value in header["parameters"].items() if _is_lost(value)]
    if lost:
        warnings.warn(
            f"{', '.join(lost)} cannot be in a file: None in the model that is loaded.",
            stacklevel=3,
        )
    write_container(path, header, arrays)


def _describe(model: Any) -> dict[str, Any]:
    """Return the header."""
    names = getattr(model, "feature_names_in_", None)
    header = {
        "format": "skevo",
        "version": VERSION,
        "skevo": __version__,
        "estimator": type(model).__name__,
        "parameters": {
            name: to_json(value, _describe_other)
            for name, value in model.get_params(deep=False).items()
        },
        "n_features": model.n_features_in_,
        "feature_names": None if names is None else [str(name) for name in names],
        "levels": _describe_levels(model._encoding.levels),
        "draws_in": model._scaling.draws_in,
        "operators": [operator.name for operator in model._ensemble.network.operators],
        "n_members": model._ensemble.n_members,
        "n_outputs": model._ensemble.n_outputs,
        "n_iter": model.n_iter_,
        "stop_reason": model.stop_reason_,
        "seed": model._seed,
    }
    if model._numeric_target:
        return {**header, "single_output": model._single_output, "log": model._units.log}
    return {**header, "classes": to_json(model.classes_)}


def _describe_other(value: Any) -> Any:
    """Return what stands for a parameter that JSON cannot say."""
    if isinstance(value, Operator):
        return {"operator": value.name}
    if hasattr(value, "__array__") and not isinstance(value, np.ndarray):
        return to_json(np.asarray(value), _describe_other)
    if callable(value) and hasattr(value, "__qualname__"):
        return {"function": f"{value.__module__}.{value.__qualname__}"}
    return {"lost": type(value).__name__}


def _is_lost(stored: Any) -> bool:
    return isinstance(stored, dict) and "lost" in stored


def _describe_levels(levels: Levels) -> list[Any]:
    try:
        return [[column, to_json(list(values))] for column, values in levels.items()]
    except TypeError as error:
        raise ValueError(
            "levels of categorical columns must be numbers, text or booleans to be in a file, got "
            f"{error}."
        ) from error


def _arrays(model: Any) -> dict[str, NDArray[Any]]:
    """Return all arrays, by name."""
    encoding, scaling = model._encoding, model._scaling
    parts: dict[str, Mapping[str, Any]] = {
        "encoding": {
            name: getattr(encoding, name) for name in ("fill", "missing", "shown", "told")
        },
        "encoding.means": {str(k): mean for k, mean in enumerate(encoding.means)},
        "scaling": {name: getattr(scaling, name) for name in ("center", "spread", "offset")},
        "ensemble": pack_ensemble(model._ensemble),
        "path": {**model.path_, **pack_path(model._path)},
        "history": model.history_,
        "typical": {"inputs": model._typical},
        "measured": {} if model._measured is None else vars(model._measured),
    }
    if model._numeric_target:
        parts["units"] = {k: part for k, part in vars(model._units).items() if k != "log"}
        parts |= _arrays_of_intervals(model._intervals)
    return {f"{part}.{name}": value for part, some in parts.items() for name, value in some.items()}


def _arrays_of_intervals(intervals: Intervals | None) -> dict[str, Mapping[str, Any]]:
    if intervals is None:
        return {}
    return {
        "intervals": {**vars(intervals.difficulty), "limits": np.stack(intervals.limits)},
        "intervals.scores": {str(k): part for k, part in enumerate(intervals.scores)},
        "intervals.weights": {str(k): part for k, part in enumerate(intervals.weights)},
    }


def check_numbers(arrays: Arrays) -> None:
    """Raise ValueError for numbers that no model has that was fitted well.

    Losses may be unknown, and what follows from them, and scores infinite, but what predicts is
    known.
    """
    for name, array in arrays.items():
        part, _, column = name.partition(".")
        if array.dtype.kind != "f" or part in ("history", "measured") or name in _LOSSES:
            continue
        if np.isnan(array).any() or (part in ("ensemble", "path") and np.isinf(array).any()):
            raise ValueError(f"{name} has numbers that are not finite")
        if column in ("scale", "spread") and (array <= 0).any():
            raise ValueError(f"{name} has numbers that are not positive")
