"""Device and precision of a run, memory at hand, and the environment that produced a number."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from initbench.choices import PrecisionChoice
from initbench.errors import UsageError
from initbench.protocols import Device
from initbench.training.fast import steps_here
from initbench.training.precision import Precision

# Of a device's memory, what runs that share it may take together: torch's allocator rounds up, and each process has a context.
_SHARE = 0.9
_PACKAGES = ("initbench", "torch", "monai", "numpy", "scipy", "nibabel")


_own_number = 0  # of the CUDA device that this process takes where a request leaves the choice


def own_device(name: str) -> None:
    """Makes a device the one that this process takes from now on, where a request leaves the choice (``auto``, ``cuda``)."""
    global _own_number  # noqa: PLW0603
    _own_number = torch.device(name).index or 0


def resolve_device(name: str) -> torch.device:
    """Resolves ``auto``, ``cpu``, ``cuda`` or ``cuda:i``; without a number it is the device that this process owns.

    Raises:
        UsageError: no such device here.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if name == "auto":
        name = "cuda"
    head, _, number = name.partition(":")
    if head != "cuda" or (number and not number.isdecimal()):
        raise UsageError(f"--device is auto, cpu, cuda or cuda:i, got {name!r}")
    count = 0
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
    if count == 0:
        raise UsageError("no CUDA device is visible to torch; use --device cpu")
    if not number:
        return torch.device("cuda", _own_number)
    if int(number) >= count:
        raise UsageError(f"--device {name}: there are {count} CUDA device(s), cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", int(number))


def devices_here(name: str, chosen: Sequence[int] = (), precision: PrecisionChoice = "auto") -> list[Device]:
    """Returns the devices of this machine that the runs of a study may use.

    Args:
        name: as `resolve_device` takes it.
        chosen: numbers of CUDA devices; all of them without any.
        precision: of the runs; ``auto`` leaves it to the devices, which then have to agree.

    Raises:
        UsageError: no such device here, or the devices differ in the precision that they would take.
    """
    first = resolve_device(name)
    if first.type == "cpu":
        if chosen:
            raise UsageError("--devices is for GPUs, and these runs are on the CPU: leave it out, or say --device cuda")
        return [Device("cpu", device_kind(first))]
    count = torch.cuda.device_count()
    for number in chosen:
        if number >= count:
            raise UsageError(f"--devices {number}: there are {count} CUDA device(s), 0 to {count - 1}")
    if chosen and ":" in name:
        raise UsageError(f"--devices and --device {name} exclude each other: say --device cuda")
    numbers: Sequence[int] = range(count)
    if chosen:
        numbers = chosen
    elif ":" in name:
        numbers = [first.index]
    devices = []
    precisions = set()
    for number in dict.fromkeys(numbers):
        place = torch.device("cuda", number)
        devices.append(Device(str(place), device_kind(place)))
        precisions.add(resolve_precision(precision, place))
    if len(precisions) > 1:
        raise UsageError("these devices would compute in different precisions: add --precision float32, or choose --devices")
    return devices


def device_kind(device: torch.device) -> str:
    """Returns the model of a device. Two devices of one model give the same numbers."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _cpu_model()


def runs_at_once(device: Device, peak: int, threads: int) -> int:
    """Computes how many runs fit on a device at a time.

    Args:
        device: where they are to be.
        peak: bytes that one of them takes at its peak.
        threads: threads of torch that each run has on the CPU.
    """
    place = torch.device(device.name)
    most = os.cpu_count() or 1
    if place.type == "cpu":
        most = max(1, most // threads)
    by_memory = int(_SHARE * total_memory(place)) // max(1, peak)
    return max(1, min(by_memory, most))


def total_memory(device: torch.device) -> int:
    """Bytes of memory that the device has. The memory of a CPU is the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


def resolve_precision(name: PrecisionChoice, device: torch.device) -> Precision:
    """Chooses the precision: ``auto`` is bf16 where the device computes it natively, float32 elsewhere."""
    if name != "auto":
        return name
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = _cpu_has_bf16()
    if native:
        return "bf16"
    return "float32"


@cache
def _cpu_has_bf16() -> bool:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported", "_is_arm_bf16_supported"):
        probe = getattr(torch.cpu, name, None)
        if probe is not None and probe():
            return True
    return False


def available_memory(device: torch.device) -> int:
    """Returns the bytes that a run may take on the device: free ones, and what torch keeps of earlier runs and can give back."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return int(psutil.virtual_memory().available)


def environment(device: torch.device, threads: int, *, fast: bool = False) -> dict[str, Any]:
    """Describes the machine, as it is recorded beside a result and is no part of its identity.

    Args:
        device: of the run.
        threads: of torch on the CPU.
        fast: whether the run has ``--fast``; the first time in a process this compiles something small.
    """
    accelerator = cuda = cudnn = None
    if device.type == "cuda":
        accelerator = torch.cuda.get_device_name(device)
        cuda = torch.version.cuda
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "device": str(device),
        "accelerator": accelerator,
        "cuda": cuda,
        "cudnn": cudnn,
        "threads": threads,
        "packages": {name: _version(name) for name in _PACKAGES},
        "git": _git(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }
    if fast:  # the key is missing otherwise, so that runs of earlier versions have the same environment
        found["fast"] = steps_here(device.type)
    return found


@cache  # a plan asks for it once a run, and it reads the package's files
def _version(name: str) -> str | None:
    """Returns the installed version of a package; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


@cache
def _git() -> dict[str, Any] | None:
    """Returns commit and dirty flag of the checkout that this package runs from; None for an installed package."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ}).stdout.strip()  # noqa: S603

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return None
