"""The stages of one run: construct, initialize, train, evaluate, record."""

from __future__ import annotations

import contextlib
import functools
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn

from initbench.evaluation.distances import record_distances
from initbench.evaluation.evaluate import Evaluator
from initbench.harness import compose, regimens, reuse
from initbench.harness import record as records
from initbench.harness.build import build_for, redraw_heads
from initbench.harness.cell import Cell
from initbench.harness.context import Context, DivergedError
from initbench.harness.coverage import Coverage, state_digest
from initbench.harness.dice_over_steps import DiceOverSteps
from initbench.harness.hardware import available_memory, environment, resolve_device, total_memory
from initbench.harness.memory import check_memory, estimate_bytes
from initbench.harness.score import Scores, draw, score
from initbench.harness.sites import find_sites
from initbench.harness.snapshot import classes_kept
from initbench.harness.trained import Trained, find_trained
from initbench.harness.weights import save_weights
from initbench.protocols import Progress, Task, structure_of
from initbench.recipes.settings import Optimizer
from initbench.runs import store, work
from initbench.runs.record import Record, ValidationCost
from initbench.sampling.samplers import GuidedSampler, PatchSampler, UnlabelledSampler
from initbench.sampling.volumes import Volume, VolumeShelf, volume_bytes
from initbench.training.checkpoints import Checkpoints
from initbench.training.fast import autotuned, compiled
from initbench.training.loop import Fit, FitSettings, fit, parameters_finite
from initbench.training.passes import Passes
from initbench.units import duration

# Share of the device's memory that volumes may take between two runs. The worker that keeps them needs them for its next run, or
# clears them before it asks for memory; the bound is for the others on the device, whose runs ask meanwhile.
_KEPT = 0.25
# Of the memory that a step leaves on a GPU: its estimate leaves out what kernels work in.
_FOR_VOLUMES = 0.8


class Run:
    """The stages of one run and what they leave for the record."""

    def __init__(
        self,
        cell: Cell,
        folder: Path,
        progress: Progress,
        checkpoints: Path | None = None,
        check: Callable[[], None] = lambda: None,
        shelf: VolumeShelf | None = None,
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Prepares a run.

        Args:
            cell: what is run.
            folder: where the result goes.
            progress: told of the stages.
            checkpoints: where checkpoints go; without it a run that is stopped begins again.
            check: called right before the result is put into its place; raises where somebody else has taken the run over.
            shelf: keeps the training volumes for the next run.
            log: told, for people, how the run ended.
        """
        self.cell = cell
        self._check = check
        self._log = log
        self.folder = folder
        self.progress = progress
        self.work = checkpoints
        self._shelf = shelf or VolumeShelf()
        self.root = cell.root
        self.notes: list[str] = []
        self.until: int | None = None
        self.device = resolve_device(cell.request.device)
        self.fits: dict[str, list[Fit]] = {"init": [], "train": []}
        self.passes = Passes()
        self.validation: DiceOverSteps | None = None
        self.regimen_report: dict[str, Any] = {}
        self.coverage: dict[str, Any] = {}
        self.read: set[str] = set()  # of the training cases, by the init
        self.init_seconds = 0.0

    def execute(self) -> Record:
        """Runs the stages and returns the record it wrote."""
        request = self.cell.request
        env = environment(self.device, request.threads, fast=request.fast)
        machines = []
        if self.work:
            machines = work.machines(self.work, records.fingerprint(env))
        reuse.remove_abandoned(request.out)
        trained = find_trained(self.cell, self.folder)
        if trained is not None and trained.is_unchanged():
            return self._score_again(trained, env | {"machines": list(dict.fromkeys([*trained.machines, *machines]))})
        model, volumes = self._begin()
        diverged: str | None = None
        try:
            self._initialize_once(model, volumes)
            self._train(model, volumes)
        except DivergedError as error:
            diverged = str(error)
        model.to(self.device)
        return self._finish(model, diverged, env | {"machines": machines})

    def _score_again(self, trained: Trained, env: dict[str, Any]) -> Record:
        """Evaluates the network that another run trained; what training left is taken over from it."""
        model = self.construct()
        trained.load_weights(model)
        self.coverage = trained.coverage()
        self.notes = [*trained.record.notes]
        self.regimen_report = trained.record.regimen_report
        if trained.record.weights_from is None:  # else the note is there
            by = trained.cell[: store.CELL_SIGNS]
            self.notes.append(f"not trained: it has the weights of cell {by}, which differs from it in inference alone")
        return self._finish(model.to(self.device), trained.record.reason, env, trained)

    def initialized(self) -> tuple[nn.Module, list[Volume]]:
        """Runs the init stage alone; returns the network after it, and the training volumes."""
        model, volumes = self._begin()
        self._initialize(model, volumes)
        return model, volumes

    def _begin(self) -> tuple[nn.Module, list[Volume]]:
        """Returns the network as constructed, and the training volumes, where there is memory for both and for training.

        Raises:
            NoMemoryError: there is not enough.
        """
        cell, device = self.cell, self.device
        data = cell.prepared, device, cell.recipe.patch.neighbours, cell.request.device_memory
        model = self.construct()
        step, missing, budget = self._step_bytes(model), 0, None
        is_held = self._shelf.holds(*data)
        if is_held and step > available_memory(device):
            is_held = False  # a larger network than the run before it had: it leaves volumes less memory
        if not is_held:
            self._shelf.clear()  # what an earlier run left is free memory
            missing = volume_bytes(cell.prepared, cell.in_channels)
            budget = self._volume_budget(available_memory(device) - step)
            if budget is not None and cell.recipe.patch.neighbours == 0:
                missing = min(missing, budget)
        check_memory(step, missing, available_memory(device))
        return model, self._shelf.load(*data, most=int(_KEPT * total_memory(device)), budget=budget)

    def _volume_budget(self, left: int) -> int | None:
        """Returns the bytes of the device that volumes may take, None for all of them.

        Args:
            left: bytes that a step of training leaves.
        """
        asked = self.cell.request.device_memory
        if asked is not None:
            return int(asked * 2**30)
        if self.device.type == "cpu":  # its memory is the memory of the cache's mapped files: nothing is won by default
            return None
        return max(0, int(_FOR_VOLUMES * left))

    def _step_bytes(self, model: nn.Module) -> int:
        """Estimates the bytes that a training step needs in the stage that needs most."""
        cell, recipe = self.cell, self.cell.recipe
        batch = recipe.patch.batch
        if cell.init_info.learned:
            batch = max(batch, recipe.pretext.batch)
        copies = regimens.copies_of(cell.regimen)
        return estimate_bytes(model, cell.in_channels, recipe.patch.size, batch, cell.precision, copies)

    def first_steps(self, count: int) -> list[dict[str, float]]:
        """Rows of the learning curve of the run's first steps, made anew: of the pretext, or of training without one."""
        self.until = count
        with contextlib.suppress(DivergedError):  # as it may have then
            model, volumes = self.initialized()
            if not self.cell.init_info.learned:
                self._train(model, volumes)
        return (self.fits["init"] or self.fits["train"])[0].curve

    def _initialize_once(self, model: nn.Module, volumes: Sequence[Volume]) -> None:
        """Does the init stage, or takes what another run of the same seed left of it."""
        if not self.cell.init_info.learned:
            self._initialize(model, volumes)
            return
        folder = reuse.folder_of(self.cell)
        with reuse.held(folder):
            stage = reuse.load_stage(folder, model)
            if stage is None:
                self._initialize(model, volumes)
                reuse.save_stage(folder, model, reuse.InitStage(self.coverage, self.init_seconds, self.fits["init"]))
            else:
                self.coverage, self.init_seconds, self.fits["init"] = stage.coverage, stage.seconds, stage.fits

    def construct(self) -> nn.Module:
        """Constructs the network, not initialized yet."""
        return self._build()

    def _build(self, draw: str = "") -> nn.Module:
        return build_for(self.cell, seed=self.root, draw=draw)

    def _initialize(self, model: nn.Module, volumes: Sequence[Volume]) -> None:
        cell, structure = self.cell, structure_of(model)
        recipe = cell.recipe
        ctx = Context(
            sites=find_sites(model, structure.projections),
            structure=structure,
            device=self.device,
            root=self.root,
            identity=cell.init_identity,
            steps=cell.pretext_steps,
            mask_patch=recipe.pretext.mask_patch,
            taps=recipe.pretext.taps,
            depths=cell.prepared.depths,
            sampler=functools.cache(lambda: self._unlabelled(volumes)),
            guided=functools.cache(lambda: self._guided(volumes)),
            construct=self._build,
            fit_settings=self._settings("pretext", cell.pretext_steps, recipe.pretext.optimizer),
            checkpoints=self._checkpoints,
            progress=self.progress,
            fits=self.fits["init"],
            note=self.notes.append,
            passes=self.passes,
        )
        before = Coverage(model)
        learns = cell.init_info.learned or cell.init_info.external
        with classes_kept(model):
            started = time.perf_counter()
            with self.passes.watched(model), self._autotuned():
                compose.apply(cell.init, model, ctx)
            # What was trained before the run went on counts; what else the init does is repeated.
            before_now = sum(f.seconds for f in self.fits["init"]) - sum(f.seconds_now for f in self.fits["init"])
            self.init_seconds = time.perf_counter() - started + before_now
            self.coverage = before.compare(model, cell.init_name, learns=learns)
        self.coverage["read"] = sorted(self.read)
        if ctx.reported:
            self.coverage["report"] = ctx.reported
        redraw_heads(model, structure.heads, self.root)

    def _unlabelled(self, volumes: Sequence[Volume]) -> UnlabelledSampler:
        self.read.add("images")
        recipe = self.cell.recipe
        return UnlabelledSampler(volumes, recipe.patch.size, recipe.pretext.batch, recipe.augment, self.root)

    def _guided(self, volumes: Sequence[Volume]) -> GuidedSampler:
        self.read |= {"images", "labels"}
        recipe = self.cell.recipe
        return GuidedSampler(volumes, recipe.patch.model_copy(update={"batch": recipe.pretext.batch}), recipe.augment, self.root)

    def _checkpoints(self, stage: str) -> Checkpoints | None:
        if self.work is None:
            return None
        return Checkpoints(self.work, stage, self.cell.request.checkpoint_every, self.notes.append)

    def _settings(self, stage: Literal["pretext", "train"], steps: int, optimizer: Optimizer) -> FitSettings:
        return FitSettings(steps, optimizer, self.cell.precision, self.device, self.root, stage, self.until)

    def _train(self, model: nn.Module, volumes: Sequence[Volume]) -> None:
        settings = self._settings("train", self.cell.train_steps, self.cell.recipe.optimizer)
        if self.cell.request.validation and self.until is None:
            self.validation = DiceOverSteps.of(self.cell, model, self.construct, self.evaluator, self.notes.append)
        with regimens.contained_regimen(self.cell.regimen, self.notes.append), self.passes.watched(model):
            task = self.supervised_task(model, volumes)
            with self._autotuned(), self._compiled(model, task, settings):
                result = fit(task, settings, self.progress, self._checkpoints("train"), self.passes, self.validation)
        self.fits["train"].append(result)
        if result.diverged_at is not None:
            if self.validation is not None:
                self.validation.forget_after(result.diverged_at)
            raise DivergedError("training", result.diverged_at)
        if not parameters_finite(model):
            raise DivergedError("training", result.steps - 1)

    def _autotuned(self) -> contextlib.AbstractContextManager[None]:
        """Returns a block inside which kernels are chosen by timing them, where the run has ``--fast``."""
        if not self.cell.request.fast:
            return contextlib.nullcontext()
        return autotuned()

    def _compiled(self, model: nn.Module, task: Task, settings: FitSettings) -> contextlib.AbstractContextManager[None]:
        """Returns a block inside which steps of a task are compiled, where the run has ``--fast`` and they can be."""
        if not self.cell.request.fast:
            return contextlib.nullcontext()
        return compiled(model, task, settings, self.notes.append)

    def supervised_task(self, model: nn.Module, volumes: Sequence[Volume]) -> Task:
        """Moves the network to the device, and returns what the supervised stage trains: the regimen's task on it."""
        cell, recipe = self.cell, self.cell.recipe
        ctx = regimens.Context(
            model=model.to(self.device),
            structure=structure_of(model),
            device=self.device,
            steps=cell.train_steps,
            root=self.root,
            loss=recipe.loss,
            sampler=PatchSampler(volumes, recipe.patch, recipe.augment, self.root),
            mask_patch=recipe.pretext.mask_patch,
        )
        task = regimens.make_task(cell.regimen, ctx)
        self.regimen_report = ctx.reported
        return task

    def _finish(self, model: nn.Module, diverged: str | None, env: dict[str, Any], trained: Trained | None = None) -> Record:
        evaluated = time.perf_counter()
        with store.staged(self.folder, check=self._check) as staging:
            scored = score(self.cell, self.evaluator(model), staging, self.progress, failed=diverged is not None)
            draw(self.cell, scored, staging / store.OVERLAY)
            evaluate_seconds = time.perf_counter() - evaluated - scored.distance_seconds
            prepared = self.cell.prepared
            records.write_cases(staging / store.CASES, scored.counts, prepared.reported, scored.distances, prepared.first)
            if scored.resampled:
                records.write_cases(staging / store.CASES_RESAMPLED, scored.resampled, prepared.reported, first=prepared.first)
            if trained is None:
                records.write_curve(staging / store.CURVE, self.fits)
            else:
                shutil.copyfile(trained.folder / store.CURVE, staging / store.CURVE)
            if self.validation is not None and self.validation.looks:
                records.write_validation(staging / store.VALIDATION, self.validation.looks)
            store.write_json(staging / store.COVERAGE, self.coverage)
            model.to("cpu")
            save_weights(model, staging / store.WEIGHTS, self.card(model))
            record = store.seal(self._record(model, scored, diverged, evaluate_seconds, env, trained), staging)
            store.write_record(staging, record)
            self._keep_log(staging, record)
        return record

    def _keep_log(self, staging: Path, record: Record) -> None:
        score = ""
        if record.dice is not None:
            score = f", Dice {100 * record.dice:.2f}"
        self._log(f"{record.status}{score}, after {duration(float(record.cost.total_seconds))}")
        if self.work and (self.work / store.LOG).is_file():
            shutil.copyfile(self.work / store.LOG, staging / store.LOG)

    def evaluator(self, model: nn.Module) -> Evaluator:
        """Makes what applies a network as the recipe says; the network is on the run's device."""
        recipe = self.cell.recipe
        return Evaluator(model, recipe.patch.size, recipe.inference, self.cell.precision, self.device, recipe.patch.neighbours)

    def card(self, model: nn.Module) -> dict[str, Any]:
        """Says what the weights are, so that `checkpoint` need not guess. Nothing in it depends on the machine or the time."""
        cell, structure = self.cell, structure_of(model)
        return {
            "cell": cell.id,
            "seed": int(self.root),
            "init": cell.init_name,
            "backbone": cell.backbone_name,
            "network": structure.name,
            "variant": cell.variant,
            "size": cell.request.size,
            "patch_size": list(structure.patch_size),
            "dataset": cell.prepared.name,
        }

    def _record(
        self,
        model: nn.Module,
        scored: Scores,
        diverged: str | None,
        evaluate: float,
        env: dict[str, Any],
        trained: Trained | None,
    ) -> Record:
        classes = self.cell.prepared.reported
        results = {
            **records.scores(scored.counts, classes),
            **records.resampled_scores(scored.resampled, classes),
            **record_distances(scored.distances, classes, self.cell.request.nsd_tolerance),
            "weights_digest": state_digest(model),
            "notes": self.notes,
        }
        if self.regimen_report:
            results["regimen_report"] = records.plain(self.regimen_report)
        fits, spent = self.fits, scored.distance_seconds
        if trained is None:
            looked = ValidationCost()
            if self.validation is not None:
                looked = self.validation.cost()
            cost = records.costs(fits["init"], fits["train"], self.init_seconds, evaluate, spent, self.device, looked)
        else:
            cost = records.costs_of_scoring_again(trained.record.cost, evaluate, spent, self.device)
            results["weights_from"] = trained.cell
        return records.finished_record(self.cell, env, diverged, results, self.coverage, cost)
