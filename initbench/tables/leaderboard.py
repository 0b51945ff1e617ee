"""The leaderboard: a sheet for every block."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from initbench.choices import BASELINE, MARGIN
from initbench.errors import UsageError
from initbench.stats.analysis import Analysis, analyse, verdicts
from initbench.stats.collapse import STANDING
from initbench.stats.components import Component, Components
from initbench.stats.design import SCOPES, Refused, SeedDesign
from initbench.stats.ranks import InitRank, tie_letters
from initbench.stats.table import ScoreTable
from initbench.stats.treatments import have_regimens, interactions, treatment
from initbench.tables import words
from initbench.tables.interactions import interaction_sheet
from initbench.tables.mixtures import mixed
from initbench.tables.sheet import Sheet
from initbench.tables.standings import Runs, Standing, standings
from initbench.tables.study import Study
from initbench.tables.titles import columns, named, settings, title


def leaderboard_sheets(study: Study, against: str = BASELINE, margin: float = MARGIN, *, letters: bool = False) -> list[Sheet]:
    """A sheet for every block, below it its interactions where it has some, and below the last one what the columns mean.

    Args:
        study: the runs and their scores.
        against: the init that the others are compared with.
        margin: Dice points within which two inits are equivalent.
        letters: whether a column of letters shows which inits are told apart.
    """
    check_control(study, against)
    of_cell = study.of_cell
    made = []
    for table in study.tables:
        found = analyse(table, against=against, margin=margin)
        made.append(sheet(table, of_cell, found, letters=letters))
        if isinstance(found, Analysis) and found.interactions:
            about = (title(table.block), settings(table.block))
            made.append(interaction_sheet(*about, found.interactions, SCOPES["A"], columns(table.block)))
    if made:
        cells = [cell for each in made for row in each.rows for cell in row]
        notes = [*made[-1].notes, *words.marked(cells), *legend(study, against, margin, letters=letters)]
        made[-1] = replace(made[-1], notes=tuple(notes))
    return made


def check_control(study: Study, against: str) -> None:
    """Whether any block has the init that all are to be compared with; a study without default compares all pairs.

    Raises:
        UsageError: none has; names the inits there are.
    """
    names = {init for table in study.tables for init in table.names}
    if against != BASELINE and against not in names:
        raise UsageError(f"--against {words.label(against)}: the inits of these runs are {words.listed(names)}")


def legend(study: Study, against: str, margin: float, *, letters: bool = False) -> tuple[str, ...]:
    """What the columns mean.

    Args:
        study: the runs and their scores.
        against: the row that the others are compared with.
        margin: Dice points within which two rows are equivalent.
        letters: whether a column of letters shows which rows are told apart.
    """
    classes = f" of {', '.join(study.scoring.classes)}" if study.scoring.classes else ""
    lines = [
        f"Dice: in points, at the {study.scoring.grid} grid, the mean over classes{classes}, cases of a patient, patients and "
        f"seeds; last checkpoint; policy {study.scoring.policy}. The intervals of a table hold for all of its inits at once, for "
        "new seeds and new cases.",
        "seed SD: how much the score of an init varies when it is trained again with other seeds, on these cases.",
    ]
    if any(against in table.names and not table.refused for table in study.tables):
        crossed = any(interactions(table.inits) for table in study.tables)
        lines.append(_compared_legend(against, margin, " and the interactions" if crossed else ""))
    lines.append(
        "may be best: no other init is surely ahead of it, each compared with all others; the truly best init is called so in at "
        "least 95 % of studies. rank: by Dice, with the places that an init may have by the same comparisons."
    )
    if letters:
        lines.append("tie: two inits share a letter if their difference is not told from 0, each pair judged as in every table.")
    lines.append("div.: diverged runs, which score 0. cost: a run's mean time, and the init stage's share of it.")
    lines.append(
        f"Dice, differences and verdicts count collapsed runs like all others. To rule out that one run in ten collapses takes "
        f"{STANDING} runs without one; until then a verdict says how often the init that is ahead may collapse."
    )
    if any(have_regimens(table.names) for table in study.tables):
        lines.append(
            "init + regimen: the init, trained under the regimen; an init alone is trained plainly. (compute): with as many "
            "units as plain training, so with fewer steps. steps, units: of the init stage and of training, the mean over runs; "
            "a forward pass is one unit, a backward pass two."
        )
    return tuple(lines)


def _compared_legend(against: str, margin: float, crossed: str) -> str:
    """What the column of differences means; `crossed`: what is judged with the differences to default."""
    name = words.label(against)
    if against == BASELINE:
        together = (
            f"Intervals and verdicts hold for the differences of all inits to default{crossed} at once; the placebo is judged by "
            "itself."
        )
    else:
        together = (
            "Intervals and verdicts hold for all pairs of inits at once. A difference to default is judged with the other "
            f"differences to default{crossed}, one to a placebo with the other differences of the placebo."
        )
    return (
        f"vs {name}: the difference to {name}, for new seeds and new cases, for this training set. {together} equivalent: the "
        f"interval lies within ±{margin:g} points."
    )


def sheet(table: ScoreTable, of_cell: Mapping[str, Runs], found: Analysis | Refused, *, letters: bool = False) -> Sheet:
    """The table of one block.

    Args:
        table: the scores of the block.
        of_cell: what the runs of each cell came to.
        found: what is said of the scores.
        letters: whether a column of letters shows which rows are told apart.
    """
    rows = standings(table, of_cell, found)
    against = found.against if isinstance(found, Analysis) else None
    ties = _ties(table, found) if letters else None
    compared = [] if against is None else [f"vs {words.label(against)} [95 %]"]
    counted = ["steps", "units"] if have_regimens(table.names) else []
    headers = ["initializer", "Dice [95 %]", "seed SD [95 %]", *compared, "may be best", "rank", "div.", *counted, "cost"]
    if ties is not None:
        headers.insert(0, "tie")
    seeds = len(table.seeds[0]) if table.seeds else 0
    cells = []
    for row in rows:
        own = _cells(row, against, counted=bool(counted))
        cells.append(own if ties is None else (ties.get(row.init, ""), *own))
    return Sheet(
        title=title(table.block),
        subtitle=f"{settings(table.block)} · {words.count(seeds, 'seed')} × {words.cases(table)}",
        columns=tuple(headers),
        rows=tuple(cells),
        notes=(headline(table, found), *notes(table, found, rows)),
        values=tuple(_values(place, row, table, found, ties) for place, row in enumerate(rows, start=1)),
        names=1 if ties is None else 2,
    )


def _ties(table: ScoreTable, found: Analysis | Refused) -> dict[str, str]:
    """Letters over all pairs of schemes; none where nothing is compared."""
    if isinstance(found, Refused) or isinstance(found.ranking, Refused):
        return {}
    return tie_letters(verdicts(table.schemes(), against=None), [row.init for row in found.ranking])


def _cells(row: Standing, against: str | None, *, counted: bool) -> tuple[str, ...]:
    """The row of an init for people; `counted`: whether with its steps and units."""
    share = "" if math.isnan(row.runs.init_share) or row.runs.init_share < 0.005 else f" ({100 * row.runs.init_share:.0f} % init)"
    compared = () if against is None else (_compared(row),)
    numbers = (words.number(row.runs.steps, 0), words.number(row.runs.units, 0)) if counted else ()
    return (
        words.label(row.init),
        words.dice(row.dice),
        words.sd(row.sd),
        *compared,
        best(row),
        words.place(row.rank.rank, row.rank.low, row.rank.high) if row.rank else "–",
        f"{row.diverged}/{row.seeds}",
        *numbers,
        f"{words.duration(row.runs.seconds)}{share}",
    )


def best(row: Standing) -> str:
    """Whether an init may be the best of its block, in a word."""
    if row.rank is None:
        return "–"
    return "yes" if row.rank.may_be_best else "no"


def _compared(row: Standing) -> str:
    if row.role == "withheld":
        return "withheld"
    item = row.difference
    return f"{words.difference(item.estimate)} {item.says}" if item else "–"


def headline(table: ScoreTable, found: Analysis | Refused) -> str:
    """The answer of a block: how much the choice of the row moves Dice, beside what another seed does."""
    choice, rows = ("the row (init and regimen)", "rows") if have_regimens(table.names) else ("the init", "inits")
    if isinstance(found, Refused):
        return f"How much {choice} moves Dice cannot be told: {found.reason}."
    parts = found.components
    if isinstance(parts, Refused):
        return f"How much {choice} moves Dice cannot be told: {parts.reason}."
    seed = f"retraining with another seed moves it by {words.sd(parts.retraining.sd)}"
    if parts.init is None or parts.wins is None:
        return f"How much {choice} moves Dice cannot be told from one init; {seed}."
    told = _told_apart(table, found)
    wins = parts.wins
    spread = _between(parts.init, parts.inits, rows, told=told)
    return (
        f"Choosing {choice} moves Dice by an SD of {spread}; {seed}. Of two {rows} trained "
        f"once each, with seeds of their own, the truly better one wins in {100 * wins.value:.0f} % of pairs "
        f"({100 * wins.low:.0f} to {100 * wins.high:.0f})."
    )


def _told_apart(table: ScoreTable, found: Analysis) -> bool:
    """Whether some init of the block is surely ahead of another, whichever init the table compares with."""
    if isinstance(found.ranking, Refused):  # two seeds
        return any(item.told_from_0 for item in verdicts(table.schemes(), against=None).differences)
    return any(row.low > 1 for row in found.ranking)


def _between(part: Component, number: int, rows: str, *, told: bool) -> str:
    """The between-init SD in words.

    Args:
        part: the component.
        number: of rows.
        rows: what they are called.
        told: whether two of the rows differ for sure.
    """
    found = part.sd
    if found.low > 0:
        return f"{words.sd(found)} points"
    known = f"some {rows} differ" if told else "not told from 0"
    with_two = f"with {number} {rows} " if number == 2 else ""
    return f"{words.number(found.value, 1)} points ({known}; {with_two}it may be anything up to {words.number(found.high, 1)})"


def notes(table: ScoreTable, found: Analysis | Refused, rows: Sequence[Standing]) -> list[str]:
    """What a reader has to know of a block before believing its rows, a sentence or two each.

    Args:
        table: the scores of the block.
        found: what is said of them.
        rows: the inits of the block with what their runs cost and came to.
    """
    lines = []
    if table.seeds and len(table.seeds[0]) < 2:
        lines.append("One seed gives no interval and no verdict: --seeds 3 or more.")
    if isinstance(found, Refused):
        lines.append(f"No verdicts: {found.reason}.")
    else:
        reasons = dict.fromkeys(item.reason for item in found.comparison.differences if item.reason)
        withheld = {f"{item.init}: {item.reason}" for item in table.withheld}
        one_seed = bool(table.seeds) and len(table.seeds[0]) < 2  # said above
        lines += [f"Untestable: {reason}." for reason in reasons if reason not in withheld and not one_seed]
        lines += _unranked(found)
        lines += _placebo(rows)
        lines += words.placebos_of_regimens(table.inits, found.against)
    if table.patients is None and table.cases:
        lines.append(
            "These runs do not say which patient a case is of, so each case counts as one. Where patients have several cases the "
            "intervals are too short and verdicts come too easily."
        )
    lines += words.about_seeds(table)
    control = found.against if isinstance(found, Analysis) else None
    lines += mixed({row.init: row.runs.environments for row in rows}, control)
    for row in rows:
        lines += _of_row(row, control)
        lines += of_collapses(row.init, row, table.design)
    return lines


def of_collapses(first: str, row: Standing, design: SeedDesign) -> list[str]:
    """What the runs that stand have to say of a row, where some of its runs, or of the row beside it, collapsed.

    Args:
        first: the name of the row.
        row: what is known of it.
        design: whether rows share their seeds.
    """
    name, fallen = words.label(first), row.collapses
    lines = []
    if fallen is not None and fallen.count:
        rest = "none stands" if math.isnan(row.standing_mean) else f"the mean of those that stand is {row.standing_mean:.1f}"
        lines.append(f"{name} collapsed in {fallen} of its runs; {rest}.")
    if row.difference is not None:
        lines += words.beside_collapses(row.difference, row.standing, row.rates, design)
    return lines


def _unranked(found: Analysis) -> list[str]:
    """Why there are no ranks, where several inits could have some."""
    several = isinstance(found.components, Components) and found.components.inits > 1
    return [f"No ranks: {found.ranking.reason}."] if several and isinstance(found.ranking, Refused) else []


def _of_row(row: Standing, control: str | None) -> list[str]:
    lines, name = [], words.label(row.init)
    if row.role == "withheld":
        warning = "Warning: " if row.kind == "identical" else ""
        nothing = "Nothing is compared: " if row.init == control else ""
        lines.append(f"{warning}{nothing}{name} is withheld: {row.reason}.")
    if not math.isnan(row.without_diverged):
        zeros = f"{words.count(row.diverged, 'run')} diverged and {'scores' if row.diverged == 1 else 'score'} 0"
        lines.append(f"{name}: {zeros}; the others have a mean of {row.without_diverged:.1f}.")
    if row.runs.failed and row.kind != "failed":  # whose reason says what to change
        failed = f"{words.count(row.runs.failed, 'failed run')} {'is' if row.runs.failed == 1 else 'are'} missing"
        lines.append(f"{name}: {failed}; the same run command tries {'it' if row.runs.failed == 1 else 'them'} again.")
    lines += [f"Warning: {name}: {path} is kept off, see `initbench verify {path}`." for path in row.runs.invalid]
    if row.runs.taps_left_out:
        lines.append(f"{name}: encoder levels that are not asked, as they leave no two slabs to order: {row.runs.taps_left_out}.")
    if row.runs.regimen_says:
        lines.append(f"{name}: {row.runs.regimen_says.removesuffix('.')}.")
    if row.runs.external:
        lines.append(f"{name}: conditional on these weights, one draw for all seeds; external data.")
    return lines


def _placebo(rows: Sequence[Standing]) -> list[str]:
    """What the placebo shows of the study itself."""
    lines = []
    for row in rows:
        if row.role != "placebo" or row.difference is None:
            continue
        default, verdict = row.difference.second, row.difference.verdict
        if default != treatment(row.init).default.name:
            continue
        if row.difference.told_from_0:
            lines.append(
                f"Warning: the placebo ({row.init}) comes out {verdict}. It differs from {default} by luck alone: 1 study in 20 "
                "shows this; if more of yours do, something else than the init differs between their runs."
            )
        elif verdict != "untestable":
            hidden = row.difference.estimate.high - row.difference.estimate.value
            lines.append(
                f"The placebo, {default} drawn again ({row.init}), comes out {verdict}. From these runs no difference below "
                f"{words.number(hidden, 1)} points could have been told, so a smaller fault of the study would stay hidden."
            )
    return lines


def _values(
    place: int, row: Standing, table: ScoreTable, found: Analysis | Refused, ties: Mapping[str, str] | None
) -> dict[str, object]:
    """The row of an init for machines."""
    values: dict[str, object] = {
        **columns(table.block),
        "place": place,
        **named(row.init, table.names),
        "init_protocol": row.runs.protocol,
        "role": row.role,
    }
    if ties is not None:
        values["tie"] = ties.get(row.init, "")
    values |= {
        "dice": row.dice.value,
        "dice_low": row.dice.low,
        "dice_high": row.dice.high,
        "seeds": row.seeds,
        "seeds_chosen": words.seeds_chosen([table]),
        "cases": len(table.cases),
        "patients": math.nan if table.patients is None else table.patient_count,
        "seed_sd": row.sd.value,
        "seed_sd_low": row.sd.low,
        "seed_sd_high": row.sd.high,
        "against": row.difference.second if row.difference else "",
        **words.tested(row.difference),
        **_place_values(row.rank),
        "median_run": row.median_run,
        "beats": row.beats.value,
        "beats_low": row.beats.low,
        "beats_high": row.beats.high,
        **words.collapses(row.collapses),
        "standing_mean": row.standing_mean,
        **words.standing(row.standing, row.rates),
        "diverged": row.diverged,
        "failed": row.runs.failed,
        "seconds": row.runs.seconds,
        "init_share_of_seconds": row.runs.init_share,
        **_counted(row.runs, table),
        "changed_share": row.runs.changed_share,
        **spread_values(found.components if isinstance(found, Analysis) else found),
        "policy": table.policy,
    }
    if row.reason:
        values["reason"] = row.reason
    return values


def _counted(runs: Runs, table: ScoreTable) -> dict[str, object]:
    """Steps and units of training for machines, where a block has regimens."""
    return {"steps_made": runs.steps, "units": runs.units} if have_regimens(table.names) else {}


def _place_values(rank: InitRank | None) -> dict[str, object]:
    """The rank of an init for machines; NaN where it has none."""
    if rank is None:
        return {"may_be_best": None, "rank": math.nan, "rank_low": math.nan, "rank_high": math.nan}
    return {"may_be_best": rank.may_be_best, "rank": rank.rank, "rank_low": rank.low, "rank_high": rank.high}


def spread_values(parts: Components | Refused) -> dict[str, object]:
    """The three numbers of a block's headline with their intervals, as JSON and CSV have them; NaN where there are none."""
    names = ("between_init_sd", "retraining_sd", "better_wins")
    if isinstance(parts, Refused) or parts.init is None or parts.wins is None:
        return {f"{name}{end}": math.nan for name in names for end in ("", "_low", "_high")}
    values: dict[str, object] = {}
    for name, found in zip(names, (parts.init.sd, parts.retraining.sd, parts.wins), strict=True):
        values |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return values
