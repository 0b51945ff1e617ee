"""Blocks of a study are pooled by what they share."""

from __future__ import annotations

from pathlib import Path

import pytest

from initbench.tables import study, variance
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.leaderboard_pooled import pooled_sheets
from tests.recorded import PLACEBO, write_block, write_run
from tests.tables.boards import DEFAULTS, column


def test_blocks_are_pooled_by_what_they_share(tmp_path: Path) -> None:
    for backbone in ("unetr", "unetrpp"):
        for dataset, more in (("phantom-lung", 0.0), ("lung", 0.1)):
            write_block(tmp_path, {"default": [0.5 + more, 0.52 + more, 0.57 + more]}, backbone=backbone, dataset=dataset)
            write_block(tmp_path, {"uniform": [0.51 + more, 0.53 + more, 0.56 + more]}, backbone=backbone, dataset=dataset)
    found = study.read_study(tmp_path)
    assert len(leaderboard_sheets(found)) == 4
    by = {name: pooled_sheets(found, name) for name in ("backbone", "dataset", "all")}  # type: ignore[arg-type]
    assert [made.title for made in by["backbone"]] == ["unetr (perceptron)", "unetrpp (perceptron)"]
    assert [made.title for made in by["dataset"]] == ["lung", "phantom-lung"]
    (whole,) = by["all"]
    values = {row["init"]: row for row in whole.values}
    assert values["uniform"]["difference"] == pytest.approx(100 / 300)  # (+1 +1 −1) / 3 in every block
    assert (values["uniform"]["dice"], values["uniform"]["blocks"]) == (pytest.approx(58 + 1 / 3), 4)
    assert values["uniform"]["first_in"] == 4
    assert any("Other data sets: Friedman's test needs three inits" in note for note in whole.notes)


def test_seed_sds_are_pooled_by_what_blocks_share(tmp_path: Path) -> None:
    """Under both protocols the runs of inits that learn nothing are the same ones; folds share training cases."""
    for backbone in ("unetr", "unetrpp"):
        write_block(tmp_path, DEFAULTS | {"uniform": [0.60, 0.65, 0.61], PLACEBO: [0.61, 0.61, 0.64]}, backbone=backbone)
        for protocol in ("equal-total", "equal-finetune"):
            write_block(tmp_path, {"lwi": [0.7, 0.75, 0.72]}, protocol=protocol, backbone=backbone)
    made = variance.across(study.read_study(tmp_path).tables)
    assert [sheet.values[0]["protocol"] for sheet in made] == ["equal-finetune", "equal-total"]
    for sheet_ in made:
        assert {row[0]: row[1] for row in sheet_.rows} == {"placebo": "2", "lwi": "2", "uniform": "2"}
    folds = tmp_path / "folds"
    for fold in ("fold 1/2", "fold 2/2"):
        write_block(folds, DEFAULTS | {"uniform": [0.60, 0.65, 0.61]}, split=fold)
    made = variance.across(study.read_study(folds).tables)
    assert [[row[:2] for row in sheet_.rows] for sheet_ in made] == [[("uniform", "1")], [("uniform", "1")]]
    assert ["fold 1/2" in sheet_.subtitle for sheet_ in made] == [True, False]


def test_a_placebo_has_no_place_among_pooled_schemes(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS | {"uniform": [0.60, 0.65, 0.63], PLACEBO: [0.81, 0.81, 0.84]})
    (made,) = pooled_sheets(study.read_study(tmp_path), "all")
    assert made.columns[-3:] == ("mean rank", "first in", "collapsed")
    assert {row[0]: row[-3:] for row in made.rows} == {
        "placebo": ("–", "–", "0/3 (up to 63 %)"),
        "default": ("2.0", "0/1", "0/3 (up to 63 %)"),
        "uniform": ("1.0", "1/1", "0/3 (up to 63 %)"),
    }


def test_pooled_tables_say_which_runs_diverged(tmp_path: Path) -> None:
    for backbone in ("unetr", "unetrpp"):
        write_block(tmp_path, DEFAULTS | {"uniform": [0.60, 0.65]}, backbone=backbone)
        write_run(tmp_path, "uniform", 0.0, seed=2, status="diverged", backbone=backbone)
    (made,) = pooled_sheets(study.read_study(tmp_path), "all")
    assert column(made, "collapsed") == {"default": "0/6 (up to 39 %)", "uniform": "2/6 (up to 73 %)"}
    assert {row["init"]: (row["diverged"], row["runs"]) for row in made.values} == {"default": (0, 6), "uniform": (2, 6)}
    assert any("diverged ones (which score 0) among them" in note for note in made.notes)


def test_a_row_that_is_left_out_says_where_and_why(tmp_path: Path) -> None:
    scores = [0.60, 0.65, 0.63]
    for backbone in ("unetr", "unetrpp", "swin-unetr"):
        write_block(tmp_path, DEFAULTS | {"uniform": scores}, backbone=backbone)
    write_block(tmp_path, {"lwi": scores}, backbone="unetr")
    for seed in range(3):
        write_run(tmp_path, "lwi", seed=seed, status="failed", backbone="swin-unetr")
    (made,) = pooled_sheets(study.read_study(tmp_path), "all")
    assert [row[0] for row in made.rows] == ["uniform", "default"]
    told = [note for note in made.notes if note.startswith("Left out")]
    assert told == [
        "Left out: lwi is not complete in phantom-lung × swin-unetr (0 of 3 seeds have a score, failed: planted), "
        "and in 1 other block."
    ]
