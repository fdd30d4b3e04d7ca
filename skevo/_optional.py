"""Packages that not everybody needs, and the extras that bring them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needed_by"]


@contextmanager
def needed_by(what: str, extra: str) -> Iterator[None]:
    """Have an import of what is not installed say how to install it.

    Parameters
    ----------
    what : str
        What needs the package: the plural that begins the sentence.
    extra : str
        The extra that brings it.

    Raises
    ------
    ImportError
        If a package that is imported within is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise ImportError(
            f"{what} require {package}: install it with pip install 'skevo[{extra}]'."
        ) from error
