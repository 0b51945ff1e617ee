"""A training step with channels last beside the same step with channels first: ``python -m benchmarks.layouts``.

The paper-size networks are trained on noise by turns, batch 1. A ratio above 1 says that channels last is faster.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks import turns
from benchmarks.paper_size import NETWORKS, Network, build
from initbench import seeding
from initbench.harness.hardware import resolve_device, resolve_precision
from initbench.training.losses import supervised_loss
from initbench.training.precision import Precision, autocast


def compare(backbone: str, device: torch.device, precision: Precision, count: int) -> str:
    """The row of a network: median seconds of a step, and the ratio with its least and largest."""
    network = next(network for network in NETWORKS if network[0] == backbone)
    targets = {
        "first": _steps(network, torch.contiguous_format, device, precision),
        "last": _steps(network, torch.channels_last_3d, device, precision),
    }
    with seeding.deterministic(1), seeding.memory_of(device):
        seconds = turns.in_turns(targets, turns.Setting(device, count, repeats=1))
    row = turns.row_of("", "", "", seconds["last"], seconds["first"])
    ratio = f"{row.ratio:.2f} ({row.least:.2f} to {row.largest:.2f})"
    return f"| `{backbone}` | {precision} | {row.theirs:.2f} | {row.ours:.2f} | {ratio} |"


def _steps(network: Network, layout: torch.memory_format, device: torch.device, precision: Precision) -> turns.Target:
    """A function that takes a step of a network in a layout, without the optimizer."""
    _, _, channels, _, crop = network
    model, recipe = build(network)
    model = model.to(device, memory_format=layout).train()  # type: ignore[call-overload]
    image = torch.randn((1, channels, *crop), device=device).to(memory_format=layout)
    label = torch.zeros((1, *crop), dtype=torch.uint8, device=device)

    def step(_: int) -> None:
        with autocast(device, precision):
            loss, _parts = supervised_loss(model(image), label, recipe.loss)
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]

    return step


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbones", nargs="*", default=["unetr", "unetrpp"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    device = resolve_device(given.device)
    print("| network | precision | channels first, s | channels last, s | first / last |\n| --- | --- | --- | --- | --- |")
    for backbone in given.backbones:
        for precision in dict.fromkeys((resolve_precision("auto", device), "float32")):
            print(compare(backbone, device, precision, given.turns), flush=True)


if __name__ == "__main__":
    main()
