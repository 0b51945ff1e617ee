"""The init stage alone: weights for people's own training, with a card that says what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn

from initbench import digest, seeding, staging
from initbench.choices import DATASET
from initbench.datasets.open import open_dataset
from initbench.errors import InitbenchError, UsageError
from initbench.harness import record as records
from initbench.harness.cell import Cell, resolve_cell
from initbench.harness.hardware import environment
from initbench.harness.rehearsal import Rehearsals
from initbench.harness.request import Components, RunRequest
from initbench.harness.run import Run
from initbench.harness.weights import save_weights
from initbench.protocols import NoProgress, Progress, structure_of
from initbench.studies.sweep import PartOptions, cross_requests

NNUNET = ".pth"
_AXES = "D inferior to superior, H posterior to anterior, W left to right"
FORMATS = (".safetensors", NNUNET)


@dataclass(frozen=True)
class Export:
    """Written weights: `path`, and beside it the same card for people, `card_path`."""

    path: Path
    card_path: Path
    card: dict[str, Any]


def pretrain(
    init: str,
    backbone: str,
    dataset: str = DATASET,
    *,
    weights: str | Path,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Unpack[PartOptions],
) -> Export:
    """Writes the weights of an init, to train from elsewhere; the same as the command ``initbench pretrain``.

    Args:
        init: one initializer, parameters inline.
        backbone: one backbone, a variant inline.
        dataset: one data set, or a path.
        weights: file to write, ``.safetensors`` or ``.pth``.
        seed: root seed.
        progress: told of progress.
        **options: as for `initbench.run`, as far as an init stage knows them.

    Raises:
        UsageError: the request is wrong, or the file exists. InitbenchError: the pretext diverged.
    """
    return export(plan_one(init, backbone, dataset, seed, Path(weights), **options), Path(weights), progress)


def plan_one(
    init: Components, backbone: Components, dataset: Components, seed: int, path: Path, **options: Unpack[PartOptions]
) -> RunRequest:
    """Returns the request of an export.

    Args:
        init: one initializer.
        backbone: one backbone.
        dataset: one data set.
        seed: root seed.
        path: file to write.
        **options: as for `pretrain`.

    Raises:
        UsageError: it names more than one run, or its file cannot be written.
    """
    check_path(path)
    requests = cross_requests(init, backbone, dataset, seeds=[seed], **options)
    if len(requests) != 1:
        raise UsageError(
            f"name one initializer, one backbone, one data set and one fold at a time; this names {len(requests)} runs"
        )
    return requests[0]


def export(request: RunRequest, path: Path, progress: Progress | None = None) -> Export:
    """Constructs the network, initializes it, and writes its weights; no supervised step is taken.

    Args:
        request: what to initialize on what; its `out` is not used.
        path: ``.safetensors`` (ties once, card in the metadata), or ``.pth`` as nnU-Net v2's ``-pretrained_weights`` reads it.
        progress: told of progress.

    Raises:
        UsageError: the request is wrong, or the file exists or ends in something else.
        InitbenchError: the pretext diverged, or the file cannot be written.
    """
    check_path(path)
    progress = progress or NoProgress()
    cell = resolve_cell(request, progress, check=Rehearsals().check_draft)
    run = Run(cell, path.parent, progress)
    with seeding.deterministic(request.threads):
        model, _ = run.initialized()
    card = make_card(cell, run, model)
    card_path = path.with_name(path.name + ".md")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(model, path, card)
        card["sha256"] = digest.of_file(path)
        card_path.write_text(as_markdown(path.name, card), "utf-8")
    except OSError as error:
        raise InitbenchError(f"{path} cannot be written ({error.strerror}): choose another place with --weights") from None
    return Export(path, card_path, card)


def check_path(path: Path) -> None:
    """Refuses a file that is there already, has no known ending, or lies below a file.

    Raises:
        UsageError: says which endings there are, or what is in the way.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"--weights {path}: the name ends in {' or '.join(FORMATS)} (nnU-Net reads {NNUNET})")
    if path.exists():
        raise UsageError(f"--weights {path} exists; remove it or choose another name")
    for folder in path.absolute().parents:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--weights {path} cannot be written: {folder} is a file; choose another place")


def _write(model: nn.Module, path: Path, card: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    if path.suffix == NNUNET:
        torch.save({"network_weights": model.state_dict(), "initbench": json.dumps(dict(card))}, temporary)
    else:
        save_weights(model, temporary, card)
    temporary.chmod(0o644)
    staging.sync(temporary)
    staging.move(temporary, path)


def make_card(cell: Cell, run: Run, model: nn.Module) -> dict[str, Any]:
    """Says in JSON values what the weights are: init, network, data, recipe, cost, licences.

    Args:
        cell: init, network and data as they were resolved.
        run: the run after its init stage, which knows what it read and what it cost.
        model: the network with the weights.
    """
    dataset = open_dataset(cell.request.dataset.name, cell.request.data_root)
    info = cell.backbone.info
    structure = structure_of(model)
    pretext = None
    if cell.init_info.learned:
        pretext = cell.recipe.pretext.identity()
    train_cases: list[str] = []
    if run.read:  # weights that came of no case do not depend on the split
        train_cases = list(cell.prepared.split.train)
    coverage = {}
    for key in ("changed_share", "groups"):
        if key in run.coverage:
            coverage[key] = run.coverage[key]
    hardware = environment(run.device, cell.request.threads)
    card = run.card(model) | {
        "initbench": version("initbench"),
        "init_params": cell.identity["init_params"],
        "in_channels": cell.in_channels,
        "classes": list(cell.prepared.classes),
        "heads": list(structure.heads),
        "deep_supervision": cell.recipe.loss.deep_supervision,
        "axes": structure.axes,
        "data_digest": cell.prepared.digest,
        "data_licence": dataset.licence,
        "read": run.coverage["read"],
        "train_cases": train_cases,
        "preprocess": asdict(cell.prepared.parameters),
        "pretext": pretext,
        "precision": cell.precision,
        "network_source": info.source,
        "network_licence": info.licence,
        "cost": {**records.stage_cost(run.fits["init"]).written(), "seconds": run.init_seconds},
        "coverage": coverage,
        "environment": {
            "cpu": hardware["cpu"],
            "accelerator": hardware["accelerator"],
            "packages": hardware["packages"],
        },
    }
    plain: dict[str, Any] = json.loads(json.dumps(card, allow_nan=False))
    return plain


def as_markdown(name: str, card: Mapping[str, Any]) -> str:
    """Returns the card of weights for people.

    Args:
        name: of the file of the weights.
        card: as `make_card` gives it.
    """
    cost = card["cost"]
    learned = "no training"
    if cost["steps"]:
        learned = f"{cost['steps']} steps, {cost['patches']} patches, {cost['seconds']:.0f} s"
    axes = f"(N, C, {', '.join(card['axes'])})"
    read = " and ".join(card["read"]) or "nothing"
    rows = {
        "init": f"`{card['init']}`, seed {card['seed']}: {learned}",
        "network": f"{card['backbone']} ({card['variant']}), {card['size']} size",
        "source of the network": f"{card['network_source']} ({card['network_licence']})",
        "input": f"{card['in_channels']} channel(s), patch (D, H, W) {tuple(card['patch_size'])}",
        "axes": f"the weights see {axes}: {_AXES}",
        "preprocessing": ", ".join(f"{key} {value}" for key, value in card["preprocess"].items()),
        "output heads": f"{', '.join(card['heads'])}: fresh, for {len(card['classes'])} classes ({', '.join(card['classes'])})",
        "data": f"{card['dataset']}, digest {card['data_digest'][:12]}",
        "the init read": f"{read} of {len(card['train_cases'])} training cases",
        "licence of the data": card["data_licence"],
        "changed": f"{card['coverage'].get('changed_share', 0):.1%} of the parameters",
        "file": f"`{name}`, sha256 {card.get('sha256', '')}",
    }
    full = json.dumps(dict(card), indent=1, ensure_ascii=False)
    lines = ["# Initial weights", "", "| | |", "| --- | --- |"]
    for key, value in rows.items():
        lines.append(f"| {key} | {value} |")
    lines += ["", "```json", full, "```", ""]
    return "\n".join(lines)
