"""What should be known of the data is said before hours are spent: by `plan`, `run` and `data prepare`, once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from initbench import cache
from initbench.cli.app import main
from tests import layouts
from tests.folders import TESTS
from tests.msd_factory import write_forms

LIGHT = f"{TESTS / 'light_backbone.py'}:light"
TINY = ("--backbone", LIGHT, "--size", "tiny", "--budget", "smoke", "--set", "patch.size=8,8,8", "--set", "steps.smoke=2")
PART = "of the published split transunet-18/12 only 3 of 30 cases are here (2 of 18 to train on, 1 of 12 reported)"
HEADER = "the sform was taken"


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INITBENCH_DATA", str(tmp_path))
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "400")
    layouts.synapse(tmp_path / "Synapse", ("img0005", "img0006", "img0001"), "img", "label")
    for path in (tmp_path / "Synapse").rglob("*0005.nii.gz"):
        write_forms(path, np.eye(4), np.diag([0.7, 0.7, 5.0, 1.0]))
    return tmp_path / "runs"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main([*arguments])
    printed = capsys.readouterr()
    assert not caught.value.code, printed.err
    return " ".join((printed.out + printed.err).split())


def test_a_plan_says_it(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = (
        "plan",
        "--no-measure",
        "--init",
        "default,uniform",
        "--seeds",
        "2",
        "--dataset",
        "synapse",
        *TINY,
        "--out",
        str(out),
    )
    for _ in range(2):  # also where the volumes are in the cache
        text = said(capsys, *asked, "--no-measure", "--device", "cpu")
        assert text.count(PART) == 1
        assert text.count(HEADER) == 1


def test_data_prepare_says_it(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "data", "prepare", "synapse", *TINY)
    assert text.count(PART) == 1
    assert text.count(HEADER) == 1


def test_a_run_says_it_once_and_first(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("run", "--init", "default,uniform", "--dataset", "synapse", *TINY, "--device", "cpu", "--out", str(out))
    text = said(capsys, *asked)
    assert text.count(PART) == 1
    assert text.count(HEADER) == 1
    assert text.index(PART) < text.index("Dice "), "before the first result"
    assert PART not in said(capsys, *asked), "there is nothing left to run"
