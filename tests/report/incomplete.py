"""Writes studies that lack something: one function for each kind, and all of them as `STUDIES`."""

from __future__ import annotations

import math
from pathlib import Path

from initbench.runs import store
from tests.recorded import PLACEBO, write_run
from tests.report.studies import change_cases, write_pictured_run, write_study, write_whole


def one_init(out: Path) -> None:
    write_study(out, {"default": 0.0})


def one_other_init(out: Path) -> None:
    write_study(out, {"mae": 0.0})


def one_seed(out: Path) -> None:
    write_study(out, {"default": 0.0, "mae": 0.01}, seeds=1)


def one_run(out: Path) -> None:
    write_pictured_run(out, "mae")


def one_case(out: Path) -> None:
    write_study(out, {"default": 0.0, "mae": 0.01}, cases=1)


def all_diverged(out: Path) -> None:
    write_study(out, {"default": 0.0, "mae": 0.0}, status="diverged")


def all_failed(out: Path) -> None:
    write_study(out, {"default": 0.0, "mae": 0.0}, status="failed")


def default_diverged(out: Path) -> None:
    write_study(out, {"default": 0.0}, status="diverged")
    write_study(out, {"mae": 0.0, "tube": 0.0})


def default_withheld(out: Path) -> None:
    write_study(out, {"default": 0.0}, seeds=3)
    write_study(out, {"mae": 0.0, "tube": 0.0})


def no_default(out: Path) -> None:
    write_study(out, {"mae": 0.0, "tube": 0.02})


def no_curves_no_slices(out: Path) -> None:
    write_study(out, {"default": 0.0, "mae": 0.01}, curve=False, slices=False)


def equal_runs(out: Path) -> None:
    for init in ("default", "mae"):
        for seed in range(3):
            write_run(out, init, 0.5, seed=seed)


def seeds_of_their_own(out: Path) -> None:
    for number, init in enumerate(("default", "mae")):
        for seed in range(3):
            write_pictured_run(out, init, seed=10 * number + seed)


def only_a_placebo(out: Path) -> None:
    write_study(out, {"default": 0.0, PLACEBO: 0.0})


def both_devices(out: Path) -> None:
    write_study(out, {"default": 0.0}, gpu=True)
    write_study(out, {"mae": 0.0})


def same_weights(out: Path) -> None:
    write_study(out, {"default": 0.0})
    write_study(out, {"mae": 0.0}, weights="f" * 64)


def nothing_to_score(out: Path) -> None:
    write_study(out, {"default": 0.0, "mae": 0.01}, seeds=2)
    change_cases(out, lambda table: table.assign(tp=0, fn=0, fp=7, dice=math.nan))


def broken_slices(out: Path) -> None:
    write_study(out, {"default": 0.0, "mae": 0.01}, slices=False)
    for folder in store.find_runs(out):
        (folder / store.SLICES).write_bytes(b"PK no archive")


STUDIES = (
    one_init, one_other_init, one_seed, one_run, one_case, all_diverged, all_failed, default_diverged, default_withheld,
    no_default, no_curves_no_slices, equal_runs, seeds_of_their_own, only_a_placebo, both_devices, same_weights, broken_slices,
    nothing_to_score, write_whole,
)  # fmt: skip
