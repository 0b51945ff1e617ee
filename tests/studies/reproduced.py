"""Writes the runs of a published table without training, and shows the table beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from initbench.published import tables
from initbench.published.trials import Overrides
from initbench.recipes.load import load_recipe
from initbench.runs import store
from tests.commands import said
from tests.recorded import record_values, reseal, write_run

TABLE = tables.get("lwi:table-6")
TINY = Overrides("phantom-lung", "unetr", "tiny", "smoke")
PHANTOM = ["--dataset", "phantom-lung", "--backbone", "unetr", "--size", "tiny", "--budget", "smoke"]
VALUES = (0.70, 0.72, 0.74)


def rows_of(text: str, kind: str = "row") -> dict[str, dict[str, Any]]:
    """The rows of one kind in the printed JSON, by their name: `row`, `planned row`, or `claim`, which its first init names."""
    key = {"row": "row", "claim": "first", "planned row": "row"}[kind]
    return {row[key]: row for row in json.loads(text) if row["of"] == kind}


def resolved(overrides: Overrides = TINY, *assignments: str, backbone: str = "unetr") -> dict[str, Any]:
    """The part of a record that says recipe, steps, budget and size."""
    found = load_recipe(
        overrides.dataset or "base", size=overrides.size, backbone=backbone, budget=overrides.budget, assignments=assignments
    )
    steps = getattr(found.steps, overrides.budget)
    return {"recipe": found.model_dump(mode="json"), "steps": steps, "budget": overrides.budget, "size": overrides.size}


HARD = np.linspace(-0.1, 0.1, 9)  # by how much the Dice of each case lies beside its run's


def write_cases(folder: Path, rows: pd.DataFrame) -> None:
    """Replaces the cases of a run and seals it again; of 1000 voxels of a class `tp` are found, and as many are wrong."""
    wrong = 1000 - rows["tp"]
    table = rows.assign(fp=wrong, fn=wrong, dice=rows["tp"] / 1000, hd95_mm=None, nsd=None)
    table.to_csv(folder / store.CASES, index=False)
    record = record_values(folder)
    own = record | {"dice": float(table["dice"].mean())}
    cases = list(dict.fromkeys(table["case"]))
    own["resolved"] |= {"reported_cases": cases, "patients": dict(zip(cases, cases, strict=True))}
    reseal(folder, own)


def write_rows(out: Path, inits: dict[str, float], seeds: int = 3, **options: Any) -> None:
    """Writes runs of inits; each number is how far the Dice of the init is shifted, and learned inits train the full budget."""
    for init, shift in inits.items():
        learned = init.partition("(")[0] in ("lwi", "mae", "tube", "order", "lwi-as-released")
        own = {"protocol": "equal-finetune" if learned else "any", "learned": learned, **resolved(), **options}
        rng = np.random.default_rng(len(init))
        for seed in range(seeds):
            folder = write_run(out, init, VALUES[seed] + shift, seed=seed, **own)
            dice = VALUES[seed] + shift + HARD + rng.normal(0, 0.003, len(HARD)) + rng.normal(0, 0.001)
            tp = np.round(1000 * dice).astype(int)
            write_cases(
                folder, pd.DataFrame({"case": [f"c{i}" for i in range(len(HARD))], "class": 1, "class_name": "nodule", "tp": tp})
            )


def report(capsys: pytest.CaptureFixture[str], out: Path, *more: str, table: str = "lwi:table-6", form: str = "json") -> str:
    """What the command prints of a published table and runs that are there."""
    return said(capsys, "reproduce", table, *PHANTOM, "--report-only", "--out", str(out), "--format", form, *more)
