"""What is part of the id of a cell, one thing at a time: two requests that differ in it alone are two cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from initbench import registry, seeding
from initbench.catalog import Kind
from initbench.harness import reuse
from initbench.harness.cell import Cell, resolve_cell
from initbench.harness.record import block_digest
from initbench.harness.request import RunRequest
from initbench.preprocessing import parameters
from tests.folders import TESTS
from tests.msd_factory import make_msd

LIGHT = TESTS / "light_backbone.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_msd(tmp_path_factory.mktemp("data") / "Task90_Noise", cases=4)


def resolved(data: Path, backbone: str = f"{LIGHT}:light", init: str = "mae", **options: Any) -> Cell:
    asked = {"seed": 0, "budget": "smoke", "size": "tiny", "device": "cpu", "precision": "float32", **options}
    return resolve_cell(RunRequest.of(init, backbone, str(data), **asked))


def test_every_set_of_fixed_streams_is_a_cell_and_a_block(data: Path) -> None:
    streams: Sequence[Any] = get_args(seeding.Stream)
    sets = [(), *((stream,) for stream in streams), tuple(streams[:2]), tuple(streams)]
    cells = [resolved(data, fixed=fixed) for fixed in sets]
    assert len({cell.id for cell in cells}) == len(sets)
    assert len({block_digest(cell) for cell in cells}) == len(sets)
    turned = resolved(data, fixed=tuple(reversed(streams[:2])))
    assert turned.id == cells[-2].id, "in whatever order they are named"


def test_the_precision_is_in_the_id(data: Path) -> None:
    exact, fast = (resolved(data, precision=precision) for precision in ("float32", "bf16"))
    assert exact.id != fast.id
    assert block_digest(exact) != block_digest(fast)


def test_the_preprocessing_is_in_the_id_beside_the_recipe(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = resolved(data)
    monkeypatch.setattr(parameters, "REVISION", parameters.REVISION + 1)
    after = resolved(data)
    assert after.identity["recipe"] == before.identity["recipe"]
    assert after.identity["data"] == before.identity["data"]
    assert after.id != before.id
    assert block_digest(after) != block_digest(before)


def test_a_later_parameter_of_an_init_is_in_the_id_where_it_is_not_at_its_default(data: Path) -> None:
    plain, default, summed = (resolved(data, init=f"lwi{asked}") for asked in ("", "(order_loss=mean)", "(order_loss=sum)"))
    assert plain.id == default.id
    assert "order_loss" not in plain.identity["init_params"]
    assert summed.identity["init_params"] == plain.identity["init_params"] | {"order_loss": "sum"}
    assert (plain.init_name, summed.init_name) == ("lwi", "lwi(order_loss='sum')")
    inside = [resolved(data, init=f"shuffled(lwi{asked})").id for asked in ("", "(order_loss=mean)", "(order_loss=sum)")]
    assert inside[0] == inside[1] != inside[2]


def test_the_source_of_a_network_is_in_the_id_beside_its_name(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = resolved(data, "unetr")
    find = registry.find

    def revised(kind: Kind, asked: Any) -> registry.Component:
        """The network of an installed plug-in, under the same name after a change of its code."""
        found = find(kind, asked)
        return replace(found, source_digest="5" * 64) if kind == "backbone" else found

    monkeypatch.setattr(registry, "find", revised)
    after = resolved(data, "unetr")
    assert after.backbone_name == before.backbone_name
    assert after.id != before.id
    assert block_digest(after) != block_digest(before)


def test_a_file_of_a_network_is_known_by_its_content(data: Path, tmp_path: Path) -> None:
    source = LIGHT.read_text("utf-8")
    files = [tmp_path / name / "net.py" for name in ("one", "two", "same")]
    for file, content in zip(files, (source, source + "\n# changed\n", source), strict=True):
        file.parent.mkdir()
        file.write_text(content, "utf-8")
    one, two, same = (resolved(data, f"{file}:light") for file in files)
    assert one.id == same.id
    assert one.id != two.id
    assert one.backbone_name != two.backbone_name


def test_an_init_stage_is_shared_within_a_seed_and_never_across(data: Path) -> None:
    by_seed = [resolved(data, seed=seed) for seed in range(4)]
    assert len({cell.id for cell in by_seed}) == 1
    assert len({reuse.key(cell) for cell in by_seed}) == 4
    assert len({reuse.folder_of(cell) for cell in by_seed}) == 4
    other = resolved(data, protocol="equal-finetune")
    assert other.id != by_seed[0].id
    assert reuse.key(other) == reuse.key(by_seed[0])
    assert reuse.key(resolved(data, assignments=("optimizer.lr=0.01",))) == reuse.key(by_seed[0])
    assert reuse.key(resolved(data, init="mae(mask_ratio=0.6)")) != reuse.key(by_seed[0])
