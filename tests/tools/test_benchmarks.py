"""The scripts that measure: they run whole on a CPU, and write what they found as they go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import bench_gpu, ratios
from benchmarks.bench_gpu import Asked, Result, perform

CPU = torch.device("cpu")


def test_a_check_writes_what_it_found_before_the_next_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def late(asked: Asked) -> Iterator[Result]:
        table = json.loads((asked.out / "truth.json").read_text("utf-8"))
        seen.append([result["name"] for result in table["results"]])
        yield Result("late", fine=False, detail="wrong")

    monkeypatch.setitem(bench_gpu.PARTS, "truth", (bench_gpu.streaming, late))
    report = perform("truth", Asked(CPU, tmp_path))
    assert seen == [["streamed batches, monai-r1", "streamed batches, nnunet"]]
    assert [result.fine for result in report.results] == [True, True, False]
    assert "| late | NOT |" in (tmp_path / "truth.md").read_text("utf-8")


def test_no_check_begins_when_the_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "ENOUGH", -1.0)
    [first, *_] = perform("speed", Asked(CPU, tmp_path)).results
    assert first.detail == "not begun: the time was up"


def test_a_ratio_is_of_a_turn() -> None:
    row = ratios.row_of("part", "what", "peer", [1.0, 2.0, 4.0], [2.0, 6.0, 4.0])
    assert (row.ratio, row.least, row.largest) == (2.0, 1.0, 3.0)
    assert row.as_markdown().endswith("| 2.00 (1.00 to 3.00) |")


@pytest.mark.full
@pytest.mark.parametrize("part", ["truth", "speed"])
def test_the_checks_of_a_gpu_run_whole_on_a_cpu(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "ENOUGH", 3600.0)
    assert [result for result in perform(part, Asked(CPU, tmp_path)).results if not result.fine] == []
