"""Progress of a sweep: a board that stays in place on a terminal and in a notebook, and plain lines with their time elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live

from initbench import interrupt
from initbench.cli.board import Head, Row, board
from initbench.cli.output import shown
from initbench.harness.execute import Outcome
from initbench.harness.request import RunRequest
from initbench.printable import printable
from initbench.runs.run_log import EVERY, in_words, stamp
from initbench.runs.time_left import TimeLeft, Workload
from initbench.units import duration

_COLOURS = {"ok": "green", "cached": "cyan", "diverged": "yellow", "failed": "red", "refused": "red", "interrupted": "yellow"}
_A_SECOND = 4  # times that the board is drawn


class Display:
    """Shows a sweep. Use as a context manager; it is the reporter of `initbench.run`."""

    def __init__(
        self,
        requests: Sequence[RunRequest],
        console: Console,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: float | None = None,
        refresh: bool = True,
    ) -> None:
        """Shows nothing yet.

        Args:
            requests: the runs, whose places are their numbers.
            console: where they are shown.
            clock: gives seconds; it is never set back.
            now: seconds since 1970, by default of the clock on the wall.
            refresh: whether the board is drawn again and again by itself.
        """
        self._requests = requests
        self._console = console
        self._clock = clock
        self._began = clock()
        if now is None:
            now = time.time()
        self._began_at = now
        self._left = TimeLeft(clock)
        self._rows: dict[int, Row] = {}
        self._stage_began: dict[int, float] = {}
        self._done = 0
        self._spoke: dict[int, float] = {}
        self._said: set[str] = set()
        self._is_told_of_stop = False
        self._guard = threading.RLock()  # the board is drawn by a thread of its own
        self._has_board = console.is_terminal or _draws_in_place(console)
        self._live = Live(
            console=console, get_renderable=self.drawn, refresh_per_second=_A_SECOND, auto_refresh=refresh, transient=True
        )

    def __enter__(self) -> Display:
        if self._has_board:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._has_board:
            self._live.stop()

    def expect(self, workloads: Mapping[int, Workload | None]) -> None:
        """Takes what the runs have to do that are missing, for the time that is left.

        Args:
            workloads: by the numbers of the runs; None of a run of which nothing is known.
        """
        with self._guard:
            self._left.expect(workloads)

    def drawn(self) -> Group:
        """Returns the board as it is now, for the width of the console."""
        with self._guard:
            now = self._clock()
            rows = []
            for run, row in sorted(self._rows.items()):
                row.elapsed, row.left = now - self._stage_began[run], self._left.of_run(run)
                rows.append(row)
            head = Head(self._done, len(self._requests), now - self._began, self._left.of_all(), interrupt.asked())
            return Group(*board(head, rows, self._console.width))

    def start(self, run: int, stage: str, total: int) -> None:
        """Begins a stage: its line replaces the run's former one.

        Args:
            run: number of the run.
            stage: what it does now.
            total: steps or cases of the stage.
        """
        with self._guard:
            self._left.start(run, stage, total)
            self._rows[run] = Row(printable(self._requests[run].label), stage, 0, total)
            self._stage_began[run] = self._clock()

    def advance(self, run: int, done: int, info: Mapping[str, float]) -> None:
        """Moves a run on.

        Args:
            run: number of the run.
            done: steps or cases of the stage that are done.
            info: numbers of the last step.
        """
        with self._guard:
            self._left.advance(run, done, info)
            row = self._rows.get(run)
            if row is None:
                return
            row.done = done
            row.info = info or row.info
        if not self._has_board:
            self._write_line(run, row)

    def _write_line(self, run: int, row: Row) -> None:
        """Writes a line to a file, now and then."""
        now = self._clock()
        if run in self._spoke and now - self._spoke[run] < EVERY:
            return
        self._spoke[run] = now
        self._tell_of_stop()
        parts = [f"{row.name}: {row.stage} {row.done}/{row.total}", *in_words(row.info)]
        left = self._left.of_all()
        if left is not None:
            parts.append(f"about {duration(left)} left for all runs")
        self._line(shown(f"{self._place(run)}  {', '.join(parts)}"))

    def _tell_of_stop(self) -> None:
        if interrupt.asked() and not self._is_told_of_stop:
            self._is_told_of_stop = True
            self._line(f"{self._stamp()}  stopping after this step")

    def _place(self, run: int) -> str:
        """Returns the time and which run it is, for a line of a file."""
        return f"{self._stamp()}  run {run + 1} of {len(self._requests)}"

    def _stamp(self) -> str:
        return stamp(self._began_at + self._clock() - self._began)

    def note(self, run: int, text: str) -> None:
        """Says what should be known of a run's data, once for all runs on them."""
        request = self._requests[run]
        note = f"[yellow]note:[/] {shown(str(request.dataset))}: {shown(text)}"
        if note not in self._said:
            self._said.add(note)
            self._line(note)

    def finish(self, run: int, outcome: Outcome) -> None:
        """Ends a run: a line stays. Runs that somebody stopped have not ended; one sentence at the end tells of them."""
        with self._guard:
            self._rows.pop(run, None)
            self._left.finish(run)
            if outcome.state != "interrupted":
                self._done += 1
        message = self._once(outcome.message)
        if outcome.state == "interrupted" and (interrupt.asked() or message == _AGAIN):
            return
        parts = [f"[{_COLOURS[outcome.state]}]{outcome.state:<8}[/] {shown(self._requests[run].label)}"]
        if not self._has_board:
            parts.insert(0, self._place(run))
        if outcome.dice is not None:
            parts.append(f"Dice {100 * outcome.dice:.1f}")
        if message:
            parts.append(shown(message))
        if outcome.folder and outcome.state in ("ok", "diverged"):
            parts.append(f"[dim]{shown(str(outcome.folder))}[/]")
        self._line("  ".join(parts))

    def _once(self, message: str) -> str:
        """Returns a message, or a pointer to it where another run had the same."""
        if not message:
            return ""
        if message in self._said:
            return _AGAIN
        self._said.add(message)
        return message

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


_AGAIN = "as above"


def _draws_in_place(console: Console) -> bool:
    """Returns whether the console is a notebook's that can draw in place; without `ipywidgets` it gets lines."""
    return console.is_jupyter and find_spec("ipywidgets") is not None
