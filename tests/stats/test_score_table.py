"""From run and case tables to y [init, seed, case], what is withheld, and what is said of a block."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import initbench
from initbench.errors import DataError, UsageError
from initbench.stats.analysis import analyse, verdicts
from initbench.stats.assembly import score_tables
from initbench.stats.cases import case_scores, class_dice, class_scores, false_positives
from initbench.stats.components import Components
from initbench.stats.design import Refused
from initbench.stats.table import Narrowed
from tests.recorded import write_block, write_run
from tests.stats.made_up import BLOCK, Study, said, study

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
    with pytest.raises(DataError, match="labels changed"):
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
