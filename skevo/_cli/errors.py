"""What can go wrong for a user of the command line, in one sentence each."""

__all__ = ["CommandError", "UsageError"]


class CommandError(Exception):
    """A command could not do what it was asked to."""

    status = 1


class UsageError(CommandError):
    """What was asked makes no sense."""

    status = 2
