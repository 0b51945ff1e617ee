"""The contract checks of initializers: built-in ones keep every promise; toys that break one fail exactly the check about it."""

from __future__ import annotations

import json
import random
import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from initbench import registry
from initbench.cli.app import main
from initbench.errors import InitbenchError, UsageError
from initbench.protocols import PatchRule
from initbench.spec import parse
from initbench.validation.backbones.subject import subjects
from initbench.validation.backbones.suite import validate
from initbench.validation.checks import Check
from initbench.validation.inits import probe, suite
from initbench.validation.inits.subject import BACKBONES, PROBE, InitSubject, init_subjects, network, small_patch
from initbench.validation.inits.suite import RefusedError, validate_init
from initbench.validation.inits.trials import trial, turn
from tests.inits import runnable

EVERYTHING = [*suite.FIRST_OF_ALL, *suite.NETWORK_KEPT, *suite.THE_REST]
NESTED = ["shuffled(lwi)", "shuffled(kaiming-normal)", "transfer(lwi, part=encoder)", "default(construct=other)", "zero-residual"]
INITS = [*runnable(), *NESTED]
OTHERS = ("swin-unetr", "nnformer", "unet", "unetrpp(variant=tumor)", "unetr(variant=conv)")
# Of the learned ones, which take longest, lwi alone on more than the probe.
QUICK = [
    (init, backbone)
    for init, backbone in product(INITS, BACKBONES)
    if backbone == PROBE or init == "lwi" or not init_subjects(parse(init), [PROBE])[0].info.learned
]

PLAIN = '''
"""An initializer of one's own."""

import os
import random

import numpy as np
import torch
from torch import nn

from initbench.protocols import initializer

CALLS = []


def drawn(model, ctx, *, std=0.1):
    for site in ctx.sites:
        if site.role in ("linear", "conv", "transposed-conv", "projection"):
            model.get_parameter(site.name).data.normal_(0, 0.1, generator=ctx.generator(site.name))
    layer = model.attention.keys
    # here
'''

LEARNED = '''
"""A learned one."""

import torch
from torch import nn

from initbench.protocols import initializer


class Same:
    """The mean of the outputs of a batch."""

    def __init__(self, model, ctx):
        self.module, self.ctx = model, ctx

    def batch(self, step):
        return self.ctx.patches(step)

    def loss(self, batch):
        return self.module(batch.image).square().mean(), {}


@initializer(learned=True)
def drawn(model, ctx):
    ctx.fit(Same(model, ctx))
    # here
'''

# What is added to a sound initializer, the check that fails for it, and what it says.
BROKEN: dict[str, tuple[str, str, str, str]] = {
    "reads torch's generator": (
        PLAIN,
        "with torch.random.fork_rng(devices=[]): layer.weight.data.normal_()",
        "generators",
        "it reads a global generator.*: attention.keys.weight, attention.values.weight",
    ),
    "reads numpy's": (
        PLAIN,
        "state = np.random.get_state(); layer.weight.data.fill_(np.random.rand()); np.random.set_state(state)",
        "generators",
        "it reads a global generator",
    ),
    "moves torch's generator": (PLAIN, "torch.rand(1)", "generators", "it moves the global generator of: torch"),
    "moves numpy's and Python's": (
        PLAIN,
        "np.random.seed(0); random.random()",
        "generators",
        "it moves the global generator of: numpy, random",
    ),
    "a generator for all": (
        PLAIN,
        "g = ctx.generator('all'); [model.get_parameter(s.name).data.normal_(0, 0.1, generator=g) for s in ctx.sites]",
        "order",
        r"the order of visits decides .*: attention\.EF, ",
    ),
    "a generator for all modules": (
        PLAIN,
        "g = ctx.generator('all'); [m.weight.data.normal_(generator=g) for m in model.modules() if isinstance(m, nn.Conv3d)]",
        "order",
        "the order of visits decides .*: down.weight, grouped.weight, stem.weight",
    ),
    "numbers of the system": (
        PLAIN,
        "layer.weight.data.fill_(int.from_bytes(os.urandom(3)) / 2**24)",
        "same bits",
        "two calls with one seed differ.*: attention.keys.weight",
    ),
    "remembers calls": (PLAIN, "CALLS.append(1); layer.bias.data.fill_(len(CALLS))", "same bits", ": attention.keys.bias"),
    "unties": (
        PLAIN,
        "layer.weight = nn.Parameter(layer.weight.detach().clone())",
        "ties",
        "it unties: attention.keys.weight = attention.values.weight",
    ),
    "ties": (PLAIN, "layer.bias = model.attention.queries.bias", "ties", "it ties: .*keys.bias = attention.queries.bias"),
    "freezes": (PLAIN, "layer.bias.requires_grad_(False)", "requires_grad", "it freezes: attention.keys.bias"),
    "unfreezes": (PLAIN, "model.requires_grad_(True)", "requires_grad", "it unfreezes: frozen"),
    "changes a shape": (
        PLAIN,
        "model.scale = nn.Parameter(torch.ones(1))",
        "shapes",
        r"it changes: scale \(8,\) float32 to \(1,\) float32",
    ),
    "changes a dtype": (
        PLAIN,
        "layer.bias.data = layer.bias.data.double()",
        "shapes",
        r"keys.bias \(8,\) float32 to \(8,\) float64",
    ),
    "leaves a parameter elsewhere": (
        PLAIN,
        "model.scale = nn.Parameter(model.scale.to('meta'))",
        "device",
        r"not on the CPU: scale \(meta\)",
    ),
    "leaves a buffer elsewhere": (PLAIN, "model.order = model.order.to('meta')", "device", r"not on the CPU: order \(meta\)"),
    "leaves a hook": (
        PLAIN,
        "layer.register_forward_hook(lambda module, inputs, output: None)",
        "hooks",
        "left on, or taken off: attention.keys",
    ),
    "leaves a hook on a parameter": (PLAIN, "layer.bias.register_hook(lambda g: g)", "hooks", "taken off: attention.keys.bias"),
    "replaces a forward": (PLAIN, "layer.forward = layer.forward", "hooks", "taken off: attention.keys"),
    "adds a module": (PLAIN, "model.extra = nn.Identity()", "modules", "it adds module: extra"),
    "removes a module": (PLAIN, "del model.aux", "modules", "it removes module: aux"),
    "replaces a module": (PLAIN, "model.drop = nn.Identity()", "modules", "of another class in the place of: drop"),
    "adds a parameter": (PLAIN, "model.gain = nn.Parameter(torch.ones(1))", "modules", "it adds parameter or buffer: gain"),
    "leaves NaN": (PLAIN, "layer.weight.data[0, 0] = float('nan')", "finite", "not finite: attention.keys.weight"),
    "leaves infinity in a buffer": (PLAIN, "model.norm.running_var.fill_(torch.inf)", "finite", "not finite: norm.running_var"),
    "leaves evaluation mode": (PLAIN, "layer.eval()", "modes", "left in evaluation mode: attention.keys"),
    "changes statistics": (PLAIN, "model.norm.running_mean.add_(1)", "buffers", "without learning it changes: norm.running_mean"),
    "changes another buffer": (LEARNED, "model.order.copy_(model.order.flip(0))", "buffers", "no statistic of a norm: order"),
    "trains twice": (LEARNED, "ctx.fit(Same(model, ctx))", "budget", "8 steps in 2 calls of ctx.fit; its budget is 4"),
    "trains outside": (
        LEARNED,
        "o = torch.optim.SGD(model.parameters(), lr=0.1); [o.step() for _ in range(3)]",
        "budget",
        "3 optimizer steps outside ctx.fit",
    ),
    "explodes": (PLAIN, "layer.weight.data.fill_(1e30); model.up.weight.data.fill_(1e30)", "signal", "the loss is|gradient not"),
    "fails": (PLAIN, "raise KeyError('stem.kernel')", "runs", "KeyError: 'stem.kernel'"),
}


def broken(case: str) -> str:
    source, line, _, _ = BROKEN[case]
    return source.replace("# here", line)


def subject(folder: Path, source: str, backbone: str = PROBE) -> InitSubject:
    file = folder / "mine.py"
    file.write_text(source)
    return init_subjects(parse(f"{file}:drawn"), [backbone])[0]


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.passed}


def said(checks: list[Check]) -> dict[str, str]:
    """What all the checks say, which all pass."""
    assert failed(checks) == {}
    assert [check.name for check in checks] == EVERYTHING
    return {check.name: check.detail for check in checks}


@pytest.mark.parametrize(("init", "backbone"), QUICK)
def test_built_in_inits_keep_every_promise(init: str, backbone: str) -> None:
    said(validate_init(init_subjects(parse(init), [backbone], steps=2)[0]))


@pytest.mark.full
@pytest.mark.parametrize(("init", "backbone"), sorted(set(product(INITS, [*BACKBONES, *OTHERS])) - set(QUICK)))
def test_built_in_inits_keep_every_promise_everywhere(init: str, backbone: str) -> None:
    found = init_subjects(parse(init), [backbone], steps=2)[0]
    if (init, backbone) == ("zero-residual", "unet"):
        with pytest.raises(RefusedError, match="declares no exits"):
            validate_init(found)
        return
    said(validate_init(found))


def test_what_the_release_did_is_refused_where_it_says_nothing() -> None:
    own, unetr, _ = init_subjects(parse("lwi-as-released"), steps=2)
    with pytest.raises(RefusedError, match="for unetr and unetrpp, not for probe"):
        validate_init(own)
    assert said(validate_init(unetr))["budget"] == "2 of 2 steps, 4 patches; of the training cases it read images and labels"


@pytest.mark.parametrize("source", [PLAIN, LEARNED])
def test_the_toys_keep_every_promise(tmp_path: Path, source: str) -> None:
    said(validate_init(subject(tmp_path, source)))


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_promise_fails_its_check_alone(tmp_path: Path, case: str) -> None:
    _, _, name, text = BROKEN[case]
    found = failed(validate_init(subject(tmp_path, broken(case))))
    assert found.keys() == {name}, found
    assert re.search(text, found[name]), found[name]
    assert "\n" not in found[name]


def test_what_cannot_be_told_is_not_called_kept(tmp_path: Path) -> None:
    checks = {check.name: check for check in validate_init(subject(tmp_path, broken("remembers calls")))}
    assert checks["generators"].detail.endswith("whether they are read cannot be told where no two calls agree")
    assert checks["order"].detail == "cannot be told where the numbers follow the call"
    naive = "[nn.init.normal_(p.data) for p in model.parameters()]"
    checks = {check.name: check for check in validate_init(subject(tmp_path, PLAIN.replace("# here", naive)))}
    assert [check.name for check in checks.values() if not check.passed] == ["generators"]
    assert checks["order"].detail == "cannot be told where the numbers follow the generators"


def test_every_check_that_can_fail_is_seen_to_fail() -> None:
    """`heads` and `norms and tables` only report; the others of `apart` fail in tests of their own."""
    seen = {name for _, _, name, _ in BROKEN.values()}
    apart = {"declared", "unknown parameter", "another seed", "coverage", "heads", "norms and tables"}
    assert seen | apart == set(EVERYTHING)
    assert not seen & apart


def test_where_a_run_would_stop_nothing_more_is_looked_at(tmp_path: Path) -> None:
    checks = validate_init(subject(tmp_path, broken("freezes")))
    assert [check.name for check in checks] == [*suite.FIRST_OF_ALL, *suite.NETWORK_KEPT]
    checks = validate_init(subject(tmp_path, broken("fails")))
    assert [check.name for check in checks] == [*suite.FIRST_OF_ALL]


def test_what_stops_a_run_fails_a_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the harness come to refuse more than the checks look for."""
    for check in suite.NETWORK_KEPT:
        monkeypatch.setitem(suite.NETWORK_KEPT, check, lambda subject: "")
    found = failed(validate_init(subject(tmp_path, broken("freezes"))))
    assert found.keys() == {"coverage"}
    assert "changed the shape, dtype or requires_grad of attention.keys.bias" in found["coverage"]


def test_new_objects_with_the_same_ties_are_a_remark(tmp_path: Path) -> None:
    source = PLAIN.replace("# here", "model.scale = nn.Parameter(model.scale.detach().clone())")
    found = said(validate_init(subject(tmp_path, source)))
    assert found["ties"] == "1 under several names; new objects, which values in place would not need: scale"


def test_a_learned_init_must_follow_its_seed(tmp_path: Path) -> None:
    source = LEARNED.replace("# here", "[p.data.fill_(0.1) for p in model.parameters()]; model.norm.reset_running_stats()")
    found = failed(validate_init(subject(tmp_path, source)))
    assert list(found) == ["another seed"]
    assert "another seed changes nothing, though it learns" in found["another seed"]


def test_what_draws_nothing_is_no_failure(tmp_path: Path) -> None:
    source = PLAIN.replace("# here", "[p.data.fill_(0.1) for p in model.parameters()]")
    found = said(validate_init(subject(tmp_path, source)))
    assert found["another seed"] == "deterministic: another seed changes nothing"
    assert found["heads"] == "changed: out.1.weight, out.1.bias, aux.weight, aux.bias; the harness redraws them"
    assert re.match(r"changed, which is right where .*: position, ", found["norms and tables"])
    nothing = said(validate_init(init_subjects(parse("default"), [PROBE])[0]))
    assert nothing["another seed"] == "nothing to draw: it changes nothing"
    assert nothing["coverage"] == "changes nothing: the network as constructed"
    assert nothing["norms and tables"] == "left alone"


def test_what_a_learned_init_leaves_is_told() -> None:
    found = said(validate_init(init_subjects(parse("mae"), [PROBE])[0]))
    assert (
        found["buffers"] == "running statistics of norms changed: norm.num_batches_tracked, norm.running_mean, norm.running_var"
    )
    assert found["budget"] == "4 of 4 steps, 8 patches; of the training cases it read images"
    assert found["requires_grad"] == "1 frozen, as before"
    assert found["ties"] == "1 under several names"
    assert found["heads"] == "left to the harness, which redraws them"
    assert "frozen 0%, stem 100%" in found["coverage"]


def test_patches_without_training_are_told() -> None:
    found = said(validate_init(init_subjects(parse("lsuv"), [PROBE])[0]))
    assert found["budget"] == "no steps; of the training cases it read images"
    assert re.match(r"it says: \d+ layers have output variance 1", found["runs"])


# --- declaration ------------------------------------------------------------------------------------------------------


def test_a_plain_function_is_told_what_it_is_taken_for(tmp_path: Path) -> None:
    found = said(validate_init(subject(tmp_path, PLAIN)))
    assert found["declared"] == "a plain function, taken as not learned: @initializer(...) says more; parameters: std=0.1"


@pytest.mark.parametrize(
    ("change", "check", "text"),
    [
        (("std=0.1)", "std=0.1, law=torch.zeros)"), "declared", "the default cannot be written as a literal: law"),
        (("std=0.1)", "std=float('inf'))"), "declared", "cannot be written as a literal: std"),
        (("def drawn", "@initializer(files=('weights',))\ndef drawn"), "declared", "files names no parameter: weights"),
        (("    # here", "\ndrawn.info = 'mine'"), "declared", "`info` is str and no InitializerInfo"),
        (("std=0.1)", "std=0.1, **rest)"), "unknown parameter", "is taken: name the parameters in place of **rest"),
    ],
)
def test_a_declaration_that_says_the_wrong_thing(tmp_path: Path, change: tuple[str, str], check: str, text: str) -> None:
    found = failed(validate_init(subject(tmp_path, PLAIN.replace(*change))))
    assert found.keys() - {"runs"} == {check}
    assert text in found[check]


def test_training_undeclared_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"mark it with @initializer\(learned=True\)"):
        validate_init(subject(tmp_path, LEARNED.replace("@initializer(learned=True)", "")))


def test_a_loss_that_is_not_finite_is_a_failure(tmp_path: Path) -> None:
    found = failed(validate_init(subject(tmp_path, LEARNED.replace(".mean(), {}", ".mean() * float('nan'), {}"))))
    assert found == {"runs": "DivergedError: the loss of the pretext stage was not finite at step 0"}


def test_what_is_missing_everywhere_stops_everything(tmp_path: Path) -> None:
    source = PLAIN.replace("import os", "import os\nfrom initbench.errors import InitbenchError")
    with pytest.raises(InitbenchError, match="no network here"):
        validate_init(subject(tmp_path, source.replace("# here", "raise InitbenchError('no network here')")))


# --- networks ---------------------------------------------------------------------------------------------------------


def test_the_probe_keeps_the_promises_of_a_backbone() -> None:
    [found] = subjects(parse(f"{probe.__file__}:probe"))
    assert failed(validate(found)) == {}


def test_the_probe_has_what_initializers_meet() -> None:
    roles = {site.role for site in trial(init_subjects(parse("default"), [PROBE])[0]).ctx.sites}
    trial.cache_clear()
    assert roles == {"linear", "conv", "transposed-conv", "projection", "bias", "norm", "other"}
    model = network(PROBE).call()
    assert len(list(model.named_parameters(remove_duplicate=False))) == len(list(model.parameters())) + 1
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["frozen"]
    assert {m.groups for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd)} == {1, 2}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_turned_network_is_the_same_network(name: str) -> None:
    own = network(name)
    model, straight = own.call(), own.call()
    turned, possible = turn(model, own.image())
    names = [key for key, _ in straight.named_parameters()]
    assert possible
    assert sorted(names) == sorted(key for key, _ in turned.named_parameters())
    assert names != [key for key, _ in turned.named_parameters()]
    assert all(torch.equal(value, straight.state_dict()[key]) for key, value in turned.state_dict().items())
    assert all(module.training for module in turned.modules())


class Ordered(nn.Module):
    """Computes in the order of registration, without being a container."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.second = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for child in self.children():
            x = child(x)
        return x


def test_a_network_that_computes_in_the_order_of_registration_is_left_alone() -> None:
    model, turned = turn(Ordered(), torch.rand(1, 2))
    assert not turned
    assert [name for name, _ in model.named_children()] == ["first", "second"]


@pytest.mark.parametrize(
    ("rule", "patch"),
    [
        (PatchRule((4, 4, 4)), (16, 16, 16)),
        (PatchRule((16, 16, 16)), (32, 16, 32)),
        (PatchRule((16, 32, 32), least=(32, 64, 64)), (32, 64, 64)),
        (PatchRule((4, 32, 32), (2, 0, 0), (6, 1, 1)), (18, 32, 64)),
    ],
)
def test_small_patches(rule: PatchRule, patch: tuple[int, int, int]) -> None:
    assert small_patch(rule) == patch


def test_settings_of_the_process_come_back(tmp_path: Path) -> None:
    def states() -> list[Any]:
        return [torch.get_rng_state().tolist(), torch.get_num_threads(), random.getstate(), np.random.get_state()[1].tolist()]

    before = states()
    validate_init(subject(tmp_path, broken("moves numpy's and Python's")))
    assert states() == before
    assert not torch.are_deterministic_algorithms_enabled()
    assert trial.cache_info().currsize == 0


# --- command line -----------------------------------------------------------------------------------------------------


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        main(["validate", "init", *arguments])
        code: Any = 0
    except SystemExit as error:
        code = error.code or 0
    out, err = capsys.readouterr()
    return code, " ".join(out.split()), " ".join(err.split())


def test_the_command_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "shuffled(orthogonal(gain=2.0))", "--backbone", "probe,unet")
    assert code == 0
    assert "shuffled(orthogonal(gain=2.0)) on probe (default), tiny size, patch (16, 16, 16)" in out
    assert "on unet (default)" in out
    assert out.count(f"all {len(EVERYTHING)} checks passed") == 2
    name = subject(tmp_path, broken("leaves a hook")).component.spec.name
    code, out, _ = command(capsys, name, "--backbone", "probe")
    assert code == 1
    assert f"1 of {len(EVERYTHING)} checks failed" in out
    assert re.search(r"hooks +FAILED +hooks or a forward", out)


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "lwi-as-released", "--steps", "1", "--backbone", "probe", "--backbone", "unetr", "--json")
    refused, table = json.loads(out)
    assert code == 0
    assert refused["checks"] == []
    assert refused["refused"].startswith("LWI released code for unetr and unetrpp, not for probe")
    assert (table["backbone"], table["variant"], table["size"], table["patch"]) == ("unetr", "perceptron", "tiny", [32, 16, 32])
    assert [check["name"] for check in table["checks"]] == EVERYTHING
    assert next(check for check in table["checks"] if check["name"] == "budget")["detail"].startswith("1 of 1 steps")


def test_a_refused_network_is_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "lwi-as-released", "--steps", "1", "--backbone", "probe,unetr")
    assert code == 0
    assert "on probe (default), tiny size, patch (16, 16, 16) refused: LWI released code for" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["xavier"], "unknown initializer 'xavier': did you mean xavier-"),
        (["lwi(mask=0.3)"], "lwi takes no mask; its parameters: mask_ratio=0.4"),
        (["shuffled(lwi(mask=0.3))"], "lwi takes no mask"),
        (["checkpoint"], "checkpoint needs path: write checkpoint(path=...)"),
        (["checkpoint(path=gone.pt)", "--backbone", "probe"], "gone.pt"),
        (["./nowhere.py:init"], "there is no file"),
        (["lwi", "--backbone", "unett"], "unknown backbone 'unett'"),
        (["lwi", "--steps", "0"], "greater than or equal to 1"),
        (
            ["zero-residual", "--backbone", "unet"],
            "zero-residual was not checked, it takes none of unet: zero-residual: unet declares no exits of residual branches",
        ),
        (["zero-residual", "--backbone", "unet"], "Choose others with --backbone"),
        (
            ["mae(mask_ratio=2)", "--backbone", "probe"],
            "it takes none of probe: mask_ratio must lie between 0 and 1, got 2. Choose",
        ),
    ],
)
def test_wrong_requests_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    code, _, err = command(capsys, *arguments)
    assert code == 2
    assert text in err


def test_a_component_that_is_no_function(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("drawn = 3\n")
    with pytest.raises(UsageError, match="is int and no function"):
        init_subjects(parse(f"{tmp_path / 'mine.py'}:drawn"))


def test_every_built_in_init_is_checked() -> None:
    """Those left need a file, or weights of images."""
    checked = {parse(text).name for text in [*INITS, "lwi-as-released"]}
    assert set(registry.names("initializer")) - checked == {"checkpoint", "swin-ssl", "inflate-2d"}
