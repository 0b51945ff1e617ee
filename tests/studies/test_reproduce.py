"""`initbench reproduce`: which runs are of which row, gaps and claims by hand, and the whole on small volumes."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from initbench.cli.app import main
from initbench.errors import UsageError
from initbench.harness.execute import Outcome
from initbench.harness.request import RunRequest
from initbench.published import tables, trials
from initbench.published.tables import Claim
from initbench.published.trials import Overrides
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import AutoSettings
from initbench.runs import store
from initbench.runs.read import read_runs
from initbench.stats.compare import Difference, difference
from initbench.stats.families import Family
from initbench.stats.summary import Interval
from initbench.studies.reproduce import trial_requests
from initbench.studies.sweep import run_planned
from initbench.tables.reproduce import claims
from initbench.tables.reproduce import sheets as reproduction
from initbench.tables.reproduce.matching import find
from initbench.tables.reproduce.measured import Asked, answers
from initbench.tables.reproduce.sheets import gap
from tests.cli.test_cli import in_one_process
from tests.commands import said
from tests.harness.test_run import LIGHT, SMALL
from tests.harness.test_run import TINY as RUN
from tests.msd_factory import make_msd
from tests.recorded import write_run
from tests.shared_data import shared

TABLE = tables.get("lwi:table-6")
TINY = Overrides("phantom-lung", "unetr", "tiny", "smoke")
PHANTOM = ["--dataset", "phantom-lung", "--backbone", "unetr", "--size", "tiny", "--budget", "smoke"]
VALUES = (0.70, 0.72, 0.74)


def rows_of(text: str, kind: str = "row") -> dict[str, dict[str, Any]]:
    key = {"row": "row", "claim": "first", "planned row": "row"}[kind]
    return {row[key]: row for row in json.loads(text) if row["of"] == kind}


# --- runs without training ----------------------------------------------------------------------------------------------


def resolved(overrides: Overrides = TINY, *assignments: str, backbone: str = "unetr") -> dict[str, Any]:
    """What a record says of its setting."""
    found = load_recipe(
        overrides.dataset or "base", size=overrides.size, backbone=backbone, budget=overrides.budget, assignments=assignments
    )
    steps = getattr(found.steps, overrides.budget)
    return {"recipe": found.model_dump(mode="json"), "steps": steps, "budget": overrides.budget, "size": overrides.size}


HARD = np.linspace(-0.1, 0.1, 9)  # cases


def write_cases(folder: Path, rows: pd.DataFrame) -> None:
    """Other cases in a run that is there: `tp` of 1000 voxels of a class, as many wrong ones as missed."""
    wrong = 1000 - rows["tp"]
    table = rows.assign(fp=wrong, fn=wrong, dice=rows["tp"] / 1000, hd95_mm=None, nsd=None)
    table.to_csv(folder / store.CASES, index=False)
    record = store.read_record(folder)
    assert record is not None
    own = {key: value for key, value in record.items() if key != "digest"} | {"dice": float(table["dice"].mean())}
    store.write_json(folder / store.RECORD, store.seal(own, folder))


def write_rows(out: Path, inits: dict[str, float], seeds: int = 3, **options: Any) -> None:
    """Runs of inits whose Dice is shifted, each learned one trained on top."""
    for init, shift in inits.items():
        learned = init.partition("(")[0] in ("lwi", "mae", "tube", "order", "lwi-as-released")
        own = {"protocol": "equal-finetune" if learned else "any", "learned": learned, **resolved(), **options}
        rng = np.random.default_rng(len(init))
        for seed in range(seeds):
            folder = write_run(out, init, VALUES[seed] + shift, seed=seed, **own)
            dice = VALUES[seed] + shift + HARD + rng.normal(0, 0.003, len(HARD)) + rng.normal(0, 0.001)
            tp = np.round(1000 * dice).astype(int)
            write_cases(
                folder, pd.DataFrame({"case": [f"c{i}" for i in range(len(HARD))], "class": 1, "class_name": "nodule", "tp": tp})
            )


INITS = {"default": 0.0, "mae": 0.01, "tube": 0.0, "order": -0.02, "lwi": 0.03}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reproduce") / "runs"
    write_rows(out, INITS)
    return out


def matched(out: Path, table: tables.Table = TABLE, overrides: Overrides = TINY) -> list[set[str]]:
    return [set(found.cells) for found in find(read_runs(out).runs, trials.trials(table, overrides).trials, overrides)]


ALL = {"default", "masking", "tube masking", "order prediction", "order + masking"}


def test_runs_answer_the_rows_that_they_are_of(study: Path) -> None:
    assert matched(study) == [ALL]


@pytest.mark.parametrize(
    "changed",
    [
        {"protocol": "equal-total"},
        {"size": "paper"},
        {"budget": "short"},
        {"backbone": "unetrpp"},
        {"dataset": "hippocampus"},
        {"steps": 121},
        {"split": "auto, trained on 3 cases"},
        {"split": "fold 1/5"},
        {"fixed_streams": ["order"]},
        {"regimen": "joint"},
        {"recipe": resolved(TINY, "optimizer.lr=0.1")["recipe"]},
        {"recipe": {}},
    ],
    ids=str,
)
def test_a_run_of_another_setting_answers_no_row(tmp_path: Path, changed: dict[str, Any]) -> None:
    write_rows(tmp_path, {"lwi": 0.0}, 1, **changed)
    assert matched(tmp_path) == []


def test_settings_that_are_asked_for_are_those_of_the_runs(tmp_path: Path) -> None:
    write_rows(tmp_path, {"lwi": 0.0}, 1, recipe=resolved(TINY, "optimizer.lr=0.1")["recipe"])
    overrides = Overrides("phantom-lung", "unetr", "tiny", "smoke", assignments=("optimizer.lr=0.1",))
    assert matched(tmp_path, overrides=overrides) == [{"order + masking"}]


@pytest.mark.parametrize(
    ("changed", "matches"),
    [({}, True), ({"patch": {"size": (48, 96, 96)}}, True), ({"steps": 500}, True), ({"loss": {"squared": False}}, False)],
    ids=str,
)
def test_numbers_that_a_plan_filled_in_are_not_compared(tmp_path: Path, changed: dict[str, Any], matches: bool) -> None:
    """A generic recipe leaves spacing, patch and steps to the training cases; the record has numbers."""
    overrides = Overrides("Task90_Noise", "unetr")
    plan = load_recipe("generic-ct", size="paper", backbone="unetr", budget="paper")
    assert plan.plan.patch
    values = plan.model_dump(mode="json") | {"plan": AutoSettings().model_dump()}
    values["preprocess"]["spacing"] = (2.0, 1.0, 1.0)
    for section, numbers in changed.items():
        if section != "steps":
            values[section] |= numbers
    own = {"recipe": values, "steps": changed.get("steps", 700), "size": "paper", "budget": "paper", "dataset": "Task90_Noise"}
    write_rows(tmp_path, {"lwi": 0.0}, 1, **own)
    assert matched(tmp_path, overrides=overrides) == ([{"order + masking"}] if matches else [])
    by_hand = Overrides("Task90_Noise", "unetr", assignments=("patch.size=32,32,32",))
    assert matched(tmp_path, overrides=by_hand) == []


def test_parameters_of_an_init_tell_rows_apart(tmp_path: Path) -> None:
    """The row of 0.4 is asked for by its parameter and called by its default; another parameter is another row, or none."""
    for init, ratio, patch in (("lwi", 0.4, None), ("lwi(mask_ratio=0.2)", 0.2, None), ("lwi(mask_patch=8)", 0.4, 8)):
        write_rows(tmp_path, {init: 0.0}, 1, init_params={"mask_ratio": ratio, "mask_patch": patch})
    figures = {name: matched(tmp_path, tables.get(f"lwi:{name}")) for name in ("fig-4a", "fig-4b")}
    assert figures == {"fig-4a": [{"0.2", "0.4"}], "fig-4b": [{"8"}]}


def test_taps_are_a_tuple_in_one_place_and_a_list_in_the_other(tmp_path: Path) -> None:
    write_rows(tmp_path, {"lwi(taps=(3, 4))": 0.0}, 1, init_params={"taps": [3, 4]})
    assert matched(tmp_path, tables.get("lwi:table-8")) == [{"t3 and t4"}]


def test_runs_of_two_precisions_are_two_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for precision in ("float32", "bf16"):
        write_rows(tmp_path, {"default": 0.0, "lwi": 0.01}, precision=precision)
    assert matched(tmp_path) == [{"default", "order + masking"}] * 2
    found = json.loads(report(capsys, tmp_path, "--precision", "float32"))
    assert {row["precision"] for row in found if row.get("seeds")} == {"float32"}


def test_of_two_cells_of_a_row_that_with_more_runs_counts_and_it_is_said(tmp_path: Path) -> None:
    write_rows(tmp_path, {"default": 0.0, "lwi": 0.0})
    write_rows(tmp_path, {"lwi": 0.1}, 1, data_digest="e" * 64)
    asked = Asked(TABLE, trials.trials(TABLE, TINY), TINY)
    sheet = reproduction.reproduction_sheets(asked, answers(asked, read_runs(tmp_path)))[0]
    assert any("order + masking: there are runs of other data, code or variants, too" in note for note in sheet.notes)
    assert next(row["dice"] for row in sheet.values if row["row"] == "order + masking") == pytest.approx(72, abs=0.2)


def test_rows_are_of_one_state_of_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row has as many runs on either; five points lie between the states, and none between the inits."""
    inits = ("default", "mae", "tube", "order", "lwi")
    for digit, shift in (("d", 0.0), ("e", 0.05)):
        write_rows(tmp_path, dict.fromkeys(inits, shift), data_digest=digit * 64)
    claims_ = rows_of(report(capsys, tmp_path), "claim")
    assert all(abs(row["difference"]) < 1 for row in claims_.values() if row["verdict"] != "untestable")
    assert sum(row["verdict"] != "untestable" for row in claims_.values()) == 4


def test_rows_of_a_network_are_of_one_variant(tmp_path: Path) -> None:
    write_rows(tmp_path, {"default": 0.0}, variant="conv")
    write_rows(tmp_path, {"lwi": 0.0, "mae": 0.0}, variant="perceptron")
    asked = Asked(TABLE, trials.trials(TABLE, TINY), TINY)
    (answer,) = answers(asked, read_runs(tmp_path))
    assert set(answer.rows) == {"order + masking", "masking"}
    assert answer.found.other == ("default",)


def test_a_cell_with_results_comes_before_one_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(4):
        write_run(tmp_path, "default", None, seed=seed, status="failed", init_source="revision 0", **resolved())
    write_rows(tmp_path, {"default": 0.0, "lwi": 0.0})
    assert rows_of(report(capsys, tmp_path, "--seeds", "3"))["default"]["seeds"] == 3


@pytest.mark.parametrize(
    ("dataset", "split", "asked", "fits"),
    [
        ("btcv", "monai-24/6", {}, True),
        ("btcv", "transunet-18/12", {}, False),
        ("camus", "camus-400/50/50", {"split": None, "fold": None}, True),
        ("camus", "camus-400/50/50", {}, False),
        ("camus", "fold 1/5", {"split": None, "fold": "1/5"}, False),
        ("lung", "unetrpp-50/13", {"split": "unetrpp-50/13", "fold": None}, True),
    ],
    ids=str,
)
def test_the_usual_split_is_that_of_the_data_set(
    tmp_path: Path, dataset: str, split: str, asked: dict[str, Any], fits: bool
) -> None:
    overrides = Overrides(dataset, "unetr", "tiny", "smoke")
    write_rows(tmp_path, {"lwi": 0.0}, 1, dataset=dataset, split=split, asked=asked, **resolved(overrides))
    assert matched(tmp_path, overrides=overrides) == ([{"order + masking"}] if fits else [])


def test_a_data_set_of_another_name_is_known_by_its_folder(tmp_path: Path) -> None:
    folder = str(tmp_path / "Dataset123_Mine")
    overrides = Overrides(folder, "unetr", "tiny", "smoke")
    generic = load_recipe("generic-ct", size="tiny", backbone="unetr", budget="smoke").model_dump(mode="json")
    own = {**resolved(), "asked": {"dataset": folder, "split": None}, "recipe": generic, "steps": generic["steps"]["smoke"]}
    write_rows(tmp_path / "runs", {"lwi": 0.0}, 1, dataset="mine", **own)
    assert matched(tmp_path / "runs", overrides=overrides) == [{"order + masking"}]


@pytest.mark.parametrize(("given", "fits"), [("/x/mine.pt", True), ("/x/other.pt", False)])
def test_weights_answer_the_row_that_names_them(tmp_path: Path, given: str, fits: bool) -> None:
    overrides = Overrides("phantom-lung", "unetr", "tiny", "smoke", assignments=(f"init.path={given}",))
    own = {"init_params": {"path": "c" * 64}, "external": True, **resolved()}
    write_run(tmp_path, "swin-ssl(path='mine.pt@cccccccc')", 0.6, **own)
    found = matched(tmp_path, tables.get("lwi:table-9"), overrides)
    assert found == ([{"SSL, Synapse", "SSL, BTCV"}] if fits else [])


def test_training_on_fewer_cases_is_another_row(tmp_path: Path) -> None:
    table = tables.get("lwi:fig-7")
    asked = [
        trials.Trial(row.label, row.init, "unetr", "phantom-lung", row.protocol, train_cases=row.train_cases) for row in table.row
    ]
    few = {"split": "auto, trained on 3 cases", "train_cases": ["a", "b", "c"]}
    write_rows(tmp_path, {"lwi": 0.0}, 1, **few)
    write_rows(tmp_path, {"default": 0.0}, 1)
    (found,) = find(read_runs(tmp_path).runs, asked, TINY)
    assert set(found.cells) == {"LWI, 3 cases", "UNETR, all cases"}


# --- numbers by hand ----------------------------------------------------------------------------------------------------


def test_a_gap_in_seed_sds_by_hand() -> None:
    found = gap(np.array([70.0, 72.0, 74.0]), 77.0)
    assert found.points == pytest.approx(-5.0)
    assert found.sds.value == pytest.approx(-2.5)  # SD 2
    # chi-square quantiles of 2 degrees of freedom: 7.3778 and 0.0506; t of 2 degrees 4.3027
    assert found.sds.low == pytest.approx(-2.5 * math.sqrt(7.3778 / 2), rel=1e-3)
    assert found.sds.high == pytest.approx(-2.5 * math.sqrt(0.0506 / 2), rel=1e-3)
    assert found.reach == pytest.approx(4.3027 * 2 * math.sqrt(4 / 3), rel=1e-4)
    assert found.likely is True
    assert gap(np.array([70.0, 72.0, 74.0]), 82.0).likely is False  # 10.0 of 9.94


def test_one_seed_has_a_gap_and_no_sd() -> None:
    found = gap(np.array([70.0]), 77.0)
    assert (found.points, found.likely) == (-7.0, None)
    assert math.isnan(found.sds.value)


@pytest.mark.parametrize(
    ("verdict", "estimate", "answer", "margin"),
    [
        ("equivalent", Interval(2.5, 2.4, 2.6), "a difference too small to matter, as in the paper", 3.0),
        ("better", Interval(2.0, 1.0, 3.0), "holds", 0.5),
        ("better", Interval(1.0, 0.5, 1.5), "holds; not of its size", 0.5),
        ("worse", Interval(-1.0, -1.5, -0.5), "the other way round; not of its size", 0.5),
        ("undecided", Interval(1.0, -1.0, 3.0), "undecided", 0.5),
        ("undecided", Interval(0.0, -1.0, 1.0), "undecided; not of its size", 0.5),
        ("equivalent", Interval(0.0, -0.1, 0.1), "not here: no difference that matters", 0.5),
        ("equivalent, but above 0", Interval(0.2, 0.1, 0.3), "not here: no difference that matters", 0.5),
        ("equivalent, but below 0", Interval(-0.2, -0.3, -0.1), "not here: no difference that matters", 0.5),
        ("untestable", Interval(2.0, math.nan, math.nan), "cannot be tested", 0.5),
    ],
)
def test_what_becomes_of_a_claim(verdict: Any, estimate: Interval, answer: str, margin: float) -> None:
    table = tables.get("lwi:table-1")  # LWI is 2.56 better
    item = Difference("LWI", "UNETR", "A", estimate, 1.0, 0.1, 0.1, 0.1, verdict, Family("claims", 1))
    assert claims.answer(table, table.claims[0], item, margin) == answer


def test_a_claim_in_words_has_a_direction() -> None:
    table = tables.get("lwi:fig-1")
    found = Interval(-2.0, -3.0, -1.0)
    worse = Difference("Kaiming normal", "default", "A", found, 1.0, 0.0, 0.0, 1.0, "worse", Family("claims", 1))
    (claim,) = (claim for claim in table.claims if claim.first == "Kaiming normal")
    assert claims.answer(table, claim, worse, 0.5) == "holds"
    other = Claim(first="Kaiming normal", second="default", says="better")
    assert claims.answer(table, other, worse, 0.5) == "the other way round"


# --- from runs that are there ---------------------------------------------------------------------------------------------


def report(capsys: pytest.CaptureFixture[str], out: Path, *more: str, table: str = "lwi:table-6", form: str = "json") -> str:
    return said(capsys, "reproduce", table, *PHANTOM, "--report-only", "--out", str(out), "--format", form, *more)


def test_rows_are_the_papers_and_the_runs(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows_of(report(capsys, study))
    assert list(found) == [row.label for row in TABLE.row]
    runs = read_runs(study).runs
    for label, init in (("default", "default"), ("masking", "mae"), ("order + masking", "lwi")):
        own = 100 * runs[runs["init"] == init]["dice"]
        cases = rows_of(report(capsys, study))[label]
        assert cases["published"] == TABLE[label].value
        assert (cases["seeds"], cases["cases"]) == (3, len(HARD))
        assert cases["dice"] == pytest.approx(own.mean())
        assert cases["gap"] == pytest.approx(cases["dice"] - cases["published"])
        assert cases["gap_in_sds"] == pytest.approx(cases["gap"] / cases["seed_sd"])
        assert cases["instead"].startswith("data set phantom-lung")
    assert found["order + masking as released"]["seeds"] == 0


def test_claims_are_those_of_the_statistics(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows_of(report(capsys, study), "claim")
    assert {name: row["published"] for name, row in found.items()} == {
        "order + masking": 2.56,
        "masking": 1.41,
        "tube masking": 1.11,
        "order prediction": 1.80,
        "order + masking as released": 2.56,
    }
    assert found["order + masking as released"]["claim"] == "cannot be tested"
    loaded = read_runs(study)
    y = {
        init: 100 * frame.pivot(index="seed", columns="case", values="dice").to_numpy()
        for init, frame in loaded.cases.groupby("init", observed=True)
    }
    rows = [found[label] for label in ("order + masking", "masking", "tube masking", "order prediction")]
    for row, init in zip(rows, ("lwi", "mae", "tube", "order"), strict=True):
        item = difference(y[init], y["default"], judged_with=Family("claims", 4))
        assert (row["family"], row["family_size"], row["verdict"]) == ("claims", 4, item.verdict)
        assert (row["difference"], row["difference_low"], row["p"], row["p_adjusted"]) == pytest.approx(
            (item.estimate.value, item.estimate.low, item.p, item.p_adjusted)
        )
        assert item.p_adjusted == pytest.approx(min(1.0, 4 * item.p))
        alone = difference(y[init], y["default"])
        assert alone.estimate.low > item.estimate.low  # so that the others show


def test_only_testable_claims_are_adjusted_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, {"default": 0.0, "lwi": 0.03, "mae": 0.01})
    said_ = " ".join(report(capsys, tmp_path, form="md").split())
    assert "intervals and verdicts hold for 2 testable claims at once" in said_
    sizes = {row["family_size"] for row in rows_of(report(capsys, tmp_path), "claim").values() if row["verdict"] != "untestable"}
    assert sizes == {2}


def test_the_placebo_stands_beside_the_default_of_its_own_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    longer = resolved(TINY, f"steps.smoke={round(1.16 * resolved()['steps'])}")
    write_rows(tmp_path, {"default": 0.0}, **longer)
    placebo = {"init_params": {"construct": "other"}}
    write_rows(tmp_path, {"default(construct='other')": 0.0}, **placebo)
    text = report(capsys, tmp_path, table="lwi:table-7", form="md")
    assert "beside UNETR, 5800 epochs" not in text
    assert "beside UNETR, 5000 epochs: untestable" in text
    write_rows(tmp_path, {"default": 0.0})
    text = report(capsys, tmp_path, table="lwi:table-7", form="md")
    assert "beside UNETR, 5000 epochs: " in text
    assert "untestable" not in text.partition("beside UNETR, 5000 epochs: ")[2][:12]


def test_runs_outside_the_shared_seeds_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, {"default": 0.0}, seeds=2)
    write_rows(tmp_path, {"lwi": 0.03})
    (folder,) = tmp_path.glob("*/*/lwi-*/seed-2")
    record = store.read_record(folder)
    assert record is not None
    own = {key: value for key, value in record.items() if key != "digest"} | {"status": "diverged"}
    store.write_json(folder / store.RECORD, store.seal(own, folder))
    text = " ".join(report(capsys, tmp_path, "--shared-seeds", form="md").split())
    assert "1 diverged run lies outside the shared seeds, where nothing is counted: order + masking (seed 2)." in text
    assert "diverged, scored 0" not in text


def test_what_a_row_needs_is_said_in_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = said(capsys, "reproduce", "lwi:table-9", "--out", str(tmp_path), "--dry-run", *PHANTOM, "--format", "md")
    assert "needs --set init.path=VALUE." in text
    assert "...." not in text


def test_what_has_to_be_known_is_below_the_table(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(report(capsys, study, form="md").split())
    assert "Warning: measured with data set phantom-lung, network unetr, tiny size, smoke budget." in text
    assert "The published numbers are of another question" in text
    assert "3 seeds hardly know their SD: the true one may be 0.5 to 6.3 times as large" in text
    assert "Deviation: The release has no switch for these rows" in text
    assert "arXiv:2306.09320; Table VI; code ShahinaKK/LWI-VMS@7f21654" in text
    ramp = "optimizer.schedule=plateaus, optimizer.plateaus=50"
    assert f"default as released, order + masking as released: with {ramp}." in text
    assert "Not run: default as released, order + masking as released." in text


def test_no_warning_where_the_question_is_the_papers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = resolved(Overrides("lung"))
    write_rows(tmp_path, {"default": 0.0, "lwi": 0.0}, dataset="lung", split="unetrpp-50/13 (6 of 63 cases)", **own)
    text = said(capsys, "reproduce", "lwi:table-4", "--report-only", "--out", str(tmp_path), "--format", "md")
    assert "another question" not in text
    assert "| UNETR | default | 69.11 | 7" in text


@pytest.mark.parametrize("form", ["table", "md", "csv", "json", "latex"])
def test_every_form_holds_the_same(study: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    text = report(capsys, study, form=form)
    assert "tube masking" in text
    assert "78.28" in text
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["of"] for row in rows] == ["row"] * len(TABLE.row) + ["claim"] * len(TABLE.claims)


def test_seeds_that_are_asked_for_count_alone(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows_of(report(capsys, study, "--seed", "0", "--seed", "2"))
    assert {row["seeds"] for label, row in found.items() if "released" not in label} == {2}
    one = report(capsys, study, "--seed", "1")
    assert {row["claim"] for row in rows_of(one, "claim").values()} == {"cannot be tested"}
    assert rows_of(one)["default"]["gap_in_sds"] is None


def test_a_row_without_a_score_says_nothing_of_the_seeds_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, {"default": 0.0})
    write_run(tmp_path, "lwi", None, status="failed", protocol="equal-finetune", **resolved())
    text = report(capsys, tmp_path, form="md")
    assert "order + masking is withheld" in text
    assert "3 seeds hardly know their SD" in text
    assert "One seed: no SD" not in text


def test_runs_without_any_score_are_rows_without_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for init in ("default", "lwi"):
        own = {"protocol": "equal-finetune" if init == "lwi" else "any", **resolved()}
        write_run(tmp_path, init, None, status="failed", **own)
    text = report(capsys, tmp_path, form="md")
    assert "default is withheld: no score for seed 0 (failed)" in text
    assert "nan" not in text


def test_seeds_that_are_there_beside_those_that_were_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of rows with other numbers of seeds: what is said of SDs is said of whom it is true."""
    write_rows(tmp_path, {"default": 0.0})
    write_rows(tmp_path, {"lwi": 0.0}, 1)
    text = report(capsys, tmp_path, form="md")
    assert "One seed of order + masking: no SD" in text
    assert "3 seeds hardly know their SD" in text


def test_what_the_leaderboard_warns_of_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, {"default": 0.0})
    write_rows(tmp_path, {"lwi": 0.0}, environment="e1")
    (broken,) = tmp_path.glob("*/*/default-*/seed-2")
    (broken / store.RECORD).write_text("{")
    (changed,) = tmp_path.glob("*/*/lwi-*/seed-2")
    (changed / store.CASES).write_text("case\n")
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", "lwi:table-6", *PHANTOM, "--report-only", "--out", str(tmp_path), "--format", "md"])
    assert ended.value.code == 0
    printed = capsys.readouterr()
    assert f"{broken}: its record cannot be read; it is kept off" in " ".join(printed.err.split())
    assert "rows come from different environments" in printed.out
    assert f"order + masking: {changed} is kept off, see `initbench verify {changed}`" in printed.out


def test_claims_about_the_same_runs_are_one_of_the_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Table IX asks the same of Synapse and of BTCV: of other data that is one question."""
    overrides = Overrides("phantom-lung", "unetr", "tiny", "smoke")
    write_rows(tmp_path, {"default": 0.0, "lwi": 0.03}, **resolved(overrides))
    found = [row for row in json.loads(report(capsys, tmp_path, table="lwi:table-9")) if row["of"] == "claim"]
    tested = [row for row in found if row["verdict"] != "untestable"]
    assert len(tested) == 2
    assert tested[0]["p_adjusted"] == tested[1]["p_adjusted"] == claims_alone(tmp_path, capsys)
    assert {row["second"] for row in tested} == {"scratch, Synapse", "scratch, BTCV"}


def claims_alone(out: Path, capsys: pytest.CaptureFixture[str]) -> float:
    """The p of order + masking beside the default, where a table asks for nothing else."""
    text = report(capsys, out, table="lwi:table-6")
    return float(rows_of(text, "claim")["order + masking"]["p_adjusted"])


def test_a_row_that_lacks_a_seed_gets_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, {"default": 0.0})
    write_rows(tmp_path, {"lwi": 0.03}, seeds=2)
    claim = rows_of(report(capsys, tmp_path), "claim")["order + masking"]
    assert (claim["verdict"], "no score for seed 2" in claim["reason"]) == ("untestable", True)
    claim = rows_of(report(capsys, tmp_path, "--shared-seeds"), "claim")["order + masking"]
    assert claim["verdict"] != "untestable"


def test_longer_training_is_compared_across_numbers_of_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = round(1.16 * resolved()["steps"])
    write_rows(tmp_path, {"default": 0.0, "lwi": 0.03})
    write_rows(tmp_path, {"default": 0.02}, **{**resolved(TINY, f"steps.smoke={steps}")})
    text = report(capsys, tmp_path, table="lwi:table-7")
    found = rows_of(text)
    assert found["UNETR, 5800 epochs"]["steps"] == steps
    claim = next(row for row in json.loads(text) if row["of"] == "claim" and row["second"] == "UNETR, 5800 epochs")
    assert claim["difference"] == pytest.approx(1.0, abs=0.3)
    assert claim["verdict"] != "untestable"


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


# --- plots, settings, listing, errors -------------------------------------------------------------------------------------


def test_a_figure_is_drawn_against_its_parameter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from matplotlib.image import imread

    for init, ratio, shift in (("lwi(mask_ratio=0.2)", 0.2, 0.0), ("lwi", 0.4, 0.02), ("lwi(mask_ratio=0.6)", 0.6, 0.01)):
        write_rows(tmp_path / "runs", {init: shift}, init_params={"mask_ratio": ratio})
    picture = tmp_path / "figure.png"
    found = rows_of(report(capsys, tmp_path / "runs", "--plot", str(picture), table="lwi:fig-4a"))
    assert [found[label]["x"] for label in ("0.2", "0.4", "0.6", "0.8")] == [0.2, 0.4, 0.6, 0.8]
    assert imread(picture).std() > 0.05
    said(
        capsys,
        *["reproduce", "lwi:fig-4a", *PHANTOM, "--report-only", "--out", str(tmp_path / "runs")],
        "--plot",
        "a.xyz",
        code=2,
    )


def test_points_are_the_papers_and_the_measured_ones(study: Path) -> None:
    from initbench.tables.reproduce.plot import series

    asked = Asked(TABLE, trials.trials(TABLE, TINY), TINY)
    (answer,) = answers(asked, read_runs(study))
    points = series(asked, answer.rows)[""]
    assert [point.published for point in points] == [row.value for row in TABLE.row]
    assert [point.measured is None for point in points] == [False] * 5 + [True] * 2
    assert points[4].measured.mean.value == pytest.approx(75, abs=0.2)  # type: ignore[union-attr]


def test_a_table_of_settings_stands_beside_the_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "reproduce", "lwi:table-5", "--json"))
    spacing = next(row for row in found if row["setting"] == "preprocess.spacing" and "Lung" in row["row"])
    assert (spacing["published"], spacing["here"]) == ("6.35, 1.52, 1.52", "1.245, 0.785, 0.785")
    patch = next(row for row in found if row["setting"] == "patch.size" and "Lung" in row["row"])
    assert patch["published"] == patch["here"] == "32, 192, 192"


def test_light_forms_import_no_torch(study: Path, tmp_path: Path) -> None:
    commands = [
        ["reproduce"],
        ["reproduce", "lwi:table-5"],
        ["reproduce", "lwi:table-7", "--json", "--report-only", "--out", "none"],
    ]
    commands += [["reproduce", "lwi:table-6", *PHANTOM, "--report-only", "--out", str(study)]]
    listing, settings, nowhere, table = in_one_process(tmp_path, *commands)
    assert [ended.code for ended in (listing, settings, nowhere, table)] == [0, 0, 2, 0]
    assert "there is no such folder of runs" in nowhere.said
    assert all(name.full_name in listing.out for name in tables.tables())
    assert not {"torch", "monai", "matplotlib"} & set(table.heavy)


def test_no_run_of_a_table_is_said_with_the_way_to_some(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "reproduce", "lwi:table-6", "--report-only", "--out", str(study), code=2)
    assert "no run is of lwi:table-6: `initbench reproduce lwi:table-6`" in " ".join(text.split())


@pytest.mark.parametrize(
    ("wrong", "code", "text"),
    [
        (["lwi:tabel-6"], 2, "did you mean lwi:table-6"),
        (["lwi:table-6", "--dry-run", "--report-only"], 2, "exclude each other"),
        (["lwi:table-6", "--measure"], 2, "--measure goes with --dry-run"),
        (["lwi:table-6", "--seeds", "2", "--seed", "1"], 2, "exclude each other"),
        (["lwi:table-6", "--set", "init.mask_ratio=0.6"], 2, "a published row states its init"),
        (["lwi:table-5", "--plot", "a.png"], 2, "a table of settings"),
        (["lwi:table-5", "--dataset", "lung"], 2, "a table of settings"),
        (["lwi:table-5", "--backbone", "unetr"], 2, "a table of settings"),
        (["lwi:table-6", "--backbone", "unter"], 2, "did you mean unetr"),
        (["lwi:table-6", "--backbone", "unter", "--report-only"], 2, "did you mean unetr"),
        (["lwi:table-6", "--set", "patch.sise=8", "--report-only"], 2, "patch.sise: Extra inputs"),
        (["lwi:table-6", "--dry-run", "--plot", "a.png"], 2, "--dry-run runs nothing"),
        (["lwi:table-6", "--dry-run", "--shared-seeds"], 2, "--dry-run runs nothing"),
        (["lwi:table-6", "--report-only", "--no-placebo"], 2, "--report-only runs nothing"),
        (["--seeds", "2"], 2, "--seeds: say which table or figure"),
        (["lwi:table-9", "--set", "init.path"], 2, "--set init.path: an assignment is section.field=value"),
        (["lwi:table-6", *PHANTOM, "--set", "patch.sise=8"], 2, "patch.sise: Extra inputs"),
        (["lwi:table-6"], 1, "lwi:table-6 needs synapse."),
        (["lwi:table-9"], 1, "lwi:table-9 needs synapse and btcv."),
        (["lwi:table-4"], 1, "Task06_Lung was not found"),
        (["lwi:table-6", "--dataset", "hipocampus"], 2, "did you mean hippocampus"),
    ],
    ids=str,
)
def test_wrong_requests_are_refused_in_a_sentence(
    wrong: list[str], code: int, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITBENCH_DATA", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert text in " ".join(said(capsys, "reproduce", *wrong, "--out", str(tmp_path / "runs"), code=code).split())
    assert not list(tmp_path.rglob("record.json"))


# --- the whole ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_msd(tmp_path_factory.mktemp("data") / "Task90_Noise", cases=12, classes=3)


def asked_for(data: Path, out: Path) -> list[str]:
    settings = [part for item in SMALL for part in ("--set", item)]
    return ["--dataset", str(data), *RUN, "--seeds", "2", "--out", str(out), *settings]


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "runs"
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", "lwi:table-6", *asked_for(data, out), "--json"])
    assert ended.value.code == 0
    return out


def test_a_table_is_run_and_shown(data: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = read_runs(made).runs
    assert set(runs["init"]) == {"default", "mae", "tube", "order", "lwi", "default(construct='other')"}
    assert set(runs[runs["learned"] == True]["protocol"]) == {"equal-finetune"}  # noqa: E712
    before = {path: path.stat().st_mtime_ns for path in made.rglob("record.json")}
    again = said(capsys, "reproduce", "lwi:table-6", *asked_for(data, made), "--json")
    assert {path: path.stat().st_mtime_ns for path in made.rglob("record.json")} == before
    assert said(capsys, "reproduce", "lwi:table-6", *asked_for(data, made), "--json", "--report-only") == again
    found = rows_of(again)
    for label, init in (("default", "default"), ("order + masking", "lwi"), ("placebo", "default(construct='other')")):
        own = runs[runs["init"] == init].sort_values("seed")
        assert found[label]["dice"] == pytest.approx(100 * own["dice"].mean())
        assert found[label]["seed_sd"] == pytest.approx(100 * own["dice"].std())
    assert len(rows_of(again, "claim")) == len(TABLE.claims)
    assert found["order + masking as released"]["reason"] == "means something on unetr alone"


def test_a_stop_ends_as_a_stop(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(requests: Sequence[RunRequest], jobs: int, console: Any) -> list[Outcome]:
        return [Outcome(request, "interrupted", None, None) for request in requests]

    monkeypatch.setattr("initbench.cli.run.perform", stopped)
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", "lwi:table-6", *asked_for(data, tmp_path)])
    assert ended.value.code == 130
    said = " ".join(capsys.readouterr().err.split())
    assert "stopped when asked to; finished runs and checkpoints are kept, and the same command goes on" in said
    assert "--report-only shows what is there" in said


def test_longer_rows_are_run_with_their_steps(data: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What Table VI left is used again, and the rest of Table VII is run beside it."""
    found = rows_of(said(capsys, "reproduce", "lwi:table-7", *asked_for(data, made), "--json", "--no-placebo"))
    assert [found[label]["steps"] for label in found if label != "placebo"] == [10, 12, 10, 10]
    assert [found[label]["protocol"] for label in found if label != "placebo"] == ["any", "any", "equal-total", "equal-finetune"]
    assert all(row["seeds"] == 2 for row in found.values())


def test_a_training_size_curve_is_run_on_parts_of_the_cases(data: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Of 12 cases 10 train: too few for the row of 12.
    trained = [row for row in tables.get("lwi:fig-7").row if row.train_cases in (None, 3, 6)]
    asked = [
        trials.Trial(row.label, row.init, LIGHT, str(data), row.protocol, SMALL, train_cases=row.train_cases) for row in trained
    ]
    overrides = Overrides(str(data), LIGHT, "tiny", "smoke", assignments=SMALL)
    options: dict[str, Any] = {"size": "tiny", "budget": "smoke", "device": "cpu", "precision": "float32", "out": made}
    planned = trial_requests(asked, overrides, [0], None, options)
    assert [(request.init, request.train_cases) for request in planned] == [
        (init, cases) for cases in (3, 6, None) for init in ("default", "lwi")
    ]
    assert {outcome.state for outcome in run_planned(planned)} <= {"ok", "cached"}
    (found,) = find(read_runs(made).runs, asked, overrides)
    assert set(found.cells) - {"placebo"} == {row.label for row in trained}
    assert len(set(found.cells.values())) == len(found.cells)
    text = said(capsys, "reproduce", "lwi:fig-7", *asked_for(data, made), "--report-only", "--json")
    assert rows_of(text)["LWI, 3 cases"]["x"] == 3
    assert rows_of(text)["LWI, all cases"]["x"] == 10  # of these data, not the paper's 18


def test_a_dry_run_says_what_would_run_and_leaves_nothing(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    text = said(capsys, "reproduce", "lwi:table-6", *asked_for(data, out), "--dry-run", "--json")
    assert {row["init"] for row in rows_of(text, "planned row").values()} == {"default", "mae", "tube", "order", "lwi"}
    whole = next(row for row in json.loads(text) if row["of"] == "study")
    assert whole["new"] == 2 * 6  # with the placebo
    assert whole["wall_seconds"] is None  # nothing was run here
    timed = said(capsys, "reproduce", "lwi:table-6", *asked_for(data, out), "--dry-run", "--measure", "--json")
    assert next(row for row in json.loads(timed) if row["of"] == "study")["wall_seconds"] > 0
    assert not out.exists()


def test_a_dry_run_counts_what_it_cannot_look_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the data there are no hours, but cells and steps: of Table I four rows, and a placebo for the first default."""
    monkeypatch.setenv("INITBENCH_DATA", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    options = ["--dry-run", "--out", str(tmp_path / "runs")]
    text = " ".join(said(capsys, "reproduce", "lwi:table-1", *options).split())
    assert "5 cells and 15 runs of them with these seeds, each made once: 1,436,400 steps" in text
    rows = rows_of(said(capsys, "reproduce", "lwi:table-1", *options, "--json"), "planned row")
    assert (rows["LWI"]["pretext_steps"], rows["LWI"]["train_steps"]) == (14_400, 90_000)
    assert (rows["UNETR"]["pretext_steps"], rows["UNETR"]["train_steps"]) == (0, 90_000)


def test_a_dry_run_of_what_is_refused_ends_as_plan_does(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figure 7 trains on 12 cases, too, and ten are there."""
    said(capsys, "reproduce", "lwi:fig-7", *asked_for(data, tmp_path / "runs"), "--dry-run", "--json", code=2)


def test_networks_other_than_the_first_have_a_placebo(tmp_path: Path) -> None:
    """The first default of Table II is Swin-UNETR's, with which no other init is compared."""
    from initbench.tables.reproduce.matching import control

    for name, label in (("table-2", "UNETR++"), ("table-3", "UNETR++"), ("table-1", "UNETR")):
        own = control(trials.trials(tables.get(f"lwi:{name}"), Overrides()).trials)
        assert own is not None
        assert own.label == label


def test_steps_of_another_budget_say_nothing_of_those_of_the_paper() -> None:
    """How much longer a row trains is not known where its steps are left to the training cases."""
    table = tables.get("lwi:table-7")
    for given, refused in (("steps.smoke=100", True), ("steps.paper=100", False)):
        overrides = Overrides("Task90_Noise", "unetr", assignments=(given,))
        longer = next(trial for trial in trials.trials(table, overrides).trials if trial.length != 1)
        if refused:
            with pytest.raises(UsageError, match="takes its steps from the training cases"):
                trials.assignments(longer, "generic-ct", overrides)
        else:
            assert "steps.paper=116" in trials.assignments(longer, "generic-ct", overrides)


def test_the_papers_data_and_settings_by_another_name_are_no_other_question() -> None:
    table = tables.get("lwi:table-4")
    for given in (
        {"dataset": "Task06_Lung"},
        {"dataset": "/data/Task06_Lung"},
        {"recipe": "lung", "split": "unetrpp-50/13"},
        {"dataset": "lung", "backbone": "unetr(variant=perceptron)"},
    ):
        assert trials.against(table, Overrides(**given)).words() == ()  # type: ignore[arg-type]
    assert trials.against(table, Overrides("hippocampus", recipe="lung")).words() == ("data set hippocampus", "recipe lung")


def test_classes_of_a_table_are_those_of_its_set() -> None:
    from initbench.stats.classes import SETS

    found = [table for table in tables.tables() if table.classes and table.class_set]
    assert found
    for table in found:
        assert table.classes == tuple(names[0] for names in SETS[table.class_set])


def test_a_dry_run_names_missing_data_and_where_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITBENCH_DATA", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    text = " ".join(said(capsys, "reproduce", "lwi:table-3", "--dry-run", "--out", str(tmp_path)).split())
    assert "lwi:table-3 would run 5 rows × 3 seeds" in text
    assert "Data are missing: lung: Task06_Lung was not found" in text
    assert "https://" in text


@pytest.mark.full
def test_table_vi_on_hippocampus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = shared("data")
    options = ["--dataset", "hippocampus", "--data-root", str(root), "--size", "tiny", "--budget", "smoke", "--device", "cpu"]
    text = said(capsys, "reproduce", "lwi:table-6", *options, "--seeds", "2", "--jobs", "2", "--out", str(tmp_path), "--json")
    found = rows_of(text)
    assert found["default"]["dice"] > 60
    assert all(
        row["dice"] > 10 for row in found.values()
    )  # order prediction alone is slow at this budget; as released: it is UNETR
    assert {row["seeds"] for row in found.values()} == {2}
    assert {row["verdict"] for row in rows_of(text, "claim").values()} <= {"better", "worse", "equivalent", "undecided"}
