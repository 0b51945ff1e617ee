"""What the 2D baselines do to slices: TransUNet's turns against scipy, MISSFormer's operations against what they are called."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from initbench.recipes.settings import Augment, Patch
from initbench.sampling import augment_slices
from initbench.sampling.augment_slices import Change, Turn
from initbench.sampling.samplers import PatchSampler
from initbench.sampling.volumes import make_volume

PLANE = (24, 24)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(rng().normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("degrees", [-20, -7, 1, 19])
@pytest.mark.parametrize("plane", [(24, 24), (17, 30)])
def test_a_rotation_is_scipys(degrees: int, plane: tuple[int, int]) -> None:
    volume = noise(2, *plane)
    found = augment_slices.turn(volume, Turn(degrees=degrees))
    for moved, source in zip(found, volume, strict=True):
        expected = ndimage.rotate(source.numpy(), degrees, order=0, reshape=False)
        # Half-way positions fall to either side by rounding.
        assert np.mean(moved.numpy() == expected) > 0.995


def test_quarter_turns_come_before_the_flip() -> None:
    volume = noise(1, *PLANE)
    for quarters in range(4):
        for axis in (1, 2):
            expected = np.flip(np.rot90(volume[0].numpy(), quarters), axis - 1)
            assert np.array_equal(augment_slices.turn(volume, Turn(quarters, axis))[0].numpy(), expected)


def test_half_of_the_slices_are_turned_and_a_quarter_rotated() -> None:
    turns = augment_slices.draw_turns(rng(), 4000, PLANE)
    turned = [turn for turn in turns if turn.flipped is not None]
    rotated = [turn for turn in turns if turn.degrees]
    assert len(turned) / 4000 == pytest.approx(0.5, abs=0.03)
    assert len(rotated) / 4000 == pytest.approx(0.25 * 39 / 40, abs=0.03)  # one of 40 angles is 0
    assert {turn.quarters for turn in turned} == {0, 1, 2, 3}
    assert {turn.flipped for turn in turned} == {1, 2}
    assert (min(turn.degrees for turn in turns), max(turn.degrees for turn in turns)) == (-20, 19)
    assert {turn.quarters for turn in augment_slices.draw_turns(rng(), 200, (8, 6))} == {0, 2}


def moved(matrix: list[list[float]]) -> Tensor:
    """The label of a slice with one marked pixel, behind a map."""
    label = torch.zeros(1, *PLANE, dtype=torch.uint8)
    label[0, 6, 12] = 1
    image, found = augment_slices.change(label[None].float(), label, Change(np.array(matrix)), torch.Generator())
    assert image.shape == (1, 1, *PLANE)
    return found[0]


def test_maps_of_image_and_label_are_in_rows_and_columns() -> None:
    half = 24 / 2
    flipped = moved([[-1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert flipped.nonzero().tolist() == [[17, 12]]
    shifted = moved([[1, 0, -3 / half], [0, 1, 5 / half], [0, 0, 1]])  # from 3 rows above and 5 columns to the right
    assert shifted.nonzero().tolist() == [[9, 7]]


def test_of_ten_operations_none_to_four_are_drawn() -> None:
    changes = augment_slices.draw_changes(rng(), 2000, PLANE)
    assert all(np.linalg.det(change.matrix) != 0 for change in changes)
    nothing = [change for change in changes if not change.moves and not change.blur and change.contrast == 1 and not change.noise]
    assert 0.2 < len(nothing) / 2000 < 0.35
    for part in (change.blur for change in changes), (change.noise > 0 for change in changes):
        assert np.mean(list(part)) == pytest.approx(0.2, abs=0.03)  # two of ten on average
    contrasts = [change.contrast for change in changes if change.contrast != 1]
    assert (min(contrasts) > 0.5, max(contrasts) < 1.5) == (True, True)


def test_values_change_and_labels_do_not() -> None:
    image, label = noise(1, 1, *PLANE), torch.ones(1, *PLANE, dtype=torch.uint8)
    still = np.eye(3)
    blurred, same = augment_slices.change(image, label, Change(still, blur=True), torch.Generator())
    assert torch.equal(same, label)
    inner = ndimage.gaussian_filter(image[0, 0].numpy(), 1.0, truncate=4.0)[5:-5, 5:-5]
    np.testing.assert_allclose(blurred[0, 0, 5:-5, 5:-5].numpy(), inner, atol=1e-5)
    contrasted, _ = augment_slices.change(image, label, Change(still, contrast=1.5), torch.Generator())
    assert float(contrasted.amax() - contrasted.amin()) == pytest.approx(1.5 * float(image.amax() - image.amin()), rel=1e-5)
    noisy, _ = augment_slices.change(image, label, Change(still, noise=0.1), torch.Generator().manual_seed(0))
    assert float((noisy - image).std()) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("family", ["transunet", "missformer"])
def test_a_batch_is_a_function_of_its_step(family: str) -> None:
    label = np.zeros((3, *PLANE), np.uint8)
    label[:, 4:12, 8:20] = 1
    image = label[None].astype(np.float32) * 3 - 1
    volumes = [make_volume(image, label, torch.device("cpu"))]
    patch = Patch(size=(1, *PLANE), batch=16, foreground=0.0, sampling="slices")
    augment = Augment(
        flip=0, rot90=0, scale_probability=0, scale_range=0, shift_probability=0, shift_range=0, family=family
    )  # fmt: skip
    first, again = (PatchSampler(volumes, patch, augment, 0).batch(5) for _ in range(2))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.label, again.label)
    assert first.image.shape == (16, 1, 1, *PLANE)
    assert first.label.shape == (16, 1, *PLANE)
    assert not torch.equal(first.image, PatchSampler(volumes, patch, augment, 0).batch(6).image)
    if family == "transunet":  # nearest pixels: image and label stay one another's, but for what came in
        inside = first.image[:, 0] != 0
        assert torch.equal(first.image[:, 0][inside] > 0, first.label[inside] == 1)
