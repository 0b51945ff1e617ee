"""How far a study is: every run that was asked for, and what became of it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from initbench import digest
from initbench.errors import UsageError
from initbench.limits import MAX_NOTE, read_regular
from initbench.printable import printable
from initbench.runs import store, work
from initbench.runs.record import SCHEMA, Asked, Name, Record, RecordError, complaint
from initbench.runs.store import SWEEPS

ENDED = ("done", "diverged", "failed", "refused", "invalid")
_STATES = {"ok": "done"}


@dataclass(frozen=True)
class AskedRun:
    """A run of a study.

    Attributes:
        folder: where it goes; None where that was not found out, as it was refused or its data cannot be read.
        state: ``refused`` or ``failed`` then, for the reason in `problem`.
        code: sha256 of the Python files that the request names, by path.
        pair: block and seed, as a digest; "" where they are not known.
    """

    label: str
    request: dict[str, Any]
    folder: Path | None
    state: str = "pending"
    problem: str = ""
    code: dict[str, str] = field(default_factory=dict)
    pair: str = ""


@dataclass(frozen=True)
class RunStatus:
    """What a run is doing.

    Attributes:
        state: ``pending``, ``pretraining``, ``training``, ``evaluating``, ``interrupted``, or how it ended: ``done``,
            ``diverged``, ``failed``, ``refused``, ``invalid``.
        step: of `total` in the stage at hand.
        seconds_left: of this stage, None where nothing is known.
        detail: Dice of a finished run, else the reason.
    """

    planned: AskedRun
    state: str
    step: int = 0
    total: int = 0
    seconds_left: float | None = None
    seconds: float | None = None
    detail: str = ""


def write_asked(out: Path, planned: Sequence[AskedRun]) -> None:
    """Notes what a study consists of, for `status` and `retry`, and when it was first asked for; the same study is one note.

    Another's loss costs nothing.
    """
    _write_note(out, [_row(run, out) for run in planned], datetime.now(UTC).isoformat(timespec="seconds"))


def _row(run: AskedRun, out: Path) -> dict[str, Any]:
    """Returns a run as a note has it."""
    row = asdict(run)
    if run.folder:
        row["folder"] = str(run.folder.relative_to(out))
    return row


def _write_note(out: Path, rows: Sequence[Mapping[str, Any]], asked: str | None) -> None:
    """Writes a note of runs; where the same runs were noted before, the time of the first note stays."""
    name = digest.of_json([row["request"] for row in rows])[:16]
    folder = out / SWEEPS
    folder.mkdir(parents=True, exist_ok=True)
    path, temporary = folder / f"{name}.json", folder / f".{name}.{os.getpid()}"
    before = _note(path)
    if before and before.asked:
        asked = before.asked
    try:
        temporary.write_text(json.dumps({"schema": SCHEMA, "asked": asked, "runs": rows}), "utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_places(out: Path, found: Sequence[AskedRun]) -> None:
    """Notes where runs go that had no place when they were noted, or why they cannot be. No run gets another number by it.

    Args:
        out: folder of the study.
        found: the runs, with the requests that they were noted with.

    Raises:
        OSError: a note cannot be written.
    """
    _note_again(out, found, lambda noted: noted.folder is None)


def write_changed_code(out: Path, changed: Sequence[AskedRun]) -> None:
    """Notes runs again whose Python files changed since: with their new place where it is known, otherwise with none.

    Other code is another run. Of two processes that note at the same moment the last one wins, and `status` shows the runs of the
    other as pending until somebody asks for them again.

    Args:
        out: folder of the study.
        changed: the runs, with the requests that they were noted with. They keep their numbers.

    Raises:
        OSError: a note cannot be written.
    """
    _note_again(out, changed, lambda noted: True)


def _note_again(out: Path, runs: Sequence[AskedRun], replaces: Callable[[_NotedRun], bool]) -> None:
    """Puts runs into the notes in the place of what was noted for the same requests, where `replaces` says so."""
    known = {digest.of_json(run.request): run for run in runs}
    for note in _notes(_note_files(out)):
        rows = []
        for noted in note.runs:
            request = noted.request.written()
            run = known.get(digest.of_json(request))
            if run is None or not replaces(noted):
                rows.append({**noted.model_dump(), "request": request})
            else:
                rows.append(_row(run, out))
        _write_note(out, rows, note.asked)


class _NotedRun(BaseModel):
    """A run as a note has it; its folder is relative to the folder of all runs."""

    model_config = ConfigDict(strict=True)

    label: Name
    request: Asked
    folder: Annotated[str, Field(pattern=r"^[^/\x00-\x1f]+(/[^/\x00-\x1f]+){3}$")] | None
    state: Literal["pending", "refused", "failed"]
    problem: str
    code: dict[Name, Name] = {}  # notes of early versions have none, and no pair
    pair: Annotated[str, Field(pattern=r"^[0-9a-f]*$")] = ""

    @model_validator(mode="after")
    def _check_request(self) -> Self:
        missing = sorted({"init", "backbone", "dataset", "seed"} - self.request.model_fields_set)
        if missing:
            raise ValueError(f"a request names no {missing[0]}")
        if self.folder is not None and ".." in self.folder.split("/"):
            raise ValueError("a run is outside the folder of the study")
        return self

    @property
    def key(self) -> str:
        """What the run is called where it has no folder.

        Its label alone would not do: it may hold places of files as they were typed.
        """
        asked = self.request
        return json.dumps([asked.init, asked.backbone, asked.dataset, asked.fold, asked.train_cases, asked.seed, asked.protocol])


class _Note(BaseModel):
    """What a command asked for, and when some command first did; notes of early versions do not say when."""

    model_config = ConfigDict(strict=True)

    asked: Name | None = None
    runs: list[_NotedRun]


def note_asked_elsewhere(out: Path, site: Path) -> None:
    """Notes the runs of another folder of the same study that are not noted here.

    Of runs that are, the request of this folder stays: it says where the data sets are on this machine.

    Raises:
        OSError: the note cannot be written.
    """
    places, keys = set(), set()
    for note in _notes(_note_files(out)):
        for run in note.runs:
            places.add(run.folder)
            keys.add(run.key)
    for note in _notes(sorted(_note_files(site))):
        rows = []
        for run in note.runs:
            is_known = run.key in keys
            if run.folder:
                is_known = run.folder in places
            if not is_known:
                rows.append({**run.model_dump(), "request": run.request.written()})
                places.add(run.folder)
                keys.add(run.key)
        if rows:
            _write_note(out, rows, note.asked)


def read_asked(out: Path) -> list[AskedRun]:
    """Reads every run that a command asked for below `out`, each once.

    The place of a run in the list is its number. Studies stand in the order in which they were first asked for, so later ones
    change no number of earlier ones.
    """
    found: dict[str, AskedRun] = {}
    for note in _notes(sorted(_note_files(out), key=lambda path: path.lstat().st_mtime)):
        for run in note.runs:
            folder = None
            if run.folder:
                folder = out / run.folder
            found.pop(run.key, None)  # it had no place yet, and has one now
            asked = AskedRun(printable(run.label), run.request.written(), folder, run.state, run.problem, run.code, run.pair)
            found[run.folder or run.key] = asked
    places = _places(out)
    return [found[key] for key in sorted(found, key=places.__getitem__)]


def _places(out: Path) -> dict[str, int]:
    """Returns the places of all runs that were asked for below `out`, by what they are called in `read_asked`."""
    places: dict[str, int] = {}
    for note in sorted(_notes(sorted(_note_files(out))), key=lambda note: note.asked or ""):
        for run in note.runs:
            places.setdefault(run.folder or run.key, len(places))
    return places


def first_asked(out: Path) -> dict[Path, str]:
    """Returns when the run of every planned folder was first asked for, UTC in ISO form."""
    found: dict[Path, str] = {}
    for note in _notes(_note_files(out)):
        if not note.asked:
            continue
        for run in note.runs:
            if run.folder:
                folder = out / run.folder
                found[folder] = min(found.get(folder, note.asked), note.asked)
    return found


def faulty_notes(out: Path) -> list[str]:
    """Names the notes below `out` that cannot be used, with the reason of each."""
    found = []
    for path in sorted(_note_files(out)):
        try:
            _read_note(path)
        except RecordError as error:
            found.append(printable(f"{path}: {error}"))
    return found


def _note_files(out: Path) -> list[Path]:
    return list((out / SWEEPS).glob("*.json"))


def _notes(paths: Iterable[Path]) -> Iterator[_Note]:
    """Reads notes one at a time; it leaves out those that `_note` cannot read."""
    for path in paths:
        note = _note(path)
        if note is not None:
            yield note


def _note(path: Path) -> _Note | None:
    """Reads a note; None where it is cut short, or of an early version: the next command notes the study again."""
    try:
        return _read_note(path)
    except RecordError:
        return None


def _read_note(path: Path) -> _Note:
    try:
        return _Note.model_validate_json(read_regular(path, MAX_NOTE))
    except OSError as error:
        raise RecordError(f"it cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise RecordError(f"it is no note of a study: {complaint(error)}") from None


def statuses(out: Path) -> list[RunStatus]:
    """Looks what every run that was asked for below `out` is doing, and which run folders there have a record of no use."""
    rows, known = [], set()
    for run in read_asked(out):
        rows.append(status(run))
        known.add(run.folder)
    for folder in store.find_runs(out):
        if folder in known:
            continue
        try:
            store.load_record(folder)
        except RecordError as error:
            rows.append(_unusable(AskedRun(str(folder.relative_to(out)), {}, folder), error))
    return rows


def runs_to_do(out: Path, number: int | None) -> dict[int, AskedRun]:
    """Returns the runs of a study that are to be done, by their numbers.

    Args:
        out: folder of the study.
        number: of the only run that is asked for, whatever became of it; by default all that have no result and did not fail.

    Raises:
        UsageError: no study was planned there, or it has no such run.
    """
    planned = read_asked(out)
    if not planned:
        raise UsageError(f"{out} holds no study; `initbench plan ... --note --out {out}` notes one")
    if number is not None:
        if number >= len(planned):
            raise UsageError(f"--run {number}: the runs of {out} are 0 to {len(planned) - 1}; see `initbench status --out {out}`")
        return {number: planned[number]}
    found = {}
    for place, run in enumerate(planned):
        if is_to_do(status(run).state):
            found[place] = run
    return found


def is_to_do(state: str) -> bool:
    """Returns whether a run in this state is done when nobody asks for it by its number. An invalid one is done again."""
    return state not in ENDED or state == "invalid"


def status(planned: AskedRun) -> RunStatus:
    """Looks what a run is doing now."""
    folder = planned.folder
    if folder is None:
        return RunStatus(planned, planned.state, detail=printable(planned.problem))
    state = work.read_state(folder)
    if state is not None and work.is_held(folder):
        return _running(planned, state)
    if store.has_record(folder):
        return _recorded(planned, folder)
    if state is not None and state.state != work.NOT_BEGUN:
        return RunStatus(planned, "interrupted", state.step, state.total, detail=f"in {printable(state.state)}")
    return RunStatus(planned, "pending")


def is_free(planned: AskedRun, *, again: bool = False) -> bool:
    """Returns whether a run is to be done and nobody is known to have it; one that failed is only where it is tried `again`."""
    state = status(planned).state
    return state in ("pending", "interrupted", "invalid") or (again and state in ("failed", "refused"))


def is_anything_left(asked: Sequence[AskedRun], number: int) -> bool:
    """Returns whether a process may have something to do that does run `number` or another one, as far as one look tells.

    Args:
        asked: all runs of the study.
        number: of the run, which may be in other hands and become free.
    """
    if number < len(asked):
        folder = asked[number].folder
        if folder is not None and work.is_held(folder):
            return True
    return any(is_free(run, again=place == number) for place, run in enumerate(asked))


def _recorded(planned: AskedRun, folder: Path) -> RunStatus:
    """Says how a run ended, as its record has it."""
    try:
        record = store.load_record(folder)
    except RecordError as error:
        return _unusable(planned, error)
    if record.has_result:
        return _ended(planned, folder, record)
    where = record.where
    said = f"{record.reason} ({folder / store.TRACEBACK})"
    if where:
        said = f"{where.state} {where.step}/{where.total}: {said}"
    return RunStatus(planned, "failed", detail=printable(said))


def _unusable(planned: AskedRun, error: RecordError) -> RunStatus:
    return RunStatus(planned, "invalid", detail=printable(f"{store.RECORD}: {error}"))


def _ended(planned: AskedRun, folder: Path, record: Record) -> RunStatus:
    problem = store.problem(folder, record)
    if problem:
        return RunStatus(planned, "invalid", detail=printable(problem))
    state, seconds = _STATES.get(record.status, record.status), float(record.cost.total_seconds)
    detail = record.reason or ""
    if not detail and record.dice is not None:
        detail = f"Dice {100 * record.dice:.1f}"
    return RunStatus(planned, state, seconds=seconds, detail=printable(detail))


def _running(planned: AskedRun, state: work.State) -> RunStatus:
    done, elapsed = state.step - state.first, state.written - state.began
    left = None
    if done > 0 and elapsed > 0:
        left = (state.total - state.step) * elapsed / done
    said = []
    if "loss" in state.info:
        said.append(f"loss {state.info['loss']:.3g}")
    if state.host != socket.gethostname():
        said.append(f"on {printable(state.host)}, last seen {time.time() - state.written:.0f} s ago")
    return RunStatus(planned, printable(state.state), state.step, state.total, left, detail="  ".join(said))


def time_left(rows: Sequence[RunStatus]) -> float | None:
    """Estimates the seconds until the last run ends; None where nothing runs, or runs wait and none has ended.

    A run that waits is taken to need as long as the ended ones took on average.
    """
    took, own = [], []
    waiting = 0
    for row in rows:
        if row.seconds is not None:
            took.append(row.seconds)
        if row.state in ("pending", "interrupted"):
            waiting += 1
        elif row.state not in ENDED:
            own.append(row.seconds_left or 0.0)
    if not own or (waiting and not took):
        return None
    total = sum(own)
    if waiting:
        total += waiting * sum(took) / len(took)
    return total / len(own)
