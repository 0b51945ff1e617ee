"""Tables and recipes made to do harm are refused with a sentence that names the file and the key."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from initbench.datasets.msd import MsdDataset
from initbench.errors import DataError, UsageError
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Recipe
from tests.hostile import Hostile
from tests.msd_factory import make_msd
from tests.one_process import Ended, in_one_process

RUN = ["run", "--backbone", "unetr", "--size", "tiny", "--budget", "smoke", "--device", "cpu", "--out", "runs"]


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_that_would_execute_is_refused_by_the_command(tmp_path: Path) -> None:
    mark, paths = tmp_path / "executed", {"zip": tmp_path / "zip.pt", "legacy": tmp_path / "legacy.pt"}
    for kind, path in paths.items():
        torch.save({"state_dict": {}, "x": Hostile(mark)}, path, _use_new_zipfile_serialization=kind == "zip")
    data = make_msd(tmp_path / "Task90_Noise", cases=5)
    commands = [[*RUN, "--dataset", str(data), "--init", f"checkpoint(path='{path}')"] for path in paths.values()]
    for path, ended in zip(paths.values(), in_one_process(tmp_path, *commands), strict=True):
        assert ended.code == 2
        assert f"{path.name} holds an object of type" in ended.said
        assert "nothing was run" in ended.said
        assert "Traceback" not in ended.said
        assert not mark.exists()
        assert not (tmp_path / "runs").exists()
    torch.load(paths["zip"], weights_only=False)
    assert mark.exists(), "the mark is real"


# --- dataset.json -----------------------------------------------------------------------------------------------------


GOOD = {"image": "imagesTr/case_00.nii.gz", "label": "labelsTr/case_00.nii.gz"}


@pytest.mark.parametrize("key", ["image", "label"])
@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("../../x", "the entry ../../x leads out"),
        ("imagesTr/../../x", "the entry imagesTr/../../x leads out"),
        ("/etc/passwd", "the entry /etc/passwd leads out"),
        ("../\0", "files that do not exist"),
        ("x" * 5000, "files that do not exist"),
        ([["x"]], "names its image by a path"),
    ],
)
def test_a_table_that_leads_out_is_refused(tmp_path: Path, key: str, entry: Any, says: str) -> None:
    folder = make_msd(tmp_path / "a" / "b", cases=1)
    for outside in (tmp_path / "x", tmp_path / "a" / "x"):
        shutil.copy(folder / GOOD["image"], outside)
    table = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(table | {"training": [{**GOOD, key: entry}]}))
    with pytest.raises(DataError, match=re.escape(says)) as caught:
        MsdDataset(folder)
    assert str(folder) in str(caught.value)


def test_links_that_the_user_made_are_followed(tmp_path: Path) -> None:
    folder = make_msd(tmp_path / "b", cases=1)
    (folder / "imagesTr").rename(tmp_path / "store")
    (folder / "imagesTr").symlink_to(tmp_path / "store")
    MsdDataset(folder).load("case_00")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"labels": ' + "9" * 10_000 + "}", '{"modality": {"0": "CT"}, "labels": {"1e9": "x"}, "training": [1]}'],
)
def test_a_table_that_breaks_readers_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset\.json"):
        MsdDataset(tmp_path)


def test_more_classes_than_a_label_map_holds_are_refused(tmp_path: Path) -> None:
    folder = make_msd(tmp_path / "b", cases=1, classes=2)
    table = json.loads((folder / "dataset.json").read_text())
    labels = {str(k): f"part {k}" for k in range(257)}
    (folder / "dataset.json").write_text(json.dumps(table | {"labels": labels}))
    with pytest.raises(DataError, match=r"257 labels; .* tell 256 apart"):
        MsdDataset(folder)


# --- recipes ----------------------------------------------------------------------------------------------------------


HEAD = 'name = "own"\nversion = 1\nsource = "test"\n'
RECIPES: dict[str, tuple[str, str]] = {
    "syntax": ("[patch\n", "at line 4"),
    "type": ("[patch]\nbatch = 'many'\n", "patch.batch: "),
    "section": ("patch = 3\n", "patch: "),
    "key": ("[patch]\nbatches = 1\n", "no setting patch.batches; "),
    "infinite": ("[optimizer]\nlr = inf\n", "optimizer.lr: "),
    "no number": ("[optimizer]\nweight_decay = nan\n", "optimizer.weight_decay: "),
    "batch": (f"[patch]\nbatch = 1{'0' * 30}\n", "patch.batch: "),
    "steps": (f"[steps]\nsmoke = 1{'0' * 30}\n", "steps.smoke: "),
    "digits": (f"[steps]\nsmoke = 1{'0' * 5000}\n", "4300 digits"),
    "whole patch": ("[patch]\nsize = [4096, 4096, 4096]\n", "patch.size: Value error, more than"),
    "patch": ("[patch]\nsize = [16000, 16, 16]\n", "patch.size.0: "),
    "negative patch": ("[patch]\nsize = [16, -16, 16]\n", "patch.size.1: "),
    "no patch": ("[patch]\nsize = [16, 16, 0]\n", "patch.size.2: "),
    "spacing": ("[preprocess]\nspacing = [0.0, 1.0, 1.0]\n", "preprocess.spacing"),
    "fine spacing": ("[preprocess]\nspacing = [1e-9, 1.0, 1.0]\n", "preprocess.spacing"),
    "window": ("[preprocess]\nwindow = [400.0, -1000.0]\n", "preprocess.window: Value error, the first number must be below"),
    "percentiles": ("[preprocess]\npercentiles = [1.0, 300.0]\n", "preprocess.percentiles.1: "),
    "override": ("override = 3\n", "override must be a list of tables"),
    "overrides": ("override = [1]\n", "override must be a list of tables"),
    "when": ("[[override]]\nwhen = 3\n", "`when` may name size, backbone, budget"),
    "nested": (f"a = {'[' * 100_000}\n", "recursion"),
    "text": (f"[patch]\nbatch = '{'x' * 100_000}'\n", "more characters"),
}


def load(name: str = "phantom-lung") -> Recipe:
    return load_recipe(name, size="tiny", backbone="unetr", budget="smoke")


@pytest.mark.parametrize("name", RECIPES)
def test_a_hostile_recipe_names_the_key_and_the_file(tmp_path: Path, name: str) -> None:
    text, says = RECIPES[name]
    (tmp_path / "own.toml").write_text(HEAD + text)
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        load(str(tmp_path / "own.toml"))
    assert str(tmp_path / "own.toml") in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_recipe_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_bytes(b"# \xe9")
    with pytest.raises(UsageError, match=r"own\.toml cannot be read as text"):
        load(str(tmp_path / "own.toml"))


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """The command's answers to some of them."""
    folder = tmp_path_factory.mktemp("recipes")
    names = ("syntax", "type", "key", "infinite", "patch", "nested")
    for name in names:
        (folder / f"{name}.toml").write_text(HEAD + RECIPES[name][0])
    commands = [[*RUN, "--init", "default", "--recipe", f"{name}.toml"] for name in names]
    return dict(zip(names, in_one_process(folder, *commands), strict=True))


@pytest.mark.parametrize("name", ["syntax", "type", "key", "infinite", "patch", "nested"])
def test_the_command_refuses_a_hostile_recipe(refused: dict[str, Ended], name: str) -> None:
    ended = refused[name]
    assert ended.code == 2
    assert f"{name}.toml" in ended.said
    assert RECIPES[name][1].strip() in ended.said
    assert "Traceback" not in ended.said
