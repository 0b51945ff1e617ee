"""Sliding window against MONAI, the way back to the native grid, and the counts."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from monai.metrics import DiceMetric
from torch import Tensor, nn
from torch.nn import functional

from initbench.datasets.geometry import bind_axes
from initbench.datasets.msd import MsdDataset
from initbench.datasets.splits import automatic
from initbench.dice import Counts, case_dice, run_dice
from initbench.evaluation import metrics
from initbench.evaluation.evaluate import Evaluator, score_cases, score_empty
from initbench.evaluation.inference import importance, predict_probabilities, to_native, window_starts
from initbench.evaluation.metrics import count
from initbench.preprocessing.grids import HalfPixelGrid
from initbench.preprocessing.prepare import prepare
from initbench.preprocessing.preprocess import Placement
from initbench.protocols import Grid
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Inference, Preprocess
from tests.msd_factory import affine_of, make_msd

PATCH: Grid = (8, 10, 6)


class Windowed(nn.Module):
    """Sees where in the window it is, so that wrong windows and weights show."""

    def __init__(self, channels: int = 2, classes: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.convolution = nn.Conv3d(channels, classes, 3, padding=1)
        with torch.no_grad():
            for parameter in self.convolution.parameters():
                parameter.normal_(generator=generator)
        self.place = torch.randn(classes, *PATCH, generator=generator)
        self.largest = 0

    def forward(self, image: Tensor) -> Tensor:
        self.largest = max(self.largest, len(image))
        return self.convolution(image) + self.place


@pytest.mark.parametrize("blend", ["constant", "gaussian"])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.7])
@pytest.mark.parametrize("size", [(8, 10, 6), (19, 23, 17), (5, 7, 3), (5, 24, 6), (9, 11, 7)])
def test_is_monai(size: Grid, overlap: float, blend: Literal["constant", "gaussian"]) -> None:
    model = Windowed()
    image = torch.randn(2, *size, generator=torch.Generator().manual_seed(1))
    settings = Inference(overlap=overlap, blend=blend, batch=3)
    found = predict_probabilities(model, image, PATCH, settings, "float32")
    assert model.largest <= 3
    with torch.no_grad():
        expected = sliding_window_inference(image[None], PATCH, 1, lambda x: model(x).softmax(1), overlap=overlap, mode=blend)
    torch.testing.assert_close(found, expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.sum(0), torch.ones(size))


@pytest.mark.parametrize("backbone", ["unetr", "swin-unetr"])
@pytest.mark.parametrize("size", [(8, 10, 6), (19, 23, 17), (5, 7, 3), (5, 24, 6), (16, 20, 12)])
def test_logits_are_averaged_as_monai_does_where_the_recipe_says_so(size: Grid, backbone: str) -> None:
    """With windows that overlap by more than the recipe's, too; averaged probabilities would be other ones."""
    said = load_recipe("synapse", size="paper", backbone=backbone, budget="paper").inference
    model, image = Windowed(), torch.randn(2, *size, generator=torch.Generator().manual_seed(1))
    for overlap in (said.overlap, 0.7):
        settings = said.model_copy(update={"overlap": overlap})
        found = predict_probabilities(model, image, PATCH, settings, "float32")
        with torch.no_grad():
            expected = sliding_window_inference(image[None], PATCH, 3, model, overlap=overlap, mode=said.blend)[0].softmax(0)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        averaged = settings.model_copy(update={"average": "probabilities"})
        other = predict_probabilities(model, image, PATCH, averaged, "float32")
        several = any(edge > window for edge, window in zip(size, PATCH, strict=True))
        assert bool((found - other).abs().max() > 0.05) == several


@pytest.mark.parametrize("blend", ["constant", "gaussian"])
def test_windows_are_added_up_with_the_bits_of_the_slow_way(blend: Literal["constant", "gaussian"]) -> None:
    """One window after the other, each times its weights."""
    model, image = Windowed(), torch.randn(2, 19, 23, 17, generator=torch.Generator().manual_seed(1))
    settings = Inference(overlap=0.5, blend=blend, batch=1, average="logits")
    weight = importance(PATCH, blend, image.device)
    outputs: list[Tensor] = []
    total, norm = torch.zeros(3, *image.shape[1:]), torch.zeros(image.shape[1:])

    def noted(module: nn.Module, inputs: object, output: Tensor) -> None:
        outputs.append(output.clone())

    model.register_forward_hook(noted)
    found = predict_probabilities(model, image, PATCH, settings, "float32")
    starts = [window_starts(edge, window, 0.5) for edge, window in zip(image.shape[1:], PATCH, strict=True)]
    for start, output in zip(product(*starts), outputs, strict=True):
        window = tuple(slice(s, s + p) for s, p in zip(start, PATCH, strict=True))
        total[(slice(None), *window)] += output[0] * weight
        norm[window] += weight
    assert torch.equal(found, (total / norm).softmax(0))


def test_deep_supervision_gives_its_finest_output() -> None:
    class Deep(Windowed):
        def forward(self, image: Tensor) -> Tensor:
            return [super().forward(image), torch.full((1, 3, 1, 1, 1), math.nan)]  # type: ignore[return-value]

    image = torch.randn(2, *PATCH, generator=torch.Generator().manual_seed(1))
    settings = Inference(overlap=0.5, blend="constant", batch=1)
    expected = predict_probabilities(Windowed(), image, PATCH, settings, "float32")
    assert torch.equal(predict_probabilities(Deep(), image, PATCH, settings, "float32"), expected)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_mirrored_windows_are_averaged(average: Literal["logits", "probabilities"]) -> None:
    """On one window: the mean over the mirrored images, each mirrored back. A pointwise network sees no difference."""
    model, image = Windowed(), torch.randn(2, *PATCH, generator=torch.Generator().manual_seed(1))
    plain = Inference(overlap=0.5, blend="gaussian", batch=2, average=average)
    mirrored = plain.model_copy(update={"mirror": True})
    expected = torch.zeros(3, *PATCH)
    with torch.no_grad():
        for flips in product((False, True), repeat=3):
            axes = [axis for axis, flip in zip((-3, -2, -1), flips, strict=True) if flip]
            logits = model(image.flip(axes)[None])[0].flip(axes)
            expected += (logits if average == "logits" else logits.softmax(0)) / 8
    if average == "logits":
        expected = expected.softmax(0)
    found = predict_probabilities(model, image, PATCH, mirrored, "float32")
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, predict_probabilities(model, image, PATCH, plain, "float32"), atol=1e-2)
    large = torch.randn(2, 19, 23, 17, generator=torch.Generator().manual_seed(1))
    pointwise = nn.Conv3d(2, 3, 1)
    same = [predict_probabilities(pointwise, large, PATCH, settings, "float32") for settings in (plain, mirrored)]
    torch.testing.assert_close(*same)


def test_window_starts_by_hand() -> None:
    assert window_starts(8, 10, 0.5) == [0]
    assert window_starts(10, 10, 0.5) == [0]
    assert window_starts(22, 10, 0.5) == [0, 5, 10, 12]
    assert window_starts(20, 10, 0.0) == [0, 10]
    assert window_starts(4, 2, 0.99) == [0, 1, 2]


def placement(codes: str, shape: Grid, resampled: Grid | None = None) -> Placement:
    """Native array of 9 x 8 x 7 in some orientation, cropped to `shape` from voxel (1, 2, 1) on."""
    axes = bind_axes(affine_of(codes, (1, 1, 1), (9, 8, 7)), "z")
    (d, h, w) = shape
    return Placement((9, 8, 7), axes, ((1, 1 + d), (2, 2 + h), (1, 1 + w)), HalfPixelGrid(shape, resampled or shape))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL"])
def test_to_native_puts_every_label_back(codes: str) -> None:
    where = placement(codes, (4, 5, 3))
    native = np.random.default_rng(0).integers(0, 4, (9, 8, 7)).astype(np.uint8)
    outside = np.ones(where.axes.apply(native).shape, bool)
    outside[1:5, 2:7, 1:4] = False
    native[where.axes.invert(outside)] = 0
    cropped = where.axes.apply(native)[1:5, 2:7, 1:4]
    probabilities = functional.one_hot(torch.from_numpy(cropped.copy()).long(), 4).movedim(-1, 0).float()
    found = to_native(probabilities, where)
    assert found.dtype == np.uint8
    assert np.array_equal(found, native)


def test_to_native_resamples_probabilities_not_labels() -> None:
    where = placement("LPS", (6, 5, 4), (3, 7, 2))
    probabilities = torch.rand(5, 3, 7, 2, generator=torch.Generator().manual_seed(0)).softmax(0)
    fine = functional.interpolate(probabilities[None], size=(6, 5, 4), mode="trilinear", align_corners=False)[0]
    expected = np.zeros(where.axes.apply(np.zeros((9, 8, 7))).shape, np.uint8)
    expected[1:7, 2:7, 1:5] = fine.argmax(0).numpy()
    assert np.array_equal(to_native(probabilities, where), where.axes.invert(expected))


def test_a_tie_goes_to_the_lower_class() -> None:
    assert not to_native(torch.full((3, 4, 5, 3), 1 / 3), placement("RAS", (4, 5, 3))).any()


def test_counts_do_not_depend_on_how_many_voxels_are_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, prediction = np.random.default_rng(0).integers(0, 5, (2, 6, 7, 9)).astype(np.uint8)
    at_once = count(reference, prediction, 5)
    for block in (1, 100, 378):
        monkeypatch.setattr(metrics, "_BLOCK", block)
        assert count(reference, prediction, 5) == at_once


def test_counts_and_dice_against_numpy_and_monai() -> None:
    rng = np.random.default_rng(0)
    metric = DiceMetric(include_background=False, reduction="none", num_classes=5)
    for seed in range(4):
        reference, prediction = rng.integers(0, 5, (2, 6, 7, 8)).astype(np.uint8)
        if seed == 1:
            reference[reference == 3] = 0  # in the prediction only
        if seed == 2:
            prediction[prediction == 3] = 0  # in the reference only
        if seed == 3:
            reference[reference == 3] = prediction[prediction == 3] = 0
        counts = count(reference, prediction, 5)
        theirs = metric(torch.from_numpy(prediction)[None, None], torch.from_numpy(reference)[None, None])[0]
        for k, found in enumerate(counts, start=1):
            r, p = reference == k, prediction == k
            assert found == Counts(int((r & p).sum()), int((~r & p).sum()), int((r & ~p).sum()))
            assert found.dice == pytest.approx(float(theirs[k - 1]), nan_ok=True)
        assert math.isnan(counts[2].dice) == (seed in (1, 3))
        assert case_dice(counts) == pytest.approx(float(theirs.nanmean()))


def test_means_skip_what_is_not_scored() -> None:
    half, none, absent = Counts(1, 1, 1), Counts(0, 3, 2), Counts(0, 7, 0)
    assert half.dice == 0.5
    assert none.dice == 0
    assert math.isnan(absent.dice)
    assert case_dice([half, none, absent]) == 0.25
    assert math.isnan(case_dice([absent]))
    assert run_dice([[half, absent], [absent], [none, none]]) == 0.25
    assert math.isnan(run_dice([[absent]]))


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        count(np.zeros((2, 3, 4), np.uint8), np.zeros((2, 4, 3), np.uint8), 2)


class Threshold(nn.Module):
    """Class 1 above the middle of the window."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([torch.full_like(image, 0.5), image], 1) * 50


def test_a_network_that_knows_the_answer_scores_1(tmp_path: Path) -> None:
    folder = make_msd(tmp_path / "data", cases=5, orientations=("RAS", "LPS", "PIR", "SAL"))
    dataset = MsdDataset(folder)

    class Clean(MsdDataset):
        def load(self, case_id):  # type: ignore[no-untyped-def]
            case = dataset.load(case_id)
            return type(case)(case.id, case.label[None].astype(np.float32), case.label, case.affine)

        def digest(self, case_id: str) -> str:
            # The session's cache knows a case by it, and other tests make files of the same bytes.
            return f"clean {dataset.digest(case_id)}"

    settings = Preprocess(spacing="native", intensity="window", window=(0, 1), crop=False, image_order=1)
    prepared = prepare(Clean(folder), automatic(dataset.case_ids()), settings)
    inference = Inference(overlap=0.5, blend="gaussian", batch=2)
    evaluator = Evaluator(Threshold().train(), (6, 6, 6), inference, "float32", torch.device("cpu"))
    scored = list(score_cases(evaluator, prepared))
    assert [item.case.id for item in scored] == list(prepared.split.test)
    for item in scored:
        assert item.dice == 1.0
        assert np.array_equal(item.prediction, dataset.load(item.case.id).label)
    assert not evaluator.model.training
    assert [item.dice for item in score_empty(prepared)] == [0.0]
