"""Init stages that runs share where they differ in nothing that the init stage sees, never across seeds.

`equal-total` and `equal-finetune` of one init and seed have one pretext, and so have two learning rates of the supervised stage.
Sharing it across seeds would hide the variance of the init, which is what is measured here.

OUT/.inits/<digest>/     weights.safetensors after the init stage, stage.json: coverage, cost, learning curve, digests of both
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_model
from torch import nn

from initbench import claims, digest, staging
from initbench.errors import InitbenchError
from initbench.harness.cell import Cell
from initbench.harness.hardware import environment, resolve_device
from initbench.harness.weights import save_weights
from initbench.limits import MAX_NOTE, read_regular
from initbench.runs import store, work
from initbench.training.loop import Fit

_STAGE = "stage.json"
# Of a cell's identity and recipe, what the init stage does not see.
_LATER = ("protocol", "regimen", "regimen_params", "regimen_source", "regimen_budget", "total_steps")
_LATER_RECIPE = ("optimizer", "inference", "dice_policy")
# Of an environment, what decides the bits of a stage; runs without --fast have no `fast`.
_ARITHMETIC = ("cpu", "accelerator", "cuda", "cudnn", "threads", "fast", "packages")


class ElsewhereError(InitbenchError):
    """Another process computes what is asked for; it will be there later. `place` is where its claim is."""

    def __init__(self, message: str, place: Path) -> None:
        super().__init__(message)
        self.place = place


@dataclass(frozen=True)
class InitStage:
    """What an init stage leaves beside the weights."""

    coverage: dict[str, Any]
    seconds: float
    fits: list[Fit]


def key(cell: Cell) -> str:
    """Returns the digest of everything an init stage depends on, the machine's arithmetic with it."""
    request = cell.request
    recipe = dict(cell.identity["recipe"])
    for name in _LATER_RECIPE:
        recipe.pop(name, None)
    identity = cell.identity | {"recipe": recipe}
    for name in _LATER:
        identity.pop(name, None)
    env = environment(resolve_device(request.device), request.threads, fast=request.fast)
    arithmetic = {}
    for name in _ARITHMETIC:
        if name in env:
            arithmetic[name] = env[name]
    return digest.of_json([identity, cell.pretext_steps, request.seed, arithmetic])


def folder_of(cell: Cell) -> Path:
    """Returns where the stage of a cell's seed lies."""
    return cell.request.out / ".inits" / key(cell)[:32]


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Inside the block nobody else computes the stage.

    Raises:
        ElsewhereError: somebody does.
    """
    place = folder.parents[1] / work.CLAIMS / f"init-{folder.name}"
    with claims.held(place) as claim:
        if claim is None:
            raise ElsewhereError("another process computes the same init stage", place)
        yield


def load_stage(folder: Path, model: nn.Module) -> InitStage | None:
    """Puts the weights of a finished stage into `model`, and returns what else the stage left.

    Where the folder holds no stage, or one with a damaged file, it returns None and leaves the model as it was.
    """
    if not _is_whole(folder):
        return None
    load_model(model, folder / store.WEIGHTS)
    stage = json.loads(read_regular(folder / _STAGE, MAX_NOTE))
    return InitStage(stage["coverage"], stage["seconds"], [Fit(**fit) for fit in stage["fits"]])


def save_stage(folder: Path, model: nn.Module, stage: InitStage) -> None:
    """Keeps a finished stage.

    Args:
        folder: of the stage, as `folder_of` gives it.
        model: after the stage; its weights are kept.
        stage: what else the stage left.
    """
    with store.staged(folder, _is_whole) as temporary:
        save_weights(model, temporary / store.WEIGHTS, {})
        table = {"coverage": stage.coverage, "seconds": stage.seconds, "fits": [asdict(fit) for fit in stage.fits]}
        sealed = json.loads(json.dumps(table | {"sha256": digest.of_file(temporary / store.WEIGHTS)}))
        store.write_json(temporary / _STAGE, sealed | {"digest": _digest(sealed)})


def remove_abandoned(out: Path) -> None:
    """Removes half-written stages of processes that were killed."""
    staging.remove_abandoned(out / ".inits")


def _is_whole(folder: Path) -> bool:
    try:
        stage = json.loads(read_regular(folder / _STAGE, MAX_NOTE))
        whole = stage["digest"] == _digest(stage) and stage["sha256"] == digest.of_file(folder / store.WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return bool(whole)


def _digest(stage: dict[str, Any]) -> str:
    """Returns the sha256 of everything in a stage's table that a run takes from it."""
    taken = dict(stage)
    for key in ("schema", "digest"):
        taken.pop(key, None)
    return digest.of_json(taken)
