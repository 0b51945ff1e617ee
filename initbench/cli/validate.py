"""``initbench validate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from initbench.cli.checks import Report
from initbench.errors import UsageError
from initbench.spec import parse

if TYPE_CHECKING:
    from initbench.protocols import Grid, Size
    from initbench.validation.backbones.subject import Subject


def validate_backbone_command(name: str, size: Size, patch: str | None, in_channels: list[int] | None, *, json: bool) -> None:
    """Prints the checks of a backbone's variants. Exits with 1 where one failed."""
    from initbench.harness.request import check_names

    check_names("backbone", [name])
    grid = _grid(patch) if patch else None
    report = Report(json)
    with report.status("loading torch"):
        from initbench.validation.backbones.subject import CHANNELS, subjects
        from initbench.validation.backbones.suite import validate
    for subject in subjects(parse(name), size=size, patch=grid, channels=in_channels or CHANNELS):
        title = _title(subject)
        with report.status(title):
            checks = validate(subject)
        report.add(title, _facts(subject), checks)
    report.close()


def validate_init_command(name: str, backbones: Sequence[str], steps: int | None, *, json: bool) -> None:
    """Prints the checks of an initializer on each of some networks. Exits with 1 where one failed.

    Raises:
        UsageError: an unknown name, or the initializer takes none of the networks.
    """
    from initbench.harness.request import check_names, items

    check_names("initializer", [name])
    report = Report(json)
    with report.status("loading torch"):
        from initbench.validation.inits.subject import BACKBONES, STEPS, init_subjects
        from initbench.validation.inits.suite import RefusedError, validate_init
    refusals: dict[str, str] = {}
    for subject in init_subjects(parse(name), items(backbones) or BACKBONES, steps=steps or STEPS):
        title = f"{name} on {_title(subject.network)}"
        facts = {"backbone": subject.network.name, **_facts(subject.network)}
        try:
            with report.status(title):
                checks = validate_init(subject)
        except RefusedError as refused:
            refusals[subject.network.name] = str(refused)
            report.refuse(title, facts, str(refused))
        else:
            report.add(title, facts, checks)
    if len(refusals) == len(report.done):
        said = "; ".join(dict.fromkeys(refusals.values()))
        raise UsageError(f"{name} was not checked, it takes none of {', '.join(refusals)}: {said}. Choose others with --backbone")
    report.close()


def _title(subject: Subject) -> str:
    return f"{subject.name} ({subject.variant}), {subject.size} size, patch {subject.patch}"


def _facts(subject: Subject) -> dict[str, Any]:
    return {"variant": subject.variant, "size": subject.size, "patch": subject.patch}


def _grid(text: str) -> Grid:
    try:
        d, h, w = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--patch {text!r}: write D,H,W, as in --patch 16,32,48") from None
    return d, h, w
