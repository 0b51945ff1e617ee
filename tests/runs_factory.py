"""Trains small runs: a network of a few thousand parameters on small random volumes, about a second each.

Run folders that need no training are written by `recorded`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from initbench.choices import EXECUTOR
from initbench.harness.execute import Outcome
from initbench.spec import as_spec
from initbench.studies.engine import Resources
from initbench.studies.sweep import cross_requests, run_planned
from tests.folders import TESTS
from tests.recorded import record_values

LIGHT_FILE = TESTS / "light_backbone.py"
LIGHT = f"{LIGHT_FILE}:light"
OPTIONS: dict[str, Any] = {"budget": "smoke", "size": "tiny", "device": "cpu", "precision": "float32"}
"""What every small run is asked for, as arguments of `initbench.run`."""
TINY = ("--backbone", LIGHT, "--size", "tiny", "--budget", "smoke", "--device", "cpu", "--precision", "float32")
"""The same for the command line, with the network."""
SMALL = (
    "patch.size=8,16,16",
    "patch.batch=2",
    "pretext.batch=2",
    "pretext.mask_patch=4",
    "steps.smoke=10",
    "preprocess.spacing=native",
    "preprocess.crop=False",
    "augment.rot90=0.5",
)
"""Settings of ten steps on the volumes of `make_noise`."""
THIRTY_STEPS = (
    "patch.size=8,16,16",
    "patch.batch=1",
    "pretext.batch=1",
    "pretext.mask_patch=4",
    "pretext.share=0.4",
    "steps.smoke=30",
    "preprocess.spacing=native",
    "preprocess.crop=False",
)
"""Settings of thirty steps, twelve of them in the init stage of a learned init: there is room to be stopped in."""


def run(
    data: Path | str,
    out: Path | str,
    init: str = "default",
    *,
    backbone: str = LIGHT,
    settings: Iterable[str] = SMALL,
    assignments: Iterable[str] = (),
    **options: Any,
) -> list[Outcome]:
    """Trains one run for each init, seed and protocol, and returns how each ended.

    Args:
        data: a data set, or several with commas between them.
        out: the output folder of the study.
        init: one init, or several with commas between them.
        settings: settings of the recipe.
        assignments: more of them, which win over `settings`.
        options: what `initbench.run` takes besides, such as seeds; they win over `OPTIONS`.
    """
    return outcomes_of(init, backbone, str(data), out=out, assignments=[*settings, *assignments], **OPTIONS | options)


def outcomes_of(
    init: str, backbone: str, dataset: str = "phantom-lung", *, reporter: Any = None, skip_refused: bool = False, **options: Any
) -> list[Outcome]:
    """Does what `initbench.run` does with the same arguments, in silence, and returns refused runs, too."""
    resources = Resources(
        as_spec(options.pop("executor", EXECUTOR)),
        options.pop("jobs", 1),
        tuple(options.pop("devices", ())),
        options.pop("rule", "pairs"),
    )
    return run_planned(cross_requests(init, backbone, dataset, **options), resources, reporter, skip_refused=skip_refused)


def run_one(data: Path | str, out: Path, init: str = "default", **options: Any) -> Path:
    """Trains one run, asserts that it went well, and returns its folder."""
    [outcome] = run(data, out, init, **options)
    assert outcome.state == "ok", outcome.message
    assert outcome.folder is not None
    return outcome.folder


def record_of(folder: Path | None) -> dict[str, Any]:
    """The record of a run; asserts that there is one."""
    assert folder is not None, "the run has no folder"
    return record_values(folder)


def as_flags(settings: Iterable[str]) -> list[str]:
    """Settings of the recipe as the command line takes them."""
    return [part for setting in settings for part in ("--set", setting)]
