"""Whether this machine and installation are fit for benchmark runs: the sections of ``initbench doctor``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch

from initbench.doctor import installation, machine, training
from initbench.doctor.findings import Finding
from initbench.harness.hardware import resolve_device


@dataclass(frozen=True)
class Examination:
    """What is examined.

    Attributes:
        device: as `resolve_device` takes it; the networks are trained there.
        threads: torch threads of a run on the CPU.
        backbone: that is trained, at tiny size.
        data_root: folder that holds data sets, beside INITBENCH_DATA.
        out: folder of run directories.
    """

    device: str = "auto"
    threads: int = 1
    backbone: str = "unetr"
    data_root: Path | None = None
    out: Path = Path("runs")

    def resolved_device(self) -> torch.device:
        """Returns the device itself.

        Raises:
            UsageError: no such device here.
        """
        return resolve_device(self.device)


def _versions(asked: Examination) -> list[Finding]:
    return machine.versions(asked.resolved_device(), asked.threads)


def _devices(asked: Examination) -> list[Finding]:
    return machine.devices(asked.threads)


def _folders(asked: Examination) -> list[Finding]:
    return machine.folders(asked.out)


def _data(asked: Examination) -> list[Finding]:
    return installation.data(asked.data_root)


def _plugins(_: Examination) -> list[Finding]:
    return installation.plugins()


def _determinism(asked: Examination) -> list[Finding]:
    return training.determinism(asked.backbone, asked.resolved_device(), asked.threads)


def _precision(asked: Examination) -> Iterable[Finding]:
    return training.precision(asked.backbone, asked.resolved_device(), asked.threads)


# Quick ones first: the last two train networks.
SECTIONS: Mapping[str, Callable[[Examination], Iterable[Finding]]] = MappingProxyType(
    {
        "versions": _versions,
        "devices": _devices,
        "folders": _folders,
        "data": _data,
        "plug-ins": _plugins,
        "determinism": _determinism,
        "precision": _precision,
    }
)
"""The sections by name, in the order in which they are examined."""


def examine(section: str, asked: Examination) -> Iterator[Finding]:
    """Yields the findings of a section as they are made.

    What the section raises is its last finding: one broken thing must not hide the others.
    """
    try:
        yield from SECTIONS[section](asked)
    except Exception as error:
        text = f"stopped with {type(error).__name__}: {' '.join(str(error).split())}"
        yield Finding(section, "examination", "problem", text)
