"""The errors that a user is meant to read.

Each carries one line: what was got, what was expected, what to do. The command line prints that line and
exits with `exit_code`; a library user catches `CrosspatchError`.
"""


class CrosspatchError(Exception):
    """Something went wrong that the message explains; the command line exits with 1."""

    exit_code = 1


class UsageError(CrosspatchError, ValueError):
    """The input cannot be used as it was given; the command line exits with 2."""

    exit_code = 2


class TrainingDiverged(CrosspatchError):
    """The training loss stopped being a number; what was saved until then is kept."""
