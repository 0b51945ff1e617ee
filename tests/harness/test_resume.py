"""A run that was killed, stopped, starved of disk or raced by other processes ends in the bits of one that was left alone."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.harness.resumed import drive, settings
from tests.runs_factory import THIRTY_STEPS

# In the middle of a step, before a change of a file, and with a file half-written: each over the whole of a run.
KILLS = [{"kind": "kill", "of": "pass", "share": share} for share in (0.05, 0.2, 0.35, 0.5, 0.7, 0.95, 0.99)]
KILLS += [{"kind": "kill", "of": "file", "share": (n + 0.5) / 8} for n in range(8)]
KILLS += [{"kind": "torn", "of": "file", "share": (n + 0.5) / 5} for n in range(5)]
STOPS: list[dict[str, Any]] = [{"kind": "int", "of": "pass", "share": 0.5, "twice": True}]
STOPS += [{"kind": kind, "of": "pass", "share": share} for kind in ("int", "term") for share in (0.2, 0.6, 0.9)]
STOPS += [{"kind": kind, "of": "file", "share": share} for kind in ("int", "term") for share in (0.3, 0.6)]
STOPS += [{"kind": "term", "of": "file", "share": share} for share in (0.91, 0.93, 0.95)]  # its evaluation begins there
FULL = [{"kind": "full", "share": (n + 0.5) / 9} for n in range(9)]


def some_or_all(trials: list[dict[str, Any]]) -> Any:
    """Parametrizes a test with every second trial, and with all of them where there is time."""
    return pytest.mark.parametrize("trials", [trials[::2], pytest.param(trials, marks=pytest.mark.full)], ids=["half", "all"])


def check_identical(report: dict[str, Any]) -> None:
    assert len(report["whole"]) == 4
    for result in report["results"]:
        assert result["last"] == 0, result
        assert result["digests"] == report["whole"], result
        assert result["left"] == [], result


@some_or_all(KILLS)
def test_killed_at_any_moment_it_ends_the_same(four_cases: Path, tmp_path: Path, trials: list[dict[str, Any]]) -> None:
    report = drive(settings(four_cases, tmp_path, trials=trials))
    check_identical(report)
    assert [result["first"] for result in report["results"]] == [-signal.SIGKILL] * len(trials)
    assert {"pretraining", "training", "evaluating"} <= {result["doing"] for result in report["results"]}


@some_or_all(STOPS)
def test_asked_to_stop_it_saves_and_ends_the_same(four_cases: Path, tmp_path: Path, trials: list[dict[str, Any]]) -> None:
    report = drive(settings(four_cases, tmp_path, trials=trials))
    check_identical(report)
    twice, *once = report["results"]
    assert twice["first"] == 3, "the second signal does not wait for the end of the step"
    said = [text for result in once for state, text in result["said"].get("told", []) if state == "interrupted"]
    assert sum(text.startswith("stopped after step") for text in said) >= len(trials) // 4
    assert any(text.startswith("stopped at case") for text in said)


@some_or_all(FULL)
def test_a_full_disk_costs_the_run_and_nothing_else(four_cases: Path, tmp_path: Path, trials: list[dict[str, Any]]) -> None:
    report = drive(settings(four_cases, tmp_path, trials=trials))
    check_identical(report)
    failed = [text for result in report["results"] for state, text in result["said"]["told"] if state == "failed"]
    assert len(failed) >= 2 * len(trials) // 3
    assert all("the disk is full" in text for text in failed)


def test_four_processes_share_a_sweep_and_one_of_them_dies(four_cases: Path, tmp_path: Path) -> None:
    report = drive(settings(four_cases, tmp_path, init="default,lwi,kaiming-normal", seeds=2, together=4))
    [result] = report["results"]
    assert result["ended"] == [-signal.SIGKILL, 0, 0, 0]
    assert result["digests"] == report["whole"]
    assert len(report["whole"]) == 32  # four inits, as a study has a placebo, times two seeds, times four files
    assert result["left"] == []
    assert result["finished"] >= 1, "the first process had done some before it stopped"
    states = [[state for state, _ in run] for run in zip(*result["told"], strict=True)]
    assert {state for run in states for state in run} <= {"ok", "cached"}
    # Every run that the dead process did not finish was done by exactly one of the others, the one it held among them.
    assert sorted(run.count("ok") for run in states) == [0] * result["finished"] + [1] * (8 - result["finished"])
    assert all("ok" in [state for state, _ in process] for process in result["told"])


@pytest.mark.full
def test_killed_at_any_moment_of_its_validation_it_ends_the_same(four_cases: Path, tmp_path: Path) -> None:
    """Of a run that is looked at on two points or more; the first of them is after a third of its passes."""
    few = [item for item in THIRTY_STEPS if not item.startswith("steps")]
    asked = settings(four_cases, tmp_path, init="default", assignments=[*few, "steps.smoke=60", "inference.overlap=0"])
    trials = [{"kind": "kill", "of": "pass", "share": share / 40} for share in range(10, 40)]
    report = drive(asked | {"trials": trials})
    assert len(report["whole"]) == 5
    for result in report["results"]:
        assert (result["first"], result["last"]) == (-signal.SIGKILL, 0), result
        assert result["digests"] == report["whole"], result
        assert result["left"] == [], result


@pytest.mark.full
@pytest.mark.parametrize("kind", ["kill", "torn", "full"])
def test_at_everything_that_a_run_does_to_its_files(four_cases: Path, tmp_path: Path, kind: str) -> None:
    few = (*(item for item in THIRTY_STEPS if not item.startswith("steps")), "steps.smoke=4")
    report = drive(settings(four_cases, tmp_path, every=[kind], assignments=few))
    assert len(report["results"]) == report["events"]["file"] > 50
    check_identical(report)


@pytest.mark.full
@pytest.mark.parametrize(
    ("backbone", "init"),
    [("unetr", "lwi"), ("unetrpp", "lwi"), ("swin-unetr", "lwi"), ("nnformer", "lwi"), ("unet", "lwi")],
)
def test_real_networks_go_on_too(tmp_path: Path, backbone: str, init: str) -> None:
    trials = [{"kind": "kill", "of": "pass", "share": share} for share in (0.3, 0.7)]
    small = ("steps.smoke=10", "pretext.share=0.4", "patch.batch=1", "pretext.batch=1")
    report = drive(settings(Path("phantom-lung"), tmp_path, backbone=backbone, init=init, trials=trials, assignments=small))
    check_identical(report)
