"""Dice is measured while a run trains, within 5 % of its forward passes, and no bit of the run knows of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from initbench import interrupt
from initbench.errors import InterruptedRunError
from initbench.evaluation import evaluate, inference
from initbench.harness.cell import resolve_cell
from initbench.harness.dice_over_steps import DiceOverSteps, schedule, schedule_of
from initbench.harness.execute import Outcome
from initbench.harness.request import RunRequest
from initbench.runs import collect
from tests.folders import TESTS
from tests.networks import patch_of
from tests.runs_factory import LIGHT, OPTIONS, SMALL, record_of, run, run_one

STATEFUL = f"{TESTS / 'stateful_backbone.py'}:stateful"
DRAWING = f"{TESTS / 'stateful_backbone.py'}:drawing"
RESULTS = ("weights.safetensors", "curve.csv", "cases.csv", "coverage.json")
STEPS = ("steps.smoke=40", "inference.overlap=0", "augment.rot90=0")
COLUMNS = ["step", "seconds", "case", "class", "class_name", "tp", "fp", "fn", "dice"]


def results(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULTS}


def looks(folder: Path) -> pd.DataFrame:
    """The rows of a run's validation without the clock."""
    return pd.read_csv(folder / "validation.csv").drop(columns="seconds")


def trained(data: Path, out: Path, backbone: str, **options: Any) -> Path:
    return run_one(data, out, backbone=backbone, assignments=STEPS, **options)


@pytest.fixture(scope="module")
def watched(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a network that keeps things from pass to pass, with a look now and then."""
    return trained(data, tmp_path_factory.mktemp("watched"), STATEFUL)


def costs(*each: int) -> dict[str, int]:
    return {f"case {number}": passes for number, passes in enumerate(each)}


def test_points_come_first_and_cases_fill_what_is_left() -> None:
    whole = schedule(costs(*[4] * 30), 1000, 20 * 4 * 7)
    assert whole is not None
    assert whole.points == tuple(range(50, 1001, 50))
    assert whole.cases == tuple(f"case {number}" for number in range(7))
    assert whole.passes == 28
    small = schedule(costs(1, 1, 1, 1), 120, 36)
    assert small is not None
    assert (len(small.points), len(small.cases), small.points[-1]) == (12, 3, 120)


def test_with_few_cases_all_of_them_are_enough() -> None:
    found = schedule(costs(2), 500, 10_000)
    assert found is not None
    assert (len(found.points), found.cases) == (20, ("case 0",))


def test_it_never_takes_more_than_it_may_and_never_gives_one_point() -> None:
    for most in range(400):
        found = schedule(costs(5, 1, 9), 30, most)
        if found is None:
            assert most < 2 * 5
            continue
        assert len(found.points) * found.passes <= most
        assert len(found.points) >= 2
        assert len(set(found.points)) == len(found.points)
        assert found.points[-1] == 30


def test_all_inits_of_a_block_are_looked_at_alike(data: Path) -> None:
    """Also one that leaves less of the budget to training, and one whose training is longer."""
    options: dict[str, Any] = {**OPTIONS, "assignments": (*SMALL, *STEPS, "pretext.share=0.4")}
    asked = [("default", "plain", "equal-total"), ("lwi", "plain", "equal-total"), ("lwi", "plain", "equal-finetune")]
    found = []
    for init, regimen, protocol in asked:
        request = RunRequest.of(init, LIGHT, str(data), 0, regimen=regimen, protocol=protocol, **options)
        found.append(schedule_of(resolve_cell(request)))
    first, *others = found
    assert first is not None
    assert [len(other.points) for other in others if other] == [len(first.points)] * 2
    assert [other.cases for other in others if other] == [first.cases] * 2
    assert [other.points[-1] for other in others if other] == [24, 40]


@pytest.mark.parametrize("backbone", [STATEFUL, DRAWING])
def test_no_bit_of_a_run_changes(data: Path, tmp_path: Path, backbone: str) -> None:
    before = torch.get_rng_state()
    torch.manual_seed(0)  # what networks draw that read the generators of the process
    seen = trained(data, tmp_path / "seen", backbone)
    unseen = trained(data, tmp_path / "unseen", backbone, validation=False)
    torch.set_rng_state(before)
    assert results(seen) == results(unseen)
    assert len(looks(seen)) > 0
    assert not (unseen / "validation.csv").exists()
    assert seen.relative_to(tmp_path / "seen") == unseen.relative_to(tmp_path / "unseen"), "the option is in the id"
    with_it, without_it = record_of(seen), record_of(unseen)
    assert with_it["cost"]["train"]["units"] == without_it["cost"]["train"]["units"]
    assert (with_it["asked"]["validation"], without_it["asked"]["validation"]) == (True, False)
    assert without_it["cost"]["validation"] == {}


class Interruption:
    """Happens in place of a prediction, before the n-th one."""

    def __init__(self, at: int, happen: Callable[[], None]) -> None:
        self.left, self.happen, self.predict = at, happen, evaluate.predict_probabilities

    def __call__(self, *arguments: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            self.happen()
        return self.predict(*arguments)


def dies() -> None:
    raise KeyboardInterrupt


def interrupted(data: Path, out: Path, backbone: str, happen: Callable[[], None], **options: Any) -> list[Outcome]:
    """Trains a run that is interrupted in its second look; every step before it was saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "predict_probabilities", Interruption(2, happen))
        return run(data, out, backbone=backbone, checkpoint_every=0.0, **{"assignments": STEPS, **options})


def test_killed_in_a_look_it_ends_the_same(data: Path, tmp_path: Path, watched: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(data, tmp_path, STATEFUL, dies)
    resumed = trained(data, tmp_path, STATEFUL)
    assert results(resumed) == results(watched)
    pd.testing.assert_frame_equal(looks(resumed), looks(watched))


def test_asked_to_stop_in_a_look_it_saves_and_looks_again(data: Path, tmp_path: Path, watched: Path) -> None:
    chosen = looks(watched)
    second = sorted(set(chosen["step"]))[1]
    with interrupt.handled():
        [outcome] = interrupted(data, tmp_path, STATEFUL, lambda: (_ for _ in ()).throw(InterruptedRunError("")))
    assert (outcome.state, outcome.message) == ("interrupted", f"stopped after step {second} of 40 of the train stage")
    resumed = trained(data, tmp_path, STATEFUL)
    assert results(resumed) == results(watched)
    pd.testing.assert_frame_equal(looks(resumed), chosen)


def test_the_file_and_the_record_say_what_was_seen(watched: Path) -> None:
    table = pd.read_csv(watched / "validation.csv")
    assert list(table.columns) == COLUMNS
    assert not table.duplicated(["step", "case", "class"]).any()
    record = record_of(watched)
    cost = record["cost"]["validation"]
    assert cost["points"] == table["step"].nunique() >= 2
    assert cost["cases"] == table["case"].nunique()
    assert set(table["case"]) <= set(record["resolved"]["reported_cases"])
    assert set(table["class_name"]) == set(record["resolved"]["classes"][1:])
    assert table["step"].iloc[-1] == record["cost"]["train"]["steps"] == 40
    assert table["seconds"].is_monotonic_increasing
    assert table["seconds"].iloc[-1] == record["cost"]["train"]["seconds"]
    parts = record["cost"]["train"]["seconds"] + record["cost"]["init"]["seconds"] + record["cost"]["evaluate_seconds"]
    assert record["cost"]["total_seconds"] == pytest.approx(parts)
    assert cost["seconds"] > 0
    assert "validation.csv" in record["files"]


def test_its_forward_passes_are_at_most_5_percent(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes, inside = [0, 0], [0]
    output, measure = inference._output, DiceOverSteps.measure

    def counted(model: Any, crops: Any, *arguments: Any) -> Any:
        passes[inside[0]] += len(crops)
        return output(model, crops, *arguments)

    def marked(self: DiceOverSteps, step: int, seconds: float) -> None:
        inside[0] = 1
        measure(self, step, seconds)
        inside[0] = 0

    monkeypatch.setattr(inference, "_output", counted)
    monkeypatch.setattr(DiceOverSteps, "measure", marked)
    cost = record_of(trained(data, tmp_path, STATEFUL))["cost"]
    assert cost["validation"]["passes"] == passes[1] > 0
    assert passes[1] <= 0.05 * cost["train"]["units"] * 2, "a step counts for each of its two patches"


def test_the_last_look_is_at_the_network_that_is_kept(data: Path, tmp_path: Path) -> None:
    """The second network predicts what the trained one does, as the evaluation that follows finds on the same grid."""
    folder = trained(data, tmp_path, LIGHT, settings=(*SMALL, "inference.grids=native,resampled"))
    last = looks(folder).query("step == 40").set_index(["case", "class"])[["tp", "fp", "fn"]]
    counted = pd.read_csv(folder / "cases-resampled.csv").set_index(["case", "class"])[["tp", "fp", "fn"]]
    pd.testing.assert_frame_equal(last, counted.loc[last.index])


def test_a_look_that_fails_costs_no_run(data: Path, tmp_path: Path, watched: Path) -> None:
    def fails() -> None:
        raise torch.OutOfMemoryError("planted")

    [outcome] = interrupted(data, tmp_path, STATEFUL, fails)
    assert outcome.state == "ok"
    assert "no validation from step" in outcome.message
    assert outcome.folder is not None
    assert results(outcome.folder) == results(watched)
    assert looks(outcome.folder)["step"].nunique() == 1


def test_looks_travel_with_a_run(watched: Path, tmp_path: Path) -> None:
    site = watched.parents[3]
    merger = collect.compare_sites([site], tmp_path / "all")
    [copied] = list(collect.copy_runs(merger, [site], tmp_path / "all"))
    assert (tmp_path / "all" / copied.place / "validation.csv").read_bytes() == (watched / "validation.csv").read_bytes()


@pytest.mark.parametrize(
    "backbone", ["unet", *(pytest.param(name, marks=pytest.mark.full) for name in ("unetr", "unetrpp", "swin-unetr", "nnformer"))]
)
def test_with_without_and_killed(data: Path, tmp_path: Path, backbone: str) -> None:
    patch, steps = (patch_of(backbone), 17) if backbone != "unet" else ((8, 16, 16), 34)  # two windows a case, so twice the steps
    size = ",".join(map(str, patch))
    few = (f"patch.size={size}", "patch.batch=1", f"steps.smoke={steps}", "inference.overlap=0")
    options: dict[str, Any] = {"assignments": few}
    seen = run_one(data, tmp_path / "seen", backbone=backbone, **options)
    unseen = run_one(data, tmp_path / "unseen", backbone=backbone, validation=False, **options)
    with pytest.raises(KeyboardInterrupt):
        interrupted(data, tmp_path / "killed", backbone, dies, **options)
    resumed = run_one(data, tmp_path / "killed", backbone=backbone, **options)
    assert results(seen) == results(unseen) == results(resumed)
    pd.testing.assert_frame_equal(looks(resumed), looks(seen))
