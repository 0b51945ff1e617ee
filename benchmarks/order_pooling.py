"""What the pooling axis and the schedule of LWI's release do to order prediction: a plot of its cross-entropy, 2 x 2.

    python -m benchmarks.order_pooling --dataset path/of/a/Decathlon/folder --out order-pooling.png

Tiny UNETR, three slabs; the recipe's schedule and pooling along depth are the text's meaning, the other two the released code.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import initbench
from initbench.datasets import splits
from initbench.datasets.open import open_dataset
from initbench.preprocessing.prepare import prepare
from initbench.protocols import structure_of
from initbench.recipes.load import load_recipe

PATCH = (48, 96, 96)
SLABS = 3


class Losses:
    """Keeps the loss of every report."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.values: list[float] = []

    def start(self, stage: str, total: int) -> None:
        """Ignored."""

    def advance(self, done: int, info: Mapping[str, float]) -> None:
        """A report of the loop."""
        self.steps.append(done)
        self.values.append(info["loss"])


def volumes_of(path: str) -> list[np.ndarray]:
    """Preprocessed training volumes of a Decathlon folder."""
    dataset = open_dataset(path, None)
    settings = load_recipe("generic-ct", size="tiny", backbone="unetr", budget="smoke").preprocess
    prepared = prepare(dataset, splits.resolve_split(dataset, "auto"), settings, None)
    return [prepared.case(case).image for case in prepared.split.train]


def cross_entropy(volumes: list[np.ndarray], pool: str, schedule: str, steps: int) -> tuple[list[int], list[float]]:
    """Mean order cross-entropy per level along a pretext."""
    model = initbench.build("unetr", in_channels=1, num_classes=2, patch_size=PATCH, size="tiny")
    tiny = load_recipe("generic-ct", size="tiny", backbone="unetr", budget="smoke").pretext.optimizer
    settings = [f"pretext.optimizer.{key}={value}" for key, value in tiny.model_dump().items()]
    losses = Losses()
    initbench.initialize(
        model,
        f"order(pool={pool}, schedule={schedule})",
        data=volumes,
        steps=steps,
        device="cpu",
        assignments=[*settings, "pretext.batch=2"],
        progress=losses,
    )
    return losses.steps, [value / len(structure_of(model).levels) for value in losses.values]


def main() -> None:
    """Trains the four pretexts and draws them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=Path("order-pooling.png"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    volumes = volumes_of(given.dataset)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    for pool, schedule in itertools.product(("depth", "width"), ("recipe", "plateaus")):
        steps, values = cross_entropy(volumes, pool, schedule, given.steps)
        last = float(np.mean(values[-max(1, len(values) // 5) :]))
        print(f"pool={pool} schedule={schedule}: {last:.3f} over the last fifth (ln {SLABS} = {math.log(SLABS):.3f})", flush=True)
        smooth = np.convolve(values, np.ones(9) / 9, mode="valid")  # each value is of one batch
        colour = "tab:blue" if pool == "depth" else "tab:orange"
        line = "-" if schedule == "recipe" else "--"
        axis.plot(steps[4:-4], smooth, label=f"pool={pool}, schedule={schedule}", color=colour, linestyle=line)
    axis.axhline(math.log(SLABS), color="0.4", linewidth=1, label=f"chance, ln {SLABS}")
    axis.set_xlabel("pretext step")
    axis.set_ylabel("order cross-entropy per level")
    axis.legend()
    figure.savefig(given.out, dpi=150)


if __name__ == "__main__":
    main()
