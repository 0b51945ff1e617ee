"""What a run leaves: record.json and its tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from initbench import dice, digest
from initbench.choices import REGIMEN
from initbench.evaluation.distances import CaseDistances
from initbench.evaluation.evaluate import Scored
from initbench.harness import regimens
from initbench.harness.cell import Cell, protocol_name, regimen_budget_name
from initbench.harness.dice_over_steps import Look
from initbench.harness.request import as_json
from initbench.runs import store
from initbench.runs.record import (
    FIRST_MEASURES,
    SCHEMA,
    SEVERAL,
    Asked,
    Cost,
    Coverage,
    Environment,
    Head,
    Record,
    RecordedRecipe,
    Resolved,
    StageCost,
    ValidationCost,
    Where,
)
from initbench.training.loop import Fit

if TYPE_CHECKING:
    import pandas as pd

CaseCounts = list[tuple[str, list[dice.Counts]]]


def fingerprint(env: Mapping[str, Any]) -> str:
    """Returns the digest of what decides bits: machine, packages, threads; not where the code lay, nor the command.

    A run that was in hand on several machines has all their digests, joined.
    """
    if len(env.get("machines", ())) > 1:
        return SEVERAL.join(env["machines"])
    deciding = dict(env)
    for key in ("git", "command", "device", "machines"):
        deciding.pop(key, None)
    return digest.of_json(deciding)[:12]


def header(cell: Cell, env: Mapping[str, Any]) -> Head:
    """Makes the part of a record that is known before the run: what was asked, what it resolved to, where it ran.

    Args:
        cell: the run.
        env: the environment, as `hardware.environment` gives it.
    """
    return Head(
        schema_number=SCHEMA,
        cell=cell.id,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        asked=Asked.model_validate(plain(as_json(cell.request))),
        resolved=resolved(cell),
        environment=Environment.model_validate({**env, "fingerprint": fingerprint(env)}),
    )


def resolved(cell: Cell) -> Resolved:
    """Returns what a request resolves to, as records hold it: a value that says nothing is left out."""
    request, prepared, recipe = cell.request, cell.prepared, cell.recipe.model_dump(mode="json")
    found = Resolved(
        init=cell.init_name,
        init_params=cell.identity["init_params"],
        init_source=cell.identity["init_source"],
        origin=cell.init.origin,
        learned=cell.init_info.learned,
        external=cell.init_info.external,
        backbone=cell.backbone_name,
        backbone_source=cell.identity["backbone_source"],
        variant=cell.variant,
        size=request.size,
        dataset=prepared.name,
        data_digest=prepared.digest,
        preprocess=asdict(prepared.parameters),
        split=prepared.split.name,
        train_cases=list(prepared.split.train),
        reported_cases=list(prepared.split.test),
        patients=dict(prepared.patients),
        classes=list(prepared.reported),
        seed=request.seed,
        fixed_streams=list(request.fixed),
        budget=request.budget,
        steps=cell.total_steps,
        protocol=protocol_name(cell),
        regimen=cell.regimen_name,
        precision=cell.precision,
        recipe=RecordedRecipe.model_validate(recipe),
        recipe_digest=block_digest(cell),
        dice_policy=cell.recipe.dice_policy,
    )
    more: dict[str, Any] = {}
    if not regimens.is_plain(cell.regimen):
        more["regimen_params"] = cell.identity["regimen_params"]
        more["regimen_source"] = cell.identity["regimen_source"]
        more["regimen_budget"] = regimen_budget_name(cell)
    if prepared.split.caveat:
        more["split_caveat"] = prepared.split.caveat
    if prepared.regions:
        more |= {"labels": list(prepared.classes), "regions": plain(prepared.regions)}
    return found.model_copy(update=more)


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON has them: tuples are lists."""
    found: dict[str, Any] = json.loads(json.dumps(values))
    return found


def block_digest(cell: Cell) -> str:
    """Returns the digest of all that two runs of a block must share to be compared: recipe, steps, data, network, precision.

    Init and regimen are what is compared. So a run of any regimen is taken as plain, with the steps that were asked for.
    """
    shared = {"regimen": REGIMEN}
    for key, value in cell.identity.items():
        if key != "protocol" and not key.startswith(("init", "regimen")):
            shared[key] = value
    return digest.of_json(shared)[:12]


def finished_record(
    cell: Cell, env: Mapping[str, Any], diverged: str | None, results: Mapping[str, Any], coverage: Mapping[str, Any], cost: Cost
) -> Record:
    """Makes the record of a run with a result, not sealed yet.

    Args:
        cell: of the run.
        env: where it ran.
        diverged: why it diverged; None where it ended well.
        results: what was measured, by the names of the record's keys, with its notes and the digest of the weights.
        coverage: what the init changed, by parameter as well.
        cost: what the run cost.
    """
    status: Literal["ok", "diverged"] = "ok"
    if diverged:
        status = "diverged"
    shown = {}
    for key, value in coverage.items():
        if key in Coverage.model_fields:
            shown[key] = value
    return Record(
        **dict(header(cell, env)),
        status=status,
        coverage=Coverage.model_validate(plain(shown)),
        cost=cost,
        reason=diverged,
        **results,
    )


def failed_record(cell: Cell, env: Mapping[str, Any], reason: str, where: Where) -> Record:
    """Makes the record of a run that failed.

    Args:
        cell: of the run.
        env: where it ran.
        reason: why it failed.
        where: in which stage and at which step.
    """
    return Record(**dict(header(cell, env)), status="failed", reason=reason, traceback=store.TRACEBACK, where=where)


def scores(scored: CaseCounts, classes: Sequence[str]) -> dict[str, Any]:
    """Computes Dice of a run and per class, null where no case holds the class."""
    rows = [counts for _, counts in scored]
    columns = zip(*rows, strict=True)
    per_class = {}
    for name, column in zip(classes[1:], columns, strict=True):
        per_class[name] = _nan_to_none(dice.run_dice([[count] for count in column]))
    return {"dice": _nan_to_none(dice.run_dice(rows)), "dice_per_class": per_class}


def resampled_scores(scored: CaseCounts, classes: Sequence[str]) -> dict[str, Any]:
    """Computes the scores on the preprocessed grid, under names of their own; none where they were not asked for."""
    found: dict[str, Any] = {}
    if scored:
        for name, value in scores(scored, classes).items():
            found[f"{name}_resampled"] = value
    return found


def costs(
    init: Sequence[Fit],
    train: Sequence[Fit],
    init_seconds: float,
    evaluate: float,
    distances: float,
    device: torch.device,
    validation: ValidationCost,
) -> Cost:
    """Adds up what a run cost, by stage; what it did before it was stopped is counted in.

    Args:
        init: fits of the init stage.
        train: fits of the supervised stage.
        init_seconds: seconds of the whole init stage.
        evaluate: seconds of the evaluation without distances.
        distances: seconds that distances took.
        device: where it ran.
        validation: what Dice over the steps took.
    """
    total = init_seconds + sum(f.seconds for f in train) + evaluate
    on_device = 0.0
    if device.type == "cuda":
        on_device = total
    return Cost(
        init=stage_cost(init).model_copy(update={"seconds": init_seconds}),
        train=stage_cost(train),
        evaluate_seconds=evaluate,
        total_seconds=total,
        device_seconds=on_device,
        peak_memory=max((f.peak_memory for f in (*init, *train)), default=0),
        distance_seconds=distances,
        validation=validation,
    )


def costs_of_scoring_again(before: Cost, evaluate: float, distances: float, device: torch.device) -> Cost:
    """Adds up what a run cost whose weights another run trained: the other's training, and its own evaluation.

    Args:
        before: cost of the run that trained.
        evaluate: seconds of the new evaluation without distances.
        distances: seconds that distances took.
        device: where it was evaluated.
    """
    on_device = max(0.0, before.device_seconds - before.evaluate_seconds)
    if device.type == "cuda":
        on_device += evaluate
    changes = {
        "evaluate_seconds": evaluate,
        "total_seconds": before.total_seconds - before.evaluate_seconds + evaluate,
        "device_seconds": on_device,
        "distance_seconds": distances,
        "validation": ValidationCost(),
    }
    return before.model_copy(update=changes)


def stage_cost(fits: Sequence[Fit]) -> StageCost:
    """Adds up steps, patches, seconds and units of a stage."""
    steps = patches = units = 0
    seconds = 0.0
    for stage in fits:
        steps += stage.steps
        patches += stage.patches
        seconds += stage.seconds
        units += stage.units
    return StageCost(steps=steps, patches=patches, seconds=seconds, units=units)


def _nan_to_none(value: float) -> float | None:
    if np.isnan(value):
        return None
    return value


def write_cases(
    path: Path, scored: CaseCounts, classes: Sequence[str], distances: CaseDistances | None = None, first: int = 1
) -> None:
    """Writes cases.csv: counts, Dice and distances per case and class; an empty cell is a missing value, or was not measured.

    The classes are numbered from `first`. Without distances the table has the empty columns `hd95_mm` and `nsd` alone, as it had
    before more was measured: a run that is done again gives the same file.
    """
    rows = []
    for case_id, per_class in scored:
        for k, counts in enumerate(per_class, start=1):
            measured: dict[str, Any] = dict.fromkeys(FIRST_MEASURES)
            if distances:
                measured = asdict(distances[case_id][k - 1])
            named = {"case": case_id, "class": first - 1 + k, "class_name": classes[k]}
            rows.append(named | asdict(counts) | {"dice": counts.dice} | measured)
    _table(rows).to_csv(path, index=False)


def write_curve(path: Path, fits: dict[str, list[Fit]]) -> None:
    """Writes curve.csv: a row per step of both stages."""
    names = {"init": "pretext", "train": "train"}
    rows = []
    for key, group in fits.items():
        for fit in group:
            for row in fit.curve:
                rows.append({"stage": names[key], **row})
    _table(rows).to_csv(path, index=False)


def write_validation(path: Path, looks: Sequence[Look]) -> None:
    """Writes validation.csv: a row per point, case and class; Dice is empty where the reference lacks the class."""
    rows = []
    for look in looks:
        counts = dice.Counts(look.tp, look.fp, look.fn)
        rows.append(asdict(look) | {"dice": counts.dice})
    names = {"class_number": "class"}  # a field cannot have the name of the column
    _table(rows).rename(columns=names).to_csv(path, index=False)


def _table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd  # takes long to import: whoever looks a run up writes no table

    return pd.DataFrame(rows)


def save_prediction(folder: Path, scored: Scored) -> None:
    """Writes the label map of a case as NIfTI, with the case's affine."""
    import nibabel

    folder.mkdir(exist_ok=True)
    image = nibabel.Nifti1Image(scored.prediction, scored.case.affine)
    nibabel.save(image, folder / f"{scored.case.id}.nii.gz")
