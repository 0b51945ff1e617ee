"""The documents name what there is."""

from __future__ import annotations

import re

import pytest

from initbench import registry
from initbench.catalog import CATALOG
from initbench.cli.app import app
from initbench.recipes.load import load_recipe
from initbench.spec import Spec
from tests.folders import ROOT

README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "BACKBONES.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


@pytest.mark.parametrize("name", [name for entries in CATALOG.values() for name in entries])
def test_the_reference_names_every_component(name: str) -> None:
    assert f"`{name}`" in page("components.md") + page("data.md") + page("recipes.md")


def test_the_reference_names_every_command() -> None:
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        assert f"`initbench {name}" in page("commands.md")


def test_the_readme_is_read_in_minutes() -> None:
    assert len(README.splitlines()) <= 150


def test_the_index_of_the_documentation_names_every_page() -> None:
    index = page("README.md")
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name == "README.md" or f"]({path.name})" in index, path.name


def test_readme_test_command_is_what_ci_runs() -> None:
    assert "make test" in README
    assert "make test" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_documents_hold_no_gaps() -> None:
    for path in [*PAGES, ROOT / "CHANGELOG.md"]:
        text = path.read_text("utf-8")
        assert "@@" not in text, path.name
        assert "<!--" not in text, path.name


def test_links_between_documents_resolve() -> None:
    for path in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_recipe_fields_in_the_documents_exist() -> None:
    known = load_recipe("base", size="tiny", backbone="unetr", budget="smoke").model_dump()
    documents = "".join(path.read_text("utf-8") for path in PAGES)
    for section, field in re.findall(r"--set (\w+)\.(\w+)=", documents):
        own = registry.parameters(registry.get("initializer", Spec("checkpoint")), skip=2) if section == "init" else {}
        assert section == "section" or field == "parameter" or field in own or field in known[section]
