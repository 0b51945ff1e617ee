"""A data set that has case ids and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from initbench.protocols import Case, Split


@dataclass
class Listed:
    """A data set of made-up case ids; the test fails where somebody asks for a volume or its digest."""

    ids: tuple[str, ...]
    split: Split | None = None
    name: str = "listed"
    modality: str = "CT"
    channels: tuple[str, ...] = ("CT",)
    classes: tuple[str, ...] = ("background", "a")
    licence: str = ""

    def case_ids(self) -> tuple[str, ...]:
        return self.ids

    def published_split(self) -> Split | None:
        return self.split

    def load(self, case_id: str) -> Case:
        pytest.fail(f"a split is a matter of ids, and case {case_id} was read")

    def digest(self, case_id: str) -> str:
        pytest.fail(f"a split is a matter of ids, and case {case_id} was hashed")
