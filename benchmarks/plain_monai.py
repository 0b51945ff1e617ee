"""A whole run as a plain script of MONAI: the peer of `initbench run` in `benchmarks.whole_runs`.

It is written as MONAI's tutorials are: prepared volumes in a `PersistentDataset`, patches from a `DataLoader`, one training loop,
sliding windows, `Invertd` and `DiceMetric`. The network, the patches, the steps and the inference are those of the tiny UNETR of
recipe generic-ct.
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path

import torch
from monai.data import DataLoader, PersistentDataset, decollate_batch
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.metrics import DiceMetric
from monai.networks.nets import UNETR
from monai.transforms import (
    AsDiscrete,
    AsDiscreted,
    Compose,
    CropForegroundd,
    EnsureTyped,
    Invertd,
    LoadImaged,
    Orientationd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandRotate90d,
    RandScaleIntensityd,
    RandShiftIntensityd,
    ScaleIntensityRanged,
    Spacingd,
    SpatialPadd,
)
from monai.utils import set_determinism

PATCH = (64, 64, 48)  # (X, Y, Z), as MONAI has its axes
BOTH = ["image", "label"]


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a data set in the Decathlon layout")
    parser.add_argument("--train", required=True, help="cases, by commas")
    parser.add_argument("--test", required=True, help="likewise")
    parser.add_argument("--spacing", type=float, nargs=3, required=True, help="mm along X, Y and Z")
    parser.add_argument("--classes", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="prepared volumes")
    parser.add_argument("--out", type=Path, required=True, help="weights")
    return parser.parse_args()


def main() -> None:
    """Trains, evaluates, and prints the mean Dice."""
    given = parse()
    torch.set_num_threads(1)
    set_determinism(0)
    prepared = [
        LoadImaged(BOTH, ensure_channel_first=True),
        Orientationd(BOTH, axcodes="RAS", labels=None),
        Spacingd(BOTH, pixdim=given.spacing, mode=("bilinear", "nearest")),
        ScaleIntensityRanged("image", -175.0, 250.0, 0.0, 1.0, clip=True),
        CropForegroundd(BOTH, source_key="image", allow_smaller=True),
        EnsureTyped(BOTH),
    ]
    drawn = [
        SpatialPadd(BOTH, spatial_size=PATCH),
        RandCropByPosNegLabeld(BOTH, label_key="label", spatial_size=PATCH, pos=1, neg=1, num_samples=1),
        *(RandFlipd(BOTH, prob=0.2, spatial_axis=axis) for axis in range(3)),
        RandRotate90d(BOTH, prob=0.2, spatial_axes=(0, 1)),
        RandScaleIntensityd("image", factors=0.1, prob=0.1),
        RandShiftIntensityd("image", offsets=0.1, prob=0.1),
    ]
    files = {}
    for name in (*given.train.split(","), *given.test.split(",")):
        files[name] = {"image": given.data / "imagesTr" / f"{name}.nii.gz", "label": given.data / "labelsTr" / f"{name}.nii.gz"}
    training = PersistentDataset([files[name] for name in given.train.split(",")], Compose([*prepared, *drawn]), given.cache)
    loader = DataLoader(training, batch_size=2, shuffle=True, num_workers=0)
    model = UNETR(
        in_channels=1,
        out_channels=given.classes,
        img_size=PATCH,
        feature_size=8,
        hidden_size=96,
        mlp_dim=192,
        num_heads=4,
        proj_type="perceptron",
    )
    loss_function = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, smooth_nr=1e-5, smooth_dr=1e-5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-5)
    warm = max(1, round(0.05 * given.steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / (given.steps - warm)))),
    )
    model.train()
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    for step, batch in enumerate(itertools.islice(batches, given.steps)):
        optimizer.zero_grad()
        loss = loss_function(model(batch["image"]), batch["label"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 10 == 9:
            print(f"step {step + 1}: loss {loss.item():.3f}")
    torch.save(model.state_dict(), given.out)
    evaluate(model, given, Compose(prepared), files)


def evaluate(model: UNETR, given: argparse.Namespace, prepared: Compose, files: dict[str, dict[str, Path]]) -> None:
    """Prints the mean Dice of the test cases on their native grids."""
    # Without what was done to an image, which the cache leaves out unless it is asked to keep it, nothing can be inverted.
    cases = [files[name] for name in given.test.split(",")]
    tested = PersistentDataset(cases, prepared, given.cache, track_meta=True, weights_only=False)
    back = Compose(
        [
            Invertd("found", prepared, orig_keys="image", nearest_interp=False),
            AsDiscreted("found", argmax=True, to_onehot=given.classes),
        ]
    )
    reference = LoadImaged("label", ensure_channel_first=True)
    one_hot = AsDiscrete(to_onehot=given.classes)
    metric = DiceMetric(include_background=False)
    model.eval()
    with torch.inference_mode():
        for name, case in zip(given.test.split(","), DataLoader(tested, batch_size=1), strict=True):
            case["found"] = sliding_window_inference(case["image"], PATCH, 4, model, overlap=0.5).softmax(1)
            [found] = [back(item)["found"] for item in decollate_batch(case)]
            metric([found], [one_hot(reference({"label": files[name]["label"]})["label"])])
    print(f"Dice {100 * metric.aggregate().item():.1f}")


if __name__ == "__main__":
    main()
