"""Counts on the preprocessed grid beside those on the native one: what they are, where they lie, and who checks them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_model

from initbench.audit.add_distances import add_distances
from initbench.audit.rescore import read_cases
from initbench.audit.verify import verify
from initbench.cli.app import main
from initbench.dice import run_dice
from initbench.errors import UsageError
from initbench.harness.cell import resolve_cell
from initbench.harness.request import from_json
from initbench.harness.run import Run
from initbench.protocols import NoProgress
from initbench.runs import store
from initbench.runs.read import read_runs
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.study import Scoring, read_study
from tests.recorded import reseal
from tests.runs_factory import THIRTY_STEPS, run, run_one

COARSE = (*THIRTY_STEPS, "preprocess.spacing=3,1.5,1.5", "preprocess.intensity=window", "preprocess.resampling=monai")


def train(data: Path, out: Path, *assignments: str) -> Path:
    return run_one(data, out, settings=COARSE, assignments=assignments)


@pytest.fixture(scope="module")
def both(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(data, tmp_path_factory.mktemp("both"), "inference.grids=native,resampled")


def test_the_native_score_is_what_it_is_alone(data: Path, both: Path, tmp_path: Path) -> None:
    alone = train(data, tmp_path)
    assert (alone / store.CASES).read_bytes() == (both / store.CASES).read_bytes()
    assert not (alone / store.CASES_RESAMPLED).exists()
    assert alone.parent.name != both.parent.name, "what a run leaves is part of what was asked"
    records = [json.loads((folder / store.RECORD).read_text()) for folder in (alone, both)]
    assert records[0]["dice"] == records[1]["dice"]
    assert "dice_resampled" not in records[0]


def test_counts_are_those_of_labels_on_the_preprocessed_grid(both: Path) -> None:
    record = json.loads((both / store.RECORD).read_text())
    cell = resolve_cell(from_json(record["asked"], out=both.parents[3]))
    model = Run(cell, both, NoProgress()).construct()
    load_model(model, both / store.WEIGHTS)
    counts = dict(read_cases(both, store.CASES_RESAMPLED)[0])
    assert list(counts) == list(cell.prepared.split.test)
    for case_id in cell.prepared.split.test:
        case = cell.prepared.case(case_id)
        size = cell.recipe.patch.size
        assert all(n <= p for n, p in zip(case.label.shape, size, strict=True)), "one window sees the whole case"
        margins = [(p - n) for n, p in zip(case.label.shape, size, strict=True)]
        padded = np.pad(case.image, [(0, 0), *((m // 2, m - m // 2) for m in margins)])
        with torch.inference_mode():
            output = model.eval()(torch.from_numpy(padded)[None])
        labels = (output if isinstance(output, torch.Tensor) else output[0])[0].argmax(0).numpy()
        labels = labels[tuple(slice(m // 2, m // 2 + n) for m, n in zip(margins, case.label.shape, strict=True))]
        for k, found in enumerate(counts[case_id], start=1):
            ours, theirs = labels == k, case.label == k
            assert (found.tp, found.fp, found.fn) == ((ours & theirs).sum(), (ours & ~theirs).sum(), (~ours & theirs).sum())
    assert record["dice_resampled"] == pytest.approx(run_dice(list(counts.values())))
    assert set(record["dice_per_class_resampled"]) == set(record["dice_per_class"])
    native = dict(read_cases(both)[0])
    assert native != counts


def test_verify_looks_at_both_tables(both: Path) -> None:
    checks = {check.name: check for check in verify(both, steps=2)}
    assert all(check.passed for check in checks.values()), checks
    assert store.CASES_RESAMPLED in checks["files"].detail


def test_a_changed_second_table_is_found(data: Path, tmp_path: Path) -> None:
    folder = train(data, tmp_path, "inference.grids=native,resampled")
    table = pd.read_csv(folder / store.CASES_RESAMPLED)
    table["tp"] += 1
    table.to_csv(folder / store.CASES_RESAMPLED, index=False)
    assert not {check.name: check.passed for check in verify(folder, steps=1)}["files"]
    reseal(folder)
    resealed = {check.name: check for check in verify(folder, steps=1)}
    assert resealed["files"].passed
    assert store.CASES_RESAMPLED in resealed["score"].detail
    assert not resealed["score"].passed
    assert not resealed["Dice"].passed


def test_tables_and_later_distances_leave_it_alone(data: Path, tmp_path: Path) -> None:
    folder = train(data, tmp_path, "inference.grids=native,resampled")
    before = (folder / store.CASES_RESAMPLED).read_bytes()
    add_distances(folder)
    assert (folder / store.CASES_RESAMPLED).read_bytes() == before
    assert store.problem(folder, store.load_record(folder), thorough=True) == ""
    loaded = read_runs(tmp_path)
    assert len(loaded.cases) == len(pd.read_csv(folder / store.CASES))


def test_tables_are_of_the_grid_that_is_asked_for(data: Path, both: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, record = both.parents[3], json.loads((both / store.RECORD).read_text())
    assert record["dice_resampled"] != record["dice"]

    def dice(*options: str) -> float:
        with pytest.raises(SystemExit) as ended:
            main(["leaderboard", "--out", str(out), *options, "--format", "json"])
        assert ended.value.code == 0
        [row] = json.loads(capsys.readouterr().out)
        return float(row["dice"])

    assert dice() == pytest.approx(100 * record["dice"])
    assert dice("--grid", "native") == dice()
    assert dice("--grid", "resampled") == pytest.approx(100 * record["dice_resampled"])
    study = read_study(out, scoring=Scoring(grid="resampled"))
    assert list(study.runs["dice"]) == [record["dice_resampled"]]
    assert int(study.cases["tp"].sum()) == int(pd.read_csv(both / store.CASES_RESAMPLED)["tp"].sum())
    assert "in points, at the resampled grid" in " ".join(leaderboard_sheets(study)[-1].legend)


def test_runs_without_counts_on_the_grid_are_kept_off(
    data: Path, both: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = train(data, tmp_path)
    with pytest.raises(UsageError, match=r"no run was counted on the resampled grid.*--set inference\.grids=native,resampled"):
        read_study(tmp_path, scoring=Scoring(grid="resampled"))
    shutil.copytree(both.parent, alone.parents[1] / both.parent.name)
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard", "--out", str(tmp_path), "--grid", "resampled", "--format", "json"])
    said = capsys.readouterr()
    assert (ended.value.code, len(json.loads(said.out))) == (0, 1)
    assert "runs without counts on the resampled grid are kept off: 1" in said.err


def test_a_changed_second_table_is_kept_off_the_tables(data: Path, both: Path, tmp_path: Path) -> None:
    folder = tmp_path / both.relative_to(both.parents[3])
    shutil.copytree(both, folder)
    assert list(read_runs(tmp_path, "resampled").runs["status"]) == ["ok"]
    text = (folder / store.CASES_RESAMPLED).read_text()
    digit = next(letter for letter in text[::-1] if letter.isdecimal())
    (folder / store.CASES_RESAMPLED).write_text(text[::-1].replace(digit, "7" if digit != "7" else "6", 1)[::-1])
    runs = read_runs(tmp_path, "resampled").runs
    assert list(runs["status"]) == ["invalid"]
    assert runs["dice"].isna().all()


def test_a_diverged_run_scores_worst_on_both(data: Path, tmp_path: Path) -> None:
    broken = ("inference.grids=native,resampled", "optimizer.lr=1e30", "optimizer.clip=0")
    [outcome] = run(data, tmp_path, settings=COARSE, assignments=broken)
    assert outcome.state == "diverged"
    record = json.loads((Path(outcome.folder) / store.RECORD).read_text())
    assert record["dice_resampled"] == record["dice"] == 0
