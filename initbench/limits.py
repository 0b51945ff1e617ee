"""What a machine can hold, asked before anything is allocated or read: headers, recipes and files may claim any size."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path

from initbench.errors import DataError
from initbench.units import gib

MAX_VOXELS = 2**31  # what asks for more is a damaged or hostile file, not an examination
MAX_RECORD = 8 * 2**20  # bytes of a record; a data set of 50,000 cases makes one of some 5 MiB
MAX_NOTE = 64 * 2**20  # bytes of a note of what was asked; a run takes a thousand
MAX_STATE = 2**20  # bytes of what a run in hand says of itself; it says some hundred
MAX_TABLE = 256 * 2**20  # bytes of a table of cases or a learning curve; a row takes a hundred
MAX_SLICE = 64 * 2**20  # bytes of a slice of one case


def check_memory(shape: Sequence[int], bytes_per_voxel: int, what: str, remedy: str) -> None:
    """Refuses to make an array of `shape` that the memory does not hold.

    Args:
        shape: of the array.
        bytes_per_voxel: of everything that is held at once while it is made.
        what: begins the message, as in ``case 3: reading a.nii.gz``.
        remedy: ends it.

    Raises:
        DataError: names both numbers.
    """
    import psutil  # not needed by most commands, and not quickly imported

    needed, free = math.prod(shape) * bytes_per_voxel, psutil.virtual_memory().available
    if needed > free:
        raise DataError(f"{what}: {tuple(shape)} voxels take {gib(needed)} of memory, {gib(free)} are free; {remedy}")


def open_regular(path: Path, most: int | None = None) -> BufferedReader:
    """Opens a file for reading that may be anything: nothing else than a regular file is opened, so nobody waits for a pipe.

    Args:
        path: of the file, or of a link to it.
        most: bytes that it may have; any number by default.

    Raises:
        OSError: there is no such file, it may not be read, it is no regular file, or it is too large; `strerror` says which.
    """
    try:
        _check_regular(os.stat(path), most)  # before it is opened: to open a device may do something
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except ValueError:  # a name with a zero in it
        raise OSError(0, "no file can have this name") from None
    try:
        _check_regular(os.fstat(descriptor), most)
        return open(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def _check_regular(found: os.stat_result, most: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "it is no regular file")
    if most is not None and found.st_size > most:
        raise OSError(0, f"it has {found.st_size:,} bytes, more than the {most:,} that are read")


def read_regular(path: Path, most: int) -> bytes:
    """Reads the bytes of a regular file of `most` bytes at most.

    Raises:
        OSError: as `open_regular` says, or the file is longer than its size, as one that grows.
    """
    with open_regular(path, most) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1)  # not `most`: a buffer of that size would take longer than small files
    if len(data) > size:
        raise OSError(0, "it is longer than the system says")
    return data
