"""A run that differs from a finished one in inference alone takes its weights, and is scored without training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from initbench import staging
from initbench.audit.verify import verify
from initbench.harness import run as stages
from initbench.harness.cell import resolve_cell
from initbench.harness.execute import folder_of
from initbench.harness.request import RunRequest
from initbench.harness.trained import find_trained
from initbench.runs import costs, store
from initbench.studies.forecast import plan_study
from initbench.tables.plan import plan_sheets
from tests.harness.resumed import drive, settings
from tests.runs_factory import LIGHT, OPTIONS, SMALL, record_of, run, run_one

SETTINGS = (*SMALL, "inference.overlap=0.7")
LOGITS = ("inference.average=logits", "inference.mirror=true")
SAME_BYTES = (store.CURVE, store.COVERAGE)


@pytest.fixture(scope="module")
def before(four_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose windows average probabilities; tests copy its study."""
    return run_one(four_cases, tmp_path_factory.mktemp("before") / "runs", "mae", settings=SETTINGS)


@pytest.fixture(scope="module")
def trained(four_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that averages logits, trained where no other run is."""
    return run_one(four_cases, tmp_path_factory.mktemp("trained") / "runs", "mae", settings=SETTINGS, assignments=LOGITS)


@pytest.fixture
def study(before: Path, tmp_path: Path) -> Path:
    """A copy of the study that holds the finished run."""
    return Path(shutil.copytree(before.parents[3], tmp_path / "runs"))


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever trains fails."""

    def fit(*arguments: Any) -> None:
        raise AssertionError("a run was trained")

    monkeypatch.setattr(stages, "fit", fit)
    monkeypatch.setattr(stages.VolumeShelf, "load", fit)


def again(data: Path, out: Path, **options: Any) -> Path:
    return run_one(data, out, "mae", settings=SETTINGS, **{"assignments": LOGITS} | options)


def files_of(folder: Path, *names: str) -> list[bytes]:
    return [(folder / name).read_bytes() for name in names]


@pytest.mark.usefixtures("untrained")
def test_it_is_the_run_that_training_would_give(four_cases: Path, study: Path, before: Path, trained: Path) -> None:
    folder = again(four_cases, study)
    assert folder.relative_to(study) == trained.relative_to(trained.parents[3])
    names = (*SAME_BYTES, store.CASES, store.WEIGHTS, store.OVERLAY, store.SLICES)
    assert files_of(folder, *names) == files_of(trained, *names)
    assert files_of(folder, *SAME_BYTES) == files_of(before, *SAME_BYTES)
    assert files_of(folder, store.CASES) != files_of(before, store.CASES), "other windows have to give other counts here"
    made, whole, old = record_of(folder), record_of(trained), record_of(before)
    own = ("finished", "asked", "environment", "cost", "notes", "digest", "weights_from")
    assert {key: made[key] for key in made if key not in own} == {key: whole[key] for key in whole if key not in own}
    assert made["weights_from"] == old["cell"] != made["cell"]
    assert "weights_from" not in whole
    [note] = made["notes"]
    assert note.startswith(f"not trained: it has the weights of cell {old['cell'][:10]}")
    assert made["environment"]["fingerprint"] == old["environment"]["fingerprint"]
    for stage in ("init", "train"):
        assert made["cost"][stage] == old["cost"][stage]
    spent = made["cost"]["total_seconds"] - made["cost"]["evaluate_seconds"]
    assert spent == pytest.approx(old["cost"]["total_seconds"] - old["cost"]["evaluate_seconds"])


def test_it_passes_verification_and_is_no_sample_of_training(four_cases: Path, study: Path) -> None:
    folder = again(four_cases, study)
    assert [check.passed for check in verify(folder, steps=2)] == [True] * 6
    [samples] = costs.read_costs(study).samples.values()
    assert len(samples) == 1, "the run that trained"
    third = again(four_cases, study, assignments=("inference.blend=gaussian",))
    assert record_of(third)["weights_from"] == record_of(folder)["weights_from"], "whoever trained is named, not who took over"
    assert len(record_of(third)["notes"]) == 1


def request(data: Path, out: Path, *assignments: str, init: str = "mae", seed: int = 0, **options: Any) -> RunRequest:
    return RunRequest.of(init, LIGHT, str(data), seed, out=out, assignments=(*SETTINGS, *assignments), **OPTIONS | options)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"assignments": ["inference.average=logits"]}, True),
        ({"assignments": ["inference.grids=native,resampled", "inference.mirror=true", "inference.overlap=0.2"]}, True),
        ({"assignments": []}, False),  # the run itself
        ({"assignments": ["inference.average=logits"], "seed": 1}, False),
        ({"assignments": ["inference.average=logits"], "init": "tube"}, False),
        ({"assignments": ["inference.average=logits"], "init": "mae(mask_ratio=0.6)"}, False),
        ({"assignments": ["inference.average=logits", "optimizer.lr=0.002"]}, False),
        ({"assignments": ["inference.average=logits", "pretext.share=0.3"]}, False),
        ({"assignments": ["inference.average=logits", "steps.smoke=11"]}, False),
        ({"assignments": ["inference.average=logits"], "precision": "bf16"}, False),
        ({"assignments": ["inference.average=logits"], "train_cases": 2}, False),
        ({"assignments": ["inference.average=logits"], "fixed": ("order",)}, False),
        ({"assignments": ["inference.average=logits"], "protocol": "equal-finetune"}, False),
    ],
)
def test_inference_is_all_that_may_differ(four_cases: Path, before: Path, changes: dict[str, Any], found: bool) -> None:
    options = dict(changes)
    cell = resolve_cell(request(four_cases, before.parents[3], *options.pop("assignments"), **options))
    other = find_trained(cell, folder_of(cell))
    assert (other is not None and other.folder == before) == found
    assert (other is None) == (not found)


def test_a_plan_counts_no_training_of_it(four_cases: Path, study: Path) -> None:
    plan = plan_study([request(four_cases, study, *LOGITS), request(four_cases, study, *LOGITS, seed=1)], "equal-total")
    assert [(run.state, run.init_stage, run.init_steps, run.train_steps) for run in plan.runs] == [
        ("new", False, 0, 0),
        ("new", True, 2, 8),
    ]
    notes = " ".join(plan_sheets(plan, [])[0].notes)
    assert "1 of the new runs differ from finished ones in inference alone" in notes
    assert "take their init stage from another run" not in notes


def test_weights_that_were_changed_are_not_taken(four_cases: Path, study: Path, trained: Path) -> None:
    [weights] = study.glob(f"*/*/*/seed-0/{store.WEIGHTS}")
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(bytes(changed))
    folder = again(four_cases, study)
    assert "weights_from" not in record_of(folder)
    assert files_of(folder, store.WEIGHTS, store.CASES) == files_of(trained, store.WEIGHTS, store.CASES)


def test_whoever_is_stopped_leaves_nothing_of_it(
    four_cases: Path, study: Path, before: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the folder moves into its place; the same command then ends what was begun."""
    move = staging.move

    def stopped(source: Path, place: Path) -> None:
        if place.name == "seed-0":
            raise KeyboardInterrupt
        move(source, place)

    with monkeypatch.context() as patched:
        patched.setattr(staging, "move", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(four_cases, study, "mae", settings=SETTINGS, assignments=LOGITS)
    [left] = store.find_runs(study)
    assert left.relative_to(study) == before.relative_to(before.parents[3])
    assert store.is_finished(left)
    assert files_of(again(four_cases, study), store.CASES) == files_of(trained, store.CASES)


@pytest.mark.full
@pytest.mark.parametrize("kind", ["kill", "torn", "full"])
def test_at_everything_that_it_does_to_its_files(four_cases: Path, tmp_path: Path, kind: str) -> None:
    report = drive(settings(four_cases, tmp_path, init="mae", before=SETTINGS, assignments=[*SETTINGS, *LOGITS], every=[kind]))
    assert len(report["results"]) == report["events"]["file"] > 20
    assert len(report["whole"]) == 8, "two runs of four files"
    for result in report["results"]:
        assert result["last"] == 0, result
        assert result["digests"] == report["whole"], result
        assert result["left"] == [], result
    trained = ["weights_from" not in record_of(folder) for folder in store.find_runs(tmp_path / "trial-0")]
    assert sorted(trained) == [False, True]


def test_a_diverged_run_is_scored_again_as_it_was(four_cases: Path, tmp_path: Path) -> None:
    wild = (*SETTINGS, "optimizer.lr=1e30", "optimizer.warmup=0", "optimizer.clip=0")
    [first] = run(four_cases, tmp_path, settings=wild)
    [second] = run(four_cases, tmp_path, settings=wild, assignments=LOGITS)
    assert (first.state, second.state) == ("diverged", "diverged")
    records = [record_of(outcome.folder) for outcome in (first, second)]
    assert records[0]["reason"] == records[1]["reason"]
    assert records[1]["weights_from"] == records[0]["cell"]
    assert records[1]["dice"] == 0
