"""Fixtures of the tests of the report: a study that has everything, its page, and a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.studies import html_of, write_grid, write_whole

CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that has everything a report can show; tests read it and leave it alone."""
    return write_whole(tmp_path_factory.mktemp("whole") / "runs")


@pytest.fixture(scope="session")
def html(whole: Path) -> str:
    """The page of that study, which also lies beside its folder as report.html."""
    return html_of(whole)


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of several data sets and networks, with its page beside it as report.html."""
    out = write_grid(tmp_path_factory.mktemp("grid") / "runs")
    html_of(out)
    return out


# Not for the session: while Playwright runs, no other test of the process can run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; without Chromium or Playwright the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=program, args=list(CHROMIUM))
        yield found
        found.close()
