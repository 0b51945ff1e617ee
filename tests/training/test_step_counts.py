"""A gate without a clock: kernels, device reads, copies from the host and bytes of a step of every network, against a table."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
import torch

from benchmarks.step_counts import META, TABLE, StepCounts, count_step, read_table, version
from initbench.catalog import BACKBONES
from tests.folders import ROOT

SHARE = 0.02  # the least that is looked at twice: releases of torch split and join operators
HOW = "python -m benchmarks.step_counts --write"


def check(backbone: str, rows: Mapping[str, Mapping[str, int]]) -> None:
    """Compares a step of a network with its row."""
    assert backbone in rows, f"{backbone} has no row in benchmarks/{TABLE.name} for torch {version()}; add it with: {HOW}"
    found = count_step(backbone)
    for name, expected in rows[backbone].items():
        said = f"{name} of a step of {backbone}: {found[name]}, was {expected}; look why, and where it is meant: {HOW}"
        assert found[name] == pytest.approx(expected, rel=SHARE), said


@pytest.mark.skipif(version() not in read_table(), reason=f"{TABLE.name} has no numbers of torch {version()}")
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_step_asks_no_more_of_a_device_than_it_did(backbone: str) -> None:
    check(backbone, read_table()[version()])


def test_the_table_knows_the_torch_of_ci_and_no_network_that_is_gone() -> None:
    """With another torch there would be nothing to compare with, and the gate would stand open."""
    pinned = re.search(r"^torch==(\d+\.\d+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    assert pinned is not None
    assert pinned[1] in read_table(), f"constraints.txt pins torch {pinned[1]}; measure it with: {HOW}"
    for rows in read_table().values():
        assert rows.keys() <= BACKBONES.keys()


def test_a_network_without_a_row_is_told_how_to_get_one() -> None:
    with pytest.raises(AssertionError, match=r"unetr has no row in benchmarks/step_counts\.json for torch .* --write"):
        check("unetr", {})


def test_what_strays_by_more_than_two_per_cent_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"kernels": 1000, "reads": 0, "copies": 2, "moved": 10**9}
    monkeypatch.setitem(globals(), "count_step", lambda backbone: row)
    check("unet", {"unet": row | {"kernels": 990, "moved": 10**9 + 10**7}})
    for name, was in (("kernels", 970), ("moved", 10**9 - 3 * 10**7), ("reads", 1), ("copies", 3)):
        with pytest.raises(AssertionError, match=f"{name} of a step of unet: {row[name]}, was {was}; .* --write"):
            check("unet", {"unet": row | {name: was}})


def test_what_is_counted() -> None:
    here = torch.empty(4, 8, device=META)
    with StepCounts() as counts:
        torch.mm(here, here.t())  # the transposed matrix is a view
        here.add_(1)
    moved = 4 * (32 + 32 + 16) + 4 * (32 + 32)
    assert counts.as_row() == {"kernels": 2, "reads": 0, "copies": 0, "moved": moved}
    with StepCounts() as counts:
        torch.ones(3).to(META)
        float(torch.ones(()))
        torch.empty(5, device=META)
    assert counts.as_row() == {"kernels": 0, "reads": 1, "copies": 1, "moved": 0}
