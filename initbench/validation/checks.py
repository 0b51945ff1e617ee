"""A check: one promise, whether it is kept, and what the check saw."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from initbench.errors import DataError, InitbenchError, UsageError

S = TypeVar("S")


@dataclass(frozen=True)
class Check:
    """One promise and whether it is kept.

    Attributes:
        name: what was checked.
        passed: whether it holds.
        detail: what was seen, or what is wrong; one line.
        seconds: how long the check took.
    """

    name: str
    passed: bool
    detail: str
    seconds: float


class BrokenPromiseError(Exception):
    """What a check found wrong."""


class RefusedError(Exception):
    """A component says that it does not work on a network, which breaks no promise."""


@contextlib.contextmanager
def first_call(*reported: type[InitbenchError]) -> Iterator[None]:
    """Tells a component that refuses a network from one that fails: failures in the block are left to the checks.

    Args:
        reported: errors of initbench that a check reports, so that they do not stop the others.

    Raises:
        RefusedError: the component does not take the network.
        InitbenchError: something that the component needs on any network is not there.
    """
    try:
        yield
    except (UsageError, DataError) as error:
        raise RefusedError(str(error)) from None
    except reported:
        return
    except InitbenchError:
        raise
    except Exception:  # whatever a plug-in raises is reported by the check that calls it again
        return


def run_check(name: str, check: Callable[[S], str], subject: S) -> Check:
    """Runs one check. Whatever it raises is recorded as its failure, so that the other checks go on.

    Args:
        name: what is checked.
        check: returns what it saw, and raises where the promise is broken.
        subject: what the check looks at.
    """
    started = time.perf_counter()
    try:
        passed, detail = True, check(subject)
    except BrokenPromiseError as broken:
        passed, detail = False, str(broken)
    except Exception as error:  # whatever a plug-in raises is the failure of this check
        passed, detail = False, f"{type(error).__name__}: {error}"
    return Check(name, passed, " ".join(detail.split()), time.perf_counter() - started)


def run_checks(checks: Mapping[str, Callable[[S], str]], subject: S) -> list[Check]:
    """Runs checks by their names, each as `run_check` does."""
    found = []
    for name, check in checks.items():
        found.append(run_check(name, check, subject))
    return found
