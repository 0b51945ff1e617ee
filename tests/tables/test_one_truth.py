"""One study, one truth: whatever command or form shows a number of a study shows the same one, and its words agree with it.

Every output is read back as statements: what it says of which thing. Two statements about one thing contradict each other where
no number could be printed as both, or where their words differ.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from initbench.report import cells
from initbench.stats.analysis import Analysis
from initbench.stats.compare import Difference, difference
from initbench.stats.design import Refused, Scope
from initbench.stats.families import Family
from initbench.stats.table import ScoreTable
from initbench.tables import compare, leaderboard
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.study import Study, read_study
from tests import benchmark_scripts
from tests.printed import Range
from tests.recorded import write_block, write_run
from tests.tables.outputs import tell_classes, tell_compare, tell_leaderboard, tell_pooled, tell_report, tell_variance
from tests.tables.statements import MARGIN, Statement, Statements, contradictions

BASELINE, PLACEBO, OTHER = "default", "default(construct='other')", "lwi"


synthetic = benchmark_scripts.load("synthetic_study")


# --- whether it agrees ------------------------------------------------------------------------------------------------


def told(study: Study, *, one_class: bool) -> Statements:
    """What all outputs say of a study."""
    into = Statements()
    for against in (BASELINE, OTHER):
        tell_leaderboard(into, study, against)
        tell_report(into, study, against)
        for by in ("backbone", "dataset", "all"):
            tell_pooled(into, study, by, against)
    for first, second in ((OTHER, BASELINE), ("mae", BASELINE), (OTHER, "mae"), (PLACEBO, BASELINE), (OTHER, PLACEBO)):
        tell_compare(into, study, first, second)
        tell_compare(into, study, second, first)
    tell_variance(into, study)
    if one_class:
        tell_classes(into, study)
    return into


def disagreements(statements: list[Statement]) -> list[str]:
    """Verdicts, p values and ranks that do not say what the numbers beside them do; from the exact ones."""
    exact: dict[tuple[str, ...], float] = {}
    words: dict[tuple[str, ...], str] = {}
    for item in statements:
        if "--format json" in item.where:
            if isinstance(item.says, Range):
                exact[item.of] = (item.says.low + item.says.high) / 2
            elif item.says is not None:
                words[item.of] = item.says
    found = []
    for of, word in words.items():
        if of[-1] == "verdict" and not _verdict_agrees(word, of[:-1], exact):
            found.append(f"{' · '.join(of)}: {word}")
        if of[-1] == "may be best" and (word == "no") != (exact[*of[:-1], "rank_low"] > 1):
            found.append(f"{' · '.join(of)}: {word}, but the best place is {exact[*of[:-1], 'rank_low']}")
        if of[-1] == "headline" and ("not told from 0" in word) and exact[of[0], "between-init SD", "low"] > 0:
            found.append(f"{' · '.join(of)}: {word}")
    return found


def _verdict_agrees(word: str, of: tuple[str, ...], exact: dict[tuple[str, ...], float]) -> bool:
    if word == "untestable":
        return (*of, "difference", "low") not in exact and (*of, "p_adjusted") not in exact
    word = word.partition(" where ")[0].partition(", though ")[0]
    low, high = (exact[*of, "difference", end] for end in ("low", "high"))
    above, below = low > 0, high < 0
    within = low >= -MARGIN and high <= MARGIN
    says = [
        (word.startswith("equivalent"), within),
        (word in ("better", "worse"), (above or below) and not within),
        (word in ("better", "equivalent, but above 0"), above),
        (word in ("worse", "equivalent, but below 0"), below),
        (word == "undecided", not within and not above and not below),
        (exact[*of, "p_adjusted"] < 0.05, above or below),
        (exact[*of, "p_equivalence"] < 0.05, within),
    ]
    return all(said == holds for said, holds in says)


# --- the studies ------------------------------------------------------------------------------------------------------


E = synthetic.Effects
EFFECTS = {
    "usual": E(),
    "none": E(init=0, block_init=0),
    "strong": E(init=5, block_init=2),
    "precise": E(init=0.25, block_init=0.1, seed=0.1, seed_init=0.1, init_case=0.3, residual=0.8),
    "noisy": E(seed=3, seed_init=5, init_case=8, residual=15),
    "low": E(level=12, init=4, case=15),
}
# Effects, backbones, classes, cases per patient, share of diverged runs.
STUDIES = [
    ("usual", 2, 1, 1, 0.0),
    ("none", 1, 1, 2, 0.0),
    ("precise", 2, 1, 4, 0.0),
    ("noisy", 1, 1, 1, 0.1),
    ("strong", 1, 1, 4, 0.0),
    ("low", 2, 1, 2, 0.0),
    ("usual", 1, 2, 2, 0.05),
    ("precise", 1, 1, 1, 0.0),
    ("none", 2, 2, 4, 0.0),
    ("noisy", 1, 2, 4, 0.0),
    ("strong", 2, 1, 1, 0.03),
    ("usual", 1, 1, 4, 0.0),
    ("precise", 1, 2, 2, 0.0),
    ("strong", 1, 1, 2, 0.2),
]
QUICK = 4


def made_up(out: Path, number: int) -> tuple[Study, bool]:
    """The study of this number, and whether it has one class."""
    effects, backbones, classes, per_patient, diverged = STUDIES[number]
    plan = synthetic.Design(
        datasets=2,
        backbones=backbones,
        inits=8,
        seeds=5,
        cases=30,
        classes=classes,
        effects=EFFECTS[effects],
        diverged=diverged,
        key=100 + number,
        cases_per_patient=per_patient,
    )
    synthetic.write_study(out, plan)
    return read_study(out), classes == 1


def recorded(out: Path) -> Study:
    """Runs as they come: a placebo, weights from outside, diverged and failed runs, patients with two cases, two networks."""
    pairs = {"case_01": "a", "case_02": "a", "case_03": "b", "case_04": "b"}
    for backbone, more in (("unetr", 0.0), ("unetrpp", 0.03)):
        own: dict[str, Any] = {"backbone": backbone, "patients": pairs}
        scores = {
            BASELINE: [0.60, 0.62, 0.64, 0.61],
            PLACEBO: [0.61, 0.61, 0.64, 0.60],
            "kaiming-normal(mode='fan_out')": [0.60, 0.61, 0.65, 0.66],
            "checkpoint(path='a.pt@12345678')": [0.70, 0.73, 0.72, 0.71],
        }
        for init, values in scores.items():
            write_block(out, {init: [value + more for value in values]}, external=init.startswith("checkpoint"), **own)
        for init, values in ((OTHER, [0.75, 0.76, 0.78, 0.77]), ("mae", [0.63, 0.66, 0.62, 0.66])):
            write_block(out, {init: [value + more for value in values]}, protocol="equal-total", **own)
        write_run(out, "uniform", 0.58, seed=0, **own)
        write_run(out, "uniform", 0.0, seed=1, status="diverged", **own)
        write_run(out, "uniform", 0.61, seed=2, **own)
        write_run(out, "uniform", 0.57, seed=3, **own)
        write_run(out, "orthogonal", status="failed", seed=0, **own)
        write_run(out, "orthogonal", 0.6, seed=1, **own)
    return read_study(out)


def regimens(out: Path) -> Study:
    """Three inits and the placebo under two regimens, and two patients with two cases each."""
    pairs = {"case_01": "a", "case_02": "a", "case_03": "b", "case_04": "b"}
    plain = {BASELINE: [0.60, 0.62, 0.64, 0.61], PLACEBO: [0.61, 0.61, 0.64, 0.60], OTHER: [0.70, 0.71, 0.72, 0.71]}
    under = {BASELINE: [0.62, 0.63, 0.67, 0.64], PLACEBO: [0.62, 0.65, 0.66, 0.65], OTHER: [0.85, 0.88, 0.90, 0.88]}
    write_block(out, plain | {"mae": [0.63, 0.66, 0.62, 0.66]}, patients=pairs)
    write_block(out, under | {"mae": [0.66, 0.67, 0.67, 0.66]}, patients=pairs, regimen="medcontext")
    return read_study(out)


def check(study: Study, *, one_class: bool) -> None:
    said = told(study, one_class=one_class).all
    assert len(said) > 1000
    assert contradictions(said) == []
    assert disagreements(said) == []


@pytest.mark.parametrize("number", range(QUICK))
def test_all_outputs_of_a_study_agree(tmp_path: Path, number: int) -> None:
    study, one_class = made_up(tmp_path, number)
    check(study, one_class=one_class)


@pytest.mark.full
@pytest.mark.parametrize("number", range(QUICK, len(STUDIES)))
def test_all_outputs_of_more_studies_agree(tmp_path: Path, number: int) -> None:
    study, one_class = made_up(tmp_path, number)
    check(study, one_class=one_class)


def test_all_outputs_of_recorded_runs_agree(tmp_path: Path) -> None:
    check(recorded(tmp_path), one_class=True)


def test_all_outputs_of_inits_under_regimens_agree(tmp_path: Path) -> None:
    study = regimens(tmp_path)
    check(study, one_class=True)
    into = Statements()
    tell_leaderboard(into, study, BASELINE)
    tell_report(into, study, BASELINE)
    tell_compare(into, study, f"{OTHER} + medcontext", f"{BASELINE} + medcontext")
    tell_compare(into, study, f"{PLACEBO} + medcontext", f"{BASELINE} + medcontext")
    assert contradictions(into.all) == []
    judged = {item.of[1] for item in into.all if "verdict" in item.of}
    assert {"gain of default − lwi × medcontext", "default + medcontext − placebo + medcontext"} <= judged


def test_the_studies_show_every_verdict(tmp_path: Path) -> None:
    """Otherwise some word would never be held against its interval."""
    found = set()
    for number in range(QUICK):
        study, _ = made_up(tmp_path / str(number), number)
        into = Statements()
        tell_leaderboard(into, study, BASELINE)
        found |= {item.says for item in into.all if item.of[-1] == "verdict"}
    assert {word.partition(" where ")[0] for word in found} >= {"better", "worse", "undecided", "equivalent"}


def test_the_headline_is_the_same_whatever_the_others_are_compared_with(tmp_path: Path) -> None:
    """Whether the between-init SD is told from 0 is a matter of the inits, not of the one that was asked for."""
    study, _ = made_up(tmp_path, 13)
    into = Statements()
    for against in (BASELINE, OTHER, "order"):
        tell_leaderboard(into, study, against)
    tell_variance(into, study)
    assert [text for text in contradictions(into.all) if "headline" in text] == []


def test_the_headline_tells_inits_apart_where_the_ranks_do(tmp_path: Path) -> None:
    study, _ = made_up(tmp_path, 0)
    for made in leaderboard_sheets(study):
        if any(row["may_be_best"] is False for row in made.values):
            assert "not told from 0" not in made.notes[0]


def test_an_init_is_not_surely_behind_one_that_it_cannot_be_compared_with(tmp_path: Path) -> None:
    for seed in range(4):
        write_run(tmp_path, BASELINE, 0.0, seed=seed, status="diverged")
        write_run(tmp_path, OTHER, 0.6 + 0.01 * seed, seed=seed)
    (made,) = leaderboard_sheets(read_study(tmp_path))
    assert {row["verdict"] for row in made.values} == {"", "untestable"}
    assert [row["may_be_best"] for row in made.values] == [True, True]


# --- whether the check bites ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Study:
    out = tmp_path_factory.mktemp("small")
    synthetic.write_study(out, synthetic.Design(1, 1, 6, 4, 20, 1, key=5, diverged=0.0))
    return read_study(out)


def alone(table: ScoreTable, first: str, second: str, *, scope: Scope, margin: float) -> Difference:
    """The difference of two inits as if it were the only one."""
    a, b = (table.by_patient[table.inits.index(name)] for name in (first, second))
    own = Family("claims", 1)
    return difference(a, b, names=(first, second), scope=scope, seeds=table.design, margin=margin, judged_with=own)


def unadjusted(item: Difference | None) -> dict[str, object]:
    found = TESTED(item)
    return {**found, "p_adjusted": found["p"]}


def optimistic(item: Difference | None) -> dict[str, object]:
    return {**TESTED(item), "verdict": "better" if item else ""}


def doubled(table: ScoreTable, found: Analysis | Refused) -> str:
    return re.sub(r"an SD of ([\d.]+)", lambda match: f"an SD of {2 * float(match[1]) + 1:.2f}", HEADLINE_OF(table, found))


FAULTS = {
    "compare judges a pair by itself": (compare, "pair", alone, "family_size"),
    "p values for machines are those of single tests": (compare.words, "tested", unadjusted, "p_adjusted"),
    "verdicts for machines are bold": (compare.words, "tested", optimistic, "verdict"),
    "the page cuts intervals": (cells, "bounds", lambda found: f"[{found.value:.1f}, {found.high:.1f}]", "Dice · low"),
    "another SD in sentences than in tables": (leaderboard, "headline", doubled, "between-init SD"),
}
TESTED, HEADLINE_OF = compare.words.tested, leaderboard.headline  # as they are without a fault


def test_without_a_fault_nothing_is_found(small: Study) -> None:
    check(small, one_class=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_output_that_goes_its_own_way_is_found(small: Study, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    module, name, wrong, thing = FAULTS[fault]
    monkeypatch.setattr(module, name, wrong)
    found = contradictions(told(small, one_class=True).all)
    assert found
    assert any(thing in text for text in found), found
