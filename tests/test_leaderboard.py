"""From run records to the leaderboard: reading, pairing, blocks, and the four forms."""

from __future__ import annotations

import ast
import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import initbench
from initbench import dice, digest
from initbench.errors import UsageError
from initbench.leaderboard import render
from initbench.runs import store
from initbench.runs.read import unreadable
from initbench.stats.blocks import Block, Row, blocks, flat

ROOT = Path(__file__).parent.parent
CASES = ("case_01", "case_02")


def write_run(
    out: Path,
    init: str = "default",
    score: float | None = 0.5,
    *,
    seed: int = 0,
    status: str = "ok",
    environment: str = "e0",
    weights: str | None = None,
    seconds: tuple[float, float] = (0.0, 100.0),
    changed: float = 0.0,
    **resolved: Any,
) -> Path:
    """Writes a run directory as a run leaves it (without weights and pictures). `seconds`: of the init, and of all."""
    own = {
        "init": init,
        "init_params": {},
        "init_source": "revision 1",
        "origin": "initbench",
        "learned": init in ("mae", "tube", "order", "lwi"),
        "external": init.startswith("checkpoint"),
        "backbone": "unetr",
        "backbone_source": "revision 1",
        "variant": "perceptron",
        "size": "tiny",
        "dataset": "phantom-lung",
        "data_digest": "d" * 64,
        "preprocess": {},
        "split": "auto",
        "train_cases": ["case_00"],
        "reported_cases": list(CASES),
        "classes": ["background", "nodule"],
        "seed": seed,
        "fixed_streams": [],
        "budget": "smoke",
        "steps": 120,
        "protocol": "any",
        "regimen": "plain",
        "precision": "float32",
        "recipe": {},
        "recipe_digest": "a" * 12,
        "dice_policy": "reference-mask",
        **resolved,
    }
    cell = digest.of_json({key: value for key, value in own.items() if key != "seed"})
    record = {
        "schema": store.SCHEMA,
        "status": status,
        "cell": cell,
        "finished": "2025-01-01T00:00:00+00:00",
        "asked": {},
        "resolved": own,
        "environment": {"cpu": "a CPU", "accelerator": None, "fingerprint": environment},
    }
    folder = store.run_folder(out, own["dataset"], own["backbone"], init, cell, seed)
    with store.staged(folder) as staging:
        if status == "failed":
            record |= {"reason": "planted", "traceback": store.TRACEBACK}
        else:
            record |= {
                "dice": score,
                "dice_per_class": {"nodule": score},
                "coverage": {"changed_share": changed, "groups": {}},
                "cost": {
                    "init": {"steps": 0, "patches": 0, "seconds": seconds[0]},
                    "train": {"steps": 120, "patches": 240, "seconds": seconds[1] - seconds[0]},
                    "evaluate_seconds": 0.0,
                    "total_seconds": seconds[1],
                    "device_seconds": 0.0,
                    "peak_memory": 1000,
                },
                "weights_digest": weights or f"{cell}-{seed}",
                "reason": "the loss was not finite" if status == "diverged" else None,
            }
            write_cases(staging / store.CASES, score or 0.0)
            record = store.seal(record, staging)
        store.write_json(staging / store.RECORD, record)
    return folder


def write_cases(path: Path, score: float) -> None:
    tp = round(50 * score)
    rows = [
        {"case": case, "class": 1, "class_name": "nodule", "tp": t, "fp": f, "fn": n, "dice": d, "hd95_mm": None, "nsd": None}
        for case, t, f, n, d in ((CASES[0], tp, 50 - tp, 50 - tp, tp / 50), (CASES[1], 0, 7, 0, math.nan))
    ]
    pd.DataFrame(rows).to_csv(path, index=False)


def write_block(out: Path, scores: dict[str, list[float]], **options: Any) -> None:
    for init, values in scores.items():
        for seed, score in enumerate(values):
            write_run(out, init, score, seed=seed, **options)


def only(found: list[Block]) -> Block:
    assert len(found) == 1
    return found[0]


def row(block: Block, init: str) -> Row:
    return {row.init: row for row in block.rows}[init]


def read(out: Path) -> list[Block]:
    return blocks(initbench.load_runs(out))


# --- reading ----------------------------------------------------------------------------------------------------------


def _keys(name: str) -> tuple[set[str], set[str]]:
    """Keys of the record and of its `resolved`, as harness/record.py writes them; read without importing torch."""
    tree = ast.parse((ROOT / "initbench/harness/record.py").read_text("utf-8"))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    table = next(node.value for node in ast.walk(function) if isinstance(node, ast.Return))
    assert isinstance(table, ast.Dict)
    named = {key.value: value for key, value in zip(table.keys, table.values, strict=True) if isinstance(key, ast.Constant)}
    resolved = named["resolved"]
    assert isinstance(resolved, ast.Dict)
    return set(named), {key.value for key in resolved.keys if isinstance(key, ast.Constant)}


def test_hand_made_records_have_the_keys_of_real_ones(tmp_path: Path) -> None:
    record = store.read_record(write_run(tmp_path))
    assert record is not None
    header, resolved = _keys("header")
    assert set(record["resolved"]) == resolved
    assert header <= set(record)


def test_runs_are_read_with_their_types(tmp_path: Path) -> None:
    write_run(tmp_path, "lwi", 0.6, seed=1, seconds=(20.0, 100.0), changed=0.75, protocol="equal-total")
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "mae", status="failed", protocol="equal-total")
    write_run(tmp_path, "order", 0.0, status="diverged", protocol="equal-total")
    runs = initbench.load_runs(tmp_path)
    assert list(runs["init"]) == ["default", "lwi", "mae", "order"]
    assert list(runs["status"]) == ["ok", "ok", "failed", "diverged"]
    assert runs["dice"].to_list()[:2] == [0.5, 0.6]
    assert math.isnan(runs["dice"][2])
    assert runs["dice"][3] == 0
    kinds = {"seed": "i", "steps": "i", "dice": "f", "changed_share": "f", "total_seconds": "f", "learned": "b"}
    assert {column: runs[column].dtype.kind for column in kinds} == kinds
    lwi = runs[runs["init"] == "lwi"].iloc[0]
    assert (lwi["init_seconds"], lwi["train_seconds"], lwi["total_seconds"], lwi["changed_share"]) == (20, 80, 100, 0.75)
    assert (lwi["device"], lwi["environment"], lwi["recipe"]) == ("a CPU", "e0", "a" * 12)
    assert store.is_finished(Path(lwi["path"]))
    assert runs["reason"][2] == "planted"


def test_types_do_not_depend_on_what_there_is(tmp_path: Path) -> None:
    write_run(tmp_path / "good")
    write_run(tmp_path / "bad", status="failed")
    (tmp_path / "empty").mkdir()
    good, bad, empty = (initbench.load_runs(tmp_path / name) for name in ("good", "bad", "empty"))
    assert list(good.columns) == list(bad.columns) == list(empty.columns)
    for column in ("dice", "changed_share", "init_seconds", "train_seconds", "total_seconds"):
        assert good[column].dtype == bad[column].dtype == empty[column].dtype == np.float64
    assert len(empty) == 0


def test_cases_are_read_with_their_types(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "lwi", 0.6, seed=1, protocol="equal-total")
    write_run(tmp_path, "mae", status="failed")
    cases = initbench.load_cases(tmp_path)
    assert list(cases.columns[:7]) == ["init", "backbone", "dataset", "seed", "protocol", "status", "cell"]
    assert list(cases["init"]) == ["default", "default", "lwi", "lwi"]
    assert list(cases["case"]) == [*CASES, *CASES]
    assert list(cases["dice"])[::2] == [0.5, 0.6]
    assert cases["dice"].isna().to_list() == [False, True, False, True]
    assert {cases[column].dtype.kind for column in ("tp", "fp", "fn", "seed", "class")} == {"i"}
    # the run's score comes back from the counts
    counts = [[dice.Counts(*values)] for values in cases.iloc[:2][["tp", "fp", "fn"]].itertuples(index=False)]
    assert dice.run_dice(counts) == pytest.approx(0.5)


def test_case_names_stay_text(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    text = (folder / store.CASES).read_text("utf-8").replace("case_01", "001").replace("case_02", "NA")
    (folder / store.CASES).write_text(text, "utf-8")
    record = store.read_record(folder)
    assert record is not None
    store.write_json(folder / store.RECORD, store.seal({k: v for k, v in record.items() if k != "digest"}, folder))
    assert list(initbench.load_cases(tmp_path)["case"]) == ["001", "NA"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 1, "sta', b"[]", b'{"schema": 99}', b"\xff\xfe\x00", b"null"])
def test_a_corrupt_record_is_passed_over(tmp_path: Path, content: bytes) -> None:
    write_run(tmp_path, "default", 0.5)
    folder = write_run(tmp_path, "lwi", 0.6)
    (folder / store.RECORD).write_bytes(content)
    assert list(initbench.load_runs(tmp_path)["init"]) == ["default"]
    assert unreadable(tmp_path) == [folder]
    assert set(initbench.load_cases(tmp_path)["init"]) == {"default"}
    assert not store.is_finished(folder)


def test_half_written_runs_and_strange_files_are_passed_over(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    (folder.parent / ".seed-1-abc").mkdir()
    (folder.parent / ".seed-1-abc" / store.RECORD).write_text((folder / store.RECORD).read_text("utf-8"), "utf-8")
    (folder.parent / "seed-2").mkdir()
    (tmp_path / "notes.txt").write_text("mine", "utf-8")
    assert len(initbench.load_runs(tmp_path)) == 1


def test_a_missing_folder_is_an_error_and_an_empty_one_is_not(tmp_path: Path) -> None:
    for load in (initbench.load_runs, initbench.load_cases):
        with pytest.raises(UsageError, match="there is no such folder of runs; `initbench run"):
            load(tmp_path / "nowhere")
        assert load(tmp_path).empty


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.60, 0.62, 0.64], "xavier-normal": [0.65, 0.66, 0.70]})
    block = only(read(tmp_path))
    assert [item.init for item in block.rows] == ["xavier-normal", "default"]
    found = row(block, "xavier-normal")
    half = 4.302653 / math.sqrt(3)  # differences 5, 4, 6: mean 5, SD 1
    assert found.difference is not None
    assert (found.difference.value, found.difference.low, found.difference.high) == pytest.approx((5, 5 - half, 5 + half))
    assert (found.pairs, found.seeds) == (3, (0, 1, 2))
    assert found.dice == pytest.approx(67)
    assert found.sd.value == pytest.approx(math.sqrt(7))  # 65, 66, 70
    assert row(block, "default").difference is None
    assert block.spread is not None
    assert block.spread.seed == pytest.approx(math.sqrt((4 + 7) / 2))
    assert block.spread.between_variance == pytest.approx(12.5 - 5.5 / 3)
    assert block.spread_seeds == 3


def test_only_shared_seeds_pair(tmp_path: Path) -> None:
    for seed, score in ((0, 0.60), (1, 0.62), (2, 0.64)):
        write_run(tmp_path, "default", score, seed=seed)
    for seed, score in ((3, 0.10), (2, 0.67), (1, 0.66)):
        write_run(tmp_path, "uniform", score, seed=seed)
    found = row(only(read(tmp_path)), "uniform")
    assert found.pairs == 2
    assert found.difference is not None
    assert found.difference.value == pytest.approx(3.5)
    assert found.dice == pytest.approx(100 * (0.10 + 0.67 + 0.66) / 3)


def test_no_shared_seed_or_no_baseline_gives_no_difference(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "default", 0.6, seed=0)
    write_run(tmp_path / "a", "uniform", 0.7, seed=1)
    write_run(tmp_path / "b", "uniform", 0.7)
    for name in ("a", "b"):
        found = row(only(read(tmp_path / name)), "uniform")
        assert (found.difference, found.pairs) == (None, 0)


def test_a_diverged_run_scores_nothing_and_a_failed_one_is_missing(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.60, 0.62, 0.64], "uniform": [0.60]})
    write_run(tmp_path, "uniform", 0.0, seed=1, status="diverged")
    write_run(tmp_path, "uniform", seed=2, status="failed")
    found = row(only(read(tmp_path)), "uniform")
    assert (found.dice, found.diverged, found.failed, found.seeds, found.pairs) == (pytest.approx(30), 1, 1, (0, 1), 2)
    assert found.difference is not None
    assert found.difference.value == pytest.approx((0 - 62) / 2)


def test_an_init_that_only_failed_stands_last(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.0, status="diverged")
    write_run(tmp_path, "uniform", status="failed")
    block = only(read(tmp_path))
    assert [item.init for item in block.rows] == ["default", "uniform"]
    found = row(block, "uniform")
    assert math.isnan(found.dice)
    assert (found.seeds, found.failed, found.pairs) == ((), 1, 0)
    assert "nan" not in show([block]).lower()
    assert "nan" not in render.markdown([block]).lower()


def test_runs_without_a_pretext_stand_in_the_blocks_of_both_protocols(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.6, 0.6]})
    write_block(tmp_path, {"lwi": [0.7, 0.7]}, protocol="equal-total")
    write_block(tmp_path, {"lwi": [0.8, 0.8]}, protocol="equal-finetune")
    found = {block.protocol: block for block in read(tmp_path)}
    assert set(found) == {"equal-total", "equal-finetune"}
    for protocol, score in (("equal-total", 70), ("equal-finetune", 80)):
        assert {item.init: item.dice for item in found[protocol].rows} == pytest.approx({"lwi": score, "default": 60})
        assert row(found[protocol], "default").protocol == "any"
        assert row(found[protocol], "lwi").pairs == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("recipe_digest", "b" * 12),
        ("precision", "bf16"),
        ("size", "paper"),
        ("budget", "short"),
        ("steps", 121),
        ("split", "published"),
        ("dataset", "lung"),
        ("backbone", "unetrpp"),
        ("variant", "conv"),
    ],
)
def test_what_differs_in_anything_but_the_init_is_never_mixed(tmp_path: Path, key: str, value: Any) -> None:
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "uniform", 0.6)
    write_run(tmp_path, "xavier-normal", 0.7, **{key: value})
    found = read(tmp_path)
    assert sorted(sorted(item.init for item in block.rows) for block in found) == [["default", "uniform"], ["xavier-normal"]]
    assert all(item.difference is None for block in found for item in block.rows if item.init == "xavier-normal")


def test_streams_that_seeds_share_are_said_and_kept_apart(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "default", 0.6, fixed_streams=["construct", "order"], recipe_digest="c" * 12)
    lines = {render.settings(block) for block in read(tmp_path)}
    plain = "tiny size · 120 steps (smoke) · float32 · split auto"
    assert lines == {plain, f"{plain} · seeds share construct, order"}


def test_weights_from_outside_are_said_to_be(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "checkpoint(path='a.pt@12345678')", 0.6)
    notes = render.notes(only(read(tmp_path)))
    assert [note for note in notes if "external" in note] == [
        "checkpoint(path='a.pt@12345678'): conditional on these weights, one draw for all seeds; external data."
    ]


def test_equal_weights_under_two_seeds_are_flagged(tmp_path: Path) -> None:
    for seed, weights in enumerate(("w", "w", "v")):
        write_run(tmp_path, "default", 0.5, seed=seed, weights=weights)
        write_run(tmp_path, "uniform", 0.5, seed=seed)
    block = only(read(tmp_path))
    assert row(block, "default").same_weights
    assert not row(block, "uniform").same_weights
    assert [note for note in render.notes(block) if "bit-identical" in note] == [
        "Warning: default has bit-identical weights under different seeds: its seed is not in effect."
    ]


def test_mixed_environments_are_flagged(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "uniform", 0.5)
    assert not only(read(tmp_path)).mixed_environments
    write_run(tmp_path, "xavier-normal", 0.5, environment="e1")
    block = only(read(tmp_path))
    assert block.mixed_environments
    assert any("different environments" in note for note in render.notes(block))


# --- forms ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def example(tmp_path: Path) -> list[Block]:
    """Two blocks: one with everything that can happen, one of a single run."""
    write_block(tmp_path, {"default": [0.60, 0.62, 0.64]}, seconds=(0.0, 90.0))
    write_block(tmp_path, {"kaiming-normal(mode='fan_out')": [0.60, 0.61, 0.65]}, seconds=(0.0, 90.0), changed=0.9)
    write_block(tmp_path, {"lwi": [0.65, 0.66, 0.70]}, seconds=(900.0, 1800.0), changed=1.0, protocol="equal-total")
    write_run(tmp_path, "uniform", 0.58, seed=0, changed=0.9, environment="e1")
    write_run(tmp_path, "uniform", 0.0, seed=1, status="diverged", changed=0.9)
    write_run(tmp_path, "uniform", seed=2, status="failed")
    write_run(tmp_path, "default", 0.812, backbone="unetrpp", variant="default", seconds=(0.0, 40000.0))
    return read(tmp_path)


def show(found: list[Block]) -> str:
    out = io.StringIO()
    render.terminal(found, Console(file=out, width=100, color_system=None, highlight=False, legacy_windows=False))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


TERMINAL = """\
phantom-lung × unetr (perceptron)
tiny size · 120 steps (smoke) · equal-total · float32 · split auto

 # initializer                   Dice n      seed SD [95 %]      vs default [95 %] div.   cost init
 ──────────────────────────────────────────────────────────────────────────────────────────────────
 1 lwi                           67.0 3     2.6 [1.4, 16.6]   +5.00 [+2.52, +7.48]    0 30 min 50 %
 2 default                       62.0 3     2.0 [1.0, 12.6]                      –    0   90 s  0 %
 3 kaiming-normal(mode='fan_out' 62.0 3     2.6 [1.4, 16.6]   +0.00 [-2.48, +2.48]    0   90 s  0 %
   )
 4 uniform                       29.0 2 41.0 [18.3, 1308.7] -32.0 [-413.2, +349.2]    1  100 s  0 %

Between-init SD 14.63 Dice points with the seed noise removed; seed SD 15.67 (4 inits, 2 or more
seeds each).
Warning: rows come from different environments (hardware or package versions).
uniform: 1 failed run(s) are missing; the same run command tries them again.

phantom-lung × unetrpp
tiny size · 120 steps (smoke) · float32 · split auto

 # initializer Dice n seed SD [95 %] vs default [95 %] div.   cost init
 ──────────────────────────────────────────────────────────────────────
 1 default     81.2 1              –                 –    0 11.1 h  0 %

Spread: needs two inits and two seeds of one of them.
One seed gives no interval: --seeds 3 or more.

n: seeds. Dice: points at the native grid, mean over classes, cases, seeds; last checkpoint; policy
reference-mask.
vs default: paired by seed. Intervals: over seeds, for this training set and these cases; initbench
compare tests.
div.: diverged runs, which score 0. cost: a run's mean time, and the init stage's share of it.
"""

MARKDOWN = """\
### phantom-lung × unetr (perceptron)

tiny size · 120 steps (smoke) · equal-total · float32 · split auto

| # | initializer | Dice | n | seed SD [95 %] | vs default [95 %] | div. | cost | init |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 1 | lwi | 67.0 | 3 | 2.6 [1.4, 16.6] | +5.00 [+2.52, +7.48] | 0 | 30 min | 50 % |
| 2 | default | 62.0 | 3 | 2.0 [1.0, 12.6] | – | 0 | 90 s | 0 % |
| 3 | kaiming-normal(mode='fan_out') | 62.0 | 3 | 2.6 [1.4, 16.6] | +0.00 [-2.48, +2.48] | 0 | 90 s | 0 % |
| 4 | uniform | 29.0 | 2 | 41.0 [18.3, 1308.7] | -32.0 [-413.2, +349.2] | 1 | 100 s | 0 % |

**Between-init SD 14.63 Dice points with the seed noise removed; seed SD 15.67 (4 inits, 2 or more seeds each).**

- Warning: rows come from different environments (hardware or package versions).
- uniform: 1 failed run(s) are missing; the same run command tries them again.

### phantom-lung × unetrpp

tiny size · 120 steps (smoke) · float32 · split auto

| # | initializer | Dice | n | seed SD [95 %] | vs default [95 %] | div. | cost | init |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 1 | default | 81.2 | 1 | – | – | 0 | 11.1 h | 0 % |

**Spread: needs two inits and two seeds of one of them.**

- One seed gives no interval: --seeds 3 or more.

n: seeds. Dice: points at the native grid, mean over classes, cases, seeds; last checkpoint; policy reference-mask.
vs default: paired by seed. Intervals: over seeds, for this training set and these cases; initbench compare tests.
div.: diverged runs, which score 0. cost: a run's mean time, and the init stage's share of it.
"""


def test_the_terminal_table(example: list[Block]) -> None:
    assert show(example) == TERMINAL.rstrip("\n")
    assert max(map(len, TERMINAL.splitlines())) <= 100


def test_the_markdown_table(example: list[Block]) -> None:
    assert render.markdown(example) == MARKDOWN.rstrip("\n")


def test_markdown_escapes_its_own_sign(tmp_path: Path) -> None:
    write_run(tmp_path, "mine(a='x|y')", 0.5)
    assert r"mine(a='x\|y')" in render.markdown(read(tmp_path))


def test_csv_and_json_hold_the_same_rows(example: list[Block]) -> None:
    text = render.as_json(example)
    assert "NaN" not in text
    rows = json.loads(text)
    lines = list(csv.DictReader(io.StringIO(render.as_csv(example))))
    assert [list(line) for line in lines] == [list(item) for item in rows] == [list(item) for item in flat(example)]
    assert [{key: "" if value is None else str(value) for key, value in item.items()} for item in rows] == lines


def test_json_has_null_where_there_is_no_value(example: list[Block]) -> None:
    rows = {(item["backbone"], item["init"]): item for item in json.loads(render.as_json(example))}
    default, lwi = rows["unetr", "default"], rows["unetr", "lwi"]
    assert default["vs_default"] is default["vs_default_low"] is default["vs_default_high"] is None
    assert (default["rank"], default["seeds"], default["protocol"]) == (2, 3, "any")
    assert (lwi["rank"], lwi["protocol"], lwi["pairs"], lwi["changed_share"]) == (1, "equal-total", 3, 1.0)
    assert lwi["vs_default"] == pytest.approx(5)
    assert lwi["init_share_of_seconds"] == pytest.approx(0.5)
    assert (rows["unetr", "uniform"]["diverged"], rows["unetr", "uniform"]["failed"]) == (1, 1)
    alone = rows["unetrpp", "default"]
    assert (alone["dice"], alone["seed_sd"], alone["between_init_sd"], alone["seconds"]) == (81.2, None, None, 40000.0)


def test_no_blocks_give_empty_forms() -> None:
    assert render.as_json([]) == "[]"
    assert render.as_csv([]) == ""


def test_two_cells_of_one_name_are_two_rows(tmp_path: Path) -> None:
    """An older revision of an init left in the folder must not be pooled with the present one."""
    write_block(tmp_path, {"default": [0.60, 0.62, 0.64]})
    runs = initbench.load_runs(tmp_path)
    older = runs.assign(cell="f" * 64, dice=runs["dice"] - 0.3).iloc[:2]
    rows = blocks(pd.concat([runs, older], ignore_index=True))[0].rows
    assert [(row.init, len(row.seeds)) for row in rows] == [("default", 3), ("default #ffffff", 2)]
    assert rows[0].dice == pytest.approx(62.0)
    assert rows[1].difference is not None
    assert rows[1].difference.value == pytest.approx(-30.0)
