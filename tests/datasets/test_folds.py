"""Folds and subsets of the training cases: who is where, what a run is then called, and that nothing else changes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from initbench.audit.verify import verify
from initbench.cli.app import main
from initbench.cli.groups import Parts
from initbench.datasets import splits
from initbench.datasets.phantom import PhantomLung
from initbench.errors import DataError, UsageError
from initbench.harness.cell import resolve_cell
from initbench.harness.request import as_json, from_json
from initbench.preprocessing.prepare import data_digest
from initbench.protocols import Split
from initbench.runs import store
from initbench.runs.status import read_asked
from initbench.stats.blocks import part
from initbench.studies.forecast import plan_study
from initbench.studies.sweep import cross_requests
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.leaderboard_pooled import pooled_sheets
from initbench.tables.plan import plan_sheets
from initbench.tables.study import read_study
from initbench.tables.titles import settings
from tests.listed import Listed
from tests.msd_factory import make_msd
from tests.recorded import record_values
from tests.runs_factory import LIGHT, OPTIONS, SMALL, TINY, as_flags, run

TWO_STEPS = (*SMALL, "steps.smoke=2")
IDS = tuple(f"case_{i:02d}" for i in range(23))
EXPECTED_PHANTOM = "1daa9190caa8c4be8bcf670527f4f2fc1cff199b362e128cd732486a2c666f28"


class Patients(Listed):
    """Two cases a patient."""

    def group(self, case_id: str) -> str:
        return case_id[:-1]


@pytest.mark.parametrize("of", [2, 5, 7, 23])
def test_folds_are_disjoint_complete_and_even(of: int) -> None:
    folds = [splits.resolve_split(Listed(IDS), None, f"{k}/{of}") for k in range(1, of + 1)]
    reported = [case for split in folds for case in split.test]
    assert sorted(reported) == sorted(IDS)
    assert all(sorted((*split.train, *split.test)) == sorted(IDS) for split in folds)
    assert max(len(split.test) for split in folds) - min(len(split.test) for split in folds) <= 1
    assert [split.name for split in folds] == [f"fold {k}/{of}" for k in range(1, of + 1)]


def test_folds_by_hand() -> None:
    # sha256 in hex starts with: a ca97, b 3e23, c 2e7d, d 18ac, e 3f79, so the order is d c b e a.
    assert splits.fold(["a", "b", "c", "d", "e"], 1, 2) == Split("fold 1/2", ("c", "e"), ("a", "b", "d"))
    assert splits.fold(["a", "b", "c", "d", "e"], 2, 2).test == ("c", "e")


def test_no_patient_is_on_both_sides() -> None:
    data = Patients(tuple(f"p{i:02d}{frame}" for i in range(11) for frame in "ab"))
    for text in ("1/3", "2/3", "3/3"):
        split = splits.resolve_split(data, None, text)
        assert not {case[:-1] for case in split.train} & {case[:-1] for case in split.test}
        assert len(split.test) in (6, 8)
    auto = splits.resolve_split(data, None)
    assert (len(auto.test), len({case[:-1] for case in auto.test})) == (4, 2)


def test_subsets_are_nested_and_leave_the_reported_cases() -> None:
    data = Listed(IDS)
    whole = splits.resolve_split(data, None)
    parts = [splits.resolve_split(data, None, None, n) for n in (1, 3, 6, 12)]
    assert [len(part.train) for part in parts] == [1, 3, 6, 12]
    assert all(set(small.train) < set(large.train) < set(whole.train) for small, large in pairwise(parts))
    assert {part.test for part in parts} == {whole.test}
    assert [part.name for part in parts[:2]] == ["auto, trained on 1 case", "auto, trained on 3 cases"]
    assert splits.resolve_split(data, None, None, len(whole.train)) == whole, "all of them are the split itself"
    both = splits.resolve_split(data, None, "2/5", 3)
    assert (both.name, len(both.train)) == ("fold 2/5, trained on 3 cases", 3)
    # b 3e23, c 2e7d, e 3f79, a ca97: the order of the training cases of `auto` by hand.
    assert splits.subset(splits.automatic(["a", "b", "c", "d", "e"]), 2).train == ("b", "c")


@pytest.mark.parametrize(
    ("fold", "cases", "says", "error"),
    [
        ("0/5", None, "--fold 0/5", UsageError),
        ("6/5", None, "--fold 6/5", UsageError),
        ("1/1", None, "K from 2", UsageError),
        ("1", None, "k/K", UsageError),
        ("1/99", None, "23 labelled cases", DataError),
        (None, 20, "auto has 19 training cases", UsageError),
        (None, 0, "--train-cases 0", UsageError),
    ],
)
def test_wrong_requests_say_what_would_be_right(fold: str | None, cases: int | None, says: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=says):
        splits.resolve_split(Listed(IDS), None, fold, cases)


def test_a_fold_and_a_split_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        splits.resolve_split(Listed(IDS), "auto", "1/5")
    with pytest.raises(UsageError, match="exclude each other"):
        cross_requests("default", "unetr", folds=["1/5"], split="auto")


def test_without_them_the_digest_of_the_data_is_what_it_was() -> None:
    """The data's part of a cell's identity, computed before there were folds."""
    data = PhantomLung()
    assert data_digest(data, splits.resolve_split(data, None))[0] == EXPECTED_PHANTOM
    assert data_digest(data, splits.resolve_split(data, None, None, 3))[0] != EXPECTED_PHANTOM


def test_options_of_the_command() -> None:
    parts = Parts(fold=["1/5, 2/5", "3/5"], train_cases="3, 6,12")
    assert (parts.folds(), parts.numbers()) == (["1/5", "2/5", "3/5"], [3, 6, 12])
    assert (Parts().folds(), Parts().numbers()) == ([], [])
    for text in ("3,x", "-3", "1.5", "12345678"):
        with pytest.raises(UsageError, match="whole numbers of cases"):
            Parts(train_cases=text).numbers()


def test_a_sweep_crosses_them_like_seeds() -> None:
    requests = cross_requests("default,uniform", "unetr", seeds=2, placebo=False, folds=["1/2", "02/2"], train_cases=[3, 6, 3])
    found = [(item.seed, item.fold, item.train_cases, str(item.init)) for item in requests]
    parts = [("1/2", 3), ("1/2", 6), ("2/2", 3), ("2/2", 6)]
    assert found == [(seed, *part, init) for seed in (0, 1) for part in parts for init in ("default", "uniform")]
    assert requests[0].label == "default × unetr × phantom-lung fold 1/2 on 3 cases seed 0"
    assert all(from_json(as_json(item)) == item for item in requests)
    assert cross_requests("default", "unetr")[0].label == "default × unetr × phantom-lung seed 0"
    with pytest.raises(UsageError, match="--train-cases 0"):
        cross_requests("default", "unetr", train_cases=[0])


@pytest.fixture(scope="module")
def study(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two inits, two folds and two subsets of one of them."""
    out = tmp_path_factory.mktemp("runs")
    train(data, out, folds=["1/2", "2/2"], train_cases=[2, 3])
    return data, out


def train(data: Path, out: Path, **options: Any) -> list[Any]:
    return run(data, out, "default,uniform", settings=TWO_STEPS, **options)


def test_every_part_is_a_block_of_its_own(study: tuple[Path, Path]) -> None:
    _, out = study
    records = [record_values(folder) for folder in store.find_runs(out)]
    resolved = [record["resolved"] for record in records if record]
    assert len(resolved) == len({record["cell"] for record in records if record}) == 8
    names = {"fold 1/2, trained on 2 cases", "fold 1/2", "fold 2/2, trained on 2 cases", "fold 2/2"}
    assert {item["split"] for item in resolved} == names
    tables = read_study(out).tables
    assert {table.block["split"] for table in tables} == names
    assert all(len(table.inits) == 2 for table in tables)
    assert any("split fold 1/2, trained on 2 cases" in settings(table.block) for table in tables)
    assert len(leaderboard_sheets(read_study(out))) == 4


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ("fold 1/2, trained on 2 cases", "fold 1/2, trained on 2 cases"),
        ("fold 1/2", "fold 1/2"),
        ("unetrpp-50/13 (24 of 63 cases), trained on 1 case", "trained on 1 case"),
        ("unetrpp-50/13 (24 of 63 cases)", ""),
        ("nnunet-fold-3", "nnunet-fold-3"),
        ("nnunet-fold-3 (24 of 63 cases), trained on 1 case", "nnunet-fold-3, trained on 1 case"),
        ("auto", ""),
    ],
)
def test_what_a_name_tells_of(split: str, says: str) -> None:
    assert part(split) == says


def test_folds_and_subsets_are_not_pooled_with_each_other(study: tuple[Path, Path]) -> None:
    sheets_ = pooled_sheets(read_study(study[1]), "backbone")
    assert len(sheets_) == 4
    assert all("1 block" in sheet.subtitle for sheet in sheets_)
    assert any("fold 2/2, trained on 2 cases" in sheet.subtitle for sheet in sheets_)


def test_statistics_come_from_the_training_cases_in_use(study: tuple[Path, Path]) -> None:
    data, out = study
    parts: dict[str, Any] = {"folds": ["1/2"], "train_cases": [3, 1]}
    requests = cross_requests("default", LIGHT, str(data), out=out, assignments=SMALL, **parts, **OPTIONS)
    whole, part = map(resolve_cell, requests)
    assert whole.prepared.parameters.scale != part.prepared.parameters.scale
    assert whole.prepared.split.test == part.prepared.split.test
    assert whole.id != part.id


def test_the_commands_take_them(study: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    data, out = study
    common = ["--init", "default,uniform", *TINY, "--dataset", str(data), "--out", str(out), *as_flags(TWO_STEPS)]
    parts = ["--fold", "1/2,2/2", "--train-cases", "2,3"]
    assert ended("run", *common, *parts, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["state"] for row in rows} == {"cached"}
    assert {(row["fold"], row["train_cases"]) for row in rows} == {(k, n) for k in ("1/2", "2/2") for n in (2, 3)}
    assert ended("plan", *common, *parts, "--no-measure", "--format", "json") == 0
    assert "fold 2/2, trained on 2 cases" in capsys.readouterr().out
    assert ended("run", *common, "--fold", "3/2") == 2
    assert ended("run", *common, "--split", "mine") == 2
    assert "has no split 'mine'; it has auto" in " ".join(capsys.readouterr().err.split())


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fold", "1/99"], "--fold 1/99: Task90_Noise has 5 labelled cases"),
        (["--split", "published"], "Task90_Noise has no published split; use --split auto"),
        (["--train-cases", "99"], "has 4 training cases; ask for 1 to that many"),
        (["--split", "auto", "--fold", "1/2"], "exclude each other"),
    ],
    ids=lambda item: item[0] if isinstance(item, list) else "",
)
def test_what_no_data_could_give_is_refused_and_never_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    data, out = make_msd(tmp_path / "Task90_Noise", cases=5), tmp_path / "runs"
    settings = as_flags(TWO_STEPS)
    common = ["--init", "default", "--backbone", LIGHT, "--dataset", str(data), "--size", "tiny", "--budget", "smoke"]
    assert ended("run", *common, *settings, "--device", "cpu", "--out", str(out), *arguments) == 2
    printed = capsys.readouterr()
    assert says in " ".join((printed.out + printed.err).split())
    assert ended("retry", "--all", "--out", str(out)) == 2
    assert f"{out} holds no study" in capsys.readouterr().err
    assert ended("data", "prepare", str(data), *arguments) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_they_are_found_again_planned_retried_and_verified(study: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    data, out = study
    again = train(data, out, folds=["1/2", "2/2"], train_cases=[2, 3])
    assert {outcome.state for outcome in again} == {"cached"}
    planned = read_asked(out)
    assert len(planned) == 8
    request = from_json(next(run.request for run in planned if run.request["fold"] == "2/2"), out=out)
    assert request.fold == "2/2"
    folder = next(f for f in store.find_runs(out) if "trained on" in record_values(f)["resolved"]["split"])
    assert [check.name for check in verify(folder, steps=2) if not check.passed] == []
    parts: dict[str, Any] = {"folds": ["1/2"], "train_cases": [2, 3], "seeds": 2, "placebo": False}
    wanted = cross_requests("default,uniform", LIGHT, str(data), out=out, assignments=TWO_STEPS, **parts, **OPTIONS)
    sheet = plan_sheets(plan_study(wanted, "equal-total"), [], None)[0]
    assert [row[1:3] for row in sheet.rows] == [("2", "2"), ("2", "2")]
    assert {row[0].rpartition(", fold")[2] for row in sheet.rows} == {" 1/2", " 1/2, trained on 2 cases"}
