"""`initbench recipe show`, `diff` and `new`: where values come from, where recipes differ, and a file that runs."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from initbench import registry
from initbench.catalog import BACKBONES
from initbench.choices import Budget
from initbench.errors import UsageError
from initbench.protocols import Size, check_patch
from initbench.recipes import files as recipe_files
from initbench.recipes.load import as_slices, load_recipe
from initbench.recipes.origins import Selected, differences, resolve_recipe, select, settings
from initbench.spec import Spec
from tests.commands import said
from tests.msd_factory import make_msd, write_nifti, write_table
from tests.one_process import in_one_process
from tests.runs_factory import LIGHT

RECIPES = [name for name, _ in recipe_files.listing()]
MINE = """
name = "mine"
version = 1
source = "of a test"
[preprocess]
spacing = "native"
intensity = "window"
[[override]]
when = { size = "tiny", backbone = ["unet", "unetr"] }
optimizer.lr = 0.5
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return str(path)


# --- show -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_every_setting_is_shown_with_its_value(name: str) -> None:
    if name == "base":
        name = "generic-ct"
    for size, backbone in product(("paper", "tiny"), ("", *BACKBONES)):
        selected = Selected(name, size, backbone)
        values: dict[str, Any] = {}
        for item in settings(selected):
            *sections, last = item.name.split(".")
            table = values
            for section in sections:
                table = table.setdefault(section, {})
            table[last] = item.value
            assert item.origin
        recipe = load_recipe(name, size=size, backbone=backbone, budget="paper")
        if backbone and BACKBONES[backbone].dimension == 2:
            recipe = as_slices(recipe)
        expected = recipe.model_dump(mode="json")
        assert values == {key: value for key, value in expected.items() if key not in ("name", "version", "source")}


def test_values_come_from_where_they_are_written(mine: str) -> None:
    found = {item.name: item.origin for item in settings(Selected(mine, "tiny", "unetr", assignments=("patch.batch=3",)))}
    assert found["preprocess.spacing"] == mine
    assert found["optimizer.lr"] == f"{mine} [size=tiny, backbone=unet|unetr]"
    assert found["optimizer.warmup"] == "base.toml [size=tiny]"
    assert found["patch.batch"] == "--set patch.batch=3"
    assert found["augment.flip"] == "base.toml"
    assert found["preprocess.percentiles"] == "default"
    plain = {item.name: item.origin for item in settings(Selected(mine, "tiny", "unetrpp"))}
    assert plain["optimizer.lr"] == "base.toml [size=tiny]"


def test_a_section_that_is_set_whole_is_of_its_settings(mine: str) -> None:
    text = "optimizer={'name': 'sgd', 'lr': 1.0, 'weight_decay': 0.0, 'schedule': 'poly', 'warmup': 0.0}"
    found = {item.name: item.origin for item in settings(Selected(mine, assignments=(text,)))}
    assert found["optimizer.lr"] == found["optimizer.name"] == f"--set {text}"
    assert found["loss.squared"] == "default"


def test_show_for_people_and_for_machines(mine: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = said(capsys, "recipe", "show", mine, "--size", "tiny", "--backbone", "unetr", "--set", "steps.paper=7")
    line = next(line for line in text.splitlines() if line.startswith("optimizer.lr "))
    assert line.strip().split(maxsplit=2)[1:] == ["0.5", f"{mine} [size=tiny, backbone=unet|unetr]"]
    assert "of a test" in text
    rows = json.loads(said(capsys, "recipe", "show", mine, "--set", "steps.paper=7", "--json"))
    assert {"setting": "steps.paper", "value": 7, "from": "--set steps.paper=7"} in rows


def test_backbones_that_set_something_otherwise_are_named(
    mine: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    note = said(capsys, "recipe", "show", "synapse").splitlines()[-1]
    for name in BACKBONES:
        count = len(differences(Selected("synapse"), Selected("synapse", backbone=name)))
        assert count
        assert f"{name} {count}" in note
    assert "No installed backbone takes all that is shown." in note
    assert note.endswith("Theirs: initbench recipe show synapse --backbone NAME")
    assert "otherwise" not in said(capsys, "recipe", "show", "synapse", "--backbone", "unetr")
    tiny = said(capsys, "recipe", "show", f"{mine}(size=tiny)", "--set", "optimizer.lr=0.5").splitlines()[-1]
    assert "At tiny size" in tiny
    assert " unetr " not in tiny, "what it sets is set by --set, to the same value"
    assert "No installed backbone" not in tiny
    assert tiny.endswith(f"recipe show {mine} --size tiny --set optimizer.lr=0.5 --backbone NAME")
    assert isinstance(json.loads(said(capsys, "recipe", "show", "synapse", "--json")), list)


def test_a_backbone_that_a_file_gets_wrong_is_no_matter_of_the_others(mine: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(mine).write_text(MINE + '[[override]]\nwhen = { backbone = "unet" }\noptimizer.lr = -1\n')
    assert "unetrpp " in said(capsys, "recipe", "show", mine).splitlines()[-1]
    assert "optimizer.lr" in said(capsys, "recipe", "show", mine, "--backbone", "unet", code=2)


@pytest.mark.parametrize("written", ["./x.py:net", "unetr(variant=conv)"])
def test_files_and_variants_are_backbones_too(written: str, mine: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(said(capsys, "recipe", "show", mine, "--size", "tiny", "--backbone", written, "--json"))
    value = next(row["value"] for row in rows if row["setting"] == "optimizer.lr")
    assert value == (0.5 if written.startswith("unetr") else 0.003)


# --- diff -----------------------------------------------------------------------------------------------------------------


def test_a_diff_names_backbones_under_which_it_is_another(
    mine: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    changed = ["recipe", "diff", f"{mine}(size=tiny)", "--set", "optimizer.lr=0.25"]
    note = said(capsys, *changed).splitlines()[-1]
    assert note.startswith("With unetr, nnformer, unet, swin-unet, missformer they differ")
    assert note.endswith(f"initbench recipe diff '{mine}(size=tiny)' --set optimizer.lr=0.25 --backbone NAME")
    assert "NAME" not in said(capsys, *changed, "--backbone", "unetr")
    assert "NAME" not in said(capsys, "recipe", "diff", "synapse", "--set", "augment.flip=0.5")
    assert json.loads(said(capsys, *changed, "--json"))


def test_selectors_are_written_into_the_name() -> None:
    assert select("lung(backbone=unetrpp, size=tiny)", Selected("")) == Selected("lung", "tiny", "unetrpp")
    assert select("a/b.toml(budget=short)", Selected("", "tiny")) == Selected("a/b.toml", "tiny", "", "short")
    assert select("lung", Selected("", "tiny", "unet")) == Selected("lung", "tiny", "unet")
    assert select("lung(backbone=None)", Selected("", "tiny", "unet")) == Selected("lung", "tiny")
    assert select("lung", Selected("", "tiny", "unetrpp(variant=acdc)")) == Selected("lung", "tiny", "unetrpp")


@pytest.mark.parametrize(
    ("written", "says"),
    [("3", "unknown backbone '3'"), ("(1, 2)", "is not a component"), ("unter", "unknown backbone 'unter': did you mean unetr")],
)
def test_a_selection_has_a_backbone_that_exists(written: str, says: str) -> None:
    """An unknown one would match no override, in silence; a number would end in a TypeError."""
    with pytest.raises(UsageError, match=says):
        select(f"lung(backbone={written})", Selected(""))


def test_two_recipes_differ_where_their_values_do(mine: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(said(capsys, "recipe", "diff", f"{mine}(size=tiny, backbone=unetr)", f"{mine}(size=tiny)", "--json"))
    assert rows == [
        {
            "setting": "optimizer.lr",
            "first": 0.5,
            "second": 0.003,
            "first_from": f"{mine} [size=tiny, backbone=unet|unetr]",
            "second_from": "base.toml [size=tiny]",
        }
    ]
    pairs = differences(Selected("generic-ct"), Selected("generic-mr"))
    assert {first.name for first, _ in pairs} >= {"preprocess.intensity", "preprocess.crop"}
    assert differences(Selected("lung"), Selected("lung")) == []


def test_a_recipe_differs_from_itself_with_settings(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "recipe", "diff", "lung", "--set", "optimizer.lr=0.125")
    assert "1 of " in text
    assert "0.125" in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["show", "lungs"], "unknown recipe 'lungs'"),
        (["show", "nothing.toml"], "there is no such file"),
        (["show", "lung(colour=red)"], "not for colour"),
        (["show", "lung(size=huge)"], "size is one of paper, tiny, got 'huge'"),
        (["show", "lung", "--set", "patch.sise=3"], "there is no setting patch.sise; did you mean patch.size"),
        (["show", "synapse", "--backbone", "unetr++"], "unknown backbone 'unetr++': did you mean unetr"),
        (["show", "lung(backbone=unet_r)"], "unknown backbone 'unet_r': did you mean unetr"),
        (["show", "lung", "--backbone", "unetr,unet"], "unknown backbone 'unetr,unet'"),
        (["diff", "lung", "lung(backbone=unt)"], "unknown backbone 'unt': did you mean unet"),
        (["diff", "lung", "synapse", "--backbone", "unt"], "unknown backbone 'unt': did you mean unet"),
        (["diff", "lung"], "recipe diff compares two"),
        (["new", "lungs"], "did you mean lung"),
        (["new", "phantom-lung", "--out", "a.txt"], "a recipe is a .toml file"),
    ],
    ids=str,
)
def test_wrong_requests_are_refused(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert text in " ".join(said(capsys, "recipe", *arguments, code=2).split())


def test_show_and_diff_import_no_torch(tmp_path: Path) -> None:
    ended = in_one_process(tmp_path, ["recipe", "show", "lung"], ["recipe", "diff", "generic-ct", "generic-mr"])
    assert [(item.code, set(item.heavy) & {"torch", "monai", "matplotlib"}) for item in ended] == [(0, set()), (0, set())]


# --- new ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_msd(tmp_path_factory.mktemp("data") / "Task91_New", cases=6, classes=3)


def test_a_new_recipe_is_valid_for_every_network(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new.toml"
    said(capsys, "recipe", "new", str(data), "--out", str(file))
    table = tomllib.loads(file.read_text("utf-8"))
    assert table["name"] == "Task91_New"
    assert "part 2" in table["source"]
    for size, backbone, budget in product(("paper", "tiny"), BACKBONES, get_args(Budget)):
        found = resolve_recipe(Selected(str(file), size, backbone, budget))
        info = registry.find("backbone", Spec(backbone)).target.info
        assert check_patch(backbone, found.patch.size, info.patches[info.variants[0]]) == found.patch.size
        assert (found.preprocess.spacing == "median") == (size == "tiny")
        assert found.patch.foreground == load_recipe("generic-ct", size=size, backbone=backbone, budget=budget).patch.foreground
    assert said(capsys, "recipe", "new", str(data)) == file.read_text("utf-8")
    assert "is there already" in said(capsys, "recipe", "new", str(data), "--out", str(file), code=2)


@pytest.fixture(scope="module", params=["CT", "MRI"])
def thick(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Coarse slices, and more voxels than a patch holds: the plan is neither the median spacing nor a cube."""
    root: Path = tmp_path_factory.mktemp("data") / "Task92_Thick"
    for number in range(5):
        affine = np.diag([0.8, 0.7, 5.0 + number % 3, 1.0])
        image = np.random.default_rng(number).normal(100, 30, (180, 200, 20)).astype(np.float32)
        write_nifti(root / "imagesTr" / f"case_{number}.nii.gz", image, affine)
        write_nifti(root / "labelsTr" / f"case_{number}.nii.gz", (image > 150).astype(np.uint8), affine)
    cases = [{key: f"./{key}sTr/case_{n}.nii.gz" for key in ("image", "label")} for n in range(5)]
    write_table(root, modality={"0": request.param}, labels={"0": "background", "1": "part"}, training=cases, numTraining=5)
    return root


def test_unedited_it_gives_what_the_generic_recipe_gives(
    thick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from initbench.harness.choose import choose
    from initbench.harness.request import RunRequest

    monkeypatch.setenv("INITBENCH_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "new.toml"
    said(capsys, "recipe", "new", str(thick), "--out", str(file))
    documentation = ("name", "version", "source")
    for size, backbone, budget in product(get_args(Size), (*BACKBONES, LIGHT), get_args(Budget)):
        generic = RunRequest.of("default", backbone, str(thick), 0, size=size, budget=budget, device="cpu")
        expected = choose(generic).recipe
        own = choose(replace(generic, recipe=str(file))).recipe
        assert own.identity(without=documentation) == expected.identity(without=documentation), (size, backbone)
        if size == "paper":
            assert own.preprocess.spacing == expected.preprocess.spacing == (5.0, 0.7, 0.8)


def test_its_numbers_are_those_of_the_training_cases(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from initbench.datasets import splits
    from initbench.datasets.open import open_dataset
    from initbench.preprocessing.parameters import resolve_parameters as numbers
    from initbench.preprocessing.parameters import scan

    dataset = open_dataset(str(data))
    own = load_recipe("generic-ct", size="paper", backbone="", budget="paper").preprocess
    train = splits.resolve_split(dataset, None).train
    expected = numbers(own, "CT", [scan(dataset.load(case)) for case in train])
    assert expected.spacing is not None
    assert expected.clip is not None
    text = said(capsys, "recipe", "new", str(data))
    assert f"median {', '.join(f'{value:.4g}' for value in expected.spacing)}, from" in text
    assert f"(of the training cases {expected.clip[0]:.4g} to {expected.clip[1]:.4g})" in text
    assert f"{len(train)} training cases" in text


def test_a_new_recipe_runs(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new.toml"
    said(capsys, "recipe", "new", str(data), "--out", str(file))
    small = ["--set", "patch.size=8,16,16", "--set", "steps.smoke=3", "--set", "patch.batch=1"]
    fixed = ["--size", "tiny", "--budget", "smoke", "--device", "cpu", "--precision", "float32", "--out", str(tmp_path / "runs")]
    text = said(
        capsys,
        "run",
        "--init",
        "default",
        "--backbone",
        LIGHT,
        "--dataset",
        str(data),
        "--recipe",
        str(file),
        *small,
        *fixed,
        "--json",
    )
    assert [row["state"] for row in json.loads(text)] == ["ok"]


def test_an_unknown_selection_is_named() -> None:
    with pytest.raises(UsageError, match="budget is one of"):
        select("lung(budget=large)", Selected(""))
