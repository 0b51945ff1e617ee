"""``initbench validate``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from initbench.cli.checks import Report
from initbench.cli.command import command
from initbench.cli.options import HOW_LONG, WHAT, JsonOption, RegimenBackbonesOption, SizeOption, TestBackbonesOption
from initbench.errors import UsageError

if TYPE_CHECKING:
    from initbench.protocols import Grid
    from initbench.validation.backbones.subject import Subject
    from initbench.validation.checks import Check
    from initbench.validation.inits.subject import InitSubject
    from initbench.validation.regimens.subject import RegimenSubject

    OnNetwork = TypeVar("OnNetwork", InitSubject, RegimenSubject)


@command
def validate_backbone(
    name: Annotated[
        str, typer.Argument(help="Backbone: name, name(variant=...) or ./file.py:function; all variants without one.")
    ],
    size: SizeOption = "tiny",
    patch: Annotated[
        str | None,
        typer.Option("--patch", metavar="D,H,W", help="Patch D,H,W in voxels.", show_default="a small one", rich_help_panel=WHAT),
    ] = None,
    in_channels: Annotated[
        list[int] | None,
        typer.Option(
            "--in-channels", metavar="N", help="Input channels. Repeatable.", min=1, show_default="1 and 2", rich_help_panel=WHAT
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check what a backbone promises.

    Checks outputs, gradients, levels, heads, weights and determinism, on the CPU. Exits with 1 where a check failed.
    """
    from initbench.harness.request import read_component

    asked = read_component("backbone", name)
    grid = None
    if patch:
        grid = _grid(patch)
    report = Report(json)
    with report.status("loading torch"):
        from initbench.validation.backbones.subject import CHANNELS, subjects
        from initbench.validation.backbones.suite import validate
    for subject in subjects(asked, size=size, patch=grid, channels=in_channels or CHANNELS):
        title = _title(subject)
        with report.status(title):
            checks = validate(subject)
        report.add(title, _facts(subject), checks)
    report.close()


@command
def validate_init(
    name: Annotated[str, typer.Argument(help="Initializer: name, name(key=value), outer(inner) or ./file.py:function.")],
    backbone: TestBackbonesOption = None,
    pretext_steps: Annotated[
        int | None,
        typer.Option(
            "--pretext-steps",
            metavar="N",
            help="Steps of a learned initializer.",
            min=1,
            show_default="4",
            rich_help_panel=HOW_LONG,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check what an initializer promises.

    Checks on several small networks that only values change, by its seed and within its budget, on the CPU. Exits with 1 where a
    check failed.
    """
    from initbench.harness.request import read_component, split_lists

    asked = read_component("initializer", name)
    report = Report(json)
    with report.status("loading torch"):
        from initbench.validation.inits.subject import BACKBONES, STEPS, init_subjects
        from initbench.validation.inits.suite import validate_init
    subjects = init_subjects(asked, split_lists(backbone or []) or BACKBONES, steps=pretext_steps or STEPS)
    _report_each(name, subjects, validate_init, report)


@command
def validate_regimen(
    name: Annotated[str, typer.Argument(help="Regimen: name, name(key=value) or ./file.py:function.")],
    backbone: RegimenBackbonesOption = None,
    json: JsonOption = False,
) -> None:
    """Check what a regimen promises.

    Checks on several small networks that it costs the units that it declares, takes the batches of plain training, leaves the
    network as it was but for its values, and ends in the same bits after a stop, on the CPU. Exits with 1 where a check failed.
    """
    from initbench.harness.request import read_component, split_lists

    asked = read_component("regimen", name)
    report = Report(json)
    with report.status("loading torch"):
        from initbench.validation.regimens.subject import BACKBONES, regimen_subjects
        from initbench.validation.regimens.suite import validate_regimen
    _report_each(name, regimen_subjects(asked, split_lists(backbone or []) or BACKBONES), validate_regimen, report)


def _report_each(name: str, subjects: Sequence[OnNetwork], validate: Callable[[OnNetwork], list[Check]], report: Report) -> None:
    """Checks a component on one network after another and ends the output.

    Args:
        name: of the component, as it was asked for.
        subjects: the component, each time on another network.
        validate: makes the checks of a subject.
        report: of the checks.

    Raises:
        UsageError: it takes none of the networks.
    """
    from initbench.validation.checks import RefusedError

    refused: list[tuple[str, dict[str, Any], str]] = []
    networks: list[str] = []
    reasons: dict[str, None] = {}
    for subject in subjects:
        network = subject.network
        title, facts = f"{name} on {_title(network)}", {"backbone": network.name, **_facts(network)}
        try:
            with report.status(title):
                checks = validate(subject)
        except RefusedError as error:
            refused.append((title, facts, str(error)))
            networks.append(network.name)
            reasons[str(error)] = None
        else:
            report.add(title, facts, checks)
    if not report.done:
        told = f"{name} was not checked, it takes none of {', '.join(networks)}: {'; '.join(reasons)}"
        raise UsageError(f"{told}. Choose others with --backbone")
    for title, facts, message in refused:
        report.refuse(title, facts, message)
    report.close()


def _title(subject: Subject) -> str:
    return f"{subject.name} ({subject.variant}), {subject.size} size, patch {subject.patch}"


def _facts(subject: Subject) -> dict[str, Any]:
    return {"variant": subject.variant, "size": subject.size, "patch": subject.patch}


def _grid(text: str) -> Grid:
    """Returns the patch that an option states.

    Raises:
        UsageError: it states none.
    """
    try:
        d, h, w = map(int, text.split(","))
    except ValueError:
        raise UsageError(f"--patch {text!r}: write D,H,W, as in --patch 16,32,48") from None
    return d, h, w
