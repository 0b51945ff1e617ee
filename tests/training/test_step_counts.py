"""A gate without a clock: kernels, device reads, copies from the host and bytes of a step of every network, against a table."""

from __future__ import annotations

import pytest
import torch

from benchmarks.step_counts import META, TABLE, StepCounts, count_step, read_table, version
from initbench.catalog import BACKBONES

SHARE = 0.02  # the least that is looked at twice: releases of torch split and join operators


@pytest.mark.skipif(version() not in read_table(), reason=f"{TABLE.name} has no numbers of torch {version()}")
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_step_asks_no_more_of_a_device_than_it_did(backbone: str) -> None:
    row = read_table()[version()].get(backbone)
    remedy = "look why; where it is meant: python -m benchmarks.step_counts --write"
    assert row is not None, f"{backbone} has no row yet; {remedy}"
    found = count_step(backbone)
    for name, expected in row.items():
        assert found[name] == pytest.approx(expected, rel=SHARE), f"{name} of {backbone}: {found[name]}, was {expected}; {remedy}"


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
