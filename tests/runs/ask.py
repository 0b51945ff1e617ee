"""Runs commands in one process and prints as JSON how each ended, and the peak of the memory in KiB."""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from initbench.cli.app import main


def ask(command: list[str]) -> dict[str, Any]:
    out, err, fault = io.StringIO(), io.StringIO(), ""
    code: object = None
    started = time.perf_counter()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(command)
        except SystemExit as ended:
            code = ended.code
        except BaseException:
            fault = traceback.format_exc()
    seconds = time.perf_counter() - started
    return {"code": code, "out": out.getvalue(), "err": err.getvalue(), "traceback": fault, "seconds": seconds}


def peak() -> int:
    """The peak of this process's memory in KiB; `getrusage` counts what the parent had when it started this one."""
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))  # what reads a terabyte ends alone, not the machine
    ended = [ask(command) for command in json.loads(sys.argv[1])]
    print(json.dumps({"ended": ended, "peak": peak()}))  # noqa: T201
