"""Counts what a training step asks of a device, without a clock and without the device: ``python -m benchmarks.step_counts``.

The batch, the forward and the backward pass run on torch's meta device, which has shapes and no values; volumes and network lie
there as they would lie on a GPU. The optimizer is left out: on CUDA it is fused, elsewhere it is not. With ``--write`` the table
`TABLE` gets the numbers of this torch version, from which a test lets nothing stray by more than two per cent.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from initbench import registry
from initbench.catalog import BACKBONES
from initbench.harness.build import construct
from initbench.harness.memory import on_meta
from initbench.harness.regimens import plain_task
from initbench.protocols import PatchRule
from initbench.recipes.load import load_recipe
from initbench.sampling.samplers import PatchSampler
from initbench.sampling.volumes import Volume
from initbench.spec import Spec
from initbench.training.loop import backward

TABLE = Path(__file__).with_suffix(".json")
CLASSES = 3
META = torch.device("meta")
_NO_KERNEL = ("empty", "detach", "_unsafe_view", "_reshape_alias", "lift_fresh", "alias", "set_")  # nothing is computed
_READS = ("_local_scalar_dense", "item", "is_nonzero", "equal")


class StepCounts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operators that are called inside the block.

    Attributes:
        kernels: operators that compute; views and fresh memory are none.
        reads: values that the host waits for.
        copies: tensors that go from the host to the device.
        moved: bytes that kernels read and write.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels = self.reads = self.copies = self.moved = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Counts one operator."""
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self._count(name, given, made, is_view=func.is_view)
        return result

    def _count(self, name: str, given: list[Tensor], made: list[Tensor], *, is_view: bool) -> None:
        devices = {tensor.device for tensor in (*given, *made)}
        if name in _READS:
            self.reads += 1
        elif len(devices) > 1 and name in ("_to_copy", "copy_"):
            self.copies += 1
        elif META in devices and not is_view and not name.startswith(_NO_KERNEL):
            self.kernels += 1
            self.moved += sum(tensor.numel() * tensor.element_size() for tensor in (*given, *made))

    def as_row(self) -> dict[str, int]:
        """The numbers by name."""
        return {"kernels": self.kernels, "reads": self.reads, "copies": self.copies, "moved": self.moved}


def count_step(backbone: str) -> dict[str, int]:
    """Counts a step of plain training of a network at tiny size, with its own recipe's loss and augmentation."""
    recipe = load_recipe("phantom-lung", size="tiny", backbone=backbone, budget="smoke")
    component = registry.find("backbone", Spec(backbone))
    variant = component.info.variants[0]
    patch = component.info.patches.get(variant, PatchRule((16, 16, 16))).at_least(recipe.patch.size)
    with torch.random.fork_rng(devices=[]):
        made = construct(
            component,
            in_channels=1,
            num_classes=CLASSES,
            patch_size=patch,
            size="tiny",
            variant=variant,
            deep_supervision=recipe.loss.deep_supervision,
        )
    host = np.zeros([2 * edge for edge in patch], np.uint8)
    host[tuple(edge // 2 for edge in host.shape)] = 1
    image = torch.empty((1, *host.shape), device=META)
    volume = Volume(image, torch.empty(host.shape, dtype=torch.uint8, device=META), np.flatnonzero(host), host)
    settings = recipe.patch.model_copy(update={"size": patch})
    sampler = PatchSampler([volume], settings, recipe.augment, 0)
    task = plain_task(on_meta(made).train(), sampler, recipe.loss, META)
    counts = StepCounts()
    with counts:
        backward(task, task.batch(0), META, "float32")
    return counts.as_row()


def version() -> str:
    """Of torch, without what does not change its operators."""
    return ".".join(torch.__version__.split(".")[:2])


def read_table() -> dict[str, dict[str, dict[str, int]]]:
    """The committed numbers: by version of torch, then by backbone."""
    table: dict[str, dict[str, dict[str, int]]] = json.loads(TABLE.read_text("utf-8")) if TABLE.exists() else {}
    return table


def measure(tell: Callable[[str], None]) -> dict[str, dict[str, int]]:
    """The numbers of every built-in network."""
    rows = {}
    for backbone in BACKBONES:
        rows[backbone] = count_step(backbone)
        row = rows[backbone]
        tell(f"| `{backbone}` | {row['kernels']} | {row['reads']} | {row['copies']} | {row['moved'] / 2**20:,.0f} |")
    return rows


def main() -> None:
    """Prints a Markdown table, and writes the numbers down where that is asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the numbers of this torch into {TABLE.name}")
    given = parser.parse_args()
    print("| backbone (tiny) | kernels | device reads | copies from the host | MiB moved |\n| --- | --- | --- | --- | --- |")
    rows = measure(print)
    if given.write:
        TABLE.write_text(json.dumps(read_table() | {version(): rows}, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
