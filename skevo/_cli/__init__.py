"""The command line: ``skevo``, or ``python -m skevo``.

A file per command; `program` has what they share from the outside: the parser, the exit status and
what is said of errors.
"""

from .program import main

__all__ = ["main"]
