"""What a sweep would be, before it is: the counts of `run`, hours from runs that are there, disk, and what it could find."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import initbench
from initbench.cli.app import main
from initbench.cli.run import _warn_if_nothing_can_be_decided
from initbench.runs import costs, store, work
from initbench.runs.costs import Costs, Expected, Sample, StudyPlan
from initbench.stats.blocks import PLACEBO
from initbench.stats.design import Refused
from initbench.stats.power import detectable, detectable_ratio, floor, power_of, stated
from initbench.stats.summary import Interval
from initbench.stats.table import score_tables
from initbench.studies.forecast import plan_study
from initbench.studies.sweep import cross_requests
from initbench.tables import plan, power
from initbench.tables.plan import plan_sheets
from initbench.tables.sheet import FORMS
from tests.harness.test_run import LIGHT, SMALL
from tests.msd_factory import make_msd
from tests.recorded import write_run

OPTIONS: dict[str, Any] = {"budget": "smoke", "size": "tiny", "device": "cpu", "precision": "float32"}
COUNTED = ("new", "cached", "refused", "failed")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_msd(tmp_path_factory.mktemp("data") / "Task90_Noise", cases=6, classes=3)


def requests(data: Path, out: Path, init: str, **options: Any) -> list[Any]:
    return cross_requests(init, LIGHT, str(data), out=out, **{**OPTIONS, "assignments": SMALL, **options})


def look(data: Path, out: Path, init: str, **options: Any) -> StudyPlan:
    return plan_study(requests(data, out, init, **options), options.get("protocol", "equal-total"))


def run(data: Path, out: Path, init: str, **options: Any) -> list[Any]:
    return initbench.run(init, LIGHT, str(data), out=out, **{**OPTIONS, "assignments": SMALL, **options})


def counts(study: StudyPlan) -> dict[str, int]:
    return {state: sum(item.state == state for item in study.runs) for state in COUNTED}


# --- what run would do ------------------------------------------------------------------------------------------------


def test_counts_are_those_of_run(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path, "default,mae")
    wanted: dict[str, Any] = {"init": "default,mae,default(construct=own)", "seeds": 2, "protocol": "both"}
    study = look(data, tmp_path, **wanted)
    outcomes = run(data, tmp_path, **wanted)
    assert len(study.runs) == len(outcomes)
    states = {"new": "ok", "cached": "cached"}
    assert [states[item.state] for item in study.runs] == [outcome.state for outcome in outcomes]
    assert [item.folder for item in study.runs] == [outcome.folder for outcome in outcomes]
    assert [item.label for item in study.runs] == [outcome.request.label for outcome in outcomes]
    assert {"new", "cached"} == {item.state for item in study.runs}
    after = look(data, tmp_path, **wanted)
    assert counts(after) == {"new": 0, "cached": len(outcomes), "refused": 0, "failed": 0}
    assert "nothing to run" in plan_sheets(after, [])[0].title


@pytest.mark.parametrize("placebo", [True, False])
def test_the_placebo_is_counted_as_run_adds_it(data: Path, tmp_path: Path, placebo: bool) -> None:
    study = look(data, tmp_path, "default,mae", seeds=2, placebo=placebo)
    outcomes = run(data, tmp_path, "default,mae", seeds=2, placebo=placebo)
    assert [item.label for item in study.runs] == [outcome.request.label for outcome in outcomes]
    assert len(outcomes) == (6 if placebo else 4)


def test_a_plan_leaves_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    study = plan_study(requests(data, out, "default,mae"), "equal-total", measure=True)
    assert not out.exists()
    assert {item.state for item in study.runs} == {"new"}


def test_work_that_is_left_is_what_run_does(data: Path, tmp_path: Path) -> None:
    study = look(data, tmp_path, "default,mae", protocol="both")
    for item, outcome in zip(study.runs, run(data, tmp_path, "default,mae", protocol="both"), strict=True):
        assert outcome.folder is not None
        record = store.read_record(outcome.folder)
        assert record is not None
        assert item.record["cell"] == record["cell"]
        assert item.train_steps == record["cost"]["train"]["steps"]
        assert json.loads(json.dumps(item.resolved)) == record["resolved"]
    first, second = (item for item in study.runs if item.resolved["learned"])
    assert (first.init_stage, second.init_stage) == (True, False)  # one pretext for both protocols
    assert (first.init_steps, second.init_steps) == (2, 0)
    assert (first.keeps, second.keeps) == (True, False)


def test_an_init_stage_that_is_there_costs_nothing(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path, "mae")
    (item,) = look(data, tmp_path, "mae", protocol="equal-finetune").runs
    assert (item.state, item.init_stage, item.keeps) == ("new", False, False)


@pytest.mark.parametrize(
    ("init", "state", "left", "begun"),
    [
        ("mae", {"state": "pending", "step": 0}, (2, True, 8), False),
        ("mae", {"state": "pretraining", "step": 0}, (2, True, 8), False),
        ("mae", {"state": "pretraining", "step": 1}, (1, True, 8), True),
        ("mae", {"state": "training", "step": 0}, (0, False, 8), True),
        ("mae", {"state": "training", "step": 3}, (0, False, 5), True),
        ("mae", {"state": "evaluating", "step": 0}, (0, False, 0), True),
        ("mae", {"state": "evaluating", "step": 1}, (0, False, 0), True),
        ("default", {"state": "training", "step": 0}, (0, False, 10), False),
        ("default", {"state": "training", "step": 4}, (0, False, 6), True),
        ("default", {"state": "evaluating", "step": 0}, (0, False, 0), True),
    ],
)
def test_what_was_begun_goes_on(
    data: Path, tmp_path: Path, init: str, state: dict[str, Any], left: tuple[int, bool, int], begun: bool
) -> None:
    (fresh,) = look(data, tmp_path, init).runs
    assert fresh.folder is not None
    folder = work.work_folder(fresh.folder)
    folder.mkdir(parents=True)
    (folder / work.STATE).write_text(json.dumps(state))
    (item,) = look(data, tmp_path, init).runs
    assert (item.init_steps, item.init_stage, item.train_steps) == left
    assert item.begun is begun


@pytest.mark.parametrize(
    ("init", "assignments"),
    [
        ("mae(mask_patch=3)", ()),
        ("lwi(mask_ratio=1.5)", ()),
        ("lwi(crops=corners)", ()),
        ("shuffled(order(taps=(1, 9)))", ()),
        ("order", ("patch.size=4,16,16",)),
        ("lwi-as-released", ()),
    ],
)
def test_a_learned_init_that_refuses_its_parameters_is_refused_in_a_plan(
    data: Path, tmp_path: Path, init: str, assignments: tuple[str, ...]
) -> None:
    changed: dict[str, Any] = {"assignments": [*SMALL, *assignments], "seeds": 2}
    study = look(data, tmp_path, f"default,{init}", **changed)
    outcomes = run(data, tmp_path, f"default,{init}", **changed)
    states = {"new": "ok", "refused": "refused"}
    assert [states[item.state] for item in study.runs] == [outcome.state for outcome in outcomes]
    assert counts(study)["refused"] == 2
    assert [(item.message, item.folder) for item in study.runs if item.state == "refused"] == [
        (outcome.message, outcome.folder) for outcome in outcomes if outcome.state == "refused"
    ]


@pytest.mark.parametrize("first", ["ctx.patches(0)", "raise KeyError('of its own')"])
def test_what_else_a_learned_init_does_is_left_to_the_run(data: Path, tmp_path: Path, first: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from initbench.protocols import initializer\n@initializer(learned=True)\n"
        f"def mine(model, ctx):\n    {first}\n    raise AssertionError('a plan has no data')\n"
    )
    (item,) = look(data, tmp_path / "runs", f"{file}:mine").runs
    assert item.state == "new"


def test_disk_is_what_runs_leave(data: Path, tmp_path: Path) -> None:
    study = look(data, tmp_path, "default,mae")
    run(data, tmp_path, "default,mae")
    files = [path for path in tmp_path.glob("**/*") if path.is_file() and ".locks" not in path.parts]
    weights = [path.stat().st_size for path in files if path.name == store.WEIGHTS]
    assert len(weights) == 3  # the init stage of mae is kept for other runs
    planned = [plan.bytes_of(item, study.measured) for item in study.runs]
    rest = plan.bytes_of(replace(study.runs[0], weights=0), study.measured)
    assert planned[1] - planned[0] == study.runs[1].weights
    assert study.runs[0].weights == pytest.approx(weights[0], rel=0.2)  # the header of the file is not counted
    assert study.runs[0].checkpoints == 3 * 3 * study.runs[0].weights
    assert 10_000 < rest < 1_000_000
    again = look(data, tmp_path, "default,mae", seeds=[1])
    kept = [item for item in again.runs if item.state == "new"]
    of_first = sum(path.stat().st_size for path in files)
    stages = sum(path.stat().st_size for path in files if ".inits" in path.parts and path.name != store.WEIGHTS)
    sweeps = sum(path.stat().st_size for path in files if ".sweeps" in path.parts)
    assert sum(plan.bytes_of(item, again.measured) for item in kept) == pytest.approx(of_first - stages - sweeps, rel=0.01)


def test_timed_steps_stand_in_for_runs(data: Path, tmp_path: Path) -> None:
    study = plan_study(requests(data, tmp_path, "default,mae"), "equal-total", measure=True)
    (samples,) = study.measured.samples.values()
    assert sum(sample.train is not None for sample in samples) == 1  # each kind of step is timed once
    assert sum(sample.init_steps > 0 for sample in samples) == 1
    time = plan.time_of(study.runs, study.measured)
    assert (time.known, time.behind) == (2, 0)
    assert math.isnan(time.half)
    assert 0 < time.seconds < math.inf  # how many is a matter of the machine
    sheet = plan_sheets(study, [])[0]
    assert "measured: a few steps" in sheet.title


@pytest.mark.parametrize(
    "wrong",
    [
        ["--init", "lwy"],
        ["--init", "mae(mask=2)"],
        ["--backbone", "unetrr"],
        ["--dataset", "nothing-here"],
        ["--device", "gpu"],
        ["--set", "patch.sise=3"],
        ["--set", "init.nothing=3"],
        ["--fix", "weather"],
        ["--recipe", "nothing.toml"],
        ["--seeds", "2", "--seed", "1"],
        ["--backbone", "unetr(variant=round)"],
    ],
)
def test_wrong_input_is_refused_as_run_refuses_it(wrong: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = {"--init": "default", "--backbone": "unetr", "--size": "tiny", "--out": str(tmp_path)}
    options = [part for key, value in given.items() if key not in wrong for part in (key, value)]
    ended, said = [], []
    for command in ("run", "plan"):
        with pytest.raises(SystemExit) as error:
            main([command, *options, *wrong])
        ended.append(error.value.code)
        out, err = capfd.readouterr()
        said.append(" ".join((out + err).split()))
    assert ended == [2, 2]
    if "error:" in said[0]:
        assert said[0].rpartition("error:")[2] == said[1].rpartition("error:")[2]
    else:  # of one run, beside others that may be fine
        assert "refused" in said[0]
        assert "refused" in said[1]


def test_an_sd_that_is_none_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["plan", "--init", "default", "--backbone", "unetr", "--sd", "1,2", "--out", str(tmp_path)])
    assert error.value.code == 2
    assert "--sd" in capfd.readouterr().err


# --- hours ------------------------------------------------------------------------------------------------------------


def expected(init: str = "default", *, steps: int = 100, pretext: int = 0, **changes: Any) -> Expected:
    resolved = {
        "init": init,
        "init_params": {},
        "learned": init in ("mae", "lwi"),
        "protocol": "any",
        "backbone": "unetr",
        "variant": "default",
        "size": "tiny",
        "dataset": "lung",
        "precision": "bf16",
        "budget": "short",
        "steps": steps + pretext,
        "seed": 0,
        "reported_cases": ["a", "b"],
        "split": "auto",
        "recipe_digest": "a" * 12,
        **changes.pop("resolved", {}),
    }
    record = {"cell": init, "resolved": resolved, "environment": {"cpu": "a", "accelerator": None, "threads": 1}}
    return Expected(init, "new", record=record, init_steps=pretext, train_steps=steps, **changes)


def sample(init: str = "default", train: float = 1.0, pretext: int = 0, seconds: float = 0.0, case: float = 5.0) -> Sample:
    return Sample(costs.init_of({"init": init, "init_params": {}}), seconds, pretext, train, case)


def test_seconds_by_hand() -> None:
    samples = [sample(train=1.0), sample(train=3.0), sample("mae", 2.0, pretext=10, seconds=40.0)]
    # 100 steps at 2 s, 2 cases at 5 s; 30 steps of the pretext at 4 s
    assert plan.seconds_of(expected(), samples) == pytest.approx(210)
    assert plan.seconds_of(expected("mae", pretext=30), samples) == pytest.approx(330)
    assert plan.seconds_of(expected("mae", init_stage=False), samples) == pytest.approx(210)
    assert plan.seconds_of(expected(), []) is None
    assert plan.seconds_of(expected("mae", pretext=30), samples[:2]) is None  # no pretext was ever timed


def test_another_inits_pretext_is_borrowed_and_named() -> None:
    run = expected("lwi", pretext=30)
    measured = Costs({costs.pace_of(run.record): (sample(), sample("mae", pretext=10, seconds=40.0))})
    time = plan.time_of([run], measured)
    assert time.seconds == pytest.approx(100 + 10 + 120)
    assert time.borrowed == ("lwi",)


@pytest.mark.parametrize("change", [{"size": "paper"}, {"backbone": "unet"}, {"dataset": "liver"}, {"precision": "float32"}])
def test_only_like_runs_say_how_long(change: dict[str, Any]) -> None:
    measured = Costs({costs.pace_of(expected().record): (sample(),)})
    assert plan.time_of([expected(steps=7)], measured).known == 1
    assert plan.time_of([expected(resolved=change)], measured).known == 0


def test_the_interval_covers_sums_of_runs_to_come() -> None:
    rng, hits, trials = np.random.default_rng(0), 0, 3000
    runs = [expected()] * 8
    key = costs.pace_of(runs[0].record)
    for _ in range(trials):
        found = plan.time_of(runs, Costs({key: tuple(sample(train=pace, case=0.0) for pace in rng.normal(1, 0.1, 4))}))
        hits += abs(found.seconds - 100 * rng.normal(1, 0.1, 8).sum()) <= found.half
    assert hits / trials == pytest.approx(0.95, abs=0.015)


def test_one_measured_run_has_no_spread() -> None:
    measured = Costs({costs.pace_of(expected().record): (sample(),)})
    assert math.isnan(plan.time_of([expected()], measured).half)
    study = StudyPlan((expected(),), measured, "equal-total", 1, 1, True, 10**12)
    assert "about 1.8 GPU-min (measured: 1 run of this backbone and size on this device; spread unknown)" in title(study)


def title(study: StudyPlan) -> str:
    return plan_sheets(study, [])[0].title


def notes(study: StudyPlan, *args: Any) -> str:
    return "\n".join(plan_sheets(study, *(args or ([],)))[0].notes)


def test_what_is_not_known_is_said() -> None:
    study = StudyPlan((expected(),), Costs(), "equal-total", 1, 1, False, 10**12)
    assert "hours unknown: no run of this backbone at this size on this device yet" in title(study)
    half = Costs({costs.pace_of(expected().record): (sample(),)})
    mixed = StudyPlan((expected(), expected(resolved={"backbone": "unet"})), half, "equal-total", 1, 1, False, 10**12)
    assert "for 1 of the 2 new runs, the others unknown" in title(mixed)


@pytest.mark.parametrize(("jobs", "lanes", "minutes"), [(1, 4, None), (2, 4, "4.0 min"), (8, 4, "2.0 min"), (9, 9, "1.0 min")])
def test_time_from_start_to_end(jobs: int, lanes: int, minutes: str | None) -> None:
    runs = tuple(expected(steps=50, resolved={"seed": seed}) for seed in range(8))
    measured = Costs({costs.pace_of(runs[0].record): (sample(),)})
    said = notes(StudyPlan(runs, measured, "equal-total", jobs, lanes, True, 10**12))
    assert (f"About {minutes} from start to end" in said) if minutes else ("start to end" not in said)
    assert ("share what there is" in said) == (jobs > lanes)


def test_a_disk_that_is_too_small_is_said() -> None:
    run = replace(expected(), weights=10**9, checkpoints=9 * 10**9)
    for free, warned in ((11 * 10**9, False), (9 * 10**9, True)):
        study = StudyPlan((run,), Costs(), "equal-total", 1, 1, False, free)
        assert ("Warning" in notes(study)) == warned
    two = replace(study, runs=(run, run), jobs=2)
    stays, passing = plan.disk_of(two)
    assert (round(stays / 1e9), passing) == (2, 18 * 10**9)


def test_costs_are_read_from_records(tmp_path: Path) -> None:
    write_run(tmp_path, seconds=(10.0, 130.0))
    write_run(tmp_path, seed=1, status="diverged", seconds=(0.0, 3.0))
    write_run(tmp_path, seed=2, status="failed")
    found = costs.read_costs(tmp_path)
    ((only,),) = found.samples.values()
    assert (only.init_seconds, only.train, only.whole) == (10.0, 1.0, True)
    assert costs.read_costs(tmp_path / "nothing") == Costs()


# --- what it could find -----------------------------------------------------------------------------------------------

NOISE = stated(1.5, 3.0, 10.0)
QUIET = stated(0.1, 0.2, 0.5)  # two cases find something under it


def many(seeds: int, **resolved: Any) -> tuple[Expected, ...]:
    return tuple(
        expected(init, resolved={"seed": seed, **resolved}) for seed in range(seeds) for init in ("default", "mae", "lwi")
    )


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
    assert "it may be" not in said
    assert "not testable below 8 seeds" in said


def test_without_default_all_pairs_are_judged_at_once() -> None:
    runs = tuple(expected(init, resolved={"seed": seed}) for seed in range(5) for init in ("mae", "lwi", "tube", PLACEBO))
    study = StudyPlan(runs, Costs(), "equal-total", 1, 1, False, 10**12)
    assert "for 3 differences judged at once" in notes(study, [], QUIET)


def test_noise_that_hides_every_difference_is_said() -> None:
    study = StudyPlan(many(5), Costs(), "equal-total", 1, 1, False, 10**12)
    assert "With these 5 seeds not even a difference of 100 points is found in 80 % of studies" in notes(study, [], NOISE)


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
    sure = power_of(pilot, 5, 2, found.value, 2)
    assert (
        f"it may be {found.low:.1f} to {found.high:.1f} points, and {found.value:.1f} are found in {100 * sure.low:.0f} to "
        f"{100 * sure.high:.0f} % of studies."
    ) in "\n".join(sheet.notes)


@pytest.mark.parametrize(("networks", "said"), [(2, "no ratio below 10"), (8, "a ratio of ≥ ")])
def test_seed_sds_are_found_over_blocks(networks: int, said: str) -> None:
    runs = tuple(run for number in range(networks) for run in many(5, backbone=f"net{number}"))
    study = StudyPlan(runs, Costs(), "equal-total", 1, 1, False, 10**12)
    assert f"pooled over {networks} blocks, {said}" in notes(study, [], NOISE)
    if networks == 8:
        assert f"≥ {detectable_ratio(5, 8):.1f} is found" in notes(study, [], NOISE)


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
    alone = tuple(run for run in many(1) if run.resolved["init"] == "default")
    assert "can decide nothing" not in notes(replace(study, runs=alone), [], NOISE)  # nothing is asked of it


def warned(requests_: list[Any]) -> str:
    """What `run` says of a sweep before it begins."""
    out = io.StringIO()
    _warn_if_nothing_can_be_decided(Console(file=out, width=400), requests_)
    return out.getvalue()


def test_run_warns_as_plan_does_before_hours_are_spent(data: Path, tmp_path: Path) -> None:
    """Of six cases the usual split reports one, half of them are three."""
    start = f"warning: this study can decide nothing on {data}: "
    half = {"folds": ["1/2"]}
    assert warned(requests(data, tmp_path, "default,mae", seeds=3, **half)) == ""
    assert warned(requests(data, tmp_path, "default")) == ""  # nothing is asked of it
    for init in ("default,mae", "default,mae,default(construct=other)"):
        assert warned(requests(data, tmp_path, init, seeds=[7], **half)).startswith(f"{start}with one seed a difference of inits")
        assert warned(requests(data, tmp_path, init, seeds=3)).startswith(f"{start}with one reported case (or patient) nothing")
    for options in ({"seeds": [0], **half}, {"seeds": 3}):
        study = look(data, tmp_path, "default,mae", **options)
        (said,) = (note for note in plan_sheets(study, [])[0].notes if "decide nothing" in note)
        assert said.partition("nothing: ")[2].rstrip(".") in warned(requests(data, tmp_path, "default,mae", **options))


def test_the_nearest_pilot_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for backbone in ("unetr", "unet"):
        for init in ("default", "mae"):
            for seed in range(3):
                write_two_cases(tmp_path, rng, init, seed, backbone=backbone, dataset="lung", variant="default", precision="bf16")
    tables = score_tables(initbench.load_runs(tmp_path), initbench.load_cases(tmp_path))
    own: dict[str, Any] = {
        "dataset": "lung", "backbone": "unet", "variant": "default", "size": "tiny", "steps": 120, "precision": "bf16",
        "split": "auto", "recipe_digest": "a" * 12,
    }  # fmt: skip
    found = plan.nearest(own, tables)
    assert found is not None
    assert (found.own, found.source) == (True, "lung × unet")
    other = plan.nearest({**own, "backbone": "nnformer"}, tables)
    assert other is not None
    assert (other.own, other.source) == (False, "lung × unet")
    for seed in range(3):
        for init in ("default", "mae"):
            write_two_cases(tmp_path, rng, init, seed, backbone="nnformer", dataset="liver", variant="default", precision="bf16")
    more = score_tables(initbench.load_runs(tmp_path), initbench.load_cases(tmp_path))
    same_data = plan.nearest({**own, "backbone": "nnformer"}, more)
    assert same_data is not None
    assert same_data.source == "lung × unet"  # the data set counts before the network
    longer = plan.nearest({**own, "steps": 90_000}, tables)
    assert longer is not None
    assert (longer.own, longer.source) == (False, "lung × unet, tiny size, 120 steps")
    fold = plan.nearest({**own, "split": "fold 1/5"}, tables)
    assert fold is not None
    assert (fold.own, fold.source) == (False, "lung × unet, split auto")
    recipe = plan.nearest({**own, "recipe_digest": "b" * 12}, tables)
    assert recipe is not None
    assert (recipe.own, recipe.source) == (False, "lung × unet, another recipe")
    assert plan.nearest(own, []) is None
    study = StudyPlan(many(3, backbone="nnformer"), Costs(), "equal-total", 1, 1, False, 10**12)
    assert "borrowed: lung × unet" in notes(study, tables)
    assert "no runs to take the noise from" in notes(study, [])


def write_two_cases(out: Path, rng: np.random.Generator, init: str, seed: int, **resolved: Any) -> None:
    folder = write_run(out, init, 0.5, seed=seed, weights=f"{init}{seed}{resolved['backbone']}", **resolved)
    rows = [f"case_0{k},1,nodule,{tp},{50 - tp},{50 - tp},{tp / 50},," for k, tp in enumerate(rng.integers(20, 40, 3), start=1)]
    (folder / store.CASES).write_text("\n".join(["case,class,class_name,tp,fp,fn,dice,hd95_mm,nsd", *rows]) + "\n")
    record = store.read_record(folder)
    assert record is not None
    record.pop("digest")
    store.write_json(folder / store.RECORD, store.seal(record, folder))


@pytest.mark.parametrize("form", ["md", "csv", "json", "latex"])
def test_every_form_holds_the_counts(form: str) -> None:
    study = StudyPlan((*many(2), Expected("x", "refused", "no such thing")), Costs(), "equal-total", 1, 1, False, 10**12)
    text = FORMS[form](plan_sheets(study, [], NOISE))
    if form == "json":
        rows = json.loads(text)
        total = next(row for row in rows if row["of"] == "study")
        assert (total["new"], total["refused"]) == (6, 1)
        assert sum(row["new"] for row in rows if row["of"] == "cell") == 6
    elif form == "csv":
        total = next(iter(csv.DictReader(io.StringIO(text))))
        assert (total["new"], total["cached"], total["refused"]) == ("6", "0", "1")
    else:
        assert "6 new + 0 cached runs + 1 refused" in text
        assert "no such thing" in text


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [part for assignment in SMALL for part in ("--set", assignment)]
    options += ["--budget", "smoke", "--size", "tiny", "--device", "cpu", "--precision", "float32", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--init", "default,mae", "--backbone", LIGHT, "--dataset", str(data), "--format", "json", *options])
    assert ended.value.code == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["new"] == sum(row["new"] for row in rows if row["of"] == "cell")
    assert rows[0]["protocol"] == "equal-total"
