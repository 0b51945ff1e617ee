"""Whose a case is and who trains, as ids and the files beside a data set say it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from initbench.cli.app import main
from initbench.datasets import splits, stated
from initbench.datasets.nnunet import NnunetDataset
from initbench.datasets.open import open_dataset
from initbench.errors import DataError, UsageError
from initbench.protocols import Dataset, Split, caveat_of, group_of, stated_of
from tests import layouts
from tests.msd_factory import make_msd
from tests.runs_factory import record_of, run_one

FRAMES = tuple(f"patient{number:03d}_frame{frame:02d}" for number in range(1, 8) for frame in (1, 12))
PLAIN = tuple(f"case_{number}" for number in range(5))
SCANS = ("anna_1", "anna_2", "bert_1", "bert_2", "carl_1")
WHOSE = {scan: scan[:4] for scan in SCANS}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INITBENCH_DATA", str(tmp_path))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    return tmp_path


def write(path: Path, table: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table if isinstance(table, str) else json.dumps(table), "utf-8")


def sides(dataset: Dataset, split: Split) -> list[set[str]]:
    return [{group_of(dataset, case) for case in side} for side in (split.train, split.test)]


# --- patients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["path", "name"])
def test_acdc_as_nnunet_converts_it_has_no_patient_on_both_sides(root: Path, said: str) -> None:
    folder = layouts.nnunet(root / "Dataset027_ACDC", FRAMES, channels=("cineMRI",))
    dataset = open_dataset(str(folder) if said == "path" else folder.name)
    assert dataset.name == "Dataset027_ACDC"
    chosen = [splits.resolve_split(dataset, "auto"), *(splits.resolve_split(dataset, None, f"{k}/3") for k in (1, 2, 3))]
    for split in chosen:
        train, test = sides(dataset, split)
        assert not train & test
        assert len(split.test) == 2 * len(test)
    assert [split.caveat for split in chosen] == [""] * 4, "nothing is doubtful"


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("patient001_frame01", "patient001"),
        ("Patient-12_ED", "Patient-12"),
        ("subject_7.left", "subject_7"),
        ("sub-A1_ses-2_T1w", "sub-A1"),
        ("heart12_frame03", "heart12"),
        ("patient001", "patient001"),
        ("patients_a_1", "patients_a_1"),
        ("BRATS_001", "BRATS_001"),
        ("lung_001", "lung_001"),
        ("case_00001", "case_00001"),
        ("subcortical-1_2", "subcortical-1_2"),
    ],
)
def test_what_ids_say_themselves(case: str, patient: str) -> None:
    assert stated.inferred([case, case.replace(case, f"{patient}_frame99")])[case] == patient


def test_ids_of_patients_who_have_one_case_each_are_cases() -> None:
    """So splits of before stay: they go by the name of the patient."""
    assert stated.inferred(["patient001_frame01", "patient002_frame01"])["patient001_frame01"] == "patient001_frame01"


@pytest.mark.parametrize(
    ("ids", "doubtful"),
    [
        (("1001_baseline", "1001_later", "1002_baseline"), True),
        (("p1-a", "p1-b", "p2-a"), True),
        (tuple(f"TCGA-{site:02d}-{n:04d}" for site in (1, 2) for n in range(30)), False),
        (tuple(f"2024_{n:03d}" for n in range(4)), False),
        (("lung_001", "lung_002"), False),
        (("la_003", "hippocampus_001"), False),
        (PLAIN, False),
        (("T1_a", "T2_b"), False),
    ],
)
def test_ids_that_begin_alike_are_doubtful(ids: tuple[str, ...], doubtful: bool) -> None:
    assert bool(stated.caveat(ids)) == doubtful


def test_a_doubt_is_noted_until_patients_are_stated(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = ("1001_early", "1001_late", "1002_early", "1002_late")
    folder = layouts.nnunet(root / "Dataset501_Twice", ids)
    dataset = open_dataset(folder.name)
    assert "ids such as 1001_early, 1001_late begin alike" in caveat_of(dataset)
    assert splits.resolve_split(dataset, None).caveat == splits.resolve_split(dataset, None, "1/2").caveat == caveat_of(dataset)
    for command in ("info", "verify"):
        assert ended("data", command, folder.name) == 0
        assert "1001_early, 1001_late begin alike" in " ".join(capsys.readouterr().out.split())
        assert ended("data", command, folder.name, "--json") == 0
        assert "1001_early, 1001_late begin alike" in capsys.readouterr().out
    trained = run_one(folder.name, root / "runs", assignments=["steps.smoke=2"], placebo=False)
    assert record_of(trained)["resolved"]["split_caveat"] == caveat_of(dataset)
    write(folder / "patients.json", {case: case[:4] for case in ids})
    assert caveat_of(open_dataset(folder.name)) == ""
    train, test = sides(open_dataset(folder.name), splits.resolve_split(open_dataset(folder.name), None))
    assert (len(train), len(test), train & test) == (1, 1, set())


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


@pytest.mark.parametrize("layout", ["nnunet", "msd"])
def test_patients_are_stated_in_any_folder(root: Path, layout: str) -> None:
    folder = root / "Dataset501_Mine"
    make_msd(folder, cases=5, ids=SCANS) if layout == "msd" else layouts.nnunet(folder, SCANS)
    write(folder / "patients.json", WHOSE)
    dataset = open_dataset(folder.name)
    assert {case: group_of(dataset, case) for case in SCANS} == WHOSE
    for k in (1, 2, 3):
        split = splits.resolve_split(dataset, None, f"{k}/3")
        assert not set.intersection(*sides(dataset, split))
    write(folder / "patients.json", {**WHOSE, "carl_1": 7, "elsewhere": "x"})
    assert group_of(open_dataset(folder.name), "carl_1") == "7"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("{", "is not valid JSON"),
        ([1], "must map the id of every case to its patient"),
        ({**WHOSE, "carl_1": ""}, "must map the id"),
        ({**WHOSE, "carl_1": ["a"]}, "must map the id"),
        ({"anna_1": "anna"}, r"says nothing of case\(s\) anna_2, bert_1, bert_2, carl_1"),
    ],
)
def test_a_damaged_list_of_patients_is_named(root: Path, table: Any, says: str) -> None:
    folder = layouts.nnunet(root / "Dataset501_Mine", SCANS)
    write(folder / "patients.json", table)
    with pytest.raises(DataError, match=says) as caught:
        open_dataset(folder.name)
    assert str(folder / "patients.json") in str(caught.value)


# --- splits -----------------------------------------------------------------------------------------------------------


FOLDS = [{"train": [c for c in PLAIN if c != out], "val": [out]} for out in PLAIN]


@pytest.mark.parametrize("place", ["beside", "sibling", "environment"])
def test_folds_of_nnunet_are_found_by_name(root: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = layouts.nnunet(root / "nnUNet_raw" / "Dataset501_Mine", PLAIN)
    stores = {"beside": folder, "sibling": root / "nnUNet_preprocessed" / folder.name, "environment": root / "else" / folder.name}
    if place == "environment":
        monkeypatch.setenv("nnUNet_preprocessed", str(root / "else"))
    before = splits.resolve_split(NnunetDataset(folder), None)
    write(stores[place] / "splits_final.json", FOLDS)
    dataset = NnunetDataset(folder)
    assert [split.name for split in stated_of(dataset)] == [f"nnunet-fold-{k}" for k in range(5)]
    split = splits.resolve_split(dataset, "nnunet-fold-3", None, 2)
    assert (split.test, len(split.train), split.name) == (("case_3",), 2, "nnunet-fold-3, trained on 2 cases")
    assert splits.resolve_split(dataset, None) == before, "asked for by name alone"
    with pytest.raises(UsageError, match=r"it has nnunet-fold-0, .*, auto"):
        splits.resolve_split(dataset, "nnunet-fold-5")


def test_a_plain_table_of_splits(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_msd(root / "mine", cases=5, ids=PLAIN)
    write(folder / "splits.json", {"ours": {"train": ["case_4", "case_0"], "test": ["case_1"], "unused": ["case_2", "case_3"]}})
    dataset = open_dataset("mine")
    assert splits.resolve_split(dataset, "ours") == Split("ours", ("case_0", "case_4"), ("case_1",), ("case_2", "case_3"))
    assert ended("data", "info", "mine", "--json") == 0
    assert json.loads(capsys.readouterr().out)["splits"]["ours"] == {"train": 2, "reported": 1, "unused": 2}
    write(folder / "splits.json", {"ours": {"train": ["case_0"], "test": ["case_1"]}})
    with pytest.raises(DataError, match=r"case\(s\) case_2, case_3, case_4 are not in the split ours"):
        splits.resolve_split(dataset, "ours")
    assert ended("data", "verify", "mine") == 1
    assert "are not in the split ours" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("file", "table", "says"),
    [
        ("splits.json", "{", "is not valid JSON"),
        ("splits.json", [], "must map names of splits"),
        ("splits.json", {"auto": {}}, "cannot be the name of a split"),
        ("splits.json", {"fold 1/5": {}}, "cannot be the name of a split"),
        ("splits.json", {" ": {}}, "cannot be the name of a split"),
        ("splits.json", {"a": []}, "must hold a case each"),
        ("splits.json", {"a": {"train": "b", "test": ["c"]}}, "must be lists of case ids"),
        ("splits.json", {"a": {"train": [1], "test": ["c"]}}, "must be lists of case ids"),
        ("splits_final.json", {}, "must be a list of folds"),
        ("splits_final.json", [{"train": ["a"]}], "nnunet-fold-0: train and val must hold a case each"),
    ],
)
def test_a_damaged_file_of_splits_is_named(root: Path, file: str, table: Any, says: str) -> None:
    folder = layouts.nnunet(root / "Dataset501_Mine", PLAIN)
    write(folder / file, table)
    dataset = open_dataset(folder.name)
    splits.resolve_split(dataset, None)  # nobody asked for it
    with pytest.raises(DataError, match=says) as caught:
        splits.resolve_split(dataset, "a")
    assert str(folder / file) in str(caught.value)
    assert ended("data", "verify", folder.name) == 1


def test_a_split_that_reports_what_it_trains_on_is_refused(root: Path) -> None:
    """nnU-Net's own random folds divide by case."""
    folder = layouts.nnunet(root / "Dataset027_ACDC", FRAMES[:4])
    first = {"train": [FRAMES[0], FRAMES[2]], "val": [FRAMES[1], FRAMES[3]]}
    second = {"train": list(FRAMES[:3]), "val": [FRAMES[2], FRAMES[3]]}
    write(folder / "splits_final.json", [first, second, {"train": list(FRAMES[:2]), "val": list(FRAMES[2:4])}])
    dataset = open_dataset(folder.name)
    with pytest.raises(DataError, match=r"nnunet-fold-0 has patient\(s\) patient001, patient002 on both sides"):
        splits.resolve_split(dataset, "nnunet-fold-0")
    with pytest.raises(DataError, match=r"nnunet-fold-1 lists case\(s\) patient002_frame01 twice"):
        splits.resolve_split(dataset, "nnunet-fold-1")
    assert splits.resolve_split(dataset, "nnunet-fold-2").test == FRAMES[2:4]
    assert ended("data", "verify", folder.name) == 1


def test_a_damaged_table_does_not_hide_what_data_info_says(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = layouts.nnunet(root / "Dataset501_Mine", PLAIN)
    write(folder / "splits.json", "{")
    assert ended("data", "info", folder.name) == 1
    assert "splits.json is not valid JSON" in capsys.readouterr().err
