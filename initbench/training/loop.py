"""The one training loop: supervised stage and pretexts alike."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from initbench import interrupt, seeding
from initbench.errors import InterruptedRunError
from initbench.protocols import NoProgress, Progress, Task
from initbench.recipes.settings import Optimizer
from initbench.training.checkpoints import Checkpoints
from initbench.training.passes import Passes
from initbench.training.precision import Precision, autocast

_FLUSH = 10  # steps between reads of the device: a read per step would stall the GPU


@dataclass(frozen=True)
class FitSettings:
    """How a stage is trained. `stage` keeps the dropout numbers of the two stages apart; `until` ends it early, to look at it."""

    steps: int
    optimizer: Optimizer
    precision: Precision
    device: torch.device
    root: int
    stage: Literal["pretext", "train"]
    until: int | None = None


@dataclass
class Fit:
    """What a stage cost and how it went.

    Attributes:
        seconds_now: of `seconds`, those since the stage went on from a checkpoint.
        curve: one row a step: ``step, lr, loss`` and the loss's parts.
        diverged_at: first step whose loss was not finite; training stopped there.
        peak_memory: bytes; of the device on CUDA, of the process on the CPU.
        units: passes through the network that were counted: a forward is 1, a backward 2.
    """

    steps: int = 0
    seconds: float = 0.0
    seconds_now: float = 0.0
    patches: int = 0
    peak_memory: int = 0
    diverged_at: int | None = None
    curve: list[dict[str, float]] = field(default_factory=list)
    units: int = 0


class Validation(Protocol):
    """Looks at the network between two steps, and changes nothing that the stage depends on."""

    def is_due(self, step: int) -> bool:
        """Returns whether it is to look after `step` steps, and has not yet."""

    def measure(self, step: int, seconds: float) -> None:
        """Looks.

        Args:
            step: steps that were done.
            seconds: that the stage took until then.

        Raises:
            InterruptedRunError: somebody asked to stop meanwhile. It is due again then.
        """

    def state(self) -> dict[str, Any]:
        """Returns what it found so far, as tensors and plain values."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Puts back what `state` gave."""


PLATEAU_WARMUP = 50  # epochs of the released warm-up: from 0 to the full rate in 49 steps


def learning_rate(step: int, steps: int, settings: Optimizer) -> float:
    """Returns the learning rate of a step: linear warm-up to `lr`, then cosine to 0, polynomial decay, or constant.

    ``plateaus`` is what LWI's release amounts to (ShahinaKK/LWI-VMS@7f21654:UNETR/BTCV/trainer.py l.332): its warm-up of 50
    epochs from 0 is stepped once per 100 epochs: 800 are 8 plateaus, with a rate of k/49 of `lr` on the k-th, at most 7/49; the
    5000 of its supervised stage are 50.

    The first step has lr/warm-up steps, not 0: a stage of no-op steps is one of the released code's errors.

    Args:
        step: counted from 0.
        steps: of the stage.
        settings: the schedule, `lr`, and the share of the steps that is warm-up.
    """
    if settings.schedule == "plateaus":
        return settings.lr * (settings.plateaus * step // steps) / (PLATEAU_WARMUP - 1)
    warm = round(settings.warmup * steps)
    if step < warm:
        return settings.lr * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    if settings.schedule == "cosine":
        return settings.lr * 0.5 * (1 + math.cos(math.pi * done))
    if settings.schedule == "poly":
        return float(settings.lr * (1 - done) ** settings.poly_power)
    return settings.lr


def make_optimizer(module: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """Makes AdamW or SGD with Nesterov momentum over every parameter that wants a gradient; on CUDA with fused kernels."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    # None leaves the choice to torch: on the CPU a fused step rounds otherwise, and runs there would get other numbers.
    fused = None
    if parameters and all(parameter.is_cuda for parameter in parameters):
        fused = True
    if settings.name == "adamw":
        return torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=fused)
    return torch.optim.SGD(
        parameters,
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.weight_decay,
        fused=fused,
    )


def fit(
    task: Task,
    settings: FitSettings,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
    passes: Passes | None = None,
    validation: Validation | None = None,
) -> Fit:
    """Trains `task.module` in place, from its newest checkpoint where there is one.

    Every step is a function of (weights, optimizer state, step number): batches and dropout numbers come from counters, so a
    stage that went on from a checkpoint ends in the same bits as one that never stopped.

    Args:
        task: gives batches by step, and the loss of a batch.
        settings: steps, optimizer, precision, device.
        progress: told of steps and of the loss.
        checkpoints: where the stage is saved; None saves nothing.
        passes: counts the passes of the network.
        validation: looks at the network between steps; its seconds are not the stage's.

    Raises:
        InterruptedRunError: somebody asked to stop; the step in hand was finished and saved.
    """
    with seeding.memory_of(settings.device):
        stage = _Stage(task, settings, progress or NoProgress(), checkpoints, passes or Passes(), validation)
        return stage.run()


class _Stage:
    """A stage in hand: what is trained, what became of it so far, and a clock that stands still during validation."""

    def __init__(
        self,
        task: Task,
        settings: FitSettings,
        progress: Progress,
        checkpoints: Checkpoints | None,
        passes: Passes,
        validation: Validation | None,
    ) -> None:
        self._task = task
        self._settings = settings
        self._progress = progress
        self._checkpoints = checkpoints
        self._passes = passes
        self._validation = validation
        self._optimizer = make_optimizer(task.module, settings.optimizer)
        task.module.train()
        self._result = _restored(checkpoints, task, self._optimizer, validation)
        self._uncounted = passes.units - self._result.units
        self._pending: list[tuple[int, float, Tensor, dict[str, Tensor]]] = []  # losses that are still on the device
        self._saved = len(self._result.curve)  # rows of the curve that checkpoints have
        self._earlier = self._result.seconds
        self._started = 0.0

    def run(self) -> Fit:
        """Trains to the last step, or to the one where the loss is not finite."""
        settings, result, progress = self._settings, self._result, self._progress
        if settings.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(settings.device)
        progress.start(settings.stage, settings.steps)
        if result.steps:
            progress.advance(result.steps, {})
        self._started = time.perf_counter()
        end = settings.steps
        if settings.until is not None:
            end = min(settings.until, end)
        for step in range(result.steps, end):
            self._validate(step)
            self._train(step)
            last, stop = step + 1 == settings.steps, interrupt.asked()
            keep = self._checkpoints is not None and (last or stop or self._checkpoints.due())
            # Looked at on the same steps whether or not it was ever stopped: what diverged has to end in the same bits, too.
            look = last or (step + 1) % _FLUSH == 0
            if look or keep or stop:
                self._settle()
                result.peak_memory = max(result.peak_memory, _peak_memory(settings.device))
            if look and _diverged(result, since=step // _FLUSH * _FLUSH):
                break
            if look or stop:
                progress.advance(step + 1, self._shown())
            if keep:
                self._save(step + 1)
            if stop and not last:
                raise InterruptedRunError(self._stopped_after(step + 1))
        _flush(self._pending, result)
        if result.diverged_at is None:
            self._validate(result.steps)
        return result

    def _shown(self) -> dict[str, float]:
        """Returns what is shown of the last step: loss, patches a second, bytes at the peak, and the number of the GPU on one."""
        result, device = self._result, self._settings.device
        shown = {"loss": result.curve[-1]["loss"], "patches/s": result.patches / result.seconds, "memory": result.peak_memory}
        if device.type == "cuda":
            shown["cuda"] = device.index or 0
        return shown

    def _train(self, step: int) -> None:
        lr = learning_rate(step, self._settings.steps, self._settings.optimizer)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._pending.append(_step(self._task, self._optimizer, step, lr, self._settings, self._result))
        self._result.units = self._passes.units - self._uncounted

    def _validate(self, step: int) -> None:
        """Has the network looked at after `step` steps, where it is time for it; the clock of the stage stands still then."""
        if self._validation is None or not self._validation.is_due(step):
            return
        self._settle()
        begun = time.perf_counter()
        try:
            self._validation.measure(step, self._result.seconds)
        except InterruptedRunError:
            self._save(step)
            raise InterruptedRunError(self._stopped_after(step)) from None
        self._started += time.perf_counter() - begun

    def _settle(self) -> None:
        """Brings losses and seconds up to the last step."""
        _flush(self._pending, self._result)
        self._result.seconds_now = time.perf_counter() - self._started
        self._result.seconds = self._earlier + self._result.seconds_now

    def _save(self, step: int) -> None:
        if self._checkpoints is None:
            return
        mark = self._checkpoints.append([list(row.values()) for row in self._result.curve[self._saved :]])
        self._saved = len(self._result.curve)
        self._checkpoints.save(step, _state(self._task, self._optimizer, self._result, mark, self._validation))

    def _stopped_after(self, step: int) -> str:
        return f"stopped after step {step} of {self._settings.steps} of the {self._settings.stage} stage"


def _restored(
    checkpoints: Checkpoints | None, task: Task, optimizer: torch.optim.Optimizer, validation: Validation | None
) -> Fit:
    """Returns what was done so far, and puts the weights, the optimizer and what else the task keeps where they were."""
    if checkpoints is None:
        return Fit()
    state = checkpoints.newest()
    if state is None:
        return Fit()
    task.module.load_state_dict(state["module"])
    load_state = getattr(task, "load_state", None)
    if load_state is not None:
        load_state(state["task"])
    if validation is not None and "validation" in state:
        validation.load_state(state["validation"])
    optimizer.load_state_dict(state["optimizer"])
    names = state["columns"]
    curve = []
    for values in state["curve"].tolist():
        row = dict(zip(names, values, strict=True))
        row["step"] = int(row["step"])
        curve.append(row)
    return Fit(len(curve), state["seconds"], 0.0, state["patches"], state["peak_memory"], None, curve, state.get("units", 0))


def _state(
    task: Task, optimizer: torch.optim.Optimizer, result: Fit, curve: dict[str, Any], validation: Validation | None
) -> dict[str, Any]:
    """Makes a checkpoint of tensors and plain values, so that reading it executes nothing. `curve` says where its rows lie."""
    seen = {}
    if validation is not None:
        seen["validation"] = validation.state()
    kept: dict[str, Any] = {}
    state = getattr(task, "state", None)
    if state is not None:
        kept = state()
    return {
        **seen,
        "module": task.module.state_dict(),
        "task": kept,
        "optimizer": optimizer.state_dict(),
        "columns": list(result.curve[0]),
        "curve": curve,
        "seconds": result.seconds,
        "patches": result.patches,
        "peak_memory": result.peak_memory,
        "units": result.units,
    }


def _step(
    task: Task, optimizer: torch.optim.Optimizer, step: int, lr: float, settings: FitSettings, result: Fit
) -> tuple[int, float, Tensor, dict[str, Tensor]]:
    batch = task.batch(step)
    seeding.seed_step(settings.root, "dropout", settings.stage, step)
    optimizer.zero_grad(set_to_none=True)
    total, parts = backward(task, batch, settings.device, settings.precision)
    if settings.optimizer.clip:
        nn.utils.clip_grad_norm_(task.module.parameters(), settings.optimizer.clip)
    optimizer.step()
    after_step = getattr(task, "after_step", None)
    if after_step is not None:
        after_step(step)
    result.patches += int(batch.image.shape[0])
    return step, lr, total, parts


def backward(task: Task, batch: Any, device: torch.device, precision: Precision) -> tuple[Tensor, dict[str, Tensor]]:
    """Back-propagates the losses of a batch, each before the next is computed; returns their sum and all their parts.

    Args:
        task: gives the losses.
        batch: of a step.
        device: where they are computed.
        precision: of the forward pass.

    Raises:
        ValueError: the task gives no loss.
    """
    losses = _losses(task, batch)
    total: Tensor | None = None
    named: dict[str, Tensor] = {}
    while True:
        with autocast(device, precision):  # what a loss is back-propagated in is no business of autocast
            found = next(losses, None)
        if found is None:
            break
        loss, parts = found
        loss.backward()  # type: ignore[no-untyped-call]
        if total is None:
            total = loss.detach()
        else:
            total = total + loss.detach()
        named |= parts
    if total is None:
        raise ValueError(f"{type(task).__name__}.losses yields no loss; yield one or more")
    return total, named


def _losses(task: Task, batch: Any) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yields the losses of a batch: what `losses` yields where the task has it, else the one `loss`."""
    losses = getattr(task, "losses", None)
    if losses is None:
        yield task.loss(batch)
    else:
        yield from losses(batch)


def _flush(pending: list[tuple[int, float, Tensor, dict[str, Tensor]]], result: Fit) -> None:
    """Moves pending losses from the device to the curve, all of them in one read."""
    scalars = []
    for _, _, loss, parts in pending:
        scalars += [loss, *parts.values()]
    values = _numbers(scalars)
    for step, lr, _, parts in pending:
        row = {"step": step, "lr": lr, "loss": next(values)}
        for name in parts:
            row[name] = next(values)
        result.curve.append(row)
    pending.clear()
    result.steps = len(result.curve)


def _numbers(scalars: Sequence[Tensor]) -> Iterator[float]:
    """Reads the values of tensors with one element each. Tensors of one device and one type are read together."""
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for place, scalar in enumerate(scalars):
        groups.setdefault((scalar.device, scalar.dtype), []).append(place)
    found = [0.0] * len(scalars)
    for places in groups.values():
        together = torch.stack([scalars[place].detach().reshape(()) for place in places])
        for place, value in zip(places, together.tolist(), strict=True):
            found[place] = float(value)
    return iter(found)


def _diverged(result: Fit, since: int) -> bool:
    """Returns whether a loss was not finite in the rows from `since` on; the curve ends there then."""
    for row in range(since, len(result.curve)):
        if not math.isfinite(result.curve[row]["loss"]):
            result.diverged_at = row
            del result.curve[row + 1 :]
            result.steps = len(result.curve)
            return True
    return False


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def parameters_finite(module: nn.Module) -> bool:
    """Returns whether every weight is finite: a loss can be finite on the step that broke them."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in _floating(module))


def _floating(module: nn.Module) -> Iterator[Tensor]:
    return (parameter.detach() for parameter in module.parameters() if parameter.is_floating_point())
