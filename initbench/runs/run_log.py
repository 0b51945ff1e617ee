"""The log of a run: what it was asked for, and how far it was when. Nothing reads it but people."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from initbench.printable import clean
from initbench.units import gib

EVERY = 30.0  # seconds between two lines of a stage


def stamp(seconds: float) -> str:
    """Writes a time in seconds since 1970 as people of this machine's time zone write it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


class RunLog:
    """Lines with their time, appended to a file. A disk that is full costs the log and not the run."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Opens the file with the first line, and keeps it open.

        Args:
            path: of the file.
            clock: gives seconds since 1970.
        """
        self._path = path
        self._clock = clock
        self._file: IO[str] | None = None
        self._is_broken = False
        self._last = 0.0

    def write(self, text: str) -> None:
        """Appends a line, or several where the text has line breaks."""
        if self._is_broken:
            return
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("a", encoding="utf-8")
            now = stamp(self._clock())
            for line in text.splitlines():
                self._file.write(f"{now}  {clean(line)}\n")
            self._file.flush()
        except OSError:
            self._is_broken = True

    def is_due(self) -> bool:
        """Returns whether the last line of a stage is so old that it is time for another."""
        now = self._clock()
        if abs(now - self._last) < EVERY:
            return False
        self._last = now
        return True

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def in_words(info: Mapping[str, float]) -> list[str]:
    """Writes the numbers of a step as people read them: loss, pace, memory and device, as far as they are known."""
    found = []
    if "loss" in info:
        found.append(f"loss {info['loss']:.3g}")
    if "patches/s" in info:
        found.append(f"{info['patches/s']:.3g} patches/s")
    if "memory" in info:
        found.append(gib(info["memory"]))
    if "cuda" in info:
        found.append(f"cuda:{info['cuda']:.0f}")
    return found
