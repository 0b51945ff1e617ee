"""Records and tables of cases are read with their types; what cannot be read is passed over."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import initbench
from initbench import dice
from initbench.errors import UsageError
from initbench.runs import store
from initbench.runs.read import read_runs
from initbench.runs.record import Head, Resolved
from tests.recorded import CASES, record_values, reseal, write_run


def test_hand_made_records_have_the_keys_of_real_ones(tmp_path: Path) -> None:
    record = record_values(write_run(tmp_path))
    sometimes = {"split_caveat", "labels", "regions", "regimen_params", "regimen_source", "regimen_budget"}
    assert set(record["resolved"]) == set(Resolved.model_fields) - sometimes
    head = {field.alias or name for name, field in Head.model_fields.items()}
    assert head <= set(record)


def test_runs_are_read_with_their_types(tmp_path: Path) -> None:
    write_run(tmp_path, "lwi", 0.6, seed=1, seconds=(20.0, 100.0), changed=0.75, protocol="equal-total")
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "mae", status="failed", protocol="equal-total")
    write_run(tmp_path, "order", 0.0, status="diverged", protocol="equal-total")
    runs = initbench.load_runs(tmp_path)
    assert list(runs["init"]) == ["default", "lwi", "mae", "order"]
    assert list(runs["status"]) == ["ok", "ok", "failed", "diverged"]
    assert runs["dice"].to_list()[:2] == [0.5, 0.6]
    assert math.isnan(runs["dice"][2])
    assert runs["dice"][3] == 0
    kinds = {"seed": "i", "steps": "i", "dice": "f", "changed_share": "f", "total_seconds": "f", "learned": "b"}
    assert {column: runs[column].dtype.kind for column in kinds} == kinds
    lwi = runs[runs["init"] == "lwi"].iloc[0]
    assert (lwi["init_seconds"], lwi["train_seconds"], lwi["total_seconds"], lwi["changed_share"]) == (20, 80, 100, 0.75)
    assert (lwi["device"], lwi["environment"], lwi["recipe"]) == ("a CPU", "e0", "a" * 12)
    assert store.is_finished(Path(lwi["path"]))
    assert runs["reason"][2] == "planted"


def test_types_do_not_depend_on_what_there_is(tmp_path: Path) -> None:
    write_run(tmp_path / "good")
    write_run(tmp_path / "bad", status="failed")
    (tmp_path / "empty").mkdir()
    good, bad, empty = (initbench.load_runs(tmp_path / name) for name in ("good", "bad", "empty"))
    assert list(good.columns) == list(bad.columns) == list(empty.columns)
    for column in ("dice", "changed_share", "init_seconds", "train_seconds", "total_seconds"):
        assert good[column].dtype == bad[column].dtype == empty[column].dtype == np.float64
    assert len(empty) == 0


def test_cases_are_read_with_their_types(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "lwi", 0.6, seed=1, protocol="equal-total")
    write_run(tmp_path, "mae", status="failed")
    cases = initbench.load_cases(tmp_path)
    assert list(cases.columns[:7]) == ["init", "backbone", "dataset", "seed", "protocol", "status", "cell"]
    assert list(cases["init"]) == ["default"] * 4 + ["lwi"] * 4
    assert list(cases["case"]) == [*CASES, *CASES]
    assert list(cases["seed"]) == [0] * 4 + [1] * 4
    assert list(cases["dice"])[:3] == [0.396, 0.5, 0.604]
    assert cases["dice"].isna().to_list() == [False, False, False, True] * 2
    assert {cases[column].dtype.kind for column in ("tp", "fp", "fn", "seed", "class")} == {"i"}
    # the run's score comes back from the counts
    counts = [[dice.Counts(*values)] for values in cases.iloc[:4][["tp", "fp", "fn"]].itertuples(index=False)]
    assert dice.run_dice(counts) == pytest.approx(0.5)


def test_case_names_stay_text(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    for name in (store.CASES, store.RECORD):
        text = (folder / name).read_text("utf-8").replace("case_01", "001").replace("case_02", "NA")
        (folder / name).write_text(text, "utf-8")
    reseal(folder)
    assert list(initbench.load_cases(tmp_path)["case"]) == ["001", "NA", "case_03", "case_04"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 1, "sta', b"[]", b'{"schema": 99}', b"\xff\xfe\x00", b"null"])
def test_a_corrupt_record_is_passed_over(tmp_path: Path, content: bytes) -> None:
    write_run(tmp_path, "default", 0.5)
    folder = write_run(tmp_path, "lwi", 0.6)
    (folder / store.RECORD).write_bytes(content)
    assert list(initbench.load_runs(tmp_path)["init"]) == ["default"]
    assert [item.folder for item in read_runs(tmp_path).unreadable] == [folder]
    assert set(initbench.load_cases(tmp_path)["init"]) == {"default"}
    assert not store.is_finished(folder)


def test_half_written_runs_and_strange_files_are_passed_over(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    (folder.parent / ".seed-1-abc").mkdir()
    (folder.parent / ".seed-1-abc" / store.RECORD).write_text((folder / store.RECORD).read_text("utf-8"), "utf-8")
    (folder.parent / "seed-2").mkdir()
    (tmp_path / "notes.txt").write_text("mine", "utf-8")
    assert len(initbench.load_runs(tmp_path)) == 1


def test_a_missing_folder_is_an_error_and_an_empty_one_is_not(tmp_path: Path) -> None:
    for read in (initbench.load_runs, initbench.load_cases):
        with pytest.raises(UsageError, match="there is no such folder of runs; `initbench run"):
            read(tmp_path / "nowhere")
        assert read(tmp_path).empty
