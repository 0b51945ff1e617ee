"""`run --until-decided`: plans are written down first, looks are taken in turn, and an interrupted study goes on as planned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from initbench.cli.groups import Study
from initbench.cli.looks import PlannedBlock, take_looks
from initbench.errors import UsageError
from initbench.harness.request import RunRequest
from initbench.runs import looks as module
from initbench.runs.looks import BlockPlan, fix_plan, new_plan, read_plans
from initbench.spec import parse
from initbench.stats.looks import levels

LOOKS = (3, 5, 10)
ROWS = ("default", "lwi")


def a_plan(looks: Sequence[int] = LOOKS, margin: float = 0.5, rows: Sequence[str] = ROWS) -> BlockPlan:
    """The plan of a block."""
    return new_plan(looks, levels(looks), margin, "default", rows, [f"cell-{row}" for row in ROWS])


def a_block(out: Path) -> PlannedBlock:
    """A block of two inits with its plan as it stands on disk."""
    requests = [
        RunRequest(parse(init), parse("unetr"), parse("phantom-lung"), seed, out=out) for seed in range(10) for init in ROWS
    ]
    return PlannedBlock("phantom-lung × unetr", fix_plan(out, a_plan()), tuple(requests))


class Runs:
    """Does runs on paper: notes how many seeds were asked for, and stops where it is told to."""

    def __init__(self, stops_at: int = 0) -> None:
        self.asked: list[int] = []
        self._stops_at = stops_at

    def __call__(self, wanted: Sequence[RunRequest]) -> bool:
        seeds = 1 + max(request.seed for request in wanted)
        self.asked.append(seeds)
        return seeds != self._stops_at


def never(plan: BlockPlan, seeds: int) -> list[str]:
    """Nothing is ever decided."""
    return ["lwi"]


def test_looks_are_taken_until_everything_is_decided(tmp_path: Path) -> None:
    runs = Runs()
    (found,) = take_looks(tmp_path, [a_block(tmp_path)], runs, lambda plan, seeds: [] if seeds == 5 else ["lwi"])
    assert runs.asked == [3, 5]
    assert found.plan.is_closed
    assert [look.seeds for look in found.plan.taken] == [3, 5]
    assert take_looks(tmp_path, [a_block(tmp_path)], runs, never)[0].plan == found.plan
    assert runs.asked == [3, 5]  # a closed block is looked at no more


def test_the_last_look_ends_a_study_that_nothing_decides(tmp_path: Path) -> None:
    runs = Runs()
    (found,) = take_looks(tmp_path, [a_block(tmp_path)], runs, never)
    assert runs.asked == [3, 5, 10]
    assert found.plan.is_closed


def test_blocks_end_each_for_itself(tmp_path: Path) -> None:
    one, other = a_block(tmp_path), a_block(tmp_path / "other")
    asked: list[int] = []

    def perform(wanted: Sequence[RunRequest]) -> bool:
        asked.append(len(wanted))
        return True

    take_looks(tmp_path, [one, other], perform, lambda plan, seeds: [] if len(asked) == 1 and plan is one.plan else ["lwi"])
    assert asked == [2 * 2 * 3, 2 * 5, 2 * 10]


def test_an_interrupted_look_is_resumed_at_its_own_level(tmp_path: Path) -> None:
    take_looks(tmp_path, [a_block(tmp_path)], Runs(stops_at=5), never)
    (plan,) = read_plans(tmp_path)
    assert [look.seeds for look in plan.taken] == [3]  # no look is taken at runs that are not all there
    runs = Runs()
    (found,) = take_looks(tmp_path, [a_block(tmp_path)], runs, never)
    assert runs.asked == [5, 10]
    assert found.plan.levels == plan.levels == levels(LOOKS)


@pytest.mark.parametrize("other", [a_plan((3, 10)), a_plan((4, 5, 10)), a_plan(margin=1.0), a_plan(rows=("default", "mae"))])
def test_a_plan_is_never_changed(tmp_path: Path, other: BlockPlan) -> None:
    known = fix_plan(tmp_path, a_plan())
    with pytest.raises(
        UsageError, match=r"looks at 3, 5, 10 seeds were planned, against default, margin 0\.5, rows default, lwi"
    ):
        fix_plan(tmp_path, other)
    assert read_plans(tmp_path) == [known]
    assert fix_plan(tmp_path, a_plan()) == known


def test_a_plan_that_is_changed_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: a look that is planned again after results were seen."""
    fix_plan(tmp_path, a_plan())
    monkeypatch.setattr(BlockPlan, "is_same_plan", lambda self, other: True)
    with pytest.raises(pytest.fail.Exception):
        test_a_plan_is_never_changed(tmp_path, a_plan((3, 10)))


def test_looks_are_taken_in_their_order_and_once(tmp_path: Path) -> None:
    plan = module.take(tmp_path, fix_plan(tmp_path, a_plan()), 3, ["lwi"])
    for seeds in (3, 10):
        with pytest.raises(ValueError, match="where the next one is at 5"):
            module.take(tmp_path, plan, seeds, [])


def test_a_plan_that_cannot_be_read_is_no_missing_plan(tmp_path: Path) -> None:
    fix_plan(tmp_path, a_plan())
    (path,) = (tmp_path / module.LOOKS).glob("*.json")
    path.write_text("{", "utf-8")
    with pytest.raises(UsageError, match="nobody knows which looks were planned"):
        read_plans(tmp_path)


@pytest.mark.parametrize(
    ("seeds", "until_decided", "message"),
    [
        ("3,5", False, "several numbers are planned looks, and go with --until-decided"),
        ("5", True, "--until-decided takes rising numbers of seeds"),
        ("5,3", True, "--until-decided takes rising numbers of seeds"),
        ("1,3", True, "--until-decided takes rising numbers of seeds"),
        (None, True, "--until-decided takes rising numbers of seeds"),
    ],
)
def test_numbers_of_seeds_that_are_no_plan(seeds: str | None, until_decided: bool, message: str) -> None:
    study = Study(init=["default,lwi"], backbone=["unetr"], seeds=seeds, until_decided=until_decided)
    with pytest.raises(UsageError, match=message):
        _ = (study.looks(), study.chosen())


def test_the_seeds_of_all_looks_are_planned() -> None:
    study = Study(init=["default,lwi"], backbone=["unetr"], seeds="3,5,10", until_decided=True)
    assert (study.looks(), study.chosen()) == ((3, 5, 10), list(range(10)))


def test_the_plans_of_a_site_are_collected(tmp_path: Path) -> None:
    plan = module.take(tmp_path / "site", fix_plan(tmp_path / "site", a_plan()), 3, ["lwi"])
    for _ in range(2):
        module.copy_plans(tmp_path / "out", tmp_path / "site")
    assert read_plans(tmp_path / "out") == [plan]
