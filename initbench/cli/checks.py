"""Checks as tables or JSON, for the commands that make them."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console

from initbench.cli.output import shown, under_way, write_json

if TYPE_CHECKING:
    from initbench.validation.checks import Check


@dataclass
class Report:
    """A table per subject as soon as it is checked, or JSON of all of them at the end."""

    json: bool
    done: list[dict[str, Any]] = field(default_factory=list)
    console: Console = field(default_factory=lambda: Console(highlight=False))
    passed: bool = True

    def status(self, text: str) -> contextlib.AbstractContextManager[object]:
        """Says on a terminal what is under way."""
        return under_way(self.console, text, silent=self.json)

    def add(self, title: str, facts: dict[str, Any], checks: list[Check]) -> None:
        """Takes the checks of a subject, and prints them as a table.

        Args:
            title: name of the subject, for people.
            facts: what JSON says of the subject.
            checks: how each of them ended.
        """
        for check in checks:
            self.passed = self.passed and check.passed
        self.done.append({**facts, "checks": [asdict(check) for check in checks]})
        if not self.json:
            _print(self.console, title, checks)

    def refuse(self, title: str, facts: dict[str, Any], message: str) -> None:
        """Says of a subject that it could not be checked.

        Args:
            title: name of the subject, for people.
            facts: what JSON says of the subject.
            message: why it was refused.
        """
        self.done.append({**facts, "refused": message, "checks": []})
        if not self.json:
            self.console.print(f"[bold]{shown(title)}[/]\nrefused: {shown(message)}\n")

    def close(self) -> None:
        """Ends the output, and the process with 1 where a check failed."""
        if self.json:
            write_json(self.done)
        if not self.passed:
            sys.exit(1)


def _print(console: Console, title: str, checks: list[Check]) -> None:
    """Prints the checks of a subject as a table, and below it how many failed."""
    from rich.table import Table

    table = Table(title=shown(title), title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for header in ("check", "", "detail"):
        table.add_column(header, overflow="fold", no_wrap=header != "detail")
    failed, seconds = 0, 0.0
    for check in checks:
        outcome = "ok"
        if not check.passed:
            outcome = "[bold red]FAILED[/]"
            failed += 1
        seconds += check.seconds
        table.add_row(check.name, outcome, shown(check.detail))
    console.print(table)
    if failed:
        console.print(f"{failed} of {len(checks)} checks failed")
    else:
        console.print(f"all {len(checks)} checks passed in {seconds:.0f} s\n")
