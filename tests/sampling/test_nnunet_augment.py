"""nnU-Net's augmentation: each transform against numpy and scipy, its numbers by their statistics, batches by seed and step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from initbench.protocols import Grid
from initbench.recipes.settings import Augment, NnUnetAugment, Patch
from initbench.sampling import augment_nnunet as moreda
from initbench.sampling.samplers import GuidedSampler, PatchSampler
from initbench.sampling.volumes import Volume, make_volume

CPU = torch.device("cpu")
QUIET = dict.fromkeys(
    ("rotate", "scale", "noise", "blur", "brightness", "contrast", "lowres", "gamma_inverted", "gamma", "mirror"), 0.0
)
R1 = {"flip": 0.2, "rot90": 0.2, "scale_probability": 0.1, "scale_range": 0.1, "shift_probability": 0.1, "shift_range": 0.1}


def family(**values: float | str) -> Augment:
    return Augment.model_validate(R1 | {"family": "nnunet", "nnunet": QUIET | values})


def numbers(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0,) * (len(shape) - 3) + (1, 1, 1)).astype(
        np.float32
    )


def drawn(patch: Grid = (16, 16, 16), count: int = 20_000, channels: int = 2, **values: float | str) -> moreda.Draw:
    settings = NnUnetAugment.model_validate(values)
    return moreda.draw(np.random.default_rng(0), count, channels, patch, settings)


# --------------------------------------------------------------------------------------------------------------------
# The numbers


def share(flags: NDArray[np.bool_], expected: float) -> None:
    assert abs(flags.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / flags.size) + 1e-12


def test_how_often() -> None:
    found = drawn()
    share(found.moved, 1 - 0.8 * 0.8)
    share(found.noise > 0, 0.1)
    share((found.sigma > 0).any(1), 0.2 * 0.75)
    share((found.sigma > 0)[(found.sigma > 0).any(1)].all(1), 1 / 3)
    share((found.brightness != 1).all(1), 0.15)
    share(found.contrasted, 0.15)
    share(
        (found.sizes != 16).any((1, 2)), 0.25 * (1 - (1 - 0.5 * 31 / 32) ** 2)
    )  # a sixteenth of the zooms rounds up to the whole
    share((found.inverted_gamma != 1).all(1), 0.1)
    share((found.gamma != 1).all(1), 0.3)
    share(found.mirror, 0.5)


def test_how_much() -> None:
    found = drawn()
    assert (found.noise[found.noise > 0].mean(), found.noise.max()) == pytest.approx((0.05, 0.1), rel=0.03)
    chosen = found.sigma[found.sigma > 0]
    assert (chosen.min(), chosen.mean(), chosen.max()) == pytest.approx((0.5, 0.75, 1.0), rel=0.01)
    chosen = found.brightness[found.brightness != 1]
    assert (chosen.min(), chosen.mean(), chosen.max()) == pytest.approx((0.75, 1.0, 1.25), rel=0.01)
    share(found.contrast < 1, 0.5)
    assert (found.contrast.min(), found.contrast.max()) == pytest.approx((0.75, 1.25), rel=0.01)
    chosen = found.gamma[found.gamma != 1]
    share(chosen < 1, 0.5)  # although three eighths of the range lie below 1
    assert (chosen[chosen < 1].mean(), chosen[chosen > 1].mean()) == pytest.approx((0.85, 1.25), rel=0.01)
    chosen = found.sizes[(found.sizes != 16).any(2)]
    assert (chosen.min(), chosen.max()) == (8, 15)
    assert (chosen == chosen[:, :1]).all(), "one zoom for the three axes"


def test_rotations_and_scales() -> None:
    turned = drawn(rotate=1.0, scale=0.0).matrix
    np.testing.assert_allclose(turned @ turned.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turned.shape), atol=1e-12)
    assert np.linalg.det(turned) == pytest.approx(1.0)
    angle = np.rad2deg(np.arcsin(turned[:, 1, 2]))  # one of the three is alone in this entry only if the others are 0
    assert 29 < np.abs(angle).max() < 61
    scaled = drawn(rotate=0.0, scale=1.0).matrix
    factor = scaled[:, 0, 0]
    np.testing.assert_allclose(scaled, factor[:, None, None] * np.eye(3))
    assert (factor.min(), factor.max()) == pytest.approx((0.7, 1.4), rel=0.01)
    share(factor < 1, 0.5)
    found = drawn(rotate=1.0, scale=1.0)
    share(found.moved, 1.0)
    assert np.cbrt(np.linalg.det(found.matrix)).max() == pytest.approx(1.4, rel=0.01)


def test_each_angle_is_uniform() -> None:
    one = moreda._matrices(np.array([[30.0, 0, 0], [0, 30, 0], [0, 0, 30]]), flat=False)
    for axis, matrix in enumerate(one):
        np.testing.assert_allclose(matrix[axis], np.eye(3)[axis], atol=1e-12)
        assert np.rad2deg(np.arccos((np.trace(matrix) - 1) / 2)) == pytest.approx(30)


def test_flat_patches_stay_in_plane() -> None:
    found = drawn((8, 32, 32), rotate=1.0, scale=1.0, lowres=1.0)
    np.testing.assert_allclose(found.matrix[:, 0], np.broadcast_to([1.0, 0, 0], (20_000, 3)))
    angle = np.rad2deg(np.arctan2(found.matrix[:, 2, 1], found.matrix[:, 1, 1]))
    assert (angle.min(), angle.max(), angle.std()) == pytest.approx((-180, 180, 360 / np.sqrt(12)), rel=0.02)
    assert (found.sizes[..., 0] == 8).all()
    settings = NnUnetAugment()
    assert not moreda.in_plane((64, 128, 128), settings)
    assert moreda.in_plane((16, 160, 160), settings)
    assert moreda.in_plane((64, 128, 128), NnUnetAugment(dummy_2d="always"))
    assert not moreda.in_plane((16, 160, 160), NnUnetAugment(dummy_2d="never"))


# --------------------------------------------------------------------------------------------------------------------
# What they do


@pytest.mark.parametrize(("patch", "flat"), [((12, 14, 10), "never"), ((8, 28, 30), "always")])
def test_spatial_is_scipy_on_the_whole_volume(patch: Grid, flat: str) -> None:
    """The larger region is large enough: sampling it is sampling the volume."""
    volume, label = numbers(2, 60, 70, 64), np.random.default_rng(1).integers(0, 5, (60, 70, 64)).astype(np.float32)
    found = drawn(patch, 6, rotate=1.0, scale=1.0, dummy_2d=flat)
    margin = moreda.margins(found, patch)
    start = [(n - p) // 2 for n, p in zip(volume.shape[1:], patch, strict=True)]
    window = tuple(slice(s - m, s + p + m) for s, m, p in zip(start, margin, patch, strict=True))
    assert all(w.start >= 0 and w.stop <= n for w, n in zip(window, label.shape, strict=True)), (
        "the test's volume is large enough"
    )
    region = torch.from_numpy(volume[(slice(None), *window)].copy()).expand(6, -1, -1, -1, -1)
    marks = torch.from_numpy(label[window].copy()).expand(6, 1, -1, -1, -1)
    made, marked = (
        moreda.resample(region, found.matrix, patch, "bilinear"),
        moreda.resample(marks, found.matrix, patch, "nearest"),
    )
    for n, matrix in enumerate(found.matrix):
        half = (np.array(patch) - 1) / 2
        offset = np.array(start) + half - matrix @ half
        for channel in range(2):
            expected = ndimage.affine_transform(volume[channel], matrix, offset, patch, order=1)
            np.testing.assert_allclose(made[n, channel], expected, atol=2e-5)
        expected = ndimage.affine_transform(label, matrix, offset, patch, order=0)
        assert np.mean(marked[n, 0].numpy() != expected) < 2e-3, "half-way positions"


def test_margins_are_no_larger_than_needed() -> None:
    found = drawn((10, 10, 10), 1, rotate=0.0, scale=0.0)
    assert moreda.margins(found, (10, 10, 10)) == (1, 1, 1)
    assert max(moreda.margins(drawn((11, 11, 11), 2000, rotate=0.0, scale=1.0, scale_range=(1.0, 1.4)), (11, 11, 11))) == 3
    assert moreda.margins(drawn((5, 31, 31), 2000, rotate=1.0, scale=0.0), (5, 31, 31))[0] == 1, (
        "flat patches need no more slices"
    )


def test_blur_is_scipy() -> None:
    images, sigma = numbers(3, 2, 12, 7, 15), np.array([[0.5, 0.0], [1.0, 0.73], [0.61, 0.99]])
    found = moreda.blur(torch.from_numpy(images), sigma).numpy()
    for n in range(3):
        for c in range(2):
            expected = ndimage.gaussian_filter(images[n, c], sigma[n, c]) if sigma[n, c] else images[n, c]
            np.testing.assert_allclose(found[n, c], expected, atol=1e-6)
    assert np.array_equal(found[0, 1], images[0, 1])


def test_noise_has_its_standard_deviation() -> None:
    images = torch.zeros(3, 1, 30, 30, 30)
    found = moreda.add_noise(images, np.array([0.0, 0.05, 0.1]), torch.Generator().manual_seed(0))
    assert found.std((1, 2, 3, 4)).tolist() == pytest.approx([0, 0.05, 0.1], rel=0.02)
    assert float(found.mean()) == pytest.approx(0, abs=1e-3)


def test_brightness_contrast_and_gamma_by_numpy() -> None:
    images, factors = numbers(2, 2, 9, 8, 7), np.array([[0.75, 1.0], [1.2, 0.9]])
    tensor = torch.from_numpy(images)
    np.testing.assert_allclose(moreda.brighten(tensor, factors), images * factors[:, :, None, None, None], rtol=1e-6)
    contrast = moreda.change_contrast(tensor, factors).numpy()
    gamma = {flag: moreda.change_gamma(tensor, factors, inverted=flag).numpy() for flag in (False, True)}
    for n in range(2):
        for c in range(2):
            x, f = images[n, c].astype(np.float64), factors[n, c]
            np.testing.assert_allclose(contrast[n, c], np.clip((x - x.mean()) * f + x.mean(), x.min(), x.max()), atol=1e-5)
            for flag, sign in ((False, 1), (True, -1)):
                y = sign * x
                bent = ((y - y.min()) / np.ptp(y)) ** f * np.ptp(y) + y.min()
                bent = (bent - bent.mean()) / bent.std() * y.std() + y.mean()
                np.testing.assert_allclose(gamma[flag][n, c], sign * bent, atol=1e-4)
    flat = torch.full((1, 1, 4, 4, 4), 3.0)
    assert torch.allclose(moreda.change_gamma(flat, np.array([[0.8]]), inverted=False), flat)


def test_low_resolution_is_down_by_the_nearest_and_up_linearly() -> None:
    images, sizes = numbers(2, 2, 12, 15, 10), np.array([[[6, 8, 5], [12, 15, 10]], [[11, 14, 9], [12, 9, 7]]])
    found = moreda.lower_resolution(torch.from_numpy(images), sizes)
    for n in range(2):
        for c in range(2):
            channel = torch.from_numpy(images[n : n + 1, c : c + 1])
            low = functional.interpolate(channel, size=tuple(sizes[n, c]), mode="nearest-exact")
            expected = functional.interpolate(low, size=(12, 15, 10), mode="trilinear", align_corners=False)[0, 0]
            torch.testing.assert_close(found[n, c], expected, atol=1e-5, rtol=0)
    assert np.array_equal(found[0, 1], images[0, 1])


def test_mirror_is_flip() -> None:
    volume = numbers(2, 4, 5, 6)
    found = moreda.mirror(torch.from_numpy(volume), [True, False, True])
    assert np.array_equal(found, np.flip(volume, (1, 3)))


def test_order_of_the_steps_and_who_gets_them() -> None:
    images = [torch.from_numpy(numbers(1, 8, 8, 8, seed=seed)) for seed in range(3)]
    quiet = drawn((8, 8, 8), 3, 1, **QUIET)
    untouched = moreda.adjust(images, quiet, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(untouched, images, strict=True))
    fields = {name: getattr(quiet, name).copy() for name in quiet.__dataclass_fields__}
    fields["sigma"][1], fields["gamma"][1] = 0.8, 1.4
    found = moreda.adjust(images, moreda.Draw(**fields), torch.Generator().manual_seed(0))
    expected = moreda.change_gamma(moreda.blur(images[1][None], np.array([[0.8]])), np.array([[1.4]]), inverted=False)[0]
    torch.testing.assert_close(found[1], expected)
    assert torch.equal(found[0], images[0])
    assert torch.equal(found[2], images[2])


# --------------------------------------------------------------------------------------------------------------------
# Batches


def volumes(*shapes: Grid, classes: int = 3) -> list[Volume]:
    made = []
    for seed, shape in enumerate(shapes):
        label = np.digitize(numbers(*shape, seed=seed), (0.15, 0.25, 0.3)[: classes - 1]).astype(np.uint8)
        made.append(make_volume(label[None].astype(np.float32), label, CPU))
    return made


def patches(size: Grid = (16, 16, 16), batch: int = 4, **values: object) -> Patch:
    return Patch.model_validate({"size": size, "batch": batch, "foreground": 0.33, "sampling": "nnunet"} | values)


def test_same_seed_and_step_same_bits_whatever_ran_before() -> None:
    everything = Augment.model_validate(
        R1 | {"family": "nnunet", "nnunet": {key: 1.0 if value == 0 else value for key, value in QUIET.items()}}
    )
    sources = volumes((40, 44, 36), (30, 50, 41))
    first = PatchSampler(sources, patches(), everything, 3)
    expected = first.batch(7)
    torch.rand(100)
    np.random.default_rng().random(3)
    again = PatchSampler(sources, patches(), everything, 3)
    for step in (0, 1, 99):
        again.batch(step)
    found = again.batch(7)
    assert torch.equal(found.image, expected.image)
    assert torch.equal(found.label, expected.label)
    assert not torch.equal(again.batch(8).image, expected.image)
    assert not torch.equal(PatchSampler(sources, patches(), everything, 4).batch(7).image, expected.image)
    assert found.image.dtype == torch.float32
    assert found.label.dtype == torch.uint8
    assert torch.isfinite(found.image).all()


def test_every_step_and_stage_has_noise_of_its_own() -> None:
    empty = make_volume(np.zeros((1, 24, 24, 24), np.float32), None, CPU)
    samplers = [kind([empty], patches(batch=1), family(noise=1.0), 0) for kind in (PatchSampler, GuidedSampler)]
    fields = [sampler.batch(step).image.ravel().numpy() for sampler in samplers for step in range(3)]
    assert np.abs(np.corrcoef(fields) - np.eye(6)).max() < 0.1


@pytest.mark.parametrize("size", [(16, 16, 16), (8, 30, 30), (48, 20, 20)])
def test_image_and_label_move_together(size: Grid) -> None:
    """The image is the label: linear and nearest agree to less than one class but at the borders; a shallow volume is padded."""
    sampler = PatchSampler(volumes((40, 44, 36), (30, 50, 41)), patches(size), family(rotate=1.0, scale=1.0, mirror=0.5), 0)
    plain = PatchSampler(volumes((40, 44, 36), (30, 50, 41)), patches(size), family(), 0)
    for step in range(4):
        batch = sampler.batch(step)
        assert batch.image.shape == (4, 1, *size)
        assert float(((batch.image[:, 0] - batch.label).abs() > 1).float().mean()) < 0.05
        assert float((batch.image[:, 0] == batch.label).float().mean()) > 0.5
        assert not torch.equal(batch.label, plain.batch(step).label)
    assert torch.equal(plain.batch(0).image[:, 0].to(torch.uint8), plain.batch(0).label)


def test_corners_of_turned_patches_are_real() -> None:
    """A volume of ones: in its middle no zero comes in from beyond the patch."""
    volume = make_volume(np.ones((1, 80, 80, 80), np.float32), np.pad(np.ones((1, 1, 1), np.uint8), ((40, 39),) * 3), CPU)
    sampler = PatchSampler([volume], patches((16, 16, 16), foreground=1.0), family(rotate=1.0, scale=1.0), 0)
    assert all(float(sampler.batch(step).image.min()) > 0.999 for step in range(10))


def test_last_patches_hold_foreground_of_every_class_alike() -> None:
    label = np.zeros((30, 30, 30), np.uint8)
    label[:10, :, :] = 1
    label[25, 25, 25] = 2
    volume = make_volume(label[None].astype(np.float32), label, CPU)
    sampler = PatchSampler([volume], patches((4, 4, 4), batch=2), family(), 0)
    batches = [sampler.batch(step).label for step in range(300)]
    rare = np.array([bool((batch[1] == 2).any()) for batch in batches])
    assert all(bool((batch[1] > 0).any()) for batch in batches)
    assert abs(rare.mean() - 0.5) < 0.12
    anywhere = np.array([bool((batch[0] == 1).any()) for batch in batches])
    assert abs(anywhere.mean() - 10 / 27) < 0.12, "first slices 0 to 9 of 27 reach class 1: no centre is asked of the others"


def test_patches_of_a_batch_from_one_volume() -> None:
    sources = [make_volume(np.full((1, 12, 12, 12), seed, np.float32), None, CPU) for seed in range(20)]
    quiet = Augment.model_validate(dict.fromkeys(R1, 0.0))
    together = PatchSampler(sources, patches((4, 4, 4), per_volume=2, sampling="centres"), quiet, 0)
    found = torch.stack([together.batch(step).image[:, 0, 0, 0, 0] for step in range(50)])
    assert torch.equal(found[:, 0], found[:, 1])
    assert torch.equal(found[:, 2], found[:, 3])
    assert float((found[:, 0] != found[:, 2]).float().mean()) > 0.8


def test_background_where_the_image_is_positive() -> None:
    image = np.zeros((1, 40, 40, 40), np.float32)
    image[0, 15:20, 15:20, 15:20] = 1
    volume = make_volume(image, None, CPU)
    quiet = Augment.model_validate(dict.fromkeys(R1, 0.0))
    chosen = patches((3, 3, 3), foreground=0.0, sampling="centres", background="positive")
    found = [float(x) for step in range(20) for x in PatchSampler([volume], chosen, quiet, 0).batch(step).image[:, 0, 1, 1, 1]]
    assert np.mean(found) > 0.05, "a five-hundredth of the voxels: most tries end without one"
    anywhere = PatchSampler([volume], chosen.model_copy(update={"background": "any"}), quiet, 0)
    assert np.mean([float(anywhere.batch(step).image.mean()) for step in range(20)]) < 0.05
