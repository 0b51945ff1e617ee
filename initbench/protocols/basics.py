"""Words that every contract uses, and where long work reports to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

Grid = tuple[int, int, int]
Spacing = tuple[float, float, float]
Size = Literal["tiny", "paper"]
SIZES: tuple[Size, ...] = ("paper", "tiny")
Layout = Literal["NCDHW", "NDHWC", "NLC", "NCHW"]
Dimension = Literal[2, 3]
Axes = Literal["DHW", "WHD"]


class Progress(Protocol):
    """Where long work reports to."""

    def start(self, stage: str, total: int) -> None:
        """A stage of `total` steps begins."""

    def advance(self, done: int, info: Mapping[str, float]) -> None:
        """`done` steps of the stage are finished."""


class NoProgress:
    """Says nothing."""

    def start(self, stage: str, total: int) -> None:
        """Ignored."""

    def advance(self, done: int, info: Mapping[str, float]) -> None:
        """Ignored."""
