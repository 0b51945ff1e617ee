"""No study, whatever it lacks, leaves an empty or broken chart; the section says what is missing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from initbench.report import curves, page
from initbench.report.content import assemble
from initbench.report.forest import forest
from initbench.report.heat import heat
from initbench.report.overlays import overlays
from initbench.report.places import places
from initbench.tables import study
from initbench.tables.variance import SOURCES
from tests.html_page import Element, across, everything, figures, read
from tests.report.incomplete import STUDIES, all_diverged, default_withheld, no_curves_no_slices, one_seed
from tests.report.studies import NOW, change_cases, html_of, only, write_study


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
            assert list(figure.all("svg")) or list(figure.all("table")) or "none" in figure.attributes["class"].split()
    for drawing in document.all("svg", "plot"):
        _check_drawing(drawing)


def _check_drawing(drawing: Element) -> None:
    """Every coordinate of a plot is a number; across it lies within the plot, and what is drawn has no negative size."""
    assert list(drawing.all("text")) or list(drawing.all("use")), "a plot has labels, or what lies behind a line"
    for item in everything(drawing):
        for key in _ACROSS & set(item.attributes):
            if item.attributes[key].endswith("%"):
                assert -0.01 <= across(item, key) <= 100.01, (item.tag, key, item.attributes[key])
        for key in _DOWN & set(item.attributes):
            assert math.isfinite(float(item.attributes[key].removesuffix("%")))
        for key in _SIZES & set(item.attributes):
            assert float(item.attributes[key].removesuffix("%")) >= 0
        for key in ("d", "transform"):
            assert not re.search("nan|inf", item.attributes.get(key, ""))
        assert "nan" not in item.text.lower().replace("nano", "")


_ACROSS = {"x", "x1", "x2", "cx"}
_DOWN = {"y", "y1", "y2", "cy"}
_SIZES = {"r", "width", "height"}


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
    for drawing in read((tmp_path / "page.html").read_text("utf-8")).all("svg", "plot"):
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
