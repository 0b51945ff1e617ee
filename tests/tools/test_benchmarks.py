"""The scripts that measure: they run whole on a CPU, and write what they found as they go."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import bench_gpu, ratios, turns
from benchmarks.bench_gpu import Asked, Result, perform
from initbench.training import fast

CPU = torch.device("cpu")


def test_a_check_writes_what_it_found_before_the_next_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def late(asked: Asked) -> Iterator[Result]:
        table = json.loads((asked.out / "truth.json").read_text("utf-8"))
        seen.append([result["name"] for result in table["results"]])
        yield Result("late", fine=False, detail="wrong")

    monkeypatch.setitem(bench_gpu.PARTS, "truth", (bench_gpu.streaming, bench_gpu.prediction, late))
    report = perform("truth", Asked(CPU, tmp_path))
    assert seen == [["streamed batches, monai-r1", "streamed batches, nnunet", "softmax over its own logits"]]
    assert [result.fine for result in report.results] == [True, True, True, False]
    assert "| late | NOT |" in (tmp_path / "truth.md").read_text("utf-8")


def test_no_check_begins_when_the_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "ENOUGH", -1.0)
    [first, *_] = perform("speed", Asked(CPU, tmp_path)).results
    assert first.detail == "not begun: the time was up"


def test_a_check_that_fails_is_no_end_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Asked) -> Iterator[Result]:
        yield Result("first", fine=True, detail="right")
        raise RuntimeError("no such kernel")

    def sound(_: Asked) -> Iterator[Result]:
        yield Result("last", fine=True, detail="right")

    monkeypatch.setitem(bench_gpu.PARTS, "truth", (broken, sound))
    first, failed, last = perform("truth", Asked(CPU, tmp_path)).results
    assert (failed.name, failed.fine, failed.detail) == ("broken", False, "RuntimeError: no such kernel")
    assert (first.name, last.name) == ("first", "last")


def test_a_long_check_leaves_the_others_their_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def long(asked: Asked) -> Iterator[Result]:
        while not asked.late:
            time.sleep(0.05)
            yield Result("step", fine=True, detail="right")

    def short(_: Asked) -> Iterator[Result]:
        yield Result("last", fine=True, detail="right")

    monkeypatch.setattr(bench_gpu, "ENOUGH", 0.4)
    monkeypatch.setitem(bench_gpu.PARTS, "truth", (long, short))
    assert perform("truth", Asked(CPU, tmp_path)).results[-1].name == "last"


def test_networks_that_nobody_came_to_are_named(tmp_path: Path) -> None:
    found = list(bench_gpu.networks(Asked(CPU, tmp_path, only=("unetr", "unet"), until=-1.0)))
    assert [(result.name, result.fine) for result in found] == [("two steps of unetr", False), ("two steps of unet", False)]


def test_a_ratio_is_of_a_turn() -> None:
    row = turns.row_of("part", "what", "peer", [1.0, 2.0, 4.0], [2.0, 6.0, 4.0])
    assert (row.ratio, row.least, row.largest) == (2.0, 1.0, 3.0)
    assert row.as_markdown().endswith("| 2.00 (1.00 to 3.00) |")


def test_a_median_has_an_interval_where_there_are_turns_enough() -> None:
    """The second and the eighth of nine hold the median with 96 %: the binomial distribution leaves 2 % on either side."""
    assert turns.interval_of([9.0, 1, 2, 3, 4, 5, 6, 7, 8]) == (2, 8)
    assert turns.interval_of([1.0, 2, 3]) is None
    for count, place in turns.LOWER_ENDS.items():
        outside = 2 * sum(math.comb(count, below) for below in range(place + 1)) / 2**count
        wider = 2 * sum(math.comb(count, below) for below in range(place + 2)) / 2**count
        assert outside <= 0.05 < wider


def test_seconds_of_a_command_hold_those_of_processes_that_it_leaves() -> None:
    """As the process does from which workers are forked: it ends after its parent."""
    work = "import time\nwhile time.process_time() < 0.3: pass"
    leave = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {work!r}])"
    assert turns.seconds_of([sys.executable, "-c", leave]) > 0.3
    with pytest.raises(RuntimeError, match="ended with 3: wrong"):
        turns.seconds_of([sys.executable, "-c", "import sys; sys.stderr.write('wrong'); sys.exit(3)"])


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # MONAI warns of what it does itself
def test_the_parts_of_a_case_and_preprocessing_are_compared_at_a_small_size() -> None:
    few = turns.Setting(CPU, turns=1, repeats=1, scale=0.3)
    rows = [*ratios.PARTS["case"](few), *ratios.PARTS["preprocessing"](few)]
    assert [row.part for row in rows][:6] == ["case"] * 5 + ["preprocessing"]
    assert all(row.ratio > 0 for row in rows)


def test_one_network_goes_through_each_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest sample of what `make bench-gpu` does; the whole of it runs with the marker `full`."""
    monkeypatch.setattr(bench_gpu, "_LOOP", 1)
    monkeypatch.setattr(fast, "why_eager", lambda kind: "no compiler")
    monkeypatch.setitem(bench_gpu.PARTS, "truth", (bench_gpu.networks, bench_gpu.pretext))
    monkeypatch.setitem(bench_gpu.PARTS, "speed", (bench_gpu.hastened,))
    [steps] = perform("truth", Asked(CPU, tmp_path, only=("unet-2d",))).results
    assert (steps.name, steps.fine) == ("two steps of unet-2d", True)
    [pace] = perform("speed", Asked(CPU, tmp_path, only=("unetr",))).results
    assert pace.name == "steps of unetr, tiny"
    assert pace.detail.endswith("--fast: steps were not compiled: no compiler")
    assert {path.name for path in tmp_path.iterdir()} == {"truth.json", "truth.md", "speed.json", "speed.md"}


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # MONAI warns of what it does itself
@pytest.mark.parametrize("part", ["truth", "speed"])
def test_the_checks_of_a_gpu_run_whole_on_a_cpu(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "ENOUGH", 3600.0)
    assert [result for result in perform(part, Asked(CPU, tmp_path)).results if not result.fine] == []
