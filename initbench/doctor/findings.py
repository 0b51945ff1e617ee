"""What an examination of the machine says, line by line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]
STATES: tuple[State, ...] = ("ok", "warning", "problem")


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        section: what was looked at together, as in ``data``.
        name: what was looked at.
        state: ``warning`` where runs work and something should be known, ``problem`` where something will not work.
        detail: what was seen, and what to do where it is not ``ok``; one line.
    """

    section: str
    name: str
    state: State
    detail: str


def worst(findings: Iterable[Finding]) -> State:
    """The worst state among them, ``ok`` of none."""
    return max((finding.state for finding in findings), key=STATES.index, default="ok")
