"""Run folders that hold anything: every command names them, shows the others, and neither raises nor waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from initbench.runs import store
from initbench.runs.read import read_runs
from initbench.runs.record import SCHEMA, Record, RecordError, parse_record
from initbench.runs.status import AskedRun, write_asked
from tests.folders import ROOT
from tests.recorded import record_values, write_block, write_run
from tests.runs.faults import ESCAPES, Fault, chosen, plant_notes

GIB = 2**20  # KiB
GOOD = {"default": [0.60, 0.62, 0.64], "lwi": [0.70, 0.73, 0.71]}
PROTOCOL = {"protocol": "equal-total"}


@dataclass(frozen=True)
class Asked:
    """A study with faulty run folders: what every command said of it, by name, and the peak of the memory in KiB."""

    out: Path
    planted: dict[Path, Fault]
    said: dict[str, dict[str, Any]]
    peak: int


def commands(out: Path, page: Path) -> dict[str, list[str]]:
    where = ["--out", str(out)]
    return {
        "leaderboard": ["leaderboard", *where, "--format", "json"],
        "leaderboard for people": ["leaderboard", *where],
        "report": ["report", *where, "--html", str(page)],
        "status": ["status", *where, "--json"],
        "status for people": ["status", *where],
        "classes": ["classes", *where, "--format", "json"],
        "compare": ["compare", "default", "lwi", *where, "--format", "json"],
        "variance": ["variance", *where],
        "power": ["power", *where],
        "verify": ["verify", str(out), "--json"],
        "measure": ["measure", str(out), "--json"],
        "reproduce": ["reproduce", "lwi:table-6", *where, "--report-only"],
        "retry": ["retry", "--failed", *where],
    }


def ask(folder: Path, asked: dict[str, list[str]], timeout: float) -> tuple[dict[str, dict[str, Any]], int]:
    """What commands of one process said, and its peak; it is ended where it waits for ever."""
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", "tests.runs.ask", json.dumps(list(asked.values()))],
        capture_output=True,
        check=False,
        timeout=timeout,
        cwd=ROOT,
        env={**os.environ, "INITBENCH_CACHE": str(folder / "cache"), "COLUMNS": "200", "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    answer = json.loads(done.stdout)
    return dict(zip(asked, answer["ended"], strict=True)), answer["peak"]


def planted_study(folder: Path, faults: list[Fault]) -> Asked:
    out = folder / "runs"
    write_block(out, GOOD, asked={"init": "default", "backbone": "none", "dataset": "none", "seed": 0})
    planted = {}
    for number, fault in enumerate(faults):
        run = write_run(out, f"faulty-{number}", 0.5)
        fault.plant(run)
        planted[run] = fault
    request = {"init": "a", "backbone": "b", "dataset": "c", "seed": 0}
    everything = [*store.find_runs(out), *planted]
    write_asked(out, [AskedRun(f"run {number}", request | {"seed": number}, run) for number, run in enumerate(everything[::2])])
    plant_notes(out)
    said, peak = ask(folder, commands(out, folder / "page.html"), timeout=1800)
    return Asked(out, planted, said, peak)


@pytest.fixture(scope="module", params=[30, pytest.param(500, marks=pytest.mark.full)])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return planted_study(tmp_path_factory.mktemp("faulty"), chosen(request.param, seed=1))


def good(out: Path) -> dict[Path, str]:
    """Folders of the runs that nothing was planted in, with their inits."""
    return {folder: init for init in GOOD for folder in sorted(out.glob(f"*/*/{init}-*/seed-*"))}


def test_no_command_raises(study: Asked) -> None:
    tracebacks = {name: ended["traceback"] for name, ended in study.said.items() if ended["traceback"]}
    assert tracebacks == {}
    assert not [name for name, ended in study.said.items() if "Traceback" in ended["out"] + ended["err"]]


def test_the_peak_is_below_a_gigabyte(study: Asked) -> None:
    assert study.peak < GIB, {name: round(ended["seconds"], 1) for name, ended in study.said.items()}


def test_the_others_are_shown(study: Asked, tmp_path: Path) -> None:
    write_block(tmp_path / "runs", GOOD)
    alone, _ = ask(tmp_path, {"leaderboard": ["leaderboard", "--out", str(tmp_path / "runs"), "--format", "json"]}, timeout=600)
    expected = {row["init"]: row["dice"] for row in json.loads(alone["leaderboard"]["out"])}
    shown = {row["init"]: row["dice"] for row in json.loads(study.said["leaderboard"]["out"])}
    assert {init: shown[init] for init in GOOD} == expected
    page = (study.out.parent / "page.html").read_text("utf-8")
    assert all(str(folder) in page for folder in good(study.out))
    assert {row["init"] for row in json.loads(study.said["classes"]["out"])} >= set(GOOD)
    compared = json.loads(study.said["compare"]["out"])
    assert any(row["difference"] is not None for row in compared)
    checked = {row["run"]: row for row in json.loads(study.said["verify"]["out"])}
    for folder in good(study.out):
        passed = {check["name"]: check["passed"] for check in checked[str(folder)]["checks"]}
        assert (passed["files"], passed["score"]) == (True, True)
    states = {row["folder"]: row["state"] for row in json.loads(study.said["status"]["out"])}
    asked_for = [folder for folder in good(study.out) if str(folder) in states]
    assert asked_for
    assert {states[str(folder)] for folder in asked_for} == {"done"}


def test_each_is_named_with_its_reason(study: Asked) -> None:
    found = read_runs(study.out)
    named = {item.folder: item.reason for item in found.unreadable}
    status = {Path(path): state for path, state in zip(found.runs["path"], found.runs["status"], strict=True)}
    for folder, fault in study.planted.items():
        known = folder in named or folder in status or not store.has_record(folder)
        assert known, fault.name
        kept_off = folder in named or status.get(folder) in ("invalid", "failed", None)
        assert fault.shows or kept_off, fault.name
    assert all(reason and reason.isprintable() for reason in named.values())
    states = {row["folder"]: row for row in json.loads(study.said["status"]["out"])}
    for folder, reason in named.items():
        if not store.read_record(folder):
            assert states[str(folder)]["state"] == "invalid", reason
            assert states[str(folder)]["detail"]


def test_few_are_named_and_the_others_counted(study: Asked) -> None:
    warned = [line for line in study.said["leaderboard"]["err"].splitlines() if "record.json is kept off" in line]
    unreadable = len(read_runs(study.out).unreadable)
    assert len(warned) == min(10, unreadable)
    assert f"and {unreadable - 10} more; `initbench status --out {study.out}` names all" in study.said["leaderboard"]["err"]


def test_no_text_of_a_record_moves_the_terminal(study: Asked) -> None:
    for name, ended in study.said.items():
        shown = ended["out"] + ended["err"]
        assert not [sign for sign in ("\x1b", "\x07", "\x9b") if sign in shown], name


def test_a_study_of_faulty_runs_alone_is_one_error(tmp_path: Path) -> None:
    for number in range(12):
        (write_run(tmp_path / "runs", f"faulty-{number}", 0.5) / store.RECORD).write_text("{}", "utf-8")
    asked = commands(tmp_path / "runs", tmp_path / "page.html")
    wanted = ("leaderboard", "report", "classes", "compare", "variance", "power", "reproduce")
    said, _ = ask(tmp_path, {name: asked[name] for name in wanted}, timeout=600)
    for name, ended in said.items():
        assert (ended["code"], ended["traceback"]) == (1, ""), name
        assert "no record of 12 runs can be used" in ended["err"], name


# --- the model --------------------------------------------------------------------------------------------------------


def test_a_record_is_written_as_it_was_read(tmp_path: Path) -> None:
    """Whole numbers stay whole, keys of later versions are kept, and absent ones stay absent: or no seal would hold."""
    values = record_values(write_run(tmp_path, patients={}))
    values["cost"]["init"]["seconds"] = 0
    values["cost"]["memory_by_stage"] = {"init": [1, 2.5, None]}
    values["resolved"]["later"] = "kept"
    record = parse_record(json.dumps(values).encode())
    assert json.dumps(record.written(), sort_keys=True) == json.dumps(values, sort_keys=True)
    assert json.dumps(record.changed(notes=["x"]).without("notes").written()).count("kept") == 1


def test_defaults_of_keys_that_are_younger_than_a_record(tmp_path: Path) -> None:
    values = record_values(write_run(tmp_path, patients={}))
    for part, key in (("resolved", "regimen"), ("resolved", "fixed_streams"), ("resolved", "external")):
        del values[part][key]
    record = parse_record(json.dumps(values).encode())
    resolved = record.resolved
    assert (resolved.regimen, resolved.fixed_streams, resolved.external, resolved.patients) == ("plain", [], False, {})
    assert (record.cost.distance_seconds, record.distances, record.notes) == (0, None, [])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dice": "0.5"}, "dice should be a valid number"),
        ({"dice": 1.5}, "dice should be less than or equal to 1"),
        ({"resolved": []}, "resolved should be a valid dictionary"),
        ({"cost": None}, "cost should be a valid dictionary"),
        ({"status": ESCAPES}, "status should be 'ok', 'diverged' or 'failed'"),
        ({"schema": SCHEMA + 1}, "a later version of initbench wrote it (schema 2, this one reads 1)"),
        ({"files": {"../weights": "x"}}, "files.../weights"),
    ],
)
def test_reasons_name_the_key(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    values = record_values(write_run(tmp_path)) | change
    with pytest.raises(RecordError) as caught:
        parse_record(json.dumps(values).encode())
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


def test_every_key_is_described() -> None:
    def undescribed(model: Any) -> list[str]:
        return [name for name, field in model.model_fields.items() if not field.description]

    assert undescribed(Record) == []


def test_the_record_of_another_run_is_kept_off(tmp_path: Path) -> None:
    """A folder that was copied beside its own would be counted twice."""
    folder = write_run(tmp_path)
    copy = folder.with_name("seed-9")
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    found = read_runs(tmp_path)
    assert list(found.runs["path"]) == [str(folder)]
    assert [str(item).partition(": ")[2] for item in found.unreadable] == [
        f"record.json is kept off: it is of seed 0 of cell {record_values(folder)['cell'][:10]}, whose folder is another"
    ]
