"""The notes below a leaderboard: weights from outside, withheld rows, shared seeds, environments, changed runs, the placebo."""

from __future__ import annotations

from pathlib import Path

from initbench.runs import store
from initbench.runs.status import AskedRun, write_asked
from initbench.tables import study, variance, words
from initbench.tables.classes import class_sheets
from initbench.tables.compare import compare_sheets
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.leaderboard_pooled import pooled_sheets
from initbench.tables.study import Scoring
from initbench.tables.variance import variance_sheets
from tests.recorded import PLACEBO, record_values, reseal, write_block, write_run
from tests.tables.boards import DEFAULTS, column, notes, rows

# --- rows -------------------------------------------------------------------------------------------------------------


def test_weights_from_outside_are_said_to_be(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "checkpoint(path='a.pt@12345678')", 0.6, external=True)
    assert [note for note in notes(tmp_path) if "external" in note] == [
        "checkpoint(path='a.pt@12345678'): conditional on these weights, one draw for all seeds; external data."
    ]


def test_levels_that_an_order_prediction_left_out_are_said(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "mae", 0.5)
    for init, left_out in (("order", []), ("lwi", [4, 5])):
        folder = write_run(tmp_path, init, 0.6)
        values = record_values(folder)
        values["coverage"]["report"] = {"summary": "order of 4 slabs", "taps_left_out": left_out}
        reseal(folder, values)
    assert [note for note in notes(tmp_path) if "levels" in note] == [
        "lwi: encoder levels that are not asked, as they leave no two slabs to order: 4, 5."
    ]


def test_a_comparison_with_weights_from_outside_says_what_it_rests_on(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS | {"uniform": [0.60, 0.65, 0.61]})
    write_block(tmp_path, {"checkpoint(path='a.pt@1')": [0.65, 0.66, 0.70]}, external=True)
    found = study.read_study(tmp_path)
    (made,) = compare_sheets(found, "checkpoint(path='a.pt@1')", "default")
    assert made.notes[0].startswith("checkpoint(path='a.pt@1'): conditional on these weights")
    (other,) = compare_sheets(found, "uniform", "default")
    assert not any("conditional" in note for note in other.notes)


def test_equal_weights_under_two_seeds_are_withheld(tmp_path: Path) -> None:
    for seed, weights in enumerate(("w", "w", "v")):
        write_run(tmp_path, "default", 0.5, seed=seed, weights=weights)
        write_run(tmp_path, "uniform", 0.5, seed=seed)
    assert rows(study.read_study(tmp_path))["default"].role == "withheld"
    assert [note for note in notes(tmp_path) if "bit" in note] == [
        "Warning: Nothing is compared: default is withheld: seeds 0, 1 have the same weights, bit for bit: the seed is not in "
        "effect."
    ]


def test_a_withheld_control_is_said_in_every_row(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.60, 0.62], "uniform": [0.60, 0.65, 0.61], PLACEBO: [0.61, 0.61, 0.64]})
    (made,) = leaderboard_sheets(study.read_study(tmp_path))
    assert column(made, "vs default [95 %]") == {
        "uniform": "– untestable", "placebo": "– untestable", "default": "withheld"
    }  # fmt: skip
    assert any(note.startswith("Nothing is compared: default is withheld: no score for seed 2 (not run)") for note in made.notes)
    (pooled,) = pooled_sheets(study.read_study(tmp_path), "all")
    assert {row[0]: row[3] for row in pooled.rows} == {"uniform": "untestable", "placebo": "untestable"}
    assert pooled.notes[0].startswith("Nothing is compared: default is not complete in phantom-lung × unetr (no score for seed 2")


def test_no_legend_of_a_column_that_no_table_has(tmp_path: Path) -> None:
    write_block(tmp_path, {"uniform": [0.60, 0.62, 0.64], "xavier-normal": [0.65, 0.66, 0.70]})
    assert not any("vs default" in note for note in leaderboard_sheets(study.read_study(tmp_path))[0].legend)
    (pooled,) = pooled_sheets(study.read_study(tmp_path), "all")
    assert pooled.columns == ("initializer", "Dice", "mean rank", "first in", "collapsed")
    assert not any("Differences to" in note for note in pooled.notes)
    write_run(tmp_path, "default", 0.6)
    assert any(note.startswith("vs default: ") for note in leaderboard_sheets(study.read_study(tmp_path))[0].legend)


def test_what_lies_outside_the_shared_seeds_is_said(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS | {"uniform": [0.60, 0.65]})
    write_run(tmp_path, "default", 0.0, seed=3, status="diverged")
    found = study.read_study(tmp_path, scoring=Scoring(shared=True))
    note = "1 diverged run lies outside the shared seeds, where nothing is counted: default (seed 3)."
    assert note in leaderboard_sheets(found)[0].notes
    assert note in compare_sheets(found, "uniform", "default")[0].notes
    assert note in variance_sheets(found.tables)[0].notes
    for made in (*pooled_sheets(found, "all"), *variance.across(found.tables)):
        assert f"phantom-lung × unetr (perceptron): {note}" in made.notes
    assert not any("shared seeds" in line for line in notes(tmp_path))


def test_seeds_of_which_none_is_shared_are_said(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.60, 0.62]})
    for seed in (2, 3):
        write_run(tmp_path, "uniform", 0.6, seed=seed)
    (made,) = leaderboard_sheets(study.read_study(tmp_path, scoring=Scoring(shared=True)))
    assert "No seed has a score of every init: --shared-seeds changes nothing here." in made.notes


def test_mixed_environments_are_flagged(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "uniform", 0.5)
    assert not any("environments" in note for note in notes(tmp_path))
    write_run(tmp_path, "xavier-normal", 0.5, environment="e1")
    assert mixed(tmp_path) == "xavier-normal (seed 0)"
    found = study.read_study(tmp_path)
    [made] = compare_sheets(found, "xavier-normal", "default")
    assert [note for note in made.notes if note.endswith("makes them differ: xavier-normal (seed 0).")]
    [made] = compare_sheets(found, "uniform", "default")
    assert not [note for note in made.notes if "environments" in note]


def mixed(out: Path) -> str:
    """The rows of which the first leaderboard warns that they ran elsewhere; empty where it does not warn."""
    found = [note for note in notes(out) if "different environments" in note]
    return found[0].partition("differ: ")[2].removesuffix(".") if found else ""


def test_seeds_may_each_have_an_environment_of_their_own(tmp_path: Path) -> None:
    """All inits of a block and seed on one kind of device: it cancels in their differences."""
    for init in ("default", "uniform", "xavier-normal"):
        for seed, environment in enumerate(("e0", "e1", "e1")):
            write_run(tmp_path, init, 0.5, seed=seed, environment=environment)
    assert mixed(tmp_path) == ""
    for seed, environment in enumerate(("e1", "e1", "e2", "e3")):
        write_run(tmp_path, "orthogonal", 0.5, seed=seed, environment=environment)
    assert mixed(tmp_path) == "orthogonal (seeds 0, 2)", "seed 3 has no run beside it"
    write_run(tmp_path, "lsuv", 0.5, seed=1, environment="e1+e2")
    assert mixed(tmp_path) == "orthogonal (seeds 0, 2), lsuv (seed 1)"


def test_the_control_says_which_environment_is_another_one(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.5, 0.6, 0.4]}, environment="e1")
    write_block(tmp_path, {"uniform": [0.5, 0.6, 0.3], "lsuv": [0.4, 0.6, 0.5]})
    assert mixed(tmp_path) == "lsuv (seeds 0–2), uniform (seeds 0–2)"


def test_seeds_that_were_added_later_are_said_to_be(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.60, 0.62, 0.64], "uniform": [0.6, 0.63, 0.61]})
    folders = {init: sorted(tmp_path.glob(f"*/*/{init}-*/seed-*")) for init in ("default", "uniform")}

    def planned(init: str, seed: int) -> AskedRun:
        return AskedRun(init, {"init": init, "backbone": "unetr", "dataset": "lung", "seed": seed}, folders[init][seed])

    first = [planned(init, seed) for init in folders for seed in (0, 1)]
    write_asked(tmp_path, first)
    assert not any("Seeds were added" in note for note in notes(tmp_path))
    for path in (tmp_path / ".sweeps").iterdir():
        path.write_text(path.read_text("utf-8").replace('"asked": "20', '"asked": "10'), "utf-8")  # a thousand years ago
    write_asked(tmp_path, [*first, *(planned(init, 2) for init in folders)])
    (said,) = (note for note in notes(tmp_path) if "Seeds were added" in note)
    assert said.startswith("Seeds were added without a plan: 0–1 (10")
    assert ", then 2 (20" in said
    found = study.read_study(tmp_path)
    init = next(name for name in folders if name != "default")
    of_block = [compare_sheets(found, init, "default")[0], variance_sheets(found.tables)[0], class_sheets(found)[0]]
    assert all(said in made.notes for made in of_block)
    of_several = [*pooled_sheets(found, "all"), *variance.across(found.tables)]
    assert all(any(said in note for note in made.notes) for made in of_several)
    for made in (*leaderboard_sheets(found), *of_block, *of_several):
        assert {row["seeds_chosen"] for row in made.values} == {"added without a plan"}
    write_asked(tmp_path, first)  # the same command again is no new decision
    assert said in notes(tmp_path)
    assert words.seeds([0, 1, 2, 5, 7, 8]) == "0–2, 5, 7–8"


def test_a_changed_run_is_kept_off_and_named(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS)
    folder = write_run(tmp_path, "uniform", 0.6)
    (folder / store.CASES).write_text((folder / store.CASES).read_text("utf-8").replace("600", "900"), "utf-8")
    assert any(f"uniform: {folder} is kept off" in note for note in notes(tmp_path))
    assert rows(study.read_study(tmp_path))["uniform"].role == "withheld"


# --- the placebo --------------------------------------------------------------------------------------------------------


def test_a_placebo_is_a_row_that_costs_the_others_nothing(tmp_path: Path) -> None:
    scores = DEFAULTS | {"uniform": [0.61, 0.66, 0.63], "xavier-normal": [0.65, 0.66, 0.70]}
    write_block(tmp_path / "without", scores)
    write_block(tmp_path / "with", scores | {PLACEBO: [0.61, 0.61, 0.64]})
    without, with_ = rows(study.read_study(tmp_path / "without")), rows(study.read_study(tmp_path / "with"))
    for init, row in without.items():
        own = with_[init]
        assert (own.difference, own.rank, own.sd, own.dice.value) == (row.difference, row.rank, row.sd, row.dice.value)
    assert (with_[PLACEBO].role, with_[PLACEBO].rank) == ("placebo", None)
    item = with_[PLACEBO].difference
    assert item is not None
    assert (item.family.kind, item.family.size, item.p_adjusted) == ("placebo", 1, item.p)
    (made,) = leaderboard_sheets(study.read_study(tmp_path / "with"))
    assert column(made, "may be best")["placebo"] == column(made, "rank")["placebo"] == "–"
    (headline,) = (note for note in made.notes if note.startswith("Choosing the init"))
    assert headline in notes(tmp_path / "without")
    hidden = f"{item.estimate.high - item.estimate.value:.1f}"
    assert (
        f"The placebo, default drawn again ({PLACEBO}), comes out undecided. From these runs no difference below {hidden} points "
        "could have been told, so a smaller fault of the study would stay hidden."
    ) in made.notes


def test_a_placebo_that_wins_is_a_warning(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS | {PLACEBO: [0.80, 0.83, 0.84]})
    assert any(note.startswith(f"Warning: the placebo ({PLACEBO}) comes out better.") for note in notes(tmp_path))
    write_block(tmp_path, {"uniform": [0.60, 0.61, 0.65]})
    (other,) = leaderboard_sheets(study.read_study(tmp_path), against="uniform")
    assert not any("the placebo" in note or "The placebo" in note for note in other.notes)  # it is one of default alone
