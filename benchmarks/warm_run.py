"""What a run costs in a worker that has done others: processor time beside steps, evaluation and pictures.

    python -m benchmarks.warm_run DATASET --backbone unetr

does a few runs of two steps one after another in this process, as a worker does, and prints the processor time of each by stage.
The first one also imports the libraries.
"""

from __future__ import annotations

import argparse
import functools
import gc
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from initbench.harness import run as stages
from initbench.harness.cell import Cells
from initbench.harness.execute import execute_on
from initbench.protocols import NoProgress
from initbench.studies.sweep import cross_requests

STAGES = {"fit": "steps", "score": "evaluation", "draw": "pictures"}
"""The functions of `initbench.harness.run` that are timed apart."""
SETTINGS = ("steps.smoke=2", "patch.size=32,32,32", "patch.batch=1", "preprocess.spacing=native")


def timed(name: str, function: Callable[..., Any], spent: dict[str, float]) -> Callable[..., Any]:
    """The function, which adds its processor time in seconds to `spent` under a name."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        begun = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            spent[name] = spent.get(name, 0.0) + time.process_time() - begun

    return call


def main() -> None:
    """Times the runs and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--backbone", default="unetr")
    parser.add_argument("--runs", type=int, default=4)
    asked = parser.parse_args()
    spent: dict[str, float] = {}
    watched: dict[str, Any] = {name: timed(label, getattr(stages, name), spent) for name, label in STAGES.items()}
    with tempfile.TemporaryDirectory() as out, mock.patch.multiple(stages, **watched):
        requests = cross_requests(
            "default",
            asked.backbone,
            asked.dataset,
            seeds=asked.runs,
            out=out,
            size="tiny",
            budget="smoke",
            device="cpu",
            precision="float32",
            assignments=SETTINGS,
        )
        cells = Cells()
        for request in requests:
            spent.clear()
            begun = time.process_time()
            outcome = execute_on(request, "cpu", NoProgress(), cells)
            whole = time.process_time() - begun
            gc.freeze()  # as a worker does
            apart = ", ".join(f"{label} {seconds:.2f} s" for label, seconds in spent.items())
            print(f"{request.label}: {outcome.state}, {apart}, the rest {whole - sum(spent.values()):.2f} s")


if __name__ == "__main__":
    main()
