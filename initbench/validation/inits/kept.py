"""Checks that an initializer leaves the network as it is, but for its values."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from initbench.harness.kept import changed_buffers, changed_hooks, changed_modules, few
from initbench.harness.snapshot import differing
from initbench.validation.inits.subject import InitSubject
from initbench.validation.inits.trials import trial
from initbench.validation.wording import no


def check_modules(subject: InitSubject) -> str:
    """Checks that modules, parameters and buffers are the same under the same names."""
    found = trial(subject)
    before, after = found.before, found.after
    for what, names in changed_modules(before, after):
        no(names, what)
    return f"{len(after.modules)} modules, {len(after.objects)} parameters, {len(after.buffers)} buffers"


def check_ties(subject: InitSubject) -> str:
    """Checks that the names which shared a parameter still share it, and that no others do."""
    found = trial(subject)
    before, after = found.before.ties, found.after.ties
    no(_equations(before - after), "it unties")
    no(_equations(after - before), "it ties")
    said = "no parameter is shared"
    if after:
        said = f"{len(after)} under several names"
    replaced = []
    for name, parameter in found.after.objects.items():
        if parameter is not found.before.objects.get(name):
            replaced.append(name)
    if replaced:
        said += f"; new objects, which values in place would not need: {few(replaced)}"
    return said


def _equations(groups: Iterable[frozenset[str]]) -> list[str]:
    """Writes each group of names of one parameter as ``a = b``."""
    return sorted(" = ".join(sorted(group)) for group in groups)


def check_shapes(subject: InitSubject) -> str:
    """Checks that every parameter and buffer keeps its shape and its dtype."""
    found = trial(subject)
    before, after = found.before.forms, found.after.forms
    changes = []
    for name in differing(before, after):
        changes.append(f"{name} {_form(before[name])} to {_form(after[name])}")
    no(changes, "it changes")
    return f"{len(after)} as they were"


def _form(form: tuple[tuple[int, ...], torch.dtype]) -> str:
    shape, dtype = form
    return f"{shape} {str(dtype).removeprefix('torch.')}"


def check_device(subject: InitSubject) -> str:
    """Checks that every parameter and buffer is back on the CPU."""
    elsewhere = []
    for name, device in trial(subject).after.devices.items():
        if device != "cpu":
            elsewhere.append(f"{name} ({device})")
    no(elsewhere, "not on the CPU")
    return "all on the CPU"


def check_finite(subject: InitSubject) -> str:
    """Checks that no parameter holds NaN or infinity, and no buffer that the initializer changed."""
    found = trial(subject)
    changed = found.changed
    tensors: dict[str, Tensor] = dict(found.after.objects)
    for name, buffer in found.model.named_buffers():
        if name in changed:
            tensors[name] = buffer
    infinite = []
    for name, tensor in tensors.items():
        if not tensor.is_meta and not bool(tensor.isfinite().all()):
            infinite.append(name)
    no(infinite, "not finite")
    return "every value is finite"


def check_requires_grad(subject: InitSubject) -> str:
    """Checks that trained parameters stay trained, and frozen ones frozen."""
    found = trial(subject)
    changed = differing(found.before.gradients, found.after.gradients)
    no([name for name in changed if found.before.gradients[name]], "it freezes")
    no(changed, "it unfreezes")
    frozen = list(found.after.gradients.values()).count(False)
    if not frozen:
        return "nothing is frozen"
    return f"{frozen} frozen, as before"


def check_modes(subject: InitSubject) -> str:
    """Checks that every module is in training or in evaluation mode as before."""
    found = trial(subject)
    changed = differing(found.before.modes, found.after.modes)
    no([name for name in changed if found.before.modes[name]], "left in evaluation mode")
    no(changed, "left in training mode")
    return "as before"


def check_hooks(subject: InitSubject) -> str:
    """Checks that no hook stays behind, and no `forward` in the place of a module's own."""
    found = trial(subject)
    no(changed_hooks(found.before, found.after), "hooks or a forward of its own left on, or taken off")
    return "none left"


def check_buffers(subject: InitSubject) -> str:
    """Checks that buffers keep their values, but for the running statistics of norms where it trains or reads a file."""
    found = trial(subject)
    learns = subject.info.learned or subject.info.external
    for what, names in changed_buffers(found.before, found.after, found.model, learns=learns):
        no(names, what)
    if not found.after.buffers:
        return "the network has none"
    changed = [name for name in found.changed if name in found.after.buffers]
    if not changed:
        return "as before"
    return f"running statistics of norms changed: {few(changed)}"
