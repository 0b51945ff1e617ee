"""Declaration, construction, and what is written and read back."""

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
from initbench.protocols import (
    PatchError,
    structure_of,
)
from initbench.validation.backbones.subject import Subject
from initbench.validation.checks import BrokenPromiseError
from initbench.validation.wording import digests, no, stirred


def check_declared(subject: Subject) -> str:
    """It says where it comes from, and which patches each variant takes."""
    if not subject.is_declared:
        raise BrokenPromiseError(
            "it has no BackboneInfo: put @backbone(BackboneInfo(paper=..., source=..., licence=..., patches=...)) of "
            "initbench.protocols over the function"
        )
    lacking = [variant for variant in subject.info.variants if variant not in subject.info.patches]
    no(lacking, "BackboneInfo.patches has no PatchRule for variant")
    empty = [field for field in ("paper", "source", "licence") if not getattr(subject.info, field)]
    no(empty, "BackboneInfo leaves empty")
    return f"{subject.info.licence}; patches: {subject.info.patches[subject.variant]}"


def check_wrong_patch(subject: Subject) -> str:
    """A patch that it cannot take is refused with the nearest that it can."""
    rule = subject.info.patches.get(subject.variant)
    if rule is None:
        raise BrokenPromiseError("no PatchRule says which patches it takes")
    axis = next((a for a in range(3) if rule.multiple[a] > 1 or rule.least[a] > 1), None)
    if axis is None:
        return "every patch is valid"
    wrong = list(subject.patch)
    wrong[axis] = subject.patch[axis] + 1 if rule.multiple[axis] > 1 else rule.least[axis] - 1
    nearest = rule.at_least(wrong)
    try:
        subject.call(patch_size=tuple(wrong))
    except PatchError as error:
        if str(nearest) not in str(error):
            raise BrokenPromiseError(f"the error for patch {tuple(wrong)} does not name {nearest}: {error}") from None
        return f"{tuple(wrong)} refused, {nearest} named"
    except Exception as error:
        raise BrokenPromiseError(f"patch {tuple(wrong)} raised {type(error).__name__} and no PatchError: {error}") from None
    raise BrokenPromiseError(f"patch {tuple(wrong)} was taken; the rule says {rule}")


def check_unknown_variant(subject: Subject) -> str:
    """An unknown variant is refused with an error that names the known ones."""
    try:
        subject.call(variant="no-such-variant")
    except ValueError as error:
        no([variant for variant in subject.info.variants if variant not in str(error)], "the error does not name variant")
        return f"refused, {', '.join(subject.info.variants)} named"
    except Exception as error:
        raise BrokenPromiseError(f"raised {type(error).__name__} and no ValueError: {error}") from None
    raise BrokenPromiseError("variant 'no-such-variant' was taken")


def check_constructs(subject: Subject) -> str:
    """It gives a module with a structure of what was asked for, with and without deep supervision."""
    for deep in (False, True):
        model = subject.build(deep=deep)
        structure = structure_of(model)
        if structure.patch_size != subject.patch:
            raise BrokenPromiseError(f"structure.patch_size is {structure.patch_size}, asked for {subject.patch}")
        if structure.variant != subject.variant:
            raise BrokenPromiseError(f"structure.variant is {structure.variant!r}, asked for {subject.variant!r}")
        elsewhere = [name for name, p in model.named_parameters() if p.device.type != "cpu" or p.dtype != torch.float32]
        no(elsewhere, "not float32 on the CPU")
    return f"{sum(p.numel() for p in model.parameters()):,} parameters at patch {subject.patch}"


def check_construction(subject: Subject) -> str:
    """Its numbers come from torch's global generator: the same seed gives the same bits, another seed others."""
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
    """The generators of Python and numpy in a state of their own, and put back."""
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def check_state(subject: Subject) -> str:
    """Weights that a run saves make another construction the same network, bit for bit."""
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
