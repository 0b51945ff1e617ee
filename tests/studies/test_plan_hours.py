"""The hours of a sweep from runs that are there, worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from initbench.runs import costs
from initbench.runs.costs import Costs, Expected, Sample, Seconds, StudyPlan
from initbench.runs.record import Environment, Head
from initbench.tables.cost import Cost, announced
from initbench.tables.plan import cluster_sheet, plan_sheets
from tests.recorded import write_run
from tests.studies.planned import expected, notes, sample, title


def in_seconds(run: Expected, *samples: Sample, least: dict[str, float] | None = None) -> tuple[float, float, str] | None:
    found = costs.seconds_of(run, samples, least)
    return found and (pytest.approx(found.low), pytest.approx(found.high), found.basis)


def test_seconds_by_hand() -> None:
    samples = [sample(train=1.0), sample(train=3.0), sample("mae", 2.0, pretext=10, seconds=40.0)]
    # 100 steps at 1 to 3 s, 2 cases at 5 s; 30 steps of the pretext at 4 s
    assert in_seconds(expected(), *samples) == (110, 310, "finished runs")
    assert in_seconds(expected("mae", pretext=30), *samples) == (230, 430, "finished runs")
    assert in_seconds(expected("mae", init_stage=False), *samples) == (110, 310, "finished runs")
    assert in_seconds(expected()) is None
    assert in_seconds(expected("mae", pretext=30), *samples[:2]) is None, "no pretext was ever timed"
    assert in_seconds(expected("lwi", pretext=30), *samples) is None, "nor was this one"
    looks_at_data = replace(sample("lsuv", seconds=7.0), whole=False)
    assert in_seconds(expected("lsuv"), looks_at_data) == (117, 117, "timed steps")
    timed_stage = Sample(costs.init_of(expected("mae").resolved), {"pretext": 4.0}, whole=False)
    assert in_seconds(expected("mae", pretext=30), sample(), timed_stage) == (230, 230, "timed steps")
    assert in_seconds(expected(), sample(), timed_stage) == (110, 110, "finished runs")


def test_operations_give_a_range_for_stages_that_no_run_says_the_time_of() -> None:
    least = {"pretext": 0.5, "train": 10.0, "evaluate": 1.0}
    slowest = costs.SLOWEST
    assert in_seconds(expected(), least=least) == (1002, 1002 * slowest, "operations")
    assert in_seconds(expected("lwi", pretext=30), sample(), least=least) == (125, 110 + 15 * slowest, "operations")
    assert in_seconds(expected(), sample(), least=least) == (110, 110, "finished runs")
    assert in_seconds(expected(), least=least | {"train": math.nan}) is None, "nobody could count them"


def known(run: Expected, *samples: Sample) -> tuple[Expected, Costs]:
    """A run with the seconds that samples tell, and these samples."""
    return replace(run, seconds=costs.seconds_of(run, samples)), Costs({costs.pace_of(run.head): samples})


def estimated(least: float, **changes: Any) -> Expected:
    if math.isnan(least):
        return expected(**changes)
    return expected(seconds=Seconds(least, costs.SLOWEST * least, "operations"), **changes)


def test_a_study_of_measured_and_estimated_runs() -> None:
    first, measured = known(expected(), sample())
    second, third = estimated(3600.0, resolved={"backbone": "unet"}), expected(resolved={"backbone": "unet"})
    cost = Cost([first, second, third], measured)
    assert (cost.told, cost.new) == (2, 3)
    assert (cost.seconds.low, cost.seconds.high) == pytest.approx((3710, 110 + 3600 * costs.SLOWEST))
    alone = StudyPlan((second,), measured, "equal-total", 1, 1, False, 10**12)
    assert "about 1.0 to 12 CPU-h (estimated from the operations of the networks; --measure times steps)" in title(alone)
    both = StudyPlan((first, second), measured, "equal-total", 1, 1, False, 10**12)
    assert "(estimated from the operations" in title(both), "what is known least counts"
    sheet = plan_sheets(both, [])[0]
    assert [row[3] for row in sheet.rows] == ["1.8 min", "1.0 to 12 h"]
    assert sheet.values[0]["seconds_high"] == pytest.approx(110 + 3600 * costs.SLOWEST)
    assert [row["seconds_from"] for row in sheet.values] == ["operations", "finished runs", "operations"]


@pytest.mark.parametrize(
    ("least", "jobs", "says"),
    [
        (3600.0, 1, "On this CPU: about 2.0 to 24 h, estimated from the operations of the networks. --size tiny --budget smoke "),
        (3600.0, 2, "On this CPU: about 1.0 to 12 h, "),
        (1.0, 1, "On this CPU: less than a minute, estimated from the operations of the networks."),
        (10.0, 1, "On this CPU: about 20 s to 4.0 min, estimated from the operations of the networks."),
        (math.nan, 1, ""),
    ],
)
def test_what_a_run_says_before_it_begins(least: float, jobs: int, says: str) -> None:
    runs = tuple(estimated(least) for _ in range(2))
    study = StudyPlan(runs, Costs(), "equal-total", jobs, 4, False, 10**12)
    told = announced(study)
    assert told.startswith(says)
    assert bool(told) == bool(says)
    assert ("takes minutes" in told) == (least > 100)
    assert announced(replace(study, accelerated=True)) == ""


@pytest.mark.parametrize("change", [{"size": "paper"}, {"backbone": "unet"}, {"dataset": "liver"}, {"precision": "float32"}])
def test_only_like_runs_say_how_long(change: dict[str, Any]) -> None:
    measured = Costs({costs.pace_of(expected().head): (sample(),)})
    assert len(measured.of_pace(expected(steps=7))) == 1
    assert not measured.of_pace(expected(resolved=change))


def test_the_time_is_from_the_fastest_to_the_slowest_of_the_measured_runs() -> None:
    run, measured = known(expected(), sample(train=3.0), sample(train=6.0))
    study = StudyPlan((run,), measured, "equal-total", 1, 1, True, 10**12)
    assert "about 5.2 to 10 GPU-min (measured: finished runs like these on this device)" in title(study)
    assert "from the fastest measured run to the slowest" in notes(study)


def test_what_is_not_known_is_said() -> None:
    study = StudyPlan((expected(),), Costs(), "equal-total", 1, 1, False, 10**12)
    assert "hours unknown: no run like these on this device yet" in title(study)
    first, measured = known(expected(), sample())
    mixed = StudyPlan((first, expected(resolved={"backbone": "unet"})), measured, "equal-total", 1, 1, False, 10**12)
    assert "for 1 of the 2 new runs, the others unknown" in title(mixed)


@pytest.mark.parametrize(("jobs", "lanes", "minutes"), [(1, 4, None), (2, 4, "4.0 min"), (8, 4, "2.0 min"), (9, 9, "1.0 min")])
def test_time_from_start_to_end(jobs: int, lanes: int, minutes: str | None) -> None:
    runs = tuple(known(expected(steps=50, resolved={"seed": seed}), sample())[0] for seed in range(8))
    measured = Costs({costs.pace_of(runs[0].head): (sample(),)})
    said = notes(StudyPlan(runs, measured, "equal-total", jobs, lanes, True, 10**12))
    assert (f"About {minutes} from start to end" in said) if minutes else ("start to end" not in said)
    assert ("share what there is" in said) == (jobs > lanes)


def test_a_disk_that_is_too_small_is_said() -> None:
    run = replace(expected(), weights=10**9, checkpoints=9 * 10**9)
    for free, warned in ((11 * 10**9, False), (9 * 10**9, True)):
        study = StudyPlan((run,), Costs(), "equal-total", 1, 1, False, free)
        assert ("Warning" in notes(study)) == warned
    two = replace(study, runs=(run, run), jobs=2)
    assert round(Cost(two.runs, two.measured).bytes / 1e9) == 2
    assert two.checkpoint_bytes == 18 * 10**9


def test_costs_are_read_from_records(tmp_path: Path) -> None:
    write_run(tmp_path, seconds=(10.0, 130.0))
    write_run(tmp_path, seed=1, status="diverged", seconds=(0.0, 3.0))
    write_run(tmp_path, seed=2, status="failed")
    found = costs.read_costs(tmp_path)
    ((only,),) = found.samples.values()
    assert (only.stepless, only.paces["train"], only.whole) == (10.0, 1.0, True)
    assert costs.read_costs(tmp_path / "nothing") == Costs()


def on(kind: str, precision: str) -> Head:
    """A finished run on a GPU."""
    head = expected(resolved={"precision": precision}).head
    return head.model_copy(update={"environment": Environment(cpu="a", accelerator=kind, threads=1)})


def kinds_of(study: StudyPlan, device: str = "cuda", tasks: int = 0) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in cluster_sheet(study, "slurm", device, tasks, "initbench run").rows}


def test_each_kind_of_device_has_its_own_hours_and_others_are_unknown() -> None:
    kinds = {"fast": on("fast", "bf16"), "slow": on("slow", "float32"), "other": on("other", "bf16"), "a": expected().head}
    samples = {
        costs.pace_of(kinds["fast"]): (sample(train=1.0), sample(train=1.0)),
        costs.pace_of(kinds["slow"]): (sample(train=10.0),),
    }
    runs: list[Expected] = [expected()] * 4
    study = StudyPlan(tuple(runs), Costs(samples, kinds=kinds), "equal-total", 1, 1, False, 10**12)
    # 4 runs of 100 steps and 2 cases at 5 s; the precision is that of the kind, where it is left to the device
    assert kinds_of(study) == {
        "fast": ("7.3 GPU-min", "–"),
        "other": ("unknown", "–"),
        "slow": ("1.1 GPU-h", "–"),
    }
    assert kinds_of(study, tasks=2)["fast"] == ("7.3 GPU-min", "3.7 min")
    assert kinds_of(study, tasks=100)["slow"][-1] == "17 min", "no shorter than the longest run"
    assert list(kinds_of(study, "cpu")) == ["a"]
    [told] = [note for note in cluster_sheet(study, "slurm", "cuda", 2, "initbench run").notes if "other kind" in note]
    assert "unknown" in told
