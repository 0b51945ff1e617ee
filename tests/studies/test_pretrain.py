"""Weights for other people's training: what is written, and that a plain MONAI script starts where the harness does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import initbench
from initbench.checkpoints.matching import Request, load_checkpoint
from initbench.checkpoints.reading import read_checkpoint
from initbench.cli.app import main
from initbench.datasets import splits
from initbench.datasets.open import open_dataset
from initbench.errors import UsageError
from initbench.harness import run as run_module
from initbench.protocols import structure_of
from initbench.runs import store
from initbench.studies.pretrain import Export
from tests.msd_factory import make_noise
from tests.runs_factory import OPTIONS, as_flags

# The patch of the factory is too small: UNETR halves it four times.
SMALL = (
    "patch.size=32,32,32",
    "patch.batch=2",
    "pretext.batch=2",
    "pretext.mask_patch=4",
    "steps.smoke=6",
    "preprocess.spacing=0.3,0.4,0.4",
    "preprocess.crop=False",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_noise(tmp_path_factory.mktemp("data"), cases=5)


def export(data: Path, path: Path, init: str = "lwi", backbone: str = "unetr") -> Export:
    return initbench.pretrain(init, backbone, str(data), weights=path, assignments=SMALL, **OPTIONS)


@pytest.fixture(scope="module")
def written(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    return export(data, tmp_path_factory.mktemp("weights") / "lwi.safetensors")


def test_card_and_weights(data: Path, written: Export) -> None:
    with safe_open(written.path, framework="pt") as file:
        card = json.loads(file.metadata()["initbench"])
    assert card == {key: value for key, value in written.card.items() if key != "sha256"}
    assert (card["init"], card["backbone"], card["variant"], card["size"]) == ("lwi", "unetr", "perceptron", "tiny")
    assert card["cost"]["steps"] == 1
    assert len(card["train_cases"]) == 4
    assert card["data_licence"] == "CC-BY-SA 4.0"
    assert card["pretext"]["optimizer"]["lr"] == 1e-3
    assert card["coverage"]["changed_share"] > 0.5
    text = written.card_path.read_text("utf-8")
    assert "| licence of the data | CC-BY-SA 4.0 |" in text
    assert written.card["sha256"] in text
    assert not list(written.path.parent.glob(".*"))


def test_the_card_says_what_was_read_and_which_axes(data: Path, written: Export, tmp_path: Path) -> None:
    assert (written.card["read"], written.card["axes"]) == (["images"], "DHW")
    assert "| the init read | images of 4 training cases |" in written.card_path.read_text("utf-8")
    guided = export(data, tmp_path / "a.safetensors", "lwi(crops=labels)", "unetr(variant=perceptron-xyz)")
    assert (guided.card["read"], guided.card["axes"]) == (["images", "labels"], "WHD")
    assert "(N, C, W, H, D)" in guided.card_path.read_text("utf-8")
    plain = export(data, tmp_path / "b.pth", "trunc-normal")
    assert (plain.card["read"], plain.card["train_cases"]) == ([], [])
    # The card travels with a .pth too: else MONAI's keys would mean weights of (x, y, z) volumes.
    model = initbench.build("unetr", in_channels=1, num_classes=3, patch_size=(32, 32, 32), size="tiny", seed=5)
    assert load_checkpoint(model, read_checkpoint(plain.path), structure_of(model), Request()).share == 1


def test_they_come_back_through_checkpoint(written: Export) -> None:
    model = initbench.build("unetr", in_channels=1, num_classes=3, patch_size=(32, 32, 32), size="tiny", seed=5)
    report = load_checkpoint(model, read_checkpoint(written.path), structure_of(model), Request())
    assert (report.share, report.skipped.keys()) == (1, {"out.conv.conv.weight", "out.conv.conv.bias"})


def test_the_same_request_gives_the_same_weights(data: Path, written: Export, tmp_path: Path) -> None:
    again = load_file(export(data, tmp_path / "again.safetensors").path)
    first = load_file(written.path)
    assert all(torch.equal(first[key], again[key]) for key in first)


SCRIPT = """
import sys
import numpy as np, torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNETR
from safetensors.torch import load_model

weights, batch = sys.argv[1:]
torch.set_num_threads(1)
net = UNETR(in_channels=1, out_channels=3, img_size=(32, 32, 32), feature_size=8, hidden_size=96, mlp_dim=192, num_heads=4,
            proj_type="perceptron", norm_name="instance")
load_model(net, weights)
arrays = np.load(batch)
loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, smooth_nr=1e-5, smooth_dr=1e-5)
value = loss(net.train()(torch.from_numpy(arrays["image"])), torch.from_numpy(arrays["label"])[:, None])
assert not [name for name in sys.modules if name.startswith("initbench")]
print(float(value))
"""


@pytest.mark.full
def test_a_plain_monai_script_has_the_same_first_loss(data: Path, written: Export, tmp_path: Path) -> None:
    """Without initbench, on the batch that the harness trains on first."""
    seen: dict[str, np.ndarray] = {}

    class Spy(run_module.PatchSampler):
        def batch(self, step: int) -> Any:
            found = super().batch(step)
            if step == 0:
                seen.update(image=found.image.numpy(), label=found.label.numpy())
            return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "PatchSampler", Spy)
        outcome = initbench.run("lwi", "unetr", str(data), out=tmp_path / "runs", assignments=SMALL, **OPTIONS)[0]
    assert outcome.folder is not None
    curve = pd.read_csv(outcome.folder / store.CURVE)
    inside = float(curve[curve["stage"] == "train"]["loss"].iloc[0])
    np.savez(tmp_path / "batch.npz", **seen)
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(written.path), str(tmp_path / "batch.npz")]
    outside = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert outside == pytest.approx(inside, rel=1e-5)


def test_pth_is_what_nnunet_reads(data: Path, tmp_path: Path) -> None:
    """Every key of its network, the repeated ones too, under ``network_weights``, without anything that has to be executed."""
    path = export(data, tmp_path / "init.pth", "kaiming-normal", "unet").path
    content = torch.load(path, weights_only=True)
    model = initbench.build("unet", in_channels=1, num_classes=3, patch_size=(32, 32, 32), size="tiny", deep_supervision=True)
    assert list(content["network_weights"]) == list(model.state_dict())
    model.load_state_dict(content["network_weights"])


def test_what_cannot_be_written_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.safetensors or \.pth"):
        export(data, tmp_path / "weights.bin")
    there = tmp_path / "there.pth"
    there.write_text("mine")
    with pytest.raises(UsageError, match="exists; remove it"):
        export(data, there)
    assert there.read_text() == "mine"


def test_folds_and_subsets_are_those_of_runs(data: Path, tmp_path: Path) -> None:
    """So that no case that a fold reports has been seen by weights that are made for it."""
    cards = []
    for fold in ("1/2", "2/2"):
        path = tmp_path / f"{fold[0]}.safetensors"
        written = initbench.pretrain("mae", "unetr", str(data), weights=path, folds=[fold], assignments=SMALL, **OPTIONS)
        cards.append(written.card)
    dataset = open_dataset(str(data))
    for card, fold in zip(cards, ("1/2", "2/2"), strict=True):
        assert card["train_cases"] == list(splits.resolve_split(dataset, None, fold).train)
    assert sorted(cards[0]["train_cases"] + cards[1]["train_cases"]) == sorted(dataset.case_ids())
    path = tmp_path / "one.safetensors"
    one = initbench.pretrain("mae", "unetr", str(data), weights=path, train_cases=[1], assignments=SMALL, **OPTIONS)
    assert len(one.card["train_cases"]) == 1
    with pytest.raises(UsageError, match=r"one fold at a time; this names 2 runs"):
        initbench.pretrain("mae", "unetr", str(data), weights=tmp_path / "two.pth", folds=["1/2", "2/2"], **OPTIONS)


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assignments = as_flags(SMALL)
    command = ["pretrain", "--init", "trunc-normal", "--backbone", "unetr", "--dataset", str(data), "--size", "tiny"]
    options = ["--budget", "smoke", "--device", "cpu", "--weights", str(tmp_path / "out" / "w.safetensors"), "--json"]
    with pytest.raises(SystemExit) as ended:
        main([*command, *options, *assignments])
    assert ended.value.code == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["init"], card["cost"]["steps"], Path(card["path"]).is_file()) == ("trunc-normal", 0, True)
    with pytest.raises(SystemExit) as ended:
        main([*command, *options, *assignments])
    assert ended.value.code == 2
