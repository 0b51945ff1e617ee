"""Writes studies as a report shows them: runs with cases of known Dice, curves and slices, without training."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from initbench.report import page
from initbench.report.content import Block, Content, assemble
from initbench.runs import store
from initbench.tables import study
from tests.recorded import PLACEBO, record_values, reseal, write_looks, write_run

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
EVIL = "<script>alert(1)</script>\"'&"


def write_pictured_run(
    out: Path,
    init: str,
    shift: float = 0.0,
    *,
    seed: int = 0,
    cases: int = 12,
    names: str = "case_{:02d}",
    curve: bool = True,
    slices: bool = True,
    gpu: bool = False,
    pretext: float = 0.0,
    looks: bool = False,
    **options: Any,
) -> Path:
    """Writes a run with cases of known Dice, a learning curve and slices, as far as they are asked for.

    Args:
        shift: added to the Dice of the run, which is about 0.7 without it.
        cases: how many cases are reported.
        names: the names of the cases, with a place for the number.
        pretext: seconds of the init stage.
        looks: whether Dice was measured while it trained.
        options: what `recorded.write_run` takes.
    """
    rng = np.random.default_rng([seed, cases, *init.encode()])
    total = 100.0 + seed + pretext
    reported = [names.format(k) for k in range(cases)]
    folder = write_run(out, init, 0.7 + shift, seed=seed, seconds=(pretext, total), reported_cases=reported, **options)
    record = record_values(folder)
    if record["status"] == "failed":
        return folder
    hard = np.random.default_rng(3).normal(0, 0.05, cases)
    found = np.clip(0.7 + shift + hard + rng.normal(0, 0.006) + rng.normal(0, 0.01, cases), 0, 1)
    if record["status"] == "diverged":
        found = np.zeros(cases)
    tp = np.round(1000 * found).astype(int)
    table = pd.DataFrame({"case": reported, "class": 1, "class_name": "nodule", "tp": tp})
    table.assign(fp=1000 - tp, fn=1000 - tp, dice=tp / 1000, hd95_mm=None, nsd=None).to_csv(folder / store.CASES, index=False)
    record["dice"] = float(np.mean(tp / 1000))
    record["cost"]["init"]["steps"] = 20 if pretext else 0
    record["environment"] |= {"accelerator": "a GPU" if gpu else None, "git": {"commit": f"c0ffee{seed}", "dirty": False}}
    if curve:
        write_curve(folder / store.CURVE, 120, 20 if pretext else 0)
    if looks:
        last = round(100 * (0.7 + shift)) + seed
        write_looks(folder, (last - 40, last - 30), (last - 5, last - 3), (last, last + 2))
    if slices:
        write_slices(folder / store.SLICES, list(table["case"]), seed + len(init))
    reseal(folder, record)
    return folder


def change_cases(out: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Changes the table of cases of every run and seals the runs again."""
    for folder in store.find_runs(out):
        change_run(folder, change)


def change_run(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Changes the table of cases of one run and seals the run again."""
    change(pd.read_csv(folder / store.CASES)).to_csv(folder / store.CASES, index=False)
    reseal(folder)


def write_curve(path: Path, steps: int, pretext: int = 0) -> None:
    """Writes a learning curve whose loss falls exponentially, after a number of pretext steps whose loss falls linearly."""
    lines = ["stage,step,lr,loss,dice,ce"]
    lines += [f"pretext,{k},0.1,{5 - k / 10},," for k in range(pretext)]
    lines += [f"train,{k},0.001,{2 * math.exp(-3 * k / steps)!r},0.5,0.5" for k in range(steps)]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def write_slices(path: Path, cases: list[str], turn: int) -> None:
    """Writes the slice of each case: an image, a rectangle as reference, and one that misses up to three rows, by `turn`."""
    image = np.arange(30 * 20, dtype=np.uint32).reshape(30, 20) % 251
    reference, prediction = np.zeros((2, 30, 20), np.uint8)
    reference[8:20, 5:14], prediction[8 : 20 - turn % 4, 5:14] = 1, 1
    planes = np.stack([image.astype(np.uint8), reference, prediction])
    np.savez_compressed(path, allow_pickle=False, **{f"{store.SLICE_KEY}{case}": planes for case in cases})


def write_study(out: Path, shifts: dict[str, float], seeds: int = 4, **options: Any) -> Path:
    """Writes runs of several inits; `shifts` says how far the Dice of each lies from 0.7."""
    for init, shift in shifts.items():
        for seed in range(seeds):
            write_pictured_run(out, init, shift, seed=seed, **options)
    return out


def write_whole(out: Path) -> Path:
    """Writes a study of two data sets with both protocols, a placebo, weights from outside, and diverged and failed runs."""
    write_study(out, {"default": 0.0, PLACEBO: 0.0, "kaiming-normal": -0.06, "checkpoint": 0.03})
    for protocol, shift in (("equal-total", 0.01), ("equal-finetune", 0.05)):
        for seed in range(4):
            write_pictured_run(out, "lwi", shift, seed=seed, pretext=30.0, protocol=protocol)
    write_study(out, {"default": 0.0, "mae": 0.02}, dataset="hippocampus", gpu=True)
    write_pictured_run(out, "uniform", seed=0, status="diverged", dataset="hippocampus", gpu=True)
    for seed in range(1, 4):
        write_pictured_run(out, "uniform", seed=seed, dataset="hippocampus", gpu=True)
    write_pictured_run(out, "order", seed=0, dataset="hippocampus", gpu=True)
    write_pictured_run(out, "order", seed=1, dataset="hippocampus", status="failed")
    return out


LONG_NAME = "my_init.py:a_scheme_with_a_long_name(scale=0.5)"


def write_grid(out: Path) -> Path:
    """Writes a study of two data sets and two networks, one of whose inits has a long name."""
    for dataset in ("hippocampus", "phantom-lung"):
        for backbone in ("unetr", "unetrpp"):
            shifts = {"default": 0.0, "kaiming-normal": -0.06 if dataset == "hippocampus" else 0.0, LONG_NAME: 0.004}
            write_study(out, shifts, seeds=3, dataset=dataset, backbone=backbone, cases=30, looks=True)
            for seed in range(3):
                where = {"dataset": dataset, "backbone": backbone, "protocol": "equal-total", "cases": 30, "looks": True}
                write_pictured_run(out, "lwi", 0.04, seed=seed, pretext=30.0, **where)
    return out


def content_of(out: Path, **options: Any) -> Content:
    """What the report says of a study, before it is a page."""
    return assemble(study.read_study(out), options.get("against", "default"), 0.5, NOW)


def only(out: Path) -> Block:
    """The one block of a study."""
    (block,) = content_of(out).blocks
    return block


def html_of(out: Path, file: Path | None = None) -> str:
    """Writes the page of a study, by default beside its folder, and returns its HTML."""
    file = file or out.parent / "report.html"
    page.write(study.read_study(out), file, now=NOW)
    return file.read_text("utf-8")
