"""Each chart shows the numbers of the study: forest, dots, sources, places, curves, cost, heat map, overlays."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from initbench.report import curves, page
from initbench.report.content import assemble
from initbench.report.cost import cost
from initbench.report.curves import sampled
from initbench.report.forest import differences, forest
from initbench.report.heat import heat, telling
from initbench.report.overlays import overlays
from initbench.report.places import places
from initbench.report.sources import sources
from initbench.report.strips import strips, swarm
from initbench.stats.analysis import Analysis
from initbench.stats.components import Components
from initbench.tables import leaderboard, study, words
from initbench.tables.variance import SOURCES, variance_sheets
from tests.html_page import across, elements, figures, read
from tests.report.studies import NOW, change_cases, change_run, content_of, only, write_curve, write_pictured_run, write_study


def test_the_forest_has_the_intervals_and_verdicts(whole: Path) -> None:
    block = content_of(whole).blocks[1]
    assert isinstance(block.found, Analysis)
    reference, items = differences(block, block.found)
    assert reference == "default"
    expected = {item.first: item for item in block.found.comparison.differences}
    assert {item.row.init: (item.estimate, item.verdict) for item in items} == {
        init: (item.estimate, item.verdict) for init, item in expected.items()
    }
    drawn = elements(forest(block, 0.5).drawing)
    tips = {item.attributes.get("data-tip") for item in drawn}
    said = [item.text for item in drawn if item.attributes.get("class") == "words"]
    for item, told in zip(items, said, strict=True):
        difference = words.difference(item.estimate)
        assert f"{item.row.init}: {difference}, {item.says}" in tips
        assert item.verdict in ("better", "worse", "undecided", "equivalent")
        assert told == f"{difference} {item.verdict}"
    assert [item.estimate.value for item in items] == sorted((item.estimate.value for item in items), reverse=True)


@pytest.mark.parametrize(("shift", "word"), [(0.003, "equivalent +"), (-0.003, "equivalent −")])
def test_equivalent_but_not_0_has_a_short_word_beside_its_mark(tmp_path: Path, shift: float, word: str) -> None:
    for seed in range(4):  # one voxel of a thousand more or less, by the seed
        for init, more in (("default", seed % 2), ("mae", seed // 2 + round(1000 * shift))):
            tp = np.arange(600, 612) + more
            own = {"tp": tp, "fp": 1000 - tp, "fn": 1000 - tp, "dice": tp / 1000}
            change_run(write_pictured_run(tmp_path, init, seed=seed), lambda table, own=own: table.assign(**own))
    block = only(tmp_path)
    assert isinstance(block.found, Analysis)
    _, (item,) = differences(block, block.found)
    drawing = str(forest(block, 0.5).drawing)
    assert item.verdict == ("equivalent, but above 0" if shift > 0 else "equivalent, but below 0")
    assert f">{word}</span>" in drawing
    assert item.verdict in drawing  # in full where the pointer is


def test_a_block_without_default_is_compared_with_its_best(tmp_path: Path) -> None:
    write_study(tmp_path, {"mae": 0.05, "tube": 0.0, "order": -0.05})
    block = only(tmp_path)
    assert isinstance(block.found, Analysis)
    reference, items = differences(block, block.found)
    assert reference == "mae"
    assert [(item.row.init, item.verdict) for item in items] == [("tube", "worse"), ("order", "worse")]
    for item in items:
        assert item.estimate.low < item.estimate.value < item.estimate.high < 0
    assert "The block has no default: compared with its best init, mae" in forest(block, 0.5).caption
    assert "verdict" not in [column.key for column in page.cells.columns(block)]


def test_an_interval_that_leaves_the_plot_goes_on_as_an_arrow(tmp_path: Path) -> None:
    write_study(tmp_path, {"default": 0.0, "mae": 0.0, "tube": 0.0})
    write_pictured_run(tmp_path, "order", seed=0, status="diverged")
    for seed in range(1, 4):
        write_pictured_run(tmp_path, "order", seed=seed)
    drawn = elements(forest(only(tmp_path), 0.5).drawing)
    assert len([item for item in drawn if item.tag == "path" and item.attributes.get("class") == "whisker"]) == 2


def test_every_run_is_a_dot_and_a_diverged_one_a_cross(whole: Path) -> None:
    block = content_of(whole).blocks[0]
    drawn = elements(strips(block).drawing)
    kinds = [item.attributes["class"] for item in drawn if "dot" in item.attributes.get("class", "").split()]
    assert kinds.count("dot cross") == 1
    assert kinds.count("dot hollow") == 1  # the one run of the init that lacks another
    assert kinds.count("dot") == 4 + 4 + 3
    assert "✕: a run that diverged" in strips(block).caption
    tips = [item.attributes["data-tip"] for item in drawn if "data-tip" in item.attributes]
    (run,) = (run for row in block.rows if row.init == "mae" for run in row.runs if run.seed == 2)
    assert f"mae, seed 2: {run.dice:.1f}" in tips


def test_dots_and_means_are_of_the_scores_that_are_compared(tmp_path: Path) -> None:
    write_study(tmp_path, {"default": 0.0}, seeds=5)
    write_study(tmp_path, {"mae": 0.02}, seeds=3)
    found = assemble(study.read_study(tmp_path, scoring=study.Scoring(shared=True)), "default", 0.5, NOW)
    (block,) = found.blocks
    row = next(row for row in block.rows if row.init == "default")
    assert [run.counted for run in row.runs] == [True, True, True, False, False]
    kinds = [item.attributes.get("class") for item in elements(strips(block).drawing)]
    assert kinds.count("dot hollow") == 2
    assert "other inits lack its seed" in strips(block).caption
    assert np.mean([run.dice for run in row.runs if run.counted]) == pytest.approx(row.standing.dice.value)
    assert f"default: mean {row.standing.dice.value:.1f} in" in str(cost(found.families[0]).drawing)


def test_dots_follow_the_classes_that_count(tmp_path: Path) -> None:
    write_study(tmp_path, {"default": 0.0, "mae": 0.02}, seeds=2)
    other = {"class": 2, "class_name": "other", "tp": 500, "fp": 500, "fn": 500}
    change_cases(tmp_path, lambda table: pd.concat([table, table.assign(**other)]))
    found = assemble(study.read_study(tmp_path, scoring=study.Scoring(classes=("other",))), "default", 0.5, NOW)
    assert {run.dice for row in found.blocks[0].rows for run in row.runs} == {50.0}


def test_dots_of_equal_runs_do_not_hide_each_other() -> None:
    shifts = swarm([100.0, 100.0, 100.0, 101.0, 300.0], 4.0, 9.0)
    assert shifts[4] == 0.0
    assert len({round(shift, 6) for shift in shifts[:4]}) == 4
    assert max(map(abs, shifts)) <= 9.0


def test_sources_are_told_by_name_with_what_they_leave_in_a_mean(whole: Path, html: str) -> None:
    """A chart for each source, with a line for each block; the numbers are those of `variance`."""
    (figure,) = figures(read(html), "sources")
    charts = dict(zip([item.text for item in figure.all("p", "heading")], figure.all("div", "lines"), strict=True))
    assert list(charts) == list(SOURCES.values())
    blocks = content_of(whole).blocks
    for number, (block, made) in enumerate(zip(blocks, variance_sheets(study.read_study(whole).tables), strict=True)):
        assert isinstance(block.found, Analysis)
        assert isinstance(block.found.components, Components)
        left = block.found.components.left_in_mean()
        assert [row[-1] for row in made.rows] == [words.sd(part) for part in left.values()]
        for name, part in left.items():
            line = [item for item in charts[SOURCES[name]].all("div", "line") if "data-dataset" in item.attributes][number]
            (mark,) = line.all("circle")
            assert mark.attributes["data-tip"] == f"{SOURCES[name]}: SD {words.sd(part)} points in the mean of an init"


def test_the_sources_of_one_block_stand_in_one_chart(tmp_path: Path) -> None:
    block = only(write_study(tmp_path, {"default": 0.0, "mae": 0.02}))
    drawn = elements(sources([block], ["block"]).drawing)
    names = filter(lambda item: item.attributes.get("class") == "name", drawn)
    for item, name in zip(names, SOURCES.values(), strict=True):
        assert item.text == name


def test_the_chart_of_places_holds_the_ranks(whole: Path) -> None:
    block = content_of(whole).blocks[1]
    assert isinstance(block.found, Analysis)
    assert not isinstance(block.found.ranking, leaderboard.Refused)
    drawn = elements(places(block).drawing)
    tips = [item.attributes["data-tip"] for item in drawn if item.attributes.get("class") == "dot"]
    expected = []
    for item in block.found.ranking:
        said = f"{item.low}" if item.low == item.high else f"{item.low} to {item.high}"
        expected.append(f"{item.init}: rank {item.rank:g} by Dice, may have place {said}")
    assert tips == expected
    lines = [item for item in drawn if item.attributes.get("class") == "whisker"]
    ticks = {item.text: across(item, "x") for item in drawn if item.attributes.get("class") == "tick"}
    for line, item in zip(lines, block.found.ranking, strict=True):
        assert across(line, "x1") == pytest.approx(ticks[str(item.low)], abs=0.1)
        assert across(line, "x2") == pytest.approx(ticks[str(item.high)], abs=0.1)


def test_training_begins_on_the_clock_where_the_init_stage_ends(whole: Path) -> None:
    block = content_of(whole).blocks[2]
    (row,) = (row for row in block.rows if row.init == "lwi")
    curve = curves._curve(row.runs[0], 60, 4096)
    assert set(curve.stages) == {"pretext", "train"}
    pretext, train = (curve.stages[name].along("time") for name in ("pretext", "train"))
    assert pretext[-1, 0] == pytest.approx(30.0)
    assert 30.0 < train[0, 0] < 32.0
    assert train[-1, 0] == pytest.approx(100.0 + 30.0, abs=1.0)
    assert pretext[0, 1] == pytest.approx(5.0)
    assert curve.stages["train"].along("steps")[-1, 0] == pytest.approx(118.5)
    assert "loss of the init stage" in str(curves.curves(block).drawing)
    (other,) = (row for row in block.rows if row.init == "default")
    assert set(curves._curve(other.runs[0], 60, 4096).stages) == {"train"}


def test_dice_over_steps_says_what_it_is_and_how_many_steps_inits_take(tmp_path: Path) -> None:
    write_study(tmp_path, {"default": 0.0, "mae": 0.1, "tube": -0.2}, seeds=3, looks=True)
    figure = curves.curves(only(tmp_path))
    assert "Dice of 2 reported cases, looked at after the end, used for no choice." in figure.caption
    drawn = read(str(figure.drawing))
    over_steps, over_time = drawn.all("div", "by-steps"), drawn.all("div", "by-time")
    for form in (*over_steps, *over_time):
        dice, loss = form.all("div", "plane")
        assert dice.text.startswith("Dice of the cases looked at (points)")
        assert "loss" in loss.text
        for group, init in zip(dice.all("g", "init"), ("mae", "default", "tube"), strict=True):
            assert group.attributes["data-init"] == init
    (table,) = drawn.all("table", "steps")
    _, *rows = table.all("tr")
    for row, said in zip(rows, ("mae 120", "default 180", "tube not reached in 3/3"), strict=True):
        assert row.text == said
    assert not list(read(str(curves.curves(only(tmp_path), looks=False).drawing)).all("table"))


def test_of_a_long_curve_little_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "curve.csv"
    write_curve(file, 90_000, 20_000)
    sizes: list[int] = []
    opened = Path.open

    def counting(path: Path, *arguments: Any, **options: Any) -> Any:
        handle = opened(path, *arguments, **options)
        original = handle.read
        handle_read: Callable[[int], bytes] = lambda count=-1: (sizes.append(len(found := original(count))), found)[1]  # noqa: E731
        wrapped = _Wrapped(handle, handle_read)
        return wrapped

    monkeypatch.setattr(Path, "open", counting)
    found = sampled(file, 50)
    assert sum(sizes) < 0.1 * file.stat().st_size
    train = found["train"]
    assert 30 <= len(train) <= 50
    assert np.all(np.diff(train[:, 0]) > 0)
    assert train[:, 1] == pytest.approx(2 * np.exp(-3 * train[:, 0] / 90_000), rel=0.01)
    assert 5 <= len(found["pretext"]) <= 50


class _Wrapped:
    def __init__(self, handle: Any, read: Callable[[int], bytes]) -> None:
        self.handle, self.read = handle, read

    def __enter__(self) -> _Wrapped:
        self.handle.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.handle.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.handle, name)


def test_a_short_curve_is_averaged_over_neighbours(tmp_path: Path) -> None:
    write_curve(tmp_path / "c.csv", 120)
    found = sampled(tmp_path / "c.csv", 60)["train"]
    loss = 2 * np.exp(-3 * np.arange(120) / 120)
    assert found[:, 0] == pytest.approx(np.arange(0.5, 120, 2))
    assert found[:, 1] == pytest.approx(loss.reshape(60, 2).mean(1))


@pytest.mark.parametrize("text", ["", "stage,step,loss\n", "a,b\n1,2\n", "stage,step,loss\ntrain,0,nan\ntrain,x,1\ntrain\n"])
def test_a_curve_that_is_no_curve_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.csv").write_text(text, "utf-8")
    assert sampled(tmp_path / "c.csv", 10) == {}
    assert sampled(tmp_path / "none.csv", 10) == {}


def test_cost_says_on_what_and_shows_both_protocols(whole: Path) -> None:
    hippocampus, phantom = content_of(whole).families
    assert "Time of a run on the GPU" in cost(hippocampus).caption
    assert "time of a run on the GPU (" in str(cost(hippocampus).drawing)
    assert "Time of a run on the CPU" in cost(phantom).caption
    drawn = elements(cost(phantom).drawing)
    (plane,) = read(str(cost(phantom).drawing)).all("div", "plane")
    assert {"lwi, equal-total", "lwi, equal-finetune", "default"} <= {item.text for item in plane.all("li")}
    large = [item.attributes["class"] for item in drawn if "large" in item.attributes.get("class", "").split()]
    # default, placebo, kaiming-normal, checkpoint once each; lwi under both protocols, of which one is hollow.
    assert sorted(large) == ["dot hollow large", *5 * ["dot large"]]
    assert "Hollow: equal-finetune." in cost(phantom).caption


def test_the_heat_map_has_the_telling_cases_first(whole: Path) -> None:
    block = content_of(whole).blocks[1]
    found = telling(block, 5)
    assert found is not None
    y = block.table.y[[block.number(row) for row in found.rows]]
    reach = np.ptp(y.mean(1), axis=0)
    assert found.reach == pytest.approx(np.sort(reach)[::-1][:5])
    assert [block.table.cases.index(case) for case in found.names] == list(np.argsort(-reach, kind="stable")[:5])
    case = block.table.cases.index(found.names[0])
    assert found.mean[0] == pytest.approx(y[:, :, case].mean(1))
    assert found.sd[0] == pytest.approx(y[:, :, case].std(1, ddof=1))
    figure = heat(block, 5)
    assert "The 5 of 12 cases that tell the inits apart best" in figure.caption
    assert f"{found.names[0]}, {found.rows[0].init}: mean Dice {found.mean[0, 0]:.1f}" in str(figure.drawing)


def test_a_diverged_run_does_not_decide_which_cases_are_shown(whole: Path) -> None:
    block = content_of(whole).blocks[0]
    found = telling(block, 12)
    assert found is not None
    assert {found.rows[k].init for k in found.steady} == {"default", "mae"}
    assert "leave out inits with diverged runs" in heat(block, 12).caption


def test_many_cases_are_cut_to_what_can_be_read(tmp_path: Path) -> None:
    write_study(tmp_path, {"default": 0.0, "mae": 0.01}, seeds=2, cases=90, curve=False, slices=False)
    figure = heat(only(tmp_path))
    assert "The 60 of 90 cases" in figure.caption
    assert str(figure.drawing).count('<th scope="row"') == 2 * 60  # mean Dice, and the SD over seeds
    assert str(figure.drawing).count("<table>") == 2 * 3  # in parts that fit on paper


def test_overlays_show_the_same_run_of_every_init(whole: Path) -> None:
    block = content_of(whole).blocks[1]
    figure = overlays(block, {1: "nodule"})
    assert "runs of seed 0" in figure.caption
    drawn = str(figure.drawing)
    assert drawn.count("data:image/png;base64,") == 3  # an image a case, shown again in every panel
    assert drawn.count('<use href="#slice-') == 3 * (1 + len(block.complete))
    assert "nodule" in drawn
    found = telling(block, 3)
    assert found is not None
    seed = block.table.seeds[0].index(0)
    for case in found.names:
        index = block.table.cases.index(case)
        for number in range(len(block.complete)):
            assert f">{block.table.y[number, seed, index]:.1f}<" in drawn


def test_an_outline_lies_on_the_edges_of_its_voxels(tmp_path: Path) -> None:
    write_study(tmp_path, {"default": 0.0, "mae": 0.0}, seeds=2)
    drawn = str(overlays(only(tmp_path), {}).drawing)
    (d,) = set(re.findall(r'<path d="([^"]*)" class="outline reference"', drawn))
    numbers = np.array(re.findall(r"[\d.]+", d), float).reshape(-1, 2)
    # Rows 8 to 20 of 30 from below, columns 5 to 14 of 20 from the right; outlines cut corners by half a voxel at most.
    assert numbers.min(0) == pytest.approx([6.0, 10.0], abs=0.5)
    assert numbers.max(0) == pytest.approx([15.0, 22.0], abs=0.5)


def test_overlays_are_marked_where_a_record_says_which_axis_the_slices_are_along(tmp_path: Path) -> None:
    for depth, plane, letters in (("z", "Axial", "RLAP"), ("x", "Sagittal", "APSI"), ("", "", "")):
        out = tmp_path / (depth or "unknown")
        write_study(out, {"default": 0.0, "mae": 0.0}, seeds=2, preprocess={"depth_axis": depth} if depth else {})
        figure = overlays(only(out), {})
        assert ("radiological view" in figure.caption) == bool(depth)
        assert plane in figure.caption
        found = re.findall(r'<span class="side (\w+)">(\w)</span>', str(figure.drawing))
        panels = 3 * (1 + 2)
        assert found == panels * list(zip(("left", "right", "top", "bottom"), letters, strict=False))


def test_only_the_first_blocks_of_a_large_study_have_pictures(whole: Path) -> None:
    assert "Left out" in overlays(content_of(whole).blocks[0], {}, 0).caption
