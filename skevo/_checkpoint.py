"""Checkpoint files: a fit's state on disk, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

__all__ = ["CheckpointFile", "open_checkpoint"]

_MAGIC = b"skevo checkpoint\n"


class CheckpointFile:
    """The file of one fit, which nobody else writes.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state"

    def load(self) -> Any:
        """Return what was saved last; None if there is nothing, or it is not whole."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        start = len(_MAGIC) + hashlib.sha256().digest_size
        digest, payload = content[len(_MAGIC) : start], content[start:]
        if content.startswith(_MAGIC) and hashlib.sha256(payload).digest() == digest:
            return pickle.loads(payload)
        warnings.warn(
            f"The checkpoint {self._path} is damaged; the fit starts from the beginning.",
            stacklevel=2,
        )
        return None

    def save(self, state: Any) -> None:
        """Replace what was saved; whoever is killed meanwhile leaves the old or the new state."""
        payload = pickle.dumps(state, protocol=pickle.HIGHEST_PROTOCOL)
        part = self._path.with_suffix(".part")
        with part.open("wb") as file:
            file.write(_MAGIC + hashlib.sha256(payload).digest())
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)

    def remove(self) -> None:
        """Remove what was saved: the fit is done."""
        self._path.unlink(missing_ok=True)


@contextmanager
def open_checkpoint(directory: Path, key: str) -> Iterator[CheckpointFile]:
    """Open the checkpoint file of a fit, in a folder that is this fit's alone until it is closed.

    Parameters
    ----------
    directory : Path
    key : str
        What the fit is known by. Fits with the same key that run beside each other get folders of
        their own.
    """
    for number in count():
        folder = directory / f"{key}-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        # The system gives up the lock when a process dies, however it dies.
        lock = FileLock(folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        try:
            yield CheckpointFile(folder)
        finally:
            lock.release()
        return
