"""Controls and nested components: what they keep, what they destroy, and that the inner init has its own numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import initbench
from initbench.errors import UsageError
from initbench.harness import compose
from initbench.harness.execute import Outcome
from initbench.recipes.settings import Augment
from initbench.recipes.settings import Patch as PatchSettings
from initbench.registry import find
from initbench.runs import store
from initbench.sampling.samplers import GuidedSampler, PatchSampler
from initbench.sampling.volumes import make_volume
from initbench.spec import parse
from initbench.training.loop import learning_rate
from tests.runs_factory import record_of, run

ENCODER = ("stem", "deep")


def initial(data: Path, tmp: Path, init: str, seed: int = 0) -> dict[str, Tensor]:
    """Weights right after the init stage, of a run as `initbench run` does it."""
    seen: dict[str, Tensor] = {}

    def keep(model: torch.nn.Module, heads: tuple[str, ...], root: int) -> None:
        seen.update({key: value.detach().clone() for key, value in model.state_dict().items()})

    from initbench.harness import run as run_module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "redraw_heads", keep)
        assert run(data, tmp, init, seeds=[seed])[0].state == "ok"
    return seen


def record(outcome: Outcome) -> dict[str, Any]:
    return record_of(outcome.folder)


def test_shuffled_keeps_the_values_of_every_tensor_and_moves_them(data: Path, tmp_path: Path) -> None:
    plain = initial(data, tmp_path / "a", "lwi")
    mixed = initial(data, tmp_path / "b", "shuffled(lwi)")
    assert plain.keys() == mixed.keys()
    moved = 0
    for key, value in plain.items():
        if value.is_floating_point():
            assert torch.equal(value.flatten().sort()[0], mixed[key].flatten().sort()[0]), key
            moved += int(value.numel() > 4 and not torch.equal(value, mixed[key]))
    assert moved >= 4
    assert all(
        torch.equal(value, again)
        for value, again in zip(mixed.values(), initial(data, tmp_path / "c", "shuffled(lwi)").values(), strict=True)
    )


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_transfer_keeps_one_part(data: Path, tmp_path: Path, part: str) -> None:
    start, learned = initial(data, tmp_path / "a", "default"), initial(data, tmp_path / "b", "lwi")
    kept = initial(data, tmp_path / "c", f"transfer(lwi, part={part})")
    for key in start:
        inside = key.startswith(ENCODER) == (part == "encoder")
        assert torch.equal(kept[key], learned[key] if inside else start[key]), key
    assert any(not torch.equal(kept[key], start[key]) for key in start)


def test_the_placebo_is_another_draw_of_the_same_law(data: Path, tmp_path: Path) -> None:
    own, other = initial(data, tmp_path / "a", "default"), initial(data, tmp_path / "b", "default(construct=other)")
    third = initial(data, tmp_path / "c", "default(construct=third)")
    seed_one = initial(data, tmp_path / "d", "default", seed=1)
    key = "stem.weight"
    assert not torch.equal(own[key], other[key])
    assert not torch.equal(other[key], third[key])
    assert not torch.equal(other[key], seed_one[key])
    assert float(other[key].abs().max()) <= float(own[key][0].numel() ** -0.5)
    with pytest.raises(UsageError, match="with a registered backbone"):
        initbench.initialize(torch.nn.Linear(2, 2), "default(construct=other)")


def test_nested_runs_are_recorded_whole(data: Path, tmp_path: Path) -> None:
    outcomes = run(data, tmp_path, "shuffled(lwi(mask_ratio=0.5)),lwi(mask_ratio=0.5),shuffled(kaiming-normal)")
    assert [o.state for o in outcomes] == ["ok"] * 3
    resolved = [record(o)["resolved"] for o in outcomes]
    assert [r["init"] for r in resolved] == ["shuffled(lwi(mask_ratio=0.5))", "lwi(mask_ratio=0.5)", "shuffled(kaiming-normal)"]
    assert [r["learned"] for r in resolved] == [True, True, False]
    assert resolved[0]["init_params"]["of"]["init_params"]["mask_ratio"] == 0.5
    assert [record(o)["cost"]["init"]["steps"] for o in outcomes] == [2, 2, 0]
    assert len({record(o)["cell"] for o in outcomes}) == 3
    folder = outcomes[0].folder
    assert folder is not None
    assert load_file(folder / store.WEIGHTS)


def test_info_of_a_nested_component() -> None:
    assert compose.info(find("initializer", parse("shuffled(order)"))).learned
    assert not compose.info(find("initializer", parse("shuffled(default)"))).learned
    assert compose.info(find("initializer", parse("transfer(checkpoint(path=x), part=encoder)"))).external


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lwi(order)", "takes no other component in parentheses"),
        ("shuffled", "shuffled needs of"),
        ("shuffled(lwj)", "did you mean"),
        ("transfer(lwi)", "transfer needs part"),
        ("transfer(lwi, part=middle)", "part='middle': it has to be 'encoder' or 'decoder'"),
        ("shuffled(checkpoint(path=gone.pt))", "is no file"),
        ("lwi-as-released", "LWI released code for unetr and unetrpp, not for light"),
        ("lwi(schedule=cosine)", "schedule='cosine': it has to be 'recipe' or 'plateaus'"),
    ],
)
def test_what_makes_no_sense_is_refused(data: Path, tmp_path: Path, text: str, message: str) -> None:
    def refused() -> str:
        outcome = run(data, tmp_path, text)[0]
        assert outcome.state == "refused"
        raise UsageError(outcome.message)

    with pytest.raises(UsageError, match=re.escape(message)):
        refused()


def test_as_released_differs_from_lwi_in_what_it_says(data: Path, tmp_path: Path) -> None:
    """Crops, schedule and pool, each apart, give other weights."""
    out = {
        text: initial(data, tmp_path / str(i), text)["stem.weight"]
        for i, text in enumerate(("lwi", "lwi(crops=labels)", "lwi(pool=width)", "lwi(schedule=plateaus)"))
    }
    values = list(out.values())
    assert all(not torch.equal(values[i], values[j]) for i in range(4) for j in range(i))


def test_as_released_does_all_of_it(data: Path, tmp_path: Path) -> None:
    out = run(data, tmp_path, "lwi-as-released(pool=width, schedule=plateaus),lwi", seeds=[0])
    released, text = (record(o) for o in out)
    assert released["coverage"]["report"]["summary"] == (
        "as released: pool width, schedule plateaus, crops labels; order of 2 slabs of 4 slices, asked on levels 1, 2"
    )
    assert (released["coverage"]["read"], text["coverage"]["read"]) == (["images", "labels"], ["images"])
    rates = []
    for outcome in out:
        assert outcome.folder is not None
        curve = pd.read_csv(outcome.folder / store.CURVE)
        rates.append(curve[curve["stage"] == "pretext"]["lr"].tolist())
    assert rates[0][0] == 0 < rates[1][0]  # the first of its plateaus changes nothing


def test_guided_crops_hold_labelled_voxels_and_are_flipped_in_depth() -> None:
    label = np.zeros((24, 8, 8), np.uint8)
    label[20] = 1
    ramp = np.broadcast_to(np.arange(24, dtype=np.float32)[None, :, None, None], (1, 24, 8, 8)).copy()
    volume = make_volume(ramp, label, torch.device("cpu"))
    never = Augment(flip=0.5, rot90=0, scale_probability=0, scale_range=0, shift_probability=0, shift_range=0)
    guided = GuidedSampler([volume], PatchSettings(size=(8, 8, 8), batch=4, foreground=1.0), never, 0)
    batches = [guided.patches(step) for step in range(8)]
    images = torch.cat([batch.image for batch in batches])
    assert all(bool((image == 20).any()) for image in images)
    down = [bool(image[0, 0, 0, 0] > image[0, -1, 0, 0]) for image in images]
    assert any(down)
    assert not all(down)
    assert torch.equal(guided.patches(3).image, batches[3].image)
    supervised = PatchSampler([volume], PatchSettings(size=(8, 8, 8), batch=4, foreground=1.0), never, 0)
    assert not torch.equal(torch.cat([supervised.batch(step).image for step in range(8)]), images)


def test_plateaus_are_those_of_the_release() -> None:
    """Warm-up of 50 epochs from 0, stepped once per 100 of 800: epochs 700 to 799 have 7/49 of 1e-4."""
    from initbench.recipes.settings import Optimizer

    settings = Optimizer(name="adamw", lr=1e-4, weight_decay=0, schedule="plateaus", warmup=0.1)
    rates = [learning_rate(step, 800, settings) for step in range(800)]
    assert rates[:100] == [0.0] * 100
    assert rates[100] == pytest.approx(1e-4 / 49)
    assert max(rates) == rates[799] == pytest.approx(1.43e-5, rel=2e-3)
    assert len(set(rates)) == 8
    assert np.all(np.diff(rates) >= 0)


def test_plateaus_of_the_supervised_stage() -> None:
    """5000 epochs are 50 plateaus: nothing is learned on the first, the last has the whole rate; 4200 end at 41/49 of it."""
    from initbench.recipes.settings import Optimizer

    settings = Optimizer(name="adamw", lr=1e-4, weight_decay=0, schedule="plateaus", warmup=0.01, plateaus=50)
    rates = [learning_rate(step, 5000, settings) for step in range(5000)]
    assert rates[:100] == [0.0] * 100
    assert rates[-100:] == pytest.approx([1e-4] * 100)
    assert len(set(rates)) == 50
    shorter = settings.model_copy(update={"plateaus": 42})
    assert learning_rate(4199, 4200, shorter) == pytest.approx(8.4e-5, rel=0.01)
