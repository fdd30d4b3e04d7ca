"""Blocks: how many rows are computed at a time."""

from __future__ import annotations

import torch

__all__ = ["on_device"]

# A GPU takes about as long for so many times the rows that are right for a CPU's cache: what it
# waits for is the call.
_GPU_TIMES = 64


def on_device(size: int, device: torch.device) -> int:
    """Return what a size of blocks, in rows or bytes, is on a device, given that of the CPU."""
    return size if device.type == "cpu" else _GPU_TIMES * size
