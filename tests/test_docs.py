"""The documents name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from initbench import registry
from initbench.catalog import CATALOG
from initbench.cli.app import app
from initbench.recipes import settings as recipe
from initbench.spec import Spec

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", [name for entries in CATALOG.values() for name in entries])
def test_readme_names_every_component(name: str) -> None:
    assert f"`{name}`" in README


def test_readme_names_every_command() -> None:
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        assert f"`initbench {name}" in README


def test_readme_tree_exists() -> None:
    tree = README.rpartition("## The repository")[2].split("```")[1]
    for folder in re.findall(r"^(\S+)/", tree, re.MULTILINE):
        assert (ROOT / folder).is_dir()


def test_readme_test_command_is_what_ci_runs() -> None:
    assert "make test" in README
    assert "make test" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_documents_hold_no_gaps() -> None:
    for name in ("README.md", "ARCHITECTURE.md", "BACKBONES.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        assert "@@" not in (ROOT / name).read_text("utf-8"), name


def test_links_between_documents_resolve() -> None:
    for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "BACKBONES.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text("utf-8")):
            assert ((ROOT / name).parent / link).exists(), f"{name}: {link}"


def test_recipe_fields_in_the_readme_exist() -> None:
    known = recipe.load("base", size="tiny", backbone="unetr", budget="smoke").model_dump()
    documents = README + (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    for section, field in re.findall(r"--set (\w+)\.(\w+)=", documents):
        own = registry.parameters(registry.get("initializer", Spec("checkpoint")), skip=2) if section == "init" else {}
        assert section == "section" or field == "parameter" or field in own or field in known[section]
