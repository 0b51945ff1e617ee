"""`import initbench` in Python: runs that cannot be are errors, progress is shown, and tables are objects."""

from __future__ import annotations

import typing
from pathlib import Path

import pandas as pd
import pytest

import initbench
from initbench import api
from initbench.choices import DicePolicy
from initbench.cli.app import main
from initbench.errors import MissingDataError, UsageError
from tests.recorded import write_block
from tests.runs_factory import LIGHT, OPTIONS, SMALL, TINY


def test_a_study_that_cannot_be_raises(data: Path, tmp_path: Path) -> None:
    wrong = {**OPTIONS, "assignments": SMALL, "out": tmp_path}
    with pytest.raises(UsageError, match="these do: 1, 2, 4, 8"):
        initbench.run("mae(mask_patch=3)", LIGHT, str(data), **wrong)
    with pytest.raises(UsageError, match=r"no run of this study can be: .*mask_patch 3.*; .*mask_patch 5"):
        initbench.run("mae(mask_patch=3),mae(mask_patch=5)", LIGHT, str(data), progress=False, **wrong)
    with pytest.raises(UsageError, match=r"nothing was run: 1 of 2 runs cannot be .*skip_refused=True"):
        initbench.run("default,mae(mask_patch=3)", LIGHT, str(data), **wrong)
    assert list(tmp_path.iterdir()) == []


def test_missing_data_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("INITBENCH_DATA", raising=False)
    with pytest.raises(MissingDataError, match="Task06_Lung was not found"):
        initbench.run("default,lwi", LIGHT, "lung", seeds=3, out=tmp_path / "runs", **OPTIONS)
    with pytest.raises(SystemExit) as ended:
        main(["run", "--init", "default,lwi", "--dataset", "lung,brats", "--seeds", "3", *TINY, "--out", str(tmp_path / "runs")])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.count("was not found") == 2
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_progress_is_shown_unless_somebody_does_not_want_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {**OPTIONS, "assignments": [*SMALL, "steps.smoke=2"]}
    [loud] = initbench.run("default", LIGHT, str(data), out=tmp_path / "loud", **asked)
    assert "light" in capsys.readouterr().err
    [quiet] = initbench.run("default", LIGHT, str(data), out=tmp_path / "quiet", progress=False, **asked)
    assert capsys.readouterr().err == ""
    assert loud.state == quiet.state == "ok"
    again = initbench.run("default", LIGHT, str(data), out=tmp_path / "quiet", progress=False, **asked)
    assert again.frame.loc[0, "state"] == "cached"
    assert "cached" in repr(again)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "runs"
    write_block(folder, {"default": [0.5, 0.52, 0.51], "lwi": [0.6, 0.61, 0.64]})
    return folder


def test_tables_are_objects(out: Path) -> None:
    board = initbench.leaderboard(out)
    assert isinstance(board.frame, pd.DataFrame)
    assert len(board) == 1
    assert board[0].title in repr(board)
    assert "single runs" in repr(board)
    assert len(board.frame) == len(board[0].rows), "the tables below the leaderboard have rows of other kinds"
    assert f"<th>{board[0].columns[0]}</th>" in board._repr_html_()
    assert board.to_markdown().startswith("### ")
    assert r"\begin{tabular}" in board.to_latex()
    assert board.to_csv().splitlines()[0].startswith(",".join(list(board.frame.columns)[:2]))
    for tables in (initbench.compare("lwi", out=out), initbench.variance(out), initbench.classes(out)):
        assert len(repr(tables).splitlines()) > 3
        assert "<table>" in tables._repr_html_()


def test_what_a_verdict_hangs_on_stands_below_it(out: Path) -> None:
    plain, firm = initbench.compare("lwi", out=out), initbench.compare("lwi", out=out, firm=True)
    assert (plain.sheets, plain.beside) == (firm.sheets, ())
    assert "how firm" in firm.beside[0].title
    assert repr(firm).startswith(repr(plain).rstrip())
    assert firm.frame.equals(plain.frame)


def test_markup_of_others_is_text(out: Path) -> None:
    [sheet] = initbench.leaderboard(out)
    hostile = api.Tables((api.Sheet("<script>", "", ("a",), (("<b>",),), ("&",), ({},)),))
    shown = hostile._repr_html_()
    assert "<script>" not in shown
    assert "&lt;b&gt;" in shown
    assert sheet.columns


def test_a_report_is_a_function_although_it_is_a_package(out: Path, tmp_path: Path) -> None:
    from initbench.report import page

    assert page.__name__ == "initbench.report.page"
    written = initbench.report(out, file=tmp_path / "page.html")
    assert written.path == tmp_path / "page.html"
    assert written.path.stat().st_size == written.bytes
    with pytest.raises(UsageError, match="is a folder"):
        initbench.report(out, file=tmp_path)


def test_options_are_words_that_editors_complete() -> None:
    hints = typing.get_type_hints(api.ReadOptions)
    assert hints["dice_policy"] == DicePolicy
    for function in (initbench.run, initbench.plan):
        assert "Unpack[Options]" in str(function.__annotations__["options"])
    assert "Unpack[ReadOptions]" in initbench.leaderboard.__annotations__["which"]
