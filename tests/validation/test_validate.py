"""The contract checks: built-in backbones keep every promise; toys that break one fail exactly the check that is about it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from initbench import registry
from initbench.catalog import BACKBONES
from initbench.cli.app import main
from initbench.errors import UsageError
from initbench.protocols import Grid, PatchRule
from initbench.spec import parse
from initbench.validation.backbones import suite
from initbench.validation.backbones import training as module
from initbench.validation.backbones.outputs import check_dimension
from initbench.validation.backbones.subject import Subject, default_patch, subjects
from initbench.validation.backbones.suite import validate
from initbench.validation.checks import BrokenPromiseError, Check

# The windows of this one make every check of the default patch take three times as long.
PATCHES: dict[str, Grid] = {"swin-unetr": (32, 64, 32)}

TOY = '''
"""A backbone of a few hundred parameters."""

import random

import torch
from torch import nn

from initbench.protocols import BackboneInfo, Level, PatchRule, Structure, backbone


class Toy(nn.Module):
    def __init__(self, channels, classes, patch, deep):
        super().__init__()
        self.deep = deep
        self.stem = nn.Conv3d(channels, 6, 2, stride=2)
        self.down = nn.Conv3d(6, 8, 2, stride=2)
        self.up = nn.ConvTranspose3d(8, 6, 2, stride=2)
        self.full = nn.ConvTranspose3d(6, 4, 2, stride=2)
        self.out = nn.Conv3d(4, classes, 1)
        self.aux = nn.Conv3d(6, classes, 1)
        half, quarter = (tuple(size // step for size in patch) for step in (2, 4))
        self.structure = Structure(
            patch_size=patch,
            levels=(Level("stem", half, 6), Level("down", quarter, 8)),
            heads=("out", "aux"),
            unused=() if deep else ("aux.weight", "aux.bias"),
        )

    def forward(self, x):
        fine = self.stem(x)
        joined = torch.tanh(self.up(torch.tanh(self.down(torch.tanh(fine)))) + fine)
        logits = self.out(torch.tanh(self.full(joined)))
        return [logits, self.aux(joined)] if self.deep else logits


INFO = BackboneInfo("none", "tests", "Apache-2.0", ("default",), {"default": PatchRule((4, 4, 4))})


@backbone(INFO)
def toy(in_channels, num_classes, patch_size, size, variant, deep_supervision):
    return Toy(in_channels, num_classes, patch_size, deep_supervision)
'''

# What is changed in the toy, and the checks that fail for it.
BROKEN: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "grid": ({'Level("down", quarter, 8)': 'Level("down", half, 8)'}, {"levels": r"level down gives \(8, 4, 5, 6\), declared"}),
    "swapped axes": (
        {'Level("stem", half, 6)': 'Level("stem", half[::-1], 6)'},
        {"levels": r"level stem gives \(6, 8, 10, 12\), declared \(6, 12, 10, 8\)"},
    ),
    "level channels": ({'Level("down", quarter, 8)': 'Level("down", quarter, 6)'}, {"levels": "level down gives"}),
    "layout": ({'Level("down", quarter, 8)': 'Level("down", quarter, 8, "NDHWC")'}, {"levels": "NDHWC"}),
    "level without module": ({'Level("down"': 'Level("bottom"'}, {"levels": "there is no module: bottom"}),
    "level order": (
        {'(Level("stem", half, 6), Level("down", quarter, 8))': '(Level("down", quarter, 8), Level("stem", half, 6))'},
        {"levels": "not listed shallow to deep"},
    ),
    "level not read": (
        {
            "self.deep = deep": "self.deep = deep; self.tap = nn.Identity()",
            "fine = self.stem(x)": "fine = self.stem(x); self.tap(fine)",
            'Level("stem"': 'Level("tap"',
        },
        {"levels": "nothing reads level tap"},
    ),
    "no levels": ({'levels=(Level("stem", half, 6), Level("down", quarter, 8))': "levels=()"}, {"levels": "empty"}),
    "unused undeclared": (
        {"self.deep = deep": "self.deep = deep; self.idle = nn.Conv3d(3, 3, 1)"},
        {"gradients": r"no gradient without deep supervision, and not in Structure.unused: idle.bias, idle.weight"},
    ),
    "gradient of zeros": (
        {
            "self.deep = deep": "self.deep = deep; self.scale = nn.Parameter(torch.ones(1))",
            "fine = self": "fine = 0 * self.scale + self",
        },
        {"gradients": "gradient zero for 8 steps without deep supervision: scale"},
    ),
    "unused in use": ({'"aux.weight", "aux': '"up.bias", "aux.weight", "aux'}, {"unused": "gets a gradient.*: up.bias"}),
    "unused unknown": ({'"aux.weight", "aux': '"void", "aux.weight", "aux'}, {"unused": "names no parameter: void"}),
    "head missing": ({'heads=("out", "aux")': 'heads=("aux",)'}, {"heads": "does not come from a declared head"}),
    "no heads": ({'heads=("out", "aux")': "heads=()"}, {"heads": "empty"}),
    "head that is none": ({'heads=("out", "aux")': 'heads=("out", "aux", "full")'}, {"heads": "5 channels: full"}),
    "tied head": (
        {"half, quarter": "self.late = nn.Module(); self.late.w = self.out.weight; half, quarter"},
        {"heads": "a head's parameter is also: late.w"},
    ),
    "output channels": (
        {"return [logits": "logits = logits[:, :4]; return [logits"},
        {"output": r"gives \(2, 4, 16, 20, 24\), not \(2, 5, 16, 20, 24\)", "deep supervision": "the first output: gives"},
    ),
    "one channel only": (
        {"x):\n": "x):\n        assert x.shape[1] == 1, 'one channel only'\n"},
        {"output": "AssertionError: one channel only"},
    ),
    "coarse output": (
        {"self.out(torch.tanh(self.full(joined)))": "self.out(torch.tanh(self.full(joined)))[..., ::2]"},
        {"output": r"gives \(2, 5, 16, 20, 12\)", "deep supervision": "the first output: gives"},
    ),
    "kept output": (
        {
            "return [logits": "logits = logits if torch.is_grad_enabled() else "
            "self.__dict__.setdefault('kept', logits.clone()).resize_(logits.shape).copy_(logits)\n        return [logits"
        },
        {"output": "keeps the memory of its output", "levels": "the output is the same without it"},
    ),
    "no list": (
        {"[logits, self.aux(joined)] if self.deep": "logits + self.aux(joined).mean() if self.deep"},
        {"deep supervision": "gives Tensor in evaluation, Tensor in training, not list"},
    ),
    "coarsest first": (
        {"[logits, self.aux(joined)]": "[self.aux(joined), logits]"},
        {"deep supervision": "the first output: gives"},
    ),
    "other output with supervision": (
        {"[logits, self.aux(joined)]": "[1.1 * logits, self.aux(joined)]"},
        {"deep supervision": "not the one without"},
    ),
    "bits from elsewhere": (
        {"self.deep = deep": "self.deep = deep; self.register_buffer('mark', torch.tensor(random.random()))"},
        {"construction": "two constructions from one seed differ"},
    ),
    "generator of its own": (
        {"half, quarter": "torch.manual_seed(0); [p.data.uniform_(-0.3, 0.3) for p in self.parameters()]; half, quarter"},
        {"construction": "another seed changes nothing"},
    ),
    "state outside the state dict": (
        {
            "self.deep = deep": "self.deep = deep; self.shift = torch.randn(1)",
            "fine = self.stem(x)": "fine = self.stem(x) + self.shift.to(x.device)",
        },
        {"state": "something that counts is not in it"},
    ),
    "random forward": (
        {"fine = self.stem(x)": "fine = self.stem(x) + 1e-6 * random.random()"},
        {"determinism": "two outputs for one image", "state": "the output differs"},
    ),
    "random gradient": (
        {"fine = self.stem(x)": "fine = self.stem(x); fine = fine + 0.01 * random.random() if self.training else fine"},
        {"determinism": "gradient differs from step to equal step"},
    ),
    "not finite in bfloat16": (
        {"fine = self.stem(x)": "fine = self.stem(x); fine = fine / (fine.dtype != torch.bfloat16)"},
        {"bf16": "gradient not finite: stem"},
    ),
    "reads values": (
        {"fine = self.stem(x)": "fine = self.stem(x); assert fine.sum().item() == fine.sum().item()"},
        {"memory": "RuntimeError|NotImplementedError"},
    ),
    "projection": ({"heads=(": "projections=('out.weight',), heads=("}, {"sites": "a projection is no matrix: out.weight"}),
    "exit": ({"heads=(": "residual_exits=('out.gain',), heads=("}, {"sites": "residual_exits names no parameter: out.gain"}),
    "patch of another network": (
        {"patch_size=patch": "patch_size=patch[::-1]"},
        {"constructs": r"structure.patch_size is \(24, 20, 16\), asked for \(16, 20, 24\)"},
    ),
    "no rule": (
        {'{"default": PatchRule((4, 4, 4))}': "{}"},
        {"declared": "no PatchRule for variant: default", "wrong patch": "no PatchRule"},
    ),
    "no source": ({'"tests"': '""'}, {"declared": "BackboneInfo leaves empty: source"}),
    "no structure": ({"self.structure": "self.other"}, {"constructs": "declares no `structure`"}),
}

UNDECORATED = (
    TOY.replace("@backbone(INFO)\n", "")
    .replace("def toy(", "def toy(*, ")
    .replace("deep_supervision):", "deep_supervision=False):")
)


def subject(folder: Path, source: str, **options: Any) -> Subject:
    file = folder / "toy.py"
    file.write_text(source)
    [found] = subjects(parse(f"{file}:toy"), **options)
    return found


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.passed}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("unetr", "unet", "unet-2d") else pytest.mark.full) for name in BACKBONES]
)
def test_built_in_backbones_keep_every_promise(name: str) -> None:
    first = subjects(parse(name), patch=PATCHES.get(name))[0]
    checks = validate(first)
    assert failed(checks) == {}
    assert [check.name for check in checks] == ["declared", "constructs", "wrong patch", "unknown variant", *suite.WITH_NETWORK]


def test_the_toy_keeps_every_promise(tmp_path: Path) -> None:
    assert failed(validate(subject(tmp_path, TOY))) == {}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_promise_fails_its_check_alone(tmp_path: Path, case: str) -> None:
    changes, expected = BROKEN[case]
    source = TOY
    for old, new in changes.items():
        assert old in source
        source = source.replace(old, new)
    found = failed(validate(subject(tmp_path, source)))
    assert found.keys() == expected.keys(), found
    for name, text in expected.items():
        assert re.search(text, found[name]), found[name]
        assert "\n" not in found[name]


SLICES = '''
"""Sees slices, and says so."""

from torch import nn

from initbench.backbones.slices import slice_by_slice
from initbench.protocols import BackboneInfo, Level, PatchRule, Structure, backbone

INFO = BackboneInfo(
    "none", "tests", "Apache-2.0", patches={"default": PatchRule((1, 4, 4), depth=1)}, dimension=2
)


class Flat(nn.Module):
    def __init__(self, channels, classes, patch):
        super().__init__()
        self.stem = nn.Conv2d(channels, 6, 3, padding=1)
        self.out = nn.Conv2d(6, classes, 1)
        self.structure = Structure(patch, (Level("stem", patch, 6, "NCHW"),), ("out",))

    def forward(self, x):
        return slice_by_slice(lambda slices: self.out(self.stem(slices).tanh()), x)


@backbone(INFO)
def toy(in_channels, num_classes, patch_size, size, variant, deep_supervision):
    return Flat(in_channels, num_classes, patch_size)
'''
NOT_OF_SLICES = {
    "no depth": ({", depth=1": ""}, "a patch of slices is .*depth=1.*: default"),
    "layout": ({', "NCHW"': ""}, "the layout of a level of slices is NCHW or NLC, and is not of: stem"),
    "neighbours": ({"self.out(self.stem(slices).tanh()), x": "self.out(self.stem(slices).tanh()), x + x.mean(2, True)"}, "alone"),
}


def test_a_network_of_slices_says_what_it_sees(tmp_path: Path) -> None:
    assert "slices along D" in check_dimension(subject(tmp_path, SLICES))


@pytest.mark.parametrize("case", NOT_OF_SLICES)
def test_what_is_no_network_of_slices_is_told(tmp_path: Path, case: str) -> None:
    changes, said = NOT_OF_SLICES[case]
    source = SLICES
    for old, new in changes.items():
        assert old in source
        source = source.replace(old, new)
    with pytest.raises(BrokenPromiseError, match=said):
        check_dimension(subject(tmp_path, source))


def test_the_catalog_says_what_a_backbone_sees() -> None:
    for name, entry in BACKBONES.items():
        assert registry.find("backbone", parse(name)).target.info.dimension == entry.dimension


def test_a_network_without_structure_is_not_checked_further(tmp_path: Path) -> None:
    checks = validate(subject(tmp_path, TOY.replace("self.structure", "self.other")))
    assert [check.name for check in checks] == ["declared", "constructs", "wrong patch", "unknown variant"]


def test_a_plain_function_is_told_what_it_lacks(tmp_path: Path) -> None:
    found = failed(validate(subject(tmp_path, UNDECORATED)))
    assert found.keys() == {"declared", "wrong patch", "unknown variant"}
    assert "it has no BackboneInfo: put @backbone(BackboneInfo(" in found["declared"]


def test_a_backbone_that_takes_wrong_patches_or_variants(tmp_path: Path) -> None:
    source = UNDECORATED + "\n\ntoy.info = INFO\n"
    found = failed(validate(subject(tmp_path, source)))
    assert found == {
        "wrong patch": "patch (17, 20, 24) was taken; the rule says a multiple of (4, 4, 4) (D, H, W)",
        "unknown variant": "variant 'no-such-variant' was taken",
    }


def test_a_gradient_may_begin_late_or_be_dropped(tmp_path: Path) -> None:
    """Behind a head of zeros nothing gets a gradient in the first step; stochastic depth silences a layer in most."""
    source = TOY.replace("half, quarter", "nn.init.zeros_(self.out.weight); self.drop = nn.Dropout3d(0.9); half, quarter")
    source = source.replace("self.up(torch", "self.drop(self.up(torch").replace("(fine)))) + fine", "(fine))))) + fine")
    assert failed(validate(subject(tmp_path, source))) == {}


def test_slow_networks_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)
    assert failed(validate(subject(tmp_path, TOY))).keys() == {"time"}
    assert failed(validate(subject(tmp_path, TOY, size="paper"))) == {}


def test_settings_of_the_process_come_back(tmp_path: Path) -> None:
    before = torch.get_rng_state(), torch.get_num_threads()
    validate(subject(tmp_path, TOY))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("rule", "patch"),
    [
        (PatchRule((4, 4, 4)), (16, 20, 24)),
        (PatchRule((16, 16, 16)), (32, 48, 64)),
        (PatchRule((16, 32, 32)), (32, 64, 96)),
        (PatchRule((32, 32, 32)), (32, 64, 96)),  # twice 32 would be 768 thousand voxels
        (PatchRule((4, 32, 32), remainder=(2, 0, 0), least=(6, 32, 32)), (18, 64, 96)),
        (PatchRule((1, 1, 1)), (16, 17, 18)),
    ],
)
def test_default_patches(rule: PatchRule, patch: Grid) -> None:
    assert default_patch(rule) == patch
    assert rule.at_least(patch) == patch


def test_all_variants_unless_one_is_named() -> None:
    assert [found.variant for found in subjects(parse("unetrpp"))] == ["synapse", "lung", "acdc", "tumor"]
    assert [found.variant for found in subjects(parse("unetrpp(variant=acdc)"))] == ["acdc"]
    with pytest.raises(UsageError, match="takes no depth; its parameters: variant=None"):
        subjects(parse("unetrpp(depth=3)"))
    with pytest.raises(UsageError, match="no variant 'liver'"):
        subjects(parse("unetrpp(variant=liver)"))


# --- command line -----------------------------------------------------------------------------------------------------


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        main(["validate", "backbone", *arguments])
        code: Any = 0
    except SystemExit as error:
        code = error.code or 0
    out, err = capsys.readouterr()
    return code, out, " ".join(err.split())


def test_the_command_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = subject(tmp_path, TOY).name
    code, out, _ = command(capsys, file, "--patch", "8,12,16", "--in-channels", "3")
    assert code == 0
    assert "patch (8, 12, 16)" in out
    assert "(2, 5, 8, 12, 16) from 3 channels" in " ".join(out.split())
    assert "all 19 checks passed" in out
    subject(tmp_path, TOY.replace('("out", "aux")', '("aux",)'))
    code, out, _ = command(capsys, file)
    assert code == 1
    assert "1 of 19 checks failed" in out
    assert re.search(r"heads +FAILED +with zeros in all heads", out)


def test_the_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, subject(tmp_path, TOY.replace("heads=(", "projections=('x',), heads=(")).name, "--json")
    [table] = json.loads(out)
    assert code == 1
    assert (table["variant"], table["size"], table["patch"]) == ("default", "tiny", [16, 20, 24])
    assert [check["name"] for check in table["checks"] if not check["passed"]] == ["sites"]
    assert set(table["checks"][0]) == {"name", "passed", "detail", "seconds"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["unett"], "unknown backbone 'unett': did you mean unet"),
        (["unetr(variant=large)"], "it has perceptron, conv"),
        (["unet", "--patch", "9,16,16"], "nearest valid: (8, 16, 16) or (12, 16, 16). Set it with --patch 12,16,16"),
        (["unet", "--patch", "16"], "write D,H,W, as in --patch 16,32,48"),
        (["unet", "--in-channels", "0"], "greater than or equal to 1"),
        (["./nowhere.py:net"], "there is no file"),
    ],
)
def test_wrong_requests_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    code, out, err = command(capsys, *arguments)
    assert (code, out) == (2, "")
    assert text in err
