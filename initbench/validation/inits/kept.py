"""What an initializer leaves as it is: the network but for its values."""

from __future__ import annotations

import torch

from initbench.harness.kept import changed_buffers, changed_hooks, changed_modules, few
from initbench.harness.snapshot import differing
from initbench.validation.inits.subject import InitSubject
from initbench.validation.inits.trials import trial
from initbench.validation.wording import no


def check_modules(subject: InitSubject) -> str:
    """The same modules, parameters and buffers under the same names."""
    found = trial(subject)
    before, after = found.before, found.after
    for what, these in changed_modules(before, after):
        no(these, what)
    return f"{len(after.modules)} modules, {len(after.objects)} parameters, {len(after.buffers)} buffers"


def check_ties(subject: InitSubject) -> str:
    """Names that share a parameter share it afterwards, and no others do."""
    found = trial(subject)
    before, after = found.before.ties, found.after.ties
    no(sorted(" = ".join(sorted(group)) for group in before - after), "it unties")
    no(sorted(" = ".join(sorted(group)) for group in after - before), "it ties")
    replaced = [name for name, parameter in found.after.objects.items() if parameter is not found.before.objects.get(name)]
    said = f"{len(after)} under several names" if after else "no parameter is shared"
    return said + (f"; new objects, which values in place would not need: {few(replaced)}" if replaced else "")


def check_shapes(subject: InitSubject) -> str:
    """Every parameter and buffer keeps its shape and its dtype."""
    found = trial(subject)
    before, after = found.before.forms, found.after.forms
    no([f"{name} {_form(before[name])} to {_form(after[name])}" for name in differing(before, after)], "it changes")
    return f"{len(after)} as they were"


def _form(form: tuple[tuple[int, ...], torch.dtype]) -> str:
    shape, dtype = form
    return f"{shape} {str(dtype).removeprefix('torch.')}"


def check_device(subject: InitSubject) -> str:
    """Every parameter and buffer is back on the CPU."""
    elsewhere = {name: device for name, device in trial(subject).after.devices.items() if device != "cpu"}
    no([f"{name} ({device})" for name, device in elsewhere.items()], "not on the CPU")
    return "all on the CPU"


def check_finite(subject: InitSubject) -> str:
    """No parameter holds NaN or infinity, and no buffer that did not."""
    found = trial(subject)
    tensors = {**found.after.objects, **dict(found.model.named_buffers())}
    changed = differing(found.before.digests, found.after.digests)
    infinite = [name for name, tensor in tensors.items() if not tensor.is_meta and not bool(tensor.isfinite().all())]
    no([name for name in infinite if name in found.after.objects or name in changed], "not finite")
    return "every value is finite"


def check_requires_grad(subject: InitSubject) -> str:
    """What is trained is trained afterwards, and what is frozen is frozen."""
    found = trial(subject)
    changed = differing(found.before.gradients, found.after.gradients)
    no([name for name in changed if found.before.gradients[name]], "it freezes")
    no(changed, "it unfreezes")
    frozen = sum(not flag for flag in found.after.gradients.values())
    return f"{frozen} frozen, as before" if frozen else "nothing is frozen"


def check_modes(subject: InitSubject) -> str:
    """Every module trains or evaluates as before."""
    found = trial(subject)
    changed = differing(found.before.modes, found.after.modes)
    no([name or "the network" for name in changed if found.before.modes[name]], "left in evaluation mode")
    no([name or "the network" for name in changed], "left in training mode")
    return "as before"


def check_hooks(subject: InitSubject) -> str:
    """No hook stays behind, and no `forward` in the place of a module's own."""
    found = trial(subject)
    no(changed_hooks(found.before, found.after), "hooks or a forward of its own left on, or taken off")
    return "none left"


def check_buffers(subject: InitSubject) -> str:
    """Buffers stay; training, or weights of a file, may carry the running statistics of norms."""
    found = trial(subject)
    changed = [name for name in differing(found.before.digests, found.after.digests) if name in found.after.buffers]
    learns = subject.info.learned or subject.info.external
    for what, these in changed_buffers(found.before, found.after, found.model, learns=learns):
        no(these, what)
    if not found.after.buffers:
        return "the network has none"
    return f"running statistics of norms changed: {few(changed)}" if changed else "as before"


def check_runs(subject: InitSubject) -> str:
    """It initializes the network without an error."""
    reported = trial(subject).ctx.reported.get("summary")
    return f"it says: {reported}" if reported else "without an error"
