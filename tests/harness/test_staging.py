"""Folders written beside their place: on the disk before they are renamed, and removed when their process was killed."""

from __future__ import annotations

import os
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from initbench import cache, staging
from initbench.datasets.download.archives import extract
from initbench.runs import store
from tests.writers import Writer


def old(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (time.time() - 2 * 24 * 3600,) * 2)


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    living, killed = Writer(tmp_path / "a"), Writer(tmp_path / "b")
    try:
        killed.end(signal.SIGKILL)
        assert killed.folder.is_dir()
        old(living.folder)  # however long it takes
        staging.remove_abandoned(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living.folder.name, "whole"])
        assert (living.folder / "half").read_text() == "x"
    finally:
        living.end()
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize("name", [".my-notes", ".a-b-download", ".ipynb-checkpoints", "a-b.unfinished"])
def test_hidden_folders_of_others_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The cache may be put into a folder that holds more than the cache."""
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path))
    theirs = tmp_path / "projects" / name
    theirs.mkdir(parents=True)
    (theirs / "thesis.txt").write_text("x", "utf-8")
    old(theirs)
    cache.remove_abandoned()
    assert (theirs / "thesis.txt").exists()


def test_another_machine_is_given_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its locks may not be seen here."""
    monkeypatch.setattr(staging.socket, "gethostname", lambda: "elsewhere-2.example")
    killed = Writer(tmp_path / "a")
    killed.end(signal.SIGKILL)
    staging.remove_abandoned(tmp_path)
    assert killed.folder.is_dir()
    old(killed.folder)
    staging.remove_abandoned(tmp_path)
    assert not killed.folder.exists()


def test_without_locks_a_folder_is_given_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(staging.fcntl, "flock", flock)
    with staging.beside(tmp_path / "a") as temporary:
        staging.remove_abandoned(tmp_path)
        assert temporary.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_taken_for_abandoned_before_its_lock_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, made = staging._lock, []

    def lock(folder: Path, *, wait: bool) -> int | None:
        made.append(folder)
        if len(made) == 1:
            folder.rmdir()
        return before(folder, wait=wait)

    monkeypatch.setattr(staging, "_lock", lock)
    with staging.beside(tmp_path / "a") as temporary:
        assert temporary.is_dir()
    assert len(made) == 2


def test_the_next_run_clears_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    (tmp_path / "cache" / "volumes").mkdir(parents=True)
    killed = Writer(tmp_path / "cache" / "volumes" / "0123456789abcdef0123456789abcdef")
    killed.end(signal.SIGKILL)
    cache.write("scans", "key", {"a": np.ones(3)}, {})
    cache.remove_abandoned()
    assert not killed.folder.exists()
    assert cache.read_item("scans", "key") is not None


def write_item(folder: Path) -> Path:
    return cache.write("kind", "key", {"a": np.ones(3), "b": np.ones(3)}, {}).folder


def write_run(folder: Path) -> Path:
    with store.staged(folder / "run" / "seed-0", lambda _: False) as temporary:
        (temporary / "predictions").mkdir()
        (temporary / "predictions" / "a.nii.gz").write_bytes(b"x")
        (temporary / store.WEIGHTS).write_bytes(b"x")
    return folder / "run" / "seed-0"


def write_archive(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("imagesTr/a.nii", b"x")
        archive.writestr("dataset.json", b"{}")
    extract(folder / "a.zip", folder / "data")
    return folder / "data"


@pytest.mark.parametrize("write", [write_item, write_run, write_archive])
def test_files_and_folders_are_synced_before_they_are_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], Path]
) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    synced: set[int] = set()
    known: list[set[int]] = []
    sync, rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        sync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        known.append(set(synced))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    place = write(tmp_path)
    assert len(known) == 1
    everything = {path.stat().st_ino for path in (place, *place.rglob("*"))}
    assert everything <= known[0]
