"""Nursery: where groups of members grow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .course import Generation, Growing
from .evolution import advance_all
from .group import Group
from .grower import Grower
from .table import AnyTable

__all__ = ["HERE", "Make", "Nursery"]

# Makes the grower of a group from a table and that of the validation rows.
Make = Callable[[Group, AnyTable, AnyTable], Grower]


class Nursery(Protocol):
    """Where groups of members grow: here, or elsewhere side by side."""

    def start(self, make: Make, group: Group, table: AnyTable, given: AnyTable) -> Growing:
        """Return what stands for the grower of a group."""
        ...

    def advance(self, groups: Sequence[Any], first: bool) -> list[list[Generation]]:
        """Have groups that were started here take a generation; see `advance_all`."""
        ...


class _Here:
    """In this thread, one group after the other."""

    def start(self, make: Make, group: Group, table: AnyTable, given: AnyTable) -> Grower:
        """Return the grower of a group."""
        return make(group, table, given)

    def advance(self, groups: Sequence[Any], first: bool) -> list[list[Generation]]:
        """Have groups take a generation."""
        return advance_all(groups, first)


HERE: Nursery = _Here()
