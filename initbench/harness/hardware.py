"""Device and precision of a run, memory at hand, and the environment that produced a number."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from initbench.choices import PrecisionChoice
from initbench.errors import UsageError
from initbench.training.precision import Precision

_PACKAGES = ("initbench", "torch", "monai", "numpy", "scipy", "nibabel")


def resolve_device(name: str, index: int = 0) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:i``; without a number the jobs of a sweep (`index`) spread over the devices.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    head, _, number = name.partition(":")
    if head != "cuda" or (number and not number.isdecimal()):
        raise UsageError(f"--device is auto, cpu, cuda or cuda:i, got {name!r}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise UsageError("no CUDA device is visible to torch; use --device cpu")
    if number and int(number) >= count:
        raise UsageError(f"--device {name}: there are {count} CUDA device(s), cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", int(number) if number else index % count)


def resolve_precision(name: PrecisionChoice, device: torch.device) -> Precision:
    """``auto`` is bf16 where the device computes it natively, float32 elsewhere."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    return "bf16" if _cpu_has_bf16() else "float32"


@cache
def _cpu_has_bf16() -> bool:
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported", "_is_arm_bf16_supported")
    found = [getattr(torch.cpu, probe, None) for probe in probes]
    return any(bool(probe()) for probe in found if probe is not None)


def available_memory(device: torch.device) -> int:
    """Bytes free on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def environment(device: torch.device, threads: int) -> dict[str, Any]:
    """What is recorded beside a result and is no part of its identity."""
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "device": str(device),
        "accelerator": accelerator,
        "cuda": torch.version.cuda if accelerator else None,
        "cudnn": torch.backends.cudnn.version() if accelerator else None,  # type: ignore[no-untyped-call]
        "threads": threads,
        "packages": {name: _version(name) for name in _PACKAGES},
        "git": _git(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


@cache  # a plan asks for it once a run, and it reads the package's files
def _version(name: str) -> str | None:
    """The installed version of a package; None where it is not installed."""
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
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


@cache
def _git() -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout that this package runs from; None for an installed package."""
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
