"""The numbers of the report are those of the statistics, and every row says where it comes from."""

from __future__ import annotations

from pathlib import Path

from initbench.report.protocols import pairs
from initbench.runs import store
from initbench.stats.analysis import Analysis, analyse
from initbench.tables import interactions, leaderboard, study, words
from initbench.tables.leaderboard import leaderboard_sheets
from tests.html_page import figures, read, rows
from tests.recorded import PLACEBO, record_values
from tests.report.studies import content_of, html_of, only, write_study


def test_the_leaderboards_hold_the_numbers_of_the_statistics(whole: Path, html: str) -> None:
    document = read(html)
    tables = study.read_study(whole).tables
    assert len(tables) == 3
    for number, table in enumerate(tables):
        found = analyse(table)
        assert isinstance(found, Analysis)
        shown = rows(document, f"b{number}")
        assert set(shown) == {*table.inits, *(item.init for item in table.withheld)}
        differences = {item.first: item for item in found.comparison.differences}
        assert not isinstance(found.ranking, leaderboard.Refused)
        ranks = {item.init: item for item in found.ranking}
        for item in found.inits:
            cells = shown[item.init]
            assert float(cells["dice"].attributes["data-v"]) == item.mean.value
            assert cells["dice"].text == f"{item.mean.value:.1f}"
            assert f"{item.mean.value:.1f} {cells['interval'].text}" == words.dice(item.mean)
            assert float(cells["sd"].attributes["data-v"]) == item.run_sd.value
            assert cells["sd"].text == words.sd(item.run_sd)
            diverged = table.diverged[table.inits.index(item.init)]
            assert cells["diverged"].text == f"{diverged.sum()}/{diverged.size}"
            if item.init in differences:
                one = differences[item.init]
                assert float(cells["difference"].attributes["data-v"]) == one.estimate.value
                assert cells["difference"].text == words.difference(one.estimate)
                assert cells["verdict"].text == one.says
            assert ("difference" in cells) == ("verdict" in cells)
            if item.init in ranks:
                rank = ranks[item.init]
                assert cells["rank"].text == words.place(rank.rank, rank.low, rank.high)
                assert float(cells["rank"].attributes["data-v"]) == rank.rank
                assert cells["best"].text == ("yes" if rank.low == 1 else "no")
            else:
                assert cells["best"].text == cells["rank"].text == "–"


def test_the_headline_of_a_block_is_that_of_the_leaderboard(whole: Path, html: str) -> None:
    said = [item.text for item in read(html).all("p", "headline")]
    assert said == [made.notes[0] for made in leaderboard_sheets(study.read_study(whole))]
    assert all("an SD of " in line for line in said)


def test_the_overview_counts_who_may_be_best(whole: Path, html: str) -> None:
    (table,) = (item for item in read(html).all("table") if item.attributes.get("id") == "overview")
    shown = [[cell.text for cell in row.children] for row in next(table.all("tbody")).all("tr")]
    for cells, block in zip(shown, content_of(whole).blocks, strict=True):
        places_ = [row.standing.rank for row in block.rows if row.standing.rank is not None]
        able = [place for place in places_ if place.may_be_best]
        assert cells[-1] == f"{len(able)} of {len(places_)}"
        assert cells[-2] == words.dice(block.rows[0].standing.dice)


def test_rows_come_best_first_and_withheld_ones_say_why(whole: Path, html: str) -> None:
    shown = rows(read(html), "b0")
    assert list(shown)[-1] == "order"
    assert "no score for seed 1 (failed: planted)" in shown["order"]["reason"].text
    assert "dice" not in shown["order"]
    values = [float(cells["dice"].attributes["data-v"]) for cells in shown.values() if "dice" in cells]
    assert values == sorted(values, reverse=True)


def test_the_end_says_what_the_report_is_of(html: str) -> None:
    document = read(html)
    assert "hippocampus, phantom-lung × unetr" in next(document.all("h1")).text
    end = next(document.all("footer")).text
    for text in (
        "2026-01-02 03:04 UTC by initbench",
        "new seeds and new cases, for this training set",
        "reference-mask",
        "38 (36 ok, 1 diverged, 1 failed)",
        "±0.5 Dice points",
    ):
        assert text in end


def test_rows_are_labelled_for_what_they_are(whole: Path, html: str) -> None:
    shown = rows(read(html), "b1")
    badges = {init: [badge.text for badge in cells["th"].all("span", "badge")] for init, cells in shown.items()}
    assert [button.text for button in shown[PLACEBO]["th"].all("button")] == ["placebo"]
    assert badges[PLACEBO] == []
    assert badges["checkpoint"] == ["external weights"]
    assert badges["default"] == []
    assert badges["lwi"] == ["equal-finetune"]
    notes = " ".join(item.text for item in read(html).all("ul", "notes"))
    assert "checkpoint: conditional on these weights, one draw for all seeds; external data" in notes
    assert "order: 1 failed run is missing" in notes


def test_mixed_environments_and_changed_runs_are_warned_of(tmp_path: Path) -> None:
    out = tmp_path / "runs"
    write_study(out, {"default": 0.0, "mae": 0.0}, seeds=3)
    write_study(out, {"tube": 0.0}, seeds=3, environment="e1")
    (next(out.glob("*/*/mae-*/seed-1")) / store.CASES).write_text("changed", "utf-8")
    (next(out.glob("*/*/mae-*/seed-2")) / store.RECORD).write_text("{", "utf-8")
    document = read(html_of(out))
    warnings = " ".join(item.text for item in document.all("li", "warning"))
    assert "different environments" in warnings
    assert "mae: " in warnings
    assert "is kept off" in warnings
    assert "seed-2: record.json is kept off: " in warnings


def test_provenance_names_everything_that_made_a_row(whole: Path, html: str) -> None:
    shown = rows(read(html), "b0")
    button = next(shown["mae"]["th"].all("button"))
    (dialog,) = (item for item in read(html).all("dialog") if item.attributes["id"] == button.attributes["data-dialog"])
    record = record_values(next(whole.glob("hippocampus/*/mae-*/seed-2")))
    for text in (
        record["cell"], record["weights_digest"], "a" * 12, "c0ffee2", "a GPU", "e0", "seed-2", "auto", "parameters changed",
    ):  # fmt: skip
        assert text in dialog.text, text
    assert len(list(next(dialog.all("tbody")).all("tr"))) == 4
    failed = next(rows(read(html), "b0")["order"]["th"].all("button")).attributes["data-dialog"]
    (dialog,) = (item for item in read(html).all("dialog") if item.attributes["id"] == failed)
    assert "failed: planted" in dialog.text


def test_the_learned_init_stands_under_both_protocols(whole: Path, html: str) -> None:
    family = next(item for item in content_of(whole).families if item.paired)
    assert [block.protocol for block in family.blocks] == ["equal-finetune", "equal-total"]
    (pair,) = pairs(family)
    assert pair.init == "lwi"
    (section,) = read(html).all("section", "protocols")
    (row,) = next(section.all("tbody")).all("tr")
    told = [cell.text for cell in row.children]
    for number, side in enumerate(pair.rows):
        assert side is not None
        assert side.standing.difference is not None
        assert told[1 + 4 * number] == words.dice(side.standing.dice)
        assert told[2 + 4 * number] == words.difference(side.standing.difference.estimate)
        assert told[3 + 4 * number] == side.standing.difference.verdict
    assert figures(section, "cost")


def test_interactions_of_inits_and_regimens_stand_below_the_rows(tmp_path: Path) -> None:
    out = tmp_path / "runs"
    write_study(out, {"default": 0.0, "lwi": 0.02})
    write_study(out, {"default": 0.01, "lwi": 0.09}, regimen="medcontext")
    document = read(html_of(out))
    found = only(out)
    (item,) = found.interactions
    (table,) = document.all("table", "interactions")
    cells = [cell.text for row in next(table.all("tbody")).all("tr") for cell in row.children]
    assert cells == list(interactions.cells(item))
    assert cells[0] == "lwi × medcontext"
    notes = [note.text for note in document.all("li")]
    assert (
        sum("judged together with the other differences to default and the interactions (4 in all)" in note for note in notes)
        == 1
    )
    shown = rows(document, "b0")
    assert set(shown) == {"default", "default + medcontext", "lwi", "lwi + medcontext"}
    assert shown["lwi + medcontext"]["units"].text == "–"
    (forest,) = figures(document, "forest")
    assert "the differences to default and the interactions" in forest.text
    facts = {item.children[0].text: item.children[1].text for item in next(document.all("dl", "facts")).children}
    assert (facts["initializers"], facts["regimens"]) == ("2", "medcontext, plain")


def test_a_report_without_regimens_has_no_interactions(html: str) -> None:
    document = read(html)
    assert not list(document.all("table", "interactions"))
    assert "units" not in rows(document, "b0")["default"]
