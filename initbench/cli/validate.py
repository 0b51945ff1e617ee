"""``initbench validate``."""

from __future__ import annotations

import contextlib
import json as json_module
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from initbench.errors import UsageError
from initbench.spec import parse

if TYPE_CHECKING:
    from initbench.protocols import Grid, Size
    from initbench.validation.subject import Check


def validate_command(name: str, size: Size, patch: str | None, in_channels: list[int] | None, *, json: bool) -> None:
    """Prints the checks of a backbone's variants. Exits with 1 where one failed."""
    from initbench.harness.names import check_names

    check_names("backbone", [name])
    grid = _grid(patch) if patch else None
    console = Console(highlight=False)
    with _status(console, "loading torch", quiet=json):
        from initbench.validation.subject import CHANNELS, subjects
        from initbench.validation.suite import validate
    done: list[dict[str, Any]] = []
    passed = True
    for subject in subjects(parse(name), size=size, patch=grid, channels=in_channels or CHANNELS):
        title = f"{name.partition('(')[0]} ({subject.variant}), {size} size, patch {subject.patch}"
        with _status(console, title, quiet=json):
            checks = validate(subject)
        passed = passed and all(check.passed for check in checks)
        if not json:
            _print(console, title, checks)
        done.append({"variant": subject.variant, "size": size, "patch": subject.patch, "checks": [asdict(c) for c in checks]})
    if json:
        sys.stdout.write(json_module.dumps(done, indent=1, ensure_ascii=False) + "\n")
    if not passed:
        sys.exit(1)


def _grid(text: str) -> Grid:
    try:
        d, h, w = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--patch {text!r}: write D,H,W, as in --patch 16,32,48") from None
    return d, h, w


@contextlib.contextmanager
def _status(console: Console, text: str, *, quiet: bool) -> Iterator[None]:
    with console.status(text) if console.is_terminal and not quiet else contextlib.nullcontext():
        yield


def _print(console: Console, title: str, checks: list[Check]) -> None:
    from rich.markup import escape

    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for header in ("check", "", "detail"):
        table.add_column(header, overflow="fold", no_wrap=header != "detail")
    for check in checks:
        table.add_row(check.name, "ok" if check.passed else "[bold red]FAILED[/]", escape(check.detail))
    console.print(table)
    failed = sum(not check.passed for check in checks)
    seconds = sum(check.seconds for check in checks)
    console.print(
        f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed in {seconds:.0f} s\n"
    )
