"""MedContext: worked cases, which tokens are hidden, what the teacher gets, and four planted faults."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from initbench import seeding
from initbench.errors import UsageError
from initbench.protocols import structure_of
from initbench.regimens import medcontext
from initbench.training.passes import Passes
from tests.networks import tiny
from tests.regimens.stages import small, stage, trained

Z_TEACHER, Z_STUDENT = (3.0, 4.0, 0.0, 0.0), (1.0, 4.0, 2.0, 0.0)


def logits(*samples: tuple[float, ...]) -> Tensor:
    return torch.tensor(samples, dtype=torch.float64)


# --- the consistency --------------------------------------------------------------------------------------------------


def check_norm_over_the_whole_batch() -> None:
    same = (0.0, 0.0, 0.0, 12.0)
    whole = medcontext.consistency(logits(Z_TEACHER, same), logits(Z_STUDENT, same))
    assert float(whole) == pytest.approx(1 / 13, abs=1e-15)


def test_the_worked_case() -> None:
    teacher, student = logits(Z_TEACHER).requires_grad_(), logits(Z_STUDENT).requires_grad_()
    found = medcontext.consistency(teacher, student)
    assert float(found.detach()) == pytest.approx(0.4, abs=1e-15)
    (0.5 * found).backward()
    assert student.grad is not None
    assert student.grad.tolist() == [pytest.approx([-0.1, 0, 0.1, 0], abs=1e-15)]
    assert teacher.grad is None
    assert 0.7 + 0.9 + 0.5 * float(found.detach()) == pytest.approx(1.8)
    assert float(medcontext.consistency(logits(Z_TEACHER), logits(Z_STUDENT), "mean")) == 2
    assert float(medcontext.consistency(logits(Z_TEACHER), logits(Z_STUDENT), "rms")) == pytest.approx(2 / 6.25)


def test_a_batch_of_two() -> None:
    check_norm_over_the_whole_batch()


def test_half_precision_is_summed_in_float32() -> None:
    many = torch.full((1, 2, 32, 32, 32), 300.0, dtype=torch.float16)
    assert float(medcontext.consistency(many, many + 1)) == pytest.approx(1 / (300 * math.sqrt(2**16)), rel=1e-3)


# --- the teacher ------------------------------------------------------------------------------------------------------


def check_the_teacher_follows_the_updated_student(task: Any) -> None:
    before = [parameter.detach().clone() for parameter in task.teacher.parameters()]
    trained(task, steps=4, until=1)
    for slow, fast, then in zip(task.teacher.parameters(), task.network.parameters(), before, strict=True):
        torch.testing.assert_close(slow.detach(), 0.996 * then + 0.004 * fast.detach(), rtol=0, atol=1e-7)
    fast, then = next(task.network.parameters()), before[0]
    assert not torch.equal(fast.detach(), then), "the student moves, or nothing is shown"


def one(value: float) -> torch.nn.Module:
    module = torch.nn.Linear(1, 1, bias=False).double()
    torch.nn.init.constant_(module.weight, value)
    return module


def test_the_average_by_hand() -> None:
    teacher = one(1)
    medcontext.update(teacher, one(3), 0.996)
    assert teacher.weight.item() == pytest.approx(1.008, abs=1e-15)
    medcontext.update(teacher, one(2), 0.996)
    assert teacher.weight.item() == pytest.approx(1.011968, abs=1e-15)
    medcontext.update(teacher, one(7), 1.0)
    assert teacher.weight.item() == pytest.approx(1.011968, abs=1e-15)
    medcontext.update(teacher, one(7), 0.0)
    assert teacher.weight.item() == 7


def test_the_published_schedule() -> None:
    ten = [0.996, 0.9960979, 0.996382, 0.9968244, 0.997382, 0.998, 0.998618, 0.9991756, 0.999618, 0.9999021]
    assert [medcontext.scheduled(step, 10) for step in range(10)] == pytest.approx(ten, abs=5e-8)
    unetr = [medcontext.scheduled(step, 90_000, 900) for step in (17, 899, 900, 45_000, 89_999)]
    assert unetr == pytest.approx([0.018834260289210234, 0.996, 0.996, 0.9979682680723304, 0.9999999999987568], abs=1e-13)
    nnformer = [medcontext.scheduled(step, 500_000, 5_000) for step in (0, 249, 5_000)]
    assert nnformer == pytest.approx([0, 0.04961072214442888, 0.996], abs=1e-13)


def test_the_released_schedules() -> None:
    unetr = [medcontext.released_unetr(step, 100) for step in range(40)]
    assert {step for step, momentum in enumerate(unetr) if momentum < 1} == {17, 35}
    assert unetr[17] == unetr[35] == pytest.approx(0.018834260289210234)
    nnformer = [medcontext.released_nnformer(step, 1000) for step in (0, 249, 250, 500)]
    assert nnformer == pytest.approx([0, 0.04961072214442888, 0, 0])


def test_the_teacher_is_updated_after_the_student() -> None:
    check_the_teacher_follows_the_updated_student(stage("medcontext", small()))


def test_the_teacher_gets_no_gradient_and_is_no_part_of_what_is_trained() -> None:
    model = small()
    task = stage("medcontext(norm=mean)", model)
    trained(task)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in task.teacher.parameters())
    own = {id(parameter) for parameter in model.parameters()} | {id(task.module.mask_token)}
    assert {id(parameter) for parameter in task.module.parameters()} == own
    assert model.state_dict().keys() == small().state_dict().keys(), "the token is dropped with the wrapper"
    assert not any(module._forward_hooks for module in model.modules())


def test_the_teacher_has_the_buffers_of_the_student() -> None:
    model = small()
    task = stage("medcontext", model)
    trained(task, until=2)
    assert task.teacher.norm.num_batches_tracked == model.norm.num_batches_tracked == 4, "two passes a step"
    assert torch.equal(task.teacher.norm.running_mean, model.norm.running_mean)
    assert not task.teacher.training
    assert stage("medcontext(teacher_mode=train)", small()).teacher.training


# --- what is hidden ---------------------------------------------------------------------------------------------------


def drawn(grid: tuple[int, int, int], ratio: float, **values: Any) -> Tensor:
    return medcontext.Hidden(grid, values.pop("cell", 1), ratio, **values).draw(seeding.rng(0, "regimen", "mask", 0))


def check_tube_along_the_depth() -> None:
    mask = drawn((3, 6, 6), 0.6)
    assert all(torch.equal(plane, mask[0]) for plane in mask)


def check_one_mask_for_the_batch(task: Any) -> None:
    """The same patch twice in a batch gives the same logits twice, where dropout is off."""
    task.network.eval()
    image = task.batch(0).image[:1].repeat(4, 1, 1, 1, 1)
    output = task.masked(image, task.hidden.draw(task.ctx.rng(0, "mask")))
    assert torch.equal(output, output[:1].expand_as(output))
    assert not torch.equal(output, task.network(image)), "something is hidden"


@pytest.mark.parametrize(
    ("grid", "ratio", "count"),
    [((6, 6, 6), 0.6, 21), ((32, 32, 32), 0.4, 409), ((14, 40, 40), 0.4, 640), ((32, 32, 32), 0.6, 614)],
)
def test_how_many_tokens_are_hidden(grid: tuple[int, int, int], ratio: float, count: int) -> None:
    mask = drawn(grid, ratio)
    assert mask.shape == grid
    assert mask.sum((1, 2)).tolist() == [count] * grid[0]


def test_the_tube_runs_along_the_depth() -> None:
    check_tube_along_the_depth()
    released = drawn((3, 6, 5), 0.6, tube="width")
    assert all(torch.equal(released[..., index], released[..., 0]) for index in range(5))
    assert int(released[..., 0].sum()) == int(0.6 * 18)


def test_squares_are_hidden_as_a_whole() -> None:
    mask = drawn((2, 8, 12), 0.5, cell=4)
    assert int(mask[0].sum()) == 3 * 16
    squares = mask[0].reshape(2, 4, 3, 4).sum((1, 3))
    assert set(squares.flatten().tolist()) == {0, 16}


def test_the_draw_is_a_function_of_seed_and_step() -> None:
    first, again, later = (stage("medcontext", small(seed)) for seed in (0, 1, 2))
    masks = [task.hidden.draw(task.ctx.rng(step, "mask")) for task, step in ((first, 3), (again, 3), (later, 4))]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_one_mask_for_a_batch() -> None:
    check_one_mask_for_the_batch(stage("medcontext", small()))


@pytest.mark.parametrize(
    "backbone",
    [
        "unetr",
        "unetr(variant=conv-xyz)",
        "swin-unetr",
        "swin-unetr(variant=default-xyz)",
        "unetrpp",
        "nnformer",
        "nnformer(variant=acdc)",
    ],
)
def test_the_hidden_tokens_are_where_the_mask_is(backbone: str) -> None:
    """A token of 1e3 in one row of the plane shows in that row of the tokens, in every slice, and nowhere else."""
    model = tiny(backbone).eval()
    tokens = structure_of(model).tokens
    assert tokens is not None
    d, h, w = tokens.grid
    hidden = torch.zeros(tokens.grid, dtype=torch.bool)
    hidden[:, 1, 2:] = True
    seen: list[Tensor] = []
    image = torch.randn(1, 1, *structure_of(model).patch_size)
    with torch.no_grad(), medcontext.hiding(model, tokens, hidden, torch.full((tokens.channels,), 1e3)):
        handle = model.get_submodule(tokens.module).register_forward_hook(lambda module, inputs, output: seen.append(output))
        model(image)
        handle.remove()
    [output] = seen
    channels_last = output[0] if tokens.layout == "NLC" else output[0].movedim(0, -1).flatten(0, 2)
    shape = (w, h, d) if tokens.axes == "WHD" else (d, h, w)
    found = (channels_last == 1e3).all(-1).reshape(shape)
    assert torch.equal(found.permute(2, 1, 0) if tokens.axes == "WHD" else found, hidden)


def test_the_image_is_masked_where_there_are_no_tokens() -> None:
    task = stage("medcontext(cell=4)", small(with_tokens=False))
    assert task.module.mask_token is None
    assert task.ctx.reported["mask_at"] == "image"
    image = task.batch(0).image
    seen: list[Tensor] = []
    handle = task.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    hidden = task.hidden.draw(task.ctx.rng(0, "mask"))
    task.masked(image, hidden)
    handle.remove()
    assert torch.equal(seen[0], torch.where(hidden, 0.0, image))


def test_the_skips_see_zeros_where_that_is_asked_for() -> None:
    task = stage("medcontext(mask_skip=image)", small())
    seen: list[Tensor] = []
    handle = task.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    hidden = task.hidden.draw(task.ctx.rng(0, "mask"))
    image = task.batch(0).image
    task.masked(image, hidden)
    handle.remove()
    zeros = torch.nn.functional.interpolate(hidden[None, None].float(), scale_factor=2)[0, 0].bool()
    assert torch.equal(seen[0] == 0, zeros.expand_as(image))


# --- what is the same as in plain training ----------------------------------------------------------------------------


class Nothing:
    """Hides nothing."""

    def draw(self, rng: np.random.Generator) -> Tensor:
        return torch.zeros((2, 4, 4), dtype=torch.bool)


def test_nothing_hidden_and_no_teacher_is_twice_the_plain_loss() -> None:
    models = [small(), small()]
    for model in models:
        model.drop.p = 0.0
    plain, double = stage("plain", models[0]), stage("medcontext(beta=0)", models[1])
    double.hidden = Nothing()
    once, twice = trained(plain, until=1), trained(double, until=1)
    assert twice.curve[0]["loss"] == 2 * once.curve[0]["loss"]
    assert double.module.mask_token is not None
    assert double.module.mask_token.grad is None or not double.module.mask_token.grad.any()
    start = small()
    for a, b, before in zip(models[0].parameters(), models[1].parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(b - before, 2 * (a - before), rtol=0, atol=1e-7)


def test_the_first_branch_is_plain_training() -> None:
    plain, masked = trained(stage("plain", small()), until=1), trained(stage("medcontext", small()), until=1)
    assert masked.curve[0]["sup"] == plain.curve[0]["loss"]
    row = masked.curve[0]
    assert row["loss"] == pytest.approx(row["sup"] + row["sup_masked"] + 0.5 * row["consistency"], rel=1e-6)
    assert row["ema_m"] == 0.996


@pytest.mark.parametrize(
    ("regimen", "units", "columns"),
    [
        ("plain", 3, {"dice", "ce"}),
        ("medcontext", 7, {"sup", "sup_masked", "consistency", "ema_m"}),
        ("medcontext(beta=0)", 6, {"sup", "sup_masked"}),
    ],
)
def test_passes_are_counted(regimen: str, units: int, columns: set[str]) -> None:
    model, passes = small(), Passes()
    with passes.watched(model):
        result = trained(stage(regimen, model), passes=passes)
    assert result.units == passes.units == 4 * units
    assert set(result.curve[0]) == {"step", "lr", "loss"} | columns


# --- as released ------------------------------------------------------------------------------------------------------


def test_as_released_follows_the_network() -> None:
    unetr = stage("medcontext-as-released", tiny("unetr"))
    assert (unetr.hidden.ratio, unetr.hidden.tube, unetr.settings.ema) == (0.6, "width", "released-unetr")
    assert unetr.teacher.training
    assert not unetr.settings.first_sample
    nnformer = stage("medcontext-as-released", tiny("nnformer(variant=acdc)"))
    assert (nnformer.hidden.ratio, nnformer.hidden.tube, nnformer.settings.beta) == (0.4, "depth", 0.5)
    assert nnformer.settings.first_sample
    same = (0.0, 0.0, 0.0, 12.0)
    pair = logits(Z_TEACHER, same), logits(Z_STUDENT, same)
    assert float(nnformer._consistency(*pair)) == pytest.approx(0.4, abs=1e-15)
    assert float(unetr._consistency(*pair)) == pytest.approx(1 / 13, abs=1e-15)
    with pytest.raises(UsageError, match="the release trains unetr and nnformer, and this is small"):
        stage("medcontext-as-released", small())


# --- what is said, and what is refused --------------------------------------------------------------------------------


def test_a_short_stage_says_that_the_teacher_hardly_moves() -> None:
    said = [stage("medcontext", small(), steps=steps).ctx.reported for steps in (249, 250)]
    assert said[0]["summary"].startswith(
        "the teacher is nearly the initial student: 61% of it after 249 steps, fewer than the 250"
    )
    assert said[1]["summary"] == ""
    assert (said[0]["ema_halflife_steps"], said[0]["hidden"]) == (173, "6 of 16")
    assert "ema_halflife_steps" not in stage("medcontext(beta=0)", small()).ctx.reported


@pytest.mark.parametrize(
    ("regimen", "says"),
    [
        ("medcontext(ratio=0)", "ratio=0: the share that is hidden lies between 0 and 1"),
        ("medcontext(ratio=1)", "ratio=1: the share that is hidden lies between 0 and 1"),
        ("medcontext(ratio=0.01)", "hides none of 16 squares; raise it to 0.062"),
        ("medcontext(cell=3)", "squares of 3 do not divide the plane of 4 × 4 that the mask is drawn on; cell= takes 1, 2, 4"),
        ("medcontext(beta=-1)", "beta=-1"),
        ("medcontext(norm=l3)", "norm='l3': it has to be 'l2', 'mean' or 'rms'"),
        ("medcontext(mask_ratio=0.4)", "medcontext takes no mask_ratio; its parameters: ratio=None, beta=0.5"),
        ("medcontex", "unknown regimen 'medcontex': did you mean medcontext"),
    ],
)
def test_bad_use_is_refused(regimen: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        stage(regimen, small())
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_without_tokens_is_refused_where_tokens_are_asked_for() -> None:
    with pytest.raises(UsageError, match="small declares no tokens to hide; mask_at=image hides parts of the image"):
        stage("medcontext(mask_at=tokens)", small(with_tokens=False))


# --- planted faults ---------------------------------------------------------------------------------------------------


def per_sample_norm(teacher: Tensor, student: Tensor, norm: str = "l2") -> Tensor:
    difference = (teacher - student).square().flatten(1)
    return (difference.mean(1) / teacher.flatten(1).norm(dim=1)).mean()


def along_the_width(plane: Tensor, grid: tuple[int, int, int], tube: str) -> Tensor:
    return plane[:3].unsqueeze(2).expand(grid)


def a_mask_for_each_sample(output: Tensor, hidden: Tensor, token: Tensor, tokens: Any) -> Tensor:
    draws = [hidden.roll(number, 2) for number in range(len(output))]
    return torch.where(torch.stack(draws)[:, None], token[:, None, None, None], output)


def updated_before(task: Any) -> None:
    losses = task.losses

    def early(batch: Any) -> Any:
        yield from losses(batch)
        medcontext.update(task.teacher, task.network, task.momentum(batch.step))

    task.losses, task.after_step = early, lambda step: None


def test_planted_faults_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def caught(name: str, fault: Any, check: Callable[[], None]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(medcontext, name, fault)
            with pytest.raises(AssertionError):
                check()

    caught("consistency", per_sample_norm, check_norm_over_the_whole_batch)
    caught("along", along_the_width, check_tube_along_the_depth)
    caught("swap", a_mask_for_each_sample, lambda: check_one_mask_for_the_batch(stage("medcontext", small())))
    task = stage("medcontext", small())
    updated_before(task)
    with pytest.raises(AssertionError):
        check_the_teacher_follows_the_updated_student(task)
