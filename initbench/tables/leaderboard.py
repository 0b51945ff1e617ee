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
from initbench.stats.design import SCOPES, Refused
from initbench.stats.ranks import tie_letters
from initbench.stats.table import ScoreTable
from initbench.stats.treatments import have_regimens, interactions, treatment
from initbench.tables import collapses, words
from initbench.tables.interactions import interaction_sheet
from initbench.tables.leaderboard_values import row_values
from initbench.tables.mixtures import mixed
from initbench.tables.sheet import Sheet, all_rows
from initbench.tables.standings import Runs, Standing, standings
from initbench.tables.study import Study
from initbench.tables.titles import columns, settings, title


def leaderboard_sheets(study: Study, against: str = BASELINE, margin: float = MARGIN, *, letters: bool = False) -> list[Sheet]:
    """Returns a sheet for every block, below it one of its interactions where it has some; the last one says what columns mean.

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
        meanings = (*words.marked(all_rows(made)), *legend(study, against, margin, letters=letters))
        made[-1] = replace(made[-1], legend=meanings)
    return made


def check_control(study: Study, against: str) -> None:
    """Refuses an init to compare with that no block has; a study without `default` compares all pairs.

    Raises:
        UsageError: no block has it; the message names the inits of the study.
    """
    if against != BASELINE and against not in study.names:
        raise UsageError(f"--against {words.label(against)}: the inits of these runs are {words.listed(study.names)}")


def legend(study: Study, against: str, margin: float, *, letters: bool = False) -> tuple[str, ...]:
    """Returns what the columns mean.

    Args:
        study: the runs and their scores.
        against: the row that the others are compared with.
        margin: Dice points within which two rows are equivalent.
        letters: whether a column of letters shows which rows are told apart.
    """
    compared = crossed = regimens = False
    for table in study.tables:
        compared = compared or (against in table.names and not table.refused)
        crossed = crossed or bool(interactions(table.inits))
        regimens = regimens or have_regimens(table.names)
    classes = ""
    if study.scoring.classes:
        classes = f" of {', '.join(study.scoring.classes)}"
    lines = [
        f"Dice: in points, at the {study.scoring.grid} grid, the mean over classes{classes}, cases of a patient, patients and "
        f"seeds; last checkpoint; policy {study.scoring.policy}. The intervals of a table hold for all of its inits at once, for "
        "new seeds and new cases.",
        "seed SD: how much the score of an init varies when it is trained again with other seeds, on these cases.",
    ]
    if compared:
        lines.append(_compared_legend(against, margin, crossed=crossed))
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
    if regimens:
        lines.append(
            "init + regimen: the init, trained under the regimen; an init alone is trained plainly. (compute): with as many "
            "units as plain training, so with fewer steps. steps, units: of the init stage and of training, the mean over runs; "
            "a forward pass is one unit, a backward pass two."
        )
    return tuple(lines)


def _compared_legend(against: str, margin: float, *, crossed: bool) -> str:
    """Returns what the column of differences means.

    Args:
        against: the row that the others are compared with.
        margin: Dice points within which two rows are equivalent.
        crossed: whether interactions are judged with the differences to default.
    """
    name = words.label(against)
    too = ""
    if crossed:
        too = " and the interactions"
    if against == BASELINE:
        together = (
            f"Intervals and verdicts hold for the differences of all inits to default{too} at once; the placebo is judged by "
            "itself."
        )
    else:
        together = (
            "Intervals and verdicts hold for all pairs of inits at once. A difference to default is judged with the other "
            f"differences to default{too}, one to a placebo with the other differences of the placebo."
        )
    return (
        f"vs {name}: the difference to {name}, for new seeds and new cases, for this training set. {together} equivalent: the "
        f"interval lies within ±{margin:g} points."
    )


def sheet(table: ScoreTable, of_cell: Mapping[str, Runs], found: Analysis | Refused, *, letters: bool = False) -> Sheet:
    """Returns the table of one block.

    Args:
        table: the scores of the block.
        of_cell: the runs of each cell, summed up.
        found: the analysis of the scores, or why there is none.
        letters: whether a column of letters shows which rows are told apart.
    """
    rows = standings(table, of_cell, found)
    against = _control(found)
    counted = have_regimens(table.names)
    headers = ["initializer", "Dice [95 %]", "seed SD [95 %]"]
    if against is not None:
        headers.append(f"vs {words.label(against)} [95 %]")
    headers += ["may be best", "rank", "div."]
    if counted:
        headers += ["steps", "units"]
    headers.append("cost")
    ties = None
    names = 1
    if letters:
        ties = _ties(table, found)
        names = 2
        headers.insert(0, "tie")
    cells, values = [], []
    for place, row in enumerate(rows, start=1):
        own = _cells(row, against, counted=counted)
        if ties is not None:
            own.insert(0, ties.get(row.init, ""))
        cells.append(tuple(own))
        values.append(row_values(place, row, table, found, ties))
    return Sheet(
        title=title(table.block),
        subtitle=f"{settings(table.block)} · {words.shape(table)}",
        columns=tuple(headers),
        rows=tuple(cells),
        notes=(headline(table, found), *notes(table, found, rows)),
        values=tuple(values),
        names=names,
    )


def _control(found: Analysis | Refused) -> str | None:
    """Returns the row that the others are compared with; None where nothing is compared, or all pairs are."""
    if isinstance(found, Refused):
        return None
    return found.against


def _ties(table: ScoreTable, found: Analysis | Refused) -> dict[str, str]:
    """Returns the letters of rows, by their names, over all pairs of schemes; none where nothing is compared."""
    if isinstance(found, Refused) or isinstance(found.ranking, Refused):
        return {}
    return tie_letters(verdicts(table.schemes(), against=None), [row.init for row in found.ranking])


def _cells(row: Standing, against: str | None, *, counted: bool) -> list[str]:
    """Returns the row of an init for people.

    Args:
        row: what is known of the init.
        against: the row that the others are compared with; None leaves the column of differences out.
        counted: whether the row has the numbers of steps and units.
    """
    cells = [words.label(row.init), words.dice(row.dice), words.sd(row.sd)]
    if against is not None:
        cells.append(_compared(row))
    place = "–"
    if row.rank is not None:
        place = words.place(row.rank.rank, row.rank.low, row.rank.high)
    cells += [best(row), place, f"{row.diverged}/{row.seeds}"]
    if counted:
        cells += [words.number(row.runs.steps, 0), words.number(row.runs.units, 0)]
    cost = words.measured_time(row.runs.seconds)
    if row.runs.init_share >= 0.005:  # less, or NaN, is not said
        cost += f" ({100 * row.runs.init_share:.0f} % init)"
    cells.append(cost)
    return cells


def best(row: Standing) -> str:
    """Returns in a word whether an init may be the best of its block."""
    if row.rank is None:
        return "–"
    if row.rank.may_be_best:
        return "yes"
    return "no"


def _compared(row: Standing) -> str:
    """Returns the difference of a row with its verdict; – for the control."""
    if row.role == "withheld":
        return "withheld"
    if row.difference is None:
        return "–"
    return " ".join(words.compared(row.difference))


def headline(table: ScoreTable, found: Analysis | Refused) -> str:
    """Returns the answer of a block: how much the choice of the row moves Dice, beside what another seed does."""
    choice, rows = "the init", "inits"
    if have_regimens(table.names):
        choice, rows = "the row (init and regimen)", "rows"
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
    """Returns the between-init SD in words.

    Args:
        part: the component.
        number: of rows.
        rows: what they are called.
        told: whether two of the rows differ for sure.
    """
    found = part.sd
    if found.low > 0:
        return f"{words.sd(found)} points"
    known = "not told from 0"
    if told:
        known = f"some {rows} differ"
    if number == 2:
        known += f"; with {number} {rows} it"
    else:
        known += "; it"
    return f"{words.number(found.value, 1)} points ({known} may be anything up to {words.number(found.high, 1)})"


def notes(table: ScoreTable, found: Analysis | Refused, rows: Sequence[Standing]) -> list[str]:
    """Returns what a reader has to know of a block before believing its rows, each a sentence or two.

    Args:
        table: the scores of the block.
        found: the analysis of them, or why there is none.
        rows: the inits of the block, best first.
    """
    lines = []
    one_seed = words.seed_count(table) == 1
    if one_seed:
        lines.append("One seed gives no interval and no verdict: --seeds 3 or more.")
    if isinstance(found, Refused):
        lines.append(f"No verdicts: {found.reason}.")
    else:
        if not one_seed:
            lines += _untestable(table, found)
        lines += _unranked(found)
        lines += _placebo(rows)
        lines += words.placebos_of_regimens(table.inits, found.against)
    if table.patients is None and table.cases:
        lines.append(
            "These runs do not say which patient a case is of, so each case counts as one. Where patients have several cases the "
            "intervals are too short and verdicts come too easily."
        )
    lines += words.about_seeds(table)
    control = _control(found)
    lines += mixed({row.init: row.runs.environments for row in rows}, control)
    for row in rows:
        lines += _of_row(row, control)
        lines += collapses.of_row(row, table.design)
    return lines


def _untestable(table: ScoreTable, found: Analysis) -> list[str]:
    """Returns why differences are untestable, without the reasons that the notes of withheld rows give."""
    withheld = {f"{item.init}: {item.reason}" for item in table.withheld}
    lines = []
    for reason in words.reasons(found.comparison.differences):
        if reason not in withheld:
            lines.append(f"Untestable: {reason}.")
    return lines


def _unranked(found: Analysis) -> list[str]:
    """Returns why there are no ranks, where there are several inits to rank."""
    several = isinstance(found.components, Components) and found.components.inits > 1
    if several and isinstance(found.ranking, Refused):
        return [f"No ranks: {found.ranking.reason}."]
    return []


def _of_row(row: Standing, control: str | None) -> list[str]:
    """Returns what a reader has to know of a row.

    Args:
        row: what is known of an init.
        control: the row that the others are compared with.
    """
    lines, name = [], words.label(row.init)
    if row.role == "withheld":
        line = f"{name} is withheld: {row.reason}."
        if row.init == control:
            line = f"Nothing is compared: {line}"
        if row.kind == "identical":
            line = f"Warning: {line}"
        lines.append(line)
    if not math.isnan(row.without_diverged):
        zeros = f"{words.count(row.diverged, 'run')} diverged and {words.form(row.diverged, 'scores', 'score')} 0"
        lines.append(f"{name}: {zeros}; the others have a mean of {row.without_diverged:.1f}.")
    failed = row.runs.failed
    if failed and row.kind != "failed":  # whose reason says what to change
        missing = f"{words.count(failed, 'failed run')} {words.form(failed, 'is', 'are')} missing"
        lines.append(f"{name}: {missing}; the same run command tries {words.form(failed, 'it', 'them')} again.")
    for path in row.runs.invalid:
        lines.append(f"Warning: {name}: {path} is kept off, see `initbench verify {path}`.")
    if row.runs.taps_left_out:
        lines.append(f"{name}: encoder levels that are not asked, as they leave no two slabs to order: {row.runs.taps_left_out}.")
    if row.runs.regimen_says:
        lines.append(f"{name}: {row.runs.regimen_says.removesuffix('.')}.")
    if row.runs.external:
        lines.append(f"{name}: conditional on these weights, one draw for all seeds; external data.")
    return lines


def _placebo(rows: Sequence[Standing]) -> list[str]:
    """Returns what placebos show of the study itself."""
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
