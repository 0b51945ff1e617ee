"""Errors for people: what was wrong, where, what to do. The command line prints them without a traceback."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP)
"""Numbers of the errors with which a file system refuses to lock a file."""
_MOUNTED = "choose a local disk (--out, INITBENCH_CACHE), or mount this one with locks (NFS: its lock service; Lustre: -o flock)"
_OF_THE_SYSTEM = {
    errno.ENOSPC: ("the disk is full", "free space and run the same command again"),
    errno.EDQUOT: ("your quota on the disk is used up", "free space and run the same command again"),
    errno.EROFS: ("the file system can only be read", "choose another folder (--out, INITBENCH_CACHE)"),
    errno.EACCES: ("access is denied", "ask for the right to write there, or choose another folder (--out, INITBENCH_CACHE)"),
    errno.EPERM: ("access is denied", "ask for the right to write there, or choose another folder (--out, INITBENCH_CACHE)"),
    **dict.fromkeys(NO_LOCKS, ("the file system gives no locks", _MOUNTED)),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n), or take fewer --jobs"),
    errno.ENFILE: ("too many files are open on this machine", "take fewer --jobs"),
    errno.EIO: ("the disk does not answer as it should", "look at the disk, then run the same command again"),
    errno.ESTALE: ("the file server has lost the file", "run the same command again"),
    errno.ENOMEM: ("the system gives no more memory", "take fewer --jobs, or raise the limit (ulimit -v)"),
}
"""What was wrong and what to do, by the number of an error of the system."""
_NUMBER = re.compile(r"\bos error (\d+)|\bcode: (\d+)")  # how libraries written in Rust tell it


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
    if not near:
        return f"known: {', '.join(names)}"
    return f"did you mean {' or '.join(near)}?"


def of_the_system(error: BaseException) -> str:
    """Says what was wrong, where and what to do, for an error that the system has a number for; "" for others.

    Args:
        error: an `OSError`, or one of a library that writes files itself: it has the number in its text, or came while an
            `OSError` was in hand, as torch's writer has it.
    """
    if isinstance(error.__context__, OSError) and not isinstance(error, OSError | InitbenchError):
        error = error.__context__
    number = getattr(error, "errno", None)
    written = _NUMBER.search(str(error))
    if number is None and written is not None:
        number = int(written[1] or written[2])
    if number not in _OF_THE_SYSTEM:
        return ""
    wrong, remedy = _OF_THE_SYSTEM[number]
    return f"{wrong} ({getattr(error, 'filename', None) or 'unknown file'}): {remedy}"
