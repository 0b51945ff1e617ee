"""Hooks of mkdocs: pages that are made from the code, pages of the root, the navigation, and the check for outside addresses."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.generate import commands, components, decisions, links, outside, python, settings

log = logging.getLogger("mkdocs.hooks")
ROOT = Path(__file__).parents[2]

GENERATED = {
    "reference/commands.md": commands.page,
    "reference/components.md": components.page,
    "reference/recipes.md": settings.page,
    "reference/python.md": python.page,
}
SECTIONS = {"Tutorials": "tutorials/", "How to": "how-to/", "Reference": "reference/", "Explanation": "explanation/"}
# In the order in which a newcomer reads them; every other section goes by the alphabet.
FIRST = ("tutorials/first-study.md", "tutorials/your-data.md", "tutorials/your-initializer.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages and those of the root, and orders the navigation."""
    for place, page in GENERATED.items():
        files.append(File.generated(config, place, content=page()))
    for name in links.ROOT_PAGES:
        files.append(File.generated(config, name, content=(ROOT / name).read_text("utf-8")))
    config.nav = _navigation([file.src_uri for file in files.documentation_pages()])
    return files


def _navigation(pages: list[str]) -> list[Any]:
    """Returns the navigation: a section for each folder, so that a new page needs no entry anywhere."""
    nav: list[Any] = ["index.md"]
    for title, folder in SECTIONS.items():
        inside = sorted(page for page in pages if page.startswith(folder) and "/decisions/" not in page)
        entries: list[Any] = sorted(inside, key=lambda page: (FIRST.index(page) if page in FIRST else len(FIRST), page))
        decisions = [page for page in pages if page.startswith(f"{folder}decisions/")]
        if decisions:
            entries.append({"Decisions": sorted(decisions, key=lambda page: (not page.endswith("index.md"), page))})
        nav.append({title: entries})
    nav.append({"Project": list(links.ROOT_PAGES)})
    return nav


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes the links of a page lead to pages of the site, and lists the decisions on their first page."""
    place = page.file.src_uri
    if place == "explanation/decisions/index.md":
        markdown = f"{markdown}\n\n{decisions.listed()}\n"
    in_repository = place if place in links.ROOT_PAGES else f"docs/{place}"
    return links.in_site(markdown, in_repository, set(files.src_uris))


def on_post_build(config: MkDocsConfig) -> None:
    """Warns of every address outside, which ends a strict build: the site is read without a network."""
    for problem in outside.loaded(Path(config.site_dir)):
        log.warning(problem)
