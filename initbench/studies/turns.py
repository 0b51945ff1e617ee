"""A process among several that work on one study: it takes the runs that nobody has, as long as its time lasts."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from initbench import claims
from initbench.harness.cell import Cells
from initbench.harness.execute import Outcome
from initbench.harness.request import RunRequest, data_below, from_json
from initbench.protocols import QueuedRun, Reporter
from initbench.runs import cancel, store, work
from initbench.runs.status import ENDED, AskedRun, is_free, read_asked, status
from initbench.studies.engine import Resources, TimeLimit, Turn, code_of_others, limited, run_queued

_LOOK = 1.0  # seconds between two looks at a run that another process has


def take_turns(
    runs: Mapping[int, AskedRun],
    out: Path,
    resources: Resources,
    reporter: Reporter,
    *,
    limit: TimeLimit | None = None,
    waits: bool = True,
    again: bool = False,
    data_root: Path | None = None,
    clock: claims.Clock = time,
) -> dict[int, Outcome]:
    """Does the runs that nobody else does, one after the other on each device.

    Args:
        runs: of a study, as `initbench.runs.status.runs_to_do` gives them.
        out: folder of the study.
        resources: who does the runs, and on which devices.
        reporter: told of progress, with the numbers of the runs.
        limit: how long this process works.
        waits: whether to wait for the runs of other processes, which may die and leave them.
        again: whether a run that failed is tried again.
        data_root: folder that holds the data sets on this machine, by default as the runs were asked for.
        clock: as for `run_queued`.

    Returns:
        The outcomes by number. A run that does not fit into the time is ``interrupted``, and a run that another process has
        is ``busy``.

    Raises:
        UsageError: the executor or a device does not exist.
    """
    cells, folders, queued = Cells(), {}, {}
    for number, run in runs.items():
        request = request_here(run, out, data_root)
        queued[number] = QueuedRun(request, run.folder, run.pair, code_of_others(request))
        if run.folder is not None and not again:
            folders[request] = run.folder
    resources.check(next(iter(queued.values())).request)
    expected = {}
    for number, seconds in expected_seconds(runs, read_asked(out)).items():
        expected[queued[number].request] = seconds
    turn = Turn(cells, expected, folders, limit, cancel.mark(out))
    with limited(limit):
        return run_queued(queued, resources, reporter, cells, turn=turn, waits=waits, clock=clock)


def request_here(run: AskedRun, out: Path, data_root: Path | None) -> RunRequest:
    """Returns the request of a noted run on this machine.

    Args:
        run: of a study.
        out: folder of the study.
        data_root: as for `take_turns`.
    """
    if data_root is None:
        return from_json(run.request, out=out)
    return from_json(run.request, out=out, **data_below(data_root, run.request["dataset"]))


def take_one(
    asked: Sequence[AskedRun],
    number: int,
    out: Path,
    resources: Resources,
    reporter: Reporter,
    *,
    limit: TimeLimit | None = None,
    waits: bool = True,
    data_root: Path | None = None,
) -> dict[int, Outcome]:
    """Does one run: the one with a number or, where that is done or in other hands, the next one that is free.

    A process that waits does free runs until the one with the number has ended, and then waits for it: whoever has it may die.

    Args:
        asked: all runs of the study.
        number: of the run. A study may have fewer: two requests turned out to be one run.
        out: folder of the study.
        resources: who does the run, and on which devices.
        reporter: told of progress, with the numbers of the runs.
        limit: how long this process works.
        waits: whether to wait for the run where its process lives; else only until it is known whether it does.
        data_root: as for `take_turns`.

    Returns:
        The outcomes by the numbers of the runs that were done or begun; none where there was nothing to do.

    Raises:
        UsageError: the executor or a device does not exist.
    """
    take = functools.partial(take_turns, out=out, resources=resources, reporter=reporter, limit=limit, data_root=data_root)
    own = number if number < len(asked) else None
    done: dict[int, Outcome] = {}
    watch = claims.Watch()
    while True:
        if own is not None:
            _free_abandoned(asked[own], watch)
        taken = _take_free(asked, number, take)
        done |= taken
        if not taken:
            break
        is_stopped = any(outcome.state == "interrupted" for outcome in taken.values())
        if is_stopped or not waits or own is None or status(asked[own]).state in ENDED:
            return done
    if own is None or not _is_in_hand(asked[own]):
        return done
    if not waits and not _is_abandoned(asked[own]):
        return done
    return done | take({own: asked[own]}, waits=waits, again=True)


def _take_free(asked: Sequence[AskedRun], number: int, take: Callable[..., dict[int, Outcome]]) -> dict[int, Outcome]:
    """Does the first free run from a number on, round the study, and returns its outcome; none where no run is free."""
    begin = min(number, len(asked))
    for place in [*range(begin, len(asked)), *range(begin)]:
        again = place == number
        if not is_free(asked[place], again=again):
            continue
        outcomes = take({place: asked[place]}, waits=False, again=again)
        if outcomes[place].state not in ("busy", "cached"):  # somebody else was first, or the run is left to other devices
            return outcomes
    return {}


def _is_in_hand(run: AskedRun) -> bool:
    """Returns whether somebody has a run, as far as one look tells."""
    return run.folder is not None and work.is_held(run.folder)


def _free_abandoned(run: AskedRun, watch: claims.Watch) -> None:
    """Looks at a run that somebody has, and frees it where its owner was silent since one of the looks before."""
    if run.folder is not None and work.is_held(run.folder):
        watch.is_free(work.claim_place(run.folder))


def _is_abandoned(run: AskedRun) -> bool:
    """Watches a run that somebody has until it is free, or until its owner shows that it lives."""
    assert run.folder is not None  # noqa: S101 - nobody has a run without a place
    watch, place = claims.Watch(), work.claim_place(run.folder)
    while not watch.is_free(place):
        if watch.is_alive(place):
            return False
        time.sleep(_LOOK)
    return True


def expected_seconds(runs: Mapping[int, AskedRun], planned: Sequence[AskedRun]) -> dict[int, float]:
    """Returns how many seconds each run takes, by the runs of the study that have ended; runs without an example are left out.

    The longest example counts: a run that is begun is to end. Of a run that was stopped in its training, what is left counts.

    Args:
        runs: by their numbers.
        planned: all runs of the study.
    """
    took: dict[tuple[object, ...], float] = {}
    for run in planned:
        if run.folder is None:
            continue
        record = store.read_record(run.folder)
        if record is not None and record.status == "ok":
            seconds = float(record.cost.total_seconds + record.cost.validation.seconds)
            for key in _alike(run):
                took[key] = max(took.get(key, 0.0), seconds)
    found = {}
    for number, run in runs.items():
        for key in _alike(run):
            if key in took:
                found[number] = took[key] * _share_left(run)
                break
    return found


def _alike(run: AskedRun) -> list[tuple[object, ...]]:
    """Returns what runs share that take as long as each other, the most alike first."""
    get = run.request.get
    block = (str(get("backbone")), str(get("dataset")), str(get("fold")), str(get("train_cases")))
    return [(*block, str(get("init")), str(get("regimen"))), block]


def _share_left(run: AskedRun) -> float:
    """Returns the share of a run that is left to do; only steps of training count as done."""
    if run.folder is None:
        return 1.0
    state = work.read_state(run.folder)
    if state is None or state.state != "training" or not state.total:
        return 1.0
    return 1.0 - state.step / state.total
