"""Runs a small study in child processes that are killed, signalled or denied the disk; prints what they left as JSON.

A process of its own, because a child forked from it has torch loaded: a trial costs a second and not five. Read by
tests/harness/test_resume.py; ``python -m tests.crash_driver '{"data": ..., "out": ..., "trials": [...]}'``.

A trial says what happens and at which event of the child: ``{"kind": "kill", "of": "file", "share": 0.5}`` kills it before the
middle one of its changes of files, ``"of": "pass"`` after the middle one of its modules' forward passes. The child does it to
itself, and its events do not depend on the clock, so a busy machine sees the same trials as a quiet one.

kill, int, term     the child gets the signal; with ``"twice"`` two of them
torn                the file that it wrote last is cut in half, then it is killed
full                from there on every new file or folder finds the disk full
stop                the child stops until somebody lets it go on
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from initbench import interrupt
from initbench.harness.execute import Outcome
from initbench.runs import work
from tests.runs_factory import OPTIONS, THIRTY_STEPS, outcomes_of

RESULTS = ("weights.safetensors", "curve.csv", "cases.csv", "coverage.json")
_SIGNALS = {
    "kill": signal.SIGKILL,
    "torn": signal.SIGKILL,
    "int": signal.SIGINT,
    "term": signal.SIGTERM,
    "stop": signal.SIGSTOP,
}
_MAKING = ("open", "os.mkdir", "os.rename", "tempfile.mkdtemp")
_CLEARING = ("os.remove", "os.rmdir", "shutil.rmtree")


def study(settings: dict[str, Any], out: Path, jobs: int = 1) -> list[Outcome]:
    """Runs the study that every trial runs; `settings` are init, backbone and data set, and what differs from the usual run."""
    return outcomes_of(
        settings["init"],
        settings["backbone"],
        settings["data"],
        out=out,
        regimen=settings.get("regimen", "plain"),
        seeds=settings.get("seeds", 1),
        assignments=settings.get("assignments", THIRTY_STEPS),
        checkpoint_every=settings.get("checkpoint_every", 0.0),
        fast=settings.get("fast", False),
        jobs=jobs,
        **OPTIONS,
    )


class Fault:
    """What happens to the process at the n-th of its events below a folder, and how many there were of each.

    Attributes:
        counts: of ``file``, the things that it does to files; of ``pass``, its modules' forward passes.
    """

    def __init__(self, folder: Path, kind: str = "", of: str = "file", at: int = 0, *, twice: bool = False) -> None:
        self.folder, self.kind, self.of, self.at, self.twice = str(folder), kind, of, at, twice
        self.counts = {"file": 0, "pass": 0}
        self._written: str | None = None

    def install(self) -> None:
        """Counts events from here on; only for a process that ends with its fault."""
        sys.addaudithook(self._file)
        torch.nn.modules.module.register_module_forward_hook(lambda *arguments: self._happened("pass"))

    def _file(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _MAKING + _CLEARING or not str(arguments[0]).startswith(self.folder):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        self._happened("file")
        if self.kind == "full" and self.counts["file"] >= self.at and event in _MAKING:
            raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))
        if event == "open":
            self._written = str(arguments[0])

    def _happened(self, what: str) -> None:
        self.counts[what] += 1
        if self.kind not in _SIGNALS or what != self.of or self.counts[what] != self.at:
            return
        if self.kind == "torn" and self._written is not None:
            with contextlib.suppress(FileNotFoundError):  # it may have been moved or removed since
                os.truncate(self._written, os.path.getsize(self._written) // 2)
        for _ in range(2 if self.twice else 1):
            os.kill(os.getpid(), _SIGNALS[self.kind])


def child(settings: dict[str, Any], out: Path, trial: dict[str, Any], tell: int | None = None) -> int:
    """Runs the study in a forked process and returns the id of that process.

    Args:
        settings: of the study.
        out: of the study.
        trial: what happens to it.
        tell: a pipe that gets the trial's name, a number, whenever the process meets a run that another one holds.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 3
    try:
        work.BEAT = 1e6  # a state that is written by the clock would be one more file event on a slow machine
        interrupt._TOGETHER = -1.0  # two signals are two, however fast
        if tell is not None:
            work.claim = _telling(tell, int(trial["name"]))
        fault = Fault(out, **{name: trial[name] for name in ("kind", "of", "at", "twice") if name in trial})
        fault.install()
        with interrupt.handled():
            outcomes = study(settings, out)
        told = [[outcome.state, outcome.message] for outcome in outcomes]
        report = {"told": told, "events": fault.counts}
        status = 0 if {outcome.state for outcome in outcomes} <= {"ok", "cached", "diverged"} else 4
        fault.kind = ""
        (out.parent / f"{out.name}.{trial.get('name', '')}told").write_text(json.dumps(report))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _telling(pipe: int, name: int) -> Any:
    before = work.claim

    @contextlib.contextmanager
    def claim(folder: Path) -> Iterator[work.Held | None]:
        with before(folder) as held:
            if held is None:
                os.write(pipe, bytes([name]))
            yield held

    return claim


def wait(pid: int) -> int:
    """Waits for the end of a child; its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def digests(out: Path) -> dict[str, str]:
    """The SHA-256 of every result of a study, by the file's place; of validation without the seconds."""
    found = {}
    for folder in sorted(out.glob("*/*/*/seed-*")):
        for name in RESULTS:
            found[folder / name] = (folder / name).read_bytes()
        validation = folder / "validation.csv"
        if validation.exists():
            found[validation] = pd.read_csv(validation).drop(columns="seconds").to_csv().encode()
    return {str(path.relative_to(out)): hashlib.sha256(content).hexdigest() for path, content in found.items()}


def leftovers(out: Path) -> list[str]:
    """Files and folders of unfinished work, which no finished study has."""
    return sorted(str(path.relative_to(out)) for path in out.glob("*/*/*/.*"))


def doing(out: Path) -> str:
    """What a study was doing when it was stopped."""
    for path in sorted(out.glob("*/*/*/.seed-*.work")):
        state = work.read_state(path.with_name(path.name.removeprefix(".").removesuffix(".work")))
        if state:
            return state.state
    return "nothing"


def attempt(settings: dict[str, Any], out: Path, trial: dict[str, Any]) -> dict[str, Any]:
    """Runs one trial with its fault, then goes on without one until the study is done; says how each of them ended.

    Args:
        settings: of the study.
        out: of the study.
        trial: what happens to it.
    """
    told = out.parent / f"{out.name}.told"
    _begin(settings, out)
    told.unlink(missing_ok=True)
    first = wait(child(settings, out, trial))
    said = json.loads(told.read_text()) if told.exists() else {}
    left = doing(out)
    last, tries = first, 0
    while tries == 0 or (last != 0 and tries < 3):
        last = wait(child(settings, out, {}))
        tries += 1
    return {"first": first, "said": said, "doing": left, "last": last, "digests": digests(out), "left": leftovers(out)}


def _begin(settings: dict[str, Any], out: Path) -> None:
    """Runs the study that a trial finds finished, which has other assignments; none where there is no ``"before"``."""
    if "before" in settings:
        assert wait(child(settings | {"assignments": settings["before"]}, out, {})) == 0


def together(settings: dict[str, Any], out: Path, count: int, passes: int) -> dict[str, Any]:
    """Runs several processes on one study, one of which is killed; says how each of the others ended with every run.

    The first stops in the middle of a run. The others stop with a run in hand each, go on together, and meet the run that the
    first holds. Then it is killed.

    Args:
        settings: of the study.
        out: of the study.
        count: of the processes.
        passes: forward passes of the first process before it stops.
    """
    pids = [child(settings, out, {"kind": "stop", "of": "pass", "at": passes})]
    try:
        _stopped(pids[0])
        finished = len(list(out.glob(f"*/*/*/seed-*/{RESULTS[0]}")))
        met, tell = os.pipe()
        for number in range(1, count):
            pids.append(child(settings, out, {"kind": "stop", "of": "pass", "at": 1, "name": str(number)}, tell))
            _stopped(pids[-1])
        os.close(tell)  # the others alone hold it now: when all of them have ended, the pipe ends
        for pid in pids[1:]:
            os.kill(pid, signal.SIGCONT)
        _all_heard(met, set(range(1, count)))
    except BaseException:
        for pid in pids:  # a stopped process would stay for ever
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        raise
    os.kill(pids[0], signal.SIGKILL)
    ended = [wait(pid) for pid in pids]
    told = [json.loads((out.parent / f"{out.name}.{number}told").read_text())["told"] for number in range(1, count)]
    return {"ended": ended, "told": told, "finished": finished, "digests": digests(out), "left": leftovers(out)}


def _stopped(pid: int) -> None:
    """Waits until a child has stopped.

    Raises:
        RuntimeError: it ended before.
    """
    status = os.waitpid(pid, os.WUNTRACED)[1]
    if not os.WIFSTOPPED(status):
        raise RuntimeError(f"a process ended with {os.waitstatus_to_exitcode(status)} before it stopped")


def _all_heard(pipe: int, wanted: set[int]) -> None:
    """Waits until every wanted number has come.

    Raises:
        RuntimeError: all who could send one have ended.
    """
    while wanted:
        came = os.read(pipe, 1)
        if not came:
            raise RuntimeError(f"processes {sorted(wanted)} did not meet the run that another one holds")
        wanted -= set(came)


def main() -> None:
    """Reads the settings, makes the reference and the trials, prints them."""
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    out = Path(settings["out"])
    _begin(settings, out / "warm")
    study(settings, out / "warm")  # the cache is filled and everything imported before anything is counted
    _begin(settings, out / "whole")
    assert wait(child(settings, out / "whole", {})) == 0
    events = json.loads((out / "whole.told").read_text())["events"]
    results: list[dict[str, Any]] = []
    trials = list(settings["trials"])
    trials += [{"kind": kind, "at": at + 1} for kind in settings.get("every", ()) for at in range(events["file"])]
    for number, trial in enumerate(trials):
        plan = dict(trial)
        if "share" in plan:  # of the events of a run that nothing happens to
            plan["at"] = max(1, round(plan.pop("share") * events[plan.get("of", "file")]))
        results.append({"trial": plan, **attempt(settings, out / f"trial-{number}", plan)})
    if "together" in settings:
        results.append(together(settings, out / "together", settings["together"], round(0.4 * events["pass"])))
    sys.stdout.write(json.dumps({"events": events, "whole": digests(out / "whole"), "results": results}))


if __name__ == "__main__":
    main()
