"""Progress of a sweep: one bar over all runs, one per running stage; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from initbench.cli.output import shown
from initbench.harness.execute import Outcome
from initbench.harness.request import RunRequest

_LINE_EVERY = 30.0  # seconds between plain lines of one run
_COLOURS = {"ok": "green", "cached": "cyan", "diverged": "yellow", "failed": "red", "refused": "red", "interrupted": "yellow"}


class Display:
    """Shows a sweep. Use as a context manager; it is the reporter of `initbench.run`."""

    def __init__(self, requests: Sequence[RunRequest], console: Console) -> None:
        self._requests = requests
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[info]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._all = self._bars.add_task("runs", total=len(requests), info="")
        self._tasks: dict[int, TaskID] = {}
        self._stage: dict[int, tuple[str, int]] = {}
        self._spoke: dict[int, float] = {}
        self._said: set[str] = set()

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def start(self, run: int, stage: str, total: int) -> None:
        """Begins a stage: its bar replaces the run's former one.

        Args:
            run: number of the run.
            stage: what it does now.
            total: steps or cases of the stage.
        """
        self._clear(run)
        label = shown(self._requests[run].label)
        self._stage[run] = (stage, total)
        self._tasks[run] = self._bars.add_task(f"{label}: {shown(stage)}", total=total, info="")

    def advance(self, run: int, done: int, info: Mapping[str, float]) -> None:
        """Moves a run's bar."""
        text = "  ".join(f"{key} {value:.3g}" for key, value in info.items())
        if run in self._tasks:
            self._bars.update(self._tasks[run], completed=done, info=text)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._spoke.get(run, 0.0) > _LINE_EVERY:
            self._spoke[run] = now
            stage, total = self._stage.get(run, ("", 0))
            self._line(f"{self._requests[run].label}: {stage} {done}/{total} {text}")

    def note(self, run: int, text: str) -> None:
        """Says what should be known of a run's data, once for all runs on them."""
        request = self._requests[run]
        note = f"[yellow]note:[/] {shown(str(request.dataset))}: {shown(text)}"
        if note not in self._said:
            self._said.add(note)
            self._line(note, markup=True)

    def finish(self, run: int, outcome: Outcome) -> None:
        """A run ended: a line stays."""
        self._clear(run)
        self._bars.advance(self._all)
        score = "" if outcome.dice is None else f"  Dice {100 * outcome.dice:.1f}"
        colour = _COLOURS[outcome.state]
        message = f"  {shown(self._once(outcome.message))}" if outcome.message else ""
        where = f"  {shown(str(outcome.folder))}" if outcome.folder and outcome.state in ("ok", "diverged") else ""
        self._line(
            f"[{colour}]{outcome.state:<8}[/] {shown(self._requests[run].label)}{score}{message}[dim]{where}[/]",
            markup=True,
        )

    def _once(self, message: str) -> str:
        """A message that many runs share is said in full once."""
        if message in self._said:
            return "as above"
        self._said.add(message)
        return message

    def _line(self, text: str, *, markup: bool = False) -> None:
        self._console.print(text, markup=markup, highlight=False, soft_wrap=True)

    def _clear(self, run: int) -> None:
        if run in self._tasks:
            self._bars.remove_task(self._tasks.pop(run))
