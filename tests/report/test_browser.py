"""The page in a browser: sorting, filters, dialogs, hints, paper, phone, and the dark."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from initbench.tables import words
from tests.recorded import PLACEBO, record_values
from tests.report.browsing import Opened, visit
from tests.report.measured import faults
from tests.report.studies import html_of, write_study


@pytest.fixture
def opened(browser: Any, whole: Path, html: str) -> Iterator[Opened]:
    yield from visit(browser, whole.parent / "report.html")


def _shown(tab: Any, table: str = "b1") -> list[str]:
    found = tab.locator(f"#{table}-board tbody tr:visible")
    return [found.nth(k).get_attribute("data-init") for k in range(found.count())]


@pytest.mark.parametrize("study", ["whole", "grid"])
@pytest.mark.parametrize("media", ["light", "dark", "print"])
def test_all_lies_in_its_box_and_can_be_read(
    browser: Any, request: pytest.FixtureRequest, html: str, study: str, media: str
) -> None:
    """No chart, label or name lies outside its box, the page does not scroll to the side, and no text is below 12 pixels."""
    page = request.getfixturevalue(study).parent / "report.html"
    tab = browser.new_page(color_scheme="dark" if media == "dark" else "light")
    tab.goto(page.as_uri())
    tab.emulate_media(media="print" if media == "print" else "screen")
    for width in (360, 768, 1280):
        tab.set_viewport_size({"width": width, "height": 844})
        assert faults(tab) == [], width
        assert tab.locator("figure.forest .track").first.bounding_box()["width"] > 150
        assert media == "print" or tab.evaluate(_REACHED)
    tab.close()


_REACHED = """() => [...document.querySelectorAll("main .scroll")].every(
  (box) => (box.scrollWidth > box.clientWidth + 1) === box.hasAttribute("tabindex"))"""


def test_curves_over_time_lie_in_their_boxes_too(opened: Opened) -> None:
    figure = opened.tab.locator("#b2 figure.curves")
    assert figure.locator(".by-steps").is_visible()
    assert not figure.locator(".by-time").is_visible()
    figure.locator("label", has_text="over time").click()
    assert figure.locator(".by-time").is_visible()
    assert not figure.locator(".by-steps").is_visible()
    opened.tab.set_viewport_size({"width": 360, "height": 844})
    assert faults(opened.tab) == []


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
    assert _shown(opened.tab) == sorted(before, key=words.label)
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
    assert tab.locator("#b1 figure .init.dim").count() > 0
    assert tab.locator("#b1 figure .init[data-init=default].dim").count() == 0
    tab.fill("#filter-init", "placebo")
    assert _shown(tab) == [PLACEBO]
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
    record = record_values(next(whole.glob("phantom-lung/*/kaiming-*/seed-0")))
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
    dot = opened.tab.locator("#b1 figure.strips .init .dot").first
    dot.scroll_into_view_if_needed()
    dot.hover()
    tip = opened.tab.locator("#tip")
    assert tip.is_visible()
    assert tip.inner_text() == dot.get_attribute("data-tip")


def test_a_finger_near_a_mark_shows_its_values(browser: Any, whole: Path, html: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 844}, has_touch=True)
    tab = context.new_page()
    tab.goto((whole.parent / "report.html").as_uri())
    dot = tab.locator("#b1 figure.strips .init .dot").first
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    tab.touchscreen.tap(box["x"] + 2, box["y"] + 14)
    assert tab.inner_text("#tip") == dot.get_attribute("data-tip")
    tab.touchscreen.tap(2, 2)
    assert not tab.locator("#tip").is_visible()
    context.close()


def test_learning_curves_tell_the_loss_of_every_init_at_a_step(opened: Opened) -> None:
    plot = opened.tab.locator("#b0 figure.curves .by-steps svg.plot[data-y]").last
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    opened.tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    where, *told = opened.tab.inner_text("#tip").splitlines()
    step = int(where.removeprefix("step "))
    assert 55 <= step <= 63
    values = dict(line.rsplit(": ", 1) for line in told)
    assert set(values) == {"default", "mae", "uniform", "order"}
    for value in values.values():  # the losses of `write_curve`, means of two steps
        assert float(value) == pytest.approx(2 * math.exp(-3 * step / 120), rel=0.06)


def test_a_report_has_the_filters_that_have_something_to_choose_from(browser: Any, grid: Path, tmp_path: Path) -> None:
    tab = browser.new_page()
    tab.goto((grid.parent / "report.html").as_uri())
    assert tab.locator(".controls select").count() == 2
    html_of(write_study(tmp_path / "runs", {"default": 0.0, "mae": 0.02}))
    tab.goto((tmp_path / "report.html").as_uri())
    assert tab.locator(".controls").count() == 0
    assert tab.locator("#b0-board th[data-kind] button").count() > 0
    tab.close()


def test_on_paper_no_chart_is_higher_than_a_page_and_no_heading_stands_alone(browser: Any, grid: Path) -> None:
    tab = browser.new_page(viewport={"width": 1032, "height": 703})  # A4, landscape, less its margins
    tab.goto((grid.parent / "report.html").as_uri())
    tab.emulate_media(media="print")
    whole, loose = tab.evaluate(_PAPER)
    assert whole, "charts that may not be broken"
    assert {name: height for name, height in whole if height > 703} == {}
    assert loose == []
    tab.close()


# What may not be broken, with its height; and headings after which a page may end.
_PAPER = """() => {
  const shown = [...document.querySelectorAll("body *")].filter((item) => item.checkVisibility());
  const whole = shown.filter((item) => getComputedStyle(item).breakInside === "avoid");
  const headings = shown.filter((item) => item.matches("h1, h2, h3, h4, figcaption, .heading"));
  return [
    whole.map((item) => [`${item.tagName} ${item.className.baseVal ?? item.className}`, item.getBoundingClientRect().height]),
    headings.filter((item) => getComputedStyle(item).breakAfter !== "avoid").map((item) => item.textContent),
  ];
}"""


def test_paper_has_the_tables_and_charts_and_no_controls(opened: Opened, tmp_path: Path) -> None:
    tab = opened.tab
    tab.emulate_media(media="print")
    assert not tab.locator(".controls").is_visible()
    assert tab.locator("#b1-board").is_visible()
    assert tab.locator("#b1 figure.forest svg").first.is_visible()
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
        for selector in (
            "body",
            ".settings",
            "#b1-board td.worse",
            "#b1-board td.better",
            "a",
            "figcaption p",
            ".line .words",
            "svg .tick",
        ):
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
