"""Dice + cross-entropy against MONAI and plain numpy; deep supervision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from torch import Tensor
from torch.nn import functional

from initbench.recipes.settings import Loss
from initbench.training.losses import deep_supervision_weights, dice_ce, supervised_loss

MONAI = Loss()
NNUNET = Loss(squared=False, background=False, smooth_nr=1e-5, smooth_dr=1e-5, deep_supervision=True)


def random_pair(classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, classes, 4, 5, 6, generator=generator, dtype=torch.float64)
    label = torch.randint(classes, (3, 4, 5, 6), generator=generator)
    label[0][label[0] == classes - 1] = 0  # a class that a sample lacks
    return logits.requires_grad_(), label


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("squared", [True, False])
def test_is_monai_in_value_and_gradient(classes: int, background: bool, batch: bool, squared: bool) -> None:
    logits, label = random_pair(classes)
    settings = Loss(background=background, batch_dice=batch, squared=squared)
    theirs = DiceCELoss(
        include_background=background,
        softmax=True,
        squared_pred=squared,
        batch=batch,
        smooth_nr=0.0,
        smooth_dr=1e-6,
    )
    # Their to_onehot_y makes single-precision targets, and squared roots of these are off by 1e-9.
    expected = theirs(logits, functional.one_hot(label, classes).movedim(-1, 1).double())
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    loss, parts = dice_ce(logits, label, settings)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-14)
    assert float(parts["dice"] + parts["ce"]) == pytest.approx(float(loss.detach()), rel=1e-12)
    assert not parts["dice"].requires_grad


def test_defaults_are_eq_11() -> None:
    assert (MONAI.squared, MONAI.background, MONAI.batch_dice) == (True, True, False)
    assert (MONAI.smooth_nr, MONAI.smooth_dr) == (0.0, 1e-6)


@pytest.mark.parametrize("batch", [True, False])
def test_nnunet_variant_in_plain_numpy(batch: bool) -> None:
    logits, label = random_pair()
    x, y = logits.detach().numpy(), label.numpy()
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    ce = -np.mean(np.log(np.take_along_axis(p, y[:, None], 1)))
    scores = []
    for group in [range(3)] if batch else [[n] for n in range(3)]:
        for k in (1, 2, 3):  # no background
            tp = sum(p[n, k][y[n] == k].sum() for n in group)
            fp = sum(p[n, k][y[n] != k].sum() for n in group)
            fn = sum((1 - p[n, k])[y[n] == k].sum() for n in group)
            scores.append((2 * tp + 1e-5) / (2 * tp + fp + fn + 1e-5))
    loss, parts = dice_ce(logits, label, NNUNET.model_copy(update={"batch_dice": batch}))
    assert float(parts["dice"]) == pytest.approx(1 - np.mean(scores), rel=1e-10)
    assert float(parts["ce"]) == pytest.approx(ce, rel=1e-10)
    assert float(loss.detach()) == pytest.approx(1 - np.mean(scores) + ce, rel=1e-10)


def test_half_precision_is_summed_in_single() -> None:
    logits, label = random_pair()
    half = logits.detach().to(torch.bfloat16)
    loss, _ = dice_ce(half, label, MONAI)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(dice_ce(half.double(), label, MONAI)[0]), rel=1e-5)


def slow(logits: Tensor, label: Tensor, settings: Loss) -> Tensor:
    """The loss by a one-hot label in floating point, as it was computed first."""
    target = functional.one_hot(label, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    log_probability = functional.log_softmax(logits, dim=1)
    probability = log_probability.exp()
    chosen = slice(0 if settings.background else 1, None)
    axes = (0, 2, 3, 4) if settings.batch_dice else (2, 3, 4)
    overlap = (probability[:, chosen] * target[:, chosen]).sum(axes)
    square = (probability.square() if settings.squared else probability)[:, chosen]
    total = target[:, chosen].sum(axes) + square.sum(axes)
    dice = (1 - (2 * overlap + settings.smooth_nr) / (total + settings.smooth_dr)).mean()
    return settings.dice_weight * dice + settings.ce_weight * -(target * log_probability).sum(1).mean()


@pytest.mark.parametrize("classes", [2, 14])
@pytest.mark.parametrize("settings", [MONAI, NNUNET], ids=["monai", "nnunet"])
def test_bits_are_those_of_the_slow_loss(classes: int, settings: Loss) -> None:
    """Of the loss and of its gradient."""
    logits = 3 * torch.randn(2, classes, 9, 17, 19, generator=torch.Generator().manual_seed(0))
    label = torch.randint(classes, (2, 9, 17, 19), generator=torch.Generator().manual_seed(1))
    one, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    expected, (found, _) = slow(one, label, settings), supervised_loss(other, label, settings)
    expected.backward()
    found.backward()
    assert torch.equal(found, expected)
    assert one.grad is not None
    assert other.grad is not None
    assert torch.equal(other.grad, one.grad)


def test_more_classes_than_a_byte_tells_apart() -> None:
    logits = torch.randn(1, 300, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    label = torch.randint(200, 300, (1, 4, 6, 8), generator=torch.Generator().manual_seed(1))
    assert torch.equal(supervised_loss([logits], label, MONAI)[0], slow(logits, label[:, ::2, ::2, ::2], MONAI))


def test_deep_supervision_weights() -> None:
    assert deep_supervision_weights(3) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert deep_supervision_weights(1) == [1.0]
    assert sum(deep_supervision_weights(5)) == pytest.approx(1)
    assert deep_supervision_weights(5, coarsest=False) == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15, 0])
    assert deep_supervision_weights(1, coarsest=False) == [1.0]


def test_the_coarsest_output_can_be_left_out() -> None:
    """As nnU-Net does: its head gets no gradient, and the others weigh more."""
    outputs = [torch.randn(1, 3, n, n, n, requires_grad=True) for n in (8, 4, 2)]
    label = torch.randint(0, 3, (1, 8, 8, 8))
    settings = NNUNET.model_copy(update={"coarsest": False})
    total, _ = supervised_loss(outputs, label, settings)
    fine, coarse = dice_ce(outputs[0], label, settings)[0], dice_ce(outputs[1], label[:, ::2, ::2, ::2], settings)[0]
    assert total.item() == pytest.approx((2 * fine.item() + coarse.item()) / 3)
    total.backward()
    assert [output.grad is not None for output in outputs] == [True, True, False]


def test_each_output_meets_the_label_on_its_own_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(3, (2, 8, 8, 8), generator=generator)
    outputs = [torch.randn(2, 3, *grid, generator=generator) for grid in ((8, 8, 8), (8, 4, 4), (4, 2, 2))]
    targets = [label, label[:, :, ::2, ::2], label[:, ::2, ::4, ::4]]
    singles = [dice_ce(output, target, NNUNET) for output, target in zip(outputs, targets, strict=True)]
    total, parts = supervised_loss(outputs, label, NNUNET)
    expected = sum(weight * float(single[0]) for weight, single in zip((4 / 7, 2 / 7, 1 / 7), singles, strict=True))
    assert float(total) == pytest.approx(expected, rel=1e-6)
    assert parts == singles[0][1], "the parts are those of the finest output"


def test_single_output_and_a_list_of_one_agree() -> None:
    logits, label = random_pair()
    assert supervised_loss([logits], label, MONAI)[0] == supervised_loss(logits, label, MONAI)[0]


def test_perfect_and_worst_prediction() -> None:
    _, label = random_pair()
    sure = 100 * functional.one_hot(label, 4).movedim(-1, 1).double()
    loss, parts = dice_ce(sure[1:], label[1:], MONAI)
    assert float(loss) == pytest.approx(0, abs=1e-6)
    assert float(dice_ce(sure.roll(1, 1), label, MONAI)[1]["dice"]) == pytest.approx(1, abs=1e-6)
    assert set(parts) == {"dice", "ce"}


def test_the_terms_have_weights() -> None:
    """TransUNet's loss: the Dice of each class over the batch, squares in the denominator, background among them."""
    logits, label = random_pair()
    settings = Loss(batch_dice=True, smooth_nr=1e-5, smooth_dr=1e-5, dice_weight=0.6, ce_weight=0.4)
    loss, _ = dice_ce(logits, label, settings)
    p = torch.softmax(logits, 1)
    terms = []
    for number in range(4):
        g = (label == number).double()
        terms.append(1 - (2 * (p[:, number] * g).sum() + 1e-5) / ((p[:, number] ** 2).sum() + (g * g).sum() + 1e-5))
    expected = 0.4 * functional.cross_entropy(logits, label) + 0.6 * sum(terms) / 4
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
