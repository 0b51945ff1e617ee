"""Errors for people: what was wrong, where, what to do. The command line prints them without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InitbenchError(Exception):
    """Something failed that the user can do something about. Exit code 1."""

    exit_code = 1


class UsageError(InitbenchError):
    """The request itself is wrong. Exit code 2."""

    exit_code = 2


class InterruptedRunError(InitbenchError):
    """Ctrl-C. Exit code 130, as a shell has it."""

    exit_code = 130


class DataError(InitbenchError):
    """A case, file or folder of a data set is not usable."""


class MissingDataError(DataError):
    """A data set is not on this machine."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Asks for the known names that are spelled nearly as one that is not known; lists all of them where none is near."""
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
