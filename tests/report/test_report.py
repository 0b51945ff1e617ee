"""The report: its numbers are those of the statistics, nothing from outside becomes markup, no study leaves a broken chart."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from initbench.report import curves, page, svg
from initbench.report.content import Block, Content, assemble
from initbench.report.cost import cost
from initbench.report.curves import sampled
from initbench.report.forest import differences, forest
from initbench.report.heat import heat, telling
from initbench.report.overlays import overlays
from initbench.report.places import places
from initbench.report.protocols import pairs
from initbench.report.strips import strips, swarm
from initbench.runs import store
from initbench.stats.analysis import Analysis, analyse
from initbench.stats.components import Components
from initbench.tables import leaderboard, study, words
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.variance import SOURCES, variance_sheets
from tests.commands import said
from tests.recorded import write_run

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
PLACEBO = "default(construct='other')"
EVIL = "<script>alert(1)</script>\"'&"
CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")


# --- runs -------------------------------------------------------------------------------------------------------------


def write(
    out: Path,
    init: str,
    shift: float = 0.0,
    *,
    seed: int = 0,
    cases: int = 12,
    names: str = "case_{:02d}",
    curve: bool = True,
    slices: bool = True,
    gpu: bool = False,
    pretext: float = 0.0,
    **options: Any,
) -> Path:
    """A run with cases of known Dice, a curve, slices, and where asked for an init stage of so many seconds."""
    rng = np.random.default_rng([seed, cases, *init.encode()])
    total = 100.0 + seed + pretext
    reported = [names.format(k) for k in range(cases)]
    folder = write_run(out, init, 0.7 + shift, seed=seed, seconds=(pretext, total), reported_cases=reported, **options)
    record = store.read_record(folder)
    assert record is not None
    if record["status"] == "failed":
        return folder
    hard = np.random.default_rng(3).normal(0, 0.05, cases)
    found = np.clip(0.7 + shift + hard + rng.normal(0, 0.006) + rng.normal(0, 0.01, cases), 0, 1)
    if record["status"] == "diverged":
        found = np.zeros(cases)
    tp = np.round(1000 * found).astype(int)
    table = pd.DataFrame({"case": reported, "class": 1, "class_name": "nodule", "tp": tp})
    table.assign(fp=1000 - tp, fn=1000 - tp, dice=tp / 1000, hd95_mm=None, nsd=None).to_csv(folder / store.CASES, index=False)
    record["dice"] = float(np.mean(tp / 1000))
    record["cost"]["init"]["steps"] = 20 if pretext else 0
    record["environment"] |= {"accelerator": "a GPU" if gpu else None, "git": {"commit": f"c0ffee{seed}", "dirty": False}}
    if curve:
        write_curve(folder / store.CURVE, 120, 20 if pretext else 0)
    if slices:
        write_slices(folder / store.SLICES, list(table["case"]), seed + len(init))
    store.write_json(folder / store.RECORD, store.seal({k: v for k, v in record.items() if k != "digest"}, folder))
    return folder


def change_cases(out: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Other counts in all runs, sealed again."""
    for folder in store.find_runs(out):
        change_run(folder, change)


def change_run(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Other counts in one run, sealed again."""
    change(pd.read_csv(folder / store.CASES)).to_csv(folder / store.CASES, index=False)
    record = store.read_record(folder)
    assert record is not None
    store.write_json(folder / store.RECORD, store.seal({k: v for k, v in record.items() if k != "digest"}, folder))


def write_curve(path: Path, steps: int, pretext: int = 0) -> None:
    lines = ["stage,step,lr,loss,dice,ce"]
    lines += [f"pretext,{k},0.1,{5 - k / 10},," for k in range(pretext)]
    lines += [f"train,{k},0.001,{2 * math.exp(-3 * k / steps)!r},0.5,0.5" for k in range(steps)]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def write_slices(path: Path, cases: list[str], turn: int) -> None:
    image = np.arange(30 * 20, dtype=np.uint32).reshape(30, 20) % 251
    reference, prediction = np.zeros((2, 30, 20), np.uint8)
    reference[8:20, 5:14], prediction[8 : 20 - turn % 4, 5:14] = 1, 1
    planes = np.stack([image.astype(np.uint8), reference, prediction])
    np.savez_compressed(path, allow_pickle=False, **{f"{store.SLICE_KEY}{case}": planes for case in cases})


def write_study(out: Path, shifts: dict[str, float], seeds: int = 4, **options: Any) -> Path:
    for init, shift in shifts.items():
        for seed in range(seeds):
            write(out, init, shift, seed=seed, **options)
    return out


def write_whole(out: Path) -> Path:
    """A study that has everything: two data sets, both protocols, a placebo, diverged and failed runs, weights from outside."""
    write_study(out, {"default": 0.0, PLACEBO: 0.0, "kaiming-normal": -0.06, "checkpoint": 0.03})
    for protocol, shift in (("equal-total", 0.01), ("equal-finetune", 0.05)):
        for seed in range(4):
            write(out, "lwi", shift, seed=seed, pretext=30.0, protocol=protocol)
    write_study(out, {"default": 0.0, "mae": 0.02}, dataset="hippocampus", gpu=True)
    write(out, "uniform", seed=0, status="diverged", dataset="hippocampus", gpu=True)
    for seed in range(1, 4):
        write(out, "uniform", seed=seed, dataset="hippocampus", gpu=True)
    write(out, "order", seed=0, dataset="hippocampus", gpu=True)
    write(out, "order", seed=1, dataset="hippocampus", status="failed")
    return out


def content_of(out: Path, **options: Any) -> Content:
    return assemble(study.read_study(out), options.get("against", "default"), 0.5, NOW)


def only(out: Path) -> Block:
    (block,) = content_of(out).blocks
    return block


def html_of(out: Path, file: Path | None = None) -> str:
    file = file or out.parent / "report.html"
    page.write(study.read_study(out), file, now=NOW)
    return file.read_text("utf-8")


# --- what is on the page ----------------------------------------------------------------------------------------------


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def all(self, tag: str, class_: str = "") -> Iterator[Element]:
        for child in self.children:
            if child.tag == tag and (not class_ or class_ in child.attributes.get("class", "").split()):
                yield child
            yield from child.all(tag, class_)

    @property
    def text(self) -> str:
        return " ".join(" ".join([*self.said, *(child.text for child in self.children)]).split())


class Reader(HTMLParser):
    """The page as browsers see it: elements, attributes, text; scripts and styles are text."""

    EMPTY = ("meta", "input", "img", "br", "link", "hr")

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.top = Element("", {})
        self.open = [self.top]
        self.feed(html)
        self.close()
        assert [item.tag for item in self.open] == [""], "elements are left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = Element(tag, {key: value or "" for key, value in attrs})
        assert len(found.attributes) == len(attrs), "an attribute twice"
        self.open[-1].children.append(found)
        if tag not in self.EMPTY:
            self.open.append(found)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"{tag} closes {self.open[-1].tag}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].said.append(data)


def read(html: str) -> Element:
    return Reader(html).top


def rows(document: Element, table: str) -> dict[str, dict[str, Element]]:
    """Cells of a leaderboard by init and column."""
    (found,) = (item for item in document.all("table") if item.attributes.get("id") == f"{table}-board")
    made = {}
    for row in next(found.all("tbody")).all("tr"):
        cells = [child for child in row.children if child.tag in ("td", "th")]
        made[row.attributes["data-init"]] = {
            next((name[2:] for name in cell.attributes.get("class", "").split() if name.startswith("c-")), cell.tag): cell
            for cell in cells
        }
    return made


def figures(document: Element, name: str) -> list[Element]:
    return list(document.all("figure", name))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whole(tmp_path_factory.mktemp("whole") / "runs")


@pytest.fixture(scope="module")
def html(whole: Path) -> str:
    return html_of(whole)


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_the_leaderboards_hold_the_numbers_of_the_statistics(whole: Path, html: str) -> None:
    document = read(html)
    tables = study.read_study(whole).tables
    assert len(tables) == 3
    for number, table in enumerate(tables):
        found = analyse(table)
        assert isinstance(found, Analysis)
        shown = rows(document, f"b{number}")
        assert set(shown) == {*table.inits, *(item.init for item in table.withheld)}
        differences = {item.first: item for item in found.comparison.differences}
        assert not isinstance(found.ranking, leaderboard.Refused)
        ranks = {item.init: item for item in found.ranking}
        for item in found.inits:
            cells = shown[item.init]
            assert float(cells["dice"].attributes["data-v"]) == item.mean.value
            assert cells["dice"].text == f"{item.mean.value:.1f}"
            assert f"{item.mean.value:.1f} {cells['interval'].text}" == words.dice(item.mean)
            assert float(cells["sd"].attributes["data-v"]) == item.run_sd.value
            assert cells["sd"].text == words.sd(item.run_sd)
            assert cells["diverged"].text == f"{item.diverged}/{item.seeds}"
            if item.init in differences:
                one = differences[item.init]
                assert float(cells["difference"].attributes["data-v"]) == one.estimate.value
                assert cells["difference"].text == words.difference(one.estimate)
                assert cells["verdict"].text == one.verdict
            assert ("difference" in cells) == ("verdict" in cells)
            if item.init in ranks:
                rank = ranks[item.init]
                assert cells["rank"].text == words.place(rank.rank, rank.low, rank.high)
                assert float(cells["rank"].attributes["data-v"]) == rank.rank
                assert cells["best"].text == ("yes" if rank.low == 1 else "no")
            else:
                assert cells["best"].text == cells["rank"].text == "–"


def test_the_headline_of_a_block_is_that_of_the_leaderboard(whole: Path, html: str) -> None:
    said = [item.text for item in read(html).all("p", "headline")]
    assert said == [made.notes[0] for made in leaderboard_sheets(study.read_study(whole))]
    assert all("an SD of " in line for line in said)


def test_the_overview_counts_who_may_be_best(whole: Path, html: str) -> None:
    (table,) = (item for item in read(html).all("table") if item.attributes.get("id") == "overview")
    shown = [[cell.text for cell in row.children] for row in next(table.all("tbody")).all("tr")]
    for cells, block in zip(shown, content_of(whole).blocks, strict=True):
        places_ = [row.standing.rank for row in block.rows if row.standing.rank is not None]
        able = [place for place in places_ if place.may_be_best]
        assert cells[-1] == f"{len(able)} of {len(places_)}"
        assert cells[-2] == words.dice(block.rows[0].standing.dice)


def test_rows_come_best_first_and_withheld_ones_say_why(whole: Path, html: str) -> None:
    shown = rows(read(html), "b0")
    assert list(shown)[-1] == "order"
    assert "no score for seed 1 (failed)" in shown["order"]["reason"].text
    assert "dice" not in shown["order"]
    values = [float(cells["dice"].attributes["data-v"]) for cells in shown.values() if "dice" in cells]
    assert values == sorted(values, reverse=True)


def test_the_head_says_what_the_report_is_of(html: str) -> None:
    header = next(read(html).all("header")).text
    for text in (
        "hippocampus, phantom-lung × unetr",
        "2026-01-02 03:04 UTC by initbench",
        "new seeds and new cases, for this training set",
        "reference-mask",
        "38 (36 ok, 1 diverged, 1 failed)",
        "±0.5 Dice points",
    ):
        assert text in header


def test_rows_are_labelled_for_what_they_are(whole: Path, html: str) -> None:
    shown = rows(read(html), "b1")
    badges = {init: [badge.text for badge in cells["th"].all("span", "badge")] for init, cells in shown.items()}
    assert badges[PLACEBO] == ["placebo"]
    assert badges["checkpoint"] == ["external weights"]
    assert badges["default"] == []
    assert badges["lwi"] == ["equal-finetune"]
    notes = " ".join(item.text for item in read(html).all("ul", "notes"))
    assert "checkpoint: conditional on these weights, one draw for all seeds; external data" in notes
    assert "order: 1 failed run is missing" in notes


def test_mixed_environments_and_changed_runs_are_warned_of(tmp_path: Path) -> None:
    out = tmp_path / "runs"
    write_study(out, {"default": 0.0, "mae": 0.0}, seeds=3)
    write_study(out, {"tube": 0.0}, seeds=3, environment="e1")
    (next(out.glob("*/*/mae-*/seed-1")) / store.CASES).write_text("changed", "utf-8")
    (next(out.glob("*/*/mae-*/seed-2")) / store.RECORD).write_text("{", "utf-8")
    document = read(html_of(out))
    warnings = " ".join(item.text for item in document.all("li", "warning"))
    assert "different environments" in warnings
    assert "mae: " in warnings
    assert "is kept off" in warnings
    assert "seed-2: its record cannot be read" in warnings


def test_provenance_names_everything_that_made_a_row(whole: Path, html: str) -> None:
    shown = rows(read(html), "b0")
    button = next(shown["mae"]["th"].all("button"))
    (dialog,) = (item for item in read(html).all("dialog") if item.attributes["id"] == button.attributes["data-dialog"])
    record = store.read_record(next(whole.glob("hippocampus/*/mae-*/seed-2")))
    assert record is not None
    for text in (
        record["cell"], record["weights_digest"], "a" * 12, "c0ffee2", "a GPU", "e0", "seed-2", "auto", "parameters changed",
    ):  # fmt: skip
        assert text in dialog.text, text
    assert len(list(next(dialog.all("tbody")).all("tr"))) == 4
    failed = next(rows(read(html), "b0")["order"]["th"].all("button")).attributes["data-dialog"]
    (dialog,) = (item for item in read(html).all("dialog") if item.attributes["id"] == failed)
    assert "failed: planted" in dialog.text


def test_the_learned_init_stands_under_both_protocols(whole: Path, html: str) -> None:
    family = next(item for item in content_of(whole).families if item.paired)
    assert [block.protocol for block in family.blocks] == ["equal-finetune", "equal-total"]
    (pair,) = pairs(family)
    assert pair.init == "lwi"
    (section,) = read(html).all("section", "protocols")
    (row,) = next(section.all("tbody")).all("tr")
    told = [cell.text for cell in row.children]
    for number, side in enumerate(pair.rows):
        assert side is not None
        assert side.standing.difference is not None
        assert told[1 + 4 * number] == words.dice(side.standing.dice)
        assert told[2 + 4 * number] == words.difference(side.standing.difference.estimate)
        assert told[3 + 4 * number] == side.standing.difference.verdict
    assert figures(section, "cost")


# --- nothing from outside is markup, nothing comes from the network -----------------------------------------------------


def test_names_from_outside_stay_text(tmp_path: Path) -> None:
    out = tmp_path / 'run"s<b>'
    options = {"names": "<img src=x onerror=alert(1)>{:02d}", "split": "<i>split</i>", "environment": "<u>e</u>"}
    write_study(out, {"default": 0.0, EVIL: 0.02, "kaiming-normal": 0.01}, seeds=3, **options)
    write(out, EVIL, seed=0, dataset="<b>data</b>", **options)
    html = html_of(out, tmp_path / "report.html")
    document = read(html)
    assert "<script>alert" not in html
    assert len(list(document.all("script"))) == 1
    for tag in ("b", "i", "u", "img", "iframe", "object", "embed", "link"):
        assert not list(document.all(tag)), tag
    for item in _everything(document):
        assert not [name for name in item.attributes if name.startswith("on")], item
    assert EVIL in rows(document, "b1")
    assert any(EVIL in dialog.text for dialog in document.all("dialog"))
    assert "<img src=x onerror=alert(1)>" in " ".join(item.attributes.get("data-tip", "") for item in _everything(document))


def test_the_page_asks_for_nothing(html: str) -> None:
    document = read(html)
    (policy,) = (item.attributes["content"] for item in document.all("meta") if "http-equiv" in item.attributes)
    assert policy.startswith("default-src 'none';")
    for item in _everything(document):
        for name in ("href", "src", "xlink:href", "action", "data", "poster", "srcset"):
            assert item.attributes.get(name, "#").startswith(("#", "data:image/png;base64,")), item
    assert not re.search(r"https?://|@import|eval\(|innerHTML|document\.write", html)
    assert "url(" not in html


def test_every_id_is_there_once_and_every_reference_leads_somewhere(html: str) -> None:
    ids = [item.attributes["id"] for item in _everything(read(html)) if "id" in item.attributes]
    assert len(ids) == len(set(ids))
    for item in _everything(read(html)):
        for name in ("href", "data-dialog", "aria-labelledby"):
            target = item.attributes.get(name, "")
            if target and not target.startswith("data:"):
                assert target.removeprefix("#") in ids


def elements(drawing: str) -> list[Element]:
    """Everything in a picture."""
    return list(_everything(read(str(drawing))))


def _everything(element: Element) -> Iterator[Element]:
    for child in element.children:
        yield child
        yield from _everything(child)


# --- charts -----------------------------------------------------------------------------------------------------------


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
    texts = [item.text for item in drawn if item.tag == "text"]
    for item in items:
        told = words.difference(item.estimate)
        assert f"{item.row.init}: {told}, {item.verdict}" in tips
        assert item.verdict in ("better", "worse", "undecided", "equivalent")
        assert texts[texts.index(told) + 1] == item.verdict
    assert [item.estimate.value for item in items] == sorted((item.estimate.value for item in items), reverse=True)


@pytest.mark.parametrize(("shift", "word"), [(0.003, "equivalent +"), (-0.003, "equivalent −")])
def test_equivalent_but_not_0_has_a_short_word_beside_its_mark(tmp_path: Path, shift: float, word: str) -> None:
    for seed in range(4):  # one voxel of a thousand more or less, by the seed
        for init, more in (("default", seed % 2), ("mae", seed // 2 + round(1000 * shift))):
            tp = np.arange(600, 612) + more
            own = {"tp": tp, "fp": 1000 - tp, "fn": 1000 - tp, "dice": tp / 1000}
            change_run(write(tmp_path, init, seed=seed), lambda table, own=own: table.assign(**own))
    block = only(tmp_path)
    assert isinstance(block.found, Analysis)
    _, (item,) = differences(block, block.found)
    drawing = str(forest(block, 0.5).drawing)
    assert item.verdict == ("equivalent, but above 0" if shift > 0 else "equivalent, but below 0")
    assert f">{word}</text>" in drawing
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
    write(tmp_path, "order", seed=0, status="diverged")
    for seed in range(1, 4):
        write(tmp_path, "order", seed=seed)
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
    """A column per source, a line per block; the numbers are those of `variance`."""
    (figure,) = figures(read(html), "sources")
    for name in SOURCES.values():
        assert name[:12] in figure.text
    lines = [item for item in figure.all("g") if "data-dataset" in item.attributes]
    blocks = content_of(whole).blocks
    for line, block, made in zip(lines, blocks, variance_sheets(study.read_study(whole).tables), strict=True):
        assert isinstance(block.found, Analysis)
        assert isinstance(block.found.components, Components)
        left = block.found.components.left_in_mean()
        tips = [item.attributes["data-tip"] for item in line.all("circle")]
        assert tips == [f"{SOURCES[name]}: SD {words.sd(part)} points in the mean of an init" for name, part in left.items()]
        assert [row[-1] for row in made.rows] == [words.sd(part) for part in left.values()]


def test_the_chart_of_places_holds_the_ranks(whole: Path) -> None:
    block = content_of(whole).blocks[1]
    assert isinstance(block.found, Analysis)
    assert not isinstance(block.found.ranking, leaderboard.Refused)
    drawn = elements(places(block).drawing)
    tips = [item.attributes["data-tip"] for item in drawn if item.tag == "circle"]
    expected = []
    for item in block.found.ranking:
        said = f"{item.low}" if item.low == item.high else f"{item.low} to {item.high}"
        expected.append(f"{item.init}: rank {item.rank:g} by Dice, may have place {said}")
    assert tips == expected
    lines = [item for item in drawn if item.attributes.get("class") == "whisker"]
    ticks = {item.text: float(item.attributes["x"]) for item in drawn if item.attributes.get("class") == "tick"}
    for line, item in zip(lines, block.found.ranking, strict=True):
        assert float(line.attributes["x1"]) == pytest.approx(ticks[str(item.low)], abs=0.1)
        assert float(line.attributes["x2"]) == pytest.approx(ticks[str(item.high)], abs=0.1)


def test_training_begins_on_the_clock_where_the_init_stage_ends(whole: Path) -> None:
    block = content_of(whole).blocks[2]
    (row,) = (row for row in block.rows if row.init == "lwi")
    curve = curves._curve(row.runs[0], 60, 4096)
    assert set(curve.stages) == {"pretext", "train"}
    assert curve.stages["pretext"][-1, 0] == pytest.approx(30.0)
    assert 30.0 < curve.stages["train"][0, 0] < 32.0
    assert curve.stages["train"][-1, 0] == pytest.approx(100.0 + 30.0, abs=1.0)
    assert curve.stages["pretext"][0, 1] == pytest.approx(5.0)
    assert "loss of the init stage" in str(curves.curves(block).drawing)
    (other,) = (row for row in block.rows if row.init == "default")
    assert set(curves._curve(other.runs[0], 60, 4096).stages) == {"train"}


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
    words_ = [item.text for item in drawn if item.tag == "text"]
    assert {"equal-total", "equal-finetune", "no init stage to pay for"} <= set(words_)
    large = [item for item in drawn if "large" in item.attributes.get("class", "").split()]
    assert len(large) == 6  # default, placebo, kaiming-normal, checkpoint once each; lwi under both
    assert sorted(item.attributes.get("d", "").count("L") for item in large) == [0, 0, 0, 0, 2, 3]  # circles, triangle, square


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
    assert str(figure.drawing).count('class="case"') == 2 * 60


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
    # Rows 8 to 20 of 30 from below, columns 5 to 14; outlines cut corners by half a voxel at most.
    assert numbers.min(0) == pytest.approx([5.0, 10.0], abs=0.5)
    assert numbers.max(0) == pytest.approx([14.0, 22.0], abs=0.5)


def test_only_the_first_blocks_of_a_large_study_have_pictures(whole: Path) -> None:
    assert "Left out" in overlays(content_of(whole).blocks[0], {}, 0).caption


# --- studies that lack something --------------------------------------------------------------------------------------


def one_init(out: Path) -> None:
    write_study(out, {"default": 0.0})


def one_other_init(out: Path) -> None:
    write_study(out, {"mae": 0.0})


def one_seed(out: Path) -> None:
    write_study(out, {"default": 0.0, "mae": 0.01}, seeds=1)


def one_run(out: Path) -> None:
    write(out, "mae")


def one_case(out: Path) -> None:
    write_study(out, {"default": 0.0, "mae": 0.01}, cases=1)


def all_diverged(out: Path) -> None:
    write_study(out, {"default": 0.0, "mae": 0.0}, status="diverged")


def all_failed(out: Path) -> None:
    write_study(out, {"default": 0.0, "mae": 0.0}, status="failed")


def default_diverged(out: Path) -> None:
    write_study(out, {"default": 0.0}, status="diverged")
    write_study(out, {"mae": 0.0, "tube": 0.0})


def default_withheld(out: Path) -> None:
    write_study(out, {"default": 0.0}, seeds=3)
    write_study(out, {"mae": 0.0, "tube": 0.0})


def no_default(out: Path) -> None:
    write_study(out, {"mae": 0.0, "tube": 0.02})


def no_curves_no_slices(out: Path) -> None:
    write_study(out, {"default": 0.0, "mae": 0.01}, curve=False, slices=False)


def equal_runs(out: Path) -> None:
    for init in ("default", "mae"):
        for seed in range(3):
            write_run(out, init, 0.5, seed=seed)


def seeds_of_their_own(out: Path) -> None:
    for number, init in enumerate(("default", "mae")):
        for seed in range(3):
            write(out, init, seed=10 * number + seed)


def only_a_placebo(out: Path) -> None:
    write_study(out, {"default": 0.0, PLACEBO: 0.0})


def both_devices(out: Path) -> None:
    write_study(out, {"default": 0.0}, gpu=True)
    write_study(out, {"mae": 0.0})


def same_weights(out: Path) -> None:
    write_study(out, {"default": 0.0})
    write_study(out, {"mae": 0.0}, weights="f" * 64)


def nothing_to_score(out: Path) -> None:
    write_study(out, {"default": 0.0, "mae": 0.01}, seeds=2)
    change_cases(out, lambda table: table.assign(tp=0, fn=0, fp=7, dice=math.nan))


def broken_slices(out: Path) -> None:
    write_study(out, {"default": 0.0, "mae": 0.01}, slices=False)
    for folder in store.find_runs(out):
        (folder / store.SLICES).write_bytes(b"PK no archive")


STUDIES = (
    one_init, one_other_init, one_seed, one_run, one_case, all_diverged, all_failed, default_diverged, default_withheld,
    no_default, no_curves_no_slices, equal_runs, seeds_of_their_own, only_a_placebo, both_devices, same_weights, broken_slices,
    nothing_to_score, write_whole,
)  # fmt: skip


@pytest.mark.parametrize("make", STUDIES, ids=lambda make: make.__name__)
def test_no_chart_is_empty_or_broken(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "runs")
    document = read(html_of(tmp_path / "runs"))
    for name in ("sources", "forest", "strips", "places", "curves", "cost", "heat", "overlays"):
        found = figures(document, name)
        assert found, name
        for figure in found:
            assert next(figure.all("h4")).text
            assert len(next(figure.all("p")).text) > 20, "a chart or the lack of it is explained"
            assert list(figure.all("svg")) or "none" in figure.attributes["class"].split()
    for number, drawing in enumerate(document.all("svg")):
        assert drawing.attributes["aria-label"], number
        _check_drawing(drawing)


_NUMBERS = ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height", "fill-opacity")


def _check_drawing(drawing: Element) -> None:
    width, height = (float(value) for value in drawing.attributes["viewbox"].split()[2:])
    assert width > 50
    assert height > 10
    shapes = [item for item in _everything(drawing) if item.tag not in ("g", "defs", "pattern")]
    assert len(shapes) > 1
    for item in shapes:
        for key, value in item.attributes.items():
            if key in _NUMBERS:
                assert math.isfinite(float(value)), (item.tag, key, value)
                if key in ("r", "width", "height", "fill-opacity"):
                    assert float(value) >= 0
        if item.tag == "circle":
            assert -1 <= float(item.attributes["cx"]) <= width + 1
            assert -1 <= float(item.attributes["cy"]) <= height + 1
        if item.tag == "path":
            assert "nan" not in item.attributes["d"]
            assert "inf" not in item.attributes["d"]
        assert "nan" not in item.text.lower().replace("nano", "")


def test_a_study_whose_runs_are_scored_on_different_cases_has_no_verdicts(tmp_path: Path) -> None:
    """Under nnU-Net's policy a class without reference is scored where it is predicted."""
    write_study(tmp_path / "runs", {"default": 0.0, "mae": 0.01}, seeds=2)
    numbers = iter(range(100))
    change_cases(
        tmp_path / "runs", lambda table: table.assign(tp=[0, *table["tp"][1:]], fn=[0, *table["fn"][1:]], fp=next(numbers) % 2)
    )
    found = study.read_study(tmp_path / "runs", scoring=study.Scoring(policy="nnunet"))
    (block,) = assemble(found, "default", 0.5, NOW).blocks
    assert "not scored on the same cases" in forest(block, 0.5).caption
    assert not heat(block).drawing
    assert all(math.isfinite(run.dice) for row in block.rows for run in row.runs)
    page.write(found, tmp_path / "page.html", now=NOW)
    for drawing in read((tmp_path / "page.html").read_text("utf-8")).all("svg"):
        _check_drawing(drawing)


def test_where_nothing_varies_the_marks_say_so(tmp_path: Path) -> None:
    all_diverged(tmp_path / "runs")
    (figure,) = figures(read(html_of(tmp_path / "runs")), "sources")
    tips = [item.attributes["data-tip"] for item in figure.all("circle")]
    assert tips == [f"{name}: SD 0.00 (below its noise) points in the mean of an init" for name in SOURCES.values()]


def test_a_study_of_one_seed_says_that_it_shows_nothing(tmp_path: Path) -> None:
    one_seed(tmp_path)
    block = only(tmp_path)
    assert "No ranks: places need 3 seeds" in places(block).caption
    assert "One seed" in heat(block).caption
    assert "untestable" in str(forest(block, 0.5).drawing)


def test_without_slices_the_section_says_so(tmp_path: Path) -> None:
    no_curves_no_slices(tmp_path)
    assert overlays(only(tmp_path), {}).caption == "No pictures: these runs kept no slices, as those of older versions."
    assert curves.curves(only(tmp_path)).caption == "No run kept a learning curve."


def test_a_withheld_default_leaves_no_differences(tmp_path: Path) -> None:
    default_withheld(tmp_path)
    assert forest(only(tmp_path), 0.5).caption.startswith("No differences: default: no score for seed 3 (not run)")


# --- drawing ----------------------------------------------------------------------------------------------------------


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((0, 1), (68.2, 74.9), (-0.7, 13.0), (1e-4, 3e-4), (79.999, 80.001), (0, 90_000)):
        ticks = svg.round_steps(low, high)
        assert 3 <= len(ticks) <= 8
        assert low - 1e-9 <= ticks[0]
        assert ticks[-1] <= high + 1e-9
        scale = svg.Scale(low, high, 0, 100)
        labels = [scale.label(tick) for tick in scale.ticks()]
        assert [float(label) for label in labels] == pytest.approx(ticks)
        assert len(set(labels)) == len(labels)
    assert svg.Scale(0.3, 2.0, 0, 1, log=True).ticks() == pytest.approx([0.5, 1.0, 2.0])


def test_labels_keep_their_distance_and_their_order() -> None:
    wanted = [10.0, 11.0, 12.0, 200.0, 199.0, 50.0]
    found = svg.spread_out(wanted, 14, 0, 200)
    assert np.min(np.diff(np.sort(found))) >= 14 - 1e-9
    assert [sorted(wanted).index(value) for value in wanted] == [sorted(found).index(value) for value in found]
    assert min(found) >= 0
    assert max(found) <= 200
    assert found[5] == 50.0
    assert svg.spread_out([5.0], 14, 0, 100) == [5.0]


def test_elements_escape_what_they_are_given() -> None:
    safe = "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;"
    assert svg.tag("text", EVIL, data_tip=EVIL) == f'<text data-tip="{safe}">{safe}</text>'
    assert svg.tag("g", svg.tag("line", x1=1.26)) == '<g><line x1="1.3"/></g>'


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_the_page_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    write_study(out, {"default": 0.0, "mae": 0.0}, seeds=2)
    write_study(out, {"default": 0.0}, seeds=2, backbone="unetrpp")
    assert str(out / "report.html") in said(capsys, "report", "--out", str(out))
    assert "unetrpp" in (out / "report.html").read_text("utf-8")
    file = tmp_path / "deep" / "page.html"
    said(capsys, "report", "--out", str(out), "--backbone", "unetr", "--html", str(file), "--margin", "2", "--against", "mae")
    text = file.read_text("utf-8")
    assert "unetrpp" not in text
    assert "vs mae [95 %]" in text
    assert "±2 Dice points" in text
    assert "that is a folder" in said(capsys, "report", "--out", str(out), "--html", str(tmp_path), code=2)
    assert "there is no such folder" in said(capsys, "report", "--out", str(tmp_path / "none"), code=2)
    (tmp_path / "file").write_text("", "utf-8")
    assert "cannot be written" in said(capsys, "report", "--out", str(out), "--html", str(tmp_path / "file" / "r.html"), code=1)


def test_the_report_needs_no_torch() -> None:
    code = "import sys, initbench.report.page; assert not {'torch', 'monai', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_same_study_is_the_same_page(whole: Path, html: str, tmp_path: Path) -> None:
    assert html_of(whole, tmp_path / "again.html") == html


# --- in a browser -----------------------------------------------------------------------------------------------------


@dataclass
class Opened:
    tab: Any
    requests: list[str]
    problems: list[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=program, args=list(CHROMIUM))
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any, whole: Path, html: str) -> Iterator[Opened]:
    yield from visit(browser, whole.parent / "report.html")


def visit(browser: Any, page: Path) -> Iterator[Opened]:
    """A page without a network; afterwards nothing was complained of, and nothing asked of elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    found = Opened(context.new_page(), [], [])
    found.tab.on("request", lambda request: found.requests.append(request.url))
    found.tab.on("console", lambda message: found.problems.append(message.text) if message.type in ("error", "warning") else None)
    found.tab.on("pageerror", lambda error: found.problems.append(str(error)))
    found.tab.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort())
    found.tab.goto(page.as_uri())
    yield found
    context.close()
    assert found.problems == []
    assert [url for url in found.requests if not url.startswith(("file:", "data:"))] == []


def _shown(tab: Any, table: str = "b1") -> list[str]:
    found = tab.locator(f"#{table}-board tbody tr:visible")
    return [found.nth(k).get_attribute("data-init") for k in range(found.count())]


def test_the_page_fits_a_desk_and_a_phone(opened: Opened) -> None:
    for width in (1280, 768, 390):
        opened.tab.set_viewport_size({"width": width, "height": 844})
        seen, room = opened.tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert seen <= room, width
        assert opened.tab.locator("figure.forest svg").first.bounding_box()["width"] > 300
        assert opened.tab.evaluate(_REACHED)


_REACHED = """() => [...document.querySelectorAll("main .scroll")].every(
  (box) => (box.scrollWidth > box.clientWidth + 1) === box.hasAttribute("tabindex"))"""


def test_a_click_on_a_header_sorts_and_another_turns_it_round(opened: Opened) -> None:
    head = opened.tab.locator("#b1-board th.c-dice")
    before = _shown(opened.tab)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert _shown(opened.tab) == before[::-1]
    head.locator("button").focus()
    opened.tab.keyboard.press("Enter")
    assert _shown(opened.tab) == before
    opened.tab.locator("#b1-board th.c-init button").first.click()
    assert _shown(opened.tab) == sorted(before)
    assert head.get_attribute("aria-sort") is None
    # The control has no difference to itself and stays last, either way.
    for _ in range(2):
        opened.tab.locator("#b1-board th.c-difference button").click()
        assert _shown(opened.tab)[-1] == "default"
    # Nor do withheld rows leave the end.
    for _ in range(2):
        opened.tab.locator("#b0-board th.c-dice button").click()
        assert _shown(opened.tab, "b0")[-1] == "order"


def test_filters_hide_rows_and_blocks(opened: Opened) -> None:
    tab = opened.tab
    tab.fill("#filter-init", "DEF")
    assert set(_shown(tab)) == {"default", PLACEBO}
    assert tab.inner_text("#count") == "5 of 14 rows"
    assert tab.locator("#b1 g.init.dim").count() > 0
    assert tab.locator("#b1 g.init[data-init=default].dim").count() == 0
    tab.fill("#filter-init", "nothing is called that")
    assert _shown(tab) == []
    assert tab.locator("#b1 p.nothing").is_visible()
    tab.fill("#filter-init", "")
    assert len(_shown(tab)) == 5
    tab.select_option("#filter-dataset", "hippocampus")
    assert tab.locator("#b0").is_visible()
    assert not tab.locator("#b1").is_visible()
    assert tab.locator("#overview tbody tr:visible").count() == 1
    tab.select_option("#filter-dataset", "")
    assert tab.locator("#b1").is_visible()


def test_a_click_shows_where_a_row_comes_from(opened: Opened, whole: Path) -> None:
    record = store.read_record(next(whole.glob("phantom-lung/*/kaiming-*/seed-0")))
    assert record is not None
    button = opened.tab.locator("#b1-board button.provenance", has_text="kaiming-normal")
    dialog = opened.tab.locator(f"#{button.get_attribute('data-dialog')}")
    assert not dialog.is_visible()
    button.focus()
    opened.tab.keyboard.press("Enter")
    assert dialog.is_visible()
    assert record["cell"] in dialog.inner_text()
    opened.tab.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_what_the_pointer_is_on_is_told(opened: Opened) -> None:
    dot = opened.tab.locator("#b1 figure.strips g.init circle").first
    dot.scroll_into_view_if_needed()
    dot.hover()
    tip = opened.tab.locator("#tip")
    assert tip.is_visible()
    assert tip.inner_text() == dot.get_attribute("data-tip")


def test_paper_has_the_tables_and_charts_and_no_controls(opened: Opened, tmp_path: Path) -> None:
    tab = opened.tab
    tab.emulate_media(media="print")
    assert not tab.locator(".controls").is_visible()
    assert tab.locator("#b1-board").is_visible()
    assert tab.locator("#b1 figure.forest svg").is_visible()
    assert tab.locator("dialog:visible").count() == 0
    tab.set_viewport_size({"width": 1032, "height": 700})  # A4, landscape, less its margins
    seen, room = tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert seen <= room
    wide = tab.evaluate("[...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth + 1).length")
    assert wide == 0
    assert tab.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_in_the_dark_text_can_be_read(browser: Any, whole: Path, html: str) -> None:
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        tab = context.new_page()
        tab.goto((whole.parent / "report.html").as_uri())
        for selector in ("body", ".settings", "#b1-board td.worse", "#b1-board td.better", "a", "figcaption p", "svg .value"):
            assert tab.evaluate(_CONTRAST, selector) >= 4.5, (scheme, selector)
        context.close()


_CONTRAST = """(selector) => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number).slice(0, 3);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const item = document.querySelector(selector);
  const style = getComputedStyle(item);
  const ink = light(parse(item instanceof SVGElement ? style.fill : style.color));
  const page = light(parse(getComputedStyle(document.body).backgroundColor));
  return (Math.max(ink, page) + 0.05) / (Math.min(ink, page) + 0.05);
}"""
