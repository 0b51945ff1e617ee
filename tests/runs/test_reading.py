"""Records and tables of cases are read with their types; what cannot be read is passed over."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import numpy as np
import pytest

import initbench
from initbench import dice
from initbench.errors import UsageError
from initbench.runs import store
from initbench.runs.read import read_runs
from tests.folders import ROOT
from tests.recorded import CASES, write_run


def _keys(name: str) -> tuple[set[str], set[str]]:
    """Keys of the record and of its `resolved`, as harness/record.py writes them; read without importing torch."""
    tree = ast.parse((ROOT / "initbench/harness/record.py").read_text("utf-8"))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    table = next(node.value for node in ast.walk(function) if isinstance(node, ast.Return))
    assert isinstance(table, ast.Dict)
    named = {key.value: value for key, value in zip(table.keys, table.values, strict=True) if isinstance(key, ast.Constant)}
    resolved = named["resolved"]
    assert isinstance(resolved, ast.Dict)
    return set(named), {key.value for key in resolved.keys if isinstance(key, ast.Constant)}


def test_hand_made_records_have_the_keys_of_real_ones(tmp_path: Path) -> None:
    record = store.read_record(write_run(tmp_path))
    assert record is not None
    header, resolved = _keys("header")
    assert set(record["resolved"]) == resolved
    assert header <= set(record)


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
    text = (folder / store.CASES).read_text("utf-8").replace("case_01", "001").replace("case_02", "NA")
    (folder / store.CASES).write_text(text, "utf-8")
    record = store.read_record(folder)
    assert record is not None
    store.write_json(folder / store.RECORD, store.seal({k: v for k, v in record.items() if k != "digest"}, folder))
    assert list(initbench.load_cases(tmp_path)["case"]) == ["001", "NA", "case_03", "case_04"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 1, "sta', b"[]", b'{"schema": 99}', b"\xff\xfe\x00", b"null"])
def test_a_corrupt_record_is_passed_over(tmp_path: Path, content: bytes) -> None:
    write_run(tmp_path, "default", 0.5)
    folder = write_run(tmp_path, "lwi", 0.6)
    (folder / store.RECORD).write_bytes(content)
    assert list(initbench.load_runs(tmp_path)["init"]) == ["default"]
    assert read_runs(tmp_path).unreadable == (folder,)
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
