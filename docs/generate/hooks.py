"""Hooks of mkdocs: pages that are made from the code, pages of the root, the navigation, and the check for outside addresses."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.generate import commands, components, decisions, links, messages, outside, python, record, settings

log = logging.getLogger("mkdocs.hooks")
ROOT = Path(__file__).parents[2]

GENERATED = {
    "reference/commands.md": commands.page,
    "reference/components.md": components.page,
    "reference/recipes.md": settings.page,
    "reference/record.md": record.page,
    "reference/messages.md": messages.page,
    "reference/python.md": python.page,
}
SECTIONS = {
    "Tutorials": "tutorials/",
    "How to": "how-to/",
    "Studies": "studies/",
    "Reference": "reference/",
    "Explanation": "explanation/",
}
# In the order in which a newcomer reads them; every other section goes by the alphabet.
FIRST = ("tutorials/first-study.md", "tutorials/your-data.md", "tutorials/your-initializer.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages and the pages at the root, and orders the navigation."""
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
        entries: list[Any] = []
        decided = []
        for page in sorted(pages, key=_place):
            if page.startswith(f"{folder}decisions/"):
                decided.append(page)
            elif page.startswith(folder):
                entries.append(page)
        if decided:
            entries.append({"Decisions": decided})
        nav.append({title: entries})
    nav.append({"Project": list(links.ROOT_PAGES)})
    return nav


def _place(page: str) -> tuple[bool, int, str]:
    """Returns where a page stands in its section: the first page of a folder before all, then the tutorials in order."""
    tutorial = FIRST.index(page) if page in FIRST else len(FIRST)
    return not page.endswith("/index.md"), tutorial, page


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes the links of a page lead to pages of the site, and lists the decisions on their first page.

    Args:
        markdown: the page.
        page: which one it is.
        config: the settings of the site.
        files: everything that the site holds.
    """
    place = page.file.src_uri
    if place == "explanation/decisions/index.md":
        markdown = f"{markdown}\n\n{decisions.listed()}\n"
    in_repository = place if place in links.ROOT_PAGES else f"docs/{place}"
    return links.in_site(markdown, in_repository, set(files.src_uris))


def on_post_build(config: MkDocsConfig) -> None:
    """Warns of every address outside, which ends a strict build: the site is read without a network."""
    for problem in outside.loaded(Path(config.site_dir)):
        log.warning(problem)
