"""Opens a page in a browser without a network and watches what it asks for and complains of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Opened:
    """An open page: its tab, the addresses that it asked for, and the complaints of its console."""

    tab: Any
    requests: list[str]
    problems: list[str]


def visit(browser: Any, page: Path) -> Iterator[Opened]:
    """Opens a page without a network and yields it; asserts in the end that it complained of nothing and asked for no address."""
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
