"""What a sweep could find: what `power` says, and what is said of a study that can decide nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import initbench
from initbench.runs import store
from initbench.runs.costs import Costs, StudyPlan
from initbench.stats.assembly import score_tables
from initbench.stats.blocks import PLACEBO
from initbench.stats.design import Refused
from initbench.stats.power import detectable, floor, stated
from initbench.stats.summary import Interval
from initbench.tables import power
from initbench.tables.finds import noise_of
from initbench.tables.plan import plan_sheets
from tests.recorded import reseal, write_run
from tests.studies.planned import NOISE, expected, many, notes, resolved

QUIET = stated(0.1, 0.2, 0.5)  # two cases find something under it


def test_what_it_finds_is_what_power_says() -> None:
    study = StudyPlan(many(5), Costs(), "equal-total", 1, 1, False, 10**12)
    (block,) = [row for sheet in plan_sheets(study, [], QUIET) for row in sheet.values if row["of"] == "block"]
    found = detectable(QUIET, 5, 2, 2)  # of three inits, two differences to default
    assert isinstance(found, Interval)
    assert block["detectable"] == pytest.approx(found.value)
    assert math.isnan(block["detectable_low"])  # stated SDs are as they are
    assert block["floor"] == pytest.approx(floor(QUIET, 2, 2))
    assert (block["differences"], block["undecidable"]) == (2, "")
    said = notes(study, [], QUIET)
    assert f"With these 5 seeds × 2 cases you can detect ≥ {block['detectable']:.1f} Dice points" in said
    assert "for 2 differences judged at once" in said
    assert "what it may be" not in said


def test_without_default_all_pairs_are_judged_at_once() -> None:
    runs = tuple(expected(init, resolved={"seed": seed}) for seed in range(5) for init in ("mae", "lwi", "tube", PLACEBO))
    study = StudyPlan(runs, Costs(), "equal-total", 1, 1, False, 10**12)
    assert "for 3 differences judged at once" in notes(study, [], QUIET)


def test_rows_and_interactions_are_judged_at_once() -> None:
    """Of two inits under two regimens: three differences to default and one interaction."""
    runs = []
    for regimen, budget in (("plain", "any"), ("medcontext", "compute")):
        for init in ("default", "lwi", PLACEBO):
            own = {"regimen": regimen, "regimen_budget": budget}
            runs += [expected(init, resolved={"seed": seed, **own}) for seed in range(5)]
    study = StudyPlan(tuple(runs), Costs(), "equal-total", 1, 1, False, 10**12)
    made, by_init = plan_sheets(study, [], QUIET)
    (block,) = [row for row in made.values if row["of"] == "block"]
    assert block["differences"] == 4
    assert block["detectable"] == pytest.approx(detectable(QUIET, 5, 2, 4).value)  # type: ignore[union-attr]
    assert power.INTERACTIONS in made.notes
    assert "3 inits × 2 regimens" in made.subtitle
    assert [row[0] for row in by_init.rows] == [
        "default", "lwi", "placebo", "default + medcontext (compute)", "lwi + medcontext (compute)",
        "placebo + medcontext (compute)",
    ]  # fmt: skip
    assert by_init.values[0]["regimen"] == "plain"


def test_noise_that_hides_every_difference_is_said() -> None:
    study = StudyPlan(many(5), Costs(), "equal-total", 1, 1, False, 10**12)
    assert "With these 5 seeds not even 100 points are found in 80 % of studies" in notes(study, [], NOISE)


def test_what_the_pilot_does_not_know_is_said(tmp_path: Path) -> None:
    """A measured pilot gives a detectable difference with an interval, in words, cells and numbers."""
    rng = np.random.default_rng(0)
    for init in ("default", "mae"):
        for seed in range(3):
            write_two_cases(tmp_path, rng, init, seed, backbone="unetr", dataset="phantom-lung")
    tables = score_tables(initbench.load_runs(tmp_path), initbench.load_cases(tmp_path))
    study = StudyPlan(many(5, backbone="unetr"), Costs(), "equal-total", 1, 1, False, 10**12)
    (sheet, _) = plan_sheets(study, tables)
    (block,) = (row for row in sheet.values if row["of"] == "block")
    pilot = power.from_runs(tables[0])
    assert not isinstance(pilot, Refused)
    found = detectable(pilot, 5, 2, 2)
    assert isinstance(found, Interval)
    assert (block["detectable"], block["detectable_low"], block["detectable_high"]) == (found.value, found.low, found.high)
    assert found.low < found.value < found.high
    shown = f"{found.value:.1f} [{found.low:.1f}, {found.high:.1f}]"
    assert sheet.rows[0][sheet.columns.index("finds ≥")] == shown
    said = "\n".join(sheet.notes)
    assert f"you can detect ≥ {shown} Dice points" in said
    assert "In brackets: what it may be" in said


@pytest.mark.parametrize(
    ("seeds", "changes", "reason"),
    [
        (1, {}, "with one seed a difference of inits cannot be told from one of seeds; run 5 (--seeds 5), or 3 at the least."),
        (
            5,
            {"reported_cases": ["a"]},
            "with one reported case (or patient) nothing can be said of new ones; report more, as with",
        ),
        (
            5,
            {"patients": {"a": "p", "b": "p"}, "reported_cases": ["a", "b"]},
            "with one reported case (or patient) nothing can be",
        ),
    ],
)
def test_a_study_that_can_decide_nothing_is_warned_of(seeds: int, changes: dict[str, Any], reason: str) -> None:
    study = StudyPlan(many(seeds, **changes), Costs(), "equal-total", 1, 1, False, 10**12)
    sheet = plan_sheets(study, [], NOISE)[0]
    assert "not testable" in sheet.rows[0]
    said = "\n".join(sheet.notes)
    assert f"Warning: this study can decide nothing: {reason}" in said
    assert "you can detect" not in said
    (block,) = (row for row in sheet.values if row["of"] == "block")
    assert block["undecidable"].startswith(reason.partition(";")[0][:45])


def test_the_warning_names_the_part_that_decides_nothing() -> None:
    runs = (*many(5), *many(5, backbone="unet", reported_cases=["a"]))
    study = StudyPlan(runs, Costs(), "equal-total", 1, 1, False, 10**12)
    blocks = [row for row in plan_sheets(study, [], NOISE)[0].values if row["of"] == "block"]
    assert [bool(block["undecidable"]) for block in blocks] == [False, True]
    (warning,) = (line for line in notes(study, [], NOISE).splitlines() if line.startswith("Warning: this study"))
    assert warning.startswith("Warning: this study of lung × unet can decide nothing: with one reported case")
    alone = tuple(run for run in many(1) if run.resolved.init == "default")
    assert "can decide nothing" not in notes(replace(study, runs=alone), [], NOISE)  # nothing is asked of it


def test_the_nearest_pilot_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for backbone in ("unetr", "unet"):
        for init in ("default", "mae"):
            for seed in range(3):
                write_two_cases(tmp_path, rng, init, seed, backbone=backbone, dataset="lung", variant="default", precision="bf16")
    tables = score_tables(initbench.load_runs(tmp_path), initbench.load_cases(tmp_path))
    own = resolved(backbone="unet", steps=120)
    found = noise_of(own, tables)
    assert found is not None
    assert (found.is_own, found.source) == (True, "lung × unet")
    other = noise_of(own.model_copy(update={"backbone": "nnformer"}), tables)
    assert other is not None
    assert other.source == "borrowed: lung × unet"
    for seed in range(3):
        for init in ("default", "mae"):
            write_two_cases(tmp_path, rng, init, seed, backbone="nnformer", dataset="liver", variant="default", precision="bf16")
    more = score_tables(initbench.load_runs(tmp_path), initbench.load_cases(tmp_path))
    same_data = noise_of(own.model_copy(update={"backbone": "nnformer"}), more)
    assert same_data is not None
    assert same_data.source == "borrowed: lung × unet"  # the data set counts before the network
    longer = noise_of(own.model_copy(update={"steps": 90_000}), tables)
    assert longer is not None
    assert longer.source == "borrowed: lung × unet, 120 steps"
    fold = noise_of(own.model_copy(update={"split": "fold 1/5"}), tables)
    assert fold is not None
    assert fold.source == "borrowed: lung × unet, split auto"
    recipe = noise_of(own.model_copy(update={"recipe_digest": "b" * 12}), tables)
    assert recipe is not None
    assert recipe.source == "borrowed: lung × unet, another recipe"
    assert noise_of(own, []) is None
    study = StudyPlan(many(3, backbone="nnformer"), Costs(), "equal-total", 1, 1, False, 10**12)
    assert "borrowed: lung × unet" in notes(study, tables)
    assert "no runs to take the noise from" in notes(study, [])


def write_two_cases(out: Path, rng: np.random.Generator, init: str, seed: int, **own: Any) -> None:
    own["reported_cases"] = ["case_01", "case_02", "case_03"]
    folder = write_run(out, init, 0.5, seed=seed, weights=f"{init}{seed}{own['backbone']}", **own)
    rows = [f"case_0{k},1,nodule,{tp},{50 - tp},{50 - tp},{tp / 50},," for k, tp in enumerate(rng.integers(20, 40, 3), start=1)]
    (folder / store.CASES).write_text("\n".join(["case,class,class_name,tp,fp,fn,dice,hd95_mm,nsd", *rows]) + "\n")
    reseal(folder)
