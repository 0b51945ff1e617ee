"""``initbench pretrain``."""

from __future__ import annotations

import contextlib
import json as json_module
import sys
from pathlib import Path
from typing import Any

from rich.console import Console


def pretrain_command(
    init: str, backbone: str, dataset: str, seed: int, weights: Path, *, json: bool, options: dict[str, Any]
) -> None:
    """Runs the init stage with progress, writes the weights and their card, and says where."""
    from initbench.harness.request import check_names

    check_names("initializer", [init])
    check_names("backbone", [backbone])
    console = Console(stderr=json, highlight=False)
    with console.status("loading torch") if console.is_terminal else contextlib.nullcontext():
        from initbench.cli.progress import Display
        from initbench.executors.local import OneRun
        from initbench.studies.pretrain import export, plan_one
    request = plan_one(init, backbone, dataset, seed, weights, **options)
    with Display([request], console) as display:
        written = export(request, weights, OneRun(display, 0))
    if json:
        sys.stdout.write(json_module.dumps({"path": str(written.path), **written.card}, indent=1) + "\n")
        return
    cost = written.card["cost"]
    console.print(
        f"{written.path}: {written.card['init']} on {written.card['backbone']}, {cost['steps']} steps, {cost['seconds']:.0f} s"
    )
    console.print(f"{written.card_path}: what they are", style="dim")
