"""What bounds a training step: its arithmetic or the memory. ``python -m benchmarks.roofline`` prints a table.

FLOPs and bytes of a step are counted on torch's meta device, at paper size with a batch of one, without the optimizer. The bytes
are those that operators read and write one after the other; caches and fused operators save some of them. What this machine
can do is measured with a matrix product, a convolution and a copy. It is all float32 on one thread of the CPU, processor time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.paper_size import NETWORKS, Network, build
from benchmarks.step_counts import META, StepCounts
from initbench.harness.memory import on_meta
from initbench.recipes.settings import Recipe
from initbench.training.losses import supervised_loss

GIGA = 1e9


@dataclass(frozen=True)
class Ceilings:
    """What a machine can do in a second.

    Attributes:
        product: floating-point operations of a matrix product of 2048 × 2048.
        convolution: likewise, of a 3-D convolution of 64 channels, forward and backward.
        copied: bytes that a copy of 512 MiB reads and writes.
    """

    product: float
    convolution: float
    copied: float


@dataclass(frozen=True)
class Work:
    """What a step asks for: floating-point operations, and bytes that its operators read and write."""

    flops: int
    moved: int

    def least_seconds(self, limits: Ceilings) -> tuple[float, float]:
        """The time that the arithmetic takes at the least, and the time that the memory takes."""
        return self.flops / max(limits.product, limits.convolution), self.moved / limits.copied


def ceilings() -> Ceilings:
    """Measures what this machine can do."""
    size, channels, edge = 2048, 64, 48
    one, other = torch.randn(size, size), torch.randn(size, size)
    image = torch.randn(1, channels, edge, edge, edge, requires_grad=True)
    weight = torch.randn(channels, channels, 3, 3, 3, requires_grad=True)
    source = torch.ones(2**27)
    target = torch.empty_like(source)

    def convolve() -> None:
        functional.conv3d(image, weight, padding=1).sum().backward()  # type: ignore[no-untyped-call]

    forward = 2 * channels * channels * 27 * edge**3
    return Ceilings(
        product=2 * size**3 / _fastest(lambda: one @ other),
        convolution=3 * forward / _fastest(convolve),
        copied=2 * source.nbytes / _fastest(lambda: target.copy_(source)),
    )


def count(network: Network) -> Work:
    """Counts a step of a network without computing it."""
    model, recipe = build(network)
    with FlopCounterMode(display=False) as flops, StepCounts() as counts:
        _step(on_meta(model).train(), recipe, network, META)
    return Work(flops.get_total_flops(), counts.moved)


def seconds_of_a_step(network: Network) -> float:
    """Measures a step of a network here."""
    model, recipe = build(network)
    model.train()
    return _fastest(lambda: _step(model, recipe, network, torch.device("cpu")), repeats=1)


def _step(model: nn.Module, recipe: Recipe, network: Network, device: torch.device) -> None:
    _, _, channels, _, crop = network
    image = torch.ones((1, channels, *crop), device=device)
    label = torch.zeros((1, *crop), dtype=torch.uint8, device=device)
    loss, _ = supervised_loss(model(image), label, recipe.loss)
    loss.backward()  # type: ignore[no-untyped-call]


def _fastest(target: Callable[[], object], repeats: int = 5) -> float:
    """Processor seconds of the fastest of some calls, after one that finds memory and kernels."""
    target()
    found = []
    for _ in range(repeats):
        started = time.process_time()
        target()
        found.append(time.process_time() - started)
    return min(found)


def row(network: Network, limits: Ceilings, *, timed: bool) -> str:
    """The row of a network."""
    work = count(network)
    arithmetic, memory = work.least_seconds(limits)
    bound = "arithmetic" if arithmetic > memory else "memory"
    cells = [f"`{network[0]}` {network[1]}", "×".join(map(str, network[4]))]
    cells += [f"{work.flops / GIGA:,.0f}", f"{work.moved / GIGA:,.1f}", f"{work.flops / work.moved:.0f}", bound]
    if timed:
        seconds = seconds_of_a_step(network)
        cells += [f"{seconds:.1f}", f"{arithmetic / seconds:.0%}", f"{memory / seconds:.0%}"]
    else:
        cells += ["", "", ""]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints what the machine can do, and the first network of each backbone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time", nargs="*", default=["unetr", "unetrpp", "transunet"], metavar="BACKBONE", help="what is timed")
    given = parser.parse_args()
    torch.set_num_threads(1)
    limits = ceilings()
    product, convolution, copied = (value / GIGA for value in (limits.product, limits.convolution, limits.copied))
    print(f"A matrix product reaches {product:.0f} GFLOP/s, a 3-D convolution {convolution:.0f}, a copy {copied:.1f} GB/s.\n")
    head = ["network", "crop", "GFLOP", "GB", "FLOPs a byte", "bound by", "step, s", "of the arithmetic", "of the memory"]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    first = {network[0]: network for network in reversed(NETWORKS)}
    for name in dict.fromkeys(network[0] for network in NETWORKS):
        print(row(first[name], limits, timed=name in given.time), flush=True)


if __name__ == "__main__":
    main()
