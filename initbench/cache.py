"""On-disk cache: folders of arrays named by what they were made from, written atomically, checked when read."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from initbench import digest

ENVIRONMENT = "INITBENCH_CACHE"
_META = "meta.json"


def root() -> Path:
    """Where the cache lives: INITBENCH_CACHE, else the user's cache folder."""
    chosen = os.environ.get(ENVIRONMENT)
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("initbench")


@dataclass(frozen=True)
class Item:
    """A cached folder: named arrays, mapped and not read, and a small JSON table."""

    folder: Path
    meta: dict[str, Any]

    def array(self, name: str) -> NDArray[Any]:
        """The array, memory-mapped read-only."""
        return np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


_SMALL = 2**20  # below this, hashing again is as fast as looking the digest up
_digests: dict[tuple[str, int, int], str] = {}


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file, remembered by path, size and time of change: a data set is gigabytes, and every command asks."""
    state = path.stat()
    key = (str(path.resolve()), state.st_size, state.st_mtime_ns)
    if key not in _digests:
        _digests[key] = digest.of_file(path) if state.st_size < _SMALL else _stored_digest(path, digest.of_json(key)[:32])
    return _digests[key]


def _stored_digest(path: Path, key: str) -> str:
    item = read_item("digests", key) or write("digests", key, {}, {"sha256": digest.of_file(path)})
    return str(item.meta["sha256"])


def read_item(kind: str, key: str) -> Item | None:
    """The item of a key, or None where there is none or it is not whole (then it is removed, to be made again)."""
    folder = root() / kind / key
    if not folder.is_dir():  # first of all: what another process writes from here on is not ours to remove
        return None
    try:
        meta = json.loads((folder / _META).read_text("utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in meta["sizes"].items())
    except (OSError, ValueError, KeyError, TypeError):
        whole, meta = False, {}
    if whole:
        return Item(folder, meta["values"])
    discard(folder)
    return None


def discard(folder: Path) -> None:
    """Removes an item."""
    shutil.rmtree(folder, ignore_errors=True)


def write(kind: str, key: str, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> Item:
    """Writes an item and returns it. A process that writes the same key at the same time is harmless: the first one stays."""
    parent = root() / kind
    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{key[:16]}-", dir=parent))
    try:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
        sizes = {file.name: file.stat().st_size for file in temporary.iterdir()}
        (temporary / _META).write_text(json.dumps({"sizes": sizes, "values": dict(values)}), "utf-8")
        with contextlib.suppress(OSError):  # the folder exists: another process was first
            temporary.rename(parent / key)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    item = read_item(kind, key)
    if item is None:
        raise OSError(f"{parent / key} could not be written")
    return item
