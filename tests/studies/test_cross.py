"""Every built-in init on every built-in backbone: what can run is known before the first step, and it is what runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from initbench import registry
from initbench.checkpoints.quiet_timm import import_timm
from initbench.cli.app import main
from initbench.harness import rehearsal
from initbench.harness.build import build_for
from initbench.harness.cell import Draft
from initbench.harness.rehearsal import Rehearsals
from initbench.harness.weights import save_weights
from initbench.runs.costs import Expected
from initbench.studies.forecast import plan_study
from initbench.studies.sweep import cross_requests
from tests.msd_factory import make_msd
from tests.networks import patch_of, tiny
from tests.runs_factory import LIGHT, OPTIONS, SMALL, TINY, as_flags, outcomes_of, record_of, run, run_one
from tests.shared_data import shared

BACKBONES = tuple(registry.names("backbone"))
DEPTHS = (24, 46, 36, 31, 40)
"""Slices of the shallowest and the deepest volume of the hippocampus, and of three between them."""
INITS = tuple(registry.names("initializer"))
WEIGHTS = ("checkpoint", "swin-ssl", "inflate-2d", "images")
"""Inits that bring weights in a file."""
NEVER = {
    ("lwi-as-released", "swin-unetr"): "LWI released code for unetr and unetrpp, not for swin-unetr",
    ("lwi-as-released", "nnformer"): "LWI released code for unetr and unetrpp, not for nnformer",
    ("lwi-as-released", "unet"): "LWI released code for unetr and unetrpp, not for unet",
    ("zero-residual", "unet"): "unet declares no exits of residual branches",
    ("zero-residual", "unet-2d"): "unet-2d declares no exits of residual branches",
}
OF_SLICES = ("unet-2d", "omnia-net", "transunet", "swin-unet", "missformer")
for network in (*OF_SLICES, "dx-net", "ds-net"):
    NEVER["lwi-as-released", network] = f"LWI released code for unetr and unetrpp, not for {network}"
for init, network in product(("order", "lwi", "shuffled(order)", "transfer(lwi, part='encoder')"), OF_SLICES):
    NEVER[init, network] = f"order prediction shuffles slabs along depth, and {network} sees one slice at a time"
"""The pairs that mean nothing, and what is said of them."""
ASKED = ("uniform", "xavier-uniform", "kaiming-normal", "trunc-normal", "mae", "tube", "order", "lwi")
"""The inits of the cross with which the project began; its backbones are the first four."""
TWO_STEPS = ("steps.smoke=2", "pretext.share=0.5", "patch.batch=1", "pretext.batch=1", "inference.overlap=0")

Pair = tuple[str, str]


def written(name: str) -> str:
    """A built-in init as it is asked for; some of them need another one inside."""
    return {"shuffled": "shuffled(order)", "transfer": "transfer(lwi, part=encoder)"}.get(name, name)


WITHOUT_FILES = tuple(written(name) for name in INITS if name not in WEIGHTS)


def plan(
    out: Path, inits: Iterable[str], dataset: str, backbones: Sequence[str] = BACKBONES, **options: Any
) -> dict[Pair, Expected]:
    """The runs of a cross by init and backbone, as `plan` looks at them."""
    requests = cross_requests(list(inits), list(backbones), dataset, out=out, **OPTIONS | options)
    pairs = [(str(request.init), str(request.backbone)) for request in requests]
    return dict(zip(pairs, plan_study(requests, "equal-total", timing="recorded").runs, strict=True))


def refusals(runs: dict[Pair, Expected]) -> dict[Pair, str]:
    """What is said of the runs that cannot be; asserts that all others can."""
    assert {run.state for run in runs.values()} <= {"new", "refused"}
    return {pair: run.message for pair, run in runs.items() if run.state == "refused"}


def check_never(found: dict[Pair, str]) -> None:
    """Asserts that what means nothing is refused, and nothing else."""
    assert found.keys() == NEVER.keys()
    for pair, said in NEVER.items():
        assert said in found[pair]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a made-up hippocampus: as deep as the real volumes, and narrow."""
    folder = tmp_path_factory.mktemp("msd")
    shapes = [(10, 12, depth) for depth in DEPTHS]
    make_msd(folder / "Task04_Hippocampus", len(DEPTHS), classes=3, modality="MRI", orientations=("RAS",), shapes=shapes)
    return folder


def test_every_init_runs_on_every_backbone_on_the_embedded_data_set(tmp_path: Path) -> None:
    check_never(refusals(plan(tmp_path, WITHOUT_FILES, "phantom-lung", folds=["1/20"], train_cases=[2])))


def test_every_init_runs_on_every_backbone_on_hippocampus(root: Path, tmp_path: Path) -> None:
    check_never(refusals(plan(tmp_path, WITHOUT_FILES, "hippocampus", data_root=root)))


def test_a_network_that_nothing_is_done_to_is_constructed_where_it_is_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What networks are made of takes seconds to import; a patch that does not fit is refused all the same."""
    constructed: list[str] = []

    def note(draft: Draft) -> nn.Module:
        constructed.append(draft.backbone.spec.name)
        return build_for(draft)

    monkeypatch.setattr(rehearsal, "build_for", note)
    assert refusals(plan(tmp_path, ["default"], str(data), ["unetr"], assignments=["patch.size=32,32,32"])) == {}
    odd = refusals(plan(tmp_path, ["default"], str(data), ["unetr"], assignments=["patch.size=31,32,32"]))
    assert "must be" in odd["default", "unetr"]
    assert constructed == []
    assert (
        refusals(plan(tmp_path, ["default", "kaiming-normal"], str(data), ["unetr"], assignments=["patch.size=32,32,32"])) == {}
    )
    assert constructed == ["unetr"]


@pytest.mark.full
@pytest.mark.parametrize("backbone", BACKBONES[:4])
@pytest.mark.parametrize("dataset", ["phantom-lung", "hippocampus"])
def test_the_cross_that_was_asked_for_runs(dataset: str, backbone: str, tmp_path: Path) -> None:
    """Two steps and the evaluation of two or three cases each, after all training cases were looked at."""
    options: dict[str, Any] = {"folds": ["1/20"]}
    if dataset == "hippocampus":
        options = {"folds": ["1/100"], "data_root": shared("data")}
    outcomes = outcomes_of(ASKED, backbone, dataset, out=tmp_path, assignments=TWO_STEPS, **OPTIONS | options)
    assert [(outcome.state, outcome.message) for outcome in outcomes if outcome.state != "ok"] == []
    assert len(outcomes) == len(ASKED)


@pytest.mark.full
def test_every_init_runs_on_every_backbone_on_the_real_hippocampus(tmp_path: Path) -> None:
    check_never(refusals(plan(tmp_path, WITHOUT_FILES, "hippocampus", data_root=shared("data"))))


def test_weights_in_files_are_tried_on_the_network_itself(root: Path, tmp_path: Path) -> None:
    weights, images = tmp_path / "weights.safetensors", tmp_path / "images.pt"
    save_weights(tiny("unetr", patch_size=(48, 64, 48)), weights, {"variant": "perceptron"})
    torch.save(import_timm().create_model("test_resnet", pretrained=False).state_dict(), images)
    given = {
        "checkpoint": f"checkpoint(path={str(weights)!r})",
        "swin-ssl": f"swin-ssl(path={str(weights)!r})",
        "inflate-2d": f"inflate-2d(path={str(images)!r}, source=test_resnet)",
        "images": f"images(path={str(images)!r}, source=test_resnet)",
    }
    found = refusals(plan(tmp_path, given.values(), "hippocampus", ("unetr", "swin-unetr", "nnformer"), data_root=root))
    told = {(init.partition("(")[0], backbone): message for (init, backbone), message in found.items()}
    assert told.keys() == {
        *(("checkpoint", name) for name in ("swin-unetr", "nnformer")),
        *(("swin-ssl", name) for name in ("unetr", "swin-unetr", "nnformer")),
        *(("images", name) for name in ("unetr", "swin-unetr", "nnformer")),
        ("inflate-2d", "nnformer"),
    }
    assert "less than the minimum of 50%" in told["checkpoint", "swin-unetr"]
    assert "take a source with 24 or more" in told["inflate-2d", "nnformer"]
    assert given.keys() == set(WEIGHTS)


RUNS: tuple[tuple[str, str, str], ...] = (
    ("order", "swin-unetr", ""),
    ("lwi", "swin-unetr", ""),
    ("order(taps=(3, 1))", "swin-unetr", ""),
    ("transfer(lwi, part=encoder)", "unet", ""),
    ("lwi-as-released", "unetrpp", ""),
    ("shuffled(tube)", "unetr", ""),
    ("lsuv", "unet", ""),
    ("order(taps=(2, 5))", "swin-unetr", "nothing to order: a patch of depth 32 leaves the tapped levels [8, 1] slices deep"),
    ("order(taps=(4,))", "swin-unetr", "two slabs of 16 slices inside a volume, and the deepest training volume has 31"),
    ("mae(mask_patch=7)", "unetr", "mask_patch 7 does not divide the patch (32, 16, 16); these do: 1, 2, 4, 8, 16"),
    ("shuffled(lwi(pool=width))", "nnformer", "does not divide into 4 slabs that way; pool=depth does"),
    ("zero-residual", "unet", "declares no exits"),
)
"""Twelve runs, and what is said of those that cannot be."""
SMALLER = {"unetr": (32, 16, 16), "unetrpp": (32, 32, 32), "unet": (32, 16, 16)}


@pytest.mark.parametrize(("init", "backbone", "said"), RUNS)
def test_what_a_plan_says_is_what_the_run_does(
    init: str, backbone: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that begins although it was refused ends by itself, with the same words."""
    shapes = [(10, 12, 24), (10, 12, 31), (10, 12, 28)]
    make_msd(tmp_path / "Task04_Hippocampus", 3, classes=3, modality="MRI", orientations=("RAS",), shapes=shapes)
    patch = "patch.size={},{},{}".format(*SMALLER.get(backbone, patch_of(backbone)))
    options: dict[str, Any] = {"data_root": tmp_path, "assignments": [*TWO_STEPS, patch, "pretext.mask_patch=4"]}
    planned = next(iter(plan(tmp_path / "runs", [init], "hippocampus", [backbone], **options).values()))
    monkeypatch.setattr(Rehearsals, "check", lambda self, cell: None)
    outcome = outcomes_of(init, backbone, "hippocampus", out=tmp_path / "runs", **OPTIONS | options)[0]
    assert (planned.state, outcome.state) == (("refused", "refused") if said else ("new", "ok")), outcome.message
    if said:
        assert said in planned.message
        assert outcome.message == planned.message


@pytest.mark.parametrize(
    ("init", "settings", "taps", "left_out"),
    [
        ("order", ["patch.size=8,16,16"], [1, 2], []),
        ("order", ["patch.size=4,16,16"], [1], [2]),
        ("lwi", ["patch.size=8,16,16", "pretext.taps=2"], [2], []),
        ("lwi", ["patch.size=8,16,16", "pretext.taps=2,1"], [2, 1], []),
        ("lwi(taps=(1,))", ["patch.size=8,16,16", "pretext.taps=2"], [1], []),
    ],
)
def test_levels_are_those_of_the_init_else_of_the_recipe_else_as_many_as_fit(
    init: str, settings: list[str], taps: list[int], left_out: list[int], data: Path, tmp_path: Path
) -> None:
    report = record_of(run_one(data, tmp_path, init, assignments=[*settings, "steps.smoke=2"]))["coverage"]["report"]
    assert (report["taps"], report["taps_left_out"]) == (taps, left_out)
    assert report["summary"].startswith(f"order of {report['slabs']} slabs of {report['slab_slices']} slices, asked on level")


def test_one_refusal_stops_a_study_before_its_first_step(data: Path, tmp_path: Path) -> None:
    outcomes = run(data, tmp_path, "default,mae(mask_patch=3)", seeds=2, placebo=False)
    assert [outcome.state for outcome in outcomes] == ["pending", "refused"] * 2
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_cannot_be_and_how_to_leave_it_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--dataset", str(data), "--out", str(tmp_path), *TINY, *as_flags(SMALL), "--set", "steps.smoke=2"]

    def ended(command: str, init: str, *more: str) -> tuple[Any, str]:
        with pytest.raises(SystemExit) as error:
            main([command, "--init", init, *asked, *more])
        return error.value.code, " ".join(capsys.readouterr().out.split())

    with pytest.raises(SystemExit):
        main(["run", "--init", "mae(mask_patch=3),mae(mask_patch=3,mask_ratio=0.5)", "--seeds", "2", *asked])
    one_reason = capsys.readouterr()
    assert one_reason.err == "error: mask_patch 3 does not divide the patch (8, 16, 16); these do: 1, 2, 4, 8\n"
    assert one_reason.out == ""
    two_reasons = ended("run", "mae(mask_patch=3),mae(mask_patch=5)")[1]
    assert two_reasons.endswith("2 of 2 runs cannot be, for the reasons above. Change them.")
    code, said = ended("run", "default,mae(mask_patch=3)")
    assert code == 2
    assert "mask_patch 3 does not divide the patch (8, 16, 16); these do: 1, 2, 4, 8" in said
    assert "Nothing was run: 1 of 2 runs cannot be" in said
    assert "--skip-refused" in said
    code, said = ended("plan", "default,mae(mask_patch=3)", "--no-measure", "--format", "json")
    stopped = [row for row in json.loads(said) if row["of"] == "run"]
    assert code == 2
    assert [row["state"] for row in stopped] == ["refused"]
    assert "these do: 1, 2, 4, 8" in stopped[0]["message"]
    code, said = ended("run", "default,mae(mask_patch=3)", "--skip-refused")
    assert code == 2
    assert "1 ok, 1 refused" in said


def test_plugins_are_tried_too_and_networks_stay_as_they_are(data: Path, tmp_path: Path) -> None:
    """What a plug-in does to its network is undone for the next init; it may ask for the depths before it asks for data."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from initbench.errors import UsageError\n"
        "def breaks(model, ctx):\n    del model.out\n    raise RuntimeError('of its own')\n"
        "def shallow(model, ctx):\n    model.out\n    raise UsageError(f'{min(ctx.depths)} slices')\n"
    )
    runs = plan(tmp_path, [f"{file}:breaks", f"{file}:shallow"], str(data), [LIGHT], assignments=SMALL)
    broken, shallow = runs.values()
    assert (broken.state, shallow.state) == ("new", "refused")
    assert re.fullmatch(r"\d+ slices", shallow.message)
