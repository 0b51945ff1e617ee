"""On-disk cache: folders of arrays named by what they were made from, written atomically, checked while they are read.

INITBENCH_CACHE/<kind>/<key>/
    meta.json     layout, sizes, checksums of blocks, a table of values, and the sha256 of all of this
    <name>.npy    an array

INITBENCH_STAGE, a folder on a node's own disk, holds copies of the volumes that were read on the node, in the same layout.

Checksums are CRC-32 of each MiB of a file. They are there for accidents: CRC-32 finds every single changed bit and every burst of
up to 32 bits, and misses other damage of a MiB once in four billion times. It takes in 4 GB a second where sha256 takes 1.8 and
blake2b 0.9 (one core of an AMD EPYC), so the check costs less than reading the file. It does not find a cache that was forged.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import psutil
from numpy.typing import NDArray

from initbench import digest, staging
from initbench.errors import InitbenchError

ENVIRONMENT = "INITBENCH_CACHE"
STAGE = "INITBENCH_STAGE"
STAGED = "volumes"  # the kind of items that is copied: what training and evaluation read again and again
LAYOUT = 2  # the first had no checksums
CONTENT = "content"  # in the values of an item: digest of the case that it was made from, as its data set gives it
_META = "meta.json"
_BLOCK = 2**20  # bytes that have a checksum of their own
_HEADER = 1024  # bytes; numpy's header of a plain array takes 128


class DamagedError(InitbenchError):
    """An array of the cache is not what was written; its item was removed."""


def root() -> Path:
    """Returns where the cache lives: INITBENCH_CACHE, else the user's cache folder."""
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        return Path(chosen).expanduser()
    return platformdirs.user_cache_path("initbench")


# --- items ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """A cached folder: named arrays, read when they are asked for, and a small JSON table.

    Attributes:
        files: size and checksums of each array's file, by the file's name.
    """

    folder: Path
    meta: dict[str, Any]
    files: dict[str, dict[str, Any]]

    def array(self, name: str) -> NDArray[Any]:
        """Reads a copy of the array, and checks it in the same pass.

        Raises:
            DamagedError: it is not what was written. The item was removed.
        """
        path, known = self.folder / f"{name}.npy", self.files[f"{name}.npy"]
        try:
            content = _checked(path, known["size"], known["checksums"])
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            if content is not None:
                return _array(content)
            reason = "its checksums are others than when it was written"
        discard(self.folder)
        raise DamagedError(f"the cached array {path} was damaged ({reason}), so it was removed")

    def mapped(self, name: str) -> NDArray[Any]:
        """Maps the array in its file, of which the system reads what is touched, and gives it back when memory is short.

        Nothing is checked. The mapping is private: what somebody writes there reaches neither the file nor anybody else.
        """
        found: NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)
        return found

    def check(self) -> None:
        """Reads every array.

        Raises:
            DamagedError: one is not what was written. The item was removed.
        """
        for name in self.files:
            self.array(name.removesuffix(".npy"))


def _checked(path: Path, size: int, checksums: list[int]) -> NDArray[np.uint8] | None:
    """Reads the bytes of a file; None where a block has another checksum than it had when it was written."""
    content = np.empty(size, np.uint8)
    view = content.data
    with path.open("rb") as file:
        for number, checksum in enumerate(checksums):
            block = view[number * _BLOCK : (number + 1) * _BLOCK]
            if file.readinto(block) < len(block) or zlib.crc32(block) != checksum:
                return None
    return content


def _array(content: NDArray[np.uint8]) -> NDArray[Any]:
    """Returns the array that `numpy.save` wrote, without another copy of it."""
    header = io.BytesIO(content[:_HEADER].tobytes())
    np.lib.format.read_magic(header)
    shape, _, dtype = np.lib.format.read_array_header_1_0(header)
    return content[header.tell() :].view(dtype).reshape(shape)


class _Summing:
    """A file to write to that notes its size and the checksum of each block."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file = file
        self.size = 0
        self.checksums: list[int] = []

    def write(self, data: bytes | memoryview) -> int:
        """Writes all of it."""
        view = memoryview(data)
        while view:
            filled = self.size % _BLOCK
            part = view[: _BLOCK - filled]
            if filled:
                self.checksums[-1] = zlib.crc32(part, self.checksums[-1])
            else:
                self.checksums.append(zlib.crc32(part))
            self._file.write(part)
            self.size += len(part)
            view = view[len(part) :]
        return len(data)


def read_item(kind: str, key: str) -> Item | None:
    """Reads the item of a key. None where there is none, or it is not whole or of an older layout: then it is removed.

    Arrays are not read here; `Item.array` checks what it reads.
    """
    folder = root() / kind / key
    if not folder.is_dir():  # first of all: what another process writes from here on is not ours to remove
        return None
    item = _read_item(folder)
    if item is None:
        discard(folder)
        return None
    if kind == STAGED and os.environ.get(STAGE):
        return _staged(item, Path(os.environ[STAGE]).expanduser() / kind / key)
    return item


def _staged(item: Item, place: Path) -> Item:
    """Returns the copy of an item on the disk of this node, made where it is missing; the item itself where it cannot be made."""
    there = _read_item(place)
    if there is not None and there.files == item.files:
        return there
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():  # a copy of what has been made anew since
            discard(place)
        with staging.beside(place) as temporary:
            shutil.copytree(item.folder, temporary, dirs_exist_ok=True)
            Item(temporary, item.meta, item.files).check()
            with contextlib.suppress(OSError):  # another process of the node was first
                temporary.rename(place)
    except (OSError, shutil.Error, DamagedError):  # the disk is full, or the item is damaged: whoever reads it mends it
        return item
    return _read_item(place) or item


def _read_item(folder: Path) -> Item | None:
    try:
        meta = json.loads((folder / _META).read_text("utf-8"))
        written = meta.pop("digest")
        whole = meta["layout"] == LAYOUT and digest.of_json(meta) == written
        for name, known in meta["files"].items():
            whole = whole and (folder / name).stat().st_size == known["size"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not whole:
        return None
    return Item(folder, meta["values"], meta["files"])


def items(kind: str) -> Iterator[Item]:
    """Lists all items of a kind that are whole and of this layout, as far as that is known without reading their arrays."""
    for meta in sorted((root() / kind).glob(f"[!.]*/{_META}")):
        item = _read_item(meta.parent)
        if item is not None:
            yield item


def discard(folder: Path) -> None:
    """Removes an item. Its place is free at once, for whoever makes it again meanwhile."""
    with contextlib.suppress(OSError), staging.beside(folder) as away:
        folder.rename(away / "item")
    shutil.rmtree(folder, ignore_errors=True)  # where it could not be moved, as on a full disk


def write(kind: str, key: str, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any], *, sync: bool = True) -> Item:
    """Writes an item and returns it. A process that writes the same key at the same time is harmless: the first one stays.

    Args:
        kind: folder of the item's place.
        key: name of its place.
        arrays: by name.
        values: JSON.
        sync: whether a power cut may not cost the item. An item that is cut short is noticed and made again in any case.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    place = root() / kind / key
    place.parent.mkdir(parents=True, exist_ok=True)
    with staging.beside(place) as temporary:
        files = {}
        for name, array in arrays.items():
            files[f"{name}.npy"] = _save(temporary / f"{name}.npy", array)
        table = {"layout": LAYOUT, "files": files, "values": dict(values)}
        (temporary / _META).write_text(json.dumps(table | {"digest": digest.of_json(table)}), "utf-8")
        if sync:
            staging.sync(temporary)
        for _ in range(2):  # what has the place may not be whole; it is removed when it is read, and there is room then
            with contextlib.suppress(OSError):  # another process was first
                temporary.rename(place)
            item = read_item(kind, key)
            if item is not None:
                return item
    raise OSError(f"{place} could not be written")


def _save(path: Path, array: NDArray[Any]) -> dict[str, Any]:
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        summing = _Summing(file)  # numpy.save would copy the array on its way to what is no plain file
        np.lib.format.write_array_header_1_0(summing, np.lib.format.header_data_from_array_1_0(array))
        summing.write(array.reshape(-1).view(np.uint8).data)
    return {"size": summing.size, "checksums": summing.checksums}


def remove_abandoned() -> None:
    """Removes what killed processes left half-written."""
    for kind in root().glob("[!.]*/"):
        staging.remove_abandoned(kind)


# --- digests of files -------------------------------------------------------------------------------------------------

_SMALL = 2**20  # bytes; below this, hashing again is as fast as looking the digest up
# Seconds that a file has to have been left alone before its digest is remembered: two changes within one tick of a file system's
# clock (10 ms on Linux, 2 s on FAT) have the same time, and the clock of a file server may be behind ours.
_SETTLED = 60.0
# File systems that give every change of a file a new time of change which no program can set. On others (FAT, SMB, most of FUSE)
# that time may be missing or be the time of the content, which tools that copy files preserve: there every file is read again.
_TRUSTED = {
    *(
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "bcachefs",
        "zfs",
        "f2fs",
        "jfs",
        "tmpfs",
        "overlay",
        "squashfs",
        "apfs",
        "hfs",
        "ufs",
    ),
    *("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph"),
}
_digests: dict[_State, str] = {}
_reading_everything: ContextVar[dict[_State, str] | None] = ContextVar("_reading_everything", default=None)


@dataclass(frozen=True)
class _State:
    """What the file system says of a file. Where none of it changed, nothing wrote to the file."""

    path: str
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


def file_digest(path: Path) -> str:
    """Returns the sha256 (hex) of a file's bytes.

    A data set is gigabytes, and every command asks. So the digest is remembered as long as inode, size, time of modification and
    time of change stay the same, and the file had been left alone for a minute when it was read.

    Raises:
        OSError: the file cannot be read.
    """
    state = _state(path)
    local = _reading_everything.get()
    if local is None:
        known = remembered_digest(path)
    else:
        known = local.get(state)
    if known is not None:
        return known
    asked = time.time()
    made = digest.of_file(path)
    if local is not None:
        local[state] = made
    settled = asked - state.changed_ns / 1e9 > _SETTLED
    if settled and _is_trusted(str(Path(state.path).parent)):
        _remember(state, made)
    return made


def remembered_digest(path: Path) -> str | None:
    """Returns the sha256 that a file had when it was last read, None where something may have written to it since."""
    state = _state(path)
    if state not in _digests and state.size >= _SMALL:
        item = read_item("digests", _key(state))
        if item is not None:
            _digests[state] = str(item.meta["sha256"])
    return _digests.get(state)


@contextlib.contextmanager
def reading_everything() -> Iterator[None]:
    """Inside the block no digest is believed that was remembered before it: every file is read, once."""
    token = _reading_everything.set({})
    try:
        yield
    finally:
        _reading_everything.reset(token)


def _state(path: Path) -> _State:
    with path.open("rb") as file:  # opening asks a file server; the times of a path may be a minute old
        status = os.fstat(file.fileno())
    return _State(os.path.realpath(path), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _key(state: _State) -> str:
    return digest.of_json(asdict(state))[:32]


def _remember(state: _State, made: str) -> None:
    _digests[state] = made
    if state.size < _SMALL:
        return
    key = _key(state)
    item = read_item("digests", key)
    if item is not None and item.meta["sha256"] != made:
        discard(item.folder)
    write("digests", key, {}, {"sha256": made}, sync=False)


@functools.cache
def _is_trusted(folder: str) -> bool:
    """Returns whether the file system of a folder keeps times of change; false where it cannot be told."""
    try:
        mounted = psutil.disk_partitions(all=True)
    except (OSError, psutil.Error):
        return False
    place = None
    for part in mounted:
        if Path(folder).is_relative_to(part.mountpoint) and (place is None or _depth(part) > _depth(place)):
            place = part
    return place is not None and place.fstype in _TRUSTED


def _depth(part: Any) -> int:
    return len(Path(part.mountpoint).parts)
