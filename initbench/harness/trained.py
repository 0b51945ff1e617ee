"""Finds a finished run that was trained as a new one is to be. The new one takes its weights, and is scored without training.

What a recipe says of inference has no part in training. So two runs of one seed that differ in it alone have the same weights:
one whose recipe averages logits, say, and one from the time when it averaged probabilities. The later run finds the earlier one
below the same output folder. It is evaluated anew, as any run is, and its record says whose weights it has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.torch import load_model
from torch import nn

from initbench import digest
from initbench.harness.cell import Cell
from initbench.limits import MAX_NOTE, read_regular
from initbench.recipes.settings import Inference
from initbench.runs import store
from initbench.runs.record import Record


@dataclass(frozen=True)
class Trained:
    """A finished run that was trained as another one is to be."""

    folder: Path
    record: Record

    @property
    def cell(self) -> str:
        """The id of the cell whose run did the training."""
        return self.record.weights_from or self.record.cell

    @property
    def machines(self) -> list[str]:
        """Fingerprints of the environments that it was in hand in."""
        environment = self.record.environment
        return list(environment.machines) or [environment.fingerprint]

    def is_unchanged(self) -> bool:
        """Returns whether every file of the run is as it was written. The files are read whole."""
        return not store.problem(self.folder, self.record, thorough=True)

    def load_weights(self, model: nn.Module) -> None:
        """Puts the weights of the run into `model`."""
        load_model(model, self.folder / store.WEIGHTS)

    def coverage(self) -> dict[str, Any]:
        """Returns what the init changed, as the run left it."""
        found: dict[str, Any] = json.loads(read_regular(self.folder / store.COVERAGE, MAX_NOTE))
        del found["schema"]
        return found


def find_trained(cell: Cell, folder: Path) -> Trained | None:
    """Returns a finished run of the same seed and output folder that differs from a run in inference alone; None without one.

    Args:
        cell: of the run to come.
        folder: where its result will be.
    """
    for other in _siblings(folder):
        record = store.read_record(other)
        if record is None or store.WEIGHTS not in record.files:
            continue
        if _is_trained_alike(cell, record) and store.is_whole(other, record):
            return Trained(other, record)
    return None


def _siblings(folder: Path) -> Iterator[Path]:
    """Folders of the same init, network, data set and seed under other ids."""
    name = folder.parent.name[: -store.CELL_SIGNS]
    for path in sorted(folder.parents[1].glob(f"{name}{'?' * store.CELL_SIGNS}/{folder.name}")):
        if path != folder:
            yield path


def _is_trained_alike(cell: Cell, record: Record) -> bool:
    """Returns whether the cell would have the record's id if its recipe had the record's inference, and the seed is the same."""
    if record.resolved.seed != cell.request.seed:
        return False
    try:
        inference = Inference.model_validate(record.resolved.recipe.inference)
    except ValidationError:  # of a version that knew other settings
        return False
    recipe = cell.identity["recipe"] | {"inference": inference.identity()}
    return record.cell == digest.of_json(cell.identity | {"recipe": recipe})
