"""Weights from outside: files of every kind that people publish, and files that must not be loaded."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

import initbench
from initbench import registry
from initbench.checkpoints.matching import Request, load_checkpoint
from initbench.checkpoints.reading import Checkpoint, read_checkpoint
from initbench.checkpoints.report import Report
from initbench.checkpoints.reshape import patch_embedding, resample
from initbench.errors import InitbenchError, UsageError
from initbench.harness.weights import save_weights
from initbench.protocols import Grid, structure_of
from tests.networks import PATCHES, tiny

State = dict[str, Tensor]
BACKBONES = registry.names("backbone")


def build(name: str, variant: str | None = None, *, patch: Grid | None = None, channels: int = 1, classes: int = 3) -> nn.Module:
    return tiny(name, in_channels=channels, num_classes=classes, patch_size=patch or PATCHES[name], variant=variant, seed=1)


def trained(name: str, variant: str | None = None, **options: Any) -> State:
    """Weights that nothing else has: every float entry by its own generator."""
    state: State = {}
    model = build(name, variant, **options)
    first: dict[int, str] = {}
    for i, (key, value) in enumerate(model.state_dict(keep_vars=True).items()):
        noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(i))
        tied = first.setdefault(id(value), key)  # one parameter under two names has one value
        state[key] = state[tied].clone() if tied != key else noise if value.is_floating_point() else value.clone()
    return state


def put(model: nn.Module, state: State, **request: Any) -> Report:
    return load_checkpoint(model, Checkpoint(Path("weights.pt"), state), structure_of(model), Request(**request))


def is_head(model: nn.Module, key: str) -> bool:
    return key.startswith(tuple(f"{head}." for head in structure_of(model).heads))


# --- reading ----------------------------------------------------------------------------------------------------------

WEIGHTS: State = {"stem.weight": torch.arange(4.0), "stem.bias": torch.ones(2)}
NUMPY = {"scalar": np.float64(0.5), "best": np.float32(0.25), "curve": ([np.float32(1)], [np.float64(2)], [])}
CONTAINERS: dict[str, Any] = {
    "bare": WEIGHTS,
    "MONAI": {"epoch": 3, "best_acc": np.float32(0.8), "state_dict": WEIGHTS},
    "nnU-Net v1": {
        "epoch": 1000,
        "state_dict": WEIGHTS,
        "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": np.float64(0.01)}]},
        "lr_scheduler_state_dict": None,
        "plot_stuff": NUMPY["curve"],
        "best_stuff": (np.float64(0.1), np.float64(0.2), None),
        "amp_grad_scaler": {"scale": 65536.0},
    },
    "nnU-Net v2": {
        "network_weights": WEIGHTS,
        "optimizer_state": {},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)]},
        "_best_ema": np.float64(0.7),
        "current_epoch": 1000,
        "init_args": {"configuration": "3d_fullres", "plans": {"x": [1, 2]}},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    },
    "SSL": {"model": WEIGHTS, "epoch": 1},
}


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("zipped", [True, False])
def test_containers(kind: str, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "some.model"
    torch.save(CONTAINERS[kind], path, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(path).tensors
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[key], WEIGHTS[key]) for key in WEIGHTS)


def test_numpy_scalars_written_by_numpy_1(tmp_path: Path) -> None:
    """Their pickles name a module that numpy 2 has renamed."""
    new, old = tmp_path / "new.model", tmp_path / "old.model"
    torch.save(CONTAINERS["nnU-Net v1"], new)
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            assert name != "new/data.pkl" or b"numpy._core.multiarray" in data
            target.writestr(name, data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_checkpoint(old).tensors.keys() == WEIGHTS.keys()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_safetensors_by_content(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    save_file(WEIGHTS, path, metadata={"initbench": json.dumps({"variant": "lung"})})
    found = read_checkpoint(path)
    assert found.card == {"variant": "lung"}
    assert torch.equal(found.tensors["stem.weight"], WEIGHTS["stem.weight"])


class Hostile:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def _zip(value: Any, path: Path) -> None:
    torch.save(value, path)


def _legacy(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def _pickle(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("write", [_zip, _legacy, _pickle])
def test_a_file_that_would_execute_is_refused_and_does_not(write: Callable[[Any, Path], None], tmp_path: Path) -> None:
    mark, path = tmp_path / "executed", tmp_path / "bad.pt"
    write({"state_dict": WEIGHTS, "extra": Hostile(mark)}, path)
    with pytest.raises(InitbenchError, match=r"bad\.pt") as caught:
        read_checkpoint(path)
    assert not mark.exists()
    assert "weights_only=False" not in str(caught.value)
    with path.open("rb") as file:  # the mark is real: an ordinary load sets it
        if write is _pickle:
            pickle.load(file)  # noqa: S301
        else:
            torch.load(file, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Namespace(lr=1), "argparse.Namespace"),
        (np.zeros(3), "numpy"),
        (np.int64(3), None),
        (Path("x"), "pathlib"),
        (nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    ],
)
def test_only_what_nnunet_holds_is_allowed(value: Any, named: str | None, tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    torch.save({"state_dict": WEIGHTS, "extra": value}, path)
    with pytest.raises(InitbenchError, match=named or "holds") as caught:
        read_checkpoint(path)
    assert "nothing was run" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a zip", b"\x80\x02."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_broken_files_are_named(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(InitbenchError, match=f"broken\\{suffix}"):
        read_checkpoint(path)


def test_half_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "half.pt"
    torch.save({"state_dict": {"a": torch.randn(5000)}}, path)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(InitbenchError, match=r"half\.pt cannot be read"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("value", "message"), [({"epoch": 3}, "it has epoch"), ([1, 2], "holds list"), (torch.ones(1), "holds Tensor")]
)
def test_files_without_weights(value: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "none.pt"
    torch.save(value, path)
    with pytest.raises(InitbenchError, match=message):
        read_checkpoint(path)


def test_no_such_file() -> None:
    with pytest.raises(UsageError, match=r"there is no checkpoint nowhere\.pt"):
        read_checkpoint(Path("nowhere.pt"))


# --- matching: every backbone -----------------------------------------------------------------------------------------


def natural(name: str) -> str | None:
    """The variant that takes published weights."""
    return {"unetr": "perceptron-xyz", "swin-unetr": "legacy-merge-xyz"}.get(name)


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
        assert all(torch.equal(v, variant.state_dict()[k]) for k, v in fresh.state_dict().items() if not is_head(fresh, k))


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


# --- UNETR ------------------------------------------------------------------------------------------------------------


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.double().eval()(x)
    return found


def with_heads(model: nn.Module, state: State) -> nn.Module:
    """The heads as well, so that outputs can be compared."""
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if is_head(model, key):
                value.copy_(state[key])
    return model


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


def test_positions_that_are_no_cube_are_left() -> None:
    report = put(build("unetr", patch=(64, 64, 64)), trained("unetr"), axes="DHW")
    assert "shape" in report.skipped["vit.patch_embedding.position_embeddings"]
    assert report.missing == ("vit.patch_embedding.position_embeddings",)
    assert resample(torch.ones(1, 6, 4), (2, 2, 2)) is None


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


def as_swinvit(state: State) -> State:
    """As `model_swinvit.pt` has it: the encoder alone, DataParallel, other names in the MLP, heads of its pretexts."""
    encoder = {key.removeprefix("swinViT."): value for key, value in state.items() if key.startswith("swinViT.")}
    renamed = {key.replace("mlp.linear", "mlp.fc"): value for key, value in encoder.items()}
    extra = {"norm.weight": torch.ones(3), "rotation_head.weight": torch.ones(4, 3), "contrastive_head.bias": torch.ones(2)}
    return {f"module.{key}": value for key, value in (renamed | extra).items()}


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


# --- report and minimum -----------------------------------------------------------------------------------------------


def test_other_shapes_are_skipped_and_said() -> None:
    model = build("unetr", channels=2)
    report = put(model, trained("unetr"), axes="DHW")
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
        model, Checkpoint(Path("x.pt"), {"a.weight": torch.ones(2, 3), "c": torch.ones(1)}), bare, Request(minimum=0.1)
    )
    assert report.share == 6 / 16
    assert report.groups == {"a": 6 / 8, "b": 0}
    assert report.summary() == "x.pt: 37.5% of the parameters (1 matched, 0 reshaped, 1 skipped, 2 missing)"
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
    with pytest.raises(UsageError, match="no initializer of this sweep takes paht; they take axes, minimum, path, variant"):
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
