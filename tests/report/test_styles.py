"""An init has one colour, kind of dashes and mark in every report."""

from __future__ import annotations

from pathlib import Path

from initbench.catalog import INITIALIZERS
from initbench.report.styles import BUILT_IN, HUES, styles
from tests.recorded import PLACEBO
from tests.report.studies import content_of, write_study

OTHERS = [f"my_init.py:scheme(scale={k})" for k in range(40)]


def test_every_built_in_has_a_style_of_its_own() -> None:
    assert set(BUILT_IN) == set(INITIALIZERS)
    assert len(set(BUILT_IN.values())) == len(BUILT_IN)
    found = styles([*INITIALIZERS, PLACEBO])
    assert len(set(found.values())) == len(INITIALIZERS) + 1
    assert {init: found[init] for init in INITIALIZERS} == BUILT_IN


def test_a_colour_follows_from_the_name_alone() -> None:
    together = styles([*INITIALIZERS, *OTHERS])
    hues = set()
    for init in OTHERS:
        hues.add(together[init].hue)
        alone = styles([init])[init]
        assert alone.hue == together[init].hue
        assert alone not in BUILT_IN.values()
    assert hues == set(map(str, range(HUES)))
    # Written out: a colour that people know from older reports may not change.
    for init, known in zip(OTHERS, ("k4 v2", "k5 v3", "k2 v4"), strict=False):
        assert styles([init])[init].classes == known


def test_inits_of_a_report_that_share_a_colour_differ_in_marks() -> None:
    found = styles(OTHERS[:12])
    assert len(set(found.values())) == 12


def test_charts_of_two_reports_draw_an_init_alike(tmp_path: Path) -> None:
    one = content_of(write_study(tmp_path / "one", {"default": 0.0, OTHERS[0]: 0.0}, seeds=2))
    other = content_of(write_study(tmp_path / "other", {"default": 0.0, "mae": 0.0, OTHERS[0]: 0.0, "lwi": 0.0}, seeds=2))
    drawn = set()
    for block in (*one.blocks, *other.blocks):
        for row in block.rows:
            if row.init == OTHERS[0]:
                drawn.add(row.style)
    assert len(drawn) == 1
