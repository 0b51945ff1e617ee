"""Regimens in runs: what is in an id, which steps compute leaves, what a record holds, kills in the middle, bad use."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import initbench
from initbench.errors import UsageError
from initbench.harness import reuse
from initbench.harness.cell import Cell, resolve_cell
from initbench.harness.record import block_digest
from initbench.harness.request import RunRequest, as_json, from_json
from initbench.runs.store import WEIGHTS
from initbench.studies.sweep import cross_requests
from initbench.training.checkpoints import Checkpoints
from tests.harness.resumed import drive, settings
from tests.regimens.stages import small, stage, trained
from tests.runs_factory import LIGHT, SMALL, record_of, run, run_one

OWN = '''
from initbench.protocols import regimen

class Twice:
    """Looks at each batch twice."""

    def __init__(self, ctx):
        self.ctx, self.module = ctx, ctx.model

    def batch(self, step):
        return self.ctx.batch(step)

    def losses(self, batch):
        for _ in range(2):
            yield self.ctx.supervised(self.ctx.model(batch.image), batch.label)

@regimen(units=6)
def twice(ctx, /, *, share: float = 0.5):
    return Twice(ctx)
'''


def resolved(data: Path, regimen: str = "plain", init: str = "default", backbone: str = LIGHT, **options: Any) -> Cell:
    asked = {"size": "tiny", "budget": "smoke", "device": "cpu", "precision": "float32", "assignments": SMALL, **options}
    return resolve_cell(RunRequest.of(init, backbone, str(data), 0, regimen=regimen, **asked))


# --- identity ---------------------------------------------------------------------------------------------------------


def test_regimens_are_cells_of_one_block(four_cases: Path) -> None:
    asked = ["plain", "medcontext", "medcontext(beta=0)", "medcontext(norm=mean)", "medcontext-as-released"]
    cells = [resolved(four_cases, regimen) for regimen in asked]
    cells += [resolved(four_cases, "medcontext", regimen_budget="compute"), resolved(four_cases, "medcontext", init="mae")]
    assert len({cell.id for cell in cells}) == len(cells)
    assert len({block_digest(cell) for cell in cells}) == 1


def test_a_plain_run_is_the_same_under_both_budgets(four_cases: Path) -> None:
    steps, compute = resolved(four_cases), resolved(four_cases, regimen_budget="compute")
    assert steps.id == compute.id
    assert steps.identity["regimen"] == "plain"
    assert steps.identity.keys().isdisjoint({"regimen_params", "regimen_source", "regimen_budget"})


def test_a_default_that_is_written_out_changes_no_id(four_cases: Path) -> None:
    short, long = resolved(four_cases, "medcontext"), resolved(four_cases, "medcontext(beta=0.5, norm=l2)")
    assert (short.id, short.regimen_name) == (long.id, long.regimen_name) == (short.id, "medcontext")
    assert resolved(four_cases, "medcontext(beta=0)").regimen_name == "medcontext(beta=0)"


def test_an_init_stage_is_shared_by_regimens(four_cases: Path) -> None:
    plain = resolved(four_cases, init="mae")
    for other in (resolved(four_cases, "medcontext", "mae"), resolved(four_cases, "medcontext", "mae", regimen_budget="compute")):
        assert reuse.key(other) == reuse.key(plain)


def test_a_file_is_a_regimen_by_its_content(four_cases: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN, "utf-8")
    first = resolved(four_cases, f"{file}:twice")
    file.write_text(OWN + "\n# changed\n", "utf-8")
    assert resolved(four_cases, f"{file}:twice").id != first.id
    assert first.regimen_name.startswith("mine.py:twice@")
    assert first.units == 6


def test_a_parameter_that_a_regimen_needs_is_named(four_cases: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN.replace("share: float = 0.5", "share: float"), "utf-8")
    with pytest.raises(UsageError, match=r"needs share: write .*mine\.py:twice\(share=\.\.\.\)$"):
        resolved(four_cases, f"{file}:twice")


def test_a_request_travels_as_text(four_cases: Path) -> None:
    asked = RunRequest.of("default", LIGHT, str(four_cases), 0, regimen="medcontext(beta=0)", regimen_budget="compute")
    assert from_json(as_json(asked)).regimen == asked.regimen
    assert from_json(as_json(asked)).regimen_budget == "compute"
    assert asked.label.endswith("seed 0 at equal compute")
    assert " × medcontext(beta=0) " in asked.label


# --- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("regimen", "init", "protocol", "steps"),
    [
        ("plain", "default", "equal-total", (0, 150)),
        ("medcontext", "default", "equal-total", (0, 64)),  # 450 / 7
        ("medcontext(beta=0)", "default", "equal-total", (0, 75)),
        ("medcontext", "mae", "equal-total", (24, 54)),  # 0.16 of 150 come off first: 126 · 3 / 7
        ("medcontext", "mae", "equal-finetune", (24, 64)),
    ],
)
def test_equal_compute_divides_what_is_left(
    four_cases: Path, regimen: str, init: str, protocol: Any, steps: tuple[int, int]
) -> None:
    more = (*SMALL, "steps.smoke=150", "pretext.share=0.16")
    cell = resolved(four_cases, regimen, init, protocol=protocol, regimen_budget="compute", assignments=more)
    assert (cell.pretext_steps, cell.train_steps, cell.total_steps) == (*steps, 150)
    assert resolved(four_cases, regimen, init, protocol="equal-finetune", assignments=more).train_steps == 150


def test_a_budget_that_pays_for_no_step_is_refused(four_cases: Path) -> None:
    with pytest.raises(
        UsageError, match=r"a step of medcontext costs 2\.3 plain ones, and the 2 that the budget smoke leaves pay for"
    ):
        resolved(four_cases, "medcontext", regimen_budget="compute", assignments=(*SMALL, "steps.smoke=2"))


# --- studies ----------------------------------------------------------------------------------------------------------


def test_regimens_are_crossed_with_inits_and_each_has_its_placebo() -> None:
    requests = cross_requests("default,mae", "unetr", regimen="plain,medcontext", seeds=2)
    asked = [(str(request.init), str(request.regimen), request.seed) for request in requests]
    placebo = "default(construct='other')"
    assert asked[:6] == [(init, regimen, 0) for regimen in ("plain", "medcontext") for init in ("default", "mae", placebo)]
    alone = cross_requests("default", "unetr", regimen="plain,medcontext", seeds=2)
    assert [str(request.init) for request in alone[:2]] == ["default", placebo], "the regimen is compared with plain"
    assert len(cross_requests("default", "unetr", regimen="medcontext", seeds=2)) == 2


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_records_its_regimen_and_what_it_cost(four_cases: Path, tmp_path: Path) -> None:
    regimens = "plain,medcontext,medcontext(beta=0)"
    outcomes = run(four_cases, tmp_path, "mae", regimen=regimens, regimen_budget="compute", assignments=["steps.smoke=16"])
    plain, whole, masked = (record_of(outcome.folder) for outcome in outcomes)
    found = []
    for record in (plain, whole, masked):
        cost = record["cost"]
        found.append((record["resolved"]["regimen"], cost["init"]["units"], cost["train"]["steps"], cost["train"]["units"]))
    assert found == [("plain", 9, 13, 39), ("medcontext", 9, 5, 35), ("medcontext(beta=0)", 9, 6, 36)]
    assert "regimen_params" not in plain["resolved"]
    assert (whole["resolved"]["regimen_params"]["beta"], whole["resolved"]["regimen_budget"]) == (0.5, "compute")
    assert whole["regimen_report"]["mask_at"] == "stem"
    assert whole["regimen_report"]["summary"].startswith("the teacher is nearly the initial student")
    assert "regimen_report" not in plain
    assert plain["resolved"]["recipe_digest"] == whole["resolved"]["recipe_digest"] == masked["resolved"]["recipe_digest"]
    runs = initbench.load_runs(tmp_path).set_index("regimen")
    assert runs.loc["plain", "regimen_budget"] == "any"
    assert runs.loc["medcontext", "units"] == 9 + 35
    assert runs["regimen_summary"]["plain"] == ""
    curve = pd.read_csv(Path(runs["path"]["medcontext"]) / "curve.csv")
    assert {"sup", "sup_masked", "consistency", "ema_m"} <= set(curve)
    stages = list(tmp_path.glob(".inits/*/weights.safetensors"))
    assert len(stages) == 1, "the init stage is done once"


def test_the_weights_are_those_of_the_student_alone(four_cases: Path, tmp_path: Path) -> None:
    plain = run_one(four_cases, tmp_path, regimen="plain") / WEIGHTS
    student = run_one(four_cases, tmp_path, regimen="medcontext") / WEIGHTS
    assert load_file(plain).keys() == load_file(student).keys()


def test_a_regimen_in_a_file_runs(four_cases: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN, "utf-8")
    record = record_of(run_one(four_cases, tmp_path / "runs", regimen=f"{tmp_path / 'mine.py'}:twice"))
    assert record["cost"]["train"]["units"] == 60


def check_killed(settings: dict[str, Any]) -> list[str]:
    """Kills a study and lets it go on; returns what it was doing each time."""
    report = drive(settings)
    assert len(report["whole"]) == 4
    for result in report["results"]:
        assert (result["first"], result["last"]) == (-signal.SIGKILL, 0), result
        assert result["digests"] == report["whole"]
        assert result["left"] == []
    return [str(result["doing"]) for result in report["results"]]


def test_killed_in_the_middle_it_ends_in_the_same_bits(four_cases: Path, tmp_path: Path) -> None:
    trials = [{"kind": "kill", "of": "pass", "share": 0.6}]
    assert check_killed(settings(four_cases, tmp_path, init="default", regimen="medcontext", trials=trials)) == ["training"]


def test_a_teacher_that_is_not_in_the_checkpoint_would_show(
    tmp_path: Path,
) -> None:
    """Half of the stage, then the rest from the checkpoint: with the teacher the same bits, without it others."""
    whole = stage("medcontext(norm=mean)", small())
    trained(whole)
    for number, forgets in enumerate((False, True)):
        kept = Checkpoints(tmp_path / str(number), "train", 0.0)
        trained(stage("medcontext(norm=mean)", small()), checkpoints=kept, until=2)
        later = stage("medcontext(norm=mean)", small())
        if forgets:
            later.load_state = lambda state: None
        trained(later, checkpoints=kept)
        assert (
            all(torch.equal(a, b) for a, b in zip(whole.network.parameters(), later.network.parameters(), strict=True)) != forgets
        )


@pytest.mark.full
@pytest.mark.parametrize("backbone", ["unetr", "unetrpp", "swin-unetr", "nnformer", "unet"])
def test_real_networks_are_killed_too(tmp_path: Path, backbone: str) -> None:
    trials = [{"kind": "kill", "of": "pass", "share": share} for share in (0.1, 0.3)]
    few = ("steps.smoke=6", "patch.batch=1")
    more = {"init": "default", "backbone": backbone, "regimen": "medcontext", "trials": trials, "assignments": few}
    check_killed(settings(Path("phantom-lung"), tmp_path, **more))


# --- bad use ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("regimen", "backbone", "says"),
    [
        ("medcontext(mask_at=tokens)", "unet", "unet declares no tokens to hide; mask_at=image hides parts of the image"),
        (
            "medcontext-as-released",
            LIGHT,
            "the release trains unetr and nnformer, and this is light; --regimen medcontext takes it",
        ),
        ("medcontext(ratio=1)", LIGHT, "ratio=1: the share that is hidden lies between 0 and 1"),
        ("medcontext(ratio=0)", LIGHT, "ratio=0: the share that is hidden lies between 0 and 1"),
        (
            "medcontext(cell=5)",
            LIGHT,
            "squares of 5 do not divide the plane of 8 × 8 that the mask is drawn on; cell= takes 1, 2, 4, 8",
        ),
    ],
)
def test_bad_use_is_refused_before_anything_runs(
    four_cases: Path, tmp_path: Path, regimen: str, backbone: str, says: str
) -> None:
    outcomes = run(four_cases, tmp_path, backbone=backbone, regimen=f"plain,{regimen}")
    assert [outcome.state for outcome in outcomes] == ["pending", "refused"]
    assert says in outcomes[1].message
    assert "\n" not in outcomes[1].message
    assert list(tmp_path.glob("*/*/*/seed-*")) == []
