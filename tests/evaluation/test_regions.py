"""Regions: unions of labels that are reported in place of the labels, from the counts to the tables."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from initbench.audit.add_distances import add_distances
from initbench.audit.verify import verify
from initbench.datasets.folder import FolderDataset
from initbench.datasets.nnunet import NnunetDataset
from initbench.datasets.splits import resolve_split
from initbench.dice import Counts
from initbench.errors import DataError
from initbench.evaluation.distances import distances_per_class as distances_of
from initbench.evaluation.metrics import count
from initbench.preprocessing.prepare import data_digest
from initbench.report.page import write
from initbench.runs import store
from initbench.stats.cases import of_classes
from initbench.tables.study import Scoring, read_study
from tests import layouts
from tests.recorded import record_values
from tests.runs_factory import record_of, run_one

REGIONS = ((1, 2, 3), (2, 3), (3,))
NESTED: dict[str, int | list[int]] = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def test_counts_by_hand() -> None:
    reference = np.array([[[0, 1, 2, 3, 3, 1]]], np.uint8)
    prediction = np.array([[[1, 1, 3, 2, 3, 0]]], np.uint8)
    assert count(reference, prediction, 4, REGIONS) == [Counts(4, 1, 1), Counts(3, 0, 0), Counts(1, 1, 1)]
    assert count(reference, prediction, 4) == [Counts(1, 1, 1), Counts(0, 1, 1), Counts(1, 1, 1)]


@pytest.mark.parametrize("seed", range(5))
def test_a_region_is_the_class_that_its_labels_make_together(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, prediction = (rng.integers(0, 5, (6, 7, 8)).astype(np.uint8) for _ in range(2))
    sets = ((1, 2, 3, 4), (2, 4), (3,))
    found = count(reference, prediction, 5, sets)
    assert found == [count(*(np.isin(m, labels).astype(np.uint8) for m in (reference, prediction)), 2)[0] for labels in sets]
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    measured = distances_of(reference, prediction, affine, 5, 2.0, sets)
    for labels, item in zip(sets, measured, strict=True):
        alone = (np.isin(label_map, labels).astype(np.uint8) for label_map in (reference, prediction))
        assert distances_of(*alone, affine, 2, 2.0) == [item]
    assert count(reference, prediction, 5, [(k,) for k in range(1, 5)]) == count(reference, prediction, 5)


@dataclass(frozen=True)
class Study:
    data: Path
    out: Path
    record: dict[str, Any]
    folder: Path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    data = layouts.nnunet(tmp_path_factory.mktemp("data") / "Dataset001_B", [f"c{i}" for i in range(5)], labels=NESTED)
    out = tmp_path_factory.mktemp("runs")
    folder = run_one(data, out, assignments=["steps.smoke=20"], save_predictions=True)
    return Study(data, out, record_of(folder), folder)


def test_a_run_trains_on_labels_and_reports_regions(study: Study) -> None:
    resolved = study.record["resolved"]
    assert resolved["classes"] == ["background", "whole", "core", "enhancing"]
    assert resolved["labels"] == ["background", "label 1", "label 2", "enhancing"]
    assert resolved["regions"] == {"whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    assert list(study.record["dice_per_class"]) == ["whole", "core", "enhancing"]
    cases = pd.read_csv(study.folder / store.CASES)
    assert list(cases["class_name"]) == ["whole", "core", "enhancing"]
    assert list(cases["class"]) == [4, 5, 6], "behind the labels, whose numbers pictures show"
    reference = NnunetDataset(study.data).load(cases["case"][0]).label
    sizes = [int(np.isin(reference, labels).sum()) for labels in REGIONS]
    assert list(cases["tp"] + cases["fn"]) == sizes


def test_tables_and_checks_see_regions(study: Study) -> None:
    assert {check.name: check.passed for check in verify(study.folder, steps=2)} == dict.fromkeys(
        ("files", "score", "settings", "data", "Dice", "steps"), True
    )
    measured = add_distances(study.folder, tolerance_mm=2.0)
    assert (measured.cases, measured.source) == (1, "predictions")
    record = record_values(study.folder)
    assert list(record["nsd_per_class"]) == ["whole", "core", "enhancing"]
    assert list(pd.read_csv(study.folder / store.CASES)["class"]) == [4, 5, 6]
    assert all(check.passed for check in verify(study.folder, steps=2))
    found = read_study(study.out, scoring=Scoring(classes=("core",)))
    assert set(of_classes(found.cases, ("core",))["class_name"]) == {"core"}


def test_regions_are_part_of_the_identity_and_checked(study: Study) -> None:
    dataset = NnunetDataset(study.data)
    split = resolve_split(dataset, None)
    with_regions = data_digest(dataset, split)[0]
    assert with_regions == study.record["resolved"]["data_digest"]
    dataset.regions = {}
    assert data_digest(dataset, split)[0] != with_regions
    for labels in ((), (0, 1), (4,), (1, 1)):
        dataset.regions = {"x": labels}
        with pytest.raises(DataError, match="region 'x' is of labels"):
            data_digest(dataset, split)


def test_a_table_of_plain_labels_has_none(tmp_path: Path) -> None:
    folder = layouts.nnunet(tmp_path / "Dataset002_C", ["a"])
    assert isinstance(NnunetDataset(folder), FolderDataset)
    assert NnunetDataset(folder).regions == {}
    assert "regions" not in json.loads((folder / "dataset.json").read_text("utf-8"))


def test_pictures_in_reports_name_labels(study: Study) -> None:
    page = study.out / "report.html"
    write(read_study(study.out), page)
    text = page.read_text("utf-8")
    key = text[text.index('<ul class="key">') :].partition("</ul>")[0]
    assert [name for name in ("label 1", "label 2", "enhancing") if f">{name}</span>" in key]
    assert ">whole</span>" not in key
    assert ">class " not in key
