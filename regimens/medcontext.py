"""MedContext: the network also learns from images of which it sees a part, beside a slow copy of itself that sees them whole.

Paper: Gani et al., "MedContext: Learning Contextual Cues for Efficient Volumetric Medical Segmentation", MICCAI 2024,
arXiv:2402.17725.
Source: hananshafi/MedContext@6b97c57e.
Licence: the code has none as a whole; written anew from a description in words.

A step has two branches on one batch. The student, which is the network that is kept, segments the patches as in plain training.
Then it segments them again with some of its tokens hidden behind a learned mask token. The teacher, a moving average of the
student, sees the whole patches and gets no gradient. With logits ``z``::

    L = sup(z_whole, y) + sup(z_hidden, y) + beta * C(z_teacher, z_hidden),    C = mean((z_teacher - z_hidden)**2) / |z_teacher|

After the optimizer's step the teacher becomes ``m * teacher + (1 - m) * student``. Buffers are copied, so the
teacher's batch norms (UNETR++) have the student's statistics. Batch norm sees two passes a step: its running statistics move
twice, over whole patches and over hidden ones.

The norm of the logits grows with the number of voxels, so C is small: on the recorded step of the release it is 3e-5 of the
loss. What changes training is the second supervised pass. ``beta=0`` is that pass alone, ``norm=mean`` a consistency that counts.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from initbench.errors import UsageError
from initbench.protocols import BACKWARD, FORWARD, PLAIN_UNITS, Grid, RegimenContext, Structure, Tokens, regimen

Norm = Literal["l2", "mean", "rms"]
Ema = Literal["cosine", "released-unetr", "released-nnformer"]
MaskAt = Literal["auto", "tokens", "image"]
MaskSkip = Literal["released", "image"]
TeacherMode = Literal["eval", "train"]
Tube = Literal["depth", "width"]

BASE = 0.996
"""Momentum of the teacher at the start of the cosine."""
MEMORY = round(1 / (1 - BASE))
"""Steps that a moving average of momentum `BASE` remembers."""
HALF_LIFE = round(math.log(0.5) / math.log(BASE))
RATIO = 0.4
OTHER_RATIOS = {("unetr", ""): 0.6, ("nnformer", "tumor"): 0.6}
"""Share of tokens that the release hides, where it is not `RATIO`, by network and variant; "" is every variant."""


def consistency(teacher: Tensor, student: Tensor, norm: Norm = "l2") -> Tensor:
    """Returns how far the student's logits are from the teacher's; no gradient reaches the teacher.

    Args:
        teacher: logits of any shape.
        student: logits of the same shape.
        norm: what the mean squared difference is divided by: ``l2`` the norm over the whole tensor, ``rms`` the mean square of
            the teacher's logits, ``mean`` nothing.
    """
    wide = torch.promote_types(student.dtype, torch.float32)
    target, logits = teacher.detach().to(wide), student.to(wide)
    difference = (target - logits).square().mean()
    if norm == "l2":
        size: Tensor = torch.linalg.vector_norm(target)
        return difference / size
    if norm == "rms":
        return difference / target.square().mean()
    return difference


def scheduled(step: int, steps: int, warmup: int = 0) -> float:
    """Returns the momentum of the published schedule: from 0 to `BASE` in a line, then up to 1 along half a cosine.

    Args:
        step: from 0.
        steps: of the stage.
        warmup: number of steps on the line; 0 begins with the cosine.
    """
    if step < warmup:
        return BASE * step / (warmup - 1)
    return 1 - (1 - BASE) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def released_unetr(step: int, steps: int) -> float:
    """Returns the momentum of the release's UNETR, whose teacher moves after the last of the 18 steps of an epoch."""
    epoch = 18
    last = epoch - 1
    if step % epoch != last:
        return 1.0
    return scheduled(last, 5000 * epoch, 50 * epoch)


def released_nnformer(step: int, steps: int) -> float:
    """Returns the momentum of the release's nnFormer, whose teacher becomes the student at the start of every 250 steps."""
    return scheduled(step % 250, 1000 * 500, 10 * 500)


MOMENTUM: dict[Ema, Callable[[int, int], float]] = {
    "cosine": scheduled,
    "released-unetr": released_unetr,
    "released-nnformer": released_nnformer,
}
"""Momentum of the teacher after a step of a number of steps; 1 leaves the teacher as it is."""


@torch.no_grad()
def update(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Moves the teacher's parameters towards the student's, and copies the student's buffers.

    Args:
        teacher: changed in place.
        student: has the same parameters and buffers in the same order.
        momentum: share of the teacher that stays, from 0 to 1.
    """
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.mul_(momentum).add_(fast, alpha=1 - momentum)
    for kept, current in zip(teacher.buffers(), student.buffers(), strict=True):
        kept.copy_(current)


@dataclass(frozen=True)
class Hidden:
    """Which part of a patch is hidden: squares of a plane, at the same place along the whole tube.

    Attributes:
        grid: ``(D, H, W)`` tokens, or voxels, of the patch.
        cell: edge of a square.
        ratio: share of the squares.
        tube: the axis along which all planes hide the same.
    """

    grid: Grid
    cell: int
    ratio: float
    tube: Tube = "depth"

    def __post_init__(self) -> None:
        """Refuses what hides nothing, everything, or parts of squares."""
        if not 0 < self.ratio < 1:
            raise UsageError(f"medcontext: ratio={self.ratio:g}: the share that is hidden lies between 0 and 1, as in ratio=0.4")
        plane = self._plane()
        if self.cell < 1 or plane[0] % self.cell or plane[1] % self.cell:
            common = math.gcd(*plane)
            works = ", ".join(str(edge) for edge in range(1, common + 1) if common % edge == 0)
            raise UsageError(
                f"medcontext: squares of {self.cell} do not divide the plane of {plane[0]} × {plane[1]} that the mask is drawn "
                f"on; cell= takes {works}"
            )
        if not self.count:
            raise UsageError(
                f"medcontext: ratio={self.ratio:g} hides none of {self.squares} squares; raise it to {1 / self.squares:.2g}"
            )

    def _plane(self) -> tuple[int, int]:
        """Returns rows and columns of the plane across the tube."""
        depth, height, width = self.grid
        if self.tube == "depth":
            return height, width
        return depth, height

    @property
    def squares(self) -> int:
        """Number of squares of a plane."""
        rows, columns = self._plane()
        return (rows // self.cell) * (columns // self.cell)

    @property
    def count(self) -> int:
        """Number of squares that are hidden."""
        return int(self.ratio * self.squares)

    def draw(self, rng: np.random.Generator) -> Tensor:
        """Draws which tokens are hidden: ``(D, H, W)`` bool, true where a token is hidden, for a whole batch."""
        rows, columns = self._plane()
        chosen = torch.zeros(self.squares, dtype=torch.bool)
        chosen[torch.from_numpy(rng.permutation(self.squares)[: self.count])] = True
        squares = chosen.reshape(rows // self.cell, columns // self.cell)
        plane = squares.repeat_interleave(self.cell, 0).repeat_interleave(self.cell, 1)
        return along(plane, self.grid, self.tube)


def along(plane: Tensor, grid: Grid, tube: Tube) -> Tensor:
    """Repeats a plane along the tube.

    Args:
        plane: ``(H, W)`` for ``depth``, ``(D, H)`` for ``width``.
        grid: ``(D, H, W)`` of the result.
        tube: axis along which the plane is repeated.
    """
    if tube == "depth":
        return plane.unsqueeze(0).expand(grid)
    return plane.unsqueeze(2).expand(grid)


def on_image(hidden: Tensor, patch: Grid) -> Tensor:
    """Enlarges a mask of tokens ``(D, H, W)`` to a mask of the voxels of a `patch`."""
    for axis, (size, count) in enumerate(zip(patch, hidden.shape, strict=True)):
        hidden = hidden.repeat_interleave(size // count, axis)
    return hidden


def swap(output: Tensor, hidden: Tensor, token: Tensor, tokens: Tokens) -> Tensor:
    """Puts the mask token in the place of hidden tokens.

    Args:
        output: of the module that makes the tokens, in the layout that `tokens` declares.
        hidden: ``(D, H, W)`` bool, the same for the whole batch.
        token: ``(channels,)``.
        tokens: where the network's tokens are.
    """
    if tokens.axes == "WHD":
        hidden = hidden.permute(2, 1, 0)
    if tokens.layout == "NLC":
        where, value = hidden.reshape(1, -1, 1), token
    elif tokens.layout == "NDHWC":
        where, value = hidden[None, ..., None], token
    else:
        where, value = hidden[None, None], token[:, None, None, None]
    return torch.where(where, value.to(output.dtype), output)


@contextlib.contextmanager
def hiding(network: nn.Module, tokens: Tokens, hidden: Tensor, token: Tensor) -> Iterator[None]:
    """Puts the mask token in the place of a network's hidden tokens, inside the block.

    Args:
        network: the student.
        tokens: where the network's tokens are.
        hidden: ``(D, H, W)`` bool, on the grid of the tokens.
        token: ``(channels,)``.
    """

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        """Replaces the hidden tokens of an `output`."""
        return swap(output, hidden, token, tokens)

    handle = network.get_submodule(tokens.module).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class Settings:
    """How a stage is run; see `medcontext`.

    Attributes:
        first_sample: whether consistency looks at the first sample of a batch alone.
    """

    beta: float
    norm: Norm
    ema: Ema
    teacher_mode: TeacherMode
    mask_skip: MaskSkip = "released"
    first_sample: bool = False


@dataclass(frozen=True)
class Patches:
    """A labelled batch, with the step at which it is trained on."""

    image: Tensor
    label: Tensor
    step: int


class Student(nn.Module):
    """The network with the mask token, which goes when training ends.

    Args:
        network: what is kept.
        width: channels of a token; None where the image itself is masked.
        device: of the network.
    """

    def __init__(self, network: nn.Module, width: int | None, device: torch.device) -> None:
        super().__init__()
        self.network = network
        self.mask_token: nn.Parameter | None = None
        if width is not None:
            self.mask_token = nn.Parameter(torch.zeros(width, device=device))


class MedContext:
    """The supervised stage with a masked second pass and a teacher."""

    def __init__(self, ctx: RegimenContext, hidden: Hidden, tokens: Tokens | None, settings: Settings) -> None:
        """Copies the network for the teacher, unless `settings.beta` is 0.

        Args:
            ctx: what the harness hands over.
            hidden: which part of a patch is hidden.
            tokens: where the network's tokens are; None to mask the image.
            settings: of the stage.
        """
        self.ctx = ctx
        self.hidden = hidden
        self.tokens = tokens
        self.settings = settings
        self.network = ctx.model
        width = None
        if tokens is not None:
            width = tokens.channels
        self.module = Student(ctx.model, width, ctx.device)
        # No submodule of what is trained: the optimizer, the weights of the run and the evaluation do not see it.
        self.teacher: nn.Module | None = None
        if settings.beta:
            self.teacher = ctx.copied().train(settings.teacher_mode == "train")

    def batch(self, step: int) -> Patches:
        """Returns the labelled batch of a step, the same as in plain training."""
        batch = self.ctx.batch(step)
        return Patches(batch.image, batch.label, step)

    def losses(self, batch: Patches) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Yields the loss on whole patches, then the loss on patches with hidden parts."""
        supervised = self._whole(batch)
        yield supervised, {"sup": supervised.detach()}
        supervised, consistent = self._hidden(batch)
        if consistent is None:
            yield supervised, {"sup_masked": supervised.detach()}
            return
        momentum = torch.tensor(self.momentum(batch.step), dtype=torch.float64)
        parts = {"sup_masked": supervised.detach(), "consistency": consistent.detach(), "ema_m": momentum}
        yield supervised + self.settings.beta * consistent, parts

    def loss(self, batch: Patches) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns both losses together; the loop takes `losses`, which needs half the memory."""
        (whole, named), (hidden, more) = self.losses(batch)
        return whole + hidden, named | more

    def terms(self, batch: Patches) -> Iterator[dict[str, Tensor]]:
        """Yields the weighted terms of each loss, to compare how much each of them trains the network."""
        yield {"sup": self._whole(batch)}
        supervised, consistent = self._hidden(batch)
        if consistent is None:
            yield {"sup_masked": supervised}
        else:
            yield {"sup_masked": supervised, "consistency": self.settings.beta * consistent}

    def _whole(self, batch: Patches) -> Tensor:
        """Returns the supervised loss on whole patches, as in plain training."""
        loss, _ = self.ctx.supervised(self.network(batch.image), batch.label)
        return loss

    def _hidden(self, batch: Patches) -> tuple[Tensor, Tensor | None]:
        """Returns the supervised loss on patches with hidden parts, and the consistency of their logits with the teacher's."""
        target = None
        if self.teacher is not None:
            with torch.no_grad():
                target = finest(self.teacher(batch.image))
        output = self.masked(batch.image, self.hidden.draw(self.ctx.rng(batch.step, "mask")))
        supervised, _ = self.ctx.supervised(output, batch.label)
        if target is None:
            return supervised, None
        return supervised, self._consistency(target, output)

    def masked(self, image: Tensor, hidden: Tensor) -> Any:
        """Returns the student's output on patches with hidden parts.

        Args:
            image: ``(N, C, D, H, W)``.
            hidden: ``(D, H, W)`` bool, on the grid of the tokens or of the voxels.
        """
        hidden = hidden.to(image.device)
        if self.tokens is None or self.module.mask_token is None:
            return self.network(image.masked_fill(hidden, 0.0))
        if self.settings.mask_skip == "image":
            image = image.masked_fill(on_image(hidden, self.ctx.structure.patch_size), 0.0)
        with hiding(self.network, self.tokens, hidden, self.module.mask_token):
            return self.network(image)

    def _consistency(self, target: Tensor, output: Any) -> Tensor:
        """Returns how far the student's `output` is from the teacher's logits."""
        logits = finest(output)
        if self.settings.first_sample and isinstance(output, Tensor):
            target, logits = target[:1], logits[:1]
        return consistency(target, logits, self.settings.norm)

    def momentum(self, step: int) -> float:
        """Returns the momentum of the teacher after a step; 1 without a teacher."""
        if self.teacher is None:
            return 1.0
        return MOMENTUM[self.settings.ema](step, self.ctx.steps)

    def after_step(self, step: int) -> None:
        """Updates the teacher from the student that the optimizer has just changed."""
        momentum = self.momentum(step)
        if self.teacher is not None and momentum < 1:
            update(self.teacher, self.network, momentum)

    def state(self) -> dict[str, Any]:
        """Returns the weights of the teacher, for a checkpoint."""
        if self.teacher is None:
            return {}
        return {"teacher": self.teacher.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Puts the teacher of a checkpoint back."""
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])

    def initial_share(self) -> float:
        """Returns the share of the initial student in the teacher at the end, from 0 to 1."""
        return math.prod(self.momentum(step) for step in range(self.ctx.steps))


def finest(output: Any) -> Tensor:
    """Returns the logits at full resolution, with and without deep supervision."""
    if isinstance(output, Tensor):
        return output
    logits: Tensor = output[0]
    return logits


def _units(params: Mapping[str, Any]) -> int:
    """Counts two passes of the student with their gradients, and one pass of the teacher unless beta is 0."""
    student = 2 * (FORWARD + BACKWARD)
    if not params["beta"]:
        return student
    return student + FORWARD


def _copies(params: Mapping[str, Any]) -> int:
    """Counts the teacher as a copy of the network, unless beta is 0."""
    return int(params["beta"] != 0)


@regimen(paper="arXiv:2402.17725", units=_units, copies=_copies)
def medcontext(
    ctx: RegimenContext,
    /,
    *,
    ratio: float | None = None,
    beta: float = 0.5,
    norm: Norm = "l2",
    ema: Ema = "cosine",
    mask_at: MaskAt = "auto",
    mask_skip: MaskSkip = "released",
    teacher_mode: TeacherMode = "eval",
    cell: int | None = None,
) -> MedContext:
    """Trains on whole patches and on patches with hidden tokens, with a moving-average teacher.

    Args:
        ctx: what the harness hands over.
        ratio: share of the tokens that are hidden; without it as in the release: 0.6 for UNETR and nnFormer (tumor), else 0.4.
        beta: weight of the consistency; 0 leaves the teacher out: masked augmentation alone.
        norm: what the consistency is divided by: ``l2`` as published, ``rms`` the mean square of the teacher's logits, ``mean``
            nothing.
        ema: momentum of the teacher: ``cosine`` from 0.996 to 1 at every step, or what the release does with UNETR or nnFormer.
        mask_at: ``tokens`` or ``image``; ``auto`` takes tokens where the network declares them.
        mask_skip: whether the layers that read the image see what is hidden (``released``), or zeros there (``image``).
        teacher_mode: ``eval``; ``train``, as released, leaves dropout and drop path of the teacher on.
        cell: edge of the squares that are hidden together, in tokens or voxels; without it what the network declares, or
            ``pretext.mask_patch`` of the recipe on the image.

    Raises:
        UsageError: the network or its grid does not take the mask.
    """
    structure, tokens = ctx.structure, ctx.structure.tokens
    if beta < 0:
        raise UsageError(f"medcontext: beta={beta:g}: choose a weight of the consistency of 0 or more")
    if mask_at == "tokens" and tokens is None:
        raise UsageError(
            f"medcontext: {structure.name or 'the network'} declares no tokens to hide; mask_at=image hides parts of the image"
        )
    if mask_at == "image":
        tokens = None
    if ratio is None:
        ratio = released_ratio(structure)
    if tokens is None:
        hidden = Hidden(structure.patch_size, cell or ctx.mask_patch, ratio)
    else:
        hidden = Hidden(tokens.grid, cell or tokens.cell, ratio)
    task = MedContext(ctx, hidden, tokens, Settings(beta, norm, ema, teacher_mode, mask_skip))
    _report(task, ema)
    return task


def released_ratio(structure: Structure) -> float:
    """Returns the share of tokens that the release hides in a network, from 0 to 1."""
    name = structure.name
    return OTHER_RATIOS.get((name, structure.variant), OTHER_RATIOS.get((name, ""), RATIO))


def _report(task: MedContext, ema: Ema) -> None:
    """Puts on record what was hidden, and says it where the teacher hardly moves."""
    hidden, mask_at = task.hidden, "image"
    if task.tokens is not None:
        mask_at = task.tokens.module
    details: dict[str, Any] = {
        "mask_at": mask_at,
        "hidden": f"{hidden.count} of {hidden.squares}",
        "ratio": hidden.ratio,
        "cell": hidden.cell,
        "tube": hidden.tube,
    }
    summary = ""
    if task.teacher is not None:
        left = task.initial_share()
        details |= {"ema_halflife_steps": HALF_LIFE, "ema_memory_steps": MEMORY, "initial_share": round(left, 4)}
        if ema == "cosine" and task.ctx.steps < MEMORY:
            summary = (
                f"the teacher is nearly the initial student: {left:.0%} of it after {task.ctx.steps} steps, fewer than the "
                f"{MEMORY} that its average remembers"
            )
    task.ctx.report(summary, details)


@dataclass(frozen=True)
class Released:
    """Settings of the release for one of its networks; see `Settings` and `Hidden`."""

    ratio: float
    beta: float
    ema: Ema
    tube: Tube = "depth"
    first_sample: bool = False


RELEASED = {
    # The first axis of its volumes is x.
    ("unetr", ""): Released(0.6, 0.5, "released-unetr", tube="width"),
    ("nnformer", "synapse"): Released(0.4, 0.4, "released-nnformer", first_sample=True),
    ("nnformer", "acdc"): Released(0.4, 0.5, "released-nnformer", first_sample=True),
    ("nnformer", "tumor"): Released(0.6, 0.5, "released-nnformer", first_sample=True),
}
"""By network and variant; "" is every variant. For tumor the release also has a beta of 1, without mixed precision."""


@regimen(paper="arXiv:2402.17725", units=2 * PLAIN_UNITS + FORWARD, copies=1)
def medcontext_as_released(ctx: RegimenContext, /) -> MedContext:
    """Does what the released code does, which differs from what is meant.

    - The teacher of UNETR is updated once in 18 steps with a momentum of 0.019, so it is last epoch's student. nnFormer's
      teacher follows the schedule's first 250 steps again and again, so it is the student itself every 250 steps.
    - The mask of UNETR is the same along x and not along the depth.
    - nnFormer without deep supervision compares the first sample of a batch alone: the code takes its logits for a list.
    - The teacher is in training mode, so its drop path is on.

    The code computes gradients of nnFormer's teacher and never uses them; they are not computed here. An epoch is 18 steps
    (UNETR) or 250 (nnFormer), whatever the data.

    Args:
        ctx: what the harness hands over.

    Raises:
        UsageError: the release has no such network.
    """
    structure, tokens = ctx.structure, ctx.structure.tokens
    name = structure.name
    known = RELEASED.get((name, structure.variant)) or RELEASED.get((name, ""))
    if known is None or tokens is None:
        raise UsageError(
            f"medcontext-as-released: the release trains unetr and nnformer, and this is {name or 'another network'}; "
            "--regimen medcontext takes it"
        )
    hidden = Hidden(tokens.grid, 1, known.ratio, known.tube)
    settings = Settings(known.beta, "l2", known.ema, "train", first_sample=known.first_sample)
    task = MedContext(ctx, hidden, tokens, settings)
    _report(task, known.ema)
    return task
