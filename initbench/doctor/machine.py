"""Of the examination: versions, devices, threads, and the folders that runs write to."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from initbench import cache
from initbench.doctor.findings import Finding, State
from initbench.harness.hardware import available_memory, environment, resolve_precision
from initbench.paths import nearest_existing
from initbench.units import gib

PACKAGES = ("torch", "monai", "numpy", "scipy", "timm", "nibabel")
LITTLE_DISK = 5 * 2**30
"""Bytes; a preprocessed data set takes a few GB."""
NO_DISK = 2**28  # bytes, below which the examination reports a problem and no warning
LITTLE_MEMORY = 2 * 2**30  # bytes
_SLOW_TORCH = "2.9."  # 3-D convolutions under autocast: pytorch#166122
_WRONG_CUDNN = 91002  # as torch counts 9.10.2; bf16 conv3d on large inputs: pytorch#163539
_DRIVER = Path("/proc/driver/nvidia/version")


def versions(device: torch.device, threads: int) -> list[Finding]:
    """Describes what produces the numbers, as every record has it."""
    found = environment(device, threads)
    lines = [Finding("versions", "python", "ok", f"{found['python']} on {found['platform']}"), _own(found)]
    return [*lines, *_packages(found), _cuda()]


def _own(found: dict[str, Any]) -> Finding:
    number, git = found["packages"]["initbench"], found["git"]
    if number is None:
        return Finding("versions", "initbench", "warning", "runs from a folder that is not installed; use pip install .")
    if git is None:
        return Finding("versions", "initbench", "ok", f"{number}, installed")
    text = f"{number}, commit {git['commit'][:12]}"
    if git["dirty"]:
        detail = f"{text} with changes that are not committed; commit them before runs that are to be repeated"
        return Finding("versions", "initbench", "warning", detail)
    return Finding("versions", "initbench", "ok", text)


def _packages(found: dict[str, Any]) -> list[Finding]:
    """Says a line for all packages, and one for each that is not as it should be.

    Args:
        found: the environment, as a record has it.
    """
    fine, flawed = [], []
    for name in PACKAGES:
        number = found["packages"].get(name) or _installed(name)
        if number is None:
            flawed.append(Finding("versions", name, "problem", "is not installed; install initbench again (pip install .)"))
        elif name == "torch" and number.startswith(_SLOW_TORCH):
            detail = (
                f"{number}: its 3-D convolutions under autocast are about four times slower (pytorch#166122); install torch 2.10"
            )
            flawed.append(Finding("versions", name, "warning", detail))
        else:
            fine.append(f"{name} {number}")
    return [Finding("versions", "packages", "ok", ", ".join(fine)), *flawed]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cuda() -> Finding:
    driver = _driver()
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    built = "torch is built without CUDA"
    if torch.version.cuda:
        built = f"torch's CUDA {torch.version.cuda}, cuDNN {cudnn}"
    if driver and not torch.cuda.is_available():
        detail = (
            f"{built}; there is the NVIDIA driver {driver}, but torch sees no GPU; install a torch build that the driver takes"
        )
        return Finding("versions", "cuda", "warning", detail)
    if cudnn == _WRONG_CUDNN:
        detail = (
            f"{built}: cuDNN 9.10.2 gives wrong numbers for bf16 convolutions of large volumes (pytorch#163539); install "
            "nvidia-cudnn-cu12 9.15 or later, or use --precision float32"
        )
        return Finding("versions", "cuda", "problem", detail)
    if driver:
        return Finding("versions", "cuda", "ok", f"{built}; driver {driver}")
    return Finding("versions", "cuda", "ok", f"{built}; no NVIDIA driver")


def _driver() -> str | None:
    try:
        found = re.search(r"\b\d+\.\d+(\.\d+)?\b", _DRIVER.read_text("utf-8"))
    except OSError:
        return None
    if found is None:
        return None
    return found[0]


def devices(threads: int) -> list[Finding]:
    """Describes the processor and every GPU: memory free and in all, and whether it computes bf16 natively."""
    lines = [_processor()]
    for index in range(torch.cuda.device_count()):
        lines.append(_gpu(index))
    return [*lines, _threads(threads)]


def _processor() -> Finding:
    device = torch.device("cpu")
    free, total = available_memory(device), psutil.virtual_memory().total
    detail = f"{environment(device, 1)['cpu']}, {_memory(free, total)}, {_bf16(device)}"
    if free < LITTLE_MEMORY:
        return Finding("devices", "cpu", "warning", f"{detail}; close other programs before runs on the CPU")
    return Finding("devices", "cpu", "ok", detail)


def _gpu(index: int) -> Finding:
    device = torch.device("cuda", index)
    free, total = torch.cuda.mem_get_info(device)
    detail = f"{torch.cuda.get_device_name(device)}, {_memory(free, total)}, {_bf16(device)}"
    if free < total / 2:
        return Finding(
            "devices", str(device), "warning", f"{detail}; other programs hold the rest: choose another --device or wait"
        )
    return Finding("devices", str(device), "ok", detail)


def _memory(free: int, total: int) -> str:
    return f"{gib(free)} of {gib(total)} free"


def _bf16(device: torch.device) -> str:
    if resolve_precision("auto", device) == "bf16":
        return "native bf16"
    return "no native bf16"


def _threads(threads: int) -> Finding:
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    text = f"{threads} of torch a run (--threads); cores: {cores}"
    if threads > cores:
        return Finding("devices", "threads", "warning", f"{text}; take no more threads than cores, or runs wait for one another")
    if cores // threads > 1:
        text += f"; --jobs {cores // threads} uses all cores"
    return Finding("devices", "threads", "ok", text)


def folders(out: Path) -> list[Finding]:
    """Looks whether the cache and the folder of runs can be written, and how much space their disks have."""
    root = cache.root()
    return [
        _folder("cache", root, f"{gib(_size(root))} in use, ", f"set {cache.ENVIRONMENT} to another folder"),
        _folder("out", out, "", "choose another folder with --out"),
    ]


def _size(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # another process replaced it meanwhile
            size += path.lstat().st_size
    return size


def _folder(name: str, folder: Path, prefix: str, remedy: str) -> Finding:
    existing = nearest_existing(folder)
    refused = _unwritable(existing)
    if refused:
        return Finding("folders", name, "problem", f"{folder} cannot be written ({refused}); {remedy}")
    free = shutil.disk_usage(existing).free
    state: State = "ok"
    advice = ""
    if free < NO_DISK:
        state = "problem"
    elif free < LITTLE_DISK:
        state = "warning"
    if free < LITTLE_DISK:
        advice = f"; preprocessed data and runs take a few GB: free space, or {remedy}"
    return Finding("folders", name, state, f"{folder.absolute()}: {prefix}{gib(free)} free{advice}")


def _unwritable(folder: Path) -> str:
    """Returns why nothing can be written there. It is tried: permissions alone know nothing of read-only disks and quotas."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)
