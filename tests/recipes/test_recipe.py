"""Recipes: every packaged one resolves, layers in the promised order, mistakes that name the key."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest

from initbench import digest, registry
from initbench.catalog import BACKBONES
from initbench.choices import Budget
from initbench.errors import UsageError
from initbench.protocols import check_patch
from initbench.recipes import files as recipe_files
from initbench.recipes.load import as_slices, load_recipe
from initbench.recipes.settings import Recipe
from initbench.spec import Spec

NAMES = [name for name, _ in recipe_files.listing()]
BUDGETS: tuple[Budget, ...] = get_args(Budget)


def tiny(*assignments: str, name: str = "phantom-lung", backbone: str = "unetr") -> Recipe:
    return load_recipe(name, size="tiny", backbone=backbone, budget="smoke", assignments=assignments)


def test_recipes_there_are() -> None:
    published = {"acdc", "brats", "btcv", "camus", "chaos", "chaos-ct", "chaos-t1", "lung", "synapse", "synapse-8"}
    assert set(NAMES) == published | {"base", "generic-ct", "generic-mr", "hippocampus", "phantom-lung"}
    assert all(recipe_files.default_name(name, "CT") == name for name in published)
    assert recipe_files.default_name("lung", "CT") == "lung"
    assert recipe_files.default_name("mine", "ct") == "generic-ct"
    assert recipe_files.default_name("mine", "MR") == "generic-mr"


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", NAMES)
def test_resolves_and_suits_the_backbone(name: str, backbone: str) -> None:
    info = registry.find("backbone", Spec(backbone)).target.info
    for size, budget in product(("tiny", "paper"), BUDGETS):
        recipe = load_recipe(name, size=size, backbone=backbone, budget=budget)
        if info.dimension == 2:
            recipe = as_slices(recipe)
        variant = recipe.variant or info.variants[0]
        assert variant in info.variants
        assert check_patch(name, recipe.patch.size, info.patches[variant]) == recipe.patch.size
        masked = recipe.patch.size[1:] if info.dimension == 2 else recipe.patch.size
        assert all(edge % recipe.pretext.mask_patch == 0 for edge in masked), "a mask of whole cells"
        assert recipe.steps.smoke <= recipe.steps.short <= recipe.steps.paper


@pytest.mark.parametrize("size", ["tiny", "paper"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_chaos_is_the_generic_recipe_but_for_omnia_net_at_paper_size(backbone: str, size: str) -> None:
    for name, generic in {"chaos": "generic-mr", "chaos-t1": "generic-mr", "chaos-ct": "generic-ct"}.items():
        own, other = (load_recipe(each, size=size, backbone=backbone, budget="paper") for each in (name, generic))
        assert (own.digest() == other.digest()) == ((backbone, size) != ("omnia-net", "paper"))


def test_published_settings_of_lung_with_unetrpp() -> None:
    recipe = load_recipe("lung", size="paper", backbone="unetrpp", budget="paper")
    assert (recipe.patch.size, recipe.patch.batch, recipe.variant) == ((32, 192, 192), 2, "lung")
    assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.optimizer.schedule) == ("sgd", 1e-2, "poly")
    assert (recipe.steps.paper, recipe.pretext.mask_patch, recipe.inference.blend) == (250_000, 4, "gaussian")
    loss = recipe.loss
    assert (loss.squared, loss.background, loss.deep_supervision, loss.smooth_nr) == (False, False, True, 1e-5)
    assert loss.coarsest, "nnU-Net's own network alone leaves it out"
    assert not load_recipe("lung", size="paper", backbone="unet", budget="paper").loss.coarsest


def test_assignments_become_values_of_their_type() -> None:
    recipe = tiny(
        "optimizer.lr=1e-2",
        "patch.size=32,32,32",
        " patch.batch = 7 ",
        "loss.background=false",
        "loss.batch_dice=True",
        "preprocess.spacing=native",
        "preprocess.window=(-100, 200)",
        "variant=conv",
        "optimizer.schedule='poly'",
    )
    assert recipe.optimizer.lr == 0.01
    assert (recipe.patch.size, recipe.patch.batch) == ((32, 32, 32), 7)
    assert (recipe.loss.background, recipe.loss.batch_dice) == (False, True)
    assert (recipe.preprocess.spacing, recipe.preprocess.window) == ("native", (-100, 200))
    assert (recipe.variant, recipe.optimizer.schedule) == ("conv", "poly")
    assert tiny("variant=None").variant is None


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("optimizer.lrr=1", r"no setting optimizer\.lrr; did you mean optimizer\.lr"),
        ("optimiser.lr=1", r"no setting optimiser; did you mean optimizer"),
        ("optimizer.lr=fast", r"optimizer\.lr: .*'fast'"),
        ("optimizer.lr=0", r"optimizer\.lr: .*greater than 0 \(got 0\)"),
        ("patch.size=32,32", r"patch\.size.*Field required"),
        ("patch.batch=0", r"patch\.batch: .*greater than or equal to 1"),
        ("patch.batch=1.5", r"patch\.batch"),
        ("patch.foreground=2", r"patch\.foreground"),
        ("inference.grids=resampled", r"inference\.grids: .*the score is always of the native grid"),
        ("inference.blend=linear", r"inference\.blend: .*'constant' or 'gaussian'"),
        ("patch=3", r"patch: "),
        ("optimizer.lr", "write --set section.field=value"),
        ("=3", "write --set section.field=value"),
        ("optimizer.lr.x=3", "lr is a value, not a section"),
        ("optimizer.lr=__import__('os').getpid()", r"optimizer\.lr"),
    ],
)
def test_mistakes_name_the_key(assignment: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        tiny(assignment)


def test_unknown_recipe() -> None:
    with pytest.raises(UsageError, match="unknown recipe 'lungs'; known: acdc, base, brats"):
        tiny(name="lungs")
    with pytest.raises(UsageError, match="there is no such file"):
        tiny(name="./nowhere.toml")


def write(path: Path, text: str) -> str:
    path.write_text(f'name = "own"\nversion = 1\nsource = "test"\n{text}')
    return str(path)


def test_order_of_the_layers(tmp_path: Path) -> None:
    own = write(
        tmp_path / "own.toml",
        """
        [patch]
        batch = 11
        [optimizer]
        lr = 0.5
        [steps]
        smoke = 7
        [[override]]
        when = { size = "tiny", backbone = ["unetr", "unetrpp"] }
        patch.size = [16, 16, 16]
        patch.foreground = 0.1
        patch.batch = 5
        [[override]]
        when = { backbone = "unetr", budget = "smoke" }
        patch.foreground = 0.2
        [[override]]
        when = { budget = "paper" }
        patch.foreground = 0.3
        [[override]]
        when = { backbone = "swin-unetr" }
        patch.foreground = 0.4
        """,
    )
    recipe = tiny(name=own)
    assert recipe.steps.smoke == 7, "own over base"
    assert recipe.steps.short == tiny().steps.short, "the rest of a section stays"
    assert recipe.optimizer.lr == 0.5 != tiny().optimizer.lr, "own values over base's overrides"
    assert recipe.patch.batch == 5 != tiny().patch.batch, "own overrides over base's"
    assert recipe.patch.size == (16, 16, 16), "a list matches each of its items"
    assert recipe.patch.foreground == 0.2, "a later override over an earlier one; the others do not match"
    assert tiny("patch.foreground=0.9", name=own).patch.foreground == 0.9, "assignments over everything"
    assert tiny("patch.batch=3", "patch.batch=4", name=own).patch.batch == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[override]]\nwhen = { gpu = "a100" }\n', r"`when` may name size, backbone, budget"),
        ('[[override]]\nwhen = { backbone = "unter" }\n', r"own\.toml: .*unknown backbone 'unter': did you mean unetr"),
        ('[[override]]\nwhen = { size = "tiny", backbone = ["unet", "unter"] }\n', r"unknown backbone 'unter'"),
        ('[[override]]\nwhen = { backbone = "unetrpp(variant=lung)" }\n', r"unknown backbone 'unetrpp\(variant=lung\)': did you"),
        ('[[override]]\nwhen = { size = "paperr" }\n', r"asks for size = 'paperr'; there are paper, tiny"),
        ('[[override]]\nwhen = { budget = ["smoke", "sort"] }\n', r"asks for budget = 'sort'; there are smoke, short, paper"),
        ("[[override]]\nwhen = { size = 3 }\n", r"size = 3; write a name, or a list of names"),
        ("[[override]]\nwhen = { backbone = [] }\n", r"backbone = \[\]; write a name, or a list of names"),
        ("[patch]\nsize = [1, 2", "own.toml"),
        ('extends = "generic"\n', r"unknown recipe 'generic'; known: .*generic-ct"),
        ("extends = 3\n", r"own\.toml: extends names a recipe, got 3"),
        ("[patch]\nextra = 3\n", r"no setting patch\.extra; did you mean patch\."),
        ('[patch]\nbatch = "many"\n', r"patch\.batch: .*'many'"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, says: str) -> None:
    name = write(tmp_path / "own.toml", text)
    with pytest.raises(UsageError, match=says):
        load_recipe(name, size="paper", backbone="unetr", budget="smoke")


def test_a_recipe_lies_over_the_one_that_it_extends(tmp_path: Path) -> None:
    own, lung = tiny(name=write(tmp_path / "own.toml", 'extends = "lung"\n[patch]\nbatch = 7\n')), tiny(name="lung")
    assert own.patch.batch == 7 != lung.patch.batch
    assert own.preprocess == lung.preprocess != tiny().preprocess
    assert own.steps == lung.steps


def test_recipes_that_extend_one_another_are_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    write(second, f'extends = "{first}"\n')
    with pytest.raises(UsageError, match=r"second\.toml, which extends .*first\.toml; take one of the two lines out"):
        tiny(name=write(first, f'extends = "{second}"\n'))


def test_a_backbone_in_a_file_is_known_by_its_name(tmp_path: Path) -> None:
    """Where it lies, or from where it is asked for, is no setting."""
    own = write(tmp_path / "own.toml", '[[override]]\nwhen = { backbone = "./net.py:build" }\npatch.batch = 9\n')
    for backbone in ("./net.py:build", "net.py:build", "/elsewhere/net.py:build"):
        assert load_recipe(own, size="paper", backbone=backbone, budget="smoke").patch.batch == 9
    for backbone in ("./net.py:other", "./other.py:build", "unetr", ""):
        assert load_recipe(own, size="paper", backbone=backbone, budget="smoke").patch.batch != 9


@pytest.mark.parametrize(
    "setting",
    [
        "augment.scale_range",
        "augment.shift_range",
        "augment.nnunet.brightness_range",
        "optimizer.lr",
        "optimizer.weight_decay",
        "optimizer.poly_power",
        "optimizer.clip",
        "pretext.optimizer.lr",
        "loss.smooth_nr",
        "loss.smooth_dr",
        "preprocess.window",
    ],
)
def test_numbers_beyond_any_use_are_refused_before_a_run(setting: str) -> None:
    value = "-1e308,1e308" if setting in ("preprocess.window", "augment.nnunet.brightness_range") else "1e308"
    with pytest.raises(UsageError, match=setting.replace(".", r"\.")):
        tiny(f"{setting}={value}")


def test_digest_is_of_the_values_alone(tmp_path: Path) -> None:
    text = '[preprocess]\nspacing = "native"\n'
    first = tiny(name=write(tmp_path / "one.toml", text))
    (tmp_path / "two.toml").write_text(f'name = "other"\nversion = 9\nsource = "elsewhere"\n{text}')
    assert tiny(name=str(tmp_path / "two.toml")).digest() == first.digest()
    assert tiny("preprocess.spacing=median", name=str(tmp_path / "two.toml")).digest() != first.digest()
    assert tiny("patch.batch=2.0").digest() == tiny("patch.batch=2").digest()


DIGESTS = {
    "generic-ct tiny": "874212bf4abc4cd3",
    "generic-mr tiny": "9925b1cd0edc8a3c",
    "hippocampus paper": "a5383e0913cd183a",
    "hippocampus tiny": "d114d0880a0654f3",
    "lung tiny": "2c08dd276d19f987",
    "phantom-lung paper": "16672a88a32f474c",
    "phantom-lung tiny": "aaf54f431074459e",
}


@pytest.mark.parametrize("recipe", DIGESTS)
def test_settings_that_came_later_change_no_older_digest(recipe: str) -> None:
    """Every backbone and budget of a recipe in one digest: it is in the name of every run that was made with it."""
    name, size = recipe.split()
    # What was changed on purpose, so that runs have other names since: the U-Net's loss, nnU-Net's family at paper size, and what
    # windows of MONAI's family average there.
    before = ["preprocess.resampling=half-pixel", "preprocess.image_order=1", "patch.sampling=centres", "augment.family=monai-r1"]
    before += ["inference.mirror=false", "pretext.share=0.16"]
    meant = {backbone: before if size == "paper" else [] for backbone in ("unetrpp", "nnformer", "unet")}
    meant["unet"] = [*meant["unet"], "loss.coarsest=true"]
    for backbone in ("unetr", "swin-unetr"):
        meant[backbone] = ["inference.average=probabilities"]
    then = product(("unetr", "unetrpp", "swin-unetr", "nnformer", "unet"), BUDGETS)
    found = [load_recipe(name, size=size, backbone=b, budget=c, assignments=meant.get(b, [])).digest() for b, c in then]
    assert digest.of_json(found)[:16] == DIGESTS[recipe]


def changed(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value / 2, value - 0.25]
    if value == ["native"]:
        return [["native", "resampled"]]
    if isinstance(value, list):
        return [[*value[:-1], value[-1] + 1], [*value[:-1], value[-1] - 0.25]]
    others = [
        "percentile",
        "nnunet",
        "centres",
        "never",
        "positive",
        "native",
        "x",
        "sgd",
        "poly",
        "gaussian",
        "constant",
        "logits",
        "conv",
        "label-nearest",
        [1],
        [1, 1],
    ]
    return [other for other in others if other != value]


def test_digest_holds_every_value() -> None:
    base = tiny()
    values = json.loads(base.model_dump_json())
    digests, number = {base.digest()}, 0

    def walk(table: dict[str, Any], *path: str) -> None:
        nonlocal number
        for key, value in table.items():
            if isinstance(value, dict):
                walk(value, *path, key)
            elif path or key not in ("name", "version", "source", "dice_policy"):
                number += 1
                for other in changed(value):
                    table[key] = other
                    try:
                        digests.add(Recipe.model_validate(values).digest())
                        break
                    except ValueError:
                        continue
                table[key] = value

    walk(values)
    assert number > 40
    assert len(digests) == number + 1
