"""`collect`: folders of several sites become one, and nothing is counted twice or overwritten."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from initbench.runs import collect, kinds, store, work
from initbench.runs.status import AskedRun, read_asked, statuses, write_asked
from tests.claimed import other_machine
from tests.commands import said
from tests.recorded import record_values, reseal, write_run

FILES = (store.RECORD, store.CASES)


@pytest.fixture
def sites(tmp_path: Path) -> tuple[Path, Path]:
    """Two sites: the first did seeds 0 and 1, the second seeds 1 and 2."""
    found = tmp_path / "berlin", tmp_path / "lyon"
    for number, site in enumerate(found):
        folders = [write_run(site, score=0.4 + 0.1 * seed, seed=seed) for seed in (number, number + 1)]
        planned = [AskedRun(f"default {folder.name}", asked(folder, site), folder) for folder in folders]
        write_asked(site, planned)
    return found


def asked(folder: Path, site: Path) -> dict[str, Any]:
    """A request as a note holds it, with the place of the data at a site."""
    seed = int(folder.name.removeprefix("seed-"))
    return {"init": "default", "backbone": "unetr", "dataset": "lung", "seed": seed, "data_root": str(site)}


def contents(out: Path) -> dict[str, bytes]:
    """All files of the runs below a folder."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("[!.]*/**/*") if path.is_file()}


def places_of_data(out: Path) -> dict[int, str]:
    """Where the data of each seed are, as the notes of a study say it."""
    return {run.request["seed"]: run.request["data_root"] for run in read_asked(out)}


def collected(capsys: pytest.CaptureFixture[str], *folders: Path, into: Path, code: int = 0) -> str:
    """What the command says, in one line."""
    return " ".join(said(capsys, "collect", *map(str, folders), "--into", str(into), code=code).split())


def test_runs_of_two_sites_become_one_study(sites: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    berlin, lyon = sites
    out = tmp_path / "all"
    kinds.fix_kind(berlin, "ab12", "a\x1b[31m GPU")
    text = collected(capsys, berlin, lyon, into=out)
    assert f"seed-1 is in {berlin} and in {lyon}, with the same result" in text
    assert f"{berlin}: 2 taken {lyon}: 1 taken 3 taken, 0 there before, 1 double, 0 not taken" in text
    assert contents(out) == contents(lyon) | contents(berlin)
    assert {row.planned.label: row.state for row in statuses(out)} == {f"default seed-{seed}": "done" for seed in range(3)}
    assert places_of_data(out) == {0: str(berlin), 1: str(berlin), 2: str(lyon)}
    assert kinds.fixed_kind(out, "ab12").isprintable()
    assert not any(work.is_held(folder) for folder in store.find_runs(out))
    assert "0 taken, 3 there before, 1 double" in collected(capsys, berlin, lyon, into=out)
    notes = sorted((out / store.SWEEPS).iterdir())
    assert len(notes) == 2, "what was noted once is not noted again"


def test_a_site_may_take_the_runs_of_another(sites: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    berlin, lyon = sites
    assert "1 taken, 1 there before, 0 double" in collected(capsys, lyon, into=berlin)
    assert places_of_data(berlin) == {0: str(berlin), 1: str(berlin), 2: str(lyon)}, "the data of this site stay where they are"


def test_two_results_of_one_run_are_both_named_and_nothing_is_copied(
    sites: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    berlin, lyon = sites
    shutil.rmtree(next(lyon.glob("*/*/*/seed-1")))
    other = write_run(lyon, score=0.7, seed=1)
    values = record_values(other)
    values["environment"]["accelerator"] = "other \x1b[2JGPU"
    reseal(other, values)
    text = collected(capsys, berlin, lyon, into=tmp_path / "all", code=1)
    assert f"Dice 50.00 in {berlin} (a CPU), Dice 70.00 in {lyon} (other" in text
    assert "\x1b[2J" not in text
    assert "runs with different results: 1, so nothing was copied" in text
    assert not (tmp_path / "all").exists()
    assert "different results: 1" in collected(capsys, lyon, into=berlin, code=1)
    assert not list(berlin.glob("*/*/*/seed-2")), "the run that does not conflict stays away, too"


def test_equal_weights_and_score_with_other_counts_are_a_conflict(sites: tuple[Path, Path]) -> None:
    berlin, lyon = sites
    place = next(lyon.glob("*/*/*/seed-1"))
    text = (place / store.CASES).read_text()
    (place / store.CASES).write_text(text.replace(",7,", ",8,"))
    reseal(place)
    assert len(collect.compare_sites(sites, berlin.with_name("all")).conflicts) == 1
    (place / store.CASES).write_text(text.replace("nsd", "surface_dice"))
    reseal(place)
    assert not collect.compare_sites(sites, berlin.with_name("all")).conflicts, "distances may be measured later"


def test_runs_in_hand_and_damaged_ones_are_left(
    sites: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    berlin, lyon = sites
    other_machine(work.claim_place(next(berlin.glob("*/*/*/seed-0"))))
    shutil.copytree(next(berlin.glob("*/*/*/seed-0")), next(berlin.glob("*/*/*")) / ".seed-7-host-x.unfinished")
    damaged = next(lyon.glob("*/*/*/seed-2"))
    (damaged / store.CASES).write_text("case\n")
    out = tmp_path / "all"
    text = collected(capsys, berlin, lyon, into=out, code=1)
    assert "seed-0 is not taken: a process has it in hand" in text
    assert "seed-2 is not taken: cases.csv" in text
    assert [folder.name for folder in store.find_runs(out)] == ["seed-1"]
    write_run(lyon, score=0.6, seed=2).rename(tmp_path / "gone")
    shutil.rmtree(berlin / work.CLAIMS)
    assert "1 taken, 1 there before" in collected(capsys, berlin, into=out)


def test_claims_that_cannot_be_read_leave_the_run(
    sites: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(work, "is_held", refuse)
    found = collect.compare_sites(sites, tmp_path / "all")
    assert len(found.left) == 4
    assert "nobody can tell" in str(found.left[0])


def test_links_are_not_followed(sites: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    berlin, _ = sites
    secret = tmp_path / "secret"
    secret.write_text("a secret")
    (next(berlin.glob("*/*/*/seed-0")) / "overlay.png").symlink_to(secret)
    assert "overlay.png is a link" in collected(capsys, berlin, into=tmp_path / "all", code=1)
    assert b"a secret" not in contents(tmp_path / "all").values()


def test_a_failed_run_gives_way_to_a_result(sites: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    berlin, lyon = sites
    out = tmp_path / "all"
    place = next(berlin.glob("*/*/*/seed-1")).relative_to(berlin)
    write_run(out, score=None, seed=1, status="failed")
    assert store.load_record(out / place).status == "failed"
    assert "3 taken" in collected(capsys, berlin, lyon, into=out)
    assert store.load_record(out / place).status == "ok"
    write_run(berlin, score=None, seed=5, status="failed")
    assert "1 taken" in collected(capsys, berlin, into=out)
    assert [row.state for row in statuses(out)] == ["done"] * 3, "the run that nobody planned is in no list"
    assert "0 taken" in collected(capsys, berlin, into=out)


def test_a_full_disk_stops_it_and_it_goes_on_later(
    sites: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    berlin, lyon = sites
    out = tmp_path / "all"
    with monkeypatch.context() as patch:
        copied: list[Any] = []

        def copy(source: Any, target: Any) -> None:
            copied.append(source)
            if len(copied) > len(FILES):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out))
            target.write(source.read())

        patch.setattr(collect.shutil, "copyfileobj", copy)
        text = collected(capsys, berlin, lyon, into=out, code=1)
    assert "after 1 copied runs: the disk is full" in text
    assert len(list(store.find_runs(out))) == 1
    assert not list(out.glob("*/*/*/.seed-*"))
    assert "2 taken, 1 there before" in collected(capsys, berlin, lyon, into=out)


def test_wrong_folders_are_refused(sites: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    berlin, _ = sites
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no such folder" in collected(capsys, tmp_path / "void", into=tmp_path / "all", code=2)
    assert "holds no study" in collected(capsys, empty, into=tmp_path / "all", code=2)
    assert "named twice" in collected(capsys, berlin, berlin, into=tmp_path / "all", code=2)
    assert "named twice" in collected(capsys, berlin, into=berlin, code=2)
    (tmp_path / "file").write_text("")
    assert "cannot be a folder" in collected(capsys, berlin, into=tmp_path / "file", code=2)


def test_a_note_that_cannot_be_read_is_said(sites: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    berlin, _ = sites
    (berlin / store.SWEEPS / "cut.json").write_text(json.dumps({"runs": 3}))
    assert "cut.json: it is no note of a study" in collected(capsys, berlin, into=tmp_path / "all", code=1)
    assert len(list(store.find_runs(tmp_path / "all"))) == 2
