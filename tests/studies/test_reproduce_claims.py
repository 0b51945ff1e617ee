"""Gaps and claims of `initbench reproduce`: by hand, and from runs that are there."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from initbench.published import tables
from initbench.published.tables import Claim
from initbench.published.trials import Overrides
from initbench.runs.read import read_runs
from initbench.stats.compare import Difference, difference
from initbench.stats.families import Family
from initbench.stats.summary import Interval
from initbench.tables.reproduce import claims
from initbench.tables.reproduce.sheets import gap
from tests.studies.reproduced import HARD, TABLE, TINY, report, resolved, rows_of, write_rows

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
        assert (row["family"], row["family_size"], row["verdict"].split(" where ")[0]) == ("claims", 4, item.verdict)
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
