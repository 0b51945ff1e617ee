"""Run folders as runs leave them, without training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from initbench import digest
from initbench.runs import store
from initbench.runs.record import SCHEMA, parse_record

# Written out, not imported: a test notices where the program calls its placebo otherwise.
PLACEBO = "default(construct='other')"
CASES = ("case_01", "case_02", "case_03", "case_04")  # the last holds no class


def write_run(
    out: Path,
    init: str = "default",
    score: float | None = 0.5,
    *,
    seed: int = 0,
    status: str = "ok",
    environment: str = "e0",
    weights: str | None = None,
    seconds: tuple[float, float] = (0.0, 100.0),
    changed: float = 0.0,
    asked: dict[str, Any] | None = None,
    patients: dict[str, str] | None = None,
    finished: str = "2025-01-01T00:00:00+00:00",
    **resolved: Any,
) -> Path:
    """Writes a run directory as a run leaves it, without weights and pictures.

    Args:
        score: the Dice of the run, from 0 to 1.
        seconds: of the init stage, and of the whole run.
        changed: share of the parameters that the init changed, from 0 to 1.
        patients: the patient of each reported case; by default each case is its own, and an empty map makes a record of an older
            version, which has none.
        resolved: entries of the record's `resolved` that differ from the usual ones.
    """
    own = {
        "init": init,
        "init_params": {},
        "init_source": "revision 1",
        "origin": "initbench",
        "learned": init in ("mae", "tube", "order", "lwi"),
        "external": init.startswith("checkpoint"),
        "backbone": "unetr",
        "backbone_source": "revision 1",
        "variant": "perceptron",
        "size": "tiny",
        "dataset": "phantom-lung",
        "data_digest": "d" * 64,
        "preprocess": {},
        "split": "auto",
        "train_cases": ["case_00"],
        "reported_cases": list(CASES),
        "classes": ["background", "nodule"],
        "seed": seed,
        "fixed_streams": [],
        "budget": "smoke",
        "steps": 120,
        "protocol": "any",
        "regimen": "plain",
        "precision": "float32",
        "recipe": {},
        "recipe_digest": "a" * 12,
        "dice_policy": "reference-mask",
        **resolved,
    }
    cell = digest.of_json({key: value for key, value in own.items() if key != "seed"})
    if patients is None:
        patients = {case: case for case in own["reported_cases"]}
    if patients:  # after the digest: they are no part of what a cell is
        own["patients"] = patients
    record = {
        "schema": SCHEMA,
        "status": status,
        "cell": cell,
        "finished": finished,
        "asked": asked or {},
        "resolved": own,
        "environment": {"cpu": "a CPU", "accelerator": None, "fingerprint": environment},
    }
    folder = store.run_folder(out, own["dataset"], own["backbone"], init, cell, seed)
    with store.staged(folder) as staging:
        if status == "failed":
            record |= {"reason": "planted", "traceback": store.TRACEBACK}
        else:
            record |= {
                "dice": score,
                "dice_per_class": {"nodule": score},
                "coverage": {"changed_share": changed, "groups": {}},
                "cost": {
                    "init": {"steps": 0, "patches": 0, "seconds": seconds[0]},
                    "train": {"steps": 120, "patches": 240, "seconds": seconds[1] - seconds[0]},
                    "evaluate_seconds": 0.0,
                    "total_seconds": seconds[1],
                    "device_seconds": 0.0,
                    "peak_memory": 1000,
                },
                "weights_digest": weights or f"{cell}-{seed}",
                "reason": "the loss was not finite" if status == "diverged" else None,
            }
            write_cases(staging / store.CASES, score or 0.0, seed + len(init))
        store.write_json(staging / store.RECORD, record)
        if status != "failed":
            reseal(staging)
    return folder


def record_values(folder: Path) -> dict[str, Any]:
    """What stands in the record of a run."""
    values: dict[str, Any] = json.loads((folder / store.RECORD).read_text("utf-8"))
    return values


def reseal(folder: Path, values: dict[str, Any] | None = None) -> None:
    """Writes a record again, with other values where some are given, and seals it over the files as they are now."""
    store.write_record(folder, store.seal(parse_record(json.dumps(values or record_values(folder)).encode()), folder))


def write_cases(path: Path, score: float, turn: int = 0) -> None:
    """Writes the cases of a run: three whose mean Dice is the run's, and one that holds no class.

    The three are easier and harder ones, and a little different in every run, by `turn`.
    """
    own = [(0.004, -0.004, 0.0)[(place + turn) % 3] for place in range(3)] if 0 < score < 1 else [0.0] * 3
    hard = (-0.1, 0.0, 0.1) if 0.1 < score < 0.9 else (0.0, 0.0, 0.0)
    found = [round(1000 * (score + more + mine)) for more, mine in zip(hard, own, strict=True)]
    counts = [(case, tp, 1000 - tp, 1000 - tp, tp / 1000) for case, tp in zip(CASES, found, strict=False)]
    rows = [
        {"case": case, "class": 1, "class_name": "nodule", "tp": t, "fp": f, "fn": n, "dice": d, "hd95_mm": None, "nsd": None}
        for case, t, f, n, d in (*counts, (CASES[3], 0, 7 if score else 0, 0, math.nan))
    ]
    pd.DataFrame(rows).to_csv(path, index=False)


def write_looks(folder: Path, *scores: tuple[int, ...]) -> None:
    """Writes `validation.csv` of points 60 steps apart: the correct voxels of 100 in each case, and a case that holds nothing."""
    rows = []
    for number, correct in enumerate(scores, start=1):
        for case, tp in enumerate(correct):
            wrong = 100 - tp
            rows.append((60 * number, 1.5 * number, f"case_{case}", 1, "nodule", tp, wrong, wrong))
        rows.append((60 * number, 1.5 * number, "case_9", 1, "nodule", 0, 5, 0))
    columns = ["step", "seconds", "case", "class", "class_name", "tp", "fp", "fn"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / store.VALIDATION, index=False)


def write_block(out: Path, scores: dict[str, list[float]], **options: Any) -> None:
    """Writes the runs of several inits: one for each score, with seeds from 0; `options` go to `write_run`."""
    for init, values in scores.items():
        for seed, score in enumerate(values):
            write_run(out, init, score, seed=seed, **options)
