"""The list of all decisions, made from the pages of the rooms."""

from __future__ import annotations

import re
from pathlib import Path

from docs.generate.text import table

PAGES = Path(__file__).parents[1] / "explanation" / "decisions"
_HEADLINE = re.compile(r"^\*\*(\d{4}-\d{2}-\d{2}) · (.+?)[.,]?\*\*", re.MULTILINE | re.DOTALL)


def listed() -> str:
    """Returns the headline of every decision with its room and its day, room by room."""
    rows = []
    for page in sorted(PAGES.glob("*.md")):
        if page.stem == "index":
            continue
        for day, headline in _HEADLINE.findall(page.read_text("utf-8")):
            rows.append((f"[{page.stem}]({page.name})", day, headline))
    return "## All decisions\n\n" + table(("room", "day", "decision"), rows)
