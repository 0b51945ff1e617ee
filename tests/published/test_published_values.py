"""The file of published values: whole, in range, sourced, and every row either something of the registry or said not to be."""

from __future__ import annotations

import tomllib
from importlib import resources
from statistics import fmean
from typing import Any

import pytest
from pydantic import ValidationError

from initbench import registry, spec
from initbench.datasets.msd import BRATS_REGIONS
from initbench.errors import UsageError
from initbench.protocols import check_variant
from initbench.published import trials
from initbench.published.tables import Row, Table, get, tables
from initbench.published.trials import Overrides, Trial

ROWS = [(table, row) for table in tables() for row in table.row]
MAPPED = [(table, row) for table, row in ROWS if row.init]
COMING = {"synapse", "btcv"}  # data sets that may be newer than the file
WHOLE = Overrides(assignments=("init.path=weights.pt",))
NEEDS = "needs the weights that it starts from: --set"


def ids(pairs: list[tuple[Table, Row]]) -> list[str]:
    return [f"{table.name}: {row.label}" for table, row in pairs]


def trials_of(table: Table) -> tuple[Trial, ...]:
    return trials.trials(table, WHOLE if any(row.needs for row in table.row) else Overrides()).trials


def test_every_table_and_figure_is_there() -> None:
    tables_ = [f"lwi:table-{number}" for number in range(1, 10)]
    figures = [f"lwi:fig-{name}" for name in ("1", "4a", "4b", "4c", "7")]
    assert [table.full_name for table in tables()] == [*tables_, *figures, "medcontext:fig-1", "xd:abstract"]


def test_medcontext_is_set_beside_plain_training_of_the_same_cases() -> None:
    """A claim compares two rows that differ in the regimen alone."""
    table = get("medcontext:fig-1")
    rows = {trial.label: trial for trial in trials_of(table)}
    assert len(rows) == 12
    for claim in table.claims:
        first, second = rows[claim.first], rows[claim.second]
        assert (first.init, first.setting) == (second.init, second.setting)
        assert (first.regimen.name, second.regimen.name) == ("medcontext", "plain")
        assert first.split == ("medcontext-5-shot" if "5 cases" in claim.first else "")


def test_a_list_of_cases_is_of_the_papers_data_alone() -> None:
    """Elsewhere, and under another split, as many cases are taken as the list has."""
    table = get("medcontext:fig-1")
    for overrides in (Overrides("hippocampus"), Overrides(split="auto")):
        few = {trial.label: trial for trial in trials.trials(table, overrides).trials}["UNETR, 5 cases"]
        assert (few.split, few.train_cases) == ("", 5)


@pytest.mark.parametrize(("table", "row"), ROWS, ids=ids(ROWS))
def test_numbers_are_those_of_dice_tables(table: Table, row: Row) -> None:
    if row.values:  # every printed mean is that of its classes, but for one that is a hundredth off
        assert fmean(row.values) == pytest.approx(row.value, abs=0.011)
        assert len(row.values) == len(table.classes)
    if row.value is not None:
        assert 40 < row.value < 100  # a fraction instead of points would be below 1
    assert row.source.startswith(("Table", "Figure", "Abstract"))


@pytest.mark.parametrize(("table", "row"), MAPPED, ids=ids(MAPPED))
def test_a_mapped_row_is_of_the_registry(table: Table, row: Row) -> None:
    parsed = spec.parse(row.init)
    if row.needs:
        parsed = parsed.with_param(row.needs.removeprefix("init."), "weights.pt")
    component = registry.find("initializer", parsed)
    assert component.params.keys() >= dict(parsed.params).keys()
    backbone = spec.parse(row.backbone)
    info = registry.find("backbone", backbone).target.info
    variant = dict(backbone.params).get("variant", info.variants[0])
    assert check_variant(backbone.name, variant, info) == variant
    assert row.dataset in {*registry.names("dataset"), *COMING}


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.name)
def test_settings_of_rows_are_settings_of_recipes(table: Table) -> None:
    for trial in trials_of(table):
        (recipe,) = {*trials.recipe_names(trial.dataset, Overrides())} & {trial.dataset} or {"lung"}
        found = trials.resolved(trial, recipe, Overrides())
        for text in trial.assignments:
            assert text.partition("=")[2] in (str(found.pretext.share), found.optimizer.schedule, str(found.optimizer.plateaus))
    for row in table.row:
        for name in row.settings:
            section, field = name.split(".")
            assert field in found.model_dump()[section]


def test_a_learned_row_is_trained_on_top_unless_the_paper_says_otherwise() -> None:
    learned = {name for name, entry in registry.CATALOG["initializer"].items() if entry.learned}
    chosen = {row.label for _, row in MAPPED if spec.parse(row.init).name in learned and row.protocol == "equal-total"}
    assert chosen == {"LWI, 800 + 4200 epochs"}


@pytest.mark.parametrize("name", ["table-1", "table-2", "table-3", "table-4", "table-6"])
def test_text_equation_and_code_are_rows_of_their_own(name: str) -> None:
    """The release stands beside the text in every table that has code; eq. 7 as printed in every table that is no ablation."""
    found = [row for row in get(f"lwi:{name}").row if row.init.startswith("lwi")]
    printed = set() if name == "table-6" else {"lwi(order_loss=sum)"}
    assert {row.init for row in found} == {"lwi", "lwi-as-released"} | printed
    assert len({row.value for row in found}) == 1  # which of them the paper ran is not known
    assert all(row.label.endswith("as printed") == (row.init in printed) for row in found)


def test_what_cannot_run_has_no_network_here() -> None:
    """Rows are treated alike: one that has a network here runs, whatever the paper did otherwise, and says what that was."""
    left_out = [row for table, row in ROWS if row.unmapped and table.key == "lwi"]
    assert {row.label for row in left_out} == {"U-Net"}
    assert all(row.unmapped.startswith("a 2D network") for row in left_out)
    for name, backbone in (
        ("table-2", "nnformer"),
        ("table-3", "nnformer"),
        ("table-2", "swin-unetr"),
        ("table-3", "swin-unetr"),
    ):
        [row] = [row for row in get(f"lwi:{name}").row if spec.parse(row.backbone or "none").name == backbone]
        assert row.init == "default"
        assert row.deviations


def test_cross_dimensional_transfer_has_the_values_of_its_abstract_and_a_control_for_each_network() -> None:
    table = get("xd:abstract")
    assert table["weight transfer (DS-Net)"].values == (91.69, 83.23, 81.75)
    assert table["dimensional transfer (DX-Net)"].values == (91.22, 84.77, 83.88)
    assert table.classes == tuple(BRATS_REGIONS)
    random = {"DS-Net, random weights": ("ds-net", "default"), "DX-Net, random weights": ("dx-net", "default")}
    assert {trial.label: (str(trial.backbone), str(trial.init)) for trial in trials.trials(table, Overrides()).trials} == random
    assert set(trials.trials(table, Overrides()).reasons.values()) == {
        "needs the weights that it starts from: --set init.path=FILE"
    }
    given = trials.trials(table, Overrides(assignments=("init.path=b0.pth",)))
    assert given.reasons == {}
    assert {trial.label: (str(trial.backbone), str(trial.init)) for trial in given.trials} == random | {
        "weight transfer (DS-Net)": ("ds-net", "images(path='b0.pth')"),
        "dimensional transfer (DX-Net)": (
            "dx-net",
            "inflate-2d(path='b0.pth', source='efficientnet_b0', stem='released')",
        ),
    }
    assert not table.claims, "its rows are of two networks, which are not compared"


def test_longer_training_is_a_number_of_steps() -> None:
    table = get("lwi:table-7")
    found = {trial.label: trials.resolved(trial, "synapse", Overrides()).steps.paper for trial in trials_of(table)}
    assert found["UNETR, 5000 epochs"] == found["LWI, 800 + 5000 epochs"] == 5000 * 18
    assert found["UNETR, 5800 epochs"] == 5800 * 18


def test_steps_that_the_training_cases_decide_are_asked_for() -> None:
    table = get("lwi:table-7")
    longer = next(trial for trial in trials_of(table) if trial.length > 1)
    with pytest.raises(UsageError, match=r"say how many with --set steps\.paper=N"):
        trials.resolved(longer, "generic-ct", Overrides())
    by_hand = Overrides(assignments=("steps.paper=1000",))
    longer = next(trial for trial in trials.trials(table, by_hand).trials if trial.length > 1)
    assert trials.resolved(longer, "generic-ct", by_hand).steps.paper == 1160


def test_a_gain_is_the_difference_of_two_values() -> None:
    table = get("lwi:table-1")
    assert [table.published(claim) for claim in table.claims] == [2.56, 2.56, 2.56]


def test_the_release_means_something_on_its_networks_alone() -> None:
    found = trials.trials(get("lwi:table-6"), Overrides(backbone="nnformer"))
    assert set(found.reasons) == {"default as released", "order + masking as released"}
    assert {trial.backbone.name for trial in found.trials} == {"nnformer"}


@pytest.mark.parametrize("name", ["table-1", "table-4", "table-6"])
def test_what_is_as_released_has_the_released_schedule_in_both_stages(name: str) -> None:
    """Its pretext alone on the ramp would be neither the text nor the code; and its default is trained on the ramp, too."""
    table = get(f"lwi:{name}")
    released = {trial.label: trial for trial in trials_of(table) if trial.label.endswith("as released")}
    (claim,) = (claim for claim in table.claims if claim.first in released)
    assert {claim.first, claim.second} == set(released)
    assert [str(released[label].init) for label in (claim.first, claim.second)] == ["lwi-as-released", "default"]
    for trial in released.values():
        recipe = trials.resolved(trial, "synapse", Overrides())
        assert (recipe.optimizer.schedule, recipe.optimizer.plateaus) == ("plateaus", 50)


def test_weights_that_a_row_needs_are_asked_for_and_taken() -> None:
    table = get("lwi:table-9")
    assert trials.trials(table, Overrides()).reasons["SSL, BTCV"] == f"{NEEDS} init.path=FILE"
    found = trials.trials(table, WHOLE)
    assert not found.reasons
    assert [str(trial.init) for trial in found.trials if "SSL" in trial.label] == ["swin-ssl(path='weights.pt')"] * 2
    assert all(trial.assignments == () for trial in found.trials)


def test_rows_of_several_networks_take_a_file_each() -> None:
    table = get("lwi:table-2")
    needed = {
        "TransUNet": f"{NEEDS} init.path.transunet=FILE",
        "Swin-UNet": f"{NEEDS} init.path.swin-unet=FILE",
    }
    reasons = dict(trials.trials(table, Overrides()).reasons)
    assert reasons.pop("U-Net").startswith("a 2D network")
    assert reasons == needed
    files = ("init.path.transunet=r50.npz", "init.path.swin-unet=swin.pth")
    found = trials.trials(table, Overrides(assignments=files))
    assert set(found.reasons) == {"U-Net"}
    inits = {
        trial.label: str(trial.init) for trial in found.trials if trial.backbone.name in ("transunet", "swin-unet", "missformer")
    }
    assert inits == {
        "TransUNet": "images(path='r50.npz')",
        "TransUNet, random weights": "default",
        "Swin-UNet": "images(path='swin.pth')",
        "Swin-UNet, random weights": "default",
        "MISSFormer": "default",
    }
    with pytest.raises(UsageError, match="a published row states its init"):
        trials.trials(table, Overrides(assignments=("init.path.unetr=a",)))


def test_slice_networks_are_scored_as_transunet_scores() -> None:
    table = get("lwi:table-2")
    assert table.policy_of(["TransUNet", "MISSFormer"]) == "transunet"
    assert table.policy_of(["UNETR++", "nnFormer"]) == "reference-mask"
    assert table.policy_of(["UNETR++", "MISSFormer"]) == "reference-mask"
    for row in table.row:
        assert row.policy == ("transunet" if row.dataset == "synapse-8" else None), row.label
    distances = {row.label: row.hd95 for row in table.row if row.hd95}
    assert distances == {"U-Net": 39.70, "TransUNet": 31.69, "Swin-UNet": 21.55, "MISSFormer": 18.20}
    assert all(row.hd95_source for row in table.row if row.hd95)


def test_a_row_states_its_init() -> None:
    with pytest.raises(UsageError, match="a published row states its init"):
        trials.trials(get("lwi:table-6"), Overrides(assignments=("init.mask_ratio=0.6",)))


def test_what_is_asked_instead_is_said() -> None:
    assert Overrides().words() == ()
    other = Overrides("hippocampus", "unetr", "tiny", "short", assignments=("optimizer.lr=1", "init.path=a"))
    assert other.words() == ("data set hippocampus", "network unetr", "tiny size", "short budget", "optimizer.lr=1")


def test_what_the_rows_say_themselves_is_no_change() -> None:
    asked = Overrides("synapse", "unetr(variant=perceptron)")
    assert trials.against(get("lwi:table-6"), asked) == Overrides()
    assert trials.against(get("lwi:table-9"), asked) == asked  # half of its rows are of btcv
    assert trials.against(get("lwi:table-4"), asked) == Overrides("synapse")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean lwi:table-6"):
        get("lwi:tabel-6")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": 101.0}, "less than or equal to 100"),
        ({"source": ""}, "at least 1 character"),
        ({"init": ""}, "either init, backbone and dataset, or unmapped"),
        ({"values": [88.0, 80.0]}, "2 values for 8 classes"),
        ({"label": "LWI"}, "a label is there twice"),
    ],
)
def test_a_wrong_file_is_refused(change: dict[str, Any], said: str) -> None:
    table = get("lwi:table-1").model_dump(mode="json")
    table["row"][0] |= change
    with pytest.raises(ValidationError, match=said):
        Table.model_validate(table)


def test_a_claim_says_something_once() -> None:
    table = get("lwi:table-1").model_dump(mode="json")
    table["claims"][0]["says"] = "better"
    with pytest.raises(ValidationError, match="in numbers or in words"):
        Table.model_validate(table)


def test_the_files_are_toml_with_a_source_each() -> None:
    for file in resources.files("initbench.published").iterdir():
        if file.name.endswith(".toml"):
            table = tomllib.loads(file.read_text("utf-8"))
            assert "arXiv:" in table["paper"]
            assert "@" in table["release"]
