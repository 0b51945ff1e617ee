"""A study that a queue of others does: what this process leaves to it, and how the data are prepared there."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from initbench import digest
from initbench.harness.execute import Outcome
from initbench.harness.request import RunRequest, as_json, code_digests, from_json
from initbench.protocols import QueuedRun, QueuedSubmission, Reporter, StudyWork
from initbench.runs.status import AskedRun, read_asked, status, write_asked, write_changed_code, write_places
from initbench.studies.engine import Resources
from initbench.studies.sweep import look_up_study

_HAS_RESULT = ("done", "diverged")


@dataclass(frozen=True)
class Submitted:
    """What became of a study.

    Attributes:
        asked: how many runs it has.
        ended: how many have a result.
        waiting: how many the queue had before.
        runs: the numbers of those that were submitted now.
        jobs: ids of their jobs; none where only the scripts were written.
        folder: where the scripts are; None where nothing was to be submitted.
    """

    asked: int
    ended: int
    waiting: int
    runs: tuple[int, ...]
    jobs: tuple[str, ...] = ()
    folder: Path | None = None


def submit_missing(
    requests: Sequence[RunRequest],
    resources: Resources,
    in_queue: Mapping[int, object],
    *,
    skip_refused: bool,
    run_code: bool = False,
) -> Submitted:
    """Hands the runs of a study to a queue that have no result and that it does not have.

    No data are read here. Where the results go is found out by a job of the queue, which prepares the data first.

    Args:
        requests: the runs.
        resources: names the executor.
        in_queue: the runs that the queue has, by number.
        skip_refused: whether the others are run where some cannot be.
        run_code: whether Python files outside of the current folder were asked for.

    Raises:
        UsageError: what was asked for cannot be had.
    """
    out = requests[0].out
    numbers = _noted(out, requests)
    planned = read_asked(out)
    ended, waiting = 0, 0
    missing: list[QueuedRun] = []
    for number, request in zip(numbers, requests, strict=True):
        folder = None
        has_result = False
        if number is not None:
            folder = planned[number].folder
            has_result = status(planned[number]).state in _HAS_RESULT
        if has_result:
            ended += 1
        elif number in in_queue:
            waiting += 1
        else:
            missing.append(QueuedRun(request, folder, _group(request), number=number))
    if not missing:
        return Submitted(len(requests), ended, waiting, ())
    work = StudyWork(
        out=out,
        runs=missing,
        perform=_nobody,
        lost=_nobody,
        devices=list,
        rule=resources.rule,
        skip_refused=skip_refused,
        run_code=run_code,
    )
    submission = cast("QueuedSubmission", resources.submit(work))
    submitted = tuple(run.number for run in missing if run.number is not None)
    return Submitted(len(requests), ended, waiting, submitted, tuple(submission.jobs), submission.folder)


def prepare_noted(out: Path, reporter: Reporter, resources: Resources) -> list[Outcome]:
    """Prepares the data of the runs of a study that have no place yet, and notes their places.

    Args:
        out: folder of the study.
        reporter: told of the preprocessing.
        resources: who does the runs.

    Returns:
        What is known of each of these runs.
    """
    waiting = [run for run in read_asked(out) if run.folder is None]
    if not waiting:
        return []
    outcomes = look_up_study([from_json(run.request, out=out) for run in waiting], reporter, resources).in_order()
    found = []
    for run, outcome in zip(waiting, outcomes, strict=True):
        if outcome.folder is not None:
            found.append(replace(run, folder=outcome.folder, state="pending", problem="", pair=outcome.pair))
        elif outcome.state == "refused":
            found.append(replace(run, state="refused", problem=outcome.message))
        else:
            found.append(replace(run, state="failed", problem=outcome.message))
    write_places(out, found)
    return outcomes


def _noted(out: Path, requests: Sequence[RunRequest]) -> list[int | None]:
    """Returns the numbers of runs in their study, and notes those that are new; None where nothing can be noted.

    Who asks for runs asks for their Python files as they are now, so a file that changed since is noted anew.
    """
    asked = [_key(as_json(request)) for request in requests]
    numbers = _numbers(out)
    known = read_asked(out)
    planned, changed = [], []
    is_any_new = False
    for key, request in zip(asked, requests, strict=True):
        code = code_digests(request)
        if key not in numbers:
            is_any_new = True
            planned.append(AskedRun(request.label, as_json(request), None, code=code))
            continue
        noted = known[numbers[key]]
        if noted.code != code:
            noted = replace(noted, folder=None, state="pending", problem="", code=code, pair="")
            changed.append(noted)
        planned.append(noted)
    with contextlib.suppress(OSError):  # the executor says that it needs the numbers
        if changed:
            write_changed_code(out, changed)
        if is_any_new:
            write_asked(out, planned)
    numbers = _numbers(out)
    return [numbers.get(key) for key in asked]


def _numbers(out: Path) -> dict[str, int]:
    """Returns the numbers of the runs of a study by their requests."""
    return {_key(run.request): number for number, run in enumerate(read_asked(out))}


def _key(request: Mapping[str, Any]) -> str:
    """Returns what tells a request from the others of its study; its folder may be typed in several ways."""
    known = dict(request)
    known.pop("out", None)
    return digest.of_json(known)


def _group(request: RunRequest) -> str:
    """Returns what tells the runs of one block and seed from others before any data are read."""
    asked = as_json(request)
    for key in ("init", "regimen", "protocol"):
        del asked[key]
    return digest.of_json(asked)


def _nobody(*arguments: object) -> Outcome:
    raise AssertionError("a queue does the runs with `initbench work`")
