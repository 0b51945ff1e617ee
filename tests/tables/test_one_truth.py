"""One study, one truth: whatever command or form shows a number of a study shows the same one, and its words agree with it.

Every output is read back as statements: what it says of which thing. Two statements about one thing contradict each other where
no number could be printed as both, or where their words differ.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from initbench.cli import statistics
from initbench.cli.output import show
from initbench.report import cells, page
from initbench.report.content import assemble
from initbench.stats.analysis import Analysis
from initbench.stats.compare import Difference, difference
from initbench.stats.design import Refused, Scope
from initbench.stats.families import Family
from initbench.stats.table import ScoreTable
from initbench.tables import compare, leaderboard, variance
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.sheet import Sheet
from initbench.tables.study import Study, read_study
from initbench.tables.titles import title
from initbench.tables.words import label
from tests import printed
from tests.folders import ROOT
from tests.html_page import Element, figures
from tests.html_page import read as elements
from tests.html_page import rows as report_rows
from tests.printed import Cell, Range, Table
from tests.recorded import write_block, write_run

MARGIN = 0.5
BASELINE, PLACEBO, OTHER = "default", "default(construct='other')", "lwi"
TURNED = {
    "better": "worse",
    "worse": "better",
    "equivalent, but above 0": "equivalent, but below 0",
    "equivalent, but below 0": "equivalent, but above 0",
}
HEADLINE = re.compile(
    r"Choosing the init moves Dice by an SD of (?P<init>[\d.]+)"
    r"(?: \[(?P<low>[\d.*]+), (?P<high>[\d.*]+)\] points|"
    r" points \((?:not told from 0|some inits differ); .*up to (?P<most>[\d.*]+)\)); "
    r"retraining with another seed moves it by (?P<seed>[\d.]+) \[(?P<seed_low>[\d.*]+), (?P<seed_high>[\d.*]+)\]\. "
    r"Of two inits .* wins in (?P<wins>\d+) % of pairs \((?P<wins_low>\d+) to (?P<wins_high>\d+)\)\."
)


def _load(name: str) -> ModuleType:
    """A module of the benchmarks, which are no package."""
    path = ROOT / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"one_truth_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look for their module there
    spec.loader.exec_module(module)
    return module


synthetic = _load("synthetic_study")


# --- statements -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statement:
    """What an output says of a thing: a number, a word, or that there is none.

    Attributes:
        where: the output.
        of: the thing, as `("lung × unetr", "lwi", "Dice")`.
    """

    where: str
    of: tuple[str, ...]
    says: Range | str | None


def contradictions(statements: list[Statement]) -> list[str]:
    """Things of which two outputs say what cannot both be true."""
    things: dict[tuple[str, ...], list[Statement]] = {}
    for item in statements:
        things.setdefault(item.of, []).append(item)
    found = []
    for of, said in things.items():
        ranges = [item.says for item in said if isinstance(item.says, Range)]
        if len(ranges) == len(said):
            agree = max(item.low for item in ranges) <= min(item.high for item in ranges)
        else:
            agree = len({item.says for item in said}) == 1
        if not agree:
            found.append(f"{' · '.join(of)}: " + "; ".join(f"{item.where} {item.says}" for item in said))
    return found


class Statements:
    """The statements of outputs, put together; a difference is kept in one direction, whichever an output shows."""

    def __init__(self) -> None:
        self.all: list[Statement] = []

    def say(self, where: str, of: tuple[str, ...], says: Range | str | None) -> None:
        self.all.append(Statement(where, of, says))

    def interval(self, where: str, of: tuple[str, ...], found: Cell) -> None:
        for name, part in (("", found.value), ("low", found.low), ("high", found.high)):
            self.say(where, (*of, name), part)

    def difference(self, where: str, block: str, first: str, second: str, found: Cell) -> None:
        """`first` less `second` with the verdict."""
        verdict = found.word
        if first > second:
            first, second = second, first
            verdict = TURNED.get(verdict, verdict)
            value, low, high = (None if part is None else part.turned() for part in (found.value, found.high, found.low))
        else:
            value, low, high = found.value, found.low, found.high
        of = (block, f"{first} − {second}")
        self.interval(where, (*of, "difference"), Cell(value, low, high))
        self.say(where, (*of, "verdict"), verdict)

    def p(self, where: str, block: str, first: str, second: str, name: str, says: Range | None) -> None:
        """A p value, or the size of a family: the same for both directions."""
        self.say(where, (block, " − ".join(sorted((first, second))), name), says)


# --- what outputs say -------------------------------------------------------------------------------------------------

Command = Callable[[str], None]


def every_form(command: Command) -> dict[str, str]:
    """What a command prints in every form; its statistics are done once."""
    sheets: list[Sheet] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "show", lambda made, form: sheets.extend(made))
        command("json")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "400")
        for form in ("json", "csv", "md", "latex", "table"):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                show(sheets, form)
            found[form] = out.getvalue()
    return found


def tables_of(forms: dict[str, str]) -> dict[str, list[Table]]:
    """The tables of the forms for people."""
    markdown = printed.from_markdown(forms["md"])
    return {
        "md": markdown,
        "latex": printed.from_latex(forms["latex"]),
        "table": printed.from_terminal(forms["table"], markdown),
    }


def rows_of(forms: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """The rows of the forms for machines."""
    return {"json": printed.from_json(forms["json"]), "csv": printed.from_csv(forms["csv"])}


def cell_of(row: dict[str, Any], name: str, word: str = "") -> Cell:
    """A value of a machine's row with its interval."""
    value, low, high = (printed.exact(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return Cell(value, low, high, word)


def tell_leaderboard(into: Statements, study: Study, against: str) -> None:
    where = f"leaderboard --against {label(against)}"
    forms = every_form(lambda form: statistics.leaderboard_command(study, "block", against, MARGIN, form, letters=False))
    for form, rows in rows_of(forms).items():
        for row in rows:
            _tell_leaderboard_row(into, f"{where} --format {form}", row, against)
    for form, tables in tables_of(forms).items():
        for table in tables:
            _tell_headline(into, f"{where} --format {form}", table.title, " ".join(table.notes))
            for row in table.rows:
                _tell_leaderboard_cells(into, f"{where} --format {form}", table, row, against)


def _tell_leaderboard_row(into: Statements, where: str, row: dict[str, Any], against: str) -> None:
    block, init = title(row), label(row["init"])
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
        into.difference(where, block, init, label(against), found)


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
    """A group of one block is that block; the numbers of any other are its own."""
    where = f"leaderboard --by {by} --against {label(against)}"
    forms = every_form(lambda form: statistics.leaderboard_command(study, by, against, MARGIN, form, letters=False))  # type: ignore[arg-type]
    blocks: dict[str, str] = {}
    machine = rows_of(forms)
    for row in machine["json"]:
        name = {"backbone": lambda row: title({"dataset": "", **row})[3:], "dataset": lambda row: row["dataset"]}
        group = name[by](row) if by in name else "All blocks"
        alone = [table for table in study.tables if by == "all" or table.block[by] == row[by]]
        blocks[group] = title(alone[0].block) if row["blocks"] == 1 else f"{group} of {row['blocks']} blocks"
        assert len(alone) == row["blocks"]
    names = [group for group in blocks for _ in range(len(machine["json"]) // len(blocks))]
    for form, rows in machine.items():
        for group, row in zip(names, rows, strict=True):
            block, init = blocks[group], label(row["init"])
            into.say(f"{where} --format {form}", (block, init, "Dice", ""), printed.exact(row["dice"]))
            if init != label(against):
                _tell_tested(into, f"{where} --format {form}", block, (init, label(against)), row)
    for form, tables in tables_of(forms).items():
        for table in tables:
            for cells_ in table.rows:
                found = printed.cell(cells_[table.column("vs ")])
                init = cells_["initializer"]
                into.say(f"{where} --format {form}", (blocks[table.title], init, "Dice", ""), printed.shown(cells_["Dice"]))
                if init != label(against):
                    own = replace(found, word=cells_["verdict"])
                    into.difference(f"{where} --format {form}", blocks[table.title], init, label(against), own)


def tell_compare(into: Statements, study: Study, first: str, second: str) -> None:
    where = f"compare {label(first)} {label(second)}"
    forms = every_form(lambda form: statistics.compare_command(study, first, second, MARGIN, form))
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
    """A p value; LaTeX writes ± and < as formulas."""
    return (row.get(column) or row[column.replace("±", r"$\pm$")]).replace("$<$", "<")


def tell_variance(into: Statements, study: Study) -> None:
    forms = every_form(lambda form: statistics.variance_command(study, False, form))
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
    """Of data with one class, whose mean is the leaderboard's Dice."""
    forms = every_form(lambda form: statistics.classes_command(study, "dice", form))
    for form, rows in rows_of(forms).items():
        for row in rows:
            if row.get("class") == "mean":
                into.say(f"classes --format {form}", (title(row), label(row["init"]), "Dice", ""), printed.exact(row["mean"]))


def tell_report(into: Statements, study: Study, against: str) -> None:
    content = assemble(study, against, MARGIN)
    document = elements("".join(page.pieces(content)))
    sections = [item for item in document.all("section", "block") if item.attributes["id"].startswith("b")]
    where = f"report --against {label(against)}"
    (sources,) = figures(document, "sources")
    lines = [item for item in sources.all("g") if "data-dataset" in item.attributes]
    for number, (block, section) in enumerate(zip(content.blocks, sections, strict=True)):
        (headline,) = section.all("p", "headline")
        _tell_headline(into, f"{where}, headline", block.title, headline.text)
        for init, row in report_rows(document, f"b{number}").items():
            _tell_report_row(into, f"{where}, table", block.title, (label(init), label(against)), row)
        _tell_forest(into, f"{where}, differences", block.title, section, against)
        _tell_places(into, f"{where}, places", block.title, section)
        for mark in lines[number].all("circle"):
            name, _, rest = mark.attributes["data-tip"].partition(": SD ")
            left = printed.cell(rest.removesuffix(" points in the mean of an init"))
            into.interval(f"{where}, sources", (block.title, _source(name), "SD left in a mean"), left)


def _tell_report_row(into: Statements, where: str, block: str, pair: tuple[str, str], row: dict[str, Element]) -> None:
    if "reason" in row:
        return
    init, against = pair
    into.interval(where, (block, init, "Dice"), printed.cell(f"{row['dice'].text} {row['interval'].text}"))
    into.interval(where, (block, init, "seed SD"), printed.cell(row["sd"].text))
    _tell_rank(into, where, block, init, row["rank"].text, row["best"].text)
    if init != against:
        found = replace(printed.cell(row["difference"].text), word=row["verdict"].text)
        into.difference(where, block, init, against, found)


def _tell_forest(into: Statements, where: str, block: str, section: Element, against: str) -> None:
    (figure,) = figures(section, "forest")
    for group in figure.all("g", "init"):
        init = group.attributes["data-init"]
        tips = [item.attributes.get("data-tip", "") for item in group.children]
        (tip,) = (text for text in tips if text.startswith(f"{init}: "))
        match = re.fullmatch(r"(?P<cell>\S+(?: \[[^\]]+\])?), (?P<verdict>.+)", tip.removeprefix(f"{init}: "))
        assert match, tip
        found = replace(printed.cell(match["cell"]), word=match["verdict"])
        into.difference(where, block, label(init), label(against), found)


def _tell_places(into: Statements, where: str, block: str, section: Element) -> None:
    (figure,) = figures(section, "places")
    for group in figure.all("g", "init"):
        (mark,) = group.all("circle")
        match = re.fullmatch(r"(.+): rank (\S+) by Dice, may have place (\d+)(?: to (\d+))?", mark.attributes["data-tip"])
        assert match
        of = (block, label(match[1]))
        into.say(where, (*of, "rank"), printed.shown(match[2]))
        into.say(where, (*of, "rank_low"), printed.shown(match[3]))
        into.say(where, (*of, "rank_high"), printed.shown(match[4] or match[3]))


# --- whether it agrees ------------------------------------------------------------------------------------------------


def told(study: Study, *, one_class: bool) -> Statements:
    """What all outputs say of a study."""
    into = Statements()
    for against in (BASELINE, OTHER):
        tell_leaderboard(into, study, against)
        tell_report(into, study, against)
        for by in ("backbone", "dataset", "all"):
            tell_pooled(into, study, by, against)
    for first, second in ((OTHER, BASELINE), ("mae", BASELINE), (OTHER, "mae"), (PLACEBO, BASELINE), (OTHER, PLACEBO)):
        tell_compare(into, study, first, second)
        tell_compare(into, study, second, first)
    tell_variance(into, study)
    if one_class:
        tell_classes(into, study)
    return into


def disagreements(statements: list[Statement]) -> list[str]:
    """Verdicts, p values and ranks that do not say what the numbers beside them do; from the exact ones."""
    exact: dict[tuple[str, ...], float] = {}
    words: dict[tuple[str, ...], str] = {}
    for item in statements:
        if "--format json" in item.where:
            if isinstance(item.says, Range):
                exact[item.of] = (item.says.low + item.says.high) / 2
            elif item.says is not None:
                words[item.of] = item.says
    found = []
    for of, word in words.items():
        if of[-1] == "verdict" and not _verdict_agrees(word, of[:-1], exact):
            found.append(f"{' · '.join(of)}: {word}")
        if of[-1] == "may be best" and (word == "no") != (exact[*of[:-1], "rank_low"] > 1):
            found.append(f"{' · '.join(of)}: {word}, but the best place is {exact[*of[:-1], 'rank_low']}")
        if of[-1] == "headline" and ("not told from 0" in word) and exact[of[0], "between-init SD", "low"] > 0:
            found.append(f"{' · '.join(of)}: {word}")
    return found


def _verdict_agrees(word: str, of: tuple[str, ...], exact: dict[tuple[str, ...], float]) -> bool:
    if word == "untestable":
        return (*of, "difference", "low") not in exact and (*of, "p_adjusted") not in exact
    low, high = (exact[*of, "difference", end] for end in ("low", "high"))
    above, below = low > 0, high < 0
    within = low >= -MARGIN and high <= MARGIN
    says = [
        (word.startswith("equivalent"), within),
        (word in ("better", "worse"), (above or below) and not within),
        (word in ("better", "equivalent, but above 0"), above),
        (word in ("worse", "equivalent, but below 0"), below),
        (word == "undecided", not within and not above and not below),
        (exact[*of, "p_adjusted"] < 0.05, above or below),
        (exact[*of, "p_equivalence"] < 0.05, within),
    ]
    return all(said == holds for said, holds in says)


# --- the studies ------------------------------------------------------------------------------------------------------

E = synthetic.Effects
EFFECTS = {
    "usual": E(),
    "none": E(init=0, block_init=0),
    "strong": E(init=5, block_init=2),
    "precise": E(init=0.25, block_init=0.1, seed=0.1, seed_init=0.1, init_case=0.3, residual=0.8),
    "noisy": E(seed=3, seed_init=5, init_case=8, residual=15),
    "low": E(level=12, init=4, case=15),
}
# Effects, backbones, classes, cases per patient, share of diverged runs.
STUDIES = [
    ("usual", 2, 1, 1, 0.0),
    ("none", 1, 1, 2, 0.0),
    ("precise", 2, 1, 4, 0.0),
    ("noisy", 1, 1, 1, 0.1),
    ("strong", 1, 1, 4, 0.0),
    ("low", 2, 1, 2, 0.0),
    ("usual", 1, 2, 2, 0.05),
    ("precise", 1, 1, 1, 0.0),
    ("none", 2, 2, 4, 0.0),
    ("noisy", 1, 2, 4, 0.0),
    ("strong", 2, 1, 1, 0.03),
    ("usual", 1, 1, 4, 0.0),
    ("precise", 1, 2, 2, 0.0),
    ("strong", 1, 1, 2, 0.2),
]
QUICK = 4


def made_up(out: Path, number: int) -> tuple[Study, bool]:
    """The study of this number, and whether it has one class."""
    effects, backbones, classes, per_patient, diverged = STUDIES[number]
    plan = synthetic.Plan(
        datasets=2,
        backbones=backbones,
        inits=8,
        seeds=5,
        cases=30,
        classes=classes,
        effects=EFFECTS[effects],
        diverged=diverged,
        key=100 + number,
        cases_per_patient=per_patient,
    )
    synthetic.write_study(out, plan)
    return read_study(out), classes == 1


def recorded(out: Path) -> Study:
    """Runs as they come: a placebo, weights from outside, diverged and failed runs, patients with two cases, two networks."""
    pairs = {"case_01": "a", "case_02": "a", "case_03": "b", "case_04": "b"}
    for backbone, more in (("unetr", 0.0), ("unetrpp", 0.03)):
        own: dict[str, Any] = {"backbone": backbone, "patients": pairs}
        scores = {
            BASELINE: [0.60, 0.62, 0.64, 0.61],
            PLACEBO: [0.61, 0.61, 0.64, 0.60],
            "kaiming-normal(mode='fan_out')": [0.60, 0.61, 0.65, 0.66],
            "checkpoint(path='a.pt@12345678')": [0.70, 0.73, 0.72, 0.71],
        }
        for init, values in scores.items():
            write_block(out, {init: [value + more for value in values]}, external=init.startswith("checkpoint"), **own)
        for init, values in ((OTHER, [0.75, 0.76, 0.78, 0.77]), ("mae", [0.63, 0.66, 0.62, 0.66])):
            write_block(out, {init: [value + more for value in values]}, protocol="equal-total", **own)
        write_run(out, "uniform", 0.58, seed=0, **own)
        write_run(out, "uniform", 0.0, seed=1, status="diverged", **own)
        write_run(out, "uniform", 0.61, seed=2, **own)
        write_run(out, "uniform", 0.57, seed=3, **own)
        write_run(out, "orthogonal", status="failed", seed=0, **own)
        write_run(out, "orthogonal", 0.6, seed=1, **own)
    return read_study(out)


def check(study: Study, *, one_class: bool) -> None:
    said = told(study, one_class=one_class).all
    assert len(said) > 1000
    assert contradictions(said) == []
    assert disagreements(said) == []


@pytest.mark.parametrize("number", range(QUICK))
def test_all_outputs_of_a_study_agree(tmp_path: Path, number: int) -> None:
    study, one_class = made_up(tmp_path, number)
    check(study, one_class=one_class)


@pytest.mark.full
@pytest.mark.parametrize("number", range(QUICK, len(STUDIES)))
def test_all_outputs_of_more_studies_agree(tmp_path: Path, number: int) -> None:
    study, one_class = made_up(tmp_path, number)
    check(study, one_class=one_class)


def test_all_outputs_of_recorded_runs_agree(tmp_path: Path) -> None:
    check(recorded(tmp_path), one_class=True)


def test_the_studies_show_every_verdict(tmp_path: Path) -> None:
    """Otherwise some word would never be held against its interval."""
    found = set()
    for number in range(QUICK):
        study, _ = made_up(tmp_path / str(number), number)
        into = Statements()
        tell_leaderboard(into, study, BASELINE)
        found |= {item.says for item in into.all if item.of[-1] == "verdict"}
    assert found >= {"better", "worse", "undecided", "equivalent"}


def test_the_headline_is_the_same_whatever_the_others_are_compared_with(tmp_path: Path) -> None:
    """Whether the between-init SD is told from 0 is a matter of the inits, not of the one that was asked for."""
    study, _ = made_up(tmp_path, 13)
    into = Statements()
    for against in (BASELINE, OTHER, "order"):
        tell_leaderboard(into, study, against)
    tell_variance(into, study)
    assert [text for text in contradictions(into.all) if "headline" in text] == []


def test_the_headline_tells_inits_apart_where_the_ranks_do(tmp_path: Path) -> None:
    study, _ = made_up(tmp_path, 0)
    for made in leaderboard_sheets(study):
        if any(row["may_be_best"] is False for row in made.values):
            assert "not told from 0" not in made.notes[0]


def test_an_init_is_not_surely_behind_one_that_it_cannot_be_compared_with(tmp_path: Path) -> None:
    for seed in range(4):
        write_run(tmp_path, BASELINE, 0.0, seed=seed, status="diverged")
        write_run(tmp_path, OTHER, 0.6 + 0.01 * seed, seed=seed)
    (made,) = leaderboard_sheets(read_study(tmp_path))
    assert {row["verdict"] for row in made.values} == {"", "untestable"}
    assert [row["may_be_best"] for row in made.values] == [True, True]


# --- whether the check bites ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Study:
    out = tmp_path_factory.mktemp("small")
    synthetic.write_study(out, synthetic.Plan(1, 1, 6, 4, 20, 1, key=5, diverged=0.0))
    return read_study(out)


def alone(table: ScoreTable, first: str, second: str, *, scope: Scope, margin: float) -> Difference:
    """The difference of two inits as if it were the only one."""
    a, b = (table.by_patient[table.inits.index(name)] for name in (first, second))
    own = Family("claims", 1)
    return difference(a, b, names=(first, second), scope=scope, seeds=table.design, margin=margin, judged_with=own)


def unadjusted(item: Difference | None) -> dict[str, object]:
    found = TESTED(item)
    return {**found, "p_adjusted": found["p"]}


def optimistic(item: Difference | None) -> dict[str, object]:
    return {**TESTED(item), "verdict": "better" if item else ""}


def doubled(table: ScoreTable, found: Analysis | Refused) -> str:
    return re.sub(r"an SD of ([\d.]+)", lambda match: f"an SD of {2 * float(match[1]) + 1:.2f}", HEADLINE_OF(table, found))


FAULTS = {
    "compare judges a pair by itself": (compare, "pair", alone, "family_size"),
    "p values for machines are those of single tests": (compare.words, "tested", unadjusted, "p_adjusted"),
    "verdicts for machines are bold": (compare.words, "tested", optimistic, "verdict"),
    "the page cuts intervals": (cells, "bounds", lambda found: f"[{found.value:.1f}, {found.high:.1f}]", "Dice · low"),
    "another SD in sentences than in tables": (leaderboard, "headline", doubled, "between-init SD"),
}
TESTED, HEADLINE_OF = compare.words.tested, leaderboard.headline  # as they are without a fault


def test_without_a_fault_nothing_is_found(small: Study) -> None:
    check(small, one_class=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_output_that_goes_its_own_way_is_found(small: Study, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    module, name, wrong, thing = FAULTS[fault]
    monkeypatch.setattr(module, name, wrong)
    found = contradictions(told(small, one_class=True).all)
    assert found
    assert any(thing in text for text in found), found
