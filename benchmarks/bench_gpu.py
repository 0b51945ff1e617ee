"""Checks of a machine with a GPU in about four minutes each: ``python -m benchmarks.bench_gpu truth`` or ``speed``.

``truth`` asks whether numbers are what they should be: the same bits twice, bf16 beside float32, every network at paper size,
batches of streamed volumes beside resident ones. ``speed`` compares with peers on the same device. Each check is written to
``OUT`` as JSON and Markdown when it is done, so that what was found stays when the machine goes. With ``--device cpu`` networks
are tiny: that only shows that the script runs.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import initbench
from benchmarks import ratios, turns
from benchmarks.case_parts import Ready
from benchmarks.paper_size import NETWORKS, Network, build
from initbench import registry, seeding
from initbench.doctor.examination import SECTIONS, Examination, examine
from initbench.doctor.findings import worst
from initbench.errors import InitbenchError
from initbench.evaluation.inference import predict_probabilities
from initbench.harness.hardware import environment, resolve_device, resolve_precision
from initbench.harness.regimens import plain_task
from initbench.protocols import PatchRule, Size, Task
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Recipe
from initbench.sampling.samplers import PatchSampler
from initbench.sampling.volumes import Volume
from initbench.spec import Spec
from initbench.training.fast import autotuned, compiled
from initbench.training.loop import FitSettings, backward, fit, make_optimizer

ENOUGH = 200.0  # seconds after which nothing more begins; a check ends what it has in hand
STUDY = {"init": "default,lwi", "seeds": 3, "placebo": False}


@dataclass(frozen=True)
class Result:
    """What a check found.

    Attributes:
        name: of the check.
        fine: whether it found what it should.
        detail: in one line.
        seconds: that it took.
    """

    name: str
    fine: bool
    detail: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Asked:
    """Where the checks run, and where they write.

    Attributes:
        only: the networks that are looked at; all that a check has without any.
        until: when a check begins nothing more, on the monotonic clock.
    """

    device: torch.device
    out: Path
    only: tuple[str, ...] = ()
    until: float = math.inf

    @property
    def late(self) -> bool:
        """Whether a check begins nothing more."""
        return time.monotonic() > self.until

    def chosen(self, backbones: Iterable[str]) -> list[str]:
        """The networks among some that are looked at, each once."""
        return [name for name in dict.fromkeys(backbones) if not self.only or name in self.only]

    @property
    def size(self) -> Size:
        """Of networks."""
        return "paper" if self.device.type == "cuda" else "tiny"


Check = Callable[[Asked], Iterator[Result]]


def _left_out(name: str) -> Result:
    return Result(name, fine=False, detail="not begun: the time was up")


# --- truth ------------------------------------------------------------------------------------------------------------


def doctor(asked: Asked) -> Iterator[Result]:
    """What `initbench doctor` says: versions, devices, the same bits twice, bf16 beside float32."""
    examination = Examination(device=str(asked.device), out=asked.out / "runs")
    for section in SECTIONS:
        if section == "data":
            continue  # the machine needs none
        if asked.late:
            yield _left_out(f"doctor {section}")
            continue
        found = list(examine(section, examination))
        told = [f"{finding.name}: {finding.detail}" for finding in found if finding.state != "ok"]
        yield Result(f"doctor {section}", worst(found) != "problem", "; ".join(told) or "ok")


def streaming(asked: Asked) -> Iterator[Result]:
    """Batches of volumes on the device beside batches of the same volumes on the host."""
    recipe = load_recipe("generic-ct", size="tiny", backbone="unetr", budget="smoke")
    resident = ratios._volumes(turns.Setting(asked.device, scale=0.6))
    streamed = [
        Volume(volume.image.cpu(), volume.label.cpu(), volume.foreground, volume.host_label, asked.device) for volume in resident
    ]
    for family in ("monai-r1", "nnunet"):
        augment = recipe.augment.model_copy(update={"family": family})
        one, other = (PatchSampler(volumes, recipe.patch, augment, 0) for volumes in (resident, streamed))
        same = True
        for step in range(6):
            first, second = one.batch(step), other.batch(step)
            same &= torch.equal(first.image, second.image) and torch.equal(first.label, second.label)
        yield Result(
            f"streamed batches, {family}", same, "the bits of resident ones" if same else "other bits than resident ones"
        )


def prediction(asked: Asked) -> Iterator[Result]:
    """The softmax of averaged logits, which is written over them, beside one that is written elsewhere."""
    size = (64, 64, 64)
    network = Ready(14, size, 1, asked.device).eval()
    recipe = load_recipe("generic-ct", size="tiny", backbone="unetr", budget="smoke")
    settings = recipe.inference.model_copy(update={"blend": "constant", "average": "logits", "mirror": False})
    found = predict_probabilities(network, torch.zeros(1, *size, device=asked.device), size, settings, "float32")
    same = torch.equal(found, network.answer[0].softmax(0))
    yield Result("softmax over its own logits", same, "the same bits" if same else "other bits")


def networks(asked: Asked) -> Iterator[Result]:
    """Two steps of every network, in the precision that ``auto`` takes."""
    for name in asked.chosen(network[0] for network in NETWORKS):
        if asked.late:
            yield _left_out(f"two steps of {name}")
        else:
            yield _two_steps(_published(name), asked)


def _published(backbone: str) -> Network:
    """A network at the first of its published sizes."""
    return next(network for network in NETWORKS if network[0] == backbone)


def _two_steps(network: Network, asked: Asked) -> Result:
    name = network[0]
    try:
        with seeding.deterministic(1):
            task, recipe = _on_noise(network, asked)
            precision = resolve_precision("auto", asked.device)
            done = fit(task, FitSettings(2, recipe.optimizer, precision, asked.device, 0, "train"))
    except (RuntimeError, ValueError, InitbenchError) as error:
        return Result(f"two steps of {name}", fine=False, detail=f"{type(error).__name__}: {error}")
    detail = f"losses {[round(row['loss'], 4) for row in done.curve]}, {done.peak_memory / 2**30:.1f} GiB, {precision}"
    return Result(f"two steps of {name}", done.diverged_at is None, detail)


def _on_noise(network: Network, asked: Asked) -> tuple[Task, Recipe]:
    """Plain training of a network on one batch of noise."""
    name, variant, channels, classes, crop = network
    if asked.size == "tiny":
        rules = registry.find("backbone", Spec(name)).info.patches
        crop = rules.get(variant, PatchRule((16, 16, 16))).at_least((min(crop[0], 32), 64, 64))
    model, recipe = build((name, variant, channels, classes, crop), asked.size)
    noise: Any = _Noise(channels, classes, crop, asked.device)
    return plain_task(model.to(asked.device), noise, recipe.loss, asked.device), recipe


@dataclass(frozen=True)
class _Batch:
    image: torch.Tensor
    label: torch.Tensor


class _Noise:
    """Batches of one patch of noise."""

    def __init__(self, channels: int, classes: int, crop: Sequence[int], device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        image = torch.randn((1, channels, *crop), generator=generator)
        label = torch.randint(0, classes, (1, *crop), generator=generator)
        self._batch = _Batch(image.to(device), label.to(device))

    def batch(self, _: int) -> _Batch:
        return self._batch


def pretext(asked: Asked) -> Iterator[Result]:
    """Two steps of `lwi` and two of training on the phantom, with volumes on the device and streamed: the same weights."""
    for backbone in asked.chosen(("unetr", "unetrpp")):
        if asked.late:
            yield _left_out(f"lwi × {backbone}")
            continue
        digests = []
        for memory in (None, 0.0):
            out = asked.out / f"pretext-{backbone}-{memory}"
            options = {"init": "lwi", "backbone": backbone, "size": asked.size, "device_memory": memory}
            outcomes = _run(asked, out, steps=4, seeds=1, **options)
            digests.append([_weights(outcome.folder) for outcome in outcomes])
        same = digests[0] == digests[1] and None not in digests[0]
        detail = "the same weights of two runs" if same else f"weights {digests}"
        yield Result(f"lwi × {backbone}, {asked.size}, streamed and resident", same, detail)


def _run(asked: Asked, out: Path, steps: int, **options: Any) -> list[Any]:
    """Runs on the phantom; half of the steps of a learned init are its pretext's."""
    assignments = [f"steps.smoke={steps}", "pretext.share=0.5"]
    settings = {"size": "tiny", "budget": "smoke", "device": str(asked.device), "assignments": assignments} | options
    found: list[Any] = initbench.run(settings.pop("init"), settings.pop("backbone"), "phantom-lung", out=out, **settings)
    return found


def _weights(folder: Path | None) -> str | None:
    if folder is None:
        return None
    digest: str | None = json.loads((folder / "record.json").read_text("utf-8"))["weights_digest"]
    return digest


# --- speed ------------------------------------------------------------------------------------------------------------


def peers(asked: Asked) -> Iterator[Result]:
    """The ratios of `benchmarks.ratios` on the device, volumes on it on both sides."""
    small = asked.device.type == "cpu"
    setting = turns.Setting(asked.device, turns=2 if small else 5, repeats=2 if small else 12, scale=0.3 if small else 1.0)
    for part in ("patches", "windows", "case", "step"):
        if asked.late:
            yield _left_out(part)
            continue
        for row in ratios.PARTS[part](setting):
            yield Result(f"{row.part}: {row.what}", fine=True, detail=f"{row.peer} / initbench = {row.ratio:.2f}")


def hastened(asked: Asked) -> Iterator[Result]:
    """Steps of UNETR and UNETR++ by the harness, plain and with ``--fast``, each beside the same steps in a bare loop."""
    for name in asked.chosen(("unetr", "unetrpp")):
        if asked.late:
            yield _left_out(f"steps of {name}")
            continue
        with seeding.deterministic(1), autotuned():
            task, recipe = _on_noise(_published(name), asked)
            settings = FitSettings(_LOOP, recipe.optimizer, resolve_precision("auto", asked.device), asked.device, 0, "train")
            said: list[str] = []
            torch.backends.cudnn.benchmark = False
            eager, share = _pace(task, settings)
            torch.backends.cudnn.benchmark = True
            # A network that has learned the noise has small gradients, which bf16 rounds so much that no trial would pass.
            task, _recipe = _on_noise(_published(name), asked)
            with compiled(task.module, task, settings, said.append):
                fast, share_of_fast = _pace(task, settings)
        detail = [f"{settings.precision}, eager {1e3 * eager:.1f} ms a step, of which a bare step is {share:.0%}"]
        detail.append(f"--fast {1e3 * fast:.1f} ms, {share_of_fast:.0%}; eager / --fast = {eager / fast:.2f}")
        yield Result(f"steps of {name}, {asked.size}", fine=True, detail="; ".join([*detail, *said]))


_LOOP = 10  # steps of the harness, and of the bare loop, in one turn


def _pace(task: Task, settings: FitSettings) -> tuple[float, float]:
    """Seconds of a step of the harness, and the share of it that a bare step takes."""
    optimizer = make_optimizer(task.module, settings.optimizer)

    def harness(_: int) -> None:
        fit(task, settings)

    def bare(_: int) -> None:
        with seeding.memory_of(settings.device):
            for step in range(settings.steps):
                optimizer.zero_grad(set_to_none=True)
                backward(task, task.batch(step), settings.device, settings.precision)
                optimizer.step()

    setting = turns.Setting(settings.device, turns=5 if settings.device.type == "cuda" else 1, repeats=1)
    seconds = turns.in_turns({"harness": harness, "bare": bare}, setting)
    mine, least = (statistics.median(seconds[name]) for name in ("harness", "bare"))
    return mine / settings.steps, least / mine


def study(asked: Asked) -> Iterator[Result]:
    """A tiny study of twelve runs: what of its seconds is training."""
    options = STUDY | {"backbone": asked.chosen(("unetr", "unetrpp"))}
    if asked.device.type == "cpu":
        options |= {"seeds": 1}
    outcomes = _run(asked, asked.out / "study", steps=6, **options)
    ended = [outcome.state for outcome in outcomes]
    yield Result(f"a study of {len(outcomes)} runs", set(ended) == {"ok"}, ", ".join(sorted(set(ended))))


# Compiling may take minutes and cannot be cut short, so it is last.
PARTS: dict[str, Sequence[Check]] = {
    "truth": (streaming, prediction, doctor, networks, pretext),
    "speed": (peers, study, hastened),
}


class Report:
    """Results as they come, in two files."""

    def __init__(self, part: str, asked: Asked) -> None:
        self.part = part
        self.results: list[Result] = []
        self._asked = asked
        self._about = environment(asked.device, 1)
        asked.out.mkdir(parents=True, exist_ok=True)

    def add(self, result: Result) -> None:
        """Prints a result and writes all of them."""
        self.results.append(result)
        print(f"{'ok  ' if result.fine else 'NOT '} {result.seconds:6.1f} s  {result.name}: {result.detail}", flush=True)
        table = {"part": self.part, "environment": self._about, "results": [asdict(item) for item in self.results]}
        (self._asked.out / f"{self.part}.json").write_text(json.dumps(table, indent=1) + "\n", "utf-8")
        lines = ["| check | | seconds | found |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {item.name} | {'ok' if item.fine else 'NOT'} | {item.seconds:.1f} | {item.detail} |" for item in self.results
        ]
        (self._asked.out / f"{self.part}.md").write_text("\n".join(lines) + "\n", "utf-8")


def perform(part: str, asked: Asked) -> Report:
    """Does the checks of a part until they are done or the time is up. A long check leaves the later ones their share of it."""
    report = Report(part, asked)
    began = time.monotonic()
    checks = PARTS[part]
    for number, check in enumerate(checks, start=1):
        if time.monotonic() - began > ENOUGH:
            report.add(_left_out(check.__name__))
            continue
        last = time.monotonic()
        try:
            for result in check(replace(asked, until=began + ENOUGH * number / len(checks))):
                now = time.monotonic()
                report.add(replace(result, seconds=now - last))
                last = now
        except Exception as error:  # of a library on a machine that nobody has seen: the other checks are worth having
            report.add(Result(check.__name__, fine=False, detail=f"{type(error).__name__}: {error}"))
    return report


def main() -> None:
    """Does one part. Exits with 1 where a check did not find what it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="*", default=[], metavar="BACKBONE", help="of the networks that a check goes through")
    parser.add_argument("--out", type=Path, default=Path("bench-gpu"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    report = perform(given.part, Asked(resolve_device(given.device), given.out, tuple(given.only)))
    sys.exit(0 if all(result.fine for result in report.results) else 1)


if __name__ == "__main__":
    main()
