"""What the check of memory counts, and what a process keeps for its next run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from initbench.harness import run as run_module
from initbench.harness.cell import Cell, resolve_cell
from initbench.harness.memory import NoMemoryError, check_memory, estimate_bytes
from initbench.harness.request import RunRequest
from initbench.harness.run import Run
from initbench.protocols import NoProgress
from initbench.runs import store
from initbench.sampling import volumes as sampling
from initbench.sampling.samplers import PatchSampler, UnlabelledSampler
from initbench.sampling.volumes import VolumeShelf, volume_bytes
from tests.runs_factory import LIGHT, SMALL, run

CPU = torch.device("cpu")


def cell(data: Path, regimen: str = "plain", seed: int = 0, backbone: str = LIGHT, more: tuple[str, ...] = ()) -> Cell:
    request = RunRequest.of(
        "default",
        backbone,
        str(data),
        seed,
        regimen=regimen,
        size="tiny",
        budget="smoke",
        device="cpu",
        precision="float32",
        assignments=(*SMALL, *more),
    )
    return resolve_cell(request)


def tensors(found: list[sampling.Volume]) -> list[torch.Tensor]:
    return [volume.image for volume in found]


# --- what is counted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", [LIGHT, "unet-2d"])
def test_the_bytes_of_volumes_are_known_before_they_are_read(data: Path, backbone: str) -> None:
    slices = ("patch.size=1,32,32", "patch.neighbours=1")
    made = cell(data, backbone=backbone, more=() if backbone == LIGHT else slices)
    loaded = sampling.load_volumes(made.prepared, CPU, made.recipe.patch.neighbours)
    held = sum(volume.image.nbytes + volume.label.nbytes for volume in loaded)
    assert volume_bytes(made.prepared, made.in_channels) == held


def test_volumes_that_do_not_fit_are_refused_with_what_helps() -> None:
    check_memory(60, 40, 100)
    with pytest.raises(
        NoMemoryError, match=r"0.0 GiB, the training volumes 2.0 GiB, and 1.0 GiB are free.*spacing.*--train-cases"
    ):
        check_memory(60, 2 * 2**30, 2**30)
    with pytest.raises(NoMemoryError, match=r"patch.size"):
        check_memory(2**30, 2**29, 2**30)


def test_a_run_counts_the_volumes_that_are_not_there_yet(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = cell(data)
    step = Run(made, Path(), NoProgress())._step_bytes(Run(made, Path(), NoProgress()).construct())
    monkeypatch.setattr(run_module, "available_memory", lambda device: step + 1000)
    shelf = VolumeShelf()
    with pytest.raises(NoMemoryError):
        Run(made, Path(), NoProgress(), shelf=shelf).initialized()
    shelf.load(made.prepared, CPU, 0, None, most=2**30)
    Run(made, Path(), NoProgress(), shelf=shelf).initialized()  # the free memory is what is left beside them


def test_a_larger_network_takes_memory_from_the_volumes_that_an_earlier_run_left(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cell(data)
    made = replace(made, request=replace(made.request, device_memory=0.0))
    shelf = VolumeShelf()
    kept = shelf.load(made.prepared, CPU, 0, 0.0, most=2**30)  # as if the network before had left memory for all of them
    assert all(volume.streamed_to is None for volume in kept)
    own = Run(made, Path(), NoProgress(), shelf=shelf)
    step = own._step_bytes(own.construct())
    free = iter([step - 1, step, step])  # beside the volumes, and once they are gone
    monkeypatch.setattr(run_module, "available_memory", lambda device: next(free))
    _, volumes = own._begin()
    assert all(volume.streamed_to == CPU for volume in volumes)


def test_a_teacher_is_counted_in_memory(data: Path) -> None:
    needed: dict[str, int] = {}
    for regimen in ("plain", "medcontext", "medcontext(beta=0)"):
        made = Run(cell(data, regimen), Path(), NoProgress())
        model = made.construct()
        needed[regimen] = made._step_bytes(model)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    assert needed["medcontext"] - needed["plain"] == weights
    assert needed["medcontext(beta=0)"] == needed["plain"]
    assert estimate_bytes(model, 1, (8, 16, 16), 2, "float32", copies=1) == needed["medcontext"]


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_runs_of_one_process_share_their_volumes(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Any] = []
    load = sampling.load_volumes
    monkeypatch.setattr(sampling, "load_volumes", lambda *given: loaded.append(given) or load(*given))
    outcomes = run(data, tmp_path / "shared", seeds=2)
    assert len(loaded) == 1
    alone = run(data, tmp_path / "alone", seeds=[1])
    assert len(loaded) == 2, "nothing outlives a study"
    tables = []
    for outcome in (outcomes[1], alone[0]):
        assert outcome.folder is not None
        tables.append((outcome.folder / store.CASES).read_bytes())
    assert tables[0] == tables[1]


def test_a_shelf_keeps_the_volumes_of_the_last_run_alone(data: Path) -> None:
    made, other = cell(data), cell(data, more=("preprocess.spacing=1,1,1",))
    shelf = VolumeShelf()
    first = shelf.load(made.prepared, CPU, 0, None, most=2**30)
    assert tensors(shelf.load(cell(data, seed=1).prepared, CPU, 0, None, most=2**30)) == tensors(first)
    assert not shelf.holds(made.prepared, CPU, 1, None), "other neighbours are other channels"
    assert not shelf.holds(made.prepared, CPU, 0, 0.5), "another --device-memory streams others of them"
    shelf.load(other.prepared, CPU, 0, None, most=2**30)
    assert shelf.holds(other.prepared, CPU, 0, None)
    assert not shelf.holds(made.prepared, CPU, 0, None)
    shelf.load(made.prepared, CPU, 0, None, most=100)
    assert not shelf.holds(made.prepared, CPU, 0, None), "they are more than may be kept"
    assert not shelf.holds(other.prepared, CPU, 0, None), "what is of no use is given back"


@pytest.mark.parametrize("family", ["monai-r1", "nnunet", "transunet", "missformer"])
def test_no_batch_changes_a_volume(data: Path, family: Any) -> None:
    """Else the next run on them would learn from other volumes than the first."""
    made = cell(data)
    loaded = sampling.load_volumes(made.prepared, CPU)
    before = [(volume.image.clone(), volume.label.clone()) for volume in loaded]
    size = (1, 8, 8) if family in ("transunet", "missformer") else (4, 8, 8)
    patch = made.recipe.patch.model_copy(update={"size": size})
    sampler = PatchSampler(loaded, patch, made.recipe.augment.model_copy(update={"family": family}), 0)
    for step in range(20):
        batch = sampler.batch(step)
        batch.image.add_(1)
        batch.label.add_(1)
    for volume, (image, label) in zip(loaded, before, strict=True):
        assert torch.equal(volume.image, image)
        assert torch.equal(volume.label, label)


# --- the budget of the device -----------------------------------------------------------------------------------------


def test_volumes_beyond_the_budget_stay_in_the_files_of_the_cache(data: Path) -> None:
    made = cell(data)
    every = sampling.load_volumes(made.prepared, CPU)
    sizes = [volume.held for volume in every]
    for budget, expected in ((0, []), (sizes[0], sizes[:1]), (sum(sizes), sizes)):
        loaded = sampling.load_volumes(made.prepared, CPU, 0, budget)
        assert [volume.held for volume in loaded if volume.streamed_to is None] == expected
        assert [volume.held for volume in loaded if volume.streamed_to is not None] == [0] * (len(sizes) - len(expected))
    for volume, whole in zip(sampling.load_volumes(made.prepared, CPU, 0, 0), every, strict=True):
        assert isinstance(volume.host_label, np.memmap)
        assert torch.equal(volume.image, whole.image)
        assert np.array_equal(volume.foreground, whole.foreground)


def test_neighbours_keep_volumes_on_the_device(data: Path) -> None:
    loaded = sampling.load_volumes(cell(data).prepared, CPU, 1, 0)
    assert all(volume.streamed_to is None for volume in loaded)


@pytest.mark.parametrize("family", ["monai-r1", "nnunet", "transunet", "missformer"])
@pytest.mark.parametrize("background", ["any", "positive"])
def test_streamed_batches_have_the_bits_of_resident_ones(data: Path, family: Any, background: Any) -> None:
    made = cell(data)
    size = (1, 8, 8) if family in ("transunet", "missformer") else (24, 8, 8)
    patch = made.recipe.patch.model_copy(update={"size": size, "background": background})
    augment = made.recipe.augment.model_copy(update={"family": family})
    resident = PatchSampler(sampling.load_volumes(made.prepared, CPU), patch, augment, 0)
    streamed = PatchSampler(sampling.load_volumes(made.prepared, CPU, 0, 0), patch, augment, 0)
    for step in range(8):
        one, other = resident.batch(step), streamed.batch(step)
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.label, other.label)


def test_streamed_batches_of_a_pretext_have_the_bits_of_resident_ones(data: Path) -> None:
    made = cell(data)
    settings: Any = ((24, 8, 8), 3, made.recipe.augment, 0)
    resident = UnlabelledSampler(sampling.load_volumes(made.prepared, CPU), *settings)
    streamed = UnlabelledSampler(sampling.load_volumes(made.prepared, CPU, 0, 0), *settings)
    for step in range(8):
        one, other = resident.batch(step, 4), streamed.batch(step, 4)
        assert torch.equal(one.image, other.image)
        assert np.array_equal(one.inside, other.inside)


def test_a_run_with_a_budget_has_the_id_and_the_bits_of_one_without(data: Path, tmp_path: Path) -> None:
    """Every volume is streamed, in the pretext and in training."""
    folders = []
    for name, budget in (("resident", None), ("streamed", 0.0)):
        [outcome] = run(data, tmp_path / name, init="lwi", device_memory=budget)
        assert outcome.folder is not None
        folders.append(outcome.folder)
    assert folders[0].relative_to(tmp_path / "resident") == folders[1].relative_to(tmp_path / "streamed")
    for name in (store.WEIGHTS, store.CASES, store.CURVE):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_a_budget_is_what_a_run_needs_and_no_more(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = cell(data)
    step = Run(made, Path(), NoProgress())._step_bytes(Run(made, Path(), NoProgress()).construct())
    monkeypatch.setattr(run_module, "available_memory", lambda device: step + 1000)
    small = Run(replace(made, request=replace(made.request, device_memory=0.0)), Path(), NoProgress())
    _, volumes = small._begin()
    assert all(volume.streamed_to is not None for volume in volumes)
    assert small._volume_budget(2**30) == 0
    on_gpu = Run(made, Path(), NoProgress())
    assert on_gpu._volume_budget(2**30) is None
    on_gpu.device = torch.device("cuda")
    assert 0 < (on_gpu._volume_budget(2**30) or 0) < 2**30
    assert on_gpu._volume_budget(-1) == 0
