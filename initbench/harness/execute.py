"""One run, start to end: construct, initialize, train, evaluate, record."""

from __future__ import annotations

import functools
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_model
from torch import nn

from initbench import dice, digest, seeding
from initbench.data.volumes import PatchSampler, UnlabelledSampler, Volume, load_volumes
from initbench.errors import InitbenchError, UsageError
from initbench.evaluation import overlay
from initbench.evaluation.evaluate import Evaluator, Scored, score_cases, score_empty
from initbench.harness.build import build, redraw_heads
from initbench.harness.cell import REGIMEN, Cell, RunRequest, protocol_name, resolve
from initbench.harness.context import Context, DivergedError
from initbench.harness.coverage import Coverage, state_digest
from initbench.harness.hardware import available_memory, environment, resolve_device
from initbench.harness.memory import check_memory, estimate_bytes, out_of_memory
from initbench.harness.sites import find_sites
from initbench.protocols import NoProgress, Progress, structure_of
from initbench.recipe import Optimizer
from initbench.runs import store
from initbench.training.loop import Fit, FitSettings, fit, parameters_finite
from initbench.training.supervised import SupervisedTask

State = Literal["ok", "diverged", "failed", "refused", "cached"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `folder` holds its record, except for a refused one, which leaves nothing behind."""

    request: RunRequest
    state: State
    folder: Path | None
    dice: float | None
    message: str = ""


def look_up(request: RunRequest, progress: Progress | None = None) -> Outcome | None:
    """The outcome of a request that needs no run: its result is there, or it cannot be run. None for one that is to be run."""
    try:
        cell = resolve(request, progress)
    except InitbenchError as error:
        return Outcome(request, "refused" if isinstance(error, UsageError) else "failed", None, None, str(error))
    folder = folder_of(cell)
    record = store.read_record(folder)
    return Outcome(request, "cached", folder, record["dice"]) if record and store.is_finished(folder) else None


def execute(request: RunRequest, progress: Progress | None = None) -> Outcome:
    """Runs one request, unless its result is there already. Failures are recorded and returned, not raised.

    Raises:
        KeyboardInterrupt: passed on; nothing half-done stays behind.
    """
    progress = progress or NoProgress()
    known = look_up(request, progress)
    if known is not None:
        return known
    cell = resolve(request)
    folder = folder_of(cell)
    try:
        with seeding.deterministic(request.threads):
            return _Run(cell, folder, progress).execute()
    except UsageError as error:
        return Outcome(request, "refused", None, None, str(error))
    except Exception as error:
        reason = _reason(error)
        _record_failure(cell, folder, reason)
        return Outcome(request, "failed", folder, None, reason)


def folder_of(cell: Cell) -> Path:
    """The run directory of a cell's seed."""
    request = cell.request
    backbone = cell.backbone.spec.name
    return store.run_folder(request.out, cell.prepared.name, backbone, cell.init_name, cell.id, request.seed)


def _reason(error: Exception) -> str:
    if isinstance(error, InitbenchError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error):
        return str(out_of_memory("during the run"))
    if isinstance(error, OSError) and error.errno == 28:
        return f"the disk is full ({error.filename or 'unknown file'}): free space and run the same command again"
    return f"{type(error).__name__}: {error}"


def _record_failure(cell: Cell, folder: Path, reason: str) -> None:
    device = resolve_device(cell.request.device, cell.request.index)
    record = _header(cell, "failed", environment(device, cell.request.threads)) | {
        "reason": reason,
        "traceback": store.TRACEBACK,
    }
    with store.staged(folder) as staging:
        (staging / store.TRACEBACK).write_text(traceback.format_exc(), "utf-8")
        store.write_json(staging / store.RECORD, record)


def _header(cell: Cell, status: str, env: dict[str, Any]) -> dict[str, Any]:
    request = cell.request
    fingerprint = {key: value for key, value in env.items() if key not in ("git", "command")}
    return {
        "schema": store.SCHEMA,
        "status": status,
        "cell": cell.id,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "asked": {key: str(value) if isinstance(value, Path) else value for key, value in asdict(request).items()},
        "resolved": {
            "init": cell.init_name,
            "init_params": cell.identity["init_params"],
            "init_source": cell.identity["init_source"],
            "origin": cell.init.origin,
            "learned": cell.init_info.learned,
            "backbone": cell.backbone.spec.name,
            "backbone_source": cell.identity["backbone_source"],
            "variant": cell.variant,
            "size": request.size,
            "dataset": cell.prepared.name,
            "data_digest": cell.prepared.digest,
            "preprocess": asdict(cell.prepared.parameters),
            "split": cell.prepared.split.name,
            "train_cases": list(cell.prepared.split.train),
            "reported_cases": list(cell.prepared.split.test),
            "classes": list(cell.prepared.classes),
            "seed": request.seed,
            "budget": request.budget,
            "steps": cell.total_steps,
            "protocol": protocol_name(cell),
            "regimen": REGIMEN,
            "precision": cell.precision,
            "recipe": cell.recipe.model_dump(mode="json"),
            "recipe_digest": block_digest(cell),
            "dice_policy": cell.recipe.dice_policy,
        },
        "environment": {**env, "fingerprint": digest.of_json(fingerprint)[:12]},
    }


def block_digest(cell: Cell) -> str:
    """Digest of everything that two inits of a block must share to be compared: recipe, steps, data, network, precision."""
    own = {key: value for key, value in cell.identity.items() if not key.startswith("init") and key != "protocol"}
    return digest.of_json(own)[:12]


class _Run:
    """The stages of one run and what they leave for the record."""

    def __init__(self, cell: Cell, folder: Path, progress: Progress) -> None:
        self.cell = cell
        self.folder = folder
        self.progress = progress
        self.root = cell.request.seed
        self.device = resolve_device(cell.request.device, cell.request.index)
        self.fits: dict[str, list[Fit]] = {"init": [], "train": []}
        self.coverage: dict[str, Any] = {}
        self.init_seconds = 0.0
        self.started = time.perf_counter()

    def execute(self) -> Outcome:
        model = self._construct()
        volumes = load_volumes(self.cell.prepared, self.device)
        diverged: DivergedError | None = None
        try:
            self._initialize(model, volumes)
            self._train(model, volumes)
        except DivergedError as error:
            diverged = error
        model.to(self.device)
        record = self._finish(model, diverged)
        return Outcome(self.cell.request, record["status"], self.folder, record["dice"], record.get("reason") or "")

    def _construct(self) -> nn.Module:
        cell, recipe = self.cell, self.cell.recipe
        model = build(
            cell.request.backbone.partition("(")[0],
            in_channels=cell.prepared.channels,
            num_classes=len(cell.prepared.classes),
            patch_size=recipe.patch.size,
            size=cell.request.size,
            variant=cell.variant,
            deep_supervision=recipe.loss.deep_supervision,
            seed=self.root,
        )
        batch = max(recipe.patch.batch, recipe.pretext.batch if cell.init_info.learned else 0)
        needed = estimate_bytes(model, cell.prepared.channels, recipe.patch.size, batch, cell.precision)
        check_memory(needed, available_memory(self.device))
        return model

    def _initialize(self, model: nn.Module, volumes: Sequence[Volume]) -> None:
        cell, structure = self.cell, structure_of(model)
        recipe = cell.recipe
        ctx = Context(
            sites=find_sites(model, structure.projections),
            levels=structure.levels,
            heads=structure.heads,
            patch_size=structure.patch_size,
            device=self.device,
            root=self.root,
            identity=cell.init_name,
            steps=cell.pretext_steps,
            mask_patch=recipe.pretext.mask_patch,
            sampler=functools.cache(
                lambda: UnlabelledSampler(volumes, recipe.patch.size, recipe.pretext.batch, recipe.augment, self.root)
            ),
            fit_settings=self._settings("pretext", cell.pretext_steps, recipe.pretext.optimizer),
            progress=self.progress,
            fits=self.fits["init"],
        )
        before = Coverage(model)
        started = time.perf_counter()
        cell.init.target(model, ctx, **cell.init_params)
        self.init_seconds = time.perf_counter() - started
        redraw_heads(model, structure.heads, self.root)
        self.coverage = before.compare(model, cell.init_name)

    def _settings(self, stage: Literal["pretext", "train"], steps: int, optimizer: Optimizer) -> FitSettings:
        return FitSettings(steps, optimizer, self.cell.precision, self.device, self.root, stage)

    def _train(self, model: nn.Module, volumes: Sequence[Volume]) -> None:
        recipe = self.cell.recipe
        sampler = PatchSampler(volumes, recipe.patch, recipe.augment, self.root)
        task = SupervisedTask(model.to(self.device), sampler, recipe.loss)
        result = fit(task, self._settings("train", self.cell.train_steps, recipe.optimizer), self.progress)
        self.fits["train"].append(result)
        if result.diverged_at is not None:
            raise DivergedError("training", result.diverged_at)
        if not parameters_finite(model):
            raise DivergedError("training", result.steps - 1)

    def _finish(self, model: nn.Module, diverged: DivergedError | None) -> dict[str, Any]:
        evaluated = time.perf_counter()
        with store.staged(self.folder) as staging:
            evaluator = Evaluator(
                model, self.cell.recipe.patch.size, self.cell.recipe.inference, self.cell.precision, self.device
            )
            scored = self._score(evaluator, staging, failed=diverged is not None)
            self._draw(evaluator, scored, staging / store.OVERLAY, failed=diverged is not None)
            evaluate_seconds = time.perf_counter() - evaluated
            _write_cases(staging / store.CASES, scored, self.cell.prepared.classes)
            _write_curve(staging / store.CURVE, self.fits)
            store.write_json(staging / store.COVERAGE, self.coverage)
            model.to("cpu")
            save_model(model, str(staging / store.WEIGHTS), metadata={"cell": self.cell.id, "seed": str(self.root)})
            record = self._record(model, scored, diverged, evaluate_seconds)
            record["files"] = {name: digest.of_file(staging / name) for name in (store.CASES, store.CURVE, store.WEIGHTS)}
            store.write_json(staging / store.RECORD, record)
        return record

    def _score(self, evaluator: Evaluator, staging: Path, *, failed: bool) -> list[tuple[str, list[dice.Counts]]]:
        prepared = self.cell.prepared
        self.progress.start("evaluate", len(prepared.split.test))
        results = []
        for done, scored in enumerate(score_empty(prepared) if failed else score_cases(evaluator, prepared), start=1):
            results.append((scored.case.id, scored.counts))
            if self.cell.request.save_predictions:
                _save_prediction(staging / store.PREDICTIONS, scored)
            self.progress.advance(done, {})
        return results

    def _draw(self, evaluator: Evaluator, scored: list[tuple[str, list[dice.Counts]]], path: Path, *, failed: bool) -> None:
        """Draws three cases. They are predicted again: keeping every prediction would hold gigabytes for large CT."""
        ranked = sorted((dice.case_dice(counts), case_id) for case_id, counts in scored if dice.case_dice(counts) >= 0)
        if not ranked:
            return
        chosen = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
        cases = []
        for title, (score, case_id) in list(chosen.items())[: len(ranked)]:
            case = self.cell.prepared.case(case_id)
            prediction = np.zeros_like(case.reference) if failed else evaluator.predict(case)
            text = f"{title}: {case_id}\nDice {100 * score:.1f}"
            cases.append(overlay.OverlayCase(text, case.image, np.array(case.reference), prediction, case.placement, case.affine))
        overlay.draw(cases, self.cell.prepared.classes, path)

    def _record(
        self,
        model: nn.Module,
        scored: list[tuple[str, list[dice.Counts]]],
        diverged: DivergedError | None,
        evaluate: float,
    ) -> dict[str, Any]:
        env = environment(self.device, self.cell.request.threads)
        train = self.fits["train"]
        score = dice.run_dice([counts for _, counts in scored])
        cost = {
            "init": {**_cost(self.fits["init"]), "seconds": self.init_seconds},
            "train": _cost(train),
            "evaluate_seconds": evaluate,
            "total_seconds": time.perf_counter() - self.started,
            "device_seconds": time.perf_counter() - self.started if self.device.type == "cuda" else 0.0,
            "peak_memory": max((f.peak_memory for fits in self.fits.values() for f in fits), default=0),
        }
        classes = list(zip(*(counts for _, counts in scored), strict=True))
        per_class = {
            name: _nan_to_none(dice.run_dice([[c] for c in column]))
            for name, column in zip(self.cell.prepared.classes[1:], classes, strict=True)
        }
        coverage = {key: value for key, value in self.coverage.items() if key in ("changed_share", "groups")}
        return _header(self.cell, "diverged" if diverged else "ok", env) | {
            "dice": _nan_to_none(score),
            "dice_per_class": per_class,
            "coverage": coverage,
            "cost": cost,
            "weights_digest": state_digest(model),
            "reason": str(diverged) if diverged else None,
        }


def _cost(fits: Sequence[Fit]) -> dict[str, Any]:
    return {
        "steps": sum(f.steps for f in fits),
        "patches": sum(f.patches for f in fits),
        "seconds": sum(f.seconds for f in fits),
    }


def _nan_to_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _write_cases(path: Path, scored: list[tuple[str, list[dice.Counts]]], classes: Sequence[str]) -> None:
    rows = [
        {
            "case": case_id,
            "class": k,
            "class_name": classes[k],
            **asdict(counts),
            "dice": counts.dice,
            "hd95_mm": None,
            "nsd": None,
        }
        for case_id, per_class in scored
        for k, counts in enumerate(per_class, start=1)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)


def _write_curve(path: Path, fits: dict[str, list[Fit]]) -> None:
    names = {"init": "pretext", "train": "train"}
    rows = [{"stage": names[key], **row} for key, group in fits.items() for f in group for row in f.curve]
    pd.DataFrame(rows).to_csv(path, index=False)


def _save_prediction(folder: Path, scored: Scored) -> None:
    folder.mkdir(exist_ok=True)
    image = nibabel.Nifti1Image(scored.prediction, scored.case.affine)
    nibabel.save(image, folder / f"{scored.case.id}.nii.gz")
