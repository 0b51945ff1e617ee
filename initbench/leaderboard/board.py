"""The leaderboard: a sheet for every block."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from initbench.errors import UsageError
from initbench.leaderboard import words
from initbench.leaderboard.sheet import Sheet
from initbench.leaderboard.standings import Runs, Standing, standings, summaries
from initbench.leaderboard.study import Study
from initbench.leaderboard.titles import settings, title
from initbench.stats.analysis import Analysis, analyse
from initbench.stats.blocks import BASELINE
from initbench.stats.compare import MARGIN
from initbench.stats.design import Refused
from initbench.stats.summary import Spread, spread
from initbench.stats.table import ScoreTable


def sheets(study: Study, against: str = BASELINE, margin: float = MARGIN) -> list[Sheet]:
    """A sheet for every block, and what their columns mean below the last."""
    check_control(study, against)
    of_cell = summaries(study.runs)
    made = [sheet(table, of_cell, analyse(table, against=against, margin=margin)) for table in study.tables]
    if made:
        made[-1] = replace(made[-1], notes=(*made[-1].notes, *legend(study, against, margin)))
    return made


def check_control(study: Study, against: str) -> None:
    """Whether any block has the init that all are to be compared with; a study without default compares all pairs.

    Raises:
        UsageError: none has; names the inits there are.
    """
    names = {init for table in study.tables for init in table.names}
    if against != BASELINE and against not in names:
        raise UsageError(f"--against {words.label(against)}: the inits of these runs are {words.listed(names)}")


def legend(study: Study, against: str, margin: float) -> tuple[str, ...]:
    """What the columns mean."""
    classes = f" of {', '.join(study.scoring.classes)}" if study.scoring.classes else ""
    compared = (
        f"vs {words.label(against)}: for new seeds and new cases, for this training set. The verdict holds for all inits of the "
        f"table at once (Holm); equivalent: within ±{margin:g} points. "
    )
    has_control = any(against in table.names and not table.refused for table in study.tables)
    return (
        f"tie: inits that share a letter are not told apart. Dice: points at the {study.scoring.grid} grid, mean over classes"
        f"{classes}, cases, seeds; last checkpoint; policy {study.scoring.policy}; its interval: new seeds and new cases.",
        f"{compared if has_control else ''}rank: with its interval over other seeds and cases.",
        "seed SD: over retraining, on these cases. div.: diverged runs, which score 0. cost: a run's mean time, and the init "
        "stage's share of it.",
    )


def sheet(table: ScoreTable, of_cell: Mapping[str, Runs], found: Analysis | Refused) -> Sheet:
    """One block."""
    rows = standings(table, of_cell, found)
    against = found.against if isinstance(found, Analysis) else None
    headers = ["tie", "initializer", "Dice [95 %]", "seed SD [95 %]", "div.", "cost"]
    if against is not None:
        headers[4:4] = [f"vs {words.label(against)} [95 %]"]
    headers[-2:-2] = ["rank"]
    seeds, whole = len(table.seeds[0]) if table.seeds else 0, scores(table)
    return Sheet(
        title=title(table.block),
        subtitle=f"{settings(table.block)} · {words.count(seeds, 'seed')} × {words.count(len(table.cases), 'case')}",
        columns=tuple(headers),
        rows=tuple(_cells(row, against) for row in rows),
        notes=(headline(table), *notes(table, found, rows)),
        values=tuple(_values(place, row, table, whole) for place, row in enumerate(rows, start=1)),
        names=2,
    )


def _cells(row: Standing, against: str | None) -> tuple[str, ...]:
    share = "" if math.isnan(row.runs.init_share) or row.runs.init_share < 0.005 else f" ({100 * row.runs.init_share:.0f} % init)"
    return (
        row.rank.letters if row.rank else "",
        words.label(row.init),
        words.interval(row.dice, digits=1),
        words.interval(row.sd),
        *([] if against is None else [_compared(row)]),
        words.places(row.rank.rank, row.rank.low, row.rank.high) if row.rank else "–",
        f"{row.diverged}/{row.seeds}",
        f"{words.duration(row.runs.seconds)}{share}",
    )


def _compared(row: Standing) -> str:
    if row.role == "withheld":
        return "withheld"
    item = row.difference
    return f"{words.interval(item.estimate, signed=True)} {item.verdict}" if item else "–"


def scores(table: ScoreTable) -> Spread | None:
    """What the inits do beside what the seeds do, in the run scores of a block; None where nothing may be compared."""
    own = table.schemes()
    return None if table.refused else spread([own.runs(init) for init in own.inits])


def headline(table: ScoreTable) -> str:
    """The answer of a block: how much the inits move Dice, beside what the seed alone does."""
    if table.inits and table.refused:
        return "Spread: not told, as the runs may not be compared."
    found = scores(table)
    if found is None:
        return "Spread: needs two inits and two seeds of one of them."
    note = " (the seed noise explains all of the difference)" if found.between_variance <= 0 else ""
    return (
        f"Between-init SD {found.between:.2f} Dice points with the seed noise removed{note}; seed SD {found.seed:.2f} "
        f"({found.inits} inits, {words.count(table.y.shape[1], 'seed')} each)."
    )


def notes(table: ScoreTable, found: Analysis | Refused, rows: Sequence[Standing]) -> list[str]:
    """What a reader has to know of a block before believing its rows."""
    lines = []
    if table.seeds and len(table.seeds[0]) < 2:
        lines.append("One seed gives no interval and no verdict: --seeds 3 or more.")
    if isinstance(found, Refused):
        lines.append(f"No verdicts: {found.reason}.")
    else:
        reasons = dict.fromkeys(item.reason for item in found.comparison.differences if item.reason)
        withheld = {f"{item.init}: {item.reason}" for item in table.withheld}
        lines += [f"Untestable: {reason}." for reason in reasons if reason not in withheld]
        lines += _placebo(rows)
    lines += words.narrowed(table.narrowed)
    if len({name for row in rows for name in row.runs.environments}) > 1:
        lines.append("Warning: rows come from different environments (hardware or package versions).")
    lines += _added_seeds(rows)
    control = found.against if isinstance(found, Analysis) else None
    for row in rows:
        lines += _of_row(row, control)
    return lines


def _added_seeds(rows: Sequence[Standing]) -> list[str]:
    """Seeds that were asked for after others of the same init had been: perhaps because of what those showed."""
    steps = dict.fromkeys(row.runs.asked for row in rows if len(row.runs.asked) > 1)
    return [
        f"Seeds were added: {_in_turn(step)}. Who adds seeds until a verdict comes finds more than 5 % false ones: fix their "
        "number first (initbench plan)."
        for step in steps
    ]


def _in_turn(step: Sequence[tuple[str, Sequence[int]]]) -> str:
    return ", then ".join(f"{words.seeds(seeds)} ({when[:16]})" for when, seeds in step)


def _of_row(row: Standing, control: str | None) -> list[str]:
    lines, name = [], words.label(row.init)
    if row.role == "withheld":
        warning = "Warning: " if row.reason.startswith("seeds ") else ""
        nothing = "Nothing is compared: " if row.init == control else ""
        lines.append(f"{warning}{nothing}{name} is withheld: {row.reason}.")
    if not math.isnan(row.without_diverged):
        zeros = f"{words.count(row.diverged, 'run')} diverged and {'scores' if row.diverged == 1 else 'score'} 0"
        lines.append(f"{name}: {zeros}; the others have a mean of {row.without_diverged:.1f}.")
    if row.runs.failed:
        lines.append(f"{name}: {row.runs.failed} failed run(s) are missing; the same run command tries them again.")
    lines += [f"Warning: {name}: {path} is kept off, see `initbench verify {path}`." for path in row.runs.invalid]
    if row.runs.external:
        lines.append(f"{name}: conditional on these weights, one draw for all seeds; external data.")
    return lines


def _placebo(rows: Sequence[Standing]) -> list[str]:
    """What the placebo shows of the study itself."""
    lines = []
    for row in rows:
        if row.role != "placebo" or row.difference is None or row.difference.second != BASELINE:
            continue
        verdict = row.difference.verdict
        if verdict in ("better", "worse"):
            lines.append(
                f"Warning: the placebo ({row.init}) comes out {verdict}. It differs from default by luck alone: 1 study in 20 "
                "shows this; if more of yours do, something else than the init differs between their runs."
            )
        elif verdict != "untestable":
            lines.append(f"The placebo, default drawn again ({row.init}), comes out {verdict}, as it should.")
    return lines


def _values(place: int, row: Standing, table: ScoreTable, whole: Spread | None) -> dict[str, object]:
    nan = math.nan
    item, rank = row.difference, row.rank
    block = {key: table.block[key] for key in ("dataset", "split", "backbone", "variant", "size", "budget", "steps")}
    return {
        **block,
        "protocol": row.runs.protocol if row.runs.protocol == "any" else table.block["protocol"],
        "precision": table.block["precision"],
        "place": place,
        "init": row.init,
        "role": row.role,
        "tie": rank.letters if rank else "",
        "dice": row.dice.value,
        "dice_low": row.dice.low,
        "dice_high": row.dice.high,
        "seeds": row.seeds,
        "cases": len(table.cases),
        "seed_sd": row.sd.value,
        "seed_sd_low": row.sd.low,
        "seed_sd_high": row.sd.high,
        "against": item.second if item else "",
        **words.tested(item),
        "rank": rank.rank if rank else nan,
        "rank_low": rank.low if rank else nan,
        "rank_high": rank.high if rank else nan,
        "best": rank.best if rank else nan,
        "diverged": row.diverged,
        "failed": row.runs.failed,
        "seconds": row.runs.seconds,
        "init_share_of_seconds": row.runs.init_share,
        "changed_share": row.runs.changed_share,
        "between_init_sd": whole.between if whole else nan,
        "block_seed_sd": whole.seed if whole else nan,
        "policy": table.policy,
        **({"reason": row.reason} if row.reason else {}),
    }
