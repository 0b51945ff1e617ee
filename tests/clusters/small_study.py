"""The study of twelve small runs that clusters do in tests, and the comparison of its runs with serial ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from initbench.runs import store

INITS = ("default", "kaiming-normal", "xavier-normal", "orthogonal")
SEEDS = 3
_SETTINGS = ("patch.size=8,16,16", "patch.batch=2", "preprocess.spacing=native", "preprocess.crop=False")
_EQUAL = (store.CASES, store.WEIGHTS, store.CURVE, store.COVERAGE)  # a record also says when and where


def study_words(data: Path, steps: int, inits: Sequence[str] = INITS) -> list[str]:
    """The words of `run` for a study of a network of a few thousand parameters.

    Args:
        data: folder of the data set.
        steps: of each run. Some thousand take seconds on a quiet machine: a run has to train still when something happens to it.
        inits: which are compared.
    """
    found = ["run", "--init", ",".join(inits), "--backbone", "tests/light_backbone.py:light", "--dataset", str(data)]
    found += ["--size", "tiny", "--budget", "smoke", "--device", "cpu", "--precision", "float32", "--no-placebo"]
    for setting in (*_SETTINGS, f"steps.smoke={steps}"):
        found += ["--set", setting]
    return [*found, "--checkpoint-every", "0.01"]


def check_equal(out: Path, serial: Path, runs: int) -> None:
    """Compares all runs that were done serially, `runs` of them, with the same ones of a study, byte for byte."""
    folders = list(store.find_runs(serial))
    assert len(folders) == runs
    for folder in folders:
        other = out / folder.relative_to(serial)
        for name in _EQUAL:
            assert (other / name).read_bytes() == (folder / name).read_bytes(), (name, folder)
