"""The answer of a study in one sentence, in a block and over all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from initbench.stats.analysis import Analysis
from initbench.tables import words
from initbench.tables.answer import Answered, of_block, of_study
from initbench.tables.titles import title
from tests.recorded import PLACEBO
from tests.report.studies import content_of, write_pictured_run, write_study


def _asked(out: Path, shifts: Mapping[str, float] | None = None, **options: object) -> list[Answered]:
    if shifts is not None:
        write_study(out, dict(shifts), **{"seeds": 3, "curve": False, "slices": False, **options})  # type: ignore[arg-type]
    blocks = content_of(out).blocks
    return [Answered(title(block.table.block), block.found, tuple(row.standing for row in block.rows)) for block in blocks]


def _told(block: Answered, init: str) -> str:
    """The difference of an init to the control, as tables write it, and what the verdict depends on."""
    assert isinstance(block.found, Analysis)
    (item,) = (item for item in block.found.comparison.differences if item.first == init)
    return f"{words.difference(item.estimate)}{item.says.removeprefix(item.verdict)}"


def test_a_block_names_the_inits_that_are_better_or_worse_and_counts_the_others(tmp_path: Path) -> None:
    (block,) = _asked(tmp_path, {"default": 0.0, "lwi": 0.1, "mae": -0.1, "tube": 0.0, PLACEBO: 0.0})
    better, worse = _told(block, "lwi"), _told(block, "mae")
    assert better.endswith(" where it does not collapse (0/3; up to 63 %)")
    assert of_block(block) == f"lwi ({better}) is better than default; mae ({worse}) is worse; 1 undecided."
    assert of_study([block], "default") == of_block(block)


def test_a_block_without_a_difference_says_so(tmp_path: Path) -> None:
    (block,) = _asked(tmp_path, {"default": 0.0, "mae": 0.0, "tube": 0.0})
    assert of_block(block) == "No init is shown to be better or worse than default: 2 undecided."


def test_many_better_inits_are_listed_with_how_many_more_there_are(tmp_path: Path) -> None:
    (block,) = _asked(tmp_path, {"default": 0.0, "lwi": 0.2, "mae": 0.15, "tube": 0.13, "order": 0.11, "images": 0.09})
    said = of_block(block)
    assert said.startswith(f"lwi ({_told(block, 'lwi')}), mae (")
    assert said.endswith(") and 2 more are better than default.")


@pytest.mark.parametrize(
    ("shifts", "seeds", "said"),
    [
        ({"default": 0.0}, 3, "Nothing is compared: no other init than default has all its runs."),
        ({"default": 0.0, "mae": 0.01}, 1, "No init can be compared with default: "),
        ({"mae": 0.1, "tube": 0.0}, 3, "The two inits differ; mae has the highest Dice."),
        ({"mae": 0.0}, 3, "Nothing is compared: there is one init."),
        ({"mae": 0.0, "tube": 0.0}, 3, "No two inits are shown to differ (1 pair)."),
        ({"mae": 0.1, "tube": 0.0, "order": -0.1}, 3, "3 of 3 pairs of inits differ; mae has the highest Dice."),
    ],
)
def test_a_block_that_lacks_something_says_what(tmp_path: Path, shifts: Mapping[str, float], seeds: int, said: str) -> None:
    (block,) = _asked(tmp_path, shifts, seeds=seeds)
    assert of_block(block).startswith(said)


def test_a_withheld_control_is_named(tmp_path: Path) -> None:
    write_study(tmp_path, {"default": 0.0}, seeds=2)
    (block,) = _asked(tmp_path, {"mae": 0.0, "tube": 0.0})
    assert of_block(block) == (
        "No init can be compared with default: no score for seed 2 (not run): run again, or compare the seeds that all inits "
        "have."
    )


def test_a_study_says_in_how_many_blocks_nothing_differs_and_names_what_does(tmp_path: Path) -> None:
    write_study(tmp_path, {"default": 0.0, "lwi": 0.1}, seeds=3, backbone="unetrpp", variant="default")
    blocks = _asked(tmp_path, {"default": 0.0, "lwi": 0.0})
    (told,) = (block for block in blocks if "unetrpp" in block.name)
    assert of_study(blocks, "default") == (
        "No init is shown to be better or worse than default in 1 of 2 blocks; "
        f"lwi is better on phantom-lung × unetrpp, {_told(told, 'lwi')}."
    )


def test_a_study_with_many_differences_counts_them(tmp_path: Path) -> None:
    for backbone in ("unetrpp", "unet"):
        write_study(tmp_path, {"default": 0.0, "mae": 0.1, "tube": -0.1}, seeds=3, backbone=backbone)
    write_pictured_run(tmp_path, "tube", backbone="nnformer")
    blocks = _asked(tmp_path)
    assert of_study(blocks, "default") == (
        "mae is better in 2 blocks; tube is worse in 2 blocks; nothing is compared with default in 1 of 3 blocks."
    )
