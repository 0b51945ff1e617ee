"""Files of weights of every kind that people publish are read; files that would execute are refused."""

from __future__ import annotations

import json
import pickle
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from initbench.checkpoints.reading import read_checkpoint
from initbench.errors import InitbenchError, UsageError
from tests.checkpoints.weights import State
from tests.hostile import Hostile

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
    before = {"bare": "", "nnU-Net v2": "network_weights.", "SSL": "model."}.get(kind, "state_dict.")
    assert found.keys() == {before + key for key in WEIGHTS}
    assert all(torch.equal(found[before + key], WEIGHTS[key]) for key in WEIGHTS)


def test_numpy_scalars_written_by_numpy_1(tmp_path: Path) -> None:
    """Their pickles name a module that numpy 2 has renamed."""
    new, old = tmp_path / "new.model", tmp_path / "old.model"
    torch.save(CONTAINERS["nnU-Net v1"], new)
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            assert name != "new/data.pkl" or b"numpy._core.multiarray" in data
            target.writestr(name, data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_checkpoint(old).tensors.keys() == {f"state_dict.{key}" for key in WEIGHTS}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_safetensors_by_content(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    save_file(WEIGHTS, path, metadata={"initbench": json.dumps({"variant": "lung"})})
    found = read_checkpoint(path)
    assert found.card == {"variant": "lung"}
    assert torch.equal(found.tensors["stem.weight"], WEIGHTS["stem.weight"])


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
        (Path("x"), "pathlib"),
        (nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    ],
)
def test_objects_are_refused_by_their_names(value: Any, named: str, tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    torch.save({"state_dict": WEIGHTS, "extra": value}, path)
    with pytest.raises(InitbenchError, match=named) as caught:
        read_checkpoint(path)
    assert "nothing was run" in str(caught.value)


@pytest.mark.parametrize("kind", "?bBhHiIlLqQefdgFDG")
def test_numbers_of_numpy_are_numbers(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    torch.save({"state_dict": WEIGHTS, "epoch": np.dtype(kind).type(1)}, path)
    assert len(read_checkpoint(path).tensors) == len(WEIGHTS)


def test_weights_are_found_at_any_depth_and_optimizers_left_out(tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    endless: list[Any] = []
    endless.append(endless)
    torch.save({"optimizer": optimizer, "all": {"folds": [{"net": WEIGHTS}]}, "endless": endless}, path)
    assert list(read_checkpoint(path).tensors) == [f"all.folds.0.net.{key}" for key in WEIGHTS]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 256423\n", "is a pointer of Git LFS"),
        (b"<!DOCTYPE html><html><head><title>Quota exceeded</title></head></html>\n", "is a web page"),
        (b"\n <html lang=en>", "is a web page"),
        (b'{"error": "not found"}', "is a text of JSON"),
        (b"\x1f\x8b\x08 gzip", "is a compressed archive"),
        (b"\x89HDF\r\n", "is an HDF5 file"),
        (b"\x93NUMPY\x01", "is an array of numpy"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_is_no_file_of_weights_is_told_by_how_it_begins(content: bytes, says: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(InitbenchError, match=says):
        read_checkpoint(path)


def test_archives_that_torch_did_not_save_are_told(tmp_path: Path) -> None:
    program, archive = tmp_path / "program.pt", tmp_path / "bundle.pt"
    with zipfile.ZipFile(program, "w") as file:  # as torch.jit.save writes it
        for name in ("data.pkl", "code/__torch__.py", "constants.pkl"):
            file.writestr(f"program/{name}", b"")
    with pytest.raises(InitbenchError, match="is a TorchScript program"):
        read_checkpoint(program)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("models/model.pt", b"")
    with pytest.raises(InitbenchError, match=r"is an archive of other files, model\.pt; unpack it"):
        read_checkpoint(archive)


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
