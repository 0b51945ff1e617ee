"""Checks the declaration of a backbone, its construction, and the weights that are written and read back."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_model

from initbench.harness.coverage import state_digest
from initbench.harness.weights import save_weights
from initbench.protocols import Grid, PatchError, PatchRule, structure_of
from initbench.validation.backbones.subject import Subject
from initbench.validation.checks import BrokenPromiseError
from initbench.validation.wording import digests, no, stirred


def check_declared(subject: Subject) -> str:
    """Checks that a backbone says where it comes from, and which patches each variant takes."""
    if not subject.is_declared:
        raise BrokenPromiseError(
            "it has no BackboneInfo: put @backbone(BackboneInfo(paper=..., source=..., licence=..., patches=...)) of "
            "initbench.protocols over the function"
        )
    info = subject.info
    no(set(info.variants) - info.patches.keys(), "BackboneInfo.patches has no PatchRule for variant")
    no([field for field in ("paper", "source", "licence") if not getattr(info, field)], "BackboneInfo leaves empty")
    return f"{info.licence}; patches: {info.patches[subject.variant]}"


def check_wrong_patch(subject: Subject) -> str:
    """Checks that a backbone refuses a patch that it cannot take, and names the nearest that it can."""
    rule = subject.info.patches.get(subject.variant)
    if rule is None:
        raise BrokenPromiseError("no PatchRule says which patches it takes")
    wrong = _wrong_patch(rule, subject.patch)
    if wrong is None:
        return "every patch is valid"
    nearest = rule.at_least(wrong)
    try:
        subject.call(patch_size=wrong)
    except PatchError as error:
        if str(nearest) not in str(error):
            raise BrokenPromiseError(f"the error for patch {wrong} does not name {nearest}: {error}") from None
        return f"{wrong} refused, {nearest} named"
    except Exception as error:
        raise BrokenPromiseError(f"patch {wrong} raised {type(error).__name__} and no PatchError: {error}") from None
    raise BrokenPromiseError(f"patch {wrong} was taken; the rule says {rule}")


def _wrong_patch(rule: PatchRule, right: Grid) -> tuple[int, ...] | None:
    """Changes one axis of a patch so that it breaks the rule; None where the rule allows every patch."""
    wrong = list(right)
    for axis in range(3):
        if rule.multiple[axis] > 1:
            wrong[axis] += 1
            return tuple(wrong)
        if rule.least[axis] > 1:
            wrong[axis] = rule.least[axis] - 1
            return tuple(wrong)
    return None


def check_unknown_variant(subject: Subject) -> str:
    """Checks that a backbone refuses an unknown variant with an error that names the known ones."""
    try:
        subject.call(variant="no-such-variant")
    except ValueError as error:
        no([variant for variant in subject.info.variants if variant not in str(error)], "the error does not name variant")
        return f"refused, {', '.join(subject.info.variants)} named"
    except Exception as error:
        raise BrokenPromiseError(f"raised {type(error).__name__} and no ValueError: {error}") from None
    raise BrokenPromiseError("variant 'no-such-variant' was taken")


def check_constructs(subject: Subject) -> str:
    """Checks that a backbone gives a module with the structure that was asked for, with and without deep supervision."""
    for deep in (False, True):
        model = subject.build(deep=deep)
        structure = structure_of(model)
        if structure.patch_size != subject.patch:
            raise BrokenPromiseError(f"structure.patch_size is {structure.patch_size}, asked for {subject.patch}")
        if structure.variant != subject.variant:
            raise BrokenPromiseError(f"structure.variant is {structure.variant!r}, asked for {subject.variant!r}")
        elsewhere = []
        for name, parameter in model.named_parameters():
            if parameter.device.type != "cpu" or parameter.dtype != torch.float32:
                elsewhere.append(name)
        no(elsewhere, "not float32 on the CPU")
    return f"{sum(p.numel() for p in model.parameters()):,} parameters at patch {subject.patch}"


def check_construction(subject: Subject) -> str:
    """Checks that a backbone draws from torch's global generator: the same seed gives the same bits, another seed others."""
    digests = []
    for disturbance, seed in enumerate((0, 0, 1)):
        with global_generators(disturbance):
            digests.append(state_digest(subject.build(seed=seed)))
    if digests[0] != digests[1]:
        raise BrokenPromiseError(
            "two constructions from one seed differ: something is drawn elsewhere than from torch's generator"
        )
    if digests[0] == digests[2]:
        raise BrokenPromiseError("another seed changes nothing: the numbers do not come from torch's global generator")
    return "the same seed gives the same bits"


@contextmanager
def global_generators(seed: int) -> Iterator[None]:
    """Seeds the global generators of Python and numpy with `seed` inside the block, and puts their states back after it."""
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def check_state(subject: Subject) -> str:
    """Checks that the weights which a run saves make another construction the same network, bit for bit."""
    source, target = stirred(subject.build()), subject.build(seed=1).eval()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        save_weights(source, file, {})
        load_model(target, file)
    if state_digest(source) != state_digest(target):
        raise BrokenPromiseError("the state dict read back is not the one that was saved")
    image = subject.image()
    with torch.no_grad():
        if digests(source(image)) != digests(target(image)):
            raise BrokenPromiseError("with the same state dict the output differs: something that counts is not in it")
    return f"{len(source.state_dict())} entries read back, the same output"
