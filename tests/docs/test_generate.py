"""The makers of the generated pages: pieces of Markdown, the columns of the reference, the navigation."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, Field

from docs.generate import commands, components, hooks, record, settings
from docs.generate.text import cell, code, docstring, plain, table
from initbench.cli.spellings import OLD_SPELLINGS


def test_bars_are_escaped_in_cells_and_not_in_code() -> None:
    assert cell("a | b\n`c | d`") == "a \\| b `c | d`"


def test_plain_text_is_shown_as_it_is_written() -> None:
    assert plain("a_b <c> [d] `e_f`") == "a\\_b \\<c\\> \\[d\\] `e_f`"


def test_a_table_has_a_rule_and_a_line_for_each_row() -> None:
    assert table(("a", "b"), [(1, "x|y")]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |"


def test_what_is_missing_is_a_dash() -> None:
    assert [code("a"), code(0), code(""), code(None)] == ["`a`", "`0`", "–", "–"]


def test_docstrings_become_lists() -> None:
    def described() -> None:
        """Does it.

        Args:
            one: first,
                on two lines.
            two: second.

        Raises:
            Error: never.
        """

    assert docstring(described) == (
        "Does it.\n\n**Args:**\n\n- one: first, on two lines.\n- two: second.\n\n\n**Raises:**\n\n- Error: never."
    )


class Inner(BaseModel):
    """A part."""

    share: float = Field(0.5, ge=0, lt=1)
    names: tuple[str, ...] = ("a", "b")


class Outer(BaseModel):
    """The whole."""

    size: int | None = Field(None, gt=0)
    way: bool = True
    inner: Inner = Inner()


def test_settings_say_what_they_take_and_what_base_says() -> None:
    top, whole, rows, heading, part, inner = settings.sections(Outer())  # type: ignore[arg-type]
    assert (top, whole, heading, part) == ("### At the top", "The whole.", "### `inner`", "A part.")
    assert rows.splitlines()[2:] == [
        "| `size` | whole number > 0 or nothing | – |",
        "| `way` | true or false | `True` |",
    ]
    assert inner.splitlines()[2:] == [
        "| `inner.share` | number ≥ 0, < 1 | `0.5` |",
        "| `inner.names` | list of text | `a,b` |",
    ]


def test_records_are_described_part_by_part_without_bounds() -> None:
    class Written(BaseModel):
        """A record."""

        seconds: float = Field(0.0, ge=0, description="how long")
        parts: list[Inner] = Field([], alias="of", description="its parts")

    sections = list(record.sections(Written))
    assert [section for section in sections if section.startswith("#")] == ["## The whole", "## `of`"]
    assert "| `seconds` | number | how long |" in sections[2]
    assert "| `of` | list of a part of its own | its parts |" in sections[2]


def test_options_are_listed_with_their_meaning_and_commands() -> None:
    rows = commands.meanings().splitlines()
    assert "| `--weights` | Weights to write: .safetensors, or .pth as nnU-Net v2 reads it | pretrain |" in rows
    assert "| `--file` | File to write | report, recipe new |" in rows


def test_old_spellings_are_listed() -> None:
    rows = commands.old_spellings().splitlines()[2:]
    assert len(rows) == sum(len(names) for names in OLD_SPELLINGS.values())
    assert "| `initbench report` | `--html` | `--file` |" in rows


def test_commands_stand_under_their_panels() -> None:
    page = commands.page()
    panels = [page.partition(f"\n## {panel}\n")[2].partition("\n## ")[0] for panel in ("Study", "Data")]
    assert "### `initbench run`" in panels[0]
    assert "### `initbench data info`" not in panels[0]
    assert "### `initbench data info`" in panels[1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lwi", "so it costs steps"),
        ("inflate-2d", "brings in data from outside"),
        ("checkpoint", "| `path` | has to be given |"),
        ("unetrpp", "| `lung` | "),
        ("lung", "`unetrpp-50/13`"),
        ("hippocampus", "none: `auto` reports a fifth of the cases"),
    ],
)
def test_components_are_described_by_what_they_declare(name: str, said: str) -> None:
    assert said in components.page().partition(f"### `{name}` ")[2].partition("\n### ")[0]


def test_pages_stand_in_the_order_in_which_a_newcomer_reads_them() -> None:
    pages = [
        "how-to/b.md",
        "how-to/a.md",
        "explanation/decisions/stats.md",
        "explanation/decisions/index.md",
        "explanation/runs.md",
        "studies/c.md",
    ]
    nav = hooks._navigation([*pages, *sorted(hooks.FIRST, reverse=True), "tutorials/another.md"])
    assert nav == [
        "index.md",
        {"Tutorials": [*hooks.FIRST, "tutorials/another.md"]},
        {"How to": ["how-to/a.md", "how-to/b.md"]},
        {"Studies": ["studies/c.md"]},
        {"Reference": []},
        {
            "Explanation": [
                "explanation/runs.md",
                {"Decisions": ["explanation/decisions/index.md", "explanation/decisions/stats.md"]},
            ]
        },
        {"Project": ["ARCHITECTURE.md", "BACKBONES.md", "CHANGELOG.md", "CONTRIBUTING.md"]},
    ]


def made(place: str, markdown: str, pages: list[str]) -> str:
    page: Any = SimpleNamespace(file=SimpleNamespace(src_uri=place))
    files: Any = SimpleNamespace(src_uris=dict.fromkeys(pages))
    return hooks.on_page_markdown(markdown, page, SimpleNamespace(), files)  # type: ignore[arg-type]


def test_links_of_pages_at_the_root_and_below_are_made_to_work() -> None:
    pages = ["how-to/data.md", "BACKBONES.md"]
    assert made("CONTRIBUTING.md", "[a](docs/how-to/data.md)", pages) == "[a](how-to/data.md)"
    assert made("how-to/data.md", "[a](../../BACKBONES.md)", pages) == "[a](../BACKBONES.md)"


def test_the_first_page_of_decisions_lists_them() -> None:
    assert "## All decisions" in made("explanation/decisions/index.md", "# Decisions", [])
    assert "## All decisions" not in made("explanation/decisions/stats.md", "# Decisions", [])


def test_an_address_outside_is_a_warning_which_ends_a_strict_build(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "index.html").write_text('<img src="https://img.example/x.png">', "utf-8")
    config: Any = SimpleNamespace(site_dir=str(tmp_path))
    with caplog.at_level(logging.WARNING, logger="mkdocs.hooks"):
        hooks.on_post_build(config)
    assert caplog.messages == ["index.html loads https://img.example/x.png"]
