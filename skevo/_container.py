"""Container: a header and arrays in one safetensors file, whole or not at all.

Such a file holds numbers and text, nothing that could run. The header is JSON; the tensor
``sha256`` holds the digest of it and of all other tensors, so that no damage goes unseen.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._optional import needed_by

__all__ = ["ModelFileError", "read_container", "write_container"]

Arrays = dict[str, NDArray[Any]]

_KEY = "skevo"
_DIGEST = "sha256"
# Of what tensors may be, in safetensors' words.
_DTYPES = ("BOOL", "U8", "I32", "I64", "F32", "F64")


class ModelFileError(ValueError):
    """A file is no whole model."""


def write_container(
    path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Arrays
) -> None:
    """Replace a file; whoever is killed meanwhile leaves the old or the new one.

    Parameters
    ----------
    path : path-like
    header : dict
        What JSON can say.
    arrays : dict of str to ndarray

    Raises
    ------
    ImportError
        If safetensors is not installed.
    """
    numpy_format = _safetensors().numpy
    text = json.dumps(header, allow_nan=False, separators=(",", ":"))
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    arrays[_DIGEST] = _digest(text, arrays)
    content = numpy_format.save(arrays, {_KEY: text})
    path = Path(path)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_container(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Arrays]:
    """Return the header and the arrays of a file.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    OSError
        If there is no file that can be read.
    ModelFileError
        If it was not written by `write_container`, or is damaged.
    ImportError
        If safetensors is not installed.
    """
    safetensors = _safetensors()
    # safetensors says less of a file that cannot be opened.
    with Path(path).open("rb"):
        pass
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY, "null")
            arrays = {name: _array(file, name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(text)
    # One of nested brackets without end is no header either.
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is no model of skevo, or is damaged.") from error
    if not isinstance(header, dict) or header.get("format") != _KEY:
        raise ModelFileError(f"{path} is no model of skevo.")
    digest = arrays.pop(_DIGEST, None)
    if digest is None or not np.array_equal(digest, _digest(text, arrays)):
        raise ModelFileError(f"{path} is damaged: its checksum is not that of its content.")
    return header, arrays


def _array(file: Any, name: str) -> NDArray[Any]:
    dtype = file.get_slice(name).get_dtype()
    if dtype not in _DTYPES:
        raise ValueError(f"tensors must be of {', '.join(_DTYPES)}, got {dtype}")
    return file.get_tensor(name)


def _digest(text: str, arrays: Arrays) -> NDArray[np.uint8]:
    """Return the SHA-256 of a header, and of arrays in the order of their names."""
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        about = f"\n{name} {array.dtype.newbyteorder('<').str} {list(array.shape)}\n"
        digest.update(about.encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def _safetensors() -> Any:
    """Return the package, which not everybody needs."""
    with needed_by("Model files", "save"):
        import safetensors
        import safetensors.numpy
    return safetensors
