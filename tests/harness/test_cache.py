"""The cache: whole or not there, and one writer's folder whoever else writes."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import integers

from initbench import cache, digest

ARRAYS = {
    "a": np.arange(2000.0).reshape(20, 100),
    "b": np.ones(3, np.uint8),
    "none": np.zeros((1, 0), np.float32),
    "turned": np.arange(12, dtype=np.int16).reshape(3, 4).T,
    "large": np.random.default_rng(0).normal(size=(3, 2**17)),  # of three blocks and a header
}


@pytest.fixture(autouse=True)
def own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_round_trip() -> None:
    assert cache.read_item("kind", "key") is None
    written = cache.write("kind", "key", ARRAYS, {"x": [1, 2]})
    item = cache.read_item("kind", "key")
    assert item == written
    assert item is not None
    assert item.meta == {"x": [1, 2]}
    for name, array in ARRAYS.items():
        found = item.array(name)
        assert np.array_equal(found, array)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        found[...] = 0  # a copy: what is done to it stays with who asked
        assert np.array_equal(item.array(name), array)


@pytest.mark.parametrize("name", ["a.npy", "meta.json"])
@pytest.mark.parametrize("left", [0, 10, None])
def test_what_is_not_whole_is_removed(own_root: Path, name: str, left: int | None) -> None:
    file = cache.write("kind", "key", ARRAYS, {}).folder / name
    if left is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:left])
    assert cache.read_item("kind", "key") is None
    assert not (own_root / "kind" / "key").exists()
    assert np.array_equal(cache.write("kind", "key", ARRAYS, {}).array("a"), ARRAYS["a"])


def test_writers_at_the_same_time_are_harmless(own_root: Path) -> None:
    together = threading.Barrier(8)

    def write(i: int) -> float:
        together.wait()
        return float(cache.write("kind", "key", {"a": np.full(50_000, float(i))}, {"writer": i}).array("a").mean())

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(write, range(8)))
    item = cache.read_item("kind", "key")
    assert item is not None
    assert found == {float(item.meta["writer"])}, "everyone got the first one's numbers"
    assert [path.name for path in (own_root / "kind").iterdir()] == ["key"], "nothing is left behind"


def test_a_failed_write_leaves_nothing(own_root: Path) -> None:
    with pytest.raises(TypeError):
        cache.write("kind", "key", ARRAYS, {"x": object()})
    assert list((own_root / "kind").iterdir()) == []


# --- damage -----------------------------------------------------------------------------------------------------------


def zeros(content: bytearray, _: np.random.Generator) -> None:
    content[:] = bytes(len(content))


def a_bit(content: bytearray, rng: np.random.Generator) -> None:
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))


def a_sector(content: bytearray, rng: np.random.Generator) -> None:
    """A part that was never written."""
    start = int(rng.integers(max(1, len(content) - 512)))
    content[start : start + 512] = bytes(len(content[start : start + 512]))


def shifted(content: bytearray, _: np.random.Generator) -> None:
    content[:] = content[1:] + content[:1]


def swapped(content: bytearray, _: np.random.Generator) -> None:
    """Halves in the wrong order: the same bytes all in all."""
    half = len(content) // 2
    content[:] = content[half:] + content[:half]


DAMAGE = [zeros, a_bit, a_sector, shifted, swapped]


@pytest.mark.parametrize("name", ["a.npy", "b.npy", "turned.npy", "large.npy", "meta.json"])
@pytest.mark.parametrize("damage", DAMAGE)
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=integers(0, 2**32))
def test_damage_of_the_same_size_and_time_is_found(
    own_root: Path, damage: Callable[[bytearray, np.random.Generator], None], name: str, seed: int
) -> None:
    item = cache.write("kind", "key", ARRAYS, {"x": [0.1, 2]})
    file = item.folder / name
    status, content = file.stat(), bytearray(file.read_bytes())
    before = bytes(content)
    damage(content, np.random.default_rng(seed))
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    if content == before:  # a sector of zeros, or bytes that are all the same
        return
    again = cache.read_item("kind", "key")
    if name == "meta.json":
        assert again is None, "the table is checked when the item is looked up"
    else:
        assert again is not None, "arrays are checked when they are read"
        with pytest.raises(cache.DamagedError, match=name):
            again.array(file.stem)
    assert not (own_root / "kind" / "key").exists()
    whole = cache.write("kind", "key", ARRAYS, {"x": [0.1, 2]})
    assert np.array_equal(whole.array("large"), ARRAYS["large"])


def test_whoever_reads_one_array_pays_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    item = cache.write("kind", "key", ARRAYS, {})
    read: list[str] = []
    before = cache._checked

    def checked(path: Path, size: int, checksums: list[int]) -> Any:
        read.append(path.name)
        return before(path, size, checksums)

    monkeypatch.setattr(cache, "_checked", checked)
    item.array("b")
    assert read == ["b.npy"]
    item.check()
    assert read[1:] == [f"{name}.npy" for name in ARRAYS]


def without_checksums(item: cache.Item) -> dict[str, Any]:
    """As the first layout was."""
    return {"sizes": {name: known["size"] for name, known in item.files.items()}, "values": item.meta}


def of_another_layout(item: cache.Item) -> dict[str, Any]:
    table = {"layout": cache.LAYOUT + 1, "files": item.files, "values": item.meta}
    return table | {"digest": digest.of_json(table)}


@pytest.mark.parametrize("other", [without_checksums, of_another_layout])
def test_an_item_of_another_layout_makes_room(other: Callable[[cache.Item], dict[str, Any]]) -> None:
    item = cache.write("kind", "key", ARRAYS, {})
    (item.folder / "meta.json").write_text(json.dumps(other(item)), "utf-8")
    assert cache.read_item("kind", "key") is None
    assert not item.folder.exists()


def test_removed_files_are_damage_too() -> None:
    item = cache.write("kind", "key", ARRAYS, {})
    (item.folder / "a.npy").unlink()
    with pytest.raises(cache.DamagedError, match="No such file"):
        item.array("a")


# --- digests of files -------------------------------------------------------------------------------------------------


class Counted:
    """Counts the files that are hashed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._hash = digest.of_file
        monkeypatch.setattr(digest, "of_file", self)

    def __call__(self, path: Path) -> str:
        self.count += 1
        return self._hash(path)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as left alone at once, which takes a minute."""
    monkeypatch.setattr(cache, "_SETTLED", -1.0)
    cache._digests.clear()


def rewritten(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def replaced(path: Path, content: bytes) -> None:
    """Another file takes the name, as `rsync` and most editors do it."""
    other = path.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


def linked(path: Path, content: bytes) -> None:
    other = path.with_name("elsewhere")
    other.write_bytes(content)
    path.unlink()
    path.symlink_to(other)


def mapped(path: Path, content: bytes) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[:] = content
        view.flush()


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("size", [10, 2**20 + 10])
@pytest.mark.parametrize("change", [rewritten, replaced, linked, mapped])
def test_a_digest_follows_the_content(tmp_path: Path, change: Callable[[Path, bytes], None], size: int) -> None:
    """Size and time of modification stay; they are what tools preserve."""
    file = tmp_path / "file"
    file.write_bytes(b"a" * size)
    status = file.stat()
    first = cache.file_digest(file)
    assert cache.file_digest(file) == first
    change(file, b"b" * size)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == size
    assert cache.file_digest(file) == hashlib.sha256(b"b" * size).hexdigest()


@pytest.mark.usefixtures("settled")
def test_a_file_that_nothing_wrote_to_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a" * 2**20)
    counted = Counted(monkeypatch)
    first = cache.file_digest(file)
    assert cache.file_digest(file) == first
    cache._digests.clear()  # as in another process
    assert cache.file_digest(file) == first
    assert counted.count == 1


def test_a_file_that_was_just_written_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changes within a tick of the file system's clock have one time: the second one could not be told."""
    file = tmp_path / "file"
    file.write_bytes(b"a" * 2**20)
    written = file.stat().st_ctime
    counted = Counted(monkeypatch)
    for seconds, count in ((-3600.0, 1), (0.0, 2), (59.0, 3), (61.0, 4), (62.0, 4)):
        monkeypatch.setattr(cache, "time", SimpleNamespace(time=lambda now=written + seconds: now))
        cache.file_digest(file)
        assert counted.count == count, f"{seconds} s after the file was written"


@pytest.mark.usefixtures("settled")
def test_on_a_file_system_without_times_of_change_files_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a" * 2**20)
    mounts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=str(tmp_path), fstype="fuse.sshfs")]
    monkeypatch.setattr(cache.psutil, "disk_partitions", lambda all: mounts)
    counted = Counted(monkeypatch)
    for _ in range(2):
        cache._is_trusted.cache_clear()
        cache.file_digest(file)
    assert counted.count == 2
    cache._is_trusted.cache_clear()


@pytest.mark.usefixtures("settled")
def test_a_file_that_changes_while_it_is_read_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a" * 2**20)

    def hashed(path: Path) -> str:
        path.write_bytes(b"b" * 2**20)
        return "half of one and half of the other"

    monkeypatch.setattr(digest, "of_file", hashed)
    cache.file_digest(file)
    monkeypatch.undo()
    assert cache.file_digest(file) == hashlib.sha256(b"b" * 2**20).hexdigest()


@pytest.mark.usefixtures("settled")
def test_reading_everything_believes_nothing_and_reads_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that changes bytes without a write keeps every time. What is remembered is put right, too."""
    file = tmp_path / "file"
    file.write_bytes(b"a" * 2**20)
    right = cache.file_digest(file)
    key = cache._key(cache._state(file))
    cache.discard(cache.root() / "digests" / key)
    cache.write("digests", key, {}, {"sha256": "of the bytes that were there before the disk lost them"})
    cache._digests.clear()
    assert cache.file_digest(file) != right
    counted = Counted(monkeypatch)
    with cache.reading_everything():
        assert [cache.file_digest(file), cache.file_digest(file)] == [right, right]
    assert counted.count == 1
    cache._digests.clear()
    assert cache.file_digest(file) == right
    assert counted.count == 1


def test_root_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cache.ENVIRONMENT)
    assert cache.root().name == "initbench"


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.STAGE, str(tmp_path / "stage"))
    return tmp_path / "stage"


def test_volumes_are_read_from_the_disk_of_the_node(own_root: Path, stage: Path) -> None:
    written = cache.write("volumes", "key", ARRAYS, {"x": 1})
    item = cache.read_item("volumes", "key")
    assert item is not None
    assert item.folder == stage / "volumes" / "key"
    assert (item.meta, item.files) == (written.meta, written.files)
    for name, array in ARRAYS.items():
        assert np.array_equal(item.array(name), array)
    assert (own_root / "volumes" / "key").is_dir()
    cache.write("other", "key", ARRAYS, {})
    assert not (stage / "other").exists()


def test_a_damaged_copy_is_made_again(own_root: Path, stage: Path) -> None:
    file = cache.write("volumes", "key", ARRAYS, {}).folder / "large.npy"
    assert file.is_relative_to(stage)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(cache.DamagedError):
        read_large()
    assert np.array_equal(read_large(), ARRAYS["large"])


def test_what_is_damaged_is_not_copied(own_root: Path, stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cache.STAGE)
    file = cache.write("volumes", "key", ARRAYS, {}).folder / "large.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    monkeypatch.setenv(cache.STAGE, str(stage))
    with pytest.raises(cache.DamagedError):
        read_large()
    assert not (stage / "volumes" / "key").exists()
    assert not file.exists()  # so it is prepared again


def test_a_copy_of_what_was_made_anew_is_made_anew(own_root: Path, stage: Path) -> None:
    cache.discard(own_root / "volumes" / cache.write("volumes", "key", ARRAYS, {}).folder.name)
    cache.write("volumes", "key", ARRAYS | {"large": ARRAYS["large"] + 1}, {})
    assert np.array_equal(read_large(), ARRAYS["large"] + 1)


def test_without_room_on_the_node_the_shared_cache_is_read(own_root: Path, stage: Path) -> None:
    stage.write_text("a file where the folder would be")
    cache.write("volumes", "key", ARRAYS, {})
    assert np.array_equal(read_large(), ARRAYS["large"])


def read_large() -> Any:
    item = cache.read_item("volumes", "key")
    assert item is not None
    return item.array("large")
