"""Processes that write a folder beside its place until they are told to end, or killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.folders import ROOT

# Writes a folder beside its place, says so, and waits.
WRITER = """
import sys
from pathlib import Path
from initbench import staging

with staging.beside(Path(sys.argv[1])) as temporary:
    (temporary / "half").write_text("x")
    print(temporary, flush=True)
    sys.stdin.read()
"""


class Writer:
    """A process that writes a folder.

    Attributes:
        process: the process.
        folder: the temporary folder that it holds.

    Args:
        place: where the folder would be moved.
    """

    def __init__(self, place: Path) -> None:
        command = [sys.executable, "-c", WRITER, str(place)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        self.folder = Path(self.process.stdout.readline().strip())

    def end(self, number: signal.Signals | None = None) -> None:
        """Waits until it has ended: by itself, or by a signal where one is given."""
        if number is not None:
            self.process.send_signal(number)
        self.process.communicate("")
