"""Weights are matched to networks: own keys, tied keys, variants, shapes, the share that fits, and as an initializer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

import initbench
from initbench import registry
from initbench.checkpoints.matching import Request, load_checkpoint
from initbench.checkpoints.reading import Checkpoint, read_checkpoint
from initbench.errors import InitbenchError, UsageError
from initbench.harness.weights import save_weights
from initbench.protocols import structure_of
from tests.checkpoints.weights import as_swinvit, build, is_head, natural, put, trained
from tests.networks import tiny

BACKBONES = registry.names("backbone")


# --- matching: every backbone -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("prefix", ["", "module.", "module.backbone."])
def test_own_keys_fit_wholly_and_leave_the_heads(name: str, prefix: str) -> None:
    variant = natural(name)
    state = trained(name, variant)
    model = build(name, variant)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    told = {"variant": variant} if name == "swin-unetr" else {}
    report = put(model, {f"{prefix}{key}": value for key, value in state.items()}, **told)
    assert (report.share, report.missing, report.reshaped) == (1, (), ())
    assert set(report.groups.values()) == {1.0}
    after = model.state_dict()
    for key, value in after.items():
        assert torch.equal(value, before[key] if is_head(model, key) else state[key]), key
    assert set(report.skipped.values()) == {"output head, redrawn for every init"}


@pytest.mark.parametrize("name", BACKBONES)
def test_what_a_run_saves_comes_back_without_questions(name: str, tmp_path: Path) -> None:
    """Ties are stored once, and the card says which variant and whose axes."""
    for variant in build(name, natural(name)), build(name):
        path = tmp_path / "weights.safetensors"
        save_weights(variant, path, {"variant": structure_of(variant).variant})
        fresh = tiny(name, variant=structure_of(variant).variant, seed=9)
        report = load_checkpoint(fresh, read_checkpoint(path), structure_of(fresh), Request())
        assert report.share == 1
        saved = variant.state_dict()
        assert all(torch.equal(v, saved[k]) for k, v in fresh.state_dict().items() if not is_head(fresh, k))


def test_the_tied_projection_as_one_key_and_as_two(tmp_path: Path) -> None:
    state, model = trained("unetrpp"), build("unetrpp")
    with pytest.raises(RuntimeError, match="share memory"):
        save_file(build("unetrpp").state_dict(), tmp_path / "plain.safetensors")
    save_model(build("unetrpp"), str(tmp_path / "model.safetensors"))
    assert load_checkpoint(model, read_checkpoint(tmp_path / "model.safetensors"), structure_of(model), Request()).share == 1
    for gone in (".E.", ".F."):
        report = put(build("unetrpp"), {key: value for key, value in state.items() if gone not in key})
        assert report.share == 1
    key = "unetr_pp_encoder.stages.0.0.epa_block.E.weight"
    state[key] = state[key] + 1
    report = put(model, state)
    assert torch.equal(model.get_parameter(key), state[key.replace(".E.", ".F.")])
    assert "counts" in report.skipped[key]


@pytest.mark.parametrize(
    ("theirs", "ours", "named"),
    [
        ("tumor", "synapse", "tumor"),
        ("lung", "synapse", "lung"),
        ("synapse", "tumor", "synapse"),
        ("lung", "tumor", "synapse"),
        ("synapse", "lung", "synapse"),
        ("tumor", "acdc", "tumor"),
    ],
)
def test_another_variant_of_unetrpp_is_refused_by_name(theirs: str, ours: str, named: str) -> None:
    model = build("unetrpp", ours)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UsageError, match=rf"variant=({named}|lung)\)"):
        put(model, trained("unetrpp", theirs))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_lung_and_acdc_are_one_network() -> None:
    assert put(build("unetrpp", "lung"), trained("unetrpp", "acdc")).share == 1


# --- report and minimum -----------------------------------------------------------------------------------------------


def test_other_shapes_are_refused_until_they_are_left_out_by_name() -> None:
    model = build("unetr", channels=2)
    with pytest.raises(UsageError, match=r"does not fit the network whole") as caught:
        put(model, trained("unetr"), axes="DHW")
    assert "without a place in the network, 3: vit.patch_embedding" in str(caught.value)
    leave = str(caught.value).rpartition("--set init.leave=")[2].split(",")
    assert leave == ["vit.patch_embedding.patch_embeddings.1.weight", "encoder1.layer.conv1", "encoder1.layer.conv3"]
    report = put(model, trained("unetr"), axes="DHW", leave=tuple(leave))
    key = "encoder1.layer.conv1.conv.weight"
    assert report.skipped[key] == "shape (8, 1, 3, 3, 3), the network has (8, 2, 3, 3, 3)"
    assert key in report.missing
    assert 0.5 < report.share < 1


def test_less_than_the_minimum_is_refused_and_changes_nothing() -> None:
    model = build("unetr")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    half = {key: value for key, value in trained("unetr").items() if key.startswith(("encoder", "decoder"))}
    with pytest.raises(UsageError, match=r"fits [\d.]+% of the parameters, less than the minimum of 95%") as caught:
        put(model, half, axes="DHW", minimum=0.95)
    assert "by group: vit 0%" in str(caught.value)
    assert "missing: vit." in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(UsageError, match=r"fits 0\.0% of the parameters"):
        put(model, trained("nnformer"), axes="DHW")


def test_the_share_is_counted_by_hand() -> None:
    model = nn.Sequential()
    model.add_module("a", nn.Linear(3, 2))
    model.add_module("b", nn.Linear(2, 4, bias=False))
    structure = structure_of(build("unetr"))
    bare = type(structure)((1, 1, 1), (), ())
    report = load_checkpoint(
        model,
        Checkpoint(Path("x.pt"), {"a.weight": torch.ones(2, 3), "c": torch.ones(2), "q.head.w": torch.ones(9)}),
        bare,
        Request(minimum=0.1, leave=("a.bias", "b", "c")),
    )
    assert report.share == 6 / 16
    assert report.share_of_file == 6 / 8
    assert report.groups == {"a": 6 / 8, "b": 0}
    assert report.summary() == (
        "x.pt: 37.5% of the parameters (1 matched, 0 reshaped, 2 skipped, 2 missing), from 75.0% of the file's weights"
    )
    json.dumps(report.as_json(), allow_nan=False)
    assert bool((model[0].weight == 1).all())


def test_half_precision_is_widened() -> None:
    state = {key: value.half() if value.is_floating_point() else value for key, value in trained("unetrpp").items()}
    model = build("unetrpp")
    put(model, state)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    key = "encoder1.conv1.conv.weight"
    assert torch.equal(model.get_parameter(key), state[key].float())


# --- as an initializer ------------------------------------------------------------------------------------------------


def test_initialize_reports(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": trained("unetr")}, path)
    model = build("unetr")
    coverage = initbench.initialize(model, "checkpoint", assignments=[f"init.path={path}", "init.axes=DHW"])
    assert coverage["report"]["share"] == 1
    assert coverage["report"]["summary"].startswith("weights.pt: 100.0% of the parameters")
    assert coverage["groups"]["vit"] > 0.9
    bad = trained("unetr")
    bad["vit.norm.weight"][0] = torch.nan
    torch.save(bad, path)
    with pytest.raises(InitbenchError, match="not finite"):
        initbench.initialize(model, f"checkpoint(path={str(path)!r}, axes=DHW)")


def test_a_parameter_nobody_takes_is_refused() -> None:
    with pytest.raises(
        UsageError, match="no initializer of this sweep takes paht; they take axes, leave, minimum, patch, path, prefix, variant"
    ):
        initbench.initialize(build("unetr"), "checkpoint", assignments=["init.paht=x"])
    with pytest.raises(UsageError, match="needs path"):
        initbench.initialize(build("unetr"), "checkpoint")


def test_swin_ssl_takes_that_file_alone(tmp_path: Path) -> None:
    path, variant = tmp_path / "model_swinvit.pt", "legacy-merge-xyz"
    state = trained("swin-unetr", variant)
    torch.save({"epoch": 1, "state_dict": as_swinvit(state)}, path)
    coverage = initbench.initialize(build("swin-unetr", variant), "swin-ssl", assignments=[f"init.path={path}"])
    assert coverage["report"]["groups"]["swinViT"] == 1
    with pytest.raises(UsageError, match=r"variant=legacy-merge-xyz\)"):
        initbench.initialize(build("swin-unetr"), "swin-ssl", assignments=[f"init.path={path}"])
    save_weights(build("swin-unetr", variant), tmp_path / "own.safetensors", {"variant": variant})
    with pytest.raises(UsageError, match="is no encoder of Tang et al"):
        initbench.initialize(build("swin-unetr", variant), "swin-ssl", assignments=[f"init.path={tmp_path / 'own.safetensors'}"])
