"""The bare parts of a run: steps on one batch, then the forward passes of the evaluation. A peer in `benchmarks.whole_runs`.

    python -m benchmarks.bare_run --steps 120 --windows 54

does nothing else but import what a run imports.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

import initbench
import initbench.harness.execute  # a run imports it: imports are on both sides
from initbench import seeding
from initbench.executors.workers import _keep_freed_memory
from initbench.recipes.load import load_recipe
from initbench.training.loop import make_optimizer
from initbench.training.losses import supervised_loss


def main() -> None:
    """Does the steps and the passes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--windows", type=int, required=True, help="of all reported cases together")
    parser.add_argument("--classes", type=int, default=3)
    given = parser.parse_args()
    recipe = load_recipe("generic-ct", size="tiny", backbone="unetr", budget="smoke")
    patch = recipe.patch.size
    _keep_freed_memory()  # as the process does that trains
    with seeding.deterministic(1), seeding.memory_of(torch.device("cpu")):
        model = initbench.build("unetr", in_channels=1, num_classes=given.classes, patch_size=patch, size="tiny").train()
        optimizer = make_optimizer(model, recipe.optimizer)
        image = torch.randn(recipe.patch.batch, 1, *patch)
        label = torch.randint(0, given.classes, (recipe.patch.batch, *patch))
        for _ in range(given.steps):
            optimizer.zero_grad(set_to_none=True)
            loss, _parts = supervised_loss(model(image), label, recipe.loss)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip)
            optimizer.step()
        windows = torch.randn(recipe.inference.batch, 1, *patch)
        model.eval()
        with torch.inference_mode():
            for first in range(0, given.windows, recipe.inference.batch):
                model(windows[: given.windows - first])


if __name__ == "__main__":
    main()
