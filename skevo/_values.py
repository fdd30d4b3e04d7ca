"""Values of parameters, levels and labels as JSON that keeps their types."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["from_json", "to_json"]

# dtypes that an array of labels may have.
_DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "str", "object",
)  # fmt: skip
# Characters of an array of labels.
_MOST_TEXT = 2**26


def to_json(value: Any, other: Callable[[Any], Any] | None = None) -> Any:
    """Return a value in terms of JSON.

    None, booleans, integers, text and finite floats stand for themselves, and lists for lists; what
    JSON has not is an object with one key, which says what it is. NumPy's scalars are turned into
    Python's.

    Parameters
    ----------
    value : object
    other : callable, default=None
        What is to be made of values of other types.

    Raises
    ------
    TypeError
        If there is a value of another type.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, np.ndarray):
        dtype = "str" if value.dtype.kind == "U" else value.dtype.name
        if dtype in _DTYPES:
            return {"array": [dtype, to_json(value.tolist(), other)]}
    if type(value) is list:
        return [to_json(item, other) for item in value]
    if type(value) is tuple:
        return {"tuple": [to_json(item, other) for item in value]}
    if type(value) is dict:
        pairs = value.items()
        return {"dict": [[to_json(key, other), to_json(item, other)] for key, item in pairs]}
    if other is None:
        raise TypeError(f"{type(value).__name__}: {value!r}")
    return other(value)


def from_json(stored: Any, other: Callable[[str, Any], Any] | None = None) -> Any:
    """Return the value that `to_json` made JSON of.

    Parameters
    ----------
    stored : object
    other : callable, default=None
        ``other(key, content)`` returns what an object with an unknown key stands for.

    Raises
    ------
    ValueError, TypeError
        If it stands for nothing.
    """
    if isinstance(stored, list):
        return [from_json(item, other) for item in stored]
    if not isinstance(stored, dict):
        return stored
    ((kind, content),) = stored.items()
    if kind == "float":
        return {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[content]
    if kind == "array":
        dtype, items = content
        if dtype not in _DTYPES:
            raise ValueError(f"arrays of dtype {dtype!r} are unknown")
        # All texts of an array take as much memory as the longest.
        if dtype == "str" and len(items) * max(map(len, items), default=0) > _MOST_TEXT:
            raise ValueError("arrays of text must be smaller")
        return np.array(from_json(items, other), dtype=dtype)
    if kind == "tuple":
        return tuple(from_json(item, other) for item in content)
    if kind == "dict":
        return {from_json(key, other): from_json(item, other) for key, item in content}
    if other is None:
        raise ValueError(f"values of kind {kind!r} are unknown")
    return other(kind, content)
