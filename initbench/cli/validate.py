"""``initbench validate``."""

from __future__ import annotations

import contextlib
import json as json_module
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from initbench.errors import UsageError
from initbench.spec import parse

if TYPE_CHECKING:
    from initbench.protocols import Grid, Size
    from initbench.validation.checks import Check
    from initbench.validation.subject import Subject


def validate_backbone_command(name: str, size: Size, patch: str | None, in_channels: list[int] | None, *, json: bool) -> None:
    """Prints the checks of a backbone's variants. Exits with 1 where one failed."""
    from initbench.harness.names import check_names

    check_names("backbone", [name])
    grid = _grid(patch) if patch else None
    report = _Report(json)
    with report.status("loading torch"):
        from initbench.validation.subject import CHANNELS, subjects
        from initbench.validation.suite import validate
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
    from initbench.harness.names import check_names, items

    check_names("initializer", [name])
    report = _Report(json)
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


@dataclass
class _Report:
    """A table per subject as soon as it is checked, or JSON of all of them at the end."""

    json: bool
    done: list[dict[str, Any]] = field(default_factory=list)
    console: Console = field(default_factory=lambda: Console(highlight=False))
    passed: bool = True

    @contextlib.contextmanager
    def status(self, text: str) -> Iterator[None]:
        """Says on a terminal what is under way."""
        with self.console.status(text) if self.console.is_terminal and not self.json else contextlib.nullcontext():
            yield

    def add(self, title: str, facts: dict[str, Any], checks: list[Check]) -> None:
        """The checks of a subject."""
        self.passed = self.passed and all(check.passed for check in checks)
        self.done.append({**facts, "checks": [asdict(check) for check in checks]})
        if not self.json:
            _print(self.console, title, checks)

    def refuse(self, title: str, facts: dict[str, Any], message: str) -> None:
        """A subject that could not be checked."""
        self.done.append({**facts, "refused": message, "checks": []})
        if not self.json:
            self.console.print(f"[bold]{_escape(title)}[/]\nrefused: {_escape(message)}\n")

    def close(self) -> None:
        """Ends the output, and the process with 1 where a check failed."""
        if self.json:
            sys.stdout.write(json_module.dumps(self.done, indent=1, ensure_ascii=False) + "\n")
        if not self.passed:
            sys.exit(1)


def _print(console: Console, title: str, checks: list[Check]) -> None:
    table = Table(title=_escape(title), title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for header in ("check", "", "detail"):
        table.add_column(header, overflow="fold", no_wrap=header != "detail")
    for check in checks:
        table.add_row(check.name, "ok" if check.passed else "[bold red]FAILED[/]", _escape(check.detail))
    console.print(table)
    failed = sum(not check.passed for check in checks)
    seconds = sum(check.seconds for check in checks)
    console.print(
        f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed in {seconds:.0f} s\n"
    )


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
