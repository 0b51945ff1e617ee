"""A check: one promise, whether it is kept, and what was seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

S = TypeVar("S")


@dataclass(frozen=True)
class Check:
    """One promise and whether it is kept.

    Attributes:
        name: what was checked.
        passed: whether it holds.
        detail: what was seen, or what is wrong; one line.
        seconds: how long it took.
    """

    name: str
    passed: bool
    detail: str
    seconds: float


class BrokenPromiseError(Exception):
    """What a check found wrong."""


def run_check(name: str, check: Callable[[S], str], subject: S) -> Check:
    """Runs one check; whatever it raises is its failure and stops no other."""
    started = time.perf_counter()
    try:
        passed, detail = True, check(subject)
    except BrokenPromiseError as broken:
        passed, detail = False, str(broken)
    except Exception as error:  # whatever a plug-in raises is the failure of this check
        passed, detail = False, f"{type(error).__name__}: {error}"
    return Check(name, passed, " ".join(detail.split()), time.perf_counter() - started)
