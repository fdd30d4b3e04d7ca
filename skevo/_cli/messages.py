"""What is said beside the results, on the standard error stream."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys

from ..display._style import shorten

__all__ = ["Progress", "counted", "say"]

# Back to the start of the line, and nothing left on it.
_CLEAR = "\r\x1b[K"


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _print(text: str, end: str = "\n") -> None:
    # That nobody reads it is no reason to stop.
    with contextlib.suppress(OSError):
        print(text, end=end, file=sys.stderr, flush=True)


def say(message: str) -> None:
    """Say something, in the place of a line of progress if there is one."""
    _print(f"{_CLEAR if _is_terminal() else ''}skevo: {message}")


def counted(number: int, what: str) -> str:
    """Return a number of things as text, given what one of them is called."""
    return f"{number} {what}{'' if number == 1 else 's'}"


class Progress(io.TextIOBase):
    """A stream for what fits print while they run; on a terminal each line replaces the last.

    Where nobody looks on there are the lines of `done` alone.

    Parameters
    ----------
    quiet : bool
        Whether nothing is to be shown.
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self.is_live = not quiet and _is_terminal()
        self.label = ""

    def write(self, text: str) -> int:
        """Show a line in the place of the one before."""
        if self.is_live and text.strip():
            line = f"{self.label}: {' '.join(text.split())}"
            # A line that is wrapped would not be replaced. What is left to do is at its end.
            line = shorten(line, shutil.get_terminal_size().columns - 1)
            _print(f"{_CLEAR}{line}", end="")
        return len(text)

    def done(self, text: str) -> None:
        """Show a line that stays."""
        if not self._quiet:
            start = _CLEAR if self.is_live else ""
            _print(f"{start}{self.label}: {text}")

    def clear(self) -> None:
        """Take away the line that is shown."""
        if self.is_live:
            _print(_CLEAR, end="")
