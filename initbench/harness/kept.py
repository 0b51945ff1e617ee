"""What an initializer must leave as it is beside the parameters, compared before and after: runs and `validate init` share it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from initbench.harness.snapshot import Snapshot, differing

_NAMED = 6  # names that a message lists


def changed_modules(before: Snapshot, after: Snapshot) -> Iterator[tuple[str, list[str]]]:
    """Yields each forbidden change of modules, parameters and buffers, with the names that it befell."""
    yield "it adds module", sorted(after.modules.keys() - before.modules.keys())
    yield "it removes module", sorted(before.modules.keys() - after.modules.keys())
    replaced = differing(before.modules, after.modules)
    yield "it puts a module of another class in the place of", replaced
    patched = []
    for name in differing(before.forwards, after.forwards):
        if name not in replaced:
            patched.append(name)
    yield "it puts another forward into the class of", patched
    yield "it adds parameter or buffer", sorted(after.forms.keys() - before.forms.keys())
    yield "it removes parameter or buffer", sorted(before.forms.keys() - after.forms.keys())


def changed_hooks(before: Snapshot, after: Snapshot) -> list[str]:
    """Returns the modules and parameters on which hooks, or a `forward` of their own, were left or taken off."""
    return differing(before.hooks, after.hooks)


def changed_buffers(before: Snapshot, after: Snapshot, model: nn.Module, *, learns: bool) -> Iterator[tuple[str, list[str]]]:
    """Yields each forbidden change of buffers, with the names that it befell.

    Args:
        before: the network before the initializer.
        after: it afterwards.
        model: the network itself.
        learns: whether the initializer trains or brings weights, which may carry the running statistics of norms.
    """
    changed = [name for name in differing(before.digests, after.digests) if name in after.buffers]
    if not learns:
        yield "without learning it changes", changed
    others = []
    for name in changed:
        if not _is_statistic(model, name):
            others.append(name)
    yield "it changes what is no statistic of a norm", others


def _is_statistic(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name.rpartition(".")[0]), nn.modules.batchnorm._NormBase)


def few(names: Sequence[str]) -> str:
    """Joins the first of many names, and says how many more there are; the network itself has the empty name."""
    shown = ", ".join(name or "the network" for name in names[:_NAMED])
    if len(names) > _NAMED:
        shown += f" and {len(names) - _NAMED} more"
    return shown
