"""Step time and peak memory of every backbone at paper size, batch 1, at its published crop or at ours: ``make bench-paper``.

One process per network, so that a peak belongs to it alone. Prints the table of BACKBONES.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from typing import Any

import torch
from torch import nn

import initbench
from initbench import seeding
from initbench.harness.hardware import environment, resolve_device
from initbench.harness.memory import estimate_bytes
from initbench.protocols import Grid, Size
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Recipe
from initbench.training.loop import make_optimizer
from initbench.training.losses import supervised_loss
from initbench.training.precision import autocast

Network = tuple[str, str, int, int, Grid]
# (backbone, variant, input channels, classes, crop), as published; the crops of `unet-2d` and of what follows it are ours, their
# papers fix none.
NETWORKS: list[Network] = [
    ("unetr", "perceptron", 1, 14, (96, 96, 96)),
    ("swin-unetr", "default", 1, 14, (96, 96, 96)),
    ("unetrpp", "synapse", 1, 14, (64, 128, 128)),
    ("unetrpp", "lung", 1, 2, (32, 192, 192)),
    ("unetrpp", "acdc", 1, 4, (16, 160, 160)),
    ("unetrpp", "tumor", 4, 4, (128, 128, 128)),
    ("nnformer", "synapse", 1, 14, (64, 128, 128)),
    ("nnformer", "acdc", 1, 4, (14, 160, 160)),
    ("nnformer", "tumor", 4, 4, (128, 128, 128)),
    ("unet", "default", 1, 14, (128, 128, 128)),
    ("transunet", "default", 1, 9, (1, 224, 224)),
    ("swin-unet", "default", 1, 9, (1, 224, 224)),
    ("missformer", "default", 1, 9, (1, 224, 224)),
    ("unet-2d", "default", 1, 14, (1, 512, 512)),
    ("omnia-net", "b0", 1, 4, (1, 256, 256)),
    ("omnia-net", "b4", 1, 5, (1, 256, 256)),
    ("dx-net", "default", 1, 5, (128, 128, 128)),
    ("ds-net", "default", 4, 3, (128, 128, 128)),
]


def build(network: Network, size: Size = "paper") -> tuple[nn.Module, Recipe]:
    """The network as its recipe trains it, on the CPU, and the recipe."""
    name, variant, channels, classes, crop = network
    recipe = load_recipe("base", size=size, backbone=name, budget="paper", assignments=["preprocess.spacing=native"])
    model = initbench.build(
        name,
        in_channels=channels,
        num_classes=classes,
        patch_size=crop,
        size=size,
        variant=variant,
        deep_supervision=recipe.loss.deep_supervision,
    )
    return model, recipe


def measure(network: Network, device: str, precision: Any, threads: int, steps: int, results: Any) -> None:
    """Builds one network and trains it on noise; puts seconds a step and bytes into `results`."""
    _, _, channels, classes, crop = network
    target = resolve_device(device)
    with seeding.deterministic(threads):
        model, settings = build(network)
        parameters = sum(p.numel() for p in model.parameters())
        estimate = estimate_bytes(model, channels, crop, 1, precision)
        model = model.to(target).train()
        optimizer = make_optimizer(model, settings.optimizer)
        image = torch.randn((1, channels, *crop), device=target)
        label = torch.randint(0, classes, (1, *crop), device=target)
        _reset_peak(target)
        seconds = []
        for _ in range(steps + 1):
            started = time.perf_counter()
            with autocast(target, precision):
                loss, _parts = supervised_loss(model(image), label, settings.loss)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            float(loss.detach())
            seconds.append(time.perf_counter() - started)
    results.put((parameters, statistics.median(seconds[1:]), _peak(target), estimate))


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measures every network in a process of its own and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "float32"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", default="", help="a backbone")
    given = parser.parse_args()
    env = environment(resolve_device(given.device), given.threads)
    print(f"{env.get('accelerator') or env['cpu']}, {given.threads} thread(s), {given.precision}, torch {torch.__version__}\n")
    print("| backbone | variant | crop | parameters | step, s | peak, GiB | estimated, GiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    context = multiprocessing.get_context("spawn")
    for network in NETWORKS:
        if given.only not in ("", network[0]):
            continue
        results = context.Queue()
        process = context.Process(
            target=measure, args=(network, given.device, given.precision, given.threads, given.steps, results)
        )
        process.start()
        process.join()
        crop = "×".join(map(str, network[4]))
        if process.exitcode:
            print(f"| `{network[0]}` | {network[1]} | {crop} | failed with exit code {process.exitcode} | | | |")
            continue
        parameters, seconds, peak, estimate = results.get()
        row = f"{parameters:,} | {seconds:.2f} | {peak / 2**30:.1f} | {estimate / 2**30:.1f}"
        print(f"| `{network[0]}` | {network[1]} | {crop} | {row} |", flush=True)


if __name__ == "__main__":
    main()
