"""Studies of several inits and several regimens: what every table makes of them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from initbench.errors import UsageError
from initbench.stats.analysis import Analysis, analyse, pair
from initbench.tables import sheet, variance, words
from initbench.tables.classes import class_sheets
from initbench.tables.compare import compare_sheets
from initbench.tables.interactions import COLUMNS
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.leaderboard_pooled import pooled_sheets
from initbench.tables.leaderboard_subsets import subset_sheets
from initbench.tables.power import INTERACTIONS, power_sheets
from initbench.tables.study import Study, read_study
from tests.recorded import PLACEBO, write_block
from tests.tables.boards import column, rows

PLAIN = {"default": [0.60, 0.62, 0.64, 0.61], "lwi": [0.65, 0.70, 0.69, 0.66], PLACEBO: [0.62, 0.61, 0.64, 0.60]}
UNDER = {"default": [0.62, 0.63, 0.67, 0.64], "lwi": [0.75, 0.78, 0.80, 0.78], PLACEBO: [0.62, 0.65, 0.66, 0.65]}


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two inits and the placebo, plainly and under a regimen."""
    out = tmp_path_factory.mktemp("crossed")
    write_block(out, PLAIN)
    write_block(out, UNDER, regimen="medcontext")
    return read_study(out)


def test_runs_of_both_regimens_are_rows_of_one_block(crossed: Study) -> None:
    (table,) = crossed.tables
    placebo = "default(construct='other')"
    assert table.inits == ("default", "default + medcontext", placebo, f"{placebo} + medcontext", "lwi", "lwi + medcontext")
    (made, _) = leaderboard_sheets(crossed)
    compared = column(made, "vs default [95 %]")
    assert list(compared)[:2] == ["lwi + medcontext", "lwi"]
    assert compared["default"] == "–"
    assert set(compared) == {"default", "default + medcontext", "placebo", "placebo + medcontext", "lwi", "lwi + medcontext"}
    got = rows(crossed)
    assert got["lwi + medcontext"].difference == pair(table, "lwi + medcontext", "default")
    assert got["lwi + medcontext"].dice.value == pytest.approx(77.75)
    assert {one.role for one in got.values()} == {"init", "placebo"}


def test_the_placebo_of_a_regimen_is_compared_with_default_under_it(crossed: Study) -> None:
    placebo = rows(crossed)[f"{PLACEBO} + medcontext"].difference
    assert placebo is not None
    assert placebo == pair(crossed.tables[0], f"{PLACEBO} + medcontext", "default + medcontext")
    assert placebo.family.size == 1
    (made, _) = leaderboard_sheets(crossed)
    said = [note for note in made.notes if "laceb" in note]
    assert "The placebo, default + medcontext drawn again (default(construct='other') + medcontext), comes out" in said[0]
    assert said[2] == "A placebo under a regimen is compared with default under the same regimen: default + medcontext."
    values = {(row["init"], row["regimen"]): row["against"] for row in made.values}
    assert values[PLACEBO, "medcontext"] == "default + medcontext"
    assert values[PLACEBO, "plain"] == "default"
    against = {(row.init, row.difference.second) for row in rows(crossed).values() if row.difference}
    (other, _) = leaderboard_sheets(crossed, against="lwi")
    assert {row["against"] for row in other.values} == {"lwi", ""}
    assert (f"{PLACEBO} + medcontext", "default + medcontext") in against


def test_a_placebo_of_a_regimen_that_comes_out_better_is_warned_of(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.60, 0.61, 0.60, 0.61, 0.60]})
    under = {"default": [0.60, 0.61, 0.60, 0.61, 0.60], PLACEBO: [0.70, 0.71, 0.70, 0.71, 0.705]}
    write_block(tmp_path, under, regimen="medcontext")
    (made,) = leaderboard_sheets(read_study(tmp_path))  # one init, so that there is no interaction
    (warning,) = [note for note in made.notes if note.startswith("Warning: the placebo")]
    assert f"the placebo ({PLACEBO} + medcontext) comes out better. It differs from default + medcontext by luck" in warning


def test_interactions_stand_below_the_rows_and_count_in_their_family(crossed: Study) -> None:
    found = analyse(crossed.tables[0])
    assert isinstance(found, Analysis)
    (item,) = found.interactions
    _, made = leaderboard_sheets(crossed)
    assert made.title.endswith(": interactions of init and regimen")
    assert made.columns == COLUMNS
    estimate = item.difference.estimate
    gains = [100 * (UNDER[init][k] - PLAIN[init][k]) for init in ("lwi", "default") for k in range(4)]
    assert estimate.value == pytest.approx(sum(gains[:4]) / 4 - sum(gains[4:]) / 4)
    assert made.rows == (
        ("lwi × medcontext", words.difference(estimate), words.chance(item.difference.p_adjusted), item.difference.says),
    )
    (values,) = made.values
    assert (values["role"], values["init"], values["regimen"], values["verdict"]) == (
        "interaction",
        "lwi",
        "medcontext",
        "better where it does not collapse (0/4; up to 53 %)",
    )
    assert (values["family"], values["family_size"]) == ("baseline", 4)
    of_rows = leaderboard_sheets(crossed)[0].values
    sizes = {row["family_size"] for row in of_rows if row["role"] == "init" and row["init"] + row["regimen"] != "defaultplain"}
    assert sizes == {4}
    assert "judged together with the other differences to default and the interactions (4 in all)" in made.notes[0]


def test_forms_for_machines_name_init_and_regimen(crossed: Study) -> None:
    made = leaderboard_sheets(crossed)
    found = json.loads(sheet.as_json(made))
    assert [(row["role"], row["init"], row["regimen"]) for row in found[:2]] == [
        ("init", "lwi", "medcontext"),
        ("init", "lwi", "plain"),
    ]
    assert found[-1]["role"] == "interaction"
    read = list(csv.DictReader(io.StringIO(sheet.as_csv(made))))
    assert [row["regimen"] for row in read] == [row["regimen"] for row in found]
    assert {row["regimen_budget"] for row in found} == {"steps"}
    (classes, *_) = class_sheets(crossed)
    assert {(row["init"], row["regimen"]) for row in classes.values} == {
        (init, regimen) for init in ("default", "lwi", PLACEBO) for regimen in ("plain", "medcontext")
    }
    ratios = variance.across(crossed.tables)[0].values
    assert {(row["init"], row["regimen"], row["against"]) for row in ratios} == {
        ("default", "medcontext", "default"),
        ("lwi", "plain", "default"),
        ("lwi", "medcontext", "default"),
        (PLACEBO, "plain", "default"),
        (PLACEBO, "medcontext", "default + medcontext"),
    }


def test_where_all_runs_are_plain_nothing_is_said_of_regimens(tmp_path: Path) -> None:
    write_block(tmp_path, PLAIN)
    found = read_study(tmp_path)
    made = [*leaderboard_sheets(found), *pooled_sheets(found, "all"), *class_sheets(found), *power_sheets(found.tables, ())]
    assert len(made) == 5
    for form in sheet.FORMS.values():
        text = form(made)
        assert "regimen" not in text
        assert "interaction" not in text.lower()
        assert "units" not in text


@pytest.mark.parametrize(
    "text", ["lwi + medcontext", " lwi  + medcontext ", "lwi + medcontext(beta=0.5)", "lwi + plain", "placebo + x"]
)
def test_a_row_is_meant_by_what_it_is_called(text: str) -> None:
    wanted = {
        "lwi + medcontext(beta=0.5)": "lwi + medcontext(beta=0.5)",
        "lwi + plain": "lwi",
        "placebo + x": f"{PLACEBO} + x",
    }
    assert words.meant(text) == wanted.get(text, "lwi + medcontext")
    assert words.label(f"{PLACEBO} + x (compute)") == "placebo + x (compute)"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("./mine.py:damped", "mine.py:damped@0123abcd"),
        ("folder/mine.py:damped", "mine.py:damped@0123abcd"),
        ("mine.py:damped@0123abcd", "mine.py:damped@0123abcd"),
        ("mine.py:damped(factor=0.3)", "mine.py:damped@0123abcd(factor=0.3)"),
        ("mine.py:damped + medcontext", "mine.py:damped@0123abcd + medcontext"),
        ("a/mine.py:read(path='b/c')", "mine.py:read@0123abcd(path='b/c')"),
        ("other.py:wild", "other.py:wild"),  # of two files: nobody knows which
        ("lwi", "lwi"),
    ],
)
def test_an_init_from_a_file_may_be_written_as_for_run(text: str, name: str) -> None:
    names = ["default", "lwi", "mine.py:damped@0123abcd", "mine.py:damped@0123abcd + medcontext"]
    names += ["mine.py:damped@0123abcd(factor=0.3)", "mine.py:read@0123abcd(path='b/c')"]
    names += ["other.py:wild@00000000", "other.py:wild@11111111"]
    assert words.meant(text, names) == name


def test_two_rows_are_compared_by_their_names(crossed: Study) -> None:
    (made,) = compare_sheets(crossed, words.meant("lwi + medcontext"), words.meant("default + medcontext"))
    assert made.title.startswith("lwi + medcontext − default + medcontext: ")
    assert (made.values[0]["first"], made.values[0]["second"]) == ("lwi + medcontext", "default + medcontext")
    assert (made.values[0]["family"], made.values[0]["family_size"]) == ("pairs", 6)
    with pytest.raises(UsageError, match=r"no block has both lwi \+ other and default.*lwi, lwi \+ medcontext, placebo"):
        compare_sheets(crossed, "lwi + other", "default")


def test_pooled_tables_have_interactions_too(tmp_path: Path) -> None:
    for dataset in ("phantom-lung", "phantom-organs"):
        write_block(tmp_path, PLAIN, dataset=dataset)
        write_block(tmp_path, UNDER, regimen="medcontext", dataset=dataset)
    made, crossed = pooled_sheets(read_study(tmp_path), "all")
    assert {row["family_size"] for row in made.values if row["family"] == "baseline"} == {4}
    assert crossed.rows[0][0] == "lwi × medcontext"
    assert "for these data sets and backbones" in crossed.notes[0]
    against = {(row["init"], row["regimen"]): row["against"] for row in made.values}
    assert against[PLACEBO, "medcontext"] == "default + medcontext"
    assert crossed.values[0]["blocks"] == 2


def test_power_counts_the_interactions(crossed: Study) -> None:
    (made,) = power_sheets(crossed.tables, ())
    assert {row["comparisons"] for row in made.values} == {4}
    assert made.notes[-1] == INTERACTIONS


def test_a_row_that_lacks_a_run_leaves_its_interaction_untestable(tmp_path: Path) -> None:
    write_block(tmp_path, PLAIN)
    write_block(tmp_path, {"default": UNDER["default"], "lwi": UNDER["lwi"][:3]}, regimen="medcontext")
    made, crossed = leaderboard_sheets(read_study(tmp_path))
    assert crossed.rows[0][-1] == "untestable"
    assert any("lwi + medcontext: no score for seed 3 (not run)" in note for note in crossed.notes)
    assert "lwi + medcontext is withheld: no score for seed 3 (not run)" in " ".join(made.notes)


def test_subsets_and_what_a_regimen_says_of_itself(tmp_path: Path) -> None:
    for cases in (["a"], ["a", "b"]):
        split = f"auto, trained on {len(cases)} case{'s' if len(cases) > 1 else ''}"
        write_block(tmp_path, PLAIN, train_cases=cases, split=split)
        write_block(tmp_path, UNDER, regimen="medcontext", train_cases=cases, split=split)
    (made,) = subset_sheets(read_study(tmp_path))
    assert {row[0] for row in made.rows} == {
        "default",
        "default + medcontext",
        "placebo",
        "placebo + medcontext",
        "lwi",
        "lwi + medcontext",
    }
    assert made.notes[-1].startswith("A placebo under a regimen is compared with default under the same regimen")


def test_steps_and_units_stand_beside_the_cost(crossed: Study) -> None:
    under = crossed.runs["regimen"] == "medcontext"
    said = np.where(under, "the teacher is nearly the initial student", "")
    found = replace(crossed, runs=crossed.runs.assign(units=np.where(under, 840.0, np.nan), regimen_summary=said))
    made = leaderboard_sheets(found)[0]
    assert made.columns[-3:] == ("steps", "units", "cost")
    assert column(made, "steps")["lwi + medcontext"] == "120"
    assert column(made, "units") == {name: "840" if "+" in name else "–" for name in column(made, "units")}
    assert "lwi + medcontext: the teacher is nearly the initial student." in made.notes
    values = {(row["init"], row["regimen"]): row for row in made.values}
    assert values["lwi", "medcontext"]["units"] == 840.0


def test_runs_of_both_budgets_are_two_rows_with_an_interaction_each(tmp_path: Path) -> None:
    write_block(tmp_path, PLAIN, regimen_budget="any")
    for budget in ("steps", "compute"):
        write_block(tmp_path, UNDER, regimen="medcontext", regimen_budget=budget)
    made, crossed = leaderboard_sheets(read_study(tmp_path))
    under = {name for name in column(made, "Dice [95 %]") if "placebo" not in name}
    regimens = ("", " + medcontext", " + medcontext (compute)")
    assert under == {f"{init}{regimen}" for init in ("default", "lwi") for regimen in regimens}
    assert [row[0] for row in crossed.rows] == ["lwi × medcontext", "lwi × medcontext (compute)"]
    assert {row["regimen_budget"] for row in crossed.values} == {"steps", "compute"}
    assert {row["family_size"] for row in crossed.values} == {5 + 2}
    values = {(row["init"], row["regimen"], row["regimen_budget"]): row["against"] for row in made.values}
    assert values[PLACEBO, "medcontext", "compute"] == "default + medcontext (compute)"
    assert ("lwi", "plain", "steps") in values
