"""Devices: finding the one that is asked for, and taking what a fit left to another one."""

from __future__ import annotations

import io
import pickle
from typing import Any

import torch
from torch import Tensor

from .core.losses import TorchLoss
from .core.operators import Operator

__all__ = ["CPU", "find_device", "moved"]

CPU = torch.device("cpu")


def find_device(name: str) -> torch.device:
    """Return the device of a name, which this process must have; ``"auto"`` is a GPU if it can."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} is not available: {reason}") from error
    return device


def moved(value: Any, before: torch.device, after: torch.device) -> Any:
    """Return a value with its tensors on another device, however deep they lie.

    What is the same object in several places stays so, but for tensors. Functions of operators and
    of losses, which may be such that cannot be pickled, are left as they are.

    Parameters
    ----------
    value : object
        Of what can be pickled, but for those.
    before, after : torch.device
        The value itself is returned if they are the same.
    """
    if before == after:
        return value
    written = io.BytesIO()
    taking = _Taking(written)
    taking.dump(value)
    written.seek(0)
    return _Giving(written, taking.kept, after).load()


class _Taking(pickle.Pickler):
    """Pickle all but tensors and what holds functions, which are kept beside it."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.kept: list[Any] = []

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, (Tensor, TorchLoss, Operator)):
            return None
        self.kept.append(value)
        return len(self.kept) - 1


class _Giving(pickle.Unpickler):
    """Put them back, on another device."""

    def __init__(self, file: io.BytesIO, kept: list[Any], device: torch.device) -> None:
        super().__init__(file)
        self._kept, self._device = kept, device

    def persistent_load(self, number: int) -> Any:
        value = self._kept[number]
        return value if isinstance(value, Operator) else value.to(self._device)
