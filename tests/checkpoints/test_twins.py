"""Files of MONAI's own networks in nine containers: the good one loads whole, four twins are refused by name or resampled."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import UNETR, SwinUNETR
from safetensors.torch import save_file
from torch import nn

import initbench
from initbench.checkpoints.matching import Request, load_checkpoint
from initbench.checkpoints.reading import read_checkpoint
from initbench.checkpoints.report import Report
from initbench.errors import UsageError
from initbench.protocols import Grid, structure_of
from tests.checkpoints.weights import State, is_head

CUBE: Grid = (48, 48, 48)
LACKS = "In the network and not in the file,"
HOMELESS = "In the file and without a place in the network,"


def behind(prefix: str, state: State) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def half(state: State) -> State:
    return {key: value.half() if value.is_floating_point() else value for key, value in state.items()}


CONTAINERS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "nested": lambda state: {"epoch": np.int64(7), "best": np.bool_(True), "state_dict": state},
    "DataParallel": lambda state: {"state_dict": behind("module.", state)},
    "Lightning": lambda state: {
        "pytorch-lightning_version": "2.5.0",
        "state_dict": behind("_model.", state) | {"loss.weight": torch.ones(14)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(4)}}, "param_groups": []}],
    },
    "EMA": lambda state: {"step": 10, "ema": {"decay": 0.999, "shadow": behind("ema_model.module.", state)}},
    "half precision": half,
    "nnU-Net v1": lambda state: {
        "epoch": 1000,
        "state_dict": state,
        "optimizer_state_dict": {"state": {0: {"momentum_buffer": torch.ones(4)}}, "param_groups": [{"lr": np.float64(0.01)}]},
        "plot_stuff": ([np.float32(1)], [np.float64(2)], []),
    },
    "nnU-Net v2": lambda state: {"network_weights": behind("_orig_mod.", state), "_best_ema": np.float64(0.7)},
    "safetensors": lambda state: state,
}


def file(kind: str, state: State, folder: Path) -> Path:
    """The weights in a container, as a file."""
    content = CONTAINERS[kind](state)
    if kind == "safetensors":
        path = folder / "weights.safetensors"
        save_file({key: value.contiguous() for key, value in content.items()}, path)
    else:
        path = folder / "weights.pt"
        torch.save(content, path)
    return path


def drawn(model: nn.Module) -> State:
    """Weights of a network that is no network of ours, every number drawn."""
    state = {}
    generator = torch.Generator().manual_seed(3)
    for key, value in model.state_dict().items():
        state[key] = torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
    return state


def unetr(patch: Grid = CUBE, projection: str = "perceptron", channels: int = 1) -> State:
    """Of MONAI's UNETR as `build` makes it at tiny size."""
    return drawn(UNETR(channels, 4, patch, 8, 96, 192, 4, proj_type=projection))


def swin(**options: Any) -> State:
    """Of MONAI's Swin UNETR as `build` makes it at tiny size."""
    return drawn(SwinUNETR(in_channels=1, out_channels=4, feature_size=12, window_size=options.pop("window_size", 4), **options))


def without(part: str, state: State) -> State:
    return {key: value for key, value in state.items() if not key.startswith(part)}


def again(part: str, another: str, state: State) -> State:
    return state | {key.replace(part, another): value.clone() for key, value in state.items() if key.startswith(part)}


def load(path: Path, backbone: str, *, patch: Grid = CUBE, **request: Any) -> tuple[nn.Module, Report]:
    model = initbench.build(backbone, in_channels=1, num_classes=4, patch_size=patch, size="tiny")
    return model, load_checkpoint(model, read_checkpoint(path), structure_of(model), Request(**request))


def check_whole(model: nn.Module, report: Report, state: State, *, but: str = "") -> None:
    """Every weight of the file is in the network, but for heads, and for one key."""
    assert (report.share, report.share_of_file, report.missing) == (1, 1, ())
    for key, value in model.state_dict().items():
        if not is_head(model, key) and key != but:
            assert torch.equal(value, state[key].to(value.dtype)), key


@pytest.mark.parametrize("kind", CONTAINERS)
def test_files_of_unetr_and_their_twins(kind: str, tmp_path: Path) -> None:
    def loaded(state: State) -> tuple[nn.Module, Report]:
        return load(file(kind, state, tmp_path), "unetr", axes="DHW")

    good = half(unetr()) if kind == "half precision" else unetr()
    check_whole(*loaded(good), good)
    table = "vit.patch_embedding.position_embeddings"
    report = loaded(unetr((32, 32, 32)))[1]
    assert (report.reshaped, report.share, report.share_of_file) == ((table,), 1, 1)
    with pytest.raises(UsageError, match=r"position_embeddings .*init\.patch"):
        loaded(unetr((32, 48, 16)))
    other = loaded(unetr(projection="conv"))[1]
    assert other.share == 1, "the other patch embedding is the same function"
    with pytest.raises(UsageError, match=rf"{LACKS} 7: encoder2\.transp_conv_init\.conv\.weight[\s\S]*init\.leave=encoder2$"):
        loaded(without("encoder2.", good))
    with pytest.raises(UsageError, match=rf"{HOMELESS} 13: vit\.blocks\.12\.[\s\S]*init\.leave=vit\.blocks\.12$"):
        loaded(again("vit.blocks.11.", "vit.blocks.12.", good))


@pytest.mark.parametrize("kind", CONTAINERS)
def test_files_of_swin_unetr_and_their_twins(kind: str, tmp_path: Path) -> None:
    def loaded(state: State, backbone: str = "swin-unetr(variant=default-xyz)") -> tuple[nn.Module, Report]:
        return load(file(kind, state, tmp_path), backbone, patch=(64, 64, 64), variant="default-xyz")

    good = half(swin()) if kind == "half precision" else swin()
    check_whole(*loaded(good), good)
    with pytest.raises(UsageError, match=r'layers1c\.0.*Use --backbone "swin-unetr\(variant=v2-xyz\)"'):
        loaded(swin(use_v2=True))
    with pytest.raises(UsageError, match=r"relative_position_bias_table \(shape"):
        loaded(swin(window_size=7))
    with pytest.raises(UsageError, match=rf"{LACKS} 29: swinViT\.layers4\.[\s\S]*init\.leave=swinViT\.layers4$"):
        loaded(without("swinViT.layers4.", good))
    with pytest.raises(UsageError, match=rf"{HOMELESS} 2: encoder11\.[\s\S]*init\.leave=encoder11$"):
        loaded(again("encoder10.", "encoder11.", good))


def test_a_file_of_version_2_loads_whole_into_version_2(tmp_path: Path) -> None:
    state = swin(use_v2=True)
    for variant in ("v2-xyz", "v2-legacy-merge-xyz"):
        path = file("nested", state, tmp_path)
        with pytest.raises(UsageError, match=r"does not say which variant"):
            load(path, f"swin-unetr(variant={variant})", patch=(64, 64, 64))
        check_whole(*load(path, f"swin-unetr(variant={variant})", patch=(64, 64, 64), variant=variant), state)
    with pytest.raises(UsageError, match=r"no key with .*default-xyz"):
        load(file("nested", swin(), tmp_path), "swin-unetr(variant=v2)", patch=(64, 64, 64))


def made_up(rng: random.Random) -> str:
    """A word that no program has a list of."""
    return "".join(rng.choices(string.ascii_letters + "_", k=rng.randint(2, 12)))


@pytest.mark.parametrize("seed", range(12))
def test_wrappers_that_nobody_wrote_down(seed: int, tmp_path: Path) -> None:
    """A wrapper is found because the network's keys stand behind it, whatever it is called and wherever it lies."""
    rng = random.Random(seed)  # noqa: S311 - names, not secrets
    state = unetr()
    prefix = "".join(f"{made_up(rng)}." for _ in range(rng.randint(1, 3)))
    content: Any = behind(prefix, state) | {f"{made_up(rng)}.queue": torch.ones(5)}
    for _ in range(rng.randint(0, 3)):
        content = {made_up(rng): 1, made_up(rng): content} if rng.random() < 0.7 else {made_up(rng): [content]}
    torch.save(content, tmp_path / "weights.pt")
    model, report = load(tmp_path / "weights.pt", "unetr", axes="DHW")
    check_whole(model, report, state)
    assert report.prefix.endswith(prefix)
    assert repr(report.prefix) in report.text()


def test_of_two_sets_of_weights_the_first_is_taken_and_the_other_named(tmp_path: Path) -> None:
    student, teacher = unetr(), {key: value + 1 if value.is_floating_point() else value for key, value in unetr().items()}
    torch.save({"student": behind("net.", student), "teacher": behind("net.", teacher)}, tmp_path / "w.pt")
    model, report = load(tmp_path / "w.pt", "unetr", axes="DHW")
    check_whole(model, report, student)
    assert (report.prefix, report.others) == ("student.net.", ("teacher.net.",))
    assert "behind teacher.net.: --set init.prefix=... takes them" in report.text()
    model, report = load(tmp_path / "w.pt", "unetr", axes="DHW", prefix="teacher.net.")
    check_whole(model, report, teacher)
    with pytest.raises(UsageError, match=r"fits 0\.0%"):
        load(tmp_path / "w.pt", "unetr", axes="DHW", prefix="nobody.")


def test_an_encoder_alone_is_found_as_a_part(tmp_path: Path) -> None:
    state = swin()
    encoder = {key.removeprefix("swinViT."): value for key, value in state.items() if key.startswith("swinViT.")}
    torch.save({"state_dict": behind("momentum.", encoder)}, tmp_path / "encoder.pt")
    model, report = load(tmp_path / "encoder.pt", "swin-unetr", patch=(64, 64, 64), variant="default", axes="DHW")
    assert (report.part, report.share, report.share_of_file) == ("swinViT", 1, 1)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items() if key.startswith("swinViT."))
    gone = without("layers3.", encoder)
    torch.save(gone, tmp_path / "gone.pt")
    with pytest.raises(UsageError, match=rf"{LACKS} \d+: swinViT\.layers3[\s\S]*init\.leave=swinViT\.layers3$"):
        load(tmp_path / "gone.pt", "swin-unetr", patch=(64, 64, 64), variant="default", axes="DHW")
