"""The cache: whole or not there, and one writer's folder whoever else writes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from initbench import cache

ARRAYS = {"a": np.arange(2000.0).reshape(20, 100), "b": np.ones(3, np.uint8)}


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
        assert np.array_equal(item.array(name), array)
        assert not item.array(name).flags.writeable


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


@pytest.mark.parametrize("size", [10, 2**20 + 10])
def test_file_digest_follows_the_content(tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a" * size)
    first = cache.file_digest(file)
    assert cache.file_digest(file) == first
    file.write_bytes(b"b" * size + b"c")
    assert cache.file_digest(file) != first
    file.write_bytes(b"a" * size)
    assert cache.file_digest(file) == first


def test_root_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cache.ENVIRONMENT)
    assert cache.root().name == "initbench"
