"""Checkpoints of a stage: the newest two, each known by its own digest, so that a broken one is noticed and the other taken.

The learning curve grows with every step. It lies in a file of its own: each checkpoint appends the rows since the one before it,
and notes how many bytes of the file are whole. So a checkpoint costs the same after ten steps and after a million.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import re
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from initbench import digest
from initbench.errors import of_the_system

_NAME = re.compile(r"(?P<stage>.+)-(?P<step>\d{9})-(?P<digest>[0-9a-f]{16})\.pt")
# Where the newest is found broken (a failing disk, a folder copied in part), the stage goes on from the one before it.
_KEPT = 2


class Checkpoints:
    """Checkpoints of one stage in a folder.

    Attributes:
        folder: where they lie; made when the first is written.
        stage: what their names begin with.
        every: seconds between two of them.
        say: told, for people, what was wrong with one.
    """

    def __init__(self, folder: Path, stage: str, every: float, say: Callable[[str], None] = lambda text: None) -> None:
        self.folder = folder
        self.stage = stage
        self.every = every
        self.say = say
        self._last = time.monotonic()  # not the time of day, which may be set back
        self._curve = folder / f"{stage}.curve"
        self._whole = 0  # bytes of the curve's file that count
        self._waiting: list[bytes] = []  # rows that are not written yet
        self._digest = hashlib.sha256()  # of all rows

    def due(self) -> bool:
        """Returns whether it is time for another one."""
        return time.monotonic() - self._last >= self.every

    def newest(self) -> dict[str, Any] | None:
        """Reads the newest whole checkpoint; None without one. Broken ones are named and removed."""
        for path in reversed(self._found()):
            content = self._read(path)
            if content is not None and self._found_rows(content):
                return content
            self.say(f"checkpoint {path} is broken and was passed over")
            path.unlink(missing_ok=True)
        return None

    def append(self, rows: Sequence[Sequence[float]]) -> dict[str, Any]:
        """Takes further rows of the learning curve, which the next checkpoint writes.

        Args:
            rows: as many values in each as in those before.

        Returns:
            What a checkpoint has to keep under the key ``curve``, so that `newest` returns all rows there.
        """
        values = np.array(rows, "<f8").tobytes()
        self._waiting.append(values)
        self._digest.update(values)
        return {"bytes": self._whole + sum(map(len, self._waiting)), "sha256": self._digest.hexdigest()}

    def save(self, step: int, content: dict[str, Any]) -> None:
        """Writes a checkpoint whole or not at all; a disk that is full costs the checkpoint and not the run."""
        self._last = time.monotonic()
        temporary = self.folder / f".{self.stage}.{os.getpid()}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write_rows()
            with temporary.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self.folder / f"{self.stage}-{step:09d}-{digest.of_file(temporary)[:16]}.pt")
            for old in self._found()[:-_KEPT]:
                old.unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            self.say(f"no checkpoint at step {step}: {of_the_system(error) or error}")

    def _write_rows(self) -> None:
        """Appends the rows that wait. What a process that was killed, or a full disk, left behind the whole ones is cut off."""
        if not self._waiting:
            return
        values = b"".join(self._waiting)
        self._curve.touch()
        with self._curve.open("r+b") as file:
            file.truncate(self._whole)
            file.seek(self._whole)
            file.write(values)
            file.flush()
            os.fsync(file.fileno())
        self._whole += len(values)
        self._waiting.clear()

    def _found_rows(self, content: dict[str, Any]) -> bool:
        """Puts the rows of the learning curve into a checkpoint that has some, and forgets later ones; whether they are whole."""
        mark = content.get("curve")
        if mark is None:
            return "columns" not in content  # of an earlier version, which kept the rows themselves
        try:
            with self._curve.open("rb") as file:
                values = file.read(mark["bytes"])
        except OSError:
            return False
        found = hashlib.sha256(values)
        if found.hexdigest() != mark["sha256"]:
            return False
        self._whole, self._digest = len(values), found
        self._waiting.clear()
        rows: NDArray[np.float64] = np.frombuffer(values, "<f8").reshape(-1, len(content["columns"]))
        content["curve"] = rows
        return True

    def _found(self) -> list[Path]:
        """Returns the checkpoints of the stage by their steps, as their names sort."""
        return sorted(path for path in self.folder.glob(f"{self.stage}-*.pt") if _NAME.fullmatch(path.name))

    def _read(self, path: Path) -> dict[str, Any] | None:
        match = _NAME.fullmatch(path.name)
        try:
            if match is None or digest.of_file(path)[:16] != match["digest"]:
                return None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError):
            return None
        if not isinstance(content, dict):
            return None
        return content
