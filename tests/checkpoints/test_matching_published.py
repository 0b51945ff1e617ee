"""Weights as UNETR, Swin UNETR and nnFormer were published: axes, patch embeddings, positions, encoders of pretexts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import initbench
from initbench.checkpoints.matching import Request, load_checkpoint
from initbench.checkpoints.reading import read_checkpoint
from initbench.checkpoints.reshape import patch_embedding, resample
from initbench.errors import UsageError
from initbench.harness.weights import save_weights
from initbench.protocols import structure_of
from tests.checkpoints.weights import as_swinvit, build, noise, outputs, put, trained, with_heads
from tests.networks import PATCHES

# --- UNETR ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "ours"), [("perceptron", "conv"), ("conv", "perceptron")])
def test_the_two_patch_embeddings_are_one_function(theirs: str, ours: str) -> None:
    state, x = trained("unetr", theirs, channels=2), noise(1, 2, *PATCHES["unetr"])
    original = build("unetr", theirs, channels=2)
    original.load_state_dict(state)
    model = build("unetr", ours, channels=2)
    report = put(model, state, axes="DHW")
    assert report.share == 1
    assert len(report.reshaped) == 1
    assert "patch embedding" in report.layout
    expected = outputs(original, x)
    assert torch.allclose(outputs(with_heads(model, state), x), expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["unetr", "swin-unetr"])
def test_published_weights_see_the_volumes_they_were_trained_on(name: str) -> None:
    """On (D, H, W) the xyz variant does, bit for bit, what the plain network does on (W, H, D)."""
    plain, xyz = {"unetr": ("perceptron", "perceptron-xyz"), "swin-unetr": ("legacy-merge", "legacy-merge-xyz")}[name]
    patch = PATCHES[name]
    state = trained(name, plain, patch=patch[::-1])
    original = build(name, plain, patch=patch[::-1])
    original.load_state_dict(state)
    with pytest.raises(UsageError, match=rf"variant={xyz}\)"):
        put(build(name, plain), state, variant=plain if name == "swin-unetr" else "")
    model = build(name, xyz)
    put(model, state, variant=xyz if name == "swin-unetr" else "")
    x = noise(1, 1, *patch)
    expected = outputs(original, x.transpose(2, 4).contiguous()).transpose(2, 4)
    assert torch.equal(outputs(with_heads(model, state), x), expected)


def test_weights_of_another_network_are_not_taken_for_another_variant(tmp_path: Path) -> None:
    for file, network in (("unetr", "unetrpp"), ("nnformer", "swin-unetr"), ("unetrpp", "unetr")):
        with pytest.raises(UsageError, match=r"less than the minimum of 50%"):
            put(build(network), trained(file))
    save_weights(build("unetr"), tmp_path / "w.safetensors", {"network": "unetr", "variant": "perceptron"})
    model = build("swin-unetr")
    with pytest.raises(UsageError, match=r"holds weights of unetr, and the network is swin-unetr"):
        load_checkpoint(model, read_checkpoint(tmp_path / "w.safetensors"), structure_of(model), Request())


@pytest.mark.parametrize("wrong", ["axes=XYZ", "minimum=half", "minimum=2"])
def test_parameters_of_checkpoint_are_checked(wrong: str, tmp_path: Path) -> None:
    torch.save(trained("unetr"), tmp_path / "w.pt")
    with pytest.raises(UsageError, match=wrong.partition("=")[0]):
        initbench.initialize(build("unetr"), f"checkpoint(path={str(tmp_path / 'w.pt')!r}, {wrong})")


def test_axes_can_be_said() -> None:
    assert put(build("unetr"), trained("unetr"), axes="DHW").share == 1
    with pytest.raises(UsageError, match="trained on volumes"):
        put(build("unetrpp"), trained("unetrpp"), axes="WHD")


def test_what_old_versions_of_monai_add() -> None:
    state = trained("unetr")
    extra = {
        "vit.patch_embedding.cls_token": torch.ones(1, 1, 96),
        "vit.temp_head1.weight": torch.ones(2, 96),
        "encoder2.blocks.0.1.conv3.conv.weight": torch.ones(16, 16, 1, 1, 1),
        "vit.blocks.0.cross_attn.q.weight": torch.ones(96, 96),
    }
    old = {key: value for key, value in state.items() if "norm_cross_attn" not in key} | extra
    report = put(build("unetr"), old, axes="DHW")
    assert (report.share, report.missing) == (1, ())
    for key in extra:
        assert "belongs to" in report.skipped[key]
    assert "LWI" in report.layout
    assert "MONAI 0.7" in report.layout


def test_medcontext_puts_the_vit_on_top() -> None:
    state = {key.removeprefix("vit."): value for key, value in trained("unetr").items()} | {"mask_token": torch.ones(1, 1, 96)}
    report = put(build("unetr"), state, axes="DHW")
    assert (report.share, report.missing) == (1, ())


def test_positions_of_another_patch_are_resampled() -> None:
    ramp = torch.linspace(-1, 1, 4)[:, None, None].expand(4, 4, 4).reshape(1, 64, 1).expand(1, 64, 96)
    state = trained("unetr", patch=(64, 64, 64)) | {"vit.patch_embedding.position_embeddings": ramp.clone()}
    model = build("unetr", patch=(128, 32, 32))
    report = put(model, state, axes="DHW")
    assert report.reshaped == ("vit.patch_embedding.position_embeddings",)
    table = model.get_parameter("vit.patch_embedding.position_embeddings").detach().reshape(8, 2, 2, 96)
    assert torch.allclose(table[:, 0, 0, 0], table[:, 1, 1, 7])
    assert bool((table[1:, 0, 0, 0] - table[:-1, 0, 0, 0] >= 0).all())
    assert table[0, 0, 0, 0] == -1
    assert table[-1, 0, 0, 0] == 1


def test_positions_that_are_no_cube_are_resampled_once_their_patch_is_said() -> None:
    with pytest.raises(UsageError, match=r"position_embeddings \(shape.*init\.patch=D,H,W"):
        put(build("unetr", patch=(64, 64, 64)), trained("unetr"), axes="DHW")
    report = put(build("unetr", patch=(64, 64, 64)), trained("unetr"), axes="DHW", patch=PATCHES["unetr"])
    assert (report.share, report.reshaped) == (1, ("vit.patch_embedding.position_embeddings",))
    assert resample(torch.ones(1, 6, 4), (2, 2, 2), (4, 4, 4)) is None


def test_equal_numbers_of_positions_are_no_equal_grids() -> None:
    """A patch of 32 x 48 x 16 has the six positions that one of 16 x 48 x 32 has, in another arrangement."""
    key = "vit.patch_embedding.position_embeddings"
    state = trained("unetr")
    told = put(build("unetr", patch=(16, 48, 32)), state, axes="DHW", patch=(32, 48, 16))
    assert told.reshaped == (key,)
    same = build("unetr")
    assert put(same, state, axes="DHW", patch=(32, 48, 16)).reshaped == ()
    assert torch.equal(same.state_dict()[key], state[key])


def test_projections_of_tokens_of_another_grid_are_refused_though_they_have_one_shape() -> None:
    state = trained("unetrpp")
    assert put(build("unetrpp"), state, patch=PATCHES["unetrpp"]).share == 1
    turned = (64, 32, 32)
    with pytest.raises(UsageError, match=r"E\.weight \(made for a grid of \(32, 8, 8\) tokens, the network has \(16, 16, 8\)\)"):
        put(build("unetrpp"), trained("unetrpp", patch=turned), patch=turned)
    # Without the patch nothing tells them apart.
    assert put(build("unetrpp"), trained("unetrpp", patch=turned)).share == 1


def test_patch_embedding_of_a_hand_worked_case() -> None:
    conv = torch.arange(16.0).reshape(1, 2, 2, 2, 2)  # (out, C, p1, p2, p3)
    linear = patch_embedding(conv, torch.Size((1, 16)))
    assert linear is not None
    assert linear[0, :4].tolist() == [0, 8, 1, 9]  # (p1 p2 p3 c), c fastest
    back = patch_embedding(linear, torch.Size((1, 2, 2, 2, 2)))
    assert back is not None
    assert torch.equal(back, conv)
    assert patch_embedding(torch.ones(2, 8), torch.Size((1, 2, 2, 2, 2))) is None


# --- Swin UNETR and nnFormer ------------------------------------------------------------------------------------------


def test_the_encoder_of_tang() -> None:
    state = trained("swin-unetr", "legacy-merge-xyz")
    model = build("swin-unetr", "legacy-merge-xyz")
    report = put(model, as_swinvit(state))
    assert report.part == "swinViT"
    assert report.share == 1
    assert report.groups["swinViT"] == 1
    assert report.groups["decoder5"] == 0
    assert 0 < report.share_of_network < 0.5
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items() if k.startswith("swinViT."))
    for variant, message in (("default", r"variant=legacy-merge-xyz\)"), ("legacy-merge", r"variant=legacy-merge-xyz\)")):
        with pytest.raises(UsageError, match=message):
            put(build("swin-unetr", variant), as_swinvit(state))


def test_the_encoder_of_a_disruptive_autoencoder() -> None:
    state = trained("swin-unetr", "legacy-merge-xyz")
    layers = {key: value for key, value in state.items() if key.startswith("swinViT.")}
    file = {
        key.replace("swinViT.patch_embed", "encoder.patch_embed").replace("swinViT.layers", "encoder.layers"): value
        for key, value in layers.items()
    }
    file = {k.replace(".0.", ".0.0.", 1) if "layers" in k else k: v for k, v in file.items()} | {
        "encoder.mask_token": torch.ones(1)
    }
    report = put(build("swin-unetr", "legacy-merge-xyz"), file)
    assert (report.part, report.share) == ("swinViT", 1)


def test_weights_that_fit_several_variants_are_asked_about() -> None:
    state = trained("swin-unetr")
    with pytest.raises(UsageError, match=r"default-xyz.*init\.variant=NAME"):
        put(build("swin-unetr", "legacy-merge-xyz"), state)
    with pytest.raises(UsageError, match=r"variant default-xyz; the network is variant legacy-merge-xyz"):
        put(build("swin-unetr", "legacy-merge-xyz"), state, variant="default-xyz")
    assert put(build("swin-unetr", "default-xyz"), state, variant="default-xyz").share == 1


def test_another_index_table_is_not_taken() -> None:
    state = trained("nnformer")
    key = next(key for key in state if key.endswith("relative_position_index"))
    state[key] = state[key].flip(0)
    model = build("nnformer")
    own = model.state_dict()[key].clone()
    report = put(model, state)
    assert "index table" in report.skipped[key]
    assert torch.equal(model.state_dict()[key], own)


def test_medcontext_adds_a_mask_token_to_nnformer() -> None:
    report = put(build("nnformer"), trained("nnformer") | {"model_down.mask_token": torch.ones(1, 1, 24)})
    assert report.share == 1
    assert "belongs to" in report.skipped["model_down.mask_token"]
