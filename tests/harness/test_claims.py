"""Claims: one of many has them, they are taken over from the dead and the silent, and those who were taken over see it."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from initbench import claims
from tests.claimed import other_machine, takes_over


class Clock:
    """Stands for the module `time` of claims."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(claims, "time", made)
    return made


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing for a while."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def of_process(place: Path, pid: int) -> None:
    """Writes a claim of a process of this machine."""
    owner = claims.Owner(host="h", machine=claims.this_machine(), pid=pid, started=claims.started(pid))
    (place / "000001").mkdir(parents=True)
    (place / "000001" / claims.OWNER).write_text(owner.model_dump_json())


def test_one_of_many_has_a_claim(place: Path) -> None:
    assert not claims.is_taken(place)
    first = claims.take(place)
    assert first is not None
    assert claims.is_taken(place)
    assert claims.take(place) is None
    first.release()
    assert not claims.is_taken(place)
    second = claims.take(place)
    assert second is not None
    assert [second.check(), first.check()] == [True, False]
    assert os.listdir(place) == ["000002"], "the generation counts on"


def test_of_two_at_the_same_moment_one_has_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both saw that nobody had it; the second renames when the first has."""
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        assert claims.take(place) is not None
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    assert claims.take(place) is None
    assert os.listdir(place) == ["000001"], "nothing is left of the attempt"


def test_another_error_is_no_claim_of_others(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        claims.take(place)
    assert os.listdir(place) == []


def test_a_dead_process_of_this_machine_is_seen_at_once(place: Path, sleeper: subprocess.Popen[bytes]) -> None:
    of_process(place, sleeper.pid)
    assert claims.take(place) is None
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked how
    assert claims.take(place) is not None


def test_a_process_that_has_the_number_of_a_dead_one_is_another(place: Path) -> None:
    owner = claims.Owner(host="h", machine=claims.this_machine(), pid=os.getpid(), started="1")
    (place / "000007").mkdir(parents=True)
    (place / "000007" / claims.OWNER).write_text(owner.model_dump_json())
    assert claims.take(place) is not None
    assert os.listdir(place) == ["000008"]


def test_a_busy_process_of_this_machine_need_not_beat_and_a_paused_one_loses(
    place: Path, sleeper: subprocess.Popen[bytes], clock: Clock
) -> None:
    """A library may keep its other threads waiting for long, and that is no reason to do its work again."""
    of_process(place, sleeper.pid)
    watch = claims.Watch()
    for _ in range(3):
        assert not watch.is_free(place)
        clock.now += 10 * claims.PATIENCE
    sleeper.send_signal(signal.SIGSTOP)
    os.waitpid(sleeper.pid, os.WUNTRACED)
    assert not watch.is_free(place), "it may have been paused a moment ago"
    clock.now += 1.01 * claims.PATIENCE
    assert watch.is_free(place)
    assert claims.take(place) is not None


@pytest.mark.parametrize("late", [0.5, 0.9])
def test_beats_of_another_machine_keep_its_claim(place: Path, clock: Clock, late: float) -> None:
    watch = claims.Watch()
    for beats in range(5):
        other_machine(place, beats)
        assert not watch.is_free(place)
        assert claims.take(place) is None
        clock.now += late * claims.PATIENCE


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut short"])
def test_a_silent_machine_loses_its_claim(place: Path, clock: Clock, cut: bool) -> None:
    other_machine(place, 8)
    if cut:
        os.truncate(place / "000001" / claims.OWNER, 10)
    watch = claims.Watch()
    assert not watch.is_free(place)
    clock.now += 0.99 * claims.PATIENCE
    assert not watch.is_free(place)
    clock.now += 0.02 * claims.PATIENCE
    assert watch.is_free(place)
    assert claims.take(place) is not None
    assert os.listdir(place) == ["000003"], "whoever saw it took it away first"


def test_a_claim_that_another_one_took_meanwhile_is_not_free(place: Path, clock: Clock) -> None:
    """Its new owner is watched anew."""
    other_machine(place)
    watch = claims.Watch()
    assert not watch.is_free(place)
    clock.now += 1.01 * claims.PATIENCE
    takes_over(place)
    assert not watch.is_free(place)


def test_an_owner_that_woke_sees_that_it_lost(place: Path) -> None:
    claim = claims.take(place)
    assert claim is not None
    claim.beat()
    assert not claim.is_lost
    takes_over(place)
    claim.beat()
    assert claim.is_lost
    claim.release()
    assert claims.is_taken(place), "it gives back nothing of the other one's"


def test_beats_are_counted_in_place(place: Path) -> None:
    """A full disk takes what overwrites something; and a file that was removed does not come back."""
    claim = claims.take(place)
    assert claim is not None
    path = place / "000001" / claims.OWNER
    size, before = path.stat().st_size, path.stat().st_ino
    for _ in range(3):
        claim.beat()
    assert claims.Owner.model_validate_json(path.read_bytes()).beats == 3
    assert (path.stat().st_size, path.stat().st_ino) == (size, before)
    path.unlink()
    claim.beat()
    assert not path.exists()


def test_a_block_gives_beats_and_gives_the_claim_back(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.001)
    seen: list[Any] = []
    with claims.held(place, seen.append) as claim:
        assert claim is not None
        with claims.held(place) as second:
            assert second is None
        while len(seen) < 3:
            pass
    assert seen[0] is claim
    assert not claims.is_taken(place)


def test_containers_of_one_name_are_two_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """They share the kernel and have processes of their own; machines of one name have a kernel each."""
    found = set()
    for boot, processes in (("a", "pid:[1]"), ("a", "pid:[2]"), ("b", "pid:[1]")):
        claims.this_machine.cache_clear()
        monkeypatch.setattr(socket, "gethostname", lambda: "node")
        monkeypatch.setattr(Path, "read_text", lambda self, *_, boot=boot: boot)
        monkeypatch.setattr(os, "readlink", lambda path, processes=processes: processes)
        found.add(claims.this_machine())
    claims.this_machine.cache_clear()
    assert len(found) == 3
