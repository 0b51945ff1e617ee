"""Checks the shapes of the outputs of a backbone, and its deep supervision."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from initbench.protocols import Grid, structure_of
from initbench.validation.backbones.subject import CLASSES, Subject
from initbench.validation.checks import BrokenPromiseError
from initbench.validation.wording import no


def check_output(subject: Subject) -> str:
    """Checks that a backbone gives logits ``(N, K, D, H, W)`` for every number of channels, in memory that it does not keep."""
    for channels in subject.channels:
        model, image = subject.build(channels=channels).eval(), subject.image(channels)
        with torch.no_grad():
            output = model(image)
        _logits(subject, output, f"{channels} channels", subject.patch)
        _check_kept(model, image, output)
    return f"{(subject.batch, CLASSES, *subject.patch)} from {' and '.join(map(str, subject.channels))} channels"


def _check_kept(model: nn.Module, image: Tensor, output: Tensor) -> None:
    """Checks that a network writes its next output elsewhere: sliding windows overwrite the one that they got.

    Raises:
        BrokenPromiseError: both outputs share their memory.
    """
    with torch.no_grad():
        again = model(image)
    if again.untyped_storage().data_ptr() == output.untyped_storage().data_ptr():
        raise BrokenPromiseError("keeps the memory of its output and writes the next one there: return a clone")


def check_dimension(subject: Subject) -> str:
    """Checks that a network of slices takes patches of one slice, and gives each slice of a volume its own output."""
    info = subject.info
    if info.dimension == 3:
        if info.most_batch:
            return f"volumes, {info.most_batch} patch at a time"
        return "volumes"
    deep = [variant for variant, rule in info.patches.items() if rule.depth != 1]
    no(deep, "a patch of slices is PatchRule(..., depth=1), and is not in variant")
    model = subject.build().eval()
    levels = structure_of(model).levels
    other = [level.module for level in levels if level.layout not in ("NCHW", "NLC")]
    no(other, "the layout of a level of slices is NCHW or NLC, and is not of")
    slices = subject.image().transpose(0, 2)  # (1, C, slices, H, W)
    with torch.no_grad():
        together = model(slices)
        alone = torch.cat([model(one_slice) for one_slice in torch.split(slices, 1, dim=2)], dim=2)
    if together.shape != alone.shape or not torch.allclose(together, alone, rtol=1e-4, atol=1e-5):
        raise BrokenPromiseError("the slices of a volume do not get the output that each gets alone: see slice_by_slice")
    return "slices along D; the unit of a batch is a slice"


def check_deep_supervision(subject: Subject) -> str:
    """Checks that deep supervision gives a list, finest first, whose first element is the output without it."""
    plain, deep = subject.build().eval(), subject.build(deep=True).eval()
    unknown = deep.load_state_dict(plain.state_dict(), strict=False).unexpected_keys
    no(unknown, "without deep supervision there are keys that are not there with it")
    image = subject.image()
    with torch.no_grad():
        expected, outputs = plain(image), deep(image)
        in_training = deep.train()(image)
    if not isinstance(outputs, list) or not isinstance(in_training, list):
        raise BrokenPromiseError(
            f"gives {type(outputs).__name__} in evaluation, {type(in_training).__name__} in training, not list"
        )
    _logits(subject, outputs[0], "the first output", subject.patch)
    grids = [tuple(output.shape[2:]) for output in outputs]
    for output, (finer, grid) in zip(outputs[1:], itertools.pairwise(grids), strict=True):
        _logits(subject, output, "a coarser output")
        if np.greater(grid, finer).any():
            raise BrokenPromiseError(f"outputs are not finest first: {grids}")
    if not torch.allclose(outputs[0], expected, rtol=1e-4, atol=1e-5):
        raise BrokenPromiseError("the first output is not the one without deep supervision")
    return f"{len(outputs)} of {', '.join(map(str, grids))}"


def _logits(subject: Subject, output: Any, what: str, grid: Grid | None = None) -> None:
    """Checks that an output holds finite logits ``(N, K, D, H, W)``.

    Args:
        subject: gives the batch.
        output: of the network.
        what: the output, as the message names it.
        grid: (D, H, W) that the logits must have; any where None.

    Raises:
        BrokenPromiseError: the output is something else.
    """
    if not isinstance(output, Tensor):
        raise BrokenPromiseError(f"{what}: gives {type(output).__name__}, not a tensor")
    expected = (subject.batch, CLASSES, *(grid or output.shape[2:]))
    if tuple(output.shape) != expected or output.ndim != 5:
        raise BrokenPromiseError(f"{what}: gives {tuple(output.shape)}, not {expected}")
    if not bool(output.isfinite().all()):
        raise BrokenPromiseError(f"{what}: gives values that are not finite")
