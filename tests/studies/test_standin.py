"""Made-up volumes in place of data that are not here: what they are like, and what a dry run measures on them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from initbench import cache
from initbench.cli.app import main
from initbench.datasets.open import open_dataset
from initbench.datasets.splits import published_splits, resolve_split
from initbench.published import tables
from initbench.studies import standin
from tests.commands import said
from tests.runs_factory import SMALL, TINY, as_flags

SMALL_KINDS = {name: replace(kind, shape=(64, 64, 40), spacing=(4.0, 4.0, 4.0)) for name, kind in standin.KINDS.items()}


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data, and volumes that take no time to write."""
    monkeypatch.setenv("INITBENCH_DATA", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(standin, "KINDS", SMALL_KINDS)
    return tmp_path


@pytest.mark.parametrize("name", standin.KINDS)
def test_a_stand_in_has_name_split_and_classes_of_the_data_set(name: str, nowhere: Path) -> None:
    kind, modality, air, tissue = SMALL_KINDS[name], "CT", -1000, -500
    if name == "brats":
        modality, air, tissue = "MR", 0, 100
    with standin.stand_ins([name, "camus"]) as folders:
        assert list(folders) == [name]
        dataset = open_dataset(folders[name])
        assert (dataset.name, dataset.modality, len(dataset.classes)) == (name, modality, kind.classes)
        assert resolve_split(dataset, None) == published_splits(name)[0]
        case = dataset.load(dataset.case_ids()[0])
        assert case.image.shape == (len(kind.channels), *kind.shape)
        assert case.label.shape == kind.shape
        assert set(np.unique(case.label)) == set(range(kind.classes))
        assert np.linalg.norm(case.affine[:3, :3], axis=0) == pytest.approx(kind.spacing)
        assert case.image.min() == air
        assert 0.3 < (case.image > tissue).mean() < 0.7


def test_every_table_can_be_timed_without_its_data() -> None:
    assert {row.dataset for table in tables.tables() for row in table.row if row.init} <= set(standin.KINDS)


def test_nothing_is_left_of_it(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after an error."""
    where = []

    def broken_off() -> None:
        with standin.stand_ins(["lung"]) as folders:
            where.extend([Path(folders["lung"]), cache.root()])
            raise RuntimeError("in between")

    monkeypatch.setenv(cache.ENVIRONMENT, str(nowhere / "cache"))
    with pytest.raises(RuntimeError, match="in between"):
        broken_off()
    assert [path.exists() for path in where] == [False, False]
    assert cache.root() == nowhere / "cache"
    monkeypatch.delenv(cache.ENVIRONMENT)
    with standin.stand_ins([]):
        pass
    assert cache.ENVIRONMENT not in os.environ


def test_a_dry_run_measures_hours_without_the_data(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of all cells, at the number of steps and of reported cases of the data set."""
    options = [*TINY, *as_flags(SMALL), "--dry-run", "--out", str(nowhere / "runs")]
    unknown = "Hours: unknown without the data; --measure times steps on made-up volumes of the same size."
    assert unknown in " ".join(said(capsys, "reproduce", "lwi:table-1", *options).split())
    text = said(capsys, "reproduce", "lwi:table-1", *options, "--measure", "--json")
    study = next(row for row in json.loads(text) if row["of"] == "study")
    assert study["new"] == 3 * 4  # default, lwi with either order loss, and the placebo
    assert study["wall_seconds_low"] > 0
    text = " ".join(said(capsys, "reproduce", "lwi:table-1", *options, "--measure").split())
    assert "Timed on made-up volumes (synapse: 64 × 64 × 40 voxels of 4 × 4 × 4 mm, 13 classes)" in text
    assert not (nowhere / "runs").exists()


@pytest.mark.full
def test_what_is_refused_is_told_by_the_name_of_the_data_set(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three slots along the width do not divide a tiny patch: the run would say so, and the plan does."""
    options = ["--size", "tiny", "--budget", "smoke", "--device", "cpu", "--seeds", "1", "--dry-run", "--measure"]
    options += ["--set", "patch.batch=1", "--set", "pretext.batch=1", "--out", str(nowhere / "runs")]
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", "lwi:table-1", *options])
    assert ended.value.code == 2
    printed = " ".join(capsys.readouterr().out.split())
    assert "refused: lwi-as-released × unetr(variant='perceptron') × synapse seed 0 equal-finetune: pool=width" in printed
