"""Runs several commands in one process of its own, so that torch is imported once, and tells how each of them ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Is given the commands and the names of modules, both as JSON.
DRIVER = """
import contextlib, io, json, sys
from pathlib import Path
from initbench.cli.app import main

results = []
before = set(Path().rglob("*"))
for arguments in json.loads(sys.argv[1]):
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as error:
            code = error.code or 0
    heavy = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
    made = set(Path().rglob("*")) - before
    before |= made
    results.append({"code": code, "out": out.getvalue(), "err": err.getvalue(), "heavy": heavy, "made": sorted(map(str, made))})
print(json.dumps(results))
"""

# What takes a second or several to import, and what tables of runs need, which is a part of a second.
SECONDS = ("torch", "monai", "matplotlib", "timm", "nibabel")
TABLES = ("numpy", "pandas", "scipy")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, what it printed, which heavy modules were loaded by then, and which files it made."""

    code: int
    out: str
    err: str
    heavy: list[str]
    made: list[str]

    @property
    def said(self) -> str:
        """All that it printed, with single spaces."""
        return " ".join(f"{self.out} {self.err}".split())


def environment(folder: Path) -> dict[str, str]:
    """Variables of a process that finds no data, no settings and no cache but those below a folder."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("INITBENCH")}
    own["INITBENCH_IN_PROCESS"] = "1"  # a worker would import torch once more
    return {**own, "COLUMNS": "200", "NO_COLOR": "1", "INITBENCH_CACHE": str(folder / "cache"), "XDG_DATA_HOME": str(folder)}


def in_one_process(folder: Path, *commands: list[str]) -> list[Ended]:
    """Runs commands one after the other, with a folder as the working folder."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(commands), json.dumps([*SECONDS, *TABLES, "pydantic"])],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=environment(folder),
    )
    return [Ended(**item) for item in json.loads(done.stdout)]
