"""Signals that ask to stop: the first lets the step in hand finish and be saved.

A second Ctrl-C or SIGTERM stops at once. USR1 and USR2, with which schedulers warn before they end a process, never do.

Signals belong to the process, so this state does too.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

_HARD = (signal.SIGINT, signal.SIGTERM)
SIGNALS = (*_HARD, signal.SIGUSR1, signal.SIGUSR2)
_TOGETHER = 1.0  # seconds within which two signals are one: `make` and schedulers send theirs beside the terminal's
_asked = False
_warned = False  # whether it was a scheduler that asked
_asked_at: float | None = None  # when the first Ctrl-C or SIGTERM came
_within = 0


def asked() -> bool:
    """Returns whether somebody wants this process to stop."""
    return _asked


def warned() -> bool:
    """Returns whether a scheduler has warned this process of its end, since it last took signals for requests."""
    return _warned


def ask() -> None:
    """Asks as a signal does."""
    global _asked  # noqa: PLW0603
    _asked = True


@contextlib.contextmanager
def handled(*, worker: bool = False) -> Iterator[None]:
    """Inside the block signals are requests. Only in the main thread, which alone receives them.

    A `worker` process takes any number of them as one: a scheduler signals every process of a job, and the parent asks too.
    """
    global _asked  # noqa: PLW0603
    before = install(worker=worker)
    try:
        yield
    finally:
        _asked = False
        for number, handler in before.items():
            signal.signal(number, handler)


def install(*, worker: bool = False) -> dict[signal.Signals, Any]:
    """Makes signals requests from here on; gives the handlers that were there."""
    global _asked, _warned, _asked_at
    _asked, _warned, _asked_at = False, False, None
    handler = _in_parent
    if worker:
        handler = _in_worker
    return {number: signal.signal(number, handler) for number in SIGNALS}


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Inside the block somebody asks `asked` often, so the first signal need not stop anything by itself."""
    global _within  # noqa: PLW0603
    _within += 1
    try:
        yield
    finally:
        _within -= 1


def _in_worker(number: int, frame: FrameType | None) -> None:
    ask()


def _in_parent(number: int, frame: FrameType | None) -> None:
    global _warned, _asked_at  # noqa: PLW0603
    again = False
    _warned = _warned or number not in _HARD
    if number in _HARD:
        now = time.monotonic()
        if _asked_at is None:
            _asked_at = now
        else:
            again = now - _asked_at > _TOGETHER
    ask()
    if again or not _within:  # outside of the block nobody would notice
        raise KeyboardInterrupt
