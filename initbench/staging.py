"""Folders that are written beside their place, put on the disk, and moved there whole; what killed processes left of them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_NAME = 40  # letters of the folder's name, and of the machine's, in a temporary name; file systems take 255 bytes
_MARK = ".unfinished"  # ends every temporary name: only these are removed, for people keep hidden folders of their own
_ABANDONED = 24 * 3600.0  # seconds; no folder is written for a day without a change in it, and no two clocks differ by as much
_AT_ONCE = 8  # threads that sync
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)  # what network file systems answer where folders cannot be synced


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `folder`. It is removed when the block ends, unless it was moved.

    This process holds a lock on it inside the block, so that `remove_abandoned` of another process leaves it alone. A lock dies
    with its process and moves with the folder.

    Raises:
        OSError: the folder cannot be made.
    """
    temporary, lock = _make(folder)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _make(folder: Path) -> tuple[Path, int | None]:
    """Makes the temporary folder, and returns it with the file descriptor of its lock, None on a file system that locks none."""
    while True:
        temporary = Path(tempfile.mkdtemp(_MARK, f".{folder.name[:_NAME]}-{_host()}-", folder.parent))
        try:
            lock = _lock(temporary, wait=True)
        except FileNotFoundError:
            continue  # another process took it for abandoned before it was locked
        if temporary.exists():
            return temporary, lock
        if lock is not None:
            os.close(lock)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """Locks a folder, and returns the open file descriptor that holds the lock, None on a file system that locks no folders.

    Raises:
        BlockingIOError: another process holds it, and this one is not to wait.
        FileNotFoundError: the folder is gone.
    """
    how = fcntl.LOCK_EX
    if not wait:
        how |= fcntl.LOCK_NB
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _host() -> str:
    """This machine in names of folders, without the dash that separates their parts."""
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:_NAME]


def sync(path: Path) -> None:
    """Puts a file, or a folder with everything below it, on the disk: after a power cut a renamed file may be empty without it.

    Raises:
        OSError: the disk does not take it.
    """
    below = []
    if path.is_dir():
        below = sorted(path.rglob("*"))
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # file systems write what is asked for together in one go
        list(pool.map(_sync, below))
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def move(temporary: Path, place: Path) -> None:
    """Renames a file or folder that was synced, and puts the new name on the disk.

    Raises:
        OSError: the place is taken, or the disk does not take it.
    """
    temporary.rename(place)
    _sync(place.parent)


def remove_abandoned(parent: Path) -> None:
    """Removes the temporary folders in `parent` whose processes were killed.

    On this machine that is asked of the folder's lock. A lock may mean nothing between machines that share a folder, so
    temporary folders of other machines are removed when nothing in them has changed for a day.
    """
    for folder in parent.glob(f".*-*{_MARK}"):
        with contextlib.suppress(OSError):  # it is held, or it was moved or removed meanwhile
            _remove_where_abandoned(folder)


def _remove_where_abandoned(folder: Path) -> None:
    if not folder.is_dir() or folder.is_symlink():
        return
    lock = _lock(folder, wait=False)
    try:
        is_ours = folder.name.removesuffix(_MARK).rpartition("-")[0].endswith(f"-{_host()}")
        if (is_ours and lock is not None) or _age(folder) > _ABANDONED:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        if lock is not None:
            os.close(lock)


def _age(folder: Path) -> float:
    """Seconds since the folder or something in it was last written."""
    newest = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    return time.time() - newest
