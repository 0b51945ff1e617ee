"""Sets a published table beside what was measured: values, gaps in seed SDs, claims, classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from initbench.errors import UsageError
from initbench.published import trials
from initbench.published.tables import Row, Table
from initbench.stats.cases import class_scores
from initbench.stats.classes import choose
from initbench.stats.design import Array
from initbench.stats.summary import LEVEL, Interval, sd_interval, t_quantile
from initbench.stats.table import ScoreTable
from initbench.tables import words
from initbench.tables.reproduce import claims
from initbench.tables.reproduce.matching import PLACEBO_LABEL
from initbench.tables.reproduce.measured import Answer, Asked, MeasuredRow, MissingRow, number_or_nan
from initbench.tables.sheet import Sheet
from initbench.tables.titles import variant

_FEW = 6  # seeds, below which an SD is hardly known
_COLUMNS = ("row", "here", "paper", "measured [95 %]", "seed SD [95 %]", "seeds", "gap", "gap in SDs", "one run")
_LIKELY = {None: "–", True: "possible", False: "unlikely"}
_NAN = math.nan


@dataclass(frozen=True)
class Gap:
    """What was measured less what is published, in Dice points.

    Attributes:
        sds: over the seed SD, with the bounds that its interval allows; NaN with one seed.
        reach: Dice points from the mean within which one more run lies, 95 %.
    """

    points: float
    sds: Interval
    reach: float

    @property
    def likely(self) -> bool | None:
        """Whether the published value could be one more run like these; None where nobody can tell."""
        return None if math.isnan(self.reach) else abs(self.points) <= self.reach


_NO_GAP = Gap(_NAN, Interval(_NAN, _NAN, _NAN), _NAN)


@dataclass(frozen=True)
class _Printed:
    """What the paper prints of a row: NaN and "" where it is silent, as it is on all of a placebo."""

    value: float = _NAN
    runs: float = _NAN
    x: float = _NAN
    hd95: float = _NAN
    source: str = ""
    deviations: str = ""


def gap(scores: Array, published: float) -> Gap:
    """Returns the gap of the mean of run scores [seed] to a published value that is taken for one run."""
    points, sd, n = float(scores.mean()) - published, sd_interval(scores), scores.size
    if n < 2 or sd.value == 0:
        return Gap(points, Interval(_NAN, _NAN, _NAN), _NAN)
    low, high = sorted((points / sd.low, points / sd.high))
    reach = t_quantile(0.5 + LEVEL / 2, n - 1) * sd.value * math.sqrt(1 + 1 / n)
    return Gap(points, Interval(points / sd.value, low, high), reach)


def reproduction_sheets(asked: Asked, answers: Sequence[Answer]) -> list[Sheet]:
    """Returns the table beside the runs, its claims, and its classes where the paper has them; once for every answer."""
    made: list[Sheet] = []
    for answer in answers:
        made.append(_main(asked, answer))
        if asked.table.claims:
            made.append(claims.sheet(asked, answer.rows))
        made += _classes(asked, answer)
    made[-1] = replace(made[-1], notes=(*made[-1].notes, *sources(asked)))
    return made


# --- the table --------------------------------------------------------------------------------------------------------


def _main(asked: Asked, answer: Answer) -> Sheet:
    table, measured = asked.table, answer.rows
    published: dict[str, Row | None] = {row.label: row for row in table.row}
    if PLACEBO_LABEL in measured:
        published[PLACEBO_LABEL] = None
    networks = {(item.block["dataset"], variant(item.block)) for item in measured.values()}
    rows, values = [], []
    for label, row in published.items():
        item = measured.get(label)
        rows.append(_cells(label, row, item, is_one_network=len(networks) == 1))
        values.append(_values(asked, label, row, item))
    return Sheet(
        title=f"{table.full_name} · {table.title}",
        subtitle=_subtitle(list(measured.values()), networks),
        columns=_COLUMNS,
        rows=tuple(rows),
        notes=tuple(_notes(asked, answer)),
        values=tuple(values),
        names=2,
    )


def _subtitle(rows: Sequence[MeasuredRow], networks: set[tuple[object, str]]) -> str:
    """Returns what the measured rows have in common.

    Args:
        rows: at least one.
        networks: data set and network of each.
    """
    first = rows[0].block
    common = ["measured on the data and networks in the second column"]
    if len(networks) == 1:
        common = [f"{first['dataset']} × {variant(first)}"]
    common.append(f"{first['size']} size · {_all(rows, 'steps')} steps ({first['budget']})")
    protocols = {str(row.block["protocol"]) for row in rows} - {"any"}
    if protocols:
        common.append(" and ".join(sorted(protocols)))
    common += [str(first["precision"]), f"split {_all(rows, 'split')}"]
    cases = sorted({row.cases for row in rows})
    common.append(" or ".join(map(str, cases)) + " cases")
    return " · ".join(common)


def _all(rows: Sequence[MeasuredRow], key: str) -> str:
    """Returns the values of a setting that rows have, each once."""
    found = dict.fromkeys(str(row.block[key]) for row in rows)
    return " or ".join(found)


def _cells(label: str, row: Row | None, item: MeasuredRow | None, *, is_one_network: bool) -> tuple[str, ...]:
    """Returns the cells of a row.

    Args:
        label: of the row.
        row: as it is published; None of the placebo.
        item: as it was measured, if it was.
        is_one_network: whether all rows are of one data set and one network, which the subtitle names.
    """
    published = _printed(row).value
    paper = words.number(published, 2)
    if item is None:
        return (label, "–", paper, *["–"] * (len(_COLUMNS) - 3))
    here = item.here
    if not is_one_network:
        here = f"{here} × {variant(item.block)} × {item.block['dataset']}"
    cells = (label, here, paper, words.dice(item.mean), words.sd(item.sd), str(item.scores.size))
    if math.isnan(published) or not item.scores.size:
        return (*cells, "–", "–", "–")
    apart = gap(item.scores, published)
    in_sds = words.interval(apart.sds, signed=True, digits=1)
    return (*cells, words.number(apart.points, 1, signed=True), in_sds, _LIKELY[apart.likely])


def _notes(asked: Asked, answer: Answer) -> list[str]:
    lines, measured = [], answer.rows
    instead = asked.overrides.words()
    if instead:
        lines.append(
            f"Warning: measured with {', '.join(instead)}. The published numbers are of another question: "
            "gaps to them say nothing of the paper, and its claims are asked here, not tested there."
        )
    lines += _of_the_sds(measured.values())
    lines.append(
        "gap: measured less published, in Dice points and over the seed SD, with the bounds that the SD's own interval allows. "
        "one run: whether one more run like these could give the paper's number (95 %)."
    )
    lines += _scoring(asked, answer)
    lines += _set(asked)
    lines += _reasons(asked)
    missing = [trial.label for trial in asked.mapped.trials if trial.label not in measured]
    if missing:
        lines.append(f"Not run: {', '.join(missing)}.")
    environments: set[str] = set()
    tables: dict[int, ScoreTable] = {}
    for item in measured.values():
        lines += _about_row(item)
        environments |= item.environments
        tables[id(item.table)] = item.table
    if len(environments) > 1:
        lines.append("Warning: rows come from different environments (hardware, package versions or --fast).")
    for table in tables.values():
        lines += words.narrowed(table.narrowed)
    if answer.found.other:
        lines.append(
            f"Warning: {', '.join(answer.found.other)}: there are runs of other data, code or variants, too; shown are those of "
            "one state, in which most rows have results."
        )
    return lines


def _about_row(item: MeasuredRow) -> list[str]:
    """Returns what should be known of the runs of a row."""
    lines = []
    if item.reason:
        lines.append(f"{item.label} is withheld: {item.reason}.")
    if item.diverged:
        lines.append(f"{item.label}: {words.count(item.diverged, 'run')} diverged, scored 0.")
    if item.external:
        lines.append(f"{item.label}: conditional on these weights; external data.")
    for path in item.invalid:
        lines.append(f"Warning: {item.label}: {path} is kept off, see `initbench verify {path}`.")
    return lines


def _reasons(asked: Asked) -> list[str]:
    """Returns why rows of the table cannot be run."""
    return [f"{label}: {reason}." for label, reason in asked.mapped.reasons.items()]


def _set(asked: Asked) -> list[str]:
    """Returns what rows set over the recipe for themselves, beside what was asked for all of them."""
    found: dict[str, list[str]] = {}
    for trial in asked.mapped.trials:
        own = [text for text in trial.assignments if text not in asked.overrides.assignments]
        if own:
            found.setdefault(", ".join(own), []).append(trial.label)
    return [f"{', '.join(labels)}: with {own}." for own, labels in found.items()]


def _scoring(asked: Asked, answer: Answer) -> list[str]:
    """Returns what is scored otherwise than on the leaderboard, and what the paper scores otherwise than here."""
    lines: dict[str, None] = {}
    is_resampled = False
    for item in answer.scores.values():
        if item.as_the_paper:
            lines[f"Scored as the paper does: {item.as_the_paper}."] = None
            is_resampled = is_resampled or "resampled" in item.as_the_paper
    if asked.overrides.own_data and asked.table.grid == "resampled" and not is_resampled:
        lines["Counted on the native grid; the paper counts on its resampled one."] = None
    return list(lines)


def _of_the_sds(rows: Iterable[MeasuredRow]) -> list[str]:
    """Returns what the SDs of rows with few seeds are worth; a withheld row may have none."""
    alone, several = [], []
    for item in rows:
        if item.scores.size == 1:
            alone.append(item.label)
        elif item.scores.size:
            several.append(item.scores.size)
    lines = []
    if alone:
        whose = f" of {', '.join(alone)}" if several else ""
        lines.append(f"One seed{whose}: no SD, so nothing says whether a gap is more than luck.")
    if several and min(several) < _FEW:
        lines.append(_of_the_sd(min(several)))
    return lines


def _of_the_sd(seeds: int) -> str:
    """Returns how little few seeds know of their SD, in words."""
    spread = sd_interval(np.array([0.0, *[1.0] * (seeds - 1)]))
    low, high = spread.low / spread.value, spread.high / spread.value
    return (
        f"{seeds} seeds hardly know their SD: the true one may be {low:.1f} to {high:.1f} times as large, and "
        "gaps in SDs are as uncertain."
    )


def _printed(row: Row | None) -> _Printed:
    if row is None:
        return _Printed()
    return _Printed(
        value=number_or_nan(row.value),
        runs=number_or_nan(row.runs),
        x=number_or_nan(row.x),
        hd95=number_or_nan(row.hd95),
        source=row.source,
        deviations=" ".join(row.deviations),
    )


def _values(asked: Asked, label: str, row: Row | None, item: MeasuredRow | None) -> dict[str, object]:
    printed = _printed(row)
    found = item or MissingRow(x=printed.x)
    apart = _NO_GAP
    if found.scores.size and not math.isnan(printed.value):
        apart = gap(found.scores, printed.value)
    return {
        "of": "row",
        "table": asked.table.full_name,
        "row": label,
        "dataset": found.block["dataset"],
        "split": found.block["split"],
        "backbone": found.block["backbone"],
        "variant": found.block["variant"],
        "size": found.block["size"],
        "budget": found.block["budget"],
        "steps": found.block["steps"],
        "init": found.block["init"],
        "protocol": found.block["protocol"],
        "precision": found.block["precision"],
        "x": found.x,
        "published": printed.value,
        "published_runs": printed.runs,
        "published_hd95": printed.hd95,
        "dice": found.mean.value,
        "dice_low": found.mean.low,
        "dice_high": found.mean.high,
        "seed_sd": found.sd.value,
        "seed_sd_low": found.sd.low,
        "seed_sd_high": found.sd.high,
        "seeds": found.scores.size,
        "cases": found.cases,
        "gap": apart.points,
        "gap_in_sds": apart.sds.value,
        "gap_in_sds_low": apart.sds.low,
        "gap_in_sds_high": apart.sds.high,
        "one_run_reach": apart.reach,
        "instead": ", ".join(asked.overrides.words()),
        "reason": asked.mapped.reasons.get(label, found.reason),
        "source": printed.source,
        "deviations": printed.deviations,
    }


def sources(asked: Asked) -> list[str]:
    """Returns where the published numbers are from and what is known to be otherwise, for below a table."""
    table = asked.table
    lines = [f"Published: {table.paper}; {table.source}; code {table.release}."]
    runs = sorted({row.runs for row in table.row if row.runs})
    if runs:
        lines.append(f"Runs behind a published value: {', '.join(map(str, runs))} where it is known, else not stated.")
    lines += _started_and_apart(table)
    for text in table.deviations:
        lines.append(f"Deviation: {text}")
    for row in table.row:
        for text in row.deviations:
            lines.append(f"Deviation, {row.label}: {text}")
    return lines


def _started_and_apart(table: Table) -> list[str]:
    """Returns which published rows start from weights from outside, and the distances that are published."""
    started, distances = [], []
    for row in table.row:
        if row.starts_from:
            started.append(f"{row.label} ({row.starts_from})")
        if row.hd95 is not None:
            of = f" ({row.hd95_source})" if row.hd95_source else ""
            distances.append(f"{row.label} {row.hd95:.2f}{of}")
    lines = []
    if started:
        lines.append(f"Published from weights from outside: {', '.join(started)}; no other row says so.")
    if distances:
        lines.append(f"Published HD95 in voxels: {'; '.join(distances)}. Here distances are in mm: run with --distances.")
    return lines


# --- its classes ------------------------------------------------------------------------------------------------------


def _classes(asked: Asked, answer: Answer) -> list[Sheet]:
    """Returns the published and measured Dice per class, where the data have the paper's classes."""
    table = asked.table
    if not (table.classes and table.class_set):
        return []
    made = []
    for dataset, own in answer.scores.items():
        known = [item for item in answer.rows.values() if item.scores.size and item.block["dataset"] == dataset]
        cases = own.cases
        # Under --shared-seeds their cases alone count; the rows are of one data set, and so of one table.
        narrowed = known[0].table.narrowed if known else None
        if narrowed and narrowed.seeds:
            cases = cases[cases["seed"].isin(narrowed.seeds)]
        try:
            names = choose((table.class_set,), list(map(str, cases["class_name"].unique())), dataset)
        except UsageError:  # other data than the paper's
            continue
        labels = {item.label for item in known}
        rows = [row for row in table.row if row.values and row.label in labels]
        if rows and len(names) == len(table.classes):
            made.append(_class_sheet(asked, rows, names, class_scores(cases, "dice", own.policy)))
    return made


def _class_sheet(asked: Asked, rows: Sequence[Row], names: Sequence[str], scores: pd.DataFrame) -> Sheet:
    """Returns a row for each published row that was measured, and a column for each class.

    Args:
        asked: the table.
        rows: as they are published.
        names: of the classes, in the order of the published values.
        scores: of every run and class.
    """
    means = scores.groupby(["cell", "class_name"], observed=True)["score"].agg(["mean", "std"]).to_dict("index")
    lines, values = [], []
    for row in rows:
        cells = [row.label]
        for name, published in zip(names, row.values, strict=True):
            found = means[row.label, name]
            mean, sd = float(found["mean"]), float(found["std"])
            cells.append(f"{published:.1f} → {words.number(mean, 1)}")
            values.append(
                {
                    "of": "class",
                    "table": asked.table.full_name,
                    "row": row.label,
                    "class": name,
                    "published": published,
                    "dice": mean,
                    "seed_sd": sd,
                }
            )
        lines.append(tuple(cells))
    return Sheet(
        title=f"{asked.table.full_name} · per class",
        subtitle="paper → measured, mean over cases, then seeds, in Dice points",
        columns=("row", *names),
        rows=tuple(lines),
        notes=(),
        values=tuple(values),
    )


# --- settings ---------------------------------------------------------------------------------------------------------


def settings_sheet(asked: Asked) -> Sheet:
    """Returns a table of settings beside the recipes here; needs no run."""
    trial_of = {trial.label: trial for trial in asked.mapped.trials}
    rows, values = [], []
    for row in asked.table.row:
        if row.label not in trial_of:
            continue
        trial = trial_of[row.label]
        recipe = trials.resolved(trial, trials.recipe_names(trial.dataset, asked.overrides)[0], asked.overrides)
        own = recipe.model_dump()
        for name, published in row.settings.items():
            section, _, key = name.partition(".")
            paper, here = _text(published), _text(own[section][key])
            rows.append((row.label, recipe.name, name, paper, here))
            values.append(
                {
                    "of": "setting",
                    "table": asked.table.full_name,
                    "row": row.label,
                    "recipe": recipe.name,
                    "setting": name,
                    "published": paper,
                    "here": here,
                }
            )
    return Sheet(
        title=f"{asked.table.full_name} · {asked.table.title}",
        subtitle="settings, axes (D, H, W), spacing in mm; nothing is run",
        columns=("row", "recipe here", "setting", "paper", "here"),
        rows=tuple(rows),
        notes=(*_reasons(asked), *sources(asked)),
        values=tuple(values),
        names=3,
    )


def _text(value: object) -> str:
    """Returns a setting as people read it."""
    if isinstance(value, list | tuple):
        return ", ".join(f"{part:g}" for part in value)
    return str(value)
