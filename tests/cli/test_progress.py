"""What a terminal, a file and a notebook show of a study while it runs, when it is stopped, and when it goes on."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from initbench import interrupt
from initbench.cli import board, progress
from initbench.cli.app import main
from initbench.cli.board import Head, Row
from initbench.cli.progress import Display
from initbench.cli.status import shown
from initbench.harness.execute import Outcome
from initbench.harness.request import RunRequest
from initbench.runs.status import AskedRun, RunStatus
from initbench.runs.time_left import Workload
from tests.folders import TESTS

WIDTHS = (60, 80, 120, 160)
INITS = ("default", "kaiming-normal", "lwi(mask_ratio=0.6)")
REQUESTS = [RunRequest.of(init, "unetr", "hippocampus", seed) for seed in (0, 1) for init in INITS]
EXPECTED = TESTS / "expected" / "progress.txt"
GIB = 2.0**30


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Screen:
    """A study on a console that is no real one, at times that are said."""

    def __init__(self, width: int, *, terminal: bool = True, jupyter: bool = False) -> None:
        self.file = io.StringIO()
        self.console = Console(
            file=self.file, width=width, force_terminal=terminal, force_jupyter=jupyter, color_system=None, legacy_windows=False
        )
        self.now = 0.0
        self.display = Display(REQUESTS, self.console, clock=lambda: self.now, now=1_700_000_000.0, refresh=False)

    def expect(self) -> None:
        """Tells of what the runs have to do, all on one kind of network."""
        loads: dict[int, Workload | None] = {}
        for number in range(len(REQUESTS)):
            pretext = 192 if number % 3 == 2 else 0
            loads[number] = Workload("unetr", {"pretext": pretext, "train": 1200 - pretext, "evaluate": 60})
        self.display.expect(loads)

    def step(self, run: int, done: int, loss: float) -> None:
        self.display.advance(run, done, {"loss": loss, "patches/s": 6.25, "memory": 2.1 * GIB})

    def draw(self, title: str) -> None:
        self.console.print(f"# {title}")
        self.console.print(self.display.drawn())

    def ended(self, run: int, state: str, dice: float | None = None, message: str = "") -> None:
        folder = Path(f"runs/{run}") if state == "ok" else None
        self.display.finish(run, Outcome(REQUESTS[run], state, folder, dice, message))  # type: ignore[arg-type]


def study(screen: Screen) -> None:
    """A study of two runs at a time, which is stopped, and goes on."""
    screen.expect()
    screen.draw("begin")
    screen.display.start(0, "train", 1200)
    screen.display.start(2, "pretext", 192)
    screen.now = 5.0
    screen.step(0, 10, 1.3371)
    screen.draw("the first ten steps")
    screen.now = 60.0
    screen.step(0, 180, 0.8123)
    screen.step(2, 100, 0.0012)
    screen.draw("a minute")
    screen.now = 420.0
    screen.ended(0, "ok", 0.7123)
    screen.display.start(1, "train", 1200)
    screen.display.start(2, "train", 1008)
    screen.now = 480.0
    screen.step(1, 200, 0.9)
    screen.step(2, 180, 0.85)
    screen.draw("after the first run")
    interrupt.ask()
    screen.draw("Ctrl-C")
    for run in (1, 2):
        screen.ended(run, "interrupted", message=f"stopped after step {180 + run}")
    for run in (3, 4, 5):
        screen.ended(run, "interrupted", message="not begun")
    screen.draw("stopped")
    interrupt._asked = False


def resumed(screen: Screen) -> None:
    """The same study with the same command, on one device."""
    screen.ended(0, "cached", 0.7123)
    screen.expect()
    screen.display.start(1, "train", 1200)
    screen.display.advance(1, 181, {})
    screen.now = 30.0
    screen.step(1, 281, 0.79)
    screen.draw("it goes on")


def statuses() -> list[RunStatus]:
    asked = [AskedRun(request.label, {}, Path("runs")) for request in REQUESTS]
    reason = (
        "training 12/1200: there is not enough memory for a step (runs/hippocampus/unetr/lwi-0123456789/seed-1/traceback.txt)"
    )
    return [
        RunStatus(asked[0], "done", seconds=420.0, detail="Dice 71.2"),
        RunStatus(asked[1], "training", 281, 1200, 276.0, detail="loss 0.79"),
        RunStatus(asked[2], "interrupted", 182, 1008, detail="in training"),
        RunStatus(asked[3], "pending"),
        RunStatus(asked[4], "diverged", seconds=30.0, detail="the loss was not finite at step 40"),
        RunStatus(asked[5], "failed", detail=reason),
    ]


def capture(width: int) -> str:
    first, second, third = Screen(width), Screen(width), Screen(width)
    study(first)
    resumed(second)
    third.console.print("# status")
    third.console.print(shown(statuses(), width), soft_wrap=True)
    return "".join(screen.file.getvalue() for screen in (first, second, third))


def test_captures_at_every_width() -> None:
    """The file is what people see; `python -m tests.cli.test_progress` writes it anew."""
    assert captures() == EXPECTED.read_text("utf-8")


def captures() -> str:
    return "\n".join(f"{' ' + str(width) + ' columns ':=^{width}}\n{capture(width)}" for width in WIDTHS)


@pytest.mark.parametrize("width", range(60, 161, 4))
def test_no_line_of_the_board_is_wider_than_the_terminal(width: int) -> None:
    info = {"loss": 0.8123, "patches/s": 34.1, "memory": 41.3 * GIB, "cuda": 11}
    rows = [Row(request.label, "evaluate", 112_000, 250_000, info, 7200.0, 36_000.0) for request in REQUESTS]
    for head in (Head(3, 1200, 86_400.0, 864_000.0), Head(3, 1200, 5.0), Head(3, 12, 5.0, 5.0, stopping=True)):
        lines = board.board(head, rows, width)
        assert all(line.cell_len <= width for line in lines)
        assert "3/12" in lines[0].plain
        assert "left" in lines[0].plain or head.stopping or head.left is None
        assert all("evaluate 112000/250000" in line.plain for line in lines[1:])
        assert all("10 h left" in line.plain for line in lines[1:])


def test_columns_go_by_their_weight() -> None:
    info = {"loss": 0.8123, "patches/s": 34.1, "memory": 2.1 * GIB, "cuda": 1}
    rows = [Row("x" * 40, "train", 120, 1200, info, 60.0, 500.0)]
    seen = [board.board(Head(0, 1, 1.0), rows, width)[1].plain for width in range(30, 160)]
    for word in ("train 120/1200", "8.3 min left", "loss 0.812", "2.1 GiB", "cuda:1", "1.0 min so far", "34.1 patches/s", "━"):
        there = [word in line for line in seen]
        assert there == sorted(there), f"{word} comes once there is room for it, and stays"
        assert there[-1]


def test_names_keep_both_ends() -> None:
    assert board.shortened("default × unetr × hippocampus seed 0", 20) == "default × …us seed 0"
    assert board.shortened("short", 20) == "short"


def test_a_file_gets_lines_with_their_time() -> None:
    screen = Screen(60, terminal=False)
    screen.expect()
    screen.display.start(1, "train", 1200)
    screen.now = 10.0
    screen.step(1, 20, 0.9)
    screen.now = 20.0
    screen.step(1, 40, 0.8)  # too early for another line
    screen.now = 45.0
    screen.step(1, 90, 0.7)
    screen.now = 50.0
    screen.ended(1, "ok", 0.5)
    lines = screen.file.getvalue().splitlines()
    name = "kaiming-normal × unetr × hippocampus seed 0"
    pace = "6.25 patches/s, 2.1 GiB"
    assert lines == [
        f"2023-11-14 22:13:30  run 2 of 6  {name}: train 20/1200, loss 0.9, {pace}, about 60 min left for all runs",
        f"2023-11-14 22:14:05  run 2 of 6  {name}: train 90/1200, loss 0.7, {pace}, about 59 min left for all runs",
        f"2023-11-14 22:14:10  run 2 of 6  ok       {name}  Dice 50.0  runs/1",
    ]


@pytest.mark.parametrize("has_widgets", [True, False])
def test_a_notebook_draws_in_place_where_it_can(monkeypatch: pytest.MonkeyPatch, has_widgets: bool) -> None:
    monkeypatch.setattr(progress, "find_spec", lambda name: object() if has_widgets else None)
    monkeypatch.setattr("rich.live.Live.start", lambda self: drawn.append("start"))
    monkeypatch.setattr("rich.live.Live.stop", lambda self: drawn.append("stop"))
    monkeypatch.setattr(Console, "print", lambda self, text, **options: drawn.append(text))
    drawn: list[str] = []
    screen = Screen(80, terminal=False, jupyter=True)
    with screen.display:
        screen.display.start(0, "train", 1200)
        screen.step(0, 20, 0.9)
    if has_widgets:
        assert drawn == ["start", "stop"]
    else:
        assert len(drawn) == 1
        assert "run 1 of 6" in drawn[0]


def test_what_many_runs_share_is_said_once() -> None:
    screen = Screen(200)
    screen.ended(0, "failed", message="the disk is full")
    screen.ended(1, "failed", message="the disk is full")
    screen.ended(2, "interrupted", message="not begun: the study was cancelled")
    screen.ended(3, "interrupted", message="not begun: the study was cancelled")
    lines = screen.file.getvalue().splitlines()
    assert [line.rpartition("seed")[2].split("  ")[1] for line in lines] == [
        "the disk is full",
        "as above",
        "not begun: the study was cancelled",
    ]


def test_ctrl_c_ends_with_one_sentence(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(requests: list[RunRequest], *arguments: object, **options: object) -> list[Outcome]:
        return [Outcome(requests[0], "ok", tmp_path, 0.5), *(Outcome(other, "interrupted", None, None) for other in requests[1:])]

    monkeypatch.setattr("initbench.cli.run.perform", stop)
    asked = ["--init", "default,kaiming-normal", "--backbone", "unetr", "--dataset", str(data), "--seeds", "2"]
    with pytest.raises(SystemExit) as ended:
        main(["run", *asked, "--size", "tiny", "--budget", "smoke", "--device", "cpu", "--out", str(tmp_path / "runs")])
    assert ended.value.code == 130
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "Stopped with 1 of 6 runs done; finished runs and checkpoints are kept, and the same command goes on."
    ]


if __name__ == "__main__":
    import os

    os.environ["TZ"] = "UTC"
    time.tzset()
    EXPECTED.write_text(captures(), "utf-8")
