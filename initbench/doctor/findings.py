"""What an examination of the machine says, line by line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "absent", "warning", "problem"]
STATES: tuple[State, ...] = ("ok", "absent", "warning", "problem")


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        section: what was looked at together, as in ``data``.
        name: what was looked at.
        state: ``absent`` where a data set was not downloaded, ``warning`` where runs work and something should be known,
            ``problem`` where something will not work.
        detail: what was seen, and what to do where it is not ``ok``; one line.
    """

    section: str
    name: str
    state: State
    detail: str


def worst(findings: Iterable[Finding]) -> State:
    """Returns the worst state among them, ``ok`` of none. What is absent is no flaw."""
    found: State = "ok"
    for finding in findings:
        if finding.state != "absent":
            found = max(found, finding.state, key=STATES.index)
    return found
