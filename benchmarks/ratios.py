"""What initbench takes beside peers that do the same work, as ratios: ``python -m benchmarks.ratios [PART ...]``.

Everything runs in one process by turns, so that a busy machine slows all of them. A row gives the median over the turns of
peer / initbench, above 1 where initbench is faster, with the least and the largest. On the CPU processor seconds count, on a GPU
the time until the device is done.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import initbench
from benchmarks import case_parts, preprocessing_peers, whole_runs
from benchmarks.turns import HEAD, Row, Setting, Target, compare
from initbench import seeding
from initbench.evaluation.inference import predict_probabilities, window_starts
from initbench.harness.regimens import plain_task
from initbench.protocols import Grid
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Recipe
from initbench.sampling.samplers import PatchSampler
from initbench.sampling.volumes import Volume, cut, make_volume
from initbench.training.loop import FitSettings, fit, make_optimizer
from initbench.training.losses import supervised_loss
from initbench.training.precision import autocast

STEPS = 2  # of the harness and of the bare loop, in one turn


# --- patches ----------------------------------------------------------------------------------------------------------


def patches(setting: Setting) -> Iterator[Row]:
    """(a) Augmented batches of two patches, labels in a byte each, against MONAI's transforms and against bare copies."""
    for size in (setting.grid(96, 96, 96), setting.grid(48, 64, 48)):
        volumes = _volumes(setting)
        sampler = PatchSampler(volumes, _recipe().patch.model_copy(update={"size": size, "batch": 2}), _recipe().augment, 0)
        what = f"MONAI's, {_times(size)}"
        # Calls of less than a millisecond are repeated often: their first calls of a turn find nothing of theirs in the caches.
        often = Setting(setting.device, setting.turns, setting.repeats * 10, setting.scale)
        peers: dict[str, Target] = {
            "MONAI, indices cached, plain tensors": _monai_patches(volumes, size, tuned=True),
            "bare copies of the windows": functools.partial(_bare_copies, sampler, size),
            "bare copies, places and memory ready": _ready_copies(sampler, size),
        }
        yield from compare("patches", what, sampler.batch, peers, often)
        tutorial: dict[str, Target] = {"MONAI, as its tutorials": _monai_patches(volumes, size, tuned=False)}
        yield from compare("patches", what, sampler.batch, tutorial, setting)
        yield from _nnunet_patches(volumes, size, setting)


def _volumes(setting: Setting) -> list[Volume]:
    rng = np.random.default_rng(0)
    shape = setting.grid(176, 176, 176)
    made = []
    for _ in range(2):
        label = (rng.random(shape) < 0.01).astype(np.uint8)
        made.append(make_volume(rng.normal(size=(1, *shape)).astype(np.float32), label, setting.device))
    return made


@functools.cache
def _recipe() -> Recipe:
    return load_recipe("generic-ct", size="tiny", backbone="unetr", budget="smoke")


def _times(size: Grid) -> str:
    return "×".join(map(str, size))


def _bare_copies(sampler: PatchSampler, size: Grid, step: int) -> tuple[Tensor, Tensor]:
    """A batch that is drawn, cut and stacked, and not augmented."""
    places = sampler._places(seeding.rng(0, "order", step))
    images = torch.stack([cut(volume.image, start, size) for volume, start in places])
    return images, torch.stack([cut(volume.label, start, size) for volume, start in places])


def _ready_copies(sampler: PatchSampler, size: Grid) -> Target:
    """Copies and nothing else: places are drawn before, and all batches are written into the same memory."""
    places = [sampler._places(seeding.rng(0, "order", step)) for step in range(200)]
    device = places[0][0][0].device
    image = torch.empty(2, 1, *size, device=device)
    label = torch.empty(2, *size, dtype=torch.uint8, device=device)

    def batch(step: int) -> None:
        for n, (volume, start) in enumerate(places[step % len(places)]):
            image[n] = cut(volume.image, start, size)
            label[n] = cut(volume.label, start, size)

    return batch


def _monai_patches(volumes: Sequence[Volume], size: Grid, *, tuned: bool) -> Target:
    """Batches by MONAI's dictionary transforms as LWI's UNETR has them; turns in the plane whose edges are alike."""
    from monai import transforms
    from monai.data import MetaTensor

    both = ["image", "label"]
    plane = (1, 2) if size[1] == size[2] else (0, 2)
    indices: dict[str, Any] = {"fg_indices_key": "foreground", "bg_indices_key": "background"} if tuned else {}
    steps: list[Any] = [
        transforms.RandCropByPosNegLabeld(keys=both, label_key="label", spatial_size=size, pos=1, neg=1, num_samples=1, **indices)
    ]
    steps += [transforms.RandFlipd(keys=both, prob=0.2, spatial_axis=axis) for axis in range(3)]
    steps += [
        transforms.RandRotate90d(keys=both, prob=0.2, spatial_axes=plane),
        transforms.RandScaleIntensityd(keys="image", factors=0.1, prob=0.1),
        transforms.RandShiftIntensityd(keys="image", offsets=0.1, prob=0.1),
    ]
    pipeline = transforms.Compose(steps).set_random_state(0)
    cases = []
    for volume in volumes:
        case: dict[str, Any] = {"image": volume.image, "label": volume.label[None]}
        if not tuned:
            case = {name: MetaTensor(tensor) for name, tensor in case.items()}
        flat = volume.host_label.ravel()
        cases.append(case | {"foreground": np.flatnonzero(flat), "background": np.flatnonzero(flat == 0)})
    rng = np.random.default_rng(0)

    def batch(_: int) -> tuple[Tensor, Tensor]:
        items = [pipeline(cases[int(rng.integers(len(cases)))])[0] for _ in range(2)]
        return torch.stack([item["image"] for item in items]), torch.stack([item["label"] for item in items])

    return batch


def _nnunet_patches(volumes: Sequence[Volume], size: Grid, setting: Setting) -> list[Row]:
    """nnU-Net's augmentation of patches that are cut already, where its library is installed; it works on the CPU alone."""
    if importlib.util.find_spec("batchgeneratorsv2") is None or setting.device.type != "cpu":
        return []
    from benchmarks.nnunet_peer import make_pipeline

    augmentation = _recipe().augment.model_copy(update={"family": "nnunet"})
    sampler = PatchSampler(volumes, _recipe().patch.model_copy(update={"size": size, "batch": 2}), augmentation, 0)
    pipeline = make_pipeline(size)

    def theirs(step: int) -> list[Any]:
        places = sampler._places(seeding.rng(0, "order", step))
        made = []
        for volume, start in places:
            larger: Grid = (min(size[0] * 3 // 2, volume.shape[0]), size[1] * 3 // 2, size[2] * 3 // 2)
            outer = [first - (wide - edge) // 2 for first, wide, edge in zip(start, larger, size, strict=True)]
            image, label = cut(volume.image, outer, larger).clone(), cut(volume.label, outer, larger).clone()
            made.append(pipeline(image=image, segmentation=label[None].to(torch.int16)))
        return made

    few = Setting(setting.device, setting.turns, max(1, setting.repeats // 2), setting.scale)
    return compare("patches", f"nnU-Net's, {_times(size)}", sampler.batch, {"batchgeneratorsv2": theirs}, few)


# --- a step -----------------------------------------------------------------------------------------------------------


def steps(setting: Setting) -> Iterator[Row]:
    """(b) Some steps of the harness at tiny size against as many of a bare loop on one batch."""
    few = Setting(setting.device, setting.turns, 1, setting.scale)
    for backbone in ("unetr", "unetrpp", "swin-unetr"):
        yield from compare("step", f"{STEPS} steps of {backbone}, tiny", *_some_steps(backbone, setting), few)


def _some_steps(backbone: str, setting: Setting) -> tuple[Target, dict[str, Target]]:
    recipe = load_recipe("generic-ct", size="tiny", backbone=backbone, budget="smoke")
    # The network with windows of attention takes multiples of 32.
    size = setting.grid(48, 64, 64) if setting.scale == 1 and backbone != "swin-unetr" else (32, 64, 64)
    settings = recipe.patch.model_copy(update={"size": size})
    device = setting.device

    def network() -> nn.Module:
        model = initbench.build(backbone, in_channels=1, num_classes=2, patch_size=size, size="tiny")
        return model.to(device).train()

    sampler = PatchSampler(_volumes(setting), settings, recipe.augment, 0)
    task = plain_task(network(), sampler, recipe.loss, device)
    model = network()
    batch = sampler.batch(0)

    def ours(_: int) -> None:
        with seeding.deterministic(1):
            fit(task, FitSettings(STEPS, recipe.optimizer, "float32", device, 0, "train"))

    def bare(_: int) -> None:
        with seeding.deterministic(1), seeding.memory_of(device):
            optimizer = make_optimizer(model, recipe.optimizer)
            for _step in range(STEPS):
                optimizer.zero_grad(set_to_none=True)
                with autocast(device, "float32"):
                    loss, _parts = supervised_loss(model(batch.image), batch.label, recipe.loss)
                loss.backward()  # type: ignore[no-untyped-call]
                if recipe.optimizer.clip:
                    nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip)
                optimizer.step()

    return ours, {"bare steps": bare}


# --- windows ----------------------------------------------------------------------------------------------------------


def windows(setting: Setting) -> Iterator[Row]:
    """(d) Windows of a case, from the image to probabilities, against MONAI's sliding window and a softmax."""
    from monai.inferers import sliding_window_inference

    few = Setting(setting.device, setting.turns, 1, setting.scale)
    for classes, volume, patch in ((2, (128, 160, 160), (48, 64, 64)), (14, (112, 160, 160), (96, 96, 96))):
        size = setting.grid(*patch)
        image = torch.randn(1, *setting.grid(*volume), device=setting.device)
        for blend, average in itertools.product(("constant", "gaussian"), ("logits", "probabilities")):
            chosen = _recipe().inference.model_copy(update={"blend": blend, "average": average, "mirror": False})
            network = case_parts.Ready(classes, size, chosen.batch, setting.device).eval()

            def ours(
                _: int, network: nn.Module = network, image: Tensor = image, size: Grid = size, chosen: Any = chosen
            ) -> None:
                predict_probabilities(network, image, size, chosen, "float32")

            def theirs(
                _: int, network: nn.Module = network, image: Tensor = image, size: Grid = size, chosen: Any = chosen
            ) -> None:
                with torch.inference_mode():
                    found = sliding_window_inference(
                        image[None], size, chosen.batch, network, overlap=chosen.overlap, mode=chosen.blend
                    )
                    found[0].softmax(0)

            number = len(list(itertools.product(*map(window_starts, image.shape[1:], size, [chosen.overlap] * 3))))
            what = f"{number} windows of {_times(size)}, {classes} classes, {blend}, averaged {average}"
            yield from compare("windows", what, ours, {"MONAI, logits": theirs}, few)


PARTS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "patches": patches,
    "step": steps,
    "windows": windows,
    "case": case_parts.compare_case,
    "preprocessing": preprocessing_peers.compare_preprocessing,
    "start": whole_runs.compare_starts,
    "run": whole_runs.compare_runs,
}


def main() -> None:
    """Prints a Markdown table row by row, and writes JSON where that is asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    short = [part for part in PARTS if part != "run"]
    parser.add_argument("parts", nargs="*", default=short, metavar="PART", help=f"of {', '.join(PARTS)}; all but run by default")
    parser.add_argument("--steps", type=int, default=120, help="of the runs of part run")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--scale", type=float, default=1.0, help="of the edges of volumes and patches")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    setting = Setting(torch.device(given.device), given.turns, scale=given.scale, steps=given.steps)
    print(HEAD)
    rows: list[Row] = []
    for part in given.parts:
        for row in PARTS[part](setting):
            rows.append(row)
            print(row.as_markdown(), flush=True)
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
