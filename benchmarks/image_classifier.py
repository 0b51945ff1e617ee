"""Trains the encoder of a tiny slice network to tell photographs apart, and writes its weights: image weights of tiny size.

    python -m benchmarks.image_classifier --backbone swin-unet --images tiny-imagenet-200/train --out swin-unet.pt

Published weights of images belong to networks of full width, so a network of tiny size can start from none of them. This makes
weights that fit, from a folder with one folder of JPEG files for each class, as Tiny ImageNet has them.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import initbench
from initbench.protocols import Structure

EDGE = 64
"""Of an image and of the patch that the network is built for, in pixels. Position tables fit no other patch."""
HELD_OUT = 10
"""Every tenth image of a class tells the accuracy and is not trained on."""
BATCH = 128
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
MARGIN = 4
"""An image is moved by up to this many pixels along each axis."""


class _EncoderDoneError(Exception):
    """Ends a forward pass behind the encoder, as the decoder has nothing to learn here."""


class Classifier(nn.Module):
    """The encoder of a slice network, the mean over its deepest tokens, and one linear layer."""

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network = network
        structure: Structure = network.structure  # type: ignore[assignment]
        deepest = structure.levels[-1]
        if deepest.layout != "NLC":
            raise SystemExit(f"image_classifier: the deepest level is {deepest.layout}, and this script pools tokens (N, L, C)")
        self.head = nn.Linear(deepest.channels, classes)
        self._tokens: Tensor | None = None
        network.get_submodule(deepest.module).register_forward_hook(self._stop)

    def _stop(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        self._tokens = output if isinstance(output, Tensor) else output[0]
        raise _EncoderDoneError

    def forward(self, images: Tensor) -> Tensor:
        """Scores ``(N, classes)`` of images ``(N, 3, H, W)``."""
        with contextlib.suppress(_EncoderDoneError):
            self.network(images[:, :, None])
        assert self._tokens is not None
        scores: Tensor = self.head(self._tokens.mean(1))
        return scores


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """All images ``(N, EDGE, EDGE, 3)`` of a folder as uint8, and the numbers of their classes."""
    images, labels = [], []
    for number, of_class in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        for file in sorted(of_class.rglob("*.JPEG")):
            with Image.open(file) as image:
                images.append(np.asarray(image.convert("RGB").resize((EDGE, EDGE))))
            labels.append(number)
    return np.stack(images), np.array(labels)


def batches(
    images: np.ndarray, labels: np.ndarray, draws: np.random.Generator, augmented: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the images, in random order where they are augmented: flipped left to right, and moved."""
    order = draws.permutation(len(images)) if augmented else np.arange(len(images))
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        batch = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1
        if augmented:
            if draws.random() < 0.5:
                batch = batch.flip(3)
            shift = draws.integers(-MARGIN, MARGIN + 1, 2).tolist()
            batch = torch.roll(batch, shift, (2, 3))
        yield batch, torch.from_numpy(labels[rows])


def accuracy(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of images whose class has the highest score."""
    model.eval()
    right = 0
    with torch.inference_mode():
        for batch, truth in batches(images, labels, np.random.default_rng(0), augmented=False):
            right += int((model(batch).argmax(1) == truth).sum())
    model.train()
    return right / len(images)


def for_decoder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the blocks of Swin-Unet's encoder for the decoder stage of the same width, as its release makes them."""
    copies = {}
    for name, value in weights.items():
        block = re.fullmatch(r"swin_unet\.layers\.([012])\.blocks\.(.+)", name)
        if block:
            copies[f"swin_unet.layers_up.{3 - int(block[1])}.blocks.{block[2]}"] = value
    return copies


def main() -> None:
    """Reads the arguments, trains, and writes the weights after each epoch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backbone", required=True, help="a slice network, such as swin-unet")
    parser.add_argument("--images", type=Path, required=True, help="a folder with one folder of JPEG files for each class")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="the file of weights to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    draws = np.random.default_rng(0)
    images, labels = read(arguments.images)
    held_out = np.arange(len(images)) % HELD_OUT == 0
    network = initbench.build(arguments.backbone, in_channels=3, num_classes=2, patch_size=(1, EDGE, EDGE), size="tiny")
    model = Classifier(network, int(labels.max()) + 1)
    steps = arguments.epochs * -(-int((~held_out).sum()) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    began = time.process_time()
    for epoch in range(arguments.epochs):
        for batch, truth in batches(images[~held_out], labels[~held_out], draws, augmented=True):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(batch), truth, label_smoothing=0.1)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        # Only what got a gradient belongs to the encoder.
        trained = {name for name, value in network.named_parameters() if value.grad is not None}
        weights = {name: value for name, value in network.state_dict().items() if name in trained}
        torch.save(weights | for_decoder(weights), arguments.out)
        share = accuracy(model, images[held_out], labels[held_out])
        minutes = (time.process_time() - began) / 60
        print(f"epoch {epoch + 1} of {arguments.epochs}: accuracy {share:.1%}, {minutes:.1f} minutes of a processor", flush=True)


if __name__ == "__main__":
    main()
