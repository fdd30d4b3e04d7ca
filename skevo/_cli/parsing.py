"""Parsing: what all commands' options have in common."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["Parser", "add_command", "integer", "parameter", "real"]

Commands = Any


class Parser(argparse.ArgumentParser):
    """A parser whose errors begin as all others do."""

    def error(self, message: str) -> NoReturn:
        """Say how the command is used and what is wrong, and end."""
        self.print_usage(sys.stderr)
        self.exit(2, f"skevo: error: {message}\n")


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    about: str,
    *examples: str,
) -> Parser:
    """Return the parser of a new command.

    Parameters
    ----------
    commands : argparse action
        What it is one of.
    name : str
    run : callable
        Takes the options, returns the exit status.
    about : str
        One sentence.
    *examples : str
        Command lines.
    """
    parser: Parser = commands.add_parser(
        name,
        help=about[0].lower() + about[1:].rstrip("."),
        description=about,
        epilog="\n  ".join(["examples:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def integer(least: int) -> Callable[[str], int]:
    """Return a function that reads an integer of at least so much."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"must be an integer >= {least}, got {text!r}")
        return value

    return read


def real(low: float, high: float = float("inf")) -> Callable[[str], float]:
    """Return a function that reads a number between two others."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = low
        if not low < value < high:
            what = f"> {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
            raise argparse.ArgumentTypeError(f"must be a number {what}, got {text!r}")
        return value

    return read


def parameter(text: str) -> tuple[str, Any]:
    """Return name and value of ``name=value``; what is no value of Python is text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"must be name=value, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return name, value
