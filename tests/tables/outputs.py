"""Runs every command of tables in every form on a study, reads the output back, and collects what it states."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from initbench.choices import SheetForm
from initbench.cli.output import show
from initbench.report import page
from initbench.report.content import assemble
from initbench.stats.treatments import Treatment, compared_with
from initbench.tables import variance
from initbench.tables.boards import boards
from initbench.tables.classes import class_sheets
from initbench.tables.compare import compare_sheets
from initbench.tables.interactions import COLUMNS
from initbench.tables.sheet import Sheet
from initbench.tables.study import Study
from initbench.tables.titles import title, titles
from initbench.tables.variance import variance_sheets
from initbench.tables.words import label, meant
from tests import printed
from tests.html_page import Element, everything, figures
from tests.html_page import read as elements
from tests.html_page import rows as report_rows
from tests.printed import Cell, Range, Table
from tests.tables.statements import MARGIN, Statements

INTERACTIONS = ": interactions of init and regimen"
HEADLINE = re.compile(
    r"Choosing the (?:init|row \(init and regimen\)) moves Dice by an SD of (?P<init>[\d.]+)"
    r"(?: \[(?P<low>[\d.*]+), (?P<high>[\d.*]+)\] points|"
    r" points \((?:not told from 0|some (?:inits|rows) differ); .*up to (?P<most>[\d.*]+)\)); "
    r"retraining with another seed moves it by (?P<seed>[\d.]+) \[(?P<seed_low>[\d.*]+), (?P<seed_high>[\d.*]+)\]\. "
    r"Of two (?:inits|rows) .* wins in (?P<wins>\d+) % of pairs \((?P<wins_low>\d+) to (?P<wins_high>\d+)\)\."
)


def every_form(sheets: Sequence[Sheet]) -> dict[str, str]:
    """What a command prints of its tables in each form, by the form's name."""
    forms: tuple[SheetForm, ...] = ("json", "csv", "md", "latex", "table")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "400")
        for form in forms:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                show(sheets, form)
            found[form] = out.getvalue()
    return found


def tables_of(forms: dict[str, str]) -> dict[str, list[Table]]:
    """The tables in the forms for people: Markdown, LaTeX and terminal."""
    markdown = printed.from_markdown(forms["md"])
    return {
        "md": markdown,
        "latex": printed.from_latex(forms["latex"]),
        "table": printed.from_terminal(forms["table"], markdown),
    }


def rows_of(forms: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """The rows in the forms for machines: JSON and CSV."""
    return {"json": printed.from_json(forms["json"]), "csv": printed.from_csv(forms["csv"])}


def row_of(row: dict[str, Any]) -> str:
    """What people read as the name of a row, from the columns for machines."""
    if not row.get("regimen"):
        return label(row["init"])
    return label(Treatment(row["init"], row["regimen"], row["regimen_budget"]).name)


def control_of(name: str, against: str) -> str:
    """What a row is compared with, as people read both."""
    return label(compared_with(meant(name), against))


def _is_interaction(row: dict[str, Any]) -> bool:
    return row.get("role") == "interaction"


def _tell_interactions(into: Statements, where: str, block: str, rows: Sequence[dict[str, str]]) -> None:
    """Collects what a table of interactions states."""
    for row in rows:
        name, gain, _, verdict = row.values()
        into.difference(where, block, name, "gain of default", replace(printed.cell(gain), word=verdict))


def cell_of(row: dict[str, Any], name: str, word: str = "") -> Cell:
    """A value of a row for machines with its interval."""
    value, low, high = (printed.exact(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return Cell(value, low, high, word)


def tell_leaderboard(into: Statements, study: Study, against: str) -> None:
    """Collects what the leaderboard of each block states when it compares with one init."""
    where = f"leaderboard --against {label(against)}"
    forms = every_form(boards(study, "block", against, MARGIN, letters=False, for_people=False)[0])
    for form, rows in rows_of(forms).items():
        for row in rows:
            if _is_interaction(row):
                name = f"{label(row['init'])} × {Treatment('', row['regimen'], row['regimen_budget']).regimen_name}"
                _tell_tested(into, f"{where} --format {form}", title(row), (name, "gain of default"), row)
            else:
                _tell_leaderboard_row(into, f"{where} --format {form}", row)
    for form, tables in tables_of(forms).items():
        for table in tables:
            if COLUMNS[0] in table.rows[0]:
                _tell_interactions(into, f"{where} --format {form}", table.title.removesuffix(INTERACTIONS), table.rows)
                continue
            _tell_headline(into, f"{where} --format {form}", table.title, " ".join(table.notes))
            for row in table.rows:
                _tell_leaderboard_cells(into, f"{where} --format {form}", table, row, against)


def _tell_leaderboard_row(into: Statements, where: str, row: dict[str, Any]) -> None:
    block, init = title(row), row_of(row)
    into.interval(where, (block, init, "Dice"), cell_of(row, "dice"))
    into.interval(where, (block, init, "seed SD"), cell_of(row, "seed_sd"))
    for name in ("rank", "rank_low", "rank_high"):
        into.say(where, (block, init, name), printed.exact(row[name]))
    words = {"True": "yes", "False": "no", "": None, "None": None}
    into.say(where, (block, init, "may be best"), words[str(row["may_be_best"])])
    if row["against"]:
        _tell_tested(into, where, block, (init, label(row["against"])), row)
    into.interval(where, (block, "between-init SD"), cell_of(row, "between_init_sd"))
    into.interval(where, (block, "retraining SD"), cell_of(row, "retraining_sd"))
    into.interval(where, (block, "wins"), cell_of(row, "better_wins"))


def _tell_tested(into: Statements, where: str, block: str, pair: tuple[str, str], row: dict[str, Any]) -> None:
    into.difference(where, block, *pair, cell_of(row, "difference", row["verdict"]))
    for name in ("p", "p_adjusted", "p_equivalence", "family_size"):
        into.p(where, block, *pair, name, printed.exact(row[name]))


def _tell_leaderboard_cells(into: Statements, where: str, table: Table, row: dict[str, str], against: str) -> None:
    block, init = table.title, row["initializer"]
    into.interval(where, (block, init, "Dice"), printed.cell(row["Dice [95 %]"]))
    into.interval(where, (block, init, "seed SD"), printed.cell(row["seed SD [95 %]"]))
    _tell_rank(into, where, block, init, row["rank"], row["may be best"])
    found = printed.cell(row[table.column("vs ")])
    if init != label(against) and found.word != "withheld":
        into.difference(where, block, init, control_of(init, against), found)


def _tell_rank(into: Statements, where: str, block: str, init: str, rank: str, best: str) -> None:
    found = printed.cell(rank)
    # 2.5 is a rank that two inits share, not one of 2.45 to 2.55; of either the exact one is among them.
    into.say(where, (block, init, "rank"), found.value)
    into.say(where, (block, init, "rank_low"), found.low)
    into.say(where, (block, init, "rank_high"), found.high)
    into.say(where, (block, init, "may be best"), None if best == "–" else best)


def _tell_headline(into: Statements, where: str, block: str, text: str) -> None:
    match = HEADLINE.search(text)
    assert match, f"{where}: no headline of {block}: {text}"
    into.say(where, (block, "headline"), match[0])
    zero = "0.00"
    init = [match["init"], match["low"] or zero, match["high"] or match["most"]]
    seed = [match["seed"], match["seed_low"], match["seed_high"]]
    into.interval(where, (block, "between-init SD"), Cell(*map(printed.shown, init)))
    into.interval(where, (block, "retraining SD"), Cell(*map(printed.shown, seed)))
    for name, end in (("wins", ""), ("wins_low", "low"), ("wins_high", "high")):
        percent = printed.shown(match[name])
        into.say(where, (block, "wins", end), Range(percent.low / 100, percent.high / 100))


def tell_pooled(into: Statements, study: Study, by: str, against: str) -> None:
    """Collects what pooled leaderboards state; a group of one block states it of that block."""
    where = f"leaderboard --by {by} --against {label(against)}"
    forms = every_form(boards(study, by, against, MARGIN, letters=False, for_people=False)[0])  # type: ignore[arg-type]
    blocks: dict[str, str] = {}
    machine = {}
    for form, rows in rows_of(forms).items():
        machine[form] = [row for row in rows if not _is_interaction(row)]
    for row in machine["json"]:
        name = {"backbone": lambda row: title({"dataset": "", **row})[3:], "dataset": lambda row: row["dataset"]}
        group = name[by](row) if by in name else "All blocks"
        alone = [table for table in study.tables if by == "all" or table.block[by] == row[by]]
        blocks[group] = title(alone[0].block) if row["blocks"] == 1 else f"{group} of {row['blocks']} blocks"
        assert len(alone) == row["blocks"]
    names = [group for group in blocks for _ in range(len(machine["json"]) // len(blocks))]
    for form, rows in machine.items():
        for group, row in zip(names, rows, strict=True):
            block, init = blocks[group], row_of(row)
            into.say(f"{where} --format {form}", (block, init, "Dice", ""), printed.exact(row["dice"]))
            if init != label(against):
                _tell_tested(into, f"{where} --format {form}", block, (init, control_of(init, against)), row)
    for form, tables in tables_of(forms).items():
        for table in tables:
            if COLUMNS[0] in table.rows[0]:
                group = table.title.removesuffix(INTERACTIONS)
                _tell_interactions(into, f"{where} --format {form}", blocks[group], table.rows)
                continue
            for cells_ in table.rows:
                found = printed.cell(cells_[table.column("vs ")])
                init = cells_["initializer"]
                into.say(f"{where} --format {form}", (blocks[table.title], init, "Dice", ""), printed.shown(cells_["Dice"]))
                if init != label(against):
                    own = replace(found, word=cells_["verdict"])
                    control = control_of(init, against)
                    into.difference(f"{where} --format {form}", blocks[table.title], init, control, own)


def tell_compare(into: Statements, study: Study, first: str, second: str) -> None:
    """Collects what the comparison of two inits states."""
    where = f"compare {label(first)} {label(second)}"
    forms = every_form(compare_sheets(study, meant(first), meant(second), MARGIN))
    pair = (label(first), label(second))
    for form, rows in rows_of(forms).items():
        for row in rows:
            if row["scope"] == "A":
                _tell_tested(into, f"{where} --format {form}", title(row), pair, row)
    for form, tables in tables_of(forms).items():
        for table in tables:
            answer = table.rows[0]
            block = table.title.partition(": ")[2] or table.title
            if form == "latex":  # its caption ends at the first colon
                block = title(study.tables[tables.index(table)].block)
            own = replace(printed.cell(answer["difference [95 %]"]), word=answer["verdict"])
            into.difference(f"{where} --format {form}", block, *pair, own)
            for name, column in (("p", "p alone"), ("p_adjusted", "p adjusted"), ("p_equivalence", f"p beyond ±{MARGIN}")):
                into.p(f"{where} --format {form}", block, *pair, name, printed.shown(_tex_sign(answer, column)))
            judged = re.search(r"judged (?:by itself|together with .*?\((\d+) in all\))", " ".join(table.notes))
            assert judged
            into.p(f"{where} --format {form}", block, *pair, "family_size", printed.exact(judged[1] or 1))


def _tex_sign(row: dict[str, str], column: str) -> str:
    """The p value that a row prints, with the formulas that LaTeX has for ± and < as plain signs."""
    return (row.get(column) or row[column.replace("±", r"$\pm$")]).replace("$<$", "<")


def tell_variance(into: Statements, study: Study) -> None:
    """Collects what the table of variance components states."""
    forms = every_form(variance_sheets(study.tables))
    for form, rows in rows_of(forms).items():
        for row in rows:
            where, block = f"variance --format {form}", title(row)
            into.interval(where, (block, "between-init SD"), cell_of(row, "between_init_sd"))
            into.interval(where, (block, "retraining SD"), cell_of(row, "retraining_sd"))
            into.interval(where, (block, "wins"), cell_of(row, "better_wins"))
            if row["source"] == "init":
                into.interval(where, (block, "between-init SD"), cell_of(row, "sd"))
            into.interval(where, (block, row["source"], "SD left in a mean"), cell_of(row, "sd_left"))
    for form, tables in tables_of(forms).items():
        for table in tables:
            _tell_headline(into, f"variance --format {form}", table.title, " ".join(table.notes))
            for row in table.rows:
                source = _source(row["source"])
                left = printed.cell(row["SD left in a mean [95 %]"])
                into.interval(f"variance --format {form}", (table.title, source, "SD left in a mean"), left)


def _source(said: str) -> str:
    """The short name of a source of spread."""
    (found,) = (name for name, words in variance.SOURCES.items() if words == said)
    return found


def tell_classes(into: Statements, study: Study) -> None:
    """Collects the Dice of classes; for data with one class, whose Dice is that of the leaderboard."""
    forms = every_form(class_sheets(study, "dice"))
    for form, rows in rows_of(forms).items():
        for row in rows:
            if row.get("class") == "mean":
                into.say(f"classes --format {form}", (title(row), row_of(row), "Dice", ""), printed.exact(row["mean"]))


def tell_report(into: Statements, study: Study, against: str) -> None:
    """Collects what the page of the report states in its tables and charts."""
    content = assemble(study, against, MARGIN)
    document = elements("".join(page.pieces(content)))
    sections = [item for item in document.all("section", "block") if item.attributes["id"].startswith("b")]
    where = f"report --against {label(against)}"
    (sources,) = figures(document, "sources")
    named_blocks = titles([block.table.block for block in content.blocks])
    for number, (block, name, section) in enumerate(zip(content.blocks, named_blocks, sections, strict=True)):
        (headline,) = section.all("p", "headline")
        _tell_headline(into, f"{where}, headline", block.title, headline.text)
        for init, row in report_rows(document, f"b{number}").items():
            _tell_report_row(into, f"{where}, table", block.title, (label(init), label(against)), row)
        for made in section.all("table", "interactions"):
            rows = [[cell.text for cell in row.children] for row in next(made.all("tbody")).all("tr")]
            named = [dict(zip(COLUMNS, cells, strict=True)) for cells in rows]
            _tell_interactions(into, f"{where}, interactions", block.title, named)
        _tell_forest(into, f"{where}, differences", block.title, section, against)
        _tell_places(into, f"{where}, places", block.title, section)
        _tell_sources(into, f"{where}, sources", block.title, sources, name)


def _tell_sources(into: Statements, where: str, block: str, figure: Element, name: str) -> None:
    """Collects the marks of a block in the charts of sources; `name`: what its lines are called where the pointer is."""
    for line in figure.all("div", "line"):
        (shown,) = line.all("span", "name") if "data-dataset" in line.attributes else (None,)
        if shown is None or shown.attributes["data-tip"] != name:
            continue
        (mark,) = line.all("circle")
        source, _, rest = mark.attributes["data-tip"].partition(": SD ")
        left = printed.cell(rest.removesuffix(" points in the mean of an init"))
        into.interval(where, (block, _source(source), "SD left in a mean"), left)


def _tell_report_row(into: Statements, where: str, block: str, pair: tuple[str, str], row: dict[str, Element]) -> None:
    if "reason" in row:
        return
    init, against = pair
    into.interval(where, (block, init, "Dice"), printed.cell(f"{row['dice'].text} {row['interval'].text}"))
    into.interval(where, (block, init, "seed SD"), printed.cell(row["sd"].text))
    _tell_rank(into, where, block, init, row["rank"].text, row["best"].text)
    if init != against:
        found = replace(printed.cell(row["difference"].text), word=row["verdict"].text)
        into.difference(where, block, init, control_of(init, meant(against)), found)


def _tell_forest(into: Statements, where: str, block: str, section: Element, against: str) -> None:
    (figure,) = figures(section, "forest")
    for line in figure.all("div", "init"):
        init = line.attributes["data-init"]
        tips = [item.attributes.get("data-tip", "") for item in everything(line)]
        (tip,) = (text for text in tips if text.startswith(f"{init}: "))
        match = re.fullmatch(r"(?P<cell>\S+(?: \[[^\]]+\])?), (?P<verdict>.+)", tip.removeprefix(f"{init}: "))
        assert match, tip
        found = replace(printed.cell(match["cell"]), word=match["verdict"])
        into.difference(where, block, label(init), label(against), found)


def _tell_places(into: Statements, where: str, block: str, section: Element) -> None:
    (figure,) = figures(section, "places")
    for line in figure.all("div", "init"):
        (mark,) = (item for item in everything(line) if item.attributes.get("class") == "dot")
        match = re.fullmatch(r"(.+): rank (\S+) by Dice, may have place (\d+)(?: to (\d+))?", mark.attributes["data-tip"])
        assert match
        of = (block, label(match[1]))
        into.say(where, (*of, "rank"), printed.shown(match[2]))
        into.say(where, (*of, "rank_low"), printed.shown(match[3]))
        into.say(where, (*of, "rank_high"), printed.shown(match[4] or match[3]))
