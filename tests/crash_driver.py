"""Runs a small study in child processes that are killed, signalled or denied the disk; prints what they left as JSON.

A process of its own, because a child forked from it has torch loaded: a trial costs a second and not five. Read by
tests/test_resume.py; ``python -m tests.crash_driver '{"data": ..., "out": ..., "trials": [...]}'``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

import initbench
from initbench import interrupt
from initbench.harness.execute import Outcome
from initbench.runs import work

SETTINGS = (
    "patch.size=8,16,16",
    "patch.batch=1",
    "pretext.batch=1",
    "pretext.mask_patch=4",
    "pretext.share=0.4",
    "steps.smoke=30",
    "preprocess.spacing=native",
    "preprocess.crop=False",
)
RESULTS = ("weights.safetensors", "curve.csv", "cases.csv", "coverage.json")
_SIGNALS = {"kill": signal.SIGKILL, "int": signal.SIGINT, "term": signal.SIGTERM}
_MAKING = ("open", "os.mkdir", "os.rename", "tempfile.mkdtemp")
_CLEARING = ("os.remove", "os.rmdir", "shutil.rmtree")


def study(settings: dict[str, Any], out: Path, jobs: int = 1) -> list[Outcome]:
    """The study that every trial runs."""
    options: dict[str, Any] = {"budget": "smoke", "size": "tiny", "device": "cpu", "precision": "float32"}
    return initbench.run(
        settings["init"],
        settings["backbone"],
        settings["data"],
        out=out,
        seeds=settings.get("seeds", 1),
        assignments=settings.get("assignments", SETTINGS),
        checkpoint_every=settings.get("checkpoint_every", 0.0),
        jobs=jobs,
        **options,
    )


class Fault:
    """What happens at the n-th thing that the process does to files below a folder."""

    def __init__(self, folder: Path, kind: str, at: int) -> None:
        self.folder, self.kind, self.at = str(folder), kind, at
        self.count = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _MAKING + _CLEARING or not str(arguments[0]).startswith(self.folder):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        self.count += 1
        if self.kind in _SIGNALS and self.count == self.at:
            os.kill(os.getpid(), _SIGNALS[self.kind])
        if self.kind == "full" and self.count >= self.at and event in _MAKING:
            raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))


def child(settings: dict[str, Any], out: Path, trial: dict[str, Any]) -> int:
    """Runs the study in a forked process; its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 3
    try:
        fault = Fault(out, trial.get("kind", ""), trial.get("at", 0))
        sys.addaudithook(fault)
        with interrupt.handled():
            outcomes = study(settings, out)
        told = [[outcome.state, outcome.message] for outcome in outcomes]
        report = {"told": told, "events": fault.count}
        status = 0 if {outcome.state for outcome in outcomes} <= {"ok", "cached", "diverged"} else 4
        fault.kind = ""
        (out.parent / f"{out.name}.{trial.get('name', '')}told").write_text(json.dumps(report))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def wait(pid: int) -> int:
    """Exit status of a child, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def digests(out: Path) -> dict[str, str]:
    """What a finished study holds, by the file's place."""
    found = [path for name in RESULTS for path in sorted(out.glob(f"*/*/*/seed-*/{name}"))]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def leftovers(out: Path) -> list[str]:
    """What is neither a result nor meant to stay."""
    return sorted(str(path.relative_to(out)) for path in out.glob("*/*/*/.*"))


def doing(out: Path) -> str:
    """What a study was doing when it was stopped."""
    for path in sorted(out.glob("*/*/*/.seed-*.work")):
        state = work.read_state(path.with_name(path.name.removeprefix(".").removesuffix(".work")))
        if state:
            return str(state["state"])
    return "nothing"


def attempt(settings: dict[str, Any], out: Path, trial: dict[str, Any]) -> dict[str, Any]:
    """One trial: a run with a fault, then runs without one until the study is done."""
    told = out.parent / f"{out.name}.told"
    pid = child(settings, out, trial)
    if "after" in trial:
        time.sleep(trial["after"])
        os.kill(pid, trial["signal"])
        if trial.get("twice"):
            time.sleep(1.1)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, trial["signal"])
    first = wait(pid)
    said = json.loads(told.read_text()) if told.exists() else {}
    left = doing(out)
    last, tries = first, 0
    while tries == 0 or (last != 0 and tries < 3):
        last = wait(child(settings, out, {}))
        tries += 1
    return {"first": first, "said": said, "doing": left, "last": last, "digests": digests(out), "left": leftovers(out)}


def together(settings: dict[str, Any], out: Path, count: int, kill_after: float) -> dict[str, Any]:
    """Several processes on one study, one of which is killed; what each says of every run."""
    pids = [child(settings, out, {"name": str(number)}) for number in range(count)]
    time.sleep(kill_after)
    os.kill(pids[0], signal.SIGKILL)
    ended = [wait(pid) for pid in pids]
    told = [json.loads((out.parent / f"{out.name}.{number}told").read_text())["told"] for number in range(1, count)]
    return {"ended": ended, "told": told, "digests": digests(out), "left": leftovers(out)}


def main() -> None:
    """Reads the settings, makes the reference and the trials, prints them."""
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    out = Path(settings["out"])
    study(settings, out / "warm")  # the cache is filled and everything imported before anything is timed
    began = time.perf_counter()
    assert wait(child(settings, out / "whole", {})) == 0
    seconds = time.perf_counter() - began
    events = json.loads((out / "whole.told").read_text())["events"]
    results: list[dict[str, Any]] = []
    trials = settings["trials"] + [{"kind": kind, "at": at + 1} for kind in settings.get("every", ()) for at in range(events)]
    for number, trial in enumerate(trials):
        plan = dict(trial)
        if "share" in plan:  # of the whole run's time or file events
            share = plan.pop("share")
            plan |= {"at": max(1, round(share * events))} if plan["kind"] in ("full", *_SIGNALS) else {"after": share * seconds}
        results.append({"trial": plan, **attempt(settings, out / f"trial-{number}", plan)})
    if "together" in settings:
        results.append(together(settings, out / "together", settings["together"], 0.4 * seconds))
    sys.stdout.write(json.dumps({"seconds": seconds, "events": events, "whole": digests(out / "whole"), "results": results}))


if __name__ == "__main__":
    main()
