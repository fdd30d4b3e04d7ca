"""Files that are written: whole or not at all, and over another only if that is wanted."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import CommandError

__all__ = ["STANDARD", "check_output", "new_file", "open_output"]

# What stands for the standard input or output.
STANDARD = "-"
# How a file system says that it has no hard links.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def check_output(path: str, force: bool, *inputs: str | None, ordinary: bool = False) -> None:
    """Raise CommandError if a file cannot be written, before work is spent on it.

    Parameters
    ----------
    path : str
    force : bool
        Whether a file that is there may be replaced.
    *inputs : str or None
        What is read, and must not be replaced.
    ordinary : bool, default=False
        Whether pipes and devices will not do.
    """
    if path == STANDARD:
        return
    target = _target(path)
    for name in inputs:
        if name not in (None, STANDARD) and target == _target(str(name)):
            raise CommandError(f"{path} is read, so it cannot be written.")
    if not target.parent.is_dir():
        raise CommandError(f"cannot write {path}: there is no folder {target.parent}.")
    if target.is_dir():
        raise CommandError(f"cannot write {path}: it is a folder.")
    if target.is_file() and not force:
        raise _exists(path)
    if _is_special(target):
        if ordinary:
            raise _no_ordinary(path)
    elif not os.access(target.parent, os.W_OK):
        raise CommandError(f"cannot write {path}: its folder is read-only.")


@contextmanager
def open_output(path: str, force: bool) -> Iterator[IO[bytes]]:
    """Open a file, the standard output, or a pipe or device, to write bytes to.

    Parameters
    ----------
    path : str
    force : bool
        Whether a file that is there may be replaced.
    """
    if path == STANDARD:
        sys.stdout.flush()
        yield sys.stdout.buffer
    elif _is_special(_target(path)):
        with open(path, "wb") as file:
            yield file
    else:
        with new_file(path, force) as part, part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def new_file(path: str, force: bool) -> Iterator[Path]:
    """Give a name to write to, and move what was written to where it should be.

    Who is interrupted leaves what was there before. A file that has appeared meanwhile stays,
    unless it may be replaced.

    Parameters
    ----------
    path : str
    force : bool
        Whether a file that is there may be replaced.

    Yields
    ------
    Path
        In the same folder.
    """
    target = _target(path)
    if _is_special(target):
        raise _no_ordinary(path)
    part = target.with_name(f".skevo-{uuid.uuid4().hex}.part")
    try:
        yield part
        if force:
            if target.exists():
                shutil.copymode(target, part)
            part.replace(target)
        else:
            _move(part, target)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)


def _move(part: Path, target: Path) -> None:
    """Move a file to a name that nobody has taken meanwhile."""
    try:
        os.link(part, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        target.open("xb").close()
        part.replace(target)


def _target(path: str) -> Path:
    """Return the file that a path stands for: through a link, what it points to."""
    return Path(os.path.realpath(path))


def _is_special(target: Path) -> bool:
    """Return whether there is a pipe or a device, which has no content to be kept."""
    return target.exists() and not target.is_file() and not target.is_dir()


def _no_ordinary(path: str) -> CommandError:
    return CommandError(f"cannot write {path}: it is no ordinary file.")


def _exists(path: str) -> CommandError:
    return CommandError(f"{path} exists; --force replaces it.")
