"""What `initbench reproduce` says below a table: of seeds, of settings, of what a row lacks."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from initbench.cli.app import main
from initbench.published.trials import Overrides
from initbench.runs import store
from tests.commands import said
from tests.recorded import record_values, reseal, write_run
from tests.studies.reproduced import PHANTOM, TABLE, report, resolved, rows_of, write_rows


def test_runs_outside_the_shared_seeds_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, {"default": 0.0}, seeds=2)
    write_rows(tmp_path, {"lwi": 0.03})
    (folder,) = tmp_path.glob("*/*/lwi-*/seed-2")
    record = record_values(folder)
    own = record | {"status": "diverged"}
    reseal(folder, own)
    text = " ".join(report(capsys, tmp_path, "--shared-seeds", form="md").split())
    assert "1 diverged run lies outside the shared seeds, where nothing is counted: order + masking (seed 2)." in text
    assert "diverged, scored 0" not in text


def test_what_a_row_needs_is_said_in_a_sentence(data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--dataset", str(data), *PHANTOM[2:], "--format", "md"]
    with pytest.raises(SystemExit):  # the volumes are too small for lwi, which the dry run refuses, too
        main(["reproduce", "lwi:table-9", "--out", str(tmp_path), "--dry-run", "--no-measure", *options])
    text = capsys.readouterr().out
    assert "needs the weights that it starts from: --set init.path=FILE." in text
    assert "...." not in text


def test_what_has_to_be_known_is_below_the_table(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(report(capsys, study, form="md").split())
    assert "Warning: measured with data set phantom-lung, network unetr, tiny size, smoke budget." in text
    assert "The published numbers are of another question" in text
    assert "3 seeds hardly know their SD: the true one may be 0.5 to 6.3 times as large" in text
    assert "Deviation: The release has no switch for these rows" in text
    assert "arXiv:2306.09320; Table VI; code ShahinaKK/LWI-VMS@7f21654" in text
    ramp = "optimizer.schedule=plateaus, optimizer.plateaus=50"
    assert f"default as released, order + masking as released: with {ramp}." in text
    assert "Not run: default as released, order + masking as released." in text


def test_no_warning_where_the_question_is_the_papers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = resolved(Overrides("lung"))
    write_rows(tmp_path, {"default": 0.0, "lwi": 0.0}, dataset="lung", split="unetrpp-50/13 (6 of 63 cases)", **own)
    text = said(capsys, "reproduce", "lwi:table-4", "--report-only", "--out", str(tmp_path), "--format", "md")
    assert "another question" not in text
    assert "| UNETR | default | 69.11 | 7" in text


@pytest.mark.parametrize("form", ["table", "md", "csv", "json", "latex"])
def test_every_form_holds_the_same(study: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    text = report(capsys, study, form=form)
    assert "tube masking" in text
    assert "78.28" in text
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["of"] for row in rows] == ["row"] * len(TABLE.row) + ["claim"] * len(TABLE.claims)


def test_seeds_that_are_asked_for_count_alone(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows_of(report(capsys, study, "--seed", "0", "--seed", "2"))
    assert {row["seeds"] for label, row in found.items() if "released" not in label} == {2}
    one = report(capsys, study, "--seed", "1")
    assert {row["claim"] for row in rows_of(one, "claim").values()} == {"cannot be tested"}
    assert rows_of(one)["default"]["gap_in_sds"] is None


def test_a_row_without_a_score_says_nothing_of_the_seeds_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, {"default": 0.0})
    write_run(tmp_path, "lwi", None, status="failed", protocol="equal-finetune", **resolved())
    text = report(capsys, tmp_path, form="md")
    assert "order + masking is withheld" in text
    assert "3 seeds hardly know their SD" in text
    assert "One seed: no SD" not in text


def test_runs_without_any_score_are_rows_without_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for init in ("default", "lwi"):
        own = {"protocol": "equal-finetune" if init == "lwi" else "any", **resolved()}
        write_run(tmp_path, init, None, status="failed", **own)
    text = report(capsys, tmp_path, form="md")
    assert "default is withheld: 0 of 1 seeds have a score, failed: planted" in text
    assert "nan" not in text


def test_seeds_that_are_there_beside_those_that_were_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of rows with other numbers of seeds: what is said of SDs is said of whom it is true."""
    write_rows(tmp_path, {"default": 0.0})
    write_rows(tmp_path, {"lwi": 0.0}, 1)
    text = report(capsys, tmp_path, form="md")
    assert "One seed of order + masking: no SD" in text
    assert "3 seeds hardly know their SD" in text


def test_what_the_leaderboard_warns_of_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, {"default": 0.0})
    write_rows(tmp_path, {"lwi": 0.0}, environment="e1")
    (broken,) = tmp_path.glob("*/*/default-*/seed-2")
    (broken / store.RECORD).write_text("{")
    (changed,) = tmp_path.glob("*/*/lwi-*/seed-2")
    (changed / store.CASES).write_text("case\n")
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", "lwi:table-6", *PHANTOM, "--report-only", "--out", str(tmp_path), "--format", "md"])
    assert ended.value.code == 0
    printed = capsys.readouterr()
    assert f"{broken}: record.json is kept off: " in " ".join(printed.err.split())
    assert "rows come from different environments" in printed.out
    assert f"order + masking: {changed} is kept off, see `initbench verify {changed}`" in printed.out
