"""Ids of runs stay: 30 requests of many kinds still have the cell ids and block digests that earlier versions gave them.

A run is found again by its id, so an id that changes without a change of numbers runs a study of every user again. Where numbers
change on purpose, `python -m tests.harness.test_ids` writes the file anew; the changelog says which runs that concerns.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from initbench.harness.cell import resolve_cell
from initbench.harness.record import block_digest
from initbench.harness.request import RunRequest
from tests.folders import TESTS
from tests.msd_factory import make_msd

EXPECTED = TESTS / "expected" / "ids.json"
CT, MR, REGIONS = "Task90_Noise", "Task91_Echo", "Task92_Pair"
SMALL = ("patch.size=32,32,32",)
# init, backbone, data set, what else is asked for
ASKED: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("default", "unetr", CT, {}),
    ("default", "unetrpp", CT, {}),
    ("default", "swin-unetr", CT, {}),
    ("default", "nnformer", CT, {}),
    ("default", "unet", CT, {}),
    ("default(construct=other)", "unetr", CT, {}),
    ("kaiming-normal", "unetr", CT, {}),
    ("xavier-uniform(scope=linear)", "unetr", CT, {}),
    ("trunc-normal", "unetrpp", CT, {}),
    ("he-leaky", "unet", MR, {}),
    ("orthogonal", "unetr(variant=conv)", MR, {}),
    ("zero-residual", "unet", MR, {}),
    ("lsuv", "unetr", MR, {}),
    ("mae", "unetr", CT, {}),
    ("mae(mask_ratio=0.6)", "unetr", CT, {}),
    ("mae", "unetr", CT, {"protocol": "equal-finetune"}),
    ("tube", "unetr", CT, {}),
    ("order", "unetr", CT, {"assignments": SMALL}),
    ("lwi", "unetr", CT, {"assignments": SMALL}),
    ("lwi", "unetrpp", MR, {}),
    ("lwi-as-released", "unetr", CT, {"assignments": SMALL}),
    ("shuffled(mae)", "unetr", CT, {}),
    ("transfer(mae, part=encoder)", "unetr", CT, {}),
    ("default", "unetr", CT, {"budget": "short"}),
    ("default", "unetr", CT, {"precision": "bf16"}),
    ("default", "unetr", CT, {"fold": "1/2"}),
    ("default", "unetr", CT, {"train_cases": 2}),
    ("default", "unetr", CT, {"fixed": ("order",)}),
    ("default", "unetr", CT, {"assignments": ("optimizer.lr=0.001", "augment.family=nnunet")}),
    ("default", "unetr", REGIONS, {"assignments": ("preprocess.resampling=nnunet",)}),
)


def make_data(root: Path) -> None:
    """Three small data sets: CT, MR, and MR of two channels with three classes."""
    make_msd(root / CT, cases=5)
    make_msd(root / MR, cases=5, modality="MRI", seed=1)
    make_msd(root / REGIONS, cases=5, modality=("T1", "T2"), classes=3, seed=2)


def ids(root: Path) -> list[dict[str, str]]:
    """Cell id and block digest of every request."""
    found = []
    for init, backbone, dataset, options in ASKED:
        more = {"budget": "smoke", "precision": "float32", **options}
        cell = resolve_cell(RunRequest.of(init, backbone, str(root / dataset), 0, size="tiny", device="cpu", out=root, **more))
        asked = " ".join([init, backbone, dataset, *(f"{name}={value}" for name, value in options.items())])
        found.append({"asked": asked, "cell": cell.id, "block": block_digest(cell)})
    return found


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    root = tmp_path_factory.mktemp("data")
    make_data(root)
    return ids(root)


def test_no_id_has_changed(now: list[dict[str, str]]) -> None:
    assert now == json.loads(EXPECTED.read_text("utf-8"))


def test_every_request_has_an_id_of_its_own(now: list[dict[str, str]]) -> None:
    assert len({item["cell"] for item in now}) == len(ASKED)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder))
        EXPECTED.write_text(json.dumps(ids(Path(folder)), indent=1, ensure_ascii=False) + "\n", "utf-8")
    sys.stdout.write(f"{EXPECTED}: {len(ASKED)} ids\n")
