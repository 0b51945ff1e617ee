"""The published lists of cases are complete and disjoint, and name the cases that the published code names."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

import pytest

from initbench.datasets.splits import published_splits
from tests.folders import ROOT

SIZES = {
    "lung": {"unetrpp-50/13": (50, 13, 0)},
    "synapse": {
        "transunet-18/12": (18, 12, 0),
        "monai-24/6": (24, 6, 0),
        "medcontext-18/12": (18, 12, 0),
        "medcontext-5-shot": (5, 12, 13),
        "medcontext-1-shot": (1, 12, 17),
    },
    "acdc": {"nnformer-70/10/20": (140, 40, 20), "unetrpp-80/20": (160, 40, 0), "medcontext-5-frame": (5, 40, 155)},
    "brats": {"nnformer-387/73/24": (387, 24, 73)},
}


@pytest.mark.parametrize("name", SIZES)
def test_published_lists_are_complete_and_disjoint(name: str) -> None:
    splits = published_splits(name)
    assert {split.name: (len(split.train), len(split.test), len(split.unused)) for split in splits} == SIZES[name]
    everybody = {case for side in (splits[0].train, splits[0].test, splits[0].unused) for case in side}
    for split in splits:
        sides = [set(side) for side in (split.train, split.test, split.unused)]
        assert sum(map(len, sides)) == len(split.train) + len(split.test) + len(split.unused) == len(everybody)
        assert set().union(*sides) == everybody
        patients = [{case.partition("_frame")[0] for case in side} for side in sides]
        assert not patients[0] & patients[1]
        assert not patients[1] & patients[2]
    text = (ROOT / "initbench" / "datasets" / "published_splits" / f"{name}.json").read_text("utf-8")
    assert all(re.search(r"@[0-9a-f]{7}|:|dataset_0", table["source"]) for table in json.loads(text)["splits"])


# Of the sorted case ids, one a line, as they stand in the published code: those it trains on and those it reports.
PUBLISHED_LISTS = {
    "transunet-18/12": ("974434cc9479afc5", "66019f9a0459edaf"),
    "medcontext-18/12": ("96e18e8c864ab160", "42d97778631c50c8"),
    "nnformer-70/10/20": ("546234f2a337df00", "b65f3c29132f7658"),
    "unetrpp-80/20": ("f83ee37dfcf3a646", "b65f3c29132f7658"),
    "nnformer-387/73/24": ("bbd8336672e67aee", "51499a9f0aba1376"),
    "unetrpp-50/13": ("520a93e1403af3a6", "73f7d35cc377977c"),
}


def test_the_lists_are_those_of_the_published_code() -> None:
    """An id that somebody changes in a list would make its scores incomparable with the published ones."""

    def digest_of(cases: Sequence[str]) -> str:
        return hashlib.sha256("\n".join(sorted(cases)).encode()).hexdigest()[:16]

    splits = {split.name: split for name in SIZES for split in published_splits(name)}
    assert {name: (digest_of(splits[name].train), digest_of(splits[name].test)) for name in PUBLISHED_LISTS} == PUBLISHED_LISTS
