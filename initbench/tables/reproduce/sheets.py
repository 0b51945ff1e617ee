"""A published table beside what was measured: values, gaps in seed SDs, claims, classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from initbench.errors import UsageError
from initbench.published import trials
from initbench.published.tables import Row, Table
from initbench.published.trials import Trial
from initbench.stats.cases import class_scores
from initbench.stats.classes import choose
from initbench.stats.design import Array
from initbench.stats.summary import LEVEL, Interval, sd_interval, t_quantile
from initbench.tables import words
from initbench.tables.reproduce import claims
from initbench.tables.reproduce.matching import PLACEBO_LABEL
from initbench.tables.reproduce.measured import Answer, Asked, MeasuredRow, MissingRow
from initbench.tables.sheet import Sheet
from initbench.tables.titles import variant

_FEW = 6  # seeds, below which an SD is hardly known
_COLUMNS = ("row", "here", "paper", "measured [95 %]", "seed SD [95 %]", "seeds", "gap", "gap in SDs", "one run")
_NAN = math.nan


@dataclass(frozen=True)
class Gap:
    """What was measured less what is published, in Dice points.

    Attributes:
        sds: over the seed SD, with the bounds that its interval allows; NaN with one seed.
        reach: one more run lies within so many points of the mean, 95 %.
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
    """The gap of the mean of run scores [seed] to a published value that is taken for one run."""
    points, sd, n = float(scores.mean()) - published, sd_interval(scores), scores.size
    if n < 2 or sd.value == 0:
        return Gap(points, Interval(_NAN, _NAN, _NAN), _NAN)
    low, high = sorted((points / sd.low, points / sd.high))
    reach = t_quantile(0.5 + LEVEL / 2, n - 1) * sd.value * math.sqrt(1 + 1 / n)
    return Gap(points, Interval(points / sd.value, low, high), reach)


def reproduction_sheets(asked: Asked, answers: Sequence[Answer]) -> list[Sheet]:
    """The table beside the runs, its claims, and its classes where the paper has them; once for every answer."""
    made: list[Sheet] = []
    for answer in answers:
        made += [_main(asked, answer)]
        made += [claims.sheet(asked, answer.rows)] if asked.table.claims else []
        made += _classes(asked, answer)
    made[-1] = replace(made[-1], notes=(*made[-1].notes, *sources(asked)))
    return made


# --- the table --------------------------------------------------------------------------------------------------------


def _main(asked: Asked, answer: Answer) -> Sheet:
    table, measured = asked.table, answer.rows
    labels = [*(row.label for row in table.row), *([PLACEBO_LABEL] if PLACEBO_LABEL in measured else [])]
    published = {row.label: row for row in table.row}
    networks = {(item.block["dataset"], variant(item.block)) for item in measured.values()}
    return Sheet(
        title=f"{table.full_name} · {table.title}",
        subtitle=_subtitle(measured.values(), networks),
        columns=_COLUMNS,
        rows=tuple(_cells(label, published.get(label), measured.get(label), len(networks) > 1) for label in labels),
        notes=tuple(_notes(asked, answer)),
        values=tuple(_values(asked, label, published.get(label), measured.get(label)) for label in labels),
        names=2,
    )


def _subtitle(measured: Iterable[MeasuredRow], networks: set[tuple[object, str]]) -> str:
    rows = list(measured)
    dataset, network = sorted(networks, key=str)[0]
    common = [f"{dataset} × {network}" if len(networks) == 1 else "measured on the data and networks in the second column"]
    common += [f"{rows[0].block['size']} size · {_all(rows, 'steps')} steps ({rows[0].block['budget']})"]
    protocols = sorted({str(row.block["protocol"]) for row in rows} - {"any"})
    common += [" and ".join(protocols)] if protocols else []
    common += [str(rows[0].block["precision"]), f"split {_all(rows, 'split')}"]
    cases = sorted({row.cases for row in rows})
    return " · ".join([*common, " or ".join(map(str, cases)) + " cases"])


def _all(rows: Sequence[MeasuredRow], key: str) -> str:
    return " or ".join(str(value) for value in dict.fromkeys(row.block[key] for row in rows))


def _cells(label: str, row: Row | None, item: MeasuredRow | None, several: bool) -> tuple[str, ...]:
    paper = "–" if row is None or row.value is None else f"{row.value:.2f}"
    if item is None:
        return (label, "–", paper, *["–"] * (len(_COLUMNS) - 3))
    here = f"{item.here} × {variant(item.block)} × {item.block['dataset']}" if several else item.here
    cells = (label, here, paper, words.dice(item.mean), words.sd(item.sd), str(item.scores.size))
    if row is None or row.value is None or not item.scores.size:
        return (*cells, "–", "–", "–")
    apart = gap(item.scores, row.value)
    one = {None: "–", True: "possible", False: "unlikely"}[apart.likely]
    return (*cells, words.number(apart.points, 1, signed=True), words.interval(apart.sds, signed=True, digits=1), one)


def _notes(asked: Asked, answer: Answer) -> list[str]:
    lines, measured = [], answer.rows
    if asked.overrides.words():
        lines.append(
            f"Warning: measured with {', '.join(asked.overrides.words())}. The published numbers are of another question: "
            "gaps to them say nothing of the paper, and its claims are asked here, not tested there."
        )
    lines += _of_the_sds(measured.values())
    lines.append(
        "gap: measured less published, in Dice points and over the seed SD, with the bounds that the SD's own interval allows. "
        "one run: whether one more run like these could give the paper's number (95 %)."
    )
    lines += _scoring(asked, answer)
    lines += _set(asked)
    lines += [f"{label}: {reason}." for label, reason in asked.mapped.reasons.items()]
    missing = [trial.label for trial in asked.mapped.trials if trial.label not in measured]
    lines += [f"Not run: {', '.join(missing)}."] if missing else []
    for item in measured.values():
        lines += [f"{item.label} is withheld: {item.reason}."] if item.reason else []
        lines += [f"{item.label}: {words.count(item.diverged, 'run')} diverged, scored 0."] if item.diverged else []
        lines += [f"{item.label}: conditional on these weights; external data."] if item.external else []
        lines += [f"Warning: {item.label}: {path} is kept off, see `initbench verify {path}`." for path in item.invalid]
    if len({name for item in measured.values() for name in item.environments}) > 1:
        lines.append("Warning: rows come from different environments (hardware, package versions or --fast).")
    for table in {id(item.table): item.table for item in measured.values()}.values():
        lines += words.narrowed(table.narrowed)
    if answer.found.other:
        lines.append(
            f"Warning: {', '.join(answer.found.other)}: there are runs of other data, code or variants, too; shown are those of "
            "one state, in which most rows have results."
        )
    return lines


def _set(asked: Asked) -> list[str]:
    """What rows set over the recipe for themselves, beside what was asked for all of them."""
    found: dict[str, list[str]] = {}
    for trial in asked.mapped.trials:
        own = ", ".join(text for text in trial.assignments if text not in asked.overrides.assignments)
        found.setdefault(own, []).append(trial.label)
    return [f"{', '.join(labels)}: with {own}." for own, labels in found.items() if own]


def _scoring(asked: Asked, answer: Answer) -> list[str]:
    """What is scored otherwise than on the leaderboard, and what the paper scores otherwise than here."""
    ways = dict.fromkeys(item.as_the_paper for item in answer.scores.values() if item.as_the_paper)
    said = [f"Scored as the paper does: {how}." for how in ways]
    lacking = asked.overrides.own_data and asked.table.grid == "resampled" and not any("resampled" in how for how in ways)
    return [*said, *(["Counted on the native grid; the paper counts on its resampled one."] if lacking else [])]


def _of_the_sds(rows: Iterable[MeasuredRow]) -> list[str]:
    """What the SDs of rows with few seeds are worth; a withheld row may have none."""
    seeds = {item.label: item.scores.size for item in rows if item.scores.size}
    alone = [label for label, n in seeds.items() if n == 1]
    few = [n for n in seeds.values() if 1 < n < _FEW]
    whose = f" of {', '.join(alone)}" if len(alone) < len(seeds) else ""
    lines = [f"One seed{whose}: no SD, so nothing says whether a gap is more than luck."] if alone else []
    return [*lines, *([_of_the_sd(min(few))] if few else [])]


def _of_the_sd(seeds: int) -> str:
    """How little few seeds know of their SD, in words."""
    spread = sd_interval(np.array([0.0, *[1.0] * (seeds - 1)]))
    low, high = spread.low / spread.value, spread.high / spread.value
    return (
        f"{seeds} seeds hardly know their SD: the true one may be {low:.1f} to {high:.1f} times as large, and "
        "gaps in SDs are as uncertain."
    )


def _printed(row: Row | None) -> _Printed:
    if row is None:
        return _Printed()
    value, runs, x, hd95 = (_NAN if number is None else number for number in (row.value, row.runs, row.x, row.hd95))
    return _Printed(value, runs, x, hd95, row.source, " ".join(row.deviations))


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
        **{key: found.block[key] for key in ("dataset", "split", "backbone", "variant", "size", "budget", "steps")},
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
    """Where the published numbers are from and what is known to be otherwise, for below a table."""
    table = asked.table
    lines = [f"Published: {table.paper}; {table.source}; code {table.release}."]
    runs = sorted({row.runs for row in table.row if row.runs})
    lines += [f"Runs behind a published value: {', '.join(map(str, runs))} where it is known, else not stated."] if runs else []
    lines += _started_and_apart(table)
    lines += [f"Deviation: {text}" for text in table.deviations]
    return [*lines, *(f"Deviation, {row.label}: {text}" for row in table.row for text in row.deviations)]


def _started_and_apart(table: Table) -> list[str]:
    """Which published rows start from weights from outside, and the distances that are published."""
    lines = []
    started = [f"{row.label} ({row.starts_from})" for row in table.row if row.starts_from]
    if started:
        lines.append(f"Published from weights from outside: {', '.join(started)}; no other row says so.")
    distances = []
    for row in table.row:
        if row.hd95 is not None:
            of = f" ({row.hd95_source})" if row.hd95_source else ""
            distances.append(f"{row.label} {row.hd95:.2f}{of}")
    if distances:
        lines.append(f"Published HD95 in voxels: {'; '.join(distances)}. Here distances are in mm: run with --distances.")
    return lines


# --- its classes ------------------------------------------------------------------------------------------------------


def _classes(asked: Asked, answer: Answer) -> list[Sheet]:
    """Published and measured per class, where the data have the paper's classes."""
    table, measured = asked.table, answer.rows
    made = []
    for dataset, own in answer.scores.items():
        known = {label: item for label, item in measured.items() if item.scores.size and item.block["dataset"] == dataset}
        rows = [row for row in table.row if row.values and row.label in known]
        cases = _shared(own.cases, known.values())
        present = [str(name) for name in cases["class_name"].unique()]
        try:
            names = choose((table.class_set,), present, dataset) if table.class_set and table.classes else ()
        except UsageError:  # other data than the paper's
            continue
        if rows and len(names) == len(table.classes):
            made.append(_class_sheet(asked, rows, names, class_scores(cases, "dice", own.policy)))
    return made


def _shared(cases: pd.DataFrame, rows: Iterable[MeasuredRow]) -> pd.DataFrame:
    """Under ``--shared-seeds`` the cases of those; the rows are of one data set, and so of one table."""
    narrowed = next((item.table.narrowed for item in rows), None)
    return cases[cases["seed"].isin(narrowed.seeds)] if narrowed and narrowed.seeds else cases


def _class_sheet(asked: Asked, rows: Sequence[Row], names: Sequence[str], scores: pd.DataFrame) -> Sheet:
    means = scores.groupby(["cell", "class_name"], observed=True)["score"].agg(["mean", "std"])
    keys = [(row.label, name) for row in rows for name in names]
    dice, sds = ([float(means.loc[key, column]) for key in keys] for column in ("mean", "std"))  # type: ignore[arg-type]
    published = [value for row in rows for value in row.values]
    values = [
        {
            "of": "class",
            "table": asked.table.full_name,
            "row": label,
            "class": name,
            "published": paper,
            "dice": mean,
            "seed_sd": sd,
        }
        for (label, name), paper, mean, sd in zip(keys, published, dice, sds, strict=True)
    ]
    cells = [f"{paper:.1f} → {words.number(mean, 1)}" for paper, mean in zip(published, dice, strict=True)]
    width = len(names)
    return Sheet(
        title=f"{asked.table.full_name} · per class",
        subtitle="paper → measured, mean over cases, then seeds, in Dice points",
        columns=("row", *names),
        rows=tuple((row.label, *cells[place * width : (place + 1) * width]) for place, row in enumerate(rows)),
        notes=(),
        values=tuple(values),
    )


# --- settings ---------------------------------------------------------------------------------------------------------


def settings_sheet(asked: Asked) -> Sheet:
    """A table of settings beside the recipes here; needs no run."""
    recipes = {trial.label: trials.resolved(trial, _recipe_name(trial, asked), asked.overrides) for trial in asked.mapped.trials}
    values = [
        {
            "of": "setting",
            "table": asked.table.full_name,
            "row": row.label,
            "recipe": recipes[row.label].name,
            "setting": name,
            "published": _text(published),
            "here": _text(recipes[row.label].model_dump()[name.partition(".")[0]][name.partition(".")[2]]),
        }
        for row in asked.table.row
        if row.label in recipes
        for name, published in row.settings.items()
    ]
    return Sheet(
        title=f"{asked.table.full_name} · {asked.table.title}",
        subtitle="settings, axes (D, H, W), spacing in mm; nothing is run",
        columns=("row", "recipe here", "setting", "paper", "here"),
        rows=tuple(tuple(str(item[key]) for key in ("row", "recipe", "setting", "published", "here")) for item in values),
        notes=(*(f"{label}: {reason}." for label, reason in asked.mapped.reasons.items()), *sources(asked)),
        values=tuple(values),
        names=3,
    )


def _recipe_name(trial: Trial, asked: Asked) -> str:
    return trials.recipe_names(trial.dataset, asked.overrides)[0]


def _text(value: object) -> str:
    return ", ".join(f"{part:g}" for part in value) if isinstance(value, list | tuple) else str(value)
