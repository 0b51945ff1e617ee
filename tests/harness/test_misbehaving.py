"""Code of others that misbehaves fails its own run, with its name and what it did; it reaches no other run and no other code."""

from __future__ import annotations

import os
import random
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import initbench
from initbench.cli.app import main
from initbench.harness.process_state import MisbehavedError, contained
from initbench.runs import store
from initbench.studies.sweep import IN_PROCESS
from tests.runs_factory import SMALL, TINY, as_flags, record_of, run

PLUGINS = """
import os, random, sys
import torch

def exits(model, ctx): sys.exit(0)
def raises(model, ctx): raise BaseException("planted")
def dies(model, ctx): os._exit(0)

def dies_later(model, ctx):
    if not next(model.parameters()).is_meta:
        os._exit(0)

def leaks(model, ctx):
    torch.set_default_dtype(torch.float64)
    os.chdir("/")

def triples(model, ctx): model.register_forward_hook(lambda module, inputs, output: output * 3)

def no_gradients(model, ctx): torch.set_grad_enabled(False)

def replaces(model, ctx): model.stem = type("Other", (type(model.stem),), {})(1, 8, 2, stride=2)

def patches_the_class(model, ctx):
    before = type(model).forward
    type(model).forward = lambda self, x: before(self, x) * 3

def noted(model, ctx):
    os.environ["INITBENCH_TEST_LEFT"] = "1"
    random.random()
"""
TWO_STEPS = (*SMALL, "steps.smoke=2")


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    path = tmp_path / "bad.py"
    path.write_text(PLUGINS, "utf-8")
    return path


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.full)])
def test_a_study_of_misbehaving_plugins_and_one_good_init(
    data: Path, tmp_path: Path, plugins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], jobs: int
) -> None:
    """In worker processes, as the command line has it."""
    monkeypatch.delenv(IN_PROCESS)
    # Were it called in this process, that would end the tests with exit code 0.
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("a plug-in ended the process of the command"))
    says = {
        "exits": "raised SystemExit(0)",
        "raises": "raised BaseException(planted)",
        "dies": "when it was tried before the first run, with code of",
        "dies_later": "its process ended by itself with exit code 0, as code that calls os._exit does",
        "leaks": "changed settings of the whole process: default dtype (torch.float32 to torch.float64), working folder",
        "triples": "hooks or a forward of its own were left on or taken off the network",
    }
    inits = ",".join([*(f"{plugins}:{name}" for name in says), "default"])
    arguments = ["run", "--init", inits, *TINY, "--dataset", str(data), "--out", str(tmp_path / "runs"), *as_flags(TWO_STEPS)]
    arguments += ["--jobs", str(jobs)]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "  failed  " in line]
    for name, what in says.items():
        [line] = [line for line in lines if f"{plugins}:{name} ×" in line]
        assert what in line
    runs = initbench.load_runs(tmp_path / "runs").set_index("init")
    assert runs.loc["default", "status"] == "ok"
    assert runs.loc["default", "dice"] >= 0
    assert sum(runs["status"] == "failed") == len(says) - 1, "all that had a place have a record"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("exits", "raised SystemExit"),
        ("raises", "raised BaseException"),
        ("leaks", "default dtype"),
        ("no_gradients", "gradients enabled (True to False)"),
        ("triples", "hooks"),
        ("replaces", "a module of another class in the place of stem"),
        ("patches_the_class", "another forward into the class of the network"),
    ],
)
def test_in_this_process_too(data: Path, tmp_path: Path, plugins: Path, name: str, what: str) -> None:
    before = os.getcwd()
    failed, good = run(data, tmp_path / "runs", f"{plugins}:{name},default", settings=TWO_STEPS)
    assert (failed.state, good.state) == ("failed", "ok")
    assert what in failed.message
    assert f"bad.py:{name}" in failed.message
    assert os.getcwd() == before
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


def test_what_reaches_others_alone_is_put_back_and_recorded(data: Path, tmp_path: Path, plugins: Path) -> None:
    state = random.getstate()
    [outcome] = run(data, tmp_path / "runs", f"{plugins}:noted", settings=TWO_STEPS)
    assert outcome.state == "ok"
    [note] = record_of(outcome.folder)["notes"]
    assert "changed environment variables, Python's generator of the process; put back" in note
    assert note in outcome.message
    assert "INITBENCH_TEST_LEFT" not in os.environ
    assert random.getstate() == state


def leave_hook() -> None:
    nn.modules.module.register_module_forward_hook(lambda module, inputs, output: output * 3)


DECIDING: dict[str, Callable[[], Any]] = {
    "gradients enabled": lambda: torch.set_grad_enabled(False),
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(not torch.are_deterministic_algorithms_enabled()),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "hooks of all modules": leave_hook,
    "working folder": lambda: os.chdir("/"),
}
OTHER: dict[str, Callable[[], Any]] = {
    "environment variables": lambda: os.environ.update(INITBENCH_TEST_LEFT="1"),
    "signal handlers": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "warning filters": lambda: warnings.simplefilter("ignore"),
    "torch's generator": lambda: torch.manual_seed(1),
    "numpy's generator": lambda: np.random.seed(1),
    "Python's generator": lambda: random.seed(1),
}


@pytest.mark.parametrize("setting", [*DECIDING, *OTHER])
def test_every_setting_is_seen_and_put_back(setting: str) -> None:
    notes: list[str] = []
    for _ in range(2):  # what was put back is there to be changed again
        if setting in DECIDING:
            with (
                pytest.raises(MisbehavedError, match=f"it changed settings of the whole process: {setting}"),
                contained("it", notes.append),
            ):
                DECIDING[setting]()
        else:
            with contained("it", notes.append):
                OTHER[setting]()
    assert notes == ([] if setting in DECIDING else [f"it changed {setting} of the process; put back"] * 2)
    with contained("it", notes.append):
        pass
    assert len(notes) == (0 if setting in DECIDING else 2)


def test_an_error_passes_and_the_process_is_put_back() -> None:
    def fails() -> None:
        torch.set_default_dtype(torch.float64)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), contained("it", print):
        fails()
    assert torch.get_default_dtype() == torch.float32
    with pytest.raises(KeyboardInterrupt), contained("it", print):
        raise KeyboardInterrupt


def test_a_backbone_and_a_module_that_exit_fail_by_name(data: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import sys\ndef net(**arguments): sys.exit(0)\n", "utf-8")
    (tmp_path / "on_import.py").write_text("import sys\nsys.exit(0)\n", "utf-8")
    [outcome] = run(data, tmp_path / "runs", backbone=f"{tmp_path / 'net.py'}:net", settings=TWO_STEPS)
    assert outcome.state == "failed"
    assert "net.py:net raised SystemExit(0)" in outcome.message
    with pytest.raises(initbench.errors.InitbenchError, match=r"cannot be imported: SystemExit\(0\)"):
        run(data, tmp_path / "runs", f"{tmp_path / 'on_import.py'}:init", settings=TWO_STEPS)
    assert not list((tmp_path / "runs").rglob(store.RECORD))
