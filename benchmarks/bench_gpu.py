"""Checks of a machine with a GPU in at most four minutes each: ``python -m benchmarks.bench_gpu truth`` or ``speed``.

``truth`` asks whether numbers are what they should be: the same bits twice, bf16 beside float32, every network at paper size,
batches of streamed volumes beside resident ones. ``speed`` compares with peers on the same device. Each check is written to
``OUT`` as JSON and Markdown when it is done, so that what was found stays when the machine goes. With ``--device cpu`` networks
are tiny: that only shows that the script runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import initbench
from benchmarks import ratios
from benchmarks.paper_size import NETWORKS, Network
from initbench import seeding
from initbench.doctor.examination import SECTIONS, Examination, examine
from initbench.doctor.findings import worst
from initbench.errors import InitbenchError
from initbench.harness.hardware import environment, resolve_device, resolve_precision
from initbench.harness.regimens import plain_task
from initbench.protocols import Size
from initbench.recipes.load import load_recipe
from initbench.sampling.volumes import PatchSampler, Volume
from initbench.training.loop import FitSettings, fit

ENOUGH = 200.0  # seconds after which no further check begins: four minutes with the one in hand
STUDY = {"init": "default,lwi", "backbone": "unetr,unetrpp", "seeds": 3, "placebo": False}
SHORT = ("steps.smoke=6", "preprocess.crop=False")


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
    """Where the checks run, and where they write."""

    device: torch.device
    out: Path

    @property
    def size(self) -> Size:
        """Of networks."""
        return "paper" if self.device.type == "cuda" else "tiny"


Check = Callable[[Asked], Iterator[Result]]


# --- truth ------------------------------------------------------------------------------------------------------------


def doctor(asked: Asked) -> Iterator[Result]:
    """What `initbench doctor` says: versions, devices, the same bits twice, bf16 beside float32."""
    examination = Examination(device=str(asked.device), out=asked.out / "runs")
    for section in SECTIONS:
        if section == "data":
            continue  # the machine needs none
        found = list(examine(section, examination))
        told = [f"{finding.name}: {finding.detail}" for finding in found if finding.state != "ok"]
        yield Result(f"doctor {section}", worst(found) != "problem", "; ".join(told) or "ok")


def streaming(asked: Asked) -> Iterator[Result]:
    """Batches of volumes on the device beside batches of the same volumes on the host."""
    recipe = load_recipe("generic-ct", size="tiny", backbone="unetr", budget="smoke")
    resident = ratios._volumes(ratios.Setting(asked.device, scale=0.6))
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


def networks(asked: Asked) -> Iterator[Result]:
    """Two steps of every network, in the precision that ``auto`` takes."""
    seen = set()
    for network in NETWORKS:
        if network[0] not in seen:
            seen.add(network[0])
            yield _two_steps(network, asked)


def _two_steps(network: Network, asked: Asked) -> Result:
    name, variant, channels, classes, crop = network
    if asked.size == "tiny":
        crop = (1 if crop[0] == 1 else 32, 64, 64)
    recipe = load_recipe("base", size=asked.size, backbone=name, budget="paper", assignments=["preprocess.spacing=native"])
    options: dict[str, Any] = {"variant": variant, "deep_supervision": recipe.loss.deep_supervision, "size": asked.size}
    try:
        with seeding.deterministic(1):
            model = initbench.build(name, in_channels=channels, num_classes=classes, patch_size=crop, **options)
            task = plain_task(model.to(asked.device), _Noise(channels, classes, crop, asked.device), recipe.loss, asked.device)  # type: ignore[arg-type]
            precision = resolve_precision("auto", asked.device)
            done = fit(task, FitSettings(2, recipe.optimizer, precision, asked.device, 0, "train"))
    except (RuntimeError, ValueError, InitbenchError) as error:
        return Result(f"two steps of {name}", fine=False, detail=f"{type(error).__name__}: {error}")
    detail = f"losses {[round(row['loss'], 4) for row in done.curve]}, {done.peak_memory / 2**30:.1f} GiB, {precision}"
    return Result(f"two steps of {name}", done.diverged_at is None, detail)


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
    """Short runs of the phantom with `lwi`, streamed and not: the same weights."""
    for backbone in ("unetr", "unetrpp"):
        digests = []
        for memory in (None, 0.0):
            out = asked.out / f"pretext-{backbone}-{memory}"
            outcomes = _run(asked, out, init="lwi", backbone=backbone, seeds=1, device_memory=memory)
            digests.append([_weights(outcome.folder) for outcome in outcomes])
        same = digests[0] == digests[1] and None not in digests[0]
        yield Result(f"lwi × {backbone}, streamed and resident", same, "the same weights" if same else f"weights {digests}")


def _run(asked: Asked, out: Path, **options: Any) -> list[Any]:
    settings = {"size": "tiny", "budget": "smoke", "device": str(asked.device), "assignments": list(SHORT)} | options
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
    setting = ratios.Setting(asked.device, turns=2 if small else 5, repeats=2 if small else 12, scale=0.3 if small else 1.0)
    for part in ("patches", "windows", "step"):
        for row in ratios.PARTS[part](setting):
            yield Result(f"{row.part}: {row.what}", fine=True, detail=f"{row.peer} / initbench = {row.ratio:.2f}")


def study(asked: Asked) -> Iterator[Result]:
    """A tiny study of twelve runs: what of its seconds is training."""
    options = dict(STUDY)
    if asked.device.type == "cpu":
        options |= {"backbone": "unetr", "seeds": 1}
    outcomes = _run(asked, asked.out / "study", **options)
    ended = [outcome.state for outcome in outcomes]
    yield Result(f"a study of {len(outcomes)} runs", set(ended) == {"ok"}, ", ".join(sorted(set(ended))))


PARTS: dict[str, Sequence[Check]] = {"truth": (streaming, doctor, networks, pretext), "speed": (peers, study)}


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
    """Does the checks of a part until they are done or the time is up."""
    report = Report(part, asked)
    began = time.monotonic()
    for check in PARTS[part]:
        last = time.monotonic()
        if last - began > ENOUGH:
            report.add(Result(check.__name__, fine=False, detail="not begun: the time was up"))
            continue
        for result in check(asked):
            now = time.monotonic()
            report.add(replace(result, seconds=now - last))
            last = now
            if last - began > ENOUGH:
                break
    return report


def main() -> None:
    """Does one part. Exits with 1 where a check did not find what it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("bench-gpu"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    report = perform(given.part, Asked(resolve_device(given.device), given.out))
    sys.exit(0 if all(result.fine for result in report.results) else 1)


if __name__ == "__main__":
    main()
