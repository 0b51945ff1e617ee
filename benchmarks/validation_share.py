"""What share of the forward passes of training the validation takes, for the recipes that come with the package.

The volumes of phantom-lung are made, and those of hippocampus are read where they are below INITBENCH_DATA. For the others stand
volumes of the size that `initbench reproduce` takes for them, one for each test case of the published split.

    python -m benchmarks.validation_share
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from initbench.datasets import split_tables
from initbench.errors import InitbenchError
from initbench.evaluation.inference import forward_passes
from initbench.harness.cell import resolve_cell, steps_of
from initbench.harness.dice_over_steps import ONE_IN, Schedule, schedule, schedule_of
from initbench.harness.request import RunRequest
from initbench.protocols import PLAIN_UNITS, Grid
from initbench.recipes.load import load_recipe
from initbench.studies.standin import KINDS

BACKBONES = ("unetr", "unetrpp", "swin-unetr", "nnformer", "unet")
HERE = (("phantom-lung", "tiny", "smoke"), ("phantom-lung", "tiny", "short"), ("phantom-lung", "paper", "paper"))
FROM_FILES = (("hippocampus", "tiny", "smoke"), ("hippocampus", "tiny", "short"), ("hippocampus", "paper", "paper"))


@dataclass(frozen=True)
class Line:
    """A row of the table: what is trained, forward passes of one patch that training counts as, cases there are, the schedule."""

    what: str
    backbone: str
    training: int
    cases: int
    found: Schedule | None

    def __str__(self) -> str:
        if self.found is None:
            return f"| {self.what} | {self.backbone} | {self.training:,} | none | | |"
        taken = len(self.found.points) * self.found.passes
        cases = f"{len(self.found.cases)} of {self.cases}"
        return (
            f"| {self.what} | {self.backbone} | {self.training:,} | {len(self.found.points)} | {cases} | "
            f"{100 * taken / self.training:.2f} % |"
        )


def of_real_volumes() -> Iterator[Line]:
    """The runs of data sets that are here, as they would be trained."""
    for dataset, size, budget in (*HERE, *FROM_FILES):
        for backbone in BACKBONES:
            request = RunRequest.of("default", backbone, dataset, 0, size=size, budget=budget, device="cpu", precision="float32")
            try:
                cell = resolve_cell(request)
            except InitbenchError:
                return
            training = cell.train_steps * cell.units * cell.recipe.patch.batch
            yield Line(f"{dataset}, {size}, {budget}", backbone, training, len(cell.prepared.split.test), schedule_of(cell))


def of_stand_ins() -> Iterator[Line]:
    """The runs of published recipes at paper size and budget, on volumes of one size."""
    for name, kind in KINDS.items():
        cases = split_tables.published(name)[0]["test"]
        for backbone in BACKBONES:
            recipe = load_recipe(name, size="paper", backbone=backbone, budget="paper")
            wanted = recipe.preprocess.spacing
            spacing = kind.spacing[::-1] if isinstance(wanted, str) else wanted
            edges = [
                round(count * native / new)
                for count, native, new in zip(kind.shape[::-1], kind.spacing[::-1], spacing, strict=True)
            ]
            volume: Grid = (edges[0], edges[1], edges[2])
            windows = recipe.inference.model_copy(update={"mirror": False})
            passes = dict.fromkeys(cases, forward_passes(volume, recipe.patch.size, windows))
            shortest = steps_of(recipe, "paper", "equal-total", learned=True).train
            training = recipe.steps.paper * PLAIN_UNITS * recipe.patch.batch
            found = schedule(passes, shortest, shortest * PLAIN_UNITS * recipe.patch.batch // ONE_IN)
            yield Line(f"{name}, paper, paper", backbone, training, len(cases), found)


def main() -> None:
    """Prints the table."""
    print("| recipe, size, budget | backbone | training in passes | points | cases | share |")
    print("| --- | --- | --- | --- | --- | --- |")
    for line in (*of_real_volumes(), *of_stand_ins()):
        print(line)


if __name__ == "__main__":
    main()
