"""Devices of workers: what travels is on the CPU, what is computed with may be on a GPU.

A client needs no GPU for workers that have one, nor need all workers have one.
"""

from __future__ import annotations

import io
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import torch

__all__ = ["moved"]


def moved(value: Any, before: torch.device, after: torch.device) -> Any:
    """Return a value with its tensors on another device, however deep they lie, in closures too.

    Parameters
    ----------
    value : object
        Of what can be pickled.
    before, after : torch.device
        The value itself is returned if they are the same.
    """
    if before == after:
        return value
    written = io.BytesIO()
    torch.save(value, written, pickle_module=cloudpickle)
    written.seek(0)
    # It was written a line above: nobody else could have put code into it.
    return torch.load(written, map_location=after, weights_only=False)
