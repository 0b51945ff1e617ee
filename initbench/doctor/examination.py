"""Whether this machine and installation are fit for benchmark runs: the sections of ``initbench doctor``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
        """The device itself.

        Raises:
            UsageError: no such device here.
        """
        return resolve_device(self.device)


SECTIONS: Mapping[str, Callable[[Examination], list[Finding]]] = MappingProxyType(
    {
        "versions": lambda asked: machine.versions(asked.resolved_device(), asked.threads),
        "devices": lambda asked: machine.devices(asked.threads),
        "folders": lambda asked: machine.folders(asked.out),
        "data": lambda asked: installation.data(asked.data_root),
        "plug-ins": lambda asked: installation.plugins(),
        "determinism": lambda asked: training.determinism(asked.backbone, asked.resolved_device(), asked.threads),
        "precision": lambda asked: training.precision(asked.backbone, asked.resolved_device(), asked.threads),
    }
)
"""By name, quick ones first."""


def examine(section: str, asked: Examination) -> list[Finding]:
    """The findings of a section. What it raises is its finding: one broken thing must not hide the others."""
    try:
        return SECTIONS[section](asked)
    except Exception as error:
        return [
            Finding(section, "examination", "problem", f"stopped with {type(error).__name__}: {' '.join(str(error).split())}")
        ]
