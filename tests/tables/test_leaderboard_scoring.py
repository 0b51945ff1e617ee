"""A leaderboard under another policy, on other classes, and by distances."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from initbench.choices import DicePolicy
from initbench.dice import POLICIES
from initbench.errors import UsageError
from initbench.runs import store
from initbench.stats.analysis import analyse
from initbench.stats.design import Refused
from initbench.tables import leaderboard, study, variance
from initbench.tables.classes import class_sheets
from initbench.tables.compare import compare_sheets
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.leaderboard_pooled import pooled_sheets
from initbench.tables.power import power_sheets
from initbench.tables.study import Scoring, Study
from initbench.tables.variance import variance_sheets
from tests.commands import said
from tests.recorded import PLACEBO, reseal, write_block, write_run
from tests.tables.boards import DEFAULTS, rows


def test_the_policy_changes_the_score_without_running_again(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS)  # three cases that hold the class, a fourth with 7 voxels predicted and none there
    means: dict[DicePolicy, float] = {
        "reference-mask": 62,
        "monai": 62,
        "nnunet": 46.5,
        "empty-is-one": 46.5,
        "worst": 46.5,
    }
    assert set(means) == set(POLICIES)
    for policy, mean in means.items():
        found = study.read_study(tmp_path, scoring=Scoring(policy=policy))
        assert rows(found)["default"].dice.value == pytest.approx(mean)
        assert f"policy {policy}" in " ".join(leaderboard_sheets(found)[0].legend)


def test_the_policy_of_transunets_tables_judges_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reason = "gives 1 to an organ that is predicted where there is none.*initbench reproduce"
    with pytest.raises(UsageError, match=reason):
        Scoring(policy="transunet")  # type: ignore[arg-type]
    refused = said(capsys, "leaderboard", "--dice-policy", "transunet", "--out", str(tmp_path), code=2)
    assert re.search(reason, refused)


def unlike(tmp_path: Path) -> Study:
    """Two inits that nnU-Net's rule scores on different cases."""
    write_block(tmp_path, DEFAULTS | {"uniform": [0.60, 0.65, 0.61]})
    for seed, folder in enumerate(sorted(tmp_path.glob("*/*/default-*/seed-*"))):
        table = (folder / store.CASES).read_text("utf-8")
        (folder / store.CASES).write_text(table.replace(",0,7,0,", f",0,{0 if seed else 7},0,"), "utf-8")
        reseal(folder)
    return study.read_study(tmp_path, scoring=Scoring(policy="nnunet"))


def test_runs_on_different_cases_have_means_and_nothing_else(tmp_path: Path) -> None:
    found = unlike(tmp_path)
    (table,) = found.tables
    assert "not scored on the same cases" in table.refused
    default = rows(found)["default"]
    assert default.dice.value == pytest.approx(np.mean([60 * 3 / 4, 62, 64]))  # of the runs, as everywhere
    assert default.difference is None
    (made,) = compare_sheets(found, "uniform", "default")
    assert {row[-1] for row in made.rows} == {"untestable"}
    assert not any("beats one of" in note for note in made.notes)
    for refusal in (
        *variance_sheets(found.tables),
        *power_sheets(found.tables, ()),
        *pooled_sheets(found, "all"),
    ):
        assert refusal.rows == ()
        assert "not scored on the same cases" in " ".join(refusal.notes)
    (across,) = variance.across(found.tables)
    assert any("is left out: under the policy nnunet" in note for note in across.notes)
    refusal = analyse(table)
    assert isinstance(refusal, Refused)
    assert leaderboard.headline(table, refusal).startswith("How much the init moves Dice cannot be told: under the policy nnunet")


def test_false_positives_are_counted_where_the_reference_has_nothing(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS)
    write_run(tmp_path, "uniform", 0.0, status="diverged")
    classes, empty = class_sheets(study.read_study(tmp_path))
    assert classes.columns == ("initializer", "seeds", "nodule", "mean")
    assert classes.rows == (("default", "3", "62.0 ± 2.0", "62.0 ± 2.0"), ("uniform", "1", "0.0", "0.0"))
    assert empty.rows == (("default", "3", "100.0 %", "7.0"),)


def test_distances_that_nobody_measured_are_refused(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS)
    with pytest.raises(UsageError, match="has hd95: `initbench measure"):
        class_sheets(study.read_study(tmp_path), "hd95")


def with_distances(folder: Path, hd95: float | None = 3.5) -> None:
    """As `measure` leaves a run; `hd95` None where it predicts nothing."""
    cases = pd.read_csv(folder / store.CASES)
    held = cases["tp"] + cases["fn"] > 0
    cases.loc[held, "nsd"] = 0.0 if hd95 is None else 0.8
    if hd95 is not None:
        cases.loc[held, "hd95_mm"] = hd95
    cases.to_csv(folder / store.CASES, index=False)
    reseal(folder)


def test_inits_without_distances_are_named_with_what_adds_them(tmp_path: Path) -> None:
    with_distances(write_run(tmp_path, "default", 0.6))
    write_run(tmp_path, "uniform", 0.6)
    write_run(tmp_path, PLACEBO, 0.6)
    with_distances(write_run(tmp_path, "orthogonal", 0.0, status="diverged"), hd95=None)
    classes, _ = class_sheets(study.read_study(tmp_path), "hd95")
    assert classes.rows == (("default", "1", "3.5", "3.5"),)
    assert set(classes.notes[1:]) == {
        f"Left out without hd95: placebo, uniform; `initbench measure {tmp_path}` adds distances to finished runs.",
        "Left out without hd95: orthogonal; predictions hold no class where the reference does.",
    }
    classes, _ = class_sheets(study.read_study(tmp_path), "nsd")
    assert [row[0] for row in classes.rows] == ["default", "orthogonal"]
    assert "over the cases in which the reference holds the class; mean" in classes.notes[0], "a prediction alone has none"
    assert [note for note in classes.notes if "orthogonal" in note] == []
    classes, _ = class_sheets(study.read_study(tmp_path))
    assert len(classes.notes) == 1


def test_a_block_without_distances_has_a_note_and_no_table(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.6, backbone="unet")
    with_distances(write_run(tmp_path, "default", 0.6))
    write_run(tmp_path, "default", 0.6, backbone="unetrpp")
    for metric in ("hd95", "nsd"):
        made = class_sheets(study.read_study(tmp_path), metric)  # type: ignore[arg-type]
        assert [item.title.partition(":")[0] for item in made if "mean" in item.columns] == ["phantom-lung × unetr (perceptron)"]
        skipped = [note for note in made[-1].notes if note.startswith("No table of ")]
        assert ["unet (" in note for note in skipped] == [True, False]
        assert all(f"no run has {metric}: `initbench measure {tmp_path}` adds" in note for note in skipped)
        assert len(skipped) == 2


def test_classes_of_runs_without_scores_are_refused_in_a_sentence(tmp_path: Path) -> None:
    write_run(tmp_path, "default", status="failed")
    for metric in ("dice", "hd95"):
        with pytest.raises(UsageError, match="has a score yet: `initbench status"):
            class_sheets(study.read_study(tmp_path), metric)  # type: ignore[arg-type]


def test_classes_that_no_reference_holds_are_no_matter_of_distances(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "default", 0.6)
    lines = (folder / store.CASES).read_text("utf-8").splitlines()
    empty = [f"case_0{k},1,nodule,0,7,0,,," for k in range(1, 5)]
    (folder / store.CASES).write_text("\n".join([lines[0], *empty]) + "\n", "utf-8")
    reseal(folder)
    with pytest.raises(UsageError, match="has dice: the references of its cases hold none") as caught:
        class_sheets(study.read_study(tmp_path))
    assert "measure" not in str(caught.value)


def test_a_class_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS)
    assert rows(study.read_study(tmp_path, scoring=Scoring(classes=("Nodule",))))["default"].dice.value == pytest.approx(62)
    with pytest.raises(UsageError, match="phantom-lung has no class 'spleen'; it has nodule; named sets: synapse-8"):
        study.read_study(tmp_path, scoring=Scoring(classes=("synapse-8",)))


def test_classes_of_shared_seeds_are_of_these_alone(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS | {"uniform": [0.65, 0.67]})  # uniform lacks seed 2
    write_block(tmp_path, DEFAULTS | {"uniform": [0.65, 0.66, 0.70]}, backbone="unetrpp")
    for shared, seeds in ((False, {"default": 3, "uniform": 2}), (True, {"default": 2, "uniform": 2})):
        made = class_sheets(study.read_study(tmp_path, backbones=["unetr"], scoring=Scoring(shared=shared)))
        per_class, absent = made[0].values, made[1].values
        assert {row["init"]: row["seeds"] for row in per_class} == seeds
        assert {row["init"]: row["absent"] for row in absent} == seeds, "one case of each seed lacks the class"
    mean = next(row["mean"] for row in per_class if row["init"] == "default" and row["class"] == "mean")
    assert mean == pytest.approx(61), "of the seeds 0 and 1"
    whole = class_sheets(study.read_study(tmp_path, backbones=["unetrpp"], scoring=Scoring(shared=True)))
    assert {row["seeds"] for row in whole[0].values} == {3}, "each block has seeds of its own"
