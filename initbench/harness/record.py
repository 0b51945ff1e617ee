"""What a run leaves: record.json and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import torch

from initbench import dice, digest
from initbench.evaluation.distances import CaseDistances, Distances
from initbench.evaluation.evaluate import Scored
from initbench.harness.cell import Cell, protocol_name
from initbench.harness.request import as_json
from initbench.runs import store
from initbench.training.loop import Fit

CaseCounts = list[tuple[str, list[dice.Counts]]]


def fingerprint(env: Mapping[str, Any]) -> str:
    """Digest of what decides bits: machine, packages, threads; not where the code lay, nor the command.

    Of a run that was in hand on several machines, all of theirs.
    """
    if len(env.get("machines", ())) > 1:
        return "+".join(env["machines"])
    return digest.of_json({key: value for key, value in env.items() if key not in ("git", "command", "device", "machines")})[:12]


def header(cell: Cell, status: str, env: dict[str, Any]) -> dict[str, Any]:
    """The part of a record that is known before the run: what was asked, what it resolved to, where it ran.

    Args:
        cell: the run.
        status: how it ended.
        env: the environment, as `hardware.environment` gives it.
    """
    request = cell.request
    return {
        "schema": store.SCHEMA,
        "status": status,
        "cell": cell.id,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "asked": as_json(request),
        "resolved": {
            "init": cell.init_name,
            "init_params": cell.identity["init_params"],
            "init_source": cell.identity["init_source"],
            "origin": cell.init.origin,
            "learned": cell.init_info.learned,
            "external": cell.init_info.external,
            "backbone": cell.backbone_name,
            "backbone_source": cell.identity["backbone_source"],
            "variant": cell.variant,
            "size": request.size,
            "dataset": cell.prepared.name,
            "data_digest": cell.prepared.digest,
            "preprocess": asdict(cell.prepared.parameters),
            "split": cell.prepared.split.name,
            **({"split_caveat": cell.prepared.split.caveat} if cell.prepared.split.caveat else {}),
            "train_cases": list(cell.prepared.split.train),
            "reported_cases": list(cell.prepared.split.test),
            "patients": dict(cell.prepared.patients),
            "classes": list(cell.prepared.reported),
            **({"labels": list(cell.prepared.classes), "regions": cell.prepared.regions} if cell.prepared.regions else {}),
            "seed": request.seed,
            "fixed_streams": list(request.fixed),
            "budget": request.budget,
            "steps": cell.total_steps,
            "protocol": protocol_name(cell),
            "regimen": str(request.regimen),
            "precision": cell.precision,
            "recipe": cell.recipe.model_dump(mode="json"),
            "recipe_digest": block_digest(cell),
            "dice_policy": cell.recipe.dice_policy,
        },
        "environment": {**env, "fingerprint": fingerprint(env)},
    }


def block_digest(cell: Cell) -> str:
    """Digest of everything that two inits of a block must share to be compared: recipe, steps, data, network, precision."""
    own = {key: value for key, value in cell.identity.items() if not key.startswith("init") and key != "protocol"}
    return digest.of_json(own)[:12]


def scores(scored: CaseCounts, classes: Sequence[str]) -> dict[str, Any]:
    """Dice of a run and per class, null where no case holds the class."""
    columns = list(zip(*(counts for _, counts in scored), strict=True))
    per_class = {
        name: _nan_to_none(dice.run_dice([[count] for count in column]))
        for name, column in zip(classes[1:], columns, strict=True)
    }
    return {"dice": _nan_to_none(dice.run_dice([counts for _, counts in scored])), "dice_per_class": per_class}


def resampled_scores(scored: CaseCounts, classes: Sequence[str]) -> dict[str, Any]:
    """Those of the preprocessed grid under names of their own; nothing where they were not asked for."""
    return {f"{name}_resampled": value for name, value in scores(scored, classes).items()} if scored else {}


def costs(
    init: Sequence[Fit], train: Sequence[Fit], init_seconds: float, evaluate: float, device: torch.device
) -> dict[str, Any]:
    """What a run cost, by stage: steps, patches, seconds, bytes; what it did before it was stopped is counted in."""
    total = init_seconds + sum(f.seconds for f in train) + evaluate
    return {
        "init": {**stage_cost(init), "seconds": init_seconds},
        "train": stage_cost(train),
        "evaluate_seconds": evaluate,
        "total_seconds": total,
        "device_seconds": total if device.type == "cuda" else 0.0,
        "peak_memory": max((f.peak_memory for f in (*init, *train)), default=0),
    }


def stage_cost(fits: Sequence[Fit]) -> dict[str, Any]:
    """Steps, patches and seconds of a stage."""
    return {
        "steps": sum(f.steps for f in fits),
        "patches": sum(f.patches for f in fits),
        "seconds": sum(f.seconds for f in fits),
    }


def _nan_to_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def write_cases(
    path: Path, scored: CaseCounts, classes: Sequence[str], distances: CaseDistances | None = None, first: int = 1
) -> None:
    """cases.csv: counts, Dice and distances per case and class; an empty cell is a missing value, or was not measured.

    The classes are numbered from `first`.
    """
    rows = [
        {
            "case": case_id,
            "class": first - 1 + k,
            "class_name": classes[k],
            **asdict(counts),
            "dice": counts.dice,
            **asdict(distances[case_id][k - 1] if distances else Distances(None, None)),
        }
        for case_id, per_class in scored
        for k, counts in enumerate(per_class, start=1)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)


def write_curve(path: Path, fits: dict[str, list[Fit]]) -> None:
    """curve.csv: a row per step of both stages."""
    names = {"init": "pretext", "train": "train"}
    rows = [{"stage": names[key], **row} for key, group in fits.items() for f in group for row in f.curve]
    pd.DataFrame(rows).to_csv(path, index=False)


def save_prediction(folder: Path, scored: Scored) -> None:
    """The label map of a case as NIfTI, with the case's affine."""
    folder.mkdir(exist_ok=True)
    image = nibabel.Nifti1Image(scored.prediction, scored.case.affine)
    nibabel.save(image, folder / f"{scored.case.id}.nii.gz")
