"""The documents name what there is, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.generate import commands, components, decisions, links, outside, python, record, settings
from initbench import registry
from initbench.catalog import CATALOG
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Recipe
from initbench.spec import Spec
from tests.folders import ROOT

README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *(ROOT / name for name in links.ROOT_PAGES), *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = {"commands.md", "components.md", "recipes.md", "record.md", "messages.md", "python.md"}


@pytest.fixture(scope="module")
def reference() -> str:
    return components.page()


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, entries in CATALOG.items() for name in entries])
def test_the_reference_describes_every_component(reference: str, kind: str, name: str) -> None:
    assert f"### `{name}` {{ #{kind}-{name} }}" in reference


def test_the_reference_shows_parameters_and_variants(reference: str) -> None:
    assert "| `mask_ratio` |" in reference
    assert "| `legacy-merge-xyz` |" in reference


def test_the_reference_has_every_command_with_its_options() -> None:
    page = commands.page()
    for name, command in commands.commands():
        section = page.partition(f"### `{name}`")[2].partition("\n### ")[0]
        assert section, name
        for parameter in command.params:
            assert (
                max(parameter.opts, key=len).strip("-") in section.lower().replace("_", "-").replace(" ", "-") or parameter.hidden
            )
    assert "### `initbench data info`" in page


def test_the_reference_has_every_setting_of_a_recipe() -> None:
    page = settings.page()
    for section, field in Recipe.model_fields.items():
        assert f"`{section}`" in page
        for name in getattr(field.annotation, "model_fields", ()):
            assert f"`{section}.{name}`" in page


def test_the_reference_has_every_key_of_a_record() -> None:
    page = record.page()
    for key in ("schema", "dice_per_class", "resolved.train_cases", "resolved.recipe.patch", "cost.init.seconds"):
        assert f"| `{key}` |" in page
    assert "| bytes at the peak of training" in page


def test_the_reference_has_the_public_functions() -> None:
    page = python.page()
    assert "::: initbench.api.run" in page
    assert "::: initbench.report.report" in page
    assert "::: initbench.protocols.initializers.InitContext" in page


def test_every_decision_is_listed_with_its_day() -> None:
    written = "".join(path.read_text("utf-8") for path in decisions.PAGES.glob("*.md") if path.stem != "index")
    rows = decisions.listed().splitlines()[4:]
    assert len(rows) == written.count("\n**") >= 66
    assert "| [harness](harness.md) | 2026-11-21 | Records hold absolute paths, ids none |" in rows


def test_an_address_outside_is_found(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<a href="https://a.org">read</a><script src="own.js"></script>'
        '<link rel="stylesheet" href="https://fonts.example/css"><script async src=//cdn.example/x.js></script>',
        "utf-8",
    )
    (tmp_path / "own.css").write_text('a { background: url("https://img.example/x.png") }', "utf-8")
    assert list(outside.loaded(tmp_path)) == [
        "index.html loads //cdn.example/x.js",
        "index.html loads https://fonts.example/css",
        "own.css loads https://img.example/x.png",
    ]


def test_links_of_the_repository_lead_to_pages_of_the_site() -> None:
    pages = {"how-to/data.md", "CONTRIBUTING.md", "images/a.png"}
    assert links.in_site("[a](../../CONTRIBUTING.md#x)", "docs/how-to/data.md", pages) == "[a](../CONTRIBUTING.md#x)"
    assert links.in_site("![a](docs/images/a.png)", "CONTRIBUTING.md", pages) == "![a](images/a.png)"
    assert links.in_site("[a file](../../tests/plugin)", "docs/how-to/data.md", pages) == "a file (`tests/plugin`)"
    assert links.in_site("[gone](gone.md)", "docs/how-to/data.md", pages) == "[gone](gone.md)"


def test_the_readme_is_read_in_minutes() -> None:
    assert len(README.splitlines()) <= 150


def test_architecture_is_two_pages() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text("utf-8").splitlines()) <= 100


def test_readme_commands_are_what_ci_runs() -> None:
    run = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "exec make docs test" in run
    assert "make test" in README
    assert "make docs" in README


def test_documents_hold_no_gaps() -> None:
    for path in PAGES:
        text = path.read_text("utf-8")
        assert "@@" not in text, path.name
        assert "<!--" not in text, path.name


def test_links_between_documents_resolve() -> None:
    for path in PAGES:
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
            generated = Path(link).name in GENERATED and Path(link).parent.name == "reference"
            assert generated or (path.parent / link).exists(), f"{path.name}: {link}"


def test_files_that_the_documents_name_exist() -> None:
    """Files are named from the root, or from `initbench/`; those in brackets of a package of one's own are not meant."""
    own = {"backbones/my_net.py"}  # what a reader is to write
    for path in PAGES:
        prose = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for name in re.findall(r"`((?:[\w-]+/)+[\w-]+\.(?:py|toml|md))\b[^`]*`", prose):
            there = (ROOT / name).is_file() or (ROOT / "initbench" / name).is_file()
            assert there or name in own, f"{path.name}: {name}"


def test_recipe_fields_in_the_documents_exist() -> None:
    known = load_recipe("base", size="tiny", backbone="unetr", budget="smoke").model_dump()
    documents = "".join(path.read_text("utf-8") for path in PAGES)
    for section, field in re.findall(r"--set (\w+)\.(\w+)=", documents):
        own = registry.find("initializer", Spec("checkpoint")).takes if section == "init" else {}
        assert section == "section" or field == "parameter" or field in own or field in known[section]
