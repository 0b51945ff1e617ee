"""The contract checks of initializers: built-in ones keep every promise; toys that break one fail exactly the check about it."""

from __future__ import annotations

import random
import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from initbench import registry
from initbench.errors import InitbenchError
from initbench.spec import parse
from initbench.validation.checks import RefusedError
from initbench.validation.inits import suite
from initbench.validation.inits.subject import BACKBONES, init_subjects
from initbench.validation.inits.suite import validate_init
from initbench.validation.inits.trials import trial
from initbench.validation.material import PROBE
from tests.checks import failed
from tests.validation.toys import BROKEN, EVERYTHING, INITS, LEARNED, PLAIN, broken, said, subject

OTHERS = ("swin-unetr", "nnformer", "unet", "unetrpp(variant=tumor)", "unetr(variant=conv)")
# Of the learned ones, which take longest, lwi alone on more than the probe.
QUICK = [
    (init, backbone)
    for init, backbone in product(INITS, BACKBONES)
    if backbone == PROBE or init == "lwi" or not init_subjects(parse(init), [PROBE])[0].info.learned
]


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


def test_settings_of_the_process_come_back(tmp_path: Path) -> None:
    def states() -> list[Any]:
        return [torch.get_rng_state().tolist(), torch.get_num_threads(), random.getstate(), np.random.get_state()[1].tolist()]

    before = states()
    validate_init(subject(tmp_path, broken("moves numpy's and Python's")))
    assert states() == before
    assert not torch.are_deterministic_algorithms_enabled()
    assert trial.cache_info().currsize == 0


# --- command line -----------------------------------------------------------------------------------------------------


def test_every_built_in_init_is_checked() -> None:
    """Those left need a file, or weights of images."""
    checked = {parse(text).name for text in [*INITS, "lwi-as-released"]}
    assert set(registry.names("initializer")) - checked == {"checkpoint", "swin-ssl", "inflate-2d", "images"}
