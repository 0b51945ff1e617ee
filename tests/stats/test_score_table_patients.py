"""Scores are means over the cases of a patient, and verdicts are about patients."""

from __future__ import annotations

import math

import numpy as np
import pytest

from initbench.stats import table as table_module
from initbench.stats.analysis import facts_of, pair, verdicts
from initbench.stats.assembly import _patient_of
from initbench.stats.compare import compare
from initbench.stats.components import Components
from initbench.stats.inits import summarize
from initbench.stats.mrmc import crossed_difference
from initbench.stats.table import averaged_by_patient
from initbench.stats.tails import quantile
from tests.stats.made_up import CASES, Study, said, study


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
    alone = compare(table.by_patient, table.inits, against="default", facts=facts_of(table))
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
