"""Networks of slices in the harness: slices come back in place, are sampled as papers do, and stand beside volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from initbench.audit.rescore import read_cases
from initbench.backbones.slices import Outputs, slice_by_slice
from initbench.cli.app import main
from initbench.errors import UsageError
from initbench.evaluation.evaluate import Evaluator
from initbench.evaluation.inference import predict_probabilities, to_native
from initbench.harness.cell import resolve_cell
from initbench.harness.request import RunRequest
from initbench.preprocessing.parameters import resolve_parameters, scan
from initbench.preprocessing.prepare import PreparedCase
from initbench.preprocessing.preprocess import preprocess
from initbench.protocols import Case, Grid
from initbench.recipes.load import as_slices, load_recipe
from initbench.recipes.settings import Augment, Inference, Patch, Preprocess
from initbench.sampling.samplers import PatchSampler
from initbench.sampling.volumes import Volume, make_volume, with_neighbours
from tests.msd_factory import affine_of, make_noise
from tests.runs_factory import record_of, run

CPU = torch.device("cpu")
STILL = Augment(flip=0, rot90=0, scale_probability=0, scale_range=0, shift_probability=0, shift_range=0)
WINDOWS = Inference(overlap=0.25, blend="constant", batch=3)
OF_SLICES = ("patch.size=1,16,16", "patch.batch=8", "pretext.batch=8")


class Brightness(nn.Module):
    """Sees slices, and calls bright pixels foreground: what it gives depends on the place alone through the image."""

    def forward(self, image: Tensor) -> Outputs:
        return slice_by_slice(self._of_slices, image)

    def _of_slices(self, slices: Tensor) -> Tensor:
        assert slices.ndim == 4
        evidence = 8 * (slices[:, :1] - 0.5)
        return torch.cat([-evidence, evidence], dim=1)


# --- there and back ---------------------------------------------------------------------------------------------------


def linear(wanted: int, given: int) -> NDArray[np.float64]:
    """The matrix of linear interpolation from pixels to other pixels over the same extent, edges repeated."""
    matrix = np.zeros((wanted, given))
    for row in range(wanted):
        position = min(max((row + 0.5) * given / wanted - 0.5, 0.0), given - 1.0)
        low = int(position)
        matrix[row, low] += 1 - (position - low)
        matrix[row, min(low + 1, given - 1)] += position - low
    return matrix


def smooth_case(codes: str, shape: tuple[int, int, int], spacing: Sequence[float]) -> Case:
    """Bright blobs that differ from slice to slice, in an array whose axes point to `codes`."""
    rng = np.random.default_rng(4)
    fine = rng.random(shape)
    for axis in range(3):
        fine = (fine + np.roll(fine, 1, axis) + np.roll(fine, 2, axis)) / 3
    fine = (fine - fine.min()) / (fine.max() - fine.min())
    return Case("made", fine[None].astype(np.float32), (fine > 0.5).astype(np.uint8), affine_of(codes, spacing, shape))


@pytest.mark.parametrize(
    ("codes", "shape", "spacing"),
    [("LPS", (37, 29, 11), (0.7, 0.9, 5.0)), ("RAS", (31, 45, 7), (1.0, 1.0, 1.0)), ("SAL", (9, 33, 41), (6.0, 0.8, 0.8))],
    ids=["anisotropic", "odd", "turned"],
)
def test_slices_come_back_onto_the_native_grid(codes: str, shape: tuple[int, int, int], spacing: Sequence[float]) -> None:
    """Resized to a plane, predicted slice by slice in windows and stacked, against matrices on the array that nibabel turned."""
    case, plane = smooth_case(codes, shape, spacing), (24, 40)
    settings = Preprocess(spacing="native", intensity="window", window=(0, 1), crop=False, image_order=1, plane=plane)
    made = preprocess(case, resolve_parameters(settings, "MR", [scan(case)]))
    probabilities = predict_probabilities(Brightness().eval(), torch.from_numpy(made.image), (1, 16, 16), WINDOWS, "float32")
    found = to_native(probabilities, made.placement)

    turn = nibabel.orientations.io_orientation(case.affine)
    canonical = nibabel.orientations.apply_orientation(case.image[0].astype(np.float64), turn)  # x, y, z
    there = [linear(plane[1], canonical.shape[0]), linear(plane[0], canonical.shape[1])]
    back = [linear(canonical.shape[0], plane[1]), linear(canonical.shape[1], plane[0])]
    assert made.image.shape == (1, canonical.shape[2], *plane)
    expected = np.zeros(canonical.shape)
    for depth in range(canonical.shape[2]):
        resized = there[0] @ canonical[:, :, depth] @ there[1].T
        foreground = 1 / (1 + np.exp(-16 * (resized - 0.5)))
        expected[:, :, depth] = back[0] @ foreground @ back[1].T
    native = nibabel.orientations.apply_orientation(
        expected,
        nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)),
    )
    clear = np.abs(native - 0.5) > 1e-4
    assert found.shape == case.label.shape
    assert clear.mean() > 0.99
    assert np.array_equal(found[clear], native[clear] > 0.5)
    assert (found == case.label).mean() > 0.85, "blobs are where they were"


def test_a_plane_is_resized_on_our_grid_alone() -> None:
    with pytest.raises(ValueError, match="plane goes with resampling = half-pixel"):
        Preprocess(spacing="native", intensity="window", crop=False, image_order=1, resampling="nnunet", plane=(8, 8))


# --- sampling ---------------------------------------------------------------------------------------------------------


def volumes_of_slices() -> list[Volume]:
    """Two volumes whose pixels say which slice they are of: 0 to 3 and 10 to 21; slices 12 and 15 alone hold foreground."""
    first = np.broadcast_to(np.arange(4.0, dtype=np.float32)[None, :, None, None], (1, 4, 6, 6)).copy()
    second = np.broadcast_to(np.arange(10.0, 22.0, dtype=np.float32)[None, :, None, None], (1, 12, 6, 6)).copy()
    label = np.zeros((12, 6, 6), np.uint8)
    label[2, 5, 1] = label[5, 0, 4] = 1
    return [make_volume(first, None, CPU), make_volume(second, label, CPU)]


def slices_drawn(foreground: float, size: Grid = (1, 6, 6)) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    settings = Patch(size=size, batch=40, foreground=foreground, sampling="slices")
    sampler = PatchSampler(volumes_of_slices(), settings, STILL, 0)
    batches = [sampler.batch(step) for step in range(20)]
    images = torch.cat([batch.image for batch in batches])[:, 0, 0]
    labels = torch.cat([batch.label for batch in batches])[:, 0]
    return images.amax((1, 2)).long().numpy(), labels.amax((1, 2)).numpy()


def test_every_slice_of_all_volumes_is_drawn_alike() -> None:
    drawn, _ = slices_drawn(foreground=0)
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0, 1, 2, 3, *range(10, 22)]
    assert counts.min() > 25, "800 draws of 16 slices"
    assert counts.max() < 80


def test_a_share_of_the_slices_holds_foreground() -> None:
    drawn, labelled = slices_drawn(foreground=0.5, size=(1, 3, 3))
    last = np.tile(np.arange(40) >= 20, 20)
    assert set(drawn[last]) == {12, 15}
    assert labelled[last].all(), "the window is around a labelled pixel"
    assert len(set(drawn[~last])) == 16


def test_neighbours_are_channels() -> None:
    image = torch.arange(24.0).reshape(2, 3, 2, 2)
    found = with_neighbours(image, 1)
    assert found.shape == (6, 3, 2, 2)
    for depth, (before, after) in enumerate([(0, 1), (0, 2), (1, 2)]):
        expected = torch.cat([image[:, before], image[:, depth], image[:, after]])
        assert torch.equal(found[:, depth], expected)
    assert with_neighbours(image, 0) is image


def test_inference_gives_a_slice_the_neighbours_it_was_trained_with() -> None:
    seen: list[Tensor] = []

    class Listening(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            seen.append(image)
            return image[:, :2]

    case = smooth_case("RAS", (8, 8, 5), (1.0, 1.0, 1.0))
    settings = Preprocess(spacing="native", intensity="window", window=(0, 1), crop=False, image_order=1)
    made = preprocess(case, resolve_parameters(settings, "MR", [scan(case)]))
    prepared = PreparedCase("made", {"image": made.image}.__getitem__, case.affine, made.placement)
    evaluator = Evaluator(Listening(), (1, 8, 8), Inference(overlap=0, blend="constant", batch=5), "float32", CPU, neighbours=1)
    evaluator.probabilities(prepared)
    assert torch.equal(torch.cat(seen)[:, :, 0].transpose(0, 1), with_neighbours(torch.from_numpy(made.image), 1))


def test_a_slice_is_not_turned_round_along_depth() -> None:
    calls: list[Tensor] = []

    class Counting(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            calls.append(image)
            return torch.cat([image, -image], dim=1)

    settings = Inference(overlap=0, blend="constant", batch=1, mirror=True)
    predict_probabilities(Counting(), torch.rand(1, 1, 4, 4), (1, 4, 4), settings, "float32")
    assert len(calls) == 4


# --- recipes and requests ---------------------------------------------------------------------------------------------


def test_a_recipe_of_volumes_gives_its_slices_and_as_many_voxels() -> None:
    volumes = load_recipe("phantom-lung", size="tiny", backbone="unet", budget="smoke")
    slices = as_slices(load_recipe("phantom-lung", size="tiny", backbone="unet-2d", budget="smoke"))
    assert (volumes.patch.size, volumes.patch.batch) == ((32, 64, 64), 2)
    assert (slices.patch.size, slices.patch.batch) == ((1, 64, 64), 64)
    assert slices.pretext.batch == 32 * volumes.pretext.batch
    assert slices.inference.batch == 32 * volumes.inference.batch
    by_hand = as_slices(volumes, ["inference.batch=4"])
    assert (by_hand.patch.batch, by_hand.inference.batch) == (64, 4)
    assert as_slices(volumes, ["patch.size=32,64,64"]) is volumes


@pytest.mark.parametrize(
    ("backbone", "settings", "said"),
    [
        ("ds-net", ["patch.size=128,32,32", "patch.batch=4"], "ds-net takes batches of 1 at most; use --set patch.batch=1"),
        ("ds-net", ["patch.size=64,32,32"], r"nearest valid: \(128, 32, 32\)"),
        ("unet-2d", ["patch.size=8,16,16"], r"nearest valid: \(1, 16, 16\)"),
        ("unet", ["patch.size=8,16,16", "patch.neighbours=1"], "patch.neighbours is for networks of slices, and unet sees"),
    ],
)
def test_what_a_network_cannot_take_is_refused_with_what_it_can(
    backbone: str, settings: list[str], said: str, data: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        resolve_cell(RunRequest.of("default", backbone, str(data), 0, device="cpu", size="tiny", assignments=tuple(settings)))


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of small random volumes."""
    return make_noise(tmp_path_factory.mktemp("data"))


def test_slices_and_volumes_stand_on_one_page(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [*OF_SLICES, "patch.neighbours=1"]
    outcomes = run(data, tmp_path, distances=True)
    outcomes += run(data, tmp_path, "default,mae", backbone="unet-2d", assignments=settings, distances=True)
    assert [outcome.state for outcome in outcomes] == ["ok", "ok", "ok"]
    folders = [outcome.folder for outcome in outcomes if outcome.folder is not None]
    cases = [[case for case, _ in read_cases(folder)[0]] for folder in folders]
    assert cases[0] == cases[1] == cases[2]
    assert all(record_of(folder)["hd95_mm_per_class"] for folder in folders)
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard", "--out", str(tmp_path)])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "unet-2d" in printed
    assert "light" in printed


def test_order_prediction_is_refused_with_its_reason(data: Path, tmp_path: Path) -> None:
    [refused] = run(data, tmp_path, "order", backbone="unet-2d", assignments=OF_SLICES)
    assert refused.state == "refused"
    assert "order prediction shuffles slabs along depth, and unet-2d sees one slice at a time" in refused.message
