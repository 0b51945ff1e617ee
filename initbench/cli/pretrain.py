"""``initbench pretrain``."""

from __future__ import annotations

import contextlib
import json as json_module
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from initbench.errors import UsageError


def pretrain_command(
    init: str, backbone: str, dataset: str, seed: int, weights: Path, *, json: bool, options: dict[str, Any]
) -> None:
    """Runs the init stage with progress, writes the weights and their card, and says where."""
    from initbench.harness.names import check_names

    check_names("initializer", [init])
    check_names("backbone", [backbone])
    console = Console(stderr=json, highlight=False)
    with console.status("loading torch") if console.is_terminal else contextlib.nullcontext():
        from initbench.cli.progress import Display
        from initbench.executors.local import OneRun
        from initbench.harness.pretrain import check_path, pretrain
        from initbench.harness.sweep import plan
    check_path(weights)
    requests = plan([init], [backbone], [dataset], seeds=[seed], **options)
    if len(requests) != 1:
        raise UsageError(f"one initializer, one backbone and one data set at a time; this names {len(requests)} runs")
    with Display(requests, console) as display:
        export = pretrain(requests[0], weights, OneRun(display, 0))
    if json:
        sys.stdout.write(json_module.dumps({"path": str(export.path), **export.card}, indent=1) + "\n")
        return
    cost = export.card["cost"]
    console.print(
        f"{export.path}: {export.card['init']} on {export.card['backbone']}, {cost['steps']} steps, {cost['seconds']:.0f} s"
    )
    console.print(f"{export.card_path}: what they are", style="dim")
