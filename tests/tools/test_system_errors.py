"""Errors of the system say what was wrong, where, and what to do."""

from __future__ import annotations

import errno
import os

import pytest

from initbench.errors import InitbenchError, of_the_system


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "the disk is full (runs/a.pt): free space and run the same command again"),
        (errno.EDQUOT, "your quota on the disk is used up (runs/a.pt): free space"),
        (errno.EROFS, "the file system can only be read (runs/a.pt): choose another folder"),
        (errno.EACCES, "access is denied (runs/a.pt): ask for the right"),
        (errno.ENOLCK, "the file system gives no locks (runs/a.pt): choose a local disk"),
        (errno.EMFILE, "too many files are open (runs/a.pt): raise the limit"),
        (errno.ESTALE, "the file server has lost the file (runs/a.pt): run the same command again"),
    ],
)
def test_what_to_do_is_said(number: int, says: str) -> None:
    assert of_the_system(OSError(number, os.strerror(number), "runs/a.pt")).startswith(says)


@pytest.mark.parametrize("text", ["Error while serializing: No space left on device (os error 28)", "Os { code: 28, kind: x }"])
def test_libraries_that_write_files_themselves(text: str) -> None:
    assert of_the_system(RuntimeError(text)) == "the disk is full (unknown file): free space and run the same command again"


def test_an_error_that_came_while_a_file_was_written() -> None:
    """torch tells a full disk as a position that it did not expect."""
    told = RuntimeError("unexpected pos 704 vs 598")
    told.__context__ = OSError(errno.ENOSPC, "No space left on device")
    assert of_the_system(told).startswith("the disk is full")


@pytest.mark.parametrize("error", [ValueError("28"), OSError(errno.ENOENT, "x"), InitbenchError("y")])
def test_other_errors_are_not_explained(error: Exception) -> None:
    assert of_the_system(error) == ""
