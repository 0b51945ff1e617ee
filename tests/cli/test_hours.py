"""How long it takes is said before it begins, and what is wrong with a data set beside its table."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from initbench.cli.announce import say_how_long
from initbench.cli.app import main
from initbench.harness.cell import Cells
from initbench.harness.execute import Outcome, State
from initbench.harness.request import RunRequest
from initbench.runs.costs import Costs, StudyPlan
from initbench.studies.forecast import plan_looked_up
from initbench.studies.sweep import LookedUp
from tests.runs_factory import LIGHT, SMALL, TINY, as_flags


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    printed = capsys.readouterr()
    assert not ended.value.code, printed.err
    return printed.out


def test_a_run_and_a_pretext_begin_with_how_long_they_take(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--dataset", str(data), *TINY, *as_flags(SMALL), "--set", "steps.smoke=2"]
    out = ["--out", str(tmp_path / "runs")]
    said(capsys, "data", "prepare", str(data), "--backbone", LIGHT, "--size", "tiny", *as_flags(SMALL))
    first, second = said(capsys, "run", "--init", "default", *asked, *out).splitlines()[:2]
    assert first.startswith("On this CPU: ")
    assert first.endswith("estimated from the operations of the networks.")
    assert second.startswith("1 run: ")
    again = said(capsys, "run", "--init", "default", *asked, *out)
    assert "On this CPU" not in again, "nothing is left to do"
    first = said(capsys, "run", "--init", "default", "--seed", "1", *asked, *out).splitlines()[0]
    assert first == "On this CPU: less than a minute, as finished runs did."
    weights = str(tmp_path / "mae.safetensors")
    first = said(capsys, "pretrain", "--init", "mae", *asked, "--weights", weights).splitlines()[0]
    assert first.startswith("On this CPU: ")


def test_code_of_others_is_named_where_it_leaves_a_time_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = RunRequest.of("default", LIGHT, "phantom-lung", 0, out=tmp_path)
    states: tuple[State, ...] = ("pending", "cached")
    for state in states:
        study = LookedUp([request], {0: Outcome(request, state, None, None)}, Cells(), isolated=True)
        say_how_long(Console(), plan_looked_up(study, "", 1), study)
        told = f"No time is known yet for runs with {LIGHT}: it shows once the first of them trains"
        assert (told in capsys.readouterr().out) == (state == "pending")
    # Where the code of others runs in this process, its operations are counted here.
    study = LookedUp([request], {0: Outcome(request, "pending", None, None)}, Cells(), isolated=False)
    say_how_long(Console(), StudyPlan((), Costs(), "", 1, 1, False, 10**12), study)
    assert capsys.readouterr().out == ""


def test_what_is_wrong_with_a_data_set_stands_below_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITBENCH_DATA", str(tmp_path))
    (tmp_path / "ACDC" / "patient001").mkdir(parents=True)
    out = said(capsys, "data", "list")
    table, _, below = out.partition("\n\n")
    assert "cannot be used, see below" in table
    assert "this is not how acdc looks" not in table
    assert "problem acdc: " in below
    assert "this is not how acdc looks" in below
