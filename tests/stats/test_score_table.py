"""From run and case tables to y [init, seed, case], what is withheld, and what is said of a block."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import initbench
from initbench.errors import DataError, UsageError
from initbench.stats import table as table_module
from initbench.stats.analysis import Analysis, analyse, pair, verdicts
from initbench.stats.compare import compare
from initbench.stats.components import Components
from initbench.stats.design import Refused
from initbench.stats.inits import summarize
from initbench.stats.mrmc import crossed_difference
from initbench.stats.table import (
    Narrowed,
    ScoreTable,
    _patient_of,
    averaged_by_patient,
    case_scores,
    class_dice,
    class_scores,
    false_positives,
    score_tables,
)
from initbench.stats.tails import quantile
from tests.recorded import write_block, write_run

BLOCK = {
    "backbone": "unetr",
    "variant": "perceptron",
    "dataset": "lung",
    "split": "auto",
    "size": "tiny",
    "budget": "short",
    "steps": 600,
    "precision": "bf16",
    "recipe": "aaaa",
    "fixed_streams": "",
    "dice_policy": "reference-mask",
}
CASES = [f"case_{k:02}" for k in range(8)]


class Study:
    """A run and a case table, as `load_runs` and `load_cases` give them."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []

    def run(self, init: str, seed: int, points: list[float] | None = None, status: str = "ok", **other: Any) -> Study:
        """A run with these Dice points per case, in one class of 1000 voxels."""
        cell = other.pop("cell", f"cell-{init}")
        run = {**BLOCK, "init": init, "seed": seed, "status": status, "protocol": "any", "cell": cell, **other}
        run.setdefault("weights_digest", f"{cell}-{seed}")
        self.runs.append(run)
        for case, value in zip(CASES, points or [], strict=False):
            self.case(run, case, 1, tp=round(10 * value), fn=1000 - round(10 * value), fp=1000 - round(10 * value))
        return self

    def case(self, run: dict[str, Any], case: str, label: int, tp: int, fn: int, fp: int) -> None:
        keys = {key: run[key] for key in ("init", "backbone", "dataset", "seed", "protocol", "status", "cell")}
        dice = 2 * tp / (2 * tp + fp + fn) if tp + fn else math.nan
        self.rows.append({**keys, "case": case, "class": label, "tp": tp, "fp": fp, "fn": fn, "dice": dice})

    def tables(self, **options: Any) -> list[ScoreTable]:
        return score_tables(pd.DataFrame(self.runs), pd.DataFrame(self.rows), **options)

    def table(self, **options: Any) -> ScoreTable:
        (found,) = self.tables(**options)
        return found


def study(inits: tuple[str, ...] = ("default", "lwi"), seeds: int = 4, better: float = 0.0) -> Study:
    """Inits of about 60 points; the second is better by `better`."""
    rng = np.random.default_rng(0)
    case = rng.normal(60, 10, len(CASES))
    made = Study()
    for k, init in enumerate(inits):
        for seed in range(seeds):
            points = case + rng.normal(0, 1) + rng.normal(0, 2, len(CASES)) + better * (k == 1)
            made.run(init, seed, list(np.clip(points, 1, 99)))
    return made


# --- scores -----------------------------------------------------------------------------------------------------------


def test_the_array_is_in_the_order_of_its_names() -> None:
    got = Study().run("b", 1, [40, 50]).run("b", 0, [10, 20]).run("a", 0, [70, 80]).run("a", 1, [90, 100]).table()
    assert (got.inits, got.seeds, got.cases) == (("a", "b"), ((0, 1), (0, 1)), ("case_00", "case_01"))
    assert got.y == pytest.approx(np.array([[[70, 80], [90, 100]], [[10, 20], [40, 50]]]))
    assert got.design == "crossed"
    assert got.runs("a") == pytest.approx([75, 95])
    assert not got.diverged.any()
    assert got.block["dataset"] == "lung"


def test_a_case_is_the_mean_over_the_classes_it_holds() -> None:
    made = Study().run("a", 0)
    run = made.runs[0]
    made.case(run, "x", 1, tp=80, fn=20, fp=20)  # .8
    made.case(run, "x", 2, tp=40, fn=60, fp=60)  # .4
    made.case(run, "y", 1, tp=50, fn=50, fp=50)  # .5
    made.case(run, "y", 2, tp=0, fn=0, fp=7)  # not there, and yet predicted
    made.case(run, "z", 1, tp=0, fn=0, fp=0)
    made.case(run, "z", 2, tp=0, fn=0, fp=0)
    got = made.table()
    assert (got.cases, got.unscored) == (("x", "y"), ("z",))
    assert got.y[0, 0] == pytest.approx([60, 50])
    nnunet = made.table(policy="nnunet")
    assert nnunet.y[0, 0] == pytest.approx([60, 25])
    one = made.table(policy="empty-is-one")
    assert one.cases == ("x", "y", "z")
    assert one.y[0, 0] == pytest.approx([60, 25, 100])


def test_classes_can_count_the_same_however_many_cases_hold_them() -> None:
    """By hand: class 1 has .8 and .5, class 2 has .4 in one case alone; a table of classes prints (.65 + .4) / 2."""
    made = Study()
    for init, lower in (("a", 0), ("b", 10)):
        made.run(init, 0)
        run = made.runs[-1]
        made.case(run, "x", 1, tp=80 - lower, fn=20 + lower, fp=20 + lower)
        made.case(run, "x", 2, tp=40, fn=60, fp=60)
        made.case(run, "y", 1, tp=50, fn=50, fp=50)
        made.case(run, "y", 2, tp=0, fn=0, fp=7)
        made.case(run, "z", 1, tp=0, fn=0, fp=0)
        made.case(run, "z", 2, tp=0, fn=0, fp=0)
    for row in made.rows:
        row["class_name"] = f"class {row['class']}"
    got = made.table(classes_alike=True)
    assert (got.cases, got.unscored) == (("x", "y"), ("z",))
    assert [float(got.runs(init)[0]) for init in got.inits] == pytest.approx([52.5, 50.0])
    for run in ("cell-a", "cell-b"):
        scores = class_scores(pd.DataFrame(made.rows), "dice").query("cell == @run")["score"]
        assert float(got.runs(run[-1])[0]) == pytest.approx(float(scores.mean()))
    for row in made.rows:  # all classes in all cases: either mean
        row.update(tp=row["tp"] or 30, fn=70, fp=70)
    alike, plain = made.table(classes_alike=True), made.table()
    assert alike.y == pytest.approx(plain.y)


def test_policies_class_by_class() -> None:
    counts = pd.DataFrame({"tp": [5, 0, 0, 0], "fp": [0, 3, 3, 0], "fn": [5, 5, 0, 0]})
    nan = math.nan
    for policy, expected in (
        ("reference-mask", [2 / 3, 0, nan, nan]),
        ("nnunet", [2 / 3, 0, 0, nan]),
        ("empty-is-one", [2 / 3, 0, 0, 1]),
    ):
        assert class_dice(counts, policy).tolist() == pytest.approx(expected, nan_ok=True)  # type: ignore[arg-type]


def test_the_run_score_is_the_one_on_record(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.5, 0.6], "lwi": [0.7, 0.8]})
    runs, cases = initbench.load_runs(tmp_path), initbench.load_cases(tmp_path)
    (got,) = score_tables(runs, cases)
    assert got.runs("lwi") == pytest.approx([70, 80])
    assert (got.cases, got.unscored) == (("case_01", "case_02", "case_03"), ("case_04",))
    assert got.seeds[0] == (0, 1)  # seed 0 is a seed


def test_no_runs_give_no_tables() -> None:
    assert score_tables(pd.DataFrame(columns=[*BLOCK, "init", "seed", "protocol"]), pd.DataFrame()) == []
    assert case_scores(pd.DataFrame()).empty
    assert Study().run("a", 0, status="failed").run("b", 0, [50]).table().inits == ("b",)
    assert Study().run("a", 0, status="failed").table().inits == ()


def test_a_diverged_run_is_0_everywhere_and_counted() -> None:
    made = Study().run("a", 0, [60, 70]).run("a", 1, [0, 0], status="diverged")
    # An empty prediction where nothing is would be perfect under some policies.
    for run in made.runs:
        made.case(run, "empty", 1, tp=0, fn=0, fp=0)
    for policy in ("reference-mask", "empty-is-one"):
        got = made.table(policy=policy)
        assert (got.y[0, 1] == 0).all()
        assert got.diverged.tolist() == [[False, True]]


# --- what is withheld -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["failed", "invalid"])
def test_an_init_with_a_missing_run_gets_no_verdict(status: str) -> None:
    made = study(seeds=3).run("mae", 0, [50] * 8).run("mae", 1, [50] * 8).run("mae", 2, status=status)
    got = made.table()
    assert got.inits == ("default", "lwi")
    assert [(item.init, item.kind) for item in got.withheld] == [("mae", "incomplete")]
    assert f"2 ({status})" in got.withheld[0].reason
    assert got.narrowed is None
    told = {item.first: item for item in verdicts(got).differences}
    assert told["mae"].verdict == "untestable"
    assert "mae: no score for seed 2" in told["mae"].reason
    assert told["lwi"].verdict != "untestable"
    assert made.table(seeds=(0, 1)).inits == ("default", "lwi", "mae")
    shared = made.table(shared=True)
    assert (shared.inits, shared.narrowed) == (("default", "lwi", "mae"), Narrowed((0, 1), ()))


def test_what_lies_outside_the_shared_seeds_is_known() -> None:
    made = study(seeds=2).run("lwi", 2, [0.0] * 8, status="diverged").run("lwi", 3, [60.0] * 8)
    assert made.table(shared=True).narrowed == Narrowed((0, 1), (("lwi", 2),))
    apart = Study().run("a", 0, [50.0]).run("a", 1, [0.0], status="diverged").run("b", 2, [50.0]).table(shared=True)
    assert (apart.narrowed, apart.names) == (Narrowed((), ()), ("a", "b"))


def test_a_seed_that_was_not_run_is_missing_too() -> None:
    made = study(seeds=2)
    made.run("lwi", 2, [60.0] * 8)
    got = made.table()
    assert [item.reason for item in got.withheld] == [
        "no score for seed 2 (not run): run again, or compare the seeds that all inits have"
    ]
    assert got.inits == ("lwi",)
    reasons = {item.reason for item in verdicts(got).differences}
    assert len(reasons) == 1
    assert reasons.pop().startswith("default: no score")
    whole = said(got)
    assert whole.against == "default"  # it is there, and nothing is compared
    assert [(item.first, item.second, item.verdict) for item in whole.comparison.differences] == [
        ("lwi", "default", "untestable")
    ]


def test_a_block_without_a_complete_init_is_still_a_block() -> None:
    got = study(seeds=2).table(seeds=(0, 1, 7))  # nobody has seed 7
    assert (got.inits, got.cases, [item.init for item in got.withheld]) == ((), (), ["default", "lwi"])
    refused = analyse(got)
    assert isinstance(refused, Refused)
    assert "no init" in refused.reason
    assert [d.verdict for d in verdicts(got).differences] == ["untestable"]
    assert [d.verdict for d in verdicts(got, against=None).differences] == ["untestable", "untestable"]


def test_identical_weights_under_two_seeds_are_withheld() -> None:
    made = study(seeds=2).run("frozen", 0, [50] * 8, weights_digest="w").run("frozen", 1, [50] * 8, weights_digest="w")
    got = made.table()
    assert [(item.init, item.kind) for item in got.withheld] == [("frozen", "identical")]
    assert "its" not in got.withheld[0].reason
    assert "seeds 0, 1" in got.withheld[0].reason
    dead = study(seeds=2)
    for seed in (0, 1):
        dead.run("dead", seed, [0] * 8, status="diverged", weights_digest="all NaN")
    assert dead.table().inits == ("dead", "default", "lwi")


def test_seeds_of_their_own_are_nested() -> None:
    got = Study().run("a", 0, [50, 60]).run("a", 1, [51, 62]).run("b", 2, [70, 80]).run("b", 3, [71, 85]).table()
    assert (got.design, got.seeds, got.withheld) == ("nested", ((0, 1), (2, 3)), ())
    assert verdicts(got).design == "nested"


def test_a_run_that_is_there_twice_is_an_error() -> None:
    with pytest.raises(UsageError, match="seed 0 is there twice"):
        Study().run("a", 0, [50]).run("a", 0, [50]).table()


def test_other_cases_or_other_labels_are_an_error() -> None:
    with pytest.raises(DataError, match="other cases"):
        Study().run("a", 0, [50, 60]).run("b", 0, [50]).table()
    made = Study().run("a", 0, [50]).run("b", 0, [50])
    for run, reference in zip(made.runs, (0, 10), strict=True):
        made.case(run, "x", 1, tp=0, fn=reference, fp=5)
    with pytest.raises(DataError, match="labels have changed"):
        made.table()


# --- blocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [key for key in BLOCK if key != "dice_policy"])  # that is part of the recipe's digest
def test_what_differs_in_anything_but_the_init_is_never_compared(key: str) -> None:
    other = {key: 601 if key == "steps" else "other"}
    got = Study().run("a", 0, [50]).run("b", 0, [60], **other).tables()
    assert [table.inits for table in got] == [("a",), ("b",)] or [table.inits for table in got] == [("b",), ("a",)]


def test_an_init_without_a_pretext_stands_in_both_protocols() -> None:
    made = study(("default",), seeds=2)
    for protocol in ("equal-total", "equal-finetune"):
        for seed in range(2):
            made.run("lwi", seed, [60.0 + seed] * 8, protocol=protocol, cell=f"lwi-{protocol}")
    got = made.tables()
    assert [table.block["protocol"] for table in got] == ["equal-finetune", "equal-total"]
    assert all(table.inits == ("default", "lwi") for table in got)


def test_files_give_the_same_blocks_as_the_leaderboard(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "lwi", 0.6, protocol="equal-total")
    write_run(tmp_path, "mae", None, status="failed")
    (got,) = score_tables(initbench.load_runs(tmp_path), initbench.load_cases(tmp_path))
    assert got.inits == ("default", "lwi")
    assert got.withheld[0].init == "mae"


# --- patients ---------------------------------------------------------------------------------------------------------


def test_cases_of_a_patient_are_averaged_by_hand() -> None:
    nan = math.nan
    y = np.array([[10.0, 20.0, 60.0, 40.0], [nan, 30.0, 70.0, nan], [nan, 5.0, nan, nan]])
    got = averaged_by_patient(y, ("b", "a", "b", "c"))  # in the order of their first cases
    assert got == pytest.approx(np.array([[35, 20, 40], [70, 30, nan], [nan, 5, nan]]), nan_ok=True)
    assert averaged_by_patient(y, None) is y
    assert averaged_by_patient(y, ("d", "c", "b", "a")) is y  # a patient has one case each
    three = np.arange(24.0).reshape(2, 3, 4)
    assert averaged_by_patient(three, ("p",) * 4) == pytest.approx(three.mean(-1, keepdims=True))


def two_of_a_patient(cells: tuple[str, ...] = ("cell-a", "cell-b")) -> dict[str, dict[str, str]]:
    """Cases 0 and 1 are of one patient."""
    return {cell: {"case_00": "p", "case_01": "p", "case_02": "q"} for cell in cells}


def test_runs_are_means_over_patients() -> None:
    made = Study().run("a", 0, [40, 50, 90]).run("a", 1, [10, 20, 60]).run("b", 0, [70, 80, 10]).run("b", 1, [20, 30, 45])
    got = made.table(patients=two_of_a_patient())
    assert (got.patients, got.patient_count) == (("p", "p", "q"), 2)
    assert got.by_patient == pytest.approx(np.array([[[45, 90], [15, 60]], [[75, 10], [25, 45]]]))
    assert got.runs("a") == pytest.approx([67.5, 37.5])
    assert got.runs("b") == pytest.approx([42.5, 35])
    assert got.y[0, 0] == pytest.approx([40, 50, 90])  # as it was
    by_case = made.table()
    assert (by_case.patients, by_case.patient_count) == (None, 3)
    assert by_case.runs("a") == pytest.approx([60, 30])


def test_everything_that_is_said_of_a_block_is_of_patients() -> None:
    made = study(("default", "lwi", "mae"), seeds=3, better=4)
    whose = {f"cell-{init}": {case: case[:-1] + "02460246"[k] for k, case in enumerate(CASES)} for init in ("default", "lwi")}
    table = made.table(patients=whose)
    assert table.patient_count == 4
    got = said(table)
    alone = compare(table.by_patient, table.inits, against="default")
    assert got.comparison.differences == alone.differences
    assert [one.mean for one in got.inits] == [one.mean for one in summarize(table.by_patient, table.inits)]
    assert isinstance(got.components, Components)
    assert got.components.cases == 4
    for pair_of in (("lwi", "default"), ("lwi", "mae")):
        a, b = (table.by_patient[table.inits.index(name)] for name in pair_of)
        assert pair(table, *pair_of).estimate.value == pytest.approx(a.mean() - b.mean())


def test_scores_of_withheld_inits_are_means_over_patients() -> None:
    made = Study().run("a", 0, [40, 50, 90]).run("a", 1, [10, 20, 60]).run("b", 0, [70, 80, 10]).run("b", 1, status="failed")
    got = made.table(patients=two_of_a_patient())
    assert [item.scores for item in got.withheld] == [pytest.approx((42.5,))]


def test_where_cells_disagree_the_fewest_patients_count() -> None:
    made = Study().run("a", 0, [40, 50, 90]).run("b", 0, [70, 80, 10])
    apart = {"case_00": "p", "case_01": "r", "case_02": "q"}
    together = two_of_a_patient()["cell-a"]
    for first, second in ((apart, together), (together, apart)):
        assert made.table(patients={"cell-a": first, "cell-b": second}).patients == ("p", "p", "q")
    # What one cell knows holds for all of the block: their cases are the same.
    assert made.table(patients={"cell-b": together}).patients == ("p", "p", "q")
    made.run("a", 1, [41, 50, 92]).run("b", 1, [71, 80, 9])
    one = made.table(patients={"cell-a": dict.fromkeys(together, "p"), "cell-b": together})
    assert one.patient_count == 1
    assert "one reported case" in verdicts(one, against="a").differences[0].reason


def test_without_a_patient_of_every_case_nothing_is_averaged() -> None:
    made = Study().run("a", 0, [40, 50, 90]).run("b", 0, [70, 80, 10])
    assert made.table().patients is None
    assert made.table(patients={"another cell": two_of_a_patient()["cell-a"]}).patients is None
    assert made.table(patients={"cell-a": {"case_00": "p", "case_01": "p"}}).patients is None
    assert _patient_of({}, {}) is None


def test_patients_stay_with_the_inits_that_are_kept() -> None:
    made = Study().run("a", 0, [40, 50, 90]).run("b", 0, [70, 80, 10]).run("default(construct='other')", 0, [1, 2, 3])
    got = made.table(patients=two_of_a_patient())
    assert got.only(["b"]).by_patient == pytest.approx(np.array([[[75, 10]]]))
    assert got.schemes().patients == got.patients


def false_verdicts_of_equal_inits() -> float:
    """Share of 300 studies of two equal inits, 10 patients with 4 cases each that are alike, in which they are told apart."""
    rng = np.random.default_rng(21)
    patients = tuple(str(k // 4) for k in range(40))
    of_patients = np.repeat(rng.normal(0, 4, (300, 2, 1, 10)), 4, axis=-1)
    y = 50 + of_patients + rng.normal(0, 0.3, (300, 2, 3, 1)) + rng.normal(0, 2, (300, 2, 3, 40))
    by_patient = table_module.averaged_by_patient(y, patients)
    estimate = crossed_difference(by_patient[:, 0] - by_patient[:, 1])
    return float((np.abs(estimate.value) > quantile(estimate, 0.05) * estimate.error).mean())


def test_cases_of_a_patient_do_not_pass_for_patients() -> None:
    assert false_verdicts_of_equal_inits() <= 0.08


def test_patients_that_are_ignored_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "averaged_by_patient", lambda y, patients: y)
    assert false_verdicts_of_equal_inits() > 0.15
    made = Study().run("a", 0, [40, 50, 90]).run("b", 0, [70, 80, 10])
    with pytest.raises(AssertionError):
        assert made.table(patients=two_of_a_patient()).runs("a") == pytest.approx([67.5])


# --- false positives --------------------------------------------------------------------------------------------------


def test_false_positives_are_counted_where_the_reference_is_empty() -> None:
    made = Study().run("a", 0, [50]).run("b", 0, [50]).run("b", 1, [0], status="diverged")
    for run, voxels in zip(made.runs, (0, 6, 0), strict=True):
        made.case(run, "x", 1, tp=0, fn=0, fp=voxels)
        made.case(run, "y", 1, tp=0, fn=0, fp=4)
    got = false_positives(pd.DataFrame(made.rows)).set_index("cell")
    assert got.loc["cell-a", ["empty", "rate", "voxels"]].tolist() == [2, 0.5, 2.0]
    assert got.loc["cell-b", ["empty", "rate", "voxels"]].tolist() == [2, 1.0, 5.0]


# --- what is said of a block ------------------------------------------------------------------------------------------


def said(table: ScoreTable, **options: Any) -> Analysis:
    got = analyse(table, **options)
    assert isinstance(got, Analysis)
    return got


def test_a_block_in_one_call() -> None:
    got = said(study(("default", "lwi", "mae"), seeds=4, better=20).table())
    assert [one.init for one in got.inits] == ["default", "lwi", "mae"]
    assert isinstance(got.components, Components)
    assert [(d.first, d.second, d.verdict) for d in got.comparison.differences] == [
        ("lwi", "default", "better"),
        ("mae", "default", "undecided"),
    ]
    assert not isinstance(got.ranking, Refused)
    first = got.ranking[0]
    assert (first.init, first.rank, first.low, first.may_be_best) == ("lwi", 1, 1, True)


def test_one_seed_says_so_everywhere() -> None:
    got = said(study(seeds=1).table())
    assert isinstance(got.components, Refused)
    assert isinstance(got.ranking, Refused)
    assert isinstance(got.comparison.omnibus, Refused)
    assert [d.verdict for d in got.comparison.differences] == ["untestable"]
    assert math.isnan(got.comparison.differences[0].p)
    assert got.comparison.differences[0].estimate.value != 0


def test_without_the_control_all_pairs_are_compared() -> None:
    assert len(said(study(("a", "b", "c")).table()).comparison.differences) == 3
    one = said(study(("a",)).table())
    assert one.comparison.differences == ()
    assert isinstance(one.ranking, Refused)


def test_the_policy_of_papers_compares_only_what_is_scored_alike() -> None:
    made = study(seeds=2)
    for k, run in enumerate(made.runs):
        made.case(run, "x", 1, tp=0, fn=0, fp=5 * (k == 0))
    table = made.table(policy="nnunet")
    assert np.isnan(table.y).any()
    assert math.isfinite(table.runs("default").sum())
    refused = analyse(table)
    assert isinstance(refused, Refused)
    assert refused.reason == table.refused
    for against in ("default", None):
        assert all("nnunet" in d.reason for d in verdicts(table, against=against).differences)
    said(made.table())


def test_a_test_set_without_any_class_is_refused() -> None:
    made = Study().run("a", 0)
    made.case(made.runs[0], "x", 1, tp=0, fn=0, fp=0)
    got = analyse(made.table())
    assert isinstance(got, Refused)
    assert "nothing is scored" in got.reason
