"""What a terminal shows of a study while it runs: a line for the study, and one for each run in hand, cut to the width.

A narrow terminal shows fewer columns, and never half of one. What is left out first stands last in `_COLUMNS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from initbench.units import duration, gib

_GAP = 2
_AT_ONCE = "; Ctrl-C again stops at once"
LEAST_NAME = 14  # columns of a run's name, however narrow the terminal is
_LEAST_BAR, _MOST_BAR = 8, 24
_STYLES = {"step": "", "left": ""}  # the others are dim
_COLUMNS = ("step", "left", "loss", "memory", "device", "elapsed", "pace")  # the first are kept longest


@dataclass
class Row:
    """A run in hand.

    Attributes:
        name: the run in a few words.
        stage: that it is in, `done` of `total` steps of which are done.
        info: numbers of the last step, as the training loop gives them.
        elapsed: seconds since the stage began.
        left: seconds until the run ends; None where nobody knows.
    """

    name: str
    stage: str
    done: int
    total: int
    info: Mapping[str, float] = field(default_factory=dict)
    elapsed: float = 0.0
    left: float | None = None

    @property
    def cells(self) -> dict[str, str]:
        """The text of each column; empty where there is nothing to say."""
        info = self.info
        found = dict.fromkeys(_COLUMNS, "")
        found["step"] = f"{self.stage} {self.done}/{self.total}"
        found["elapsed"] = f"{duration(self.elapsed)} so far"
        if self.left is not None:
            found["left"] = f"{duration(self.left)} left"
        if "loss" in info:
            found["loss"] = f"loss {info['loss']:.3g}"
        if "memory" in info:
            found["memory"] = gib(info["memory"])
            found["device"] = "cpu"
            if "cuda" in info:
                found["device"] = f"cuda:{info['cuda']:.0f}"
        if "patches/s" in info:
            found["pace"] = f"{info['patches/s']:.3g} patches/s"
        return found


@dataclass(frozen=True)
class Head:
    """The study as a whole.

    Attributes:
        done: runs that have ended, of `total`.
        left: seconds until the last run ends; None where nobody knows.
        stopping: whether somebody asked to stop.
    """

    done: int
    total: int
    elapsed: float
    left: float | None = None
    stopping: bool = False


def board(head: Head, rows: Sequence[Row], width: int) -> list[Text]:
    """Returns the lines for a terminal, none of them longer than it is wide.

    Args:
        head: the study.
        rows: the runs in hand.
        width: columns of the terminal.
    """
    return [_first_line(head, width), *_lines(rows, width)]


def _first_line(head: Head, width: int) -> Text:
    """Returns the line of the study: runs that have ended, a bar, the time."""
    counted = f"{head.done}/{head.total} runs"
    if head.stopping:
        told = [counted, "stopping after this step"]
        if _length(told) + len(_AT_ONCE) <= width:
            told[-1] += _AT_ONCE
        return Text("  ".join(told), style="bold")
    left = "time left not known yet"
    if head.left is not None:
        left = f"about {duration(head.left)} left"
    elapsed = f"{duration(head.elapsed)} so far"
    told = [counted, left]
    if _length([*told, elapsed]) <= width:
        told.append(elapsed)
    room = width - _length(told) - _GAP
    line = Text(told[0], style="bold")
    if room >= _LEAST_BAR:
        line.append("  ")
        line.append_text(_bar(head.done, head.total, min(room, _MOST_BAR)))
    for text in told[1:]:
        line.append(f"  {text}")
    line.truncate(width)
    return line


def _lines(rows: Sequence[Row], width: int) -> list[Text]:
    """Returns a line for each run in hand."""
    cells, longest_name = [], 0
    for row in rows:
        cells.append(row.cells)
        longest_name = max(longest_name, cell_len(row.name))
    shown = columns_that_fit(cells, _COLUMNS, width - LEAST_NAME)
    room = width - sum(shown.values()) - _GAP * len(shown)
    name = min(longest_name, room)
    bar = min(_MOST_BAR, room - name - _GAP)
    return [_line(row, own, shown, name, bar) for row, own in zip(rows, cells, strict=True)]


def columns_that_fit(cells: Sequence[Mapping[str, str]], columns: Sequence[str], room: int) -> dict[str, int]:
    """Returns the width of every column that is shown. A column is shown only where all columns before it are.

    Args:
        cells: of each row, by column; a column that is empty in all rows takes no room.
        columns: the most important ones first.
        room: columns of the terminal for all of them, with the gap before each.
    """
    shown: dict[str, int] = {}
    for column in columns:
        needed = 0
        for own in cells:
            needed = max(needed, cell_len(own[column]))
        if not needed:
            continue
        if needed + _GAP > room:
            break
        shown[column] = needed
        room -= needed + _GAP
    return shown


def _line(row: Row, cells: Mapping[str, str], shown: Mapping[str, int], name: int, bar: int) -> Text:
    """Returns the line of a run.

    Args:
        row: the run.
        cells: its text by column.
        shown: the width of every column that is shown.
        name: columns of the terminal for its name.
        bar: likewise for its bar, which is left out where there are too few.
    """
    line = Text(set_cell_size(shortened(row.name, name), name))
    if bar >= _LEAST_BAR:
        line.append("  ")
        line.append_text(_bar(row.done, row.total, bar))
    for column, needed in shown.items():
        style = _STYLES.get(column, "dim")
        line.append(f"  {set_cell_size(cells[column], needed)}", style=style)
    line.rstrip()
    return line


def shortened(name: str, width: int) -> str:
    """Returns a name, without its middle where it is too long: runs of a study differ at the begin and at the end.

    Args:
        name: of a run.
        width: columns of the terminal for it.
    """
    if cell_len(name) <= width:
        return name
    end = (width - 1) // 2
    begin = width - 1 - end
    return f"{name[:begin]}…{name[len(name) - end :]}"


def _bar(done: int, total: int, width: int) -> Text:
    """Returns a bar of which a part is filled."""
    filled = width * done // max(1, total)
    bar = Text("━" * filled, style="green")
    bar.append("━" * (width - filled), style="bright_black")
    return bar


def _length(parts: Sequence[str]) -> int:
    """Returns the columns of texts with gaps between them."""
    return sum(cell_len(part) for part in parts) + _GAP * (len(parts) - 1)
