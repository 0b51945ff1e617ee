"""Checks of regimens: each finds the regimen that breaks its promise, and no other check complains of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from initbench.cli.app import main
from initbench.errors import UsageError
from initbench.spec import Spec, parse
from initbench.validation.inits.subject import init_subjects
from initbench.validation.inits.suite import validate_init
from initbench.validation.regimens.subject import regimen_subjects
from initbench.validation.regimens.suite import CHECKS, validate_regimen
from tests import light_backbone
from tests.checks import failed
from tests.commands import said
from tests.runs_factory import LIGHT

OWN = '''
import torch
from torch import nn
from initbench.protocols import regimen

class Task:
    """Plain training with an average of the losses as a part, which a checkpoint keeps."""

    def __init__(self, ctx):
        self.ctx, self.module, self.average = ctx, ctx.model, 0.0
        # made

    def batch(self, step):
        batch = self.ctx.batch(step)
        # taken
        return batch

    def loss(self, batch):
        loss, _ = self.ctx.supervised(self.ctx.model(batch.image), batch.label)
        self.average = 0.5 * self.average + 0.5 * float(loss.detach())
        # computed
        return loss, {"average": torch.tensor(self.average)}

    def state(self):
        return {"average": self.average}

    def load_state(self, state):
        self.average = state["average"]

@regimen(units=3)
def own(ctx, /):
    return Task(ctx)
'''
BROKEN = {
    "units=3": ("units=2", "units", "it declares 2 units a step, and 3 were counted"),
    "# computed": (
        "loss = loss + 0 * self.ctx.model(batch.image).sum()",
        "units",
        "it declares 3 units a step, and 6 were counted",
    ),
    'self.average = state["average"]': ("pass", "resumes", "ends elsewhere; keep the rest in state.*curves differ"),
    "# taken": ("batch.image.mul_(2.0)", "batches", "changes the images of batches in place: 0"),
    "self.ctx.batch(step)": ("self.ctx.batch(step + 1)", "batches", r"it takes the batches \[1, 2, 3, 4\]"),
    "# made": ("ctx.model.extra = nn.Identity()", "network", "adds or removes modules: extra"),
    "self.ctx, self.module, self.average = ctx, ctx.model, 0.0": (
        "self.ctx, self.module, self.average = ctx, ctx.model.stem, 0.0",
        "trains",
        "not in the task's module, so never trained: deep",
    ),
    "return Task(ctx)": (
        "ctx.model.stem.bias.requires_grad_(False); return Task(ctx)",
        "network",
        "it freezes or unfreezes: stem.bias",
    ),
    "return loss, {": ("return loss * (1 + DRAWS.pop()), {", "same bits", "a second training gives other numbers"),
}


def checked(folder: Path, source: str) -> dict[str, str]:
    """What failed, by the name of the check."""
    file = folder / "own.py"
    file.write_text(source, "utf-8")
    [subject] = regimen_subjects(Spec(f"{file}:own"), [LIGHT])
    checks = validate_regimen(subject)
    assert [check.name for check in checks] == list(CHECKS)
    return failed(checks)


def test_a_regimen_that_keeps_its_promises(tmp_path: Path) -> None:
    assert checked(tmp_path, OWN) == {}


@pytest.mark.parametrize("old", BROKEN)
def test_a_broken_promise_is_found(tmp_path: Path, old: str) -> None:
    new, check, says = BROKEN[old]
    source = OWN.replace(old, new)
    if "DRAWS" in new:
        source = source.replace("class Task", "DRAWS = [number / 100 for number in range(100)]\n\nclass Task")
    found = checked(tmp_path, source)
    assert check in found, found
    assert re.search(says, found[check])
    # Numbers of no use to a second training are of none to one that is stopped.
    assert set(found) == ({"same bits", "resumes"} if check == "same bits" else {check})


def test_a_network_that_takes_one_patch_at_a_time_gets_one(tmp_path: Path) -> None:
    """Checks of inits and of regimens feed it, as `ds-net` needs it."""
    source = Path(light_backbone.__file__).read_text("utf-8")
    source = source.replace('summary="light"', "most_batch=1")
    source = source.replace("        fine = ", "        assert len(x) == 1\n        fine = ", 1)
    (tmp_path / "narrow.py").write_text(source, "utf-8")
    network = f"{tmp_path / 'narrow.py'}:light"
    assert failed(validate_regimen(regimen_subjects(Spec("plain"), [network])[0])) == {}
    assert failed(validate_init(init_subjects(Spec("mae"), [network], steps=1)[0])) == {}


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["validate", "regimen", "medcontext(mask_at=tokens)", "--backbone", f"{LIGHT},unet", "--json"])
    assert ended.value.code == 0
    taken, refused = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in taken["checks"] if check["passed"]] == list(CHECKS)
    assert "unet declares no tokens to hide" in refused["refused"]


def test_a_regimen_that_takes_no_network_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "validate", "regimen", "medcontext-as-released", "--backbone", LIGHT, code=2)
    assert "medcontext-as-released was not checked, it takes none of" in " ".join(text.split())
    with pytest.raises(UsageError, match="unknown regimen 'medcontex'"):
        regimen_subjects(parse("medcontex"))
