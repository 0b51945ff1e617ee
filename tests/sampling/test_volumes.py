"""Patches against pad and slice, augmentation against plain numpy, and what the two samplers promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from initbench.errors import DataError
from initbench.protocols import Grid
from initbench.recipes.settings import Augment, Patch
from initbench.sampling import augment_monai as augment
from initbench.sampling.ahead import Ahead
from initbench.sampling.memory import BatchMemory
from initbench.sampling.samplers import PatchSampler, UnlabelledSampler, clamp_start
from initbench.sampling.volumes import Volume, cut, make_volume

CPU = torch.device("cpu")
NEVER = Augment(flip=0, rot90=0, scale_probability=0, scale_range=0, shift_probability=0, shift_range=0)
ALWAYS = Augment(flip=0.5, rot90=0.8, scale_probability=1, scale_range=0.3, shift_probability=1, shift_range=0.4)
MOVES = Augment(flip=0.5, rot90=0.8, scale_probability=0, scale_range=0, shift_probability=0, shift_range=0)


def numbered(shape: Grid, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """An image whose values say where they come from, with a label of a few voxels."""
    label = np.zeros(shape, np.uint8)
    rng = np.random.default_rng(seed)
    label.ravel()[rng.choice(label.size, max(3, label.size // 500), replace=False)] = 1
    return np.arange(1, label.size + 1, dtype=np.float32).reshape(1, *shape), label


def patch(size: Grid, batch: int = 4, foreground: float = 0.5) -> Patch:
    return Patch(size=size, batch=batch, foreground=foreground)


# --------------------------------------------------------------------------------------------------------------------
# Cutting


@pytest.mark.parametrize("size", [(6, 7, 8), (3, 9, 4), (1, 5, 5)])
@pytest.mark.parametrize("window", [(4, 4, 4), (6, 8, 5)])
def test_cut_is_pad_and_slice(size: Grid, window: Grid) -> None:
    volume = np.random.default_rng(0).random((2, *size))
    padded = np.pad(volume, ((0, 0), (9, 9), (9, 9), (9, 9)))
    for start in np.random.default_rng(1).integers(-3, 3, (40, 3)).tolist():
        if any(s + w <= 0 or s >= n for s, w, n in zip(start, window, size, strict=True)):
            continue  # not a voxel of the volume inside
        expected = padded[(slice(None), *(slice(s + 9, s + 9 + w) for s, w in zip(start, window, strict=True)))]
        assert np.array_equal(cut(torch.from_numpy(volume), start, window).numpy(), expected)


def test_clamp_start() -> None:
    for size in range(1, 30):
        for window in range(1, 30):
            for centre in range(size):
                start = clamp_start(centre, window, size)
                if size >= window:
                    assert 0 <= start <= size - window
                    assert start <= centre < start + window
                    middle = centre - window // 2
                    assert start == middle or start in (0, size - window)
                else:
                    before, after = -start, start + window - size
                    assert before + after == window - size
                    assert after - before in (0, 1)


# --------------------------------------------------------------------------------------------------------------------
# Augmentation


@pytest.mark.parametrize("turns", range(4))
def test_move_is_numpy(turns: int) -> None:
    volume = np.random.default_rng(0).random((2, 3, 4, 5))
    for bits in range(8):
        flips = np.array([bits & 1, bits & 2, bits & 4]) > 0
        expected = np.rot90(np.flip(volume, [1 + i for i in range(3) if flips[i]]), turns, (2, 3))
        assert np.array_equal(augment.move(torch.from_numpy(volume), augment.order_of(flips, turns)).numpy(), expected)


def test_adjust_is_numpy() -> None:
    rng = np.random.default_rng(0)
    images, scale, shift = rng.random((3, 2, 4, 4, 4)).astype(np.float32), rng.random(3), rng.random(3)
    expected = images * scale[:, None, None, None, None] + shift[:, None, None, None, None]
    np.testing.assert_allclose(augment.adjust(torch.from_numpy(images), scale, shift).numpy(), expected, rtol=1e-6)


def test_a_patch_is_placed_as_it_is_moved() -> None:
    """Into memory of a batch, out of a window of a larger volume."""
    whole = torch.randint(0, 9, (2, 7, 8, 9), dtype=torch.uint8)
    window = whole[:, 1:4, 2:7, 3:8]
    for bits in range(8):
        flips = np.array([bits & 1, bits & 2, bits & 4]) > 0
        for turns in range(4):
            order = augment.order_of(flips, turns)
            expected = augment.move(window, order)
            out = torch.full((3, *expected.shape), 99, dtype=torch.uint8)
            augment.place(out[1].numpy(), window.numpy(), order)
            assert torch.equal(out[1], expected)
            assert (out[::2] == 99).all()


def test_adjust_gives_the_bits_of_the_two_steps() -> None:
    """Also of -0, which a sum with 0 turns into 0 and a copy does not."""
    images = torch.randn(5, 1, 4, 4, 4)
    images[:, :, 0] = -0.0
    scale, shift = np.array([1, 1.1, 1, 0.9, 1]), np.array([0, 0, 0.3, -0.2, 0])
    steps = images * torch.tensor(scale).float().view(-1, 1, 1, 1, 1) + torch.tensor(shift).float().view(-1, 1, 1, 1, 1)
    found = augment.adjust(images.clone(), scale, shift)
    assert torch.equal(found.view(torch.int32), steps.view(torch.int32))
    images[:, :, 0] = 1.0
    again = augment.adjust(images.clone(), scale, shift, negative_zero=[False] * 5)
    assert torch.equal(again.view(torch.int32), augment.adjust(images, scale, shift).view(torch.int32))


def test_a_volume_says_whether_it_holds_negative_zeros() -> None:
    image, label = numbered((4, 5, 6))
    assert not make_volume(image, label, CPU).negative_zero
    image[0, 1, 2, 3] = 0.0
    assert not make_volume(image, label, CPU).negative_zero
    image[0, 1, 2, 3] = -0.0
    assert make_volume(image, label, CPU).negative_zero


# --------------------------------------------------------------------------------------------------------------------
# The memory of batches


def test_memory_of_a_batch_is_used_again_when_nobody_holds_it() -> None:
    memory = BatchMemory()
    first = memory.take(CPU, ((2, 3), torch.float32))[0]
    place = first.data_ptr()
    view = first[1:]
    del first
    other = memory.take(CPU, ((2, 3), torch.float32))[0]
    assert other.data_ptr() != place, "a view still holds it"
    del view
    assert memory.take(CPU, ((6,), torch.int32))[0].data_ptr() == place, "any shape and type of that size"


def test_what_autograd_keeps_is_not_handed_out() -> None:
    memory = BatchMemory()
    batch = memory.take(CPU, ((4,), torch.float32))[0].fill_(3.0)
    weight = torch.ones(4, requires_grad=True)
    loss = (weight * batch).sum()
    del batch
    memory.take(CPU, ((4,), torch.float32))[0].fill_(7.0)
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [3.0] * 4


def test_batches_that_are_kept_stay_as_they_are() -> None:
    chosen = sampler(volumes_of((20, 24, 16)), patch((8, 12, 12)), ALWAYS)
    kept = [chosen.batch(step) for step in range(3)]
    chosen.batch(3)
    for step, batch in enumerate(kept):
        again = chosen.batch(step)
        assert torch.equal(batch.image, again.image)
        assert torch.equal(batch.label, again.label)


# --------------------------------------------------------------------------------------------------------------------
# Made ahead


def test_batches_made_ahead_are_those_that_were_asked_for() -> None:
    made: list[tuple[int, int]] = []

    def make(step: int, slab: int) -> tuple[int, int]:
        made.append((step, slab))
        return step, slab

    ahead = Ahead(make)
    asked = [(0, 1), (1, 1), (2, 1), (7, 1), (8, 4), (9, 4), (9, 4)]
    assert [ahead.take(*one) for one in asked] == asked
    assert made[:3] == [(0, 1), (1, 1), (2, 1)], "the next one was begun when its turn had not come"
    assert ahead.take(10, 4) == (10, 4)


def test_an_error_of_a_batch_made_ahead_comes_when_it_is_taken() -> None:
    def make(step: int, slab: int) -> int:
        if step == 1:
            raise DataError("no such batch")
        return step

    ahead = Ahead(make)
    assert ahead.take(0) == 0
    with pytest.raises(DataError, match="no such batch"):
        ahead.take(1)


def test_draw_keeps_to_its_probabilities_and_ranges() -> None:
    number = 20_000
    settings = Augment(flip=0.2, rot90=0.3, scale_probability=0.1, scale_range=0.25, shift_probability=0.4, shift_range=0.5)
    drawn = augment.draw(np.random.default_rng(0), number, (8, 16, 16), settings)

    def close(share: float, probability: float) -> bool:
        return abs(share - probability) < 5 * math.sqrt(probability * (1 - probability) / number)

    assert all(close(share, 0.2) for share in drawn.flips.mean(axis=0))
    assert close(np.mean(drawn.turns > 0), 0.3)
    assert all(close(np.mean(drawn.turns == k), 0.1) for k in (1, 2, 3))
    assert close(np.mean(drawn.scale != 1), 0.1)
    assert close(np.mean(drawn.shift != 0), 0.4)
    assert 0.74 < drawn.scale.min() < 0.76 < 1.24 < drawn.scale.max() < 1.26
    assert -0.5 <= drawn.shift.min() < -0.49 < 0.49 < drawn.shift.max() <= 0.5


def test_draw_turns_oblong_patches_by_180_degrees_only() -> None:
    drawn = augment.draw(np.random.default_rng(0), 500, (16, 16, 8), ALWAYS, flip_depth=False)
    assert set(drawn.turns) == {0, 2}
    assert not drawn.flips[:, 0].any()
    assert drawn.flips[:, 1:].any(axis=0).all()


# --------------------------------------------------------------------------------------------------------------------
# The supervised sampler


def sampler(volumes: list[Volume], settings: Patch, augmentation: Augment = NEVER, root: int = 0) -> PatchSampler:
    return PatchSampler(volumes, settings, augmentation, root)


def volumes_of(*shapes: Grid) -> list[Volume]:
    return [make_volume(*numbered(shape, seed), CPU) for seed, shape in enumerate(shapes)]


def test_batch_is_a_function_of_seed_and_step() -> None:
    volumes, settings = volumes_of((20, 24, 16), (9, 30, 30)), patch((8, 12, 12))
    forwards = sampler(volumes, settings, ALWAYS)
    backwards = sampler(volumes, settings, ALWAYS)
    other = sampler(volumes, settings, ALWAYS, root=1)
    before = torch.get_rng_state()
    ahead = [forwards.batch(step) for step in range(5)]
    torch.manual_seed(3)
    behind = [backwards.batch(step) for step in reversed(range(5))][::-1]
    torch.set_rng_state(before)
    for step, (one, two) in enumerate(zip(ahead, behind, strict=True)):
        assert torch.equal(one.image, two.image)
        assert torch.equal(one.label, two.label)
        assert not torch.equal(one.image, other.batch(step).image)
    assert not torch.equal(ahead[0].image, ahead[1].image)


def test_image_and_label_move_together() -> None:
    image, label = numbered((20, 24, 16))
    volume = make_volume(label[None].astype(np.float32), label, CPU)
    batch = sampler([volume], patch((8, 12, 12), 8, 1.0), MOVES).batch(0)
    assert batch.image.dtype == torch.float32
    assert batch.label.dtype == torch.uint8
    assert batch.image.shape == (8, 1, 8, 12, 12)
    assert torch.equal(batch.image[:, 0], batch.label.float())
    assert image.shape[1:] == label.shape


@pytest.mark.parametrize("shape", [(20, 24, 16), (5, 24, 6)])
def test_positive_patch_holds_its_voxel(shape: Grid) -> None:
    volumes = volumes_of(shape)
    chosen = sampler(volumes, patch((8, 12, 12), 8, 1.0))
    for step in range(40):
        batch = chosen.batch(step)
        assert (batch.label.flatten(1).sum(1) > 0).all()


def test_share_of_positive_centres() -> None:
    """Patches of one voxel are their own centre."""
    for wanted in (0.0, 0.33, 0.5, 1.0):
        chosen = sampler(volumes_of((10, 12, 9), (8, 8, 8)), patch((1, 1, 1), 50, wanted))
        labels = torch.cat([chosen.batch(step).label.flatten() for step in range(40)])
        bound = 5 * math.sqrt(wanted * (1 - wanted) / labels.numel())
        assert abs(float(labels.float().mean()) - wanted) <= bound


def test_volumes_and_foreground_voxels_are_drawn_evenly() -> None:
    chosen = sampler(volumes_of((10, 10, 10), (20, 20, 20)), patch((1, 1, 1), 50, 1.0))
    values = torch.cat([chosen.batch(step).image.flatten() for step in range(40)])
    found, counts = values.unique(return_counts=True)
    small, large = (set((np.flatnonzero(v.host_label) + 1).tolist()) for v in volumes_of((10, 10, 10), (20, 20, 20)))
    assert set(found.int().tolist()) == small | large
    share = float(counts[[int(v) in small for v in found]].sum()) / values.numel()
    assert abs(share - 0.5) < 0.06 + 0.01 * len(small & large)


def test_a_volume_without_foreground_still_gives_patches() -> None:
    image, label = numbered((10, 12, 9))
    bare = make_volume(image, np.zeros_like(label), CPU)
    full = make_volume(image, np.ones_like(label), CPU)
    assert sampler([bare], patch((8, 8, 8), 4, 1.0)).batch(0).label.sum() == 0
    assert sampler([full], patch((8, 8, 8), 4, 0.0)).batch(0).label.min() == 1


# --------------------------------------------------------------------------------------------------------------------
# The unlabelled sampler


class Unread:
    """A label that nobody may look at."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the label was read: {name}")


def unlabelled(volumes: list[Volume], size: Grid, augmentation: Augment, batch: int = 6) -> UnlabelledSampler:
    return UnlabelledSampler(volumes, size, batch, augmentation, 0)


def blank(*shapes: Grid) -> list[Volume]:
    return [make_volume(np.ones((2, *shape), np.float32), None, CPU) for shape in shapes]


SIZES: list[Grid] = [(16, 12, 12), (8, 20, 12), (16, 12, 20)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("slab", [1, 2, 4])
def test_padding_is_where_the_mask_says(size: Grid, slab: int) -> None:
    chosen = unlabelled(blank((19, 7, 30), (11, 30, 9), (40, 5, 5)), size, MOVES)
    padded = 0
    for step in range(30):
        patches = chosen.batch(step, slab)
        inside = patches.inside_mask()
        assert inside.shape == (6, 1, *size)
        assert torch.equal(patches.image == 1, inside.expand_as(patches.image))
        padded += int((~inside).flatten(1).any(1).sum())
    assert padded > 90


@pytest.mark.parametrize("size", SIZES)
def test_padding_stays_zero_under_scale_and_shift(size: Grid) -> None:
    patches = unlabelled(blank((11, 9, 9)), size, ALWAYS).batch(0)
    inside = patches.inside_mask().expand_as(patches.image)
    assert (patches.image[~inside] == 0).all()
    for n in range(6):
        values = patches.image[n][inside[n]]
        assert values.min() == values.max() != 1


@pytest.mark.parametrize(("depth", "slab", "expected"), [(40, 4, 16), (16, 4, 16), (15, 4, 12), (9, 4, 8), (8, 4, 8), (5, 1, 5)])
def test_depth_inside_is_whole_slabs_from_the_first_slice(depth: int, slab: int, expected: int) -> None:
    for step in range(10):
        patches = unlabelled(blank((depth, 12, 12)), (16, 12, 12), ALWAYS).batch(step, slab)
        assert (patches.inside[:, 0] == (0, expected)).all()


def ramp(shape: Grid) -> Volume:
    values = np.arange(1, shape[0] + 1, dtype=np.float32)[:, None, None]
    return make_volume(np.broadcast_to(values, shape)[None].copy(), None, CPU)


def test_depth_is_never_flipped_and_every_start_comes() -> None:
    chosen, starts = unlabelled([ramp((12, 20, 20))], (8, 12, 12), MOVES), set()
    for step in range(60):
        along = chosen.batch(step).image[:, 0].mean((2, 3))
        assert torch.equal(along.diff(dim=1), torch.ones(6, 7))
        starts |= set(along[:, 0].int().tolist())
    assert starts == {1, 2, 3, 4, 5}


def test_in_plane_position_reaches_every_voxel() -> None:
    image = np.arange(20 * 18, dtype=np.float32).reshape(1, 1, 20, 18).repeat(8, axis=1)
    chosen = unlabelled([make_volume(image, None, CPU)], (8, 12, 12), NEVER)
    seen = {int(v) for step in range(60) for v in chosen.batch(step).image.unique()}
    assert seen == set(range(360))


def test_labels_are_never_read() -> None:
    volume = ramp((12, 20, 20))
    hidden = Volume(volume.image, Unread(), Unread(), volume.host_label)  # type: ignore[arg-type]
    expected = unlabelled([volume], (8, 12, 12), ALWAYS).batch(3, 4).image
    assert torch.equal(unlabelled([hidden], (8, 12, 12), ALWAYS).batch(3, 4).image, expected)
    labelled = Volume(volume.image, torch.ones(12, 20, 20), np.arange(5), np.ones((12, 20, 20), np.uint8))
    assert torch.equal(unlabelled([labelled], (8, 12, 12), ALWAYS).batch(3, 4).image, expected)


def test_unlabelled_batch_is_a_function_of_the_step() -> None:
    chosen = unlabelled([ramp((12, 20, 20))], (8, 12, 12), ALWAYS)
    first: Tensor = chosen.batch(7, 4).image
    chosen.batch(2, 1)
    assert torch.equal(chosen.batch(7, 4).image, first)
    assert not torch.equal(chosen.batch(8, 4).image, first)


def test_shallow_volumes_are_left_out_and_none_left_is_an_error() -> None:
    deep, shallow = ramp((8, 12, 12)), make_volume(np.full((1, 7, 12, 12), -5, np.float32), None, CPU)
    assert unlabelled([deep, shallow], (16, 12, 12), NEVER).batch(0, 4).image.min() >= 0
    assert unlabelled([deep, shallow], (16, 12, 12), NEVER, 40).batch(0, 1).image.min() == -5
    with pytest.raises(DataError, match=r"two slabs of 4 slices.*has 7 slices"):
        unlabelled([shallow], (16, 12, 12), NEVER).batch(0, 4)
