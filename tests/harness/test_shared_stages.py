"""Init stages are shared where nothing differs for them, streams can be fixed, and other inits change no bit."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from initbench import cache, digest, seeding
from initbench.runs import store
from tests.crash_driver import study
from tests.harness.resumed import settings
from tests.recorded import record_values
from tests.runs_factory import THIRTY_STEPS, run, run_one
from tests.writers import Writer

# --- shared init stages -----------------------------------------------------------------------------------------------


def stages(out: Path) -> list[str]:
    return sorted(path.name for path in (out / ".inits").iterdir())


def both(data: Path, out: Path, *, more: Iterable[str] = (), **options: Any) -> list[Any]:
    return run(data, out, "lwi", settings=THIRTY_STEPS, assignments=more, **options)


def test_an_init_stage_is_shared_where_nothing_differs_for_it(four_cases: Path, tmp_path: Path) -> None:
    equal_total, equal_finetune = both(four_cases, tmp_path / "runs", protocol="both")
    assert len(stages(tmp_path / "runs")) == 1
    both(four_cases, tmp_path / "runs", more=["optimizer.lr=0.002"])
    assert len(stages(tmp_path / "runs")) == 1
    records = [record_values(outcome.folder) for outcome in (equal_total, equal_finetune)]
    costs = [record["cost"]["init"] for record in records if record]
    assert costs[0] == costs[1]  # what it cost, once, and not nothing
    assert costs[0]["steps"] == 12
    alone = both(four_cases, tmp_path / "alone", protocol="equal-finetune")[0]
    for name in ("weights.safetensors", "curve.csv", "cases.csv", "coverage.json"):
        assert (alone.folder / name).read_bytes() == (equal_finetune.folder / name).read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [1]},
        {"fixed": ("order",)},
        {"more": ["pretext.optimizer.lr=0.002"]},
        {"more": ["pretext.share=0.3"]},
        {"more": ["patch.size=8,16,20"]},
        {"more": ["augment.flip=0.1"]},
        {"precision": "bf16"},
    ],
)
def test_an_init_stage_is_shared_nowhere_else(four_cases: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    both(four_cases, tmp_path / "runs")
    both(four_cases, tmp_path / "runs", **changes)
    assert len(stages(tmp_path / "runs")) == 2


def other_weights(stage: Path) -> None:
    changed = bytearray((stage / store.WEIGHTS).read_bytes())
    changed[-1] ^= 1
    (stage / store.WEIGHTS).write_bytes(bytes(changed))


def other_table(stage: Path) -> None:
    """A loss of the pretext's curve, which the run takes from there."""
    table = json.loads((stage / "stage.json").read_text("utf-8"))
    table["fits"][0]["curve"][0]["loss"] += 1.0
    (stage / "stage.json").write_text(json.dumps(table), "utf-8")


@pytest.mark.parametrize("spoil", [other_weights, other_table])
def test_a_shared_stage_that_is_broken_is_made_again(four_cases: Path, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    first = both(four_cases, tmp_path / "runs")[0]
    [stage] = (tmp_path / "runs" / ".inits").iterdir()
    spoil(stage)
    again = both(four_cases, tmp_path / "runs", protocol="equal-finetune")[0]
    assert again.state == "ok"
    assert digest.of_file(stage / store.WEIGHTS) == json.loads((stage / "stage.json").read_text("utf-8"))["sha256"]
    fresh = both(four_cases, tmp_path / "fresh", protocol="equal-finetune")[0]
    for name in (store.WEIGHTS, store.CURVE):
        assert (again.folder / name).read_bytes() == (fresh.folder / name).read_bytes()
    assert (again.folder / "coverage.json").read_bytes() == (first.folder / "coverage.json").read_bytes()


def test_the_next_run_removes_what_a_killed_one_left_in_the_cache_and_of_a_stage(four_cases: Path, tmp_path: Path) -> None:
    """Of another stage and another case than its own, whose names come again with the same request alone."""
    inits, volumes = tmp_path / "runs" / ".inits", cache.root() / "volumes"
    for folder in (inits, volumes):
        folder.mkdir(parents=True, exist_ok=True)
    left = [Writer(inits / ("0" * 32)), Writer(volumes / ("0" * 32))]
    living = [Writer(inits / ("1" * 32)), Writer(volumes / ("1" * 32))]
    try:
        for writer in left:
            writer.end(signal.SIGKILL)
        run_one(four_cases, tmp_path / "runs", settings=THIRTY_STEPS)
        assert [writer.folder.exists() for writer in left] == [False, False]
        assert [writer.folder.exists() for writer in living] == [True, True]
    finally:
        for writer in living:
            writer.end()


# --- fixed streams ----------------------------------------------------------------------------------------------------


def test_a_fixed_stream_gives_what_seed_0_gives() -> None:
    root = seeding.Root.of(3, ["order"])
    assert seeding.derive(root, "order", 5) == seeding.derive(0, "order", 5)
    for stream in seeding.STREAMS:
        if stream != "order":
            assert seeding.derive(root, stream, 5) == seeding.derive(3, stream, 5)


def test_every_stream_can_be_fixed_in_a_run(four_cases: Path, tmp_path: Path) -> None:
    """With all streams fixed a seed is seed 0; with one of them it is neither."""

    def weights(out: str, **changes: Any) -> bytes:
        folder = both(four_cases, tmp_path / out, **changes)[0].folder
        return bytes((folder / "curve.csv").read_bytes())

    zero, one = weights("runs"), weights("runs", seeds=[1])
    assert weights("runs", seeds=[1], fixed=seeding.STREAMS) == zero
    assert weights("runs", seeds=[1], fixed=("order",)) not in (zero, one)


# --- what is added later ----------------------------------------------------------------------------------------------


def test_other_inits_in_the_sweep_change_no_bit(four_cases: Path, tmp_path: Path) -> None:
    """An init that draws from a stream of its own, and from torch's and numpy's global generators, runs before ours."""
    plugin = tmp_path / "greedy.py"
    plugin.write_text(
        "import random, numpy as np, torch\nfrom initbench import seeding\n"
        "def greedy(model, ctx):\n"
        "    seeding.rng(0, 'a-new-stream', 1).random(7); np.random.random(3); random.random(); torch.rand(5)\n"
        "    torch.manual_seed(1); np.random.seed(1)\n"
    )
    alone = study(settings(four_cases, tmp_path, init="kaiming-normal,lwi"), tmp_path / "alone")
    beside = study(settings(four_cases, tmp_path, init=f"{plugin}:greedy,kaiming-normal,lwi"), tmp_path / "beside")
    assert [outcome.state for outcome in beside] == ["ok"] * 3
    for one, other in zip(alone, beside[1:], strict=True):
        assert one.folder is not None
        assert other.folder is not None
        for name in ("weights.safetensors", "curve.csv", "cases.csv", "coverage.json"):
            assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()
