"""What a sweep would be, before it is: the counts, refusals and disk of `run`, and the command."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from initbench.cli.announce import warn_if_nothing_can_be_decided
from initbench.cli.app import main
from initbench.harness.cell import Cells
from initbench.harness.execute import Outcome
from initbench.harness.request import RunRequest
from initbench.paths import nearest_existing
from initbench.runs import store, work
from initbench.runs.costs import Costs, Expected, StudyPlan
from initbench.studies import forecast
from initbench.studies.forecast import plan_looked_up, plan_study
from initbench.studies.operations import Operations
from initbench.studies.sweep import LookedUp, Silent, cross_requests, look_up_study
from initbench.tables.cost import Cost
from initbench.tables.plan import plan_sheets
from initbench.tables.sheet import FORMS
from tests.recorded import record_values
from tests.runs_factory import LIGHT, OPTIONS, SMALL, as_flags, run
from tests.studies.planned import NOISE, many

COUNTED = ("new", "cached", "refused", "failed")


def requests(data: Path, out: Path, init: str, **options: Any) -> list[Any]:
    assignments = (*SMALL, *options.pop("assignments", ()))
    return cross_requests(init, LIGHT, str(data), out=out, assignments=assignments, **OPTIONS | options)


def look(data: Path, out: Path, init: str, **options: Any) -> StudyPlan:
    return plan_study(requests(data, out, init, **options), options.get("protocol", "equal-total"))


def test_seconds_by_operations_are_these_over_the_rate(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "multiply_adds_per_second", lambda cell: 10.0)
    monkeypatch.setattr(forecast, "operations_of", lambda cell, forward: Operations(pretext=2.0, train=3.0, evaluate=5.0))
    [plain, mae] = look(data, tmp_path, "default,mae", placebo=False).runs
    cases = len(plain.resolved.reported_cases)
    assert plain.seconds is not None
    assert plain.seconds.low == pytest.approx((3 * plain.train_steps + 5 * cases) / 10)
    assert mae.init_steps > 0
    assert mae.seconds is not None
    assert mae.seconds.low == pytest.approx((2 * mae.init_steps + 3 * mae.train_steps + 5 * cases) / 10)


def test_a_study_of_others_code_is_planned_without_a_device(tmp_path: Path) -> None:
    """Its runs go to other machines: nobody asks for the GPU here."""
    request = RunRequest.of("default", LIGHT, "phantom-lung", 0, out=tmp_path, device="cuda")
    study = LookedUp([request], {0: Outcome(request, "pending", None, None)}, Cells(), isolated=True)
    assert plan_looked_up(study, "", 2).runs == ()


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


def test_nothing_is_said_of_runs_whose_code_of_others_runs_in_workers_alone(data: Path, tmp_path: Path) -> None:
    asked = requests(data, tmp_path, "default")
    known = look_up_study(asked, Silent())
    assert len(plan_looked_up(known, "equal-total").runs) == 1
    assert plan_looked_up(replace(known, isolated=True), "equal-total").runs == ()


def test_a_plan_leaves_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    study = plan_study(requests(data, out, "default,mae"), "equal-total", timing="measured")
    assert not out.exists()
    assert {item.state for item in study.runs} == {"new"}


def test_work_that_is_left_is_what_run_does(data: Path, tmp_path: Path) -> None:
    study = look(data, tmp_path, "default,mae", protocol="both")
    for item, outcome in zip(study.runs, run(data, tmp_path, "default,mae", protocol="both"), strict=True):
        assert outcome.folder is not None
        record = record_values(outcome.folder)
        assert item.head.cell == record["cell"]
        assert item.train_steps == record["cost"]["train"]["steps"]
        assert json.loads(json.dumps(item.resolved.written())) == record["resolved"]
    first, second = (item for item in study.runs if item.resolved.learned)
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
        ("shuffled(order(taps=(1, 9)))", ()),
        ("order", ("patch.size=4,16,16", "pretext.taps=2")),
        pytest.param("lwi(mask_ratio=1.5)", (), marks=pytest.mark.full),
        pytest.param("order(taps=(1, 2))", ("patch.size=4,16,16",), marks=pytest.mark.full),
        pytest.param("trunc-normal(std=0)", (), marks=pytest.mark.full),
        pytest.param("lwi-as-released", (), marks=pytest.mark.full),
    ],
)
def test_an_init_that_refuses_its_parameters_is_refused_in_a_plan(
    data: Path, tmp_path: Path, init: str, assignments: tuple[str, ...]
) -> None:
    changed: dict[str, Any] = {"assignments": assignments, "seeds": 2}
    study = look(data, tmp_path, f"default,{init}", **changed)
    outcomes = run(data, tmp_path, f"default,{init}", skip_refused=True, **changed)
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
    files = [path for path in tmp_path.glob("**/*") if path.is_file() and not {".claims", ".kinds"} & set(path.parts)]
    weights = [path.stat().st_size for path in files if path.name == store.WEIGHTS]
    assert len(weights) == 3  # the init stage of mae is kept for other runs
    planned = [study.measured.bytes_of(item) for item in study.runs]
    rest = study.measured.bytes_of(replace(study.runs[0], weights=0))
    assert planned[1] - planned[0] == study.runs[1].weights
    assert study.runs[0].weights == pytest.approx(weights[0], rel=0.2)  # the header of the file is not counted
    assert study.runs[0].checkpoints == 3 * 3 * study.runs[0].weights
    taught = look(data, tmp_path, "default", regimen="medcontext").runs[0]
    assert taught.checkpoints == 3 * 4 * taught.weights, "a checkpoint holds the teacher, too"
    assert 10_000 < rest < 1_000_000
    again = look(data, tmp_path, "default,mae", seeds=[1])
    kept = [item for item in again.runs if item.state == "new"]
    of_first = sum(path.stat().st_size for path in files)
    stages = sum(path.stat().st_size for path in files if ".inits" in path.parts and path.name != store.WEIGHTS)
    sweeps = sum(path.stat().st_size for path in files if ".sweeps" in path.parts)
    assert sum(again.measured.bytes_of(item) for item in kept) == pytest.approx(of_first - stages - sweeps, rel=0.01)


def test_timed_steps_stand_in_for_runs(data: Path, tmp_path: Path) -> None:
    study = plan_study(requests(data, tmp_path, "default,mae"), "equal-total", timing="measured")
    (samples,) = study.measured.samples.values()
    assert sum("train" in sample.paces for sample in samples) == 1  # each kind of step is timed once
    assert sum("pretext" in sample.paces for sample in samples) == 1
    cost = Cost(study.runs, study.measured)
    assert (cost.seconds.basis, cost.told) == ("timed steps", 2)
    assert 0 < cost.seconds.low == cost.seconds.high < math.inf  # how many is a matter of the machine
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


# --- what it could find -----------------------------------------------------------------------------------------------


def warned(requests_: list[Any]) -> str:
    """What `run` says of a sweep before it begins."""
    out = io.StringIO()
    warn_if_nothing_can_be_decided(Console(file=out, width=400), requests_)
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


def test_the_disk_is_that_of_the_nearest_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nearest_existing(tmp_path / "not" / "there") == tmp_path
    assert nearest_existing(tmp_path) == tmp_path
    monkeypatch.chdir(tmp_path)
    assert nearest_existing(Path("runs")) == tmp_path


def test_planned_looks_of_nothing_are_no_table() -> None:
    failed = StudyPlan((Expected("x", "failed", "no data"),), Costs(), "equal-total", 1, 1, False, 10**12)
    assert [sheet.subtitle for sheet in plan_sheets(failed, [], looks=(3, 5))] == ["nothing can be run"]


def test_of_many_runs_that_one_reason_stops_three_are_named() -> None:
    stopped = tuple(Expected(f"run {number}", "failed", "no data") for number in range(180))
    (only,) = plan_sheets(StudyPlan(stopped, Costs(), "equal-total", 1, 1, False, 10**12), [])
    assert only.notes == ("failed: run 0; run 1; run 2; and 177 more: no data",)
    assert len([row for row in only.values if row["of"] == "run"]) == 180


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
    options = as_flags(SMALL)
    options += ["--budget", "smoke", "--size", "tiny", "--device", "cpu", "--precision", "float32", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--init", "default,mae", "--backbone", LIGHT, "--dataset", str(data), "--format", "json", *options])
    assert ended.value.code == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["new"] == sum(row["new"] for row in rows if row["of"] == "cell")
    assert rows[0]["protocol"] == "equal-total"
    assert rows[0]["seconds_low"] > 0, "it measures by itself where that is quick"
    assert rows[0]["seconds_from"] == "timed steps"
