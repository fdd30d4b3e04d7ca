"""The program: its commands, its exit status, and what it says of errors."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._version import __version__
from . import compare, export, fit, predict, show
from .errors import CommandError
from .messages import say
from .parsing import Parser

__all__ = ["main"]

# As a shell reports of programs that a signal has ended: 128 and the number of SIGINT or SIGPIPE.
_INTERRUPTED, _BROKEN_PIPE = 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, default=None
        Of the command line; those of the process if None.

    Returns
    -------
    int
        Exit status: 0, or 1 if the command has failed, 2 if it makes no sense, 130 if it was
        interrupted by Ctrl-C, 141 if nobody reads its output any more.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal cannot show is no reason to stop.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        status = _run(arguments or ["compare"])
    try:
        sys.stdout.flush()
    except OSError as error:
        # So that the interpreter does not try again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or _failed(error)
    return status


def _run(arguments: Sequence[str]) -> int:
    """Parse and run a command, and say what is wrong if it fails."""
    try:
        options, unknown = _parser().parse_known_args(arguments)
        if unknown:
            # By the command's own parser, which shows the options that the command has.
            options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        status: int = options.run(options)
    except SystemExit as end:
        # The parser has said what there is to say.
        return int(end.code or 0)
    except KeyboardInterrupt as error:
        say(f"interrupted{f': {error}' if str(error) else ''}")
        return _INTERRUPTED
    except (CommandError, ImportError, MemoryError) as error:
        say(f"error: {str(error) or 'there is not enough memory.'}")
        return getattr(error, "status", 1)
    except OSError as error:
        return _failed(error)
    return status


def _failed(error: OSError) -> int:
    """Say what could not be written, and return the exit status."""
    if isinstance(error, BrokenPipeError):
        return _BROKEN_PIPE
    say(f"error: cannot write {error.filename or 'the output'}: {error.strerror or error}.")
    return 1


def _parser() -> Parser:
    is_module = Path(sys.argv[0]).name == "__main__.py"
    parser = Parser(
        prog="python -m skevo" if is_module else "skevo",
        description="Evolving networks for tables in CSV or Parquet files. Without a command: "
        "compare, on tables that scikit-learn bundles.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"skevo {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (fit, predict, show, export, compare):
        command.add_parser(commands)
    return parser


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"warning: {message}")
