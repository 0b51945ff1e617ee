"""Text of others is shown as it is written, and obeyed by nothing that shows it."""

from __future__ import annotations

import csv
import html
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown import Markdown

from initbench.printable import clean, csv_cell, json_text, latex, markdown, printable
from initbench.tables.sheet import FORMS, Sheet, terminal
from tests.folders import ROOT

HOSTILE = [
    "\x1b[2J\x1b[31mred\x1b[0m",
    "\x9b31m",
    "abc\u202edcb",
    "a\u2066b\u200fc",
    "<script>alert(1)</script>",
    "[click](https://evil.example/x)",
    "![x](https://evil.example/x.png)",
    "[a]: https://evil.example",
    "https://evil.example and www.evil.example",
    "<https://evil.example>",
    "line\n# heading\n| a | b |",
    "left|right, 50%",
    "GTV_n & CTV",
    "_a_ *b* `c` **d**",
    "one ` alone <b>",
    "=1+cmd|' /C calc'!A0",
    "@SUM(1)",
    "-2+3",
    "\\input{/etc/passwd}",
    "\ttab\r\nreturn",
    "half of a letter \ud800",
]
each = pytest.mark.parametrize("text", HOSTILE)


def sheet(text: str) -> Sheet:
    return Sheet(text, text, (text, "Dice"), ((text, "1"), ("plain", "-2.5")), (text,), ({text: text, "dice": -1.5},))


@each
@pytest.mark.parametrize("form", FORMS)
def test_no_form_of_a_table_holds_what_a_terminal_obeys(text: str, form: str) -> None:
    shown = FORMS[form]([sheet(text)])
    assert all(sign.isprintable() or sign == "\n" for sign in shown)


@each
def test_a_terminal_shows_tables_in_their_lines(text: str) -> None:
    from rich.console import Console

    out = io.StringIO()
    terminal([sheet(text)], Console(file=out, width=200))
    assert all(sign.isprintable() or sign == "\n" for sign in out.getvalue())
    assert len(re.findall(r" 1 *$", out.getvalue(), re.MULTILINE)) == 1, "each row has a line"


@each
def test_markdown_has_no_link_no_html_and_whole_tables(text: str) -> None:
    source = FORMS["md"]([sheet(text)])
    made = Markdown(extensions=["tables"]).convert(source)
    assert not re.search(r"<(a|img|script|em|strong)\b", made), made
    assert made.count("<table>") == made.count("<h3") == 1
    assert made.count("<td") == 4
    bars = {len(re.findall(r"(?<!\\)\|", line)) for line in source.splitlines() if line.startswith("|")}
    assert bars == {3}


@each
def test_markdown_looks_as_it_is_written(text: str) -> None:
    made = Markdown().convert(f"x {markdown(text)}")
    seen = re.sub(r"<[^>]*>", "", made)
    # A bar is escaped for tables; outside of them this one reader, unlike GitHub's, shows the sign that escapes it.
    seen = html.unescape(seen.replace("\\|", "|"))
    written = clean(text).replace("`c`", "c")  # code, without the signs that make it
    assert seen == f"x {written}"


@each
def test_a_spreadsheet_computes_no_cell(text: str) -> None:
    rows = list(csv.reader(io.StringIO(FORMS["csv"]([sheet(text)]))))
    assert all(not cell.startswith(("=", "+", "@", "\t", "\r")) for row in rows for cell in row)
    assert rows[1][1] == "-1.5", "numbers stay numbers"


def test_cells_that_look_like_formulas_are_text() -> None:
    assert [csv_cell(value) for value in ("=1", "-a", "@b", "a=b", -1.5, None)] == ["'=1", "'-a", "'@b", "a=b", -1.5, None]


@each
def test_latex_runs_nothing(text: str) -> None:
    shown = latex(text)
    assert not re.search(r"\\(?!textbackslash\{\}|[&%$#_{}~^]|times|pm|cdot|to\b|leq|geq)", shown)
    assert not re.search(r"(?<!\\)[%_&#]", shown)


@given(st.text())
def test_json_says_the_same_and_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = json_text({"a": text})
    assert all(sign.isprintable() or sign == "\n" for sign in shown)
    assert json.loads(shown) == {"a": text}


def test_what_is_long_is_cut_in_messages_alone() -> None:
    assert len(printable("a" * 5000)) == 1001
    assert len(clean("a" * 5000)) == 5000


def test_commands_have_one_way_to_print_the_text_of_others() -> None:
    """`shown` cleans and escapes; rich's own function only escapes."""
    for file in (ROOT / "initbench" / "cli").glob("*.py"):
        if file.name != "output.py":
            assert "rich.markup" not in file.read_text("utf-8"), file.name
