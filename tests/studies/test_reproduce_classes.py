"""`initbench reproduce` scores the classes, the grid and the labels that the paper scores."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from initbench.published import tables
from initbench.published.trials import Overrides
from initbench.runs import store
from initbench.runs.read import read_runs
from tests.commands import said
from tests.recorded import reseal, write_run
from tests.studies.reproduced import resolved, rows_of, write_cases


def write_organs(
    out: Path, init: str, shift: int, resampled: int | None = None, *, backbone: str = "unetr", lacking: bool = False
) -> None:
    """Runs on Synapse: thirteen organs, of which the five that no table has are always missed; `resampled` more on that grid;
    three of four cases `lacking` the gallbladder, the other with little of it found.
    """
    names = [
        "spleen",
        "right kidney",
        "left kidney",
        "gallbladder",
        "esophagus",
        "liver",
        "stomach",
        "aorta",
        "inferior vena cava",
    ]
    names += ["portal and splenic veins", "pancreas", "right adrenal gland", "left adrenal gland"]
    scored = {*tables.get("lwi:table-1").classes}
    for seed in range(3):
        overrides = Overrides("synapse")
        own = resolved(overrides, backbone=backbone)
        folder = write_run(
            out, init, 0.7, seed=seed, dataset="synapse", split="transunet-18/12", learned=init == "lwi",
            protocol="equal-finetune" if init == "lwi" else "any", backbone=backbone,
            variant="synapse" if backbone == "unetrpp" else "perceptron", **own,
        )  # fmt: skip
        rows = [
            {"case": f"c{case}", "class": number, "class_name": name, "tp": tp}
            for case in range(4)
            for number, name in enumerate(names, 1)
            for tp in [700 + shift + 10 * case + 3 * seed + (case * seed + number) % 5 if name in scored else 0]
        ]
        if lacking:
            rows = [row | ({"tp": 100} if row["class_name"] == "gallbladder" else {}) for row in rows]
            rows = [row for row in rows if row["class_name"] != "gallbladder" or row["case"] == "c0"]
        if resampled is not None:
            other = pd.DataFrame(rows).assign(tp=lambda frame: frame["tp"] + resampled)
            other = other.assign(fp=1000 - other["tp"], fn=1000 - other["tp"], dice=other["tp"] / 1000)
            absent = (other["case"] == "c0") & (other["class_name"] == "gallbladder")  # in reference and prediction
            other.loc[absent, ["tp", "fp", "fn"]] = 0
            other.assign(hd95_mm=None, nsd=None).to_csv(folder / store.CASES_RESAMPLED, index=False)
        write_cases(folder, pd.DataFrame(rows))


def test_the_papers_classes_count_and_stand_beside_theirs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from initbench.datasets.splits import published_splits

    assert published_splits("synapse")[0].name == "transunet-18/12"
    write_organs(tmp_path, "default", 0)
    write_organs(tmp_path, "lwi", 30)
    text = said(capsys, "reproduce", "lwi:table-1", "--report-only", "--out", str(tmp_path), "--format", "json")
    found = rows_of(text)
    assert found["UNETR"]["dice"] == pytest.approx(72, abs=1)  # with the five it would be 44
    assert rows_of(text, "claim")["LWI"]["difference"] == pytest.approx(3.0, abs=0.01)
    classes = [row for row in json.loads(text) if row["of"] == "class"]
    assert [row["class"] for row in classes[:8]] == list(tables.get("lwi:table-1").classes)
    assert [row["published"] for row in classes[:8]] == list(tables.get("lwi:table-1")["UNETR"].values)
    assert all(abs(row["dice"] - 72) < 1 for row in classes[:8])


def test_runs_are_scored_as_the_paper_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """UNETR's released test counts on the resampled grid, and 0 for a class that is not there: one of 32 here."""
    write_organs(tmp_path, "default", 0, resampled=50)
    write_organs(tmp_path, "lwi", 30, resampled=50)
    arguments = ["reproduce", "lwi:table-1", "--report-only", "--out", str(tmp_path)]
    found = rows_of(said(capsys, *arguments, "--format", "json"))
    native = json.loads(said(capsys, "leaderboard", "--classes", "synapse-8", "--out", str(tmp_path), "--json"))
    native_dice = {row["init"]: row["dice"] for row in native}
    gallbladder = 76.0  # of the case without it
    for label, init, more in (("UNETR", "default", 0), ("LWI", "lwi", 3)):
        assert found[label]["dice"] == pytest.approx(native_dice[init] + 5 - (gallbladder + more) / 32, abs=0.1)
    assert "Scored as the paper does: counted on the resampled grid and absent classes score 0." in said(
        capsys, *arguments, "--format", "md"
    )


def test_every_class_counts_the_same_as_in_the_papers_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Table II is of classes' means; an organ that one of four cases holds weighs as much as the others."""
    for init in ("default", "lwi"):
        write_organs(tmp_path, init, 0, backbone="unetrpp", lacking=True)
    arguments = ["reproduce", "lwi:table-2", "--report-only", "--out", str(tmp_path)]
    text = said(capsys, *arguments, "--format", "json")
    classes = [row["dice"] for row in json.loads(text) if row["of"] == "class" and row["row"] == "UNETR++"]
    own = rows_of(text)["UNETR++"]["dice"]
    assert own == pytest.approx(sum(classes) / 8)
    native = json.loads(said(capsys, "leaderboard", "--classes", "synapse-8", "--out", str(tmp_path), "--json"))
    assert abs(next(row["dice"] for row in native if row["init"] == "default") - own) > 0.5
    assert "Scored as the paper does: every class counts the same." in said(capsys, *arguments, "--format", "md")


def test_slice_networks_are_scored_as_their_releases_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A gallbladder that is predicted where there is none scores 1, one that is neither scores 0."""
    classes = tables.get("lwi:table-2").classes
    own = resolved(Overrides("synapse-8"), backbone="missformer")
    for seed in range(2):
        folder = write_run(
            tmp_path, "default", 0.8, seed=seed, dataset="synapse-8", split="transunet-18/12", backbone="missformer",
            variant="default", **own,
        )  # fmt: skip
        rows = []
        for case in range(4):
            for number, name in enumerate(classes, 1):
                rows.append({"case": f"c{case}", "class": number, "class_name": name, "tp": 800 + seed})
        write_cases(folder, pd.DataFrame(rows))
        counts = pd.read_csv(folder / store.CASES)
        for case, predicted in (("c0", 7), ("c1", 0)):
            absent = (counts["case"] == case) & (counts["class_name"] == "gallbladder")
            counts.loc[absent, ["tp", "fp", "fn"]] = 0, predicted, 0
        counts.to_csv(folder / store.CASES, index=False)
        reseal(folder)
    arguments = ["reproduce", "lwi:table-2", "--report-only", "--out", str(tmp_path)]
    found = rows_of(said(capsys, *arguments, "--format", "json"))["MISSFormer"]
    gallbladder = (100 + 0 + 80.05 + 80.05) / 4
    assert found["dice"] == pytest.approx((7 * 80.05 + gallbladder) / 8, abs=0.01)
    assert found["published_hd95"] == 18.2
    text = " ".join(said(capsys, *arguments, "--format", "md").split())
    assert "Scored as the paper does: absent classes score 1 if predicted, else 0." in text
    assert "Published from weights from outside: TransUNet (ImageNet-21k, R50+ViT-B/16), Swin-UNet (ImageNet-1k, Swin-T" in text
    assert "Published HD95 in voxels: U-Net 39.70 (secondary" in text


def test_classes_are_of_the_runs_of_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the seeds that are asked for, and of rows that have a score."""
    write_organs(tmp_path, "default", 0)
    write_run(
        tmp_path, "lwi", None, status="failed", dataset="synapse", split="transunet-18/12", protocol="equal-finetune",
        **resolved(Overrides("synapse")),
    )  # fmt: skip
    arguments = ["reproduce", "lwi:table-1", "--report-only", "--out", str(tmp_path), "--seed", "0", "--format", "json"]
    classes = [row for row in json.loads(said(capsys, *arguments)) if row["of"] == "class"]
    assert {row["row"] for row in classes} == {"UNETR"}
    assert {row["seed_sd"] for row in classes} == {None}
    cases = read_runs(tmp_path).cases
    spleen = cases[(cases["class_name"] == "spleen") & (cases["seed"] == 0)]["dice"].astype(float)
    assert classes[0]["dice"] == pytest.approx(100 * spleen.mean())


def test_without_the_papers_grid_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_organs(tmp_path, "default", 0, resampled=50)
    write_organs(tmp_path, "lwi", 30)
    text = said(capsys, "reproduce", "lwi:table-1", "--report-only", "--out", str(tmp_path), "--format", "md")
    assert "Scored as the paper does: absent classes score 0." in text
    assert "Counted on the native grid; the paper counts on its resampled one." in text
