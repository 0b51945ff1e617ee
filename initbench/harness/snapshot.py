"""Everything about a network that an initializer must leave as it is, and a digest of the values that it may change."""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
    "_post_accumulate_grad_hooks",
)


@dataclass(frozen=True)
class Snapshot:
    """A network at one time, by dotted names; a parameter under two names has both.

    Attributes:
        forwards: the function that the class of a module computes with.
        objects: the parameters themselves, so that another one in the place of one shows.
        ties: names that share a parameter.
        forms: shape and dtype of parameters and buffers.
        devices: theirs.
        digests: theirs, "" for what holds no values.
    """

    modules: dict[str, type[nn.Module]]
    forwards: dict[str, object]
    objects: dict[str, nn.Parameter]
    ties: frozenset[frozenset[str]]
    forms: dict[str, tuple[tuple[int, ...], torch.dtype]]
    devices: dict[str, str]
    gradients: dict[str, bool]
    modes: dict[str, bool]
    hooks: dict[str, int]
    buffers: frozenset[str]
    digests: dict[str, str]


def snapshot(model: nn.Module) -> Snapshot:
    """Notes down the network as it is now."""
    modules = dict(model.named_modules(remove_duplicate=False))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    buffers = dict(model.named_buffers(remove_duplicate=False))
    gradients, hooks = {}, {}
    for name, parameter in parameters.items():
        gradients[name] = parameter.requires_grad
        hooks[name] = _hooks(parameter)
    kinds, forwards, modes = {}, {}, {}
    for name, module in modules.items():
        kinds[name] = type(module)
        forwards[name] = type(module).forward
        modes[name] = module.training
        hooks[name] = _hooks(module)
    tensors: dict[str, Tensor] = {**parameters, **buffers}
    forms, devices, digests = {}, {}, {}
    for name, tensor in tensors.items():
        forms[name] = (tuple(tensor.shape), tensor.dtype)
        devices[name] = str(tensor.device)
        digests[name] = ""
        if not tensor.is_meta:
            digests[name] = tensor_digest(tensor)
    return Snapshot(
        modules=kinds,
        forwards=forwards,
        objects=parameters,
        ties=_ties(parameters),
        forms=forms,
        devices=devices,
        gradients=gradients,
        modes=modes,
        hooks=hooks,
        buffers=frozenset(buffers),
        digests=digests,
    )


@contextlib.contextmanager
def classes_kept(model: nn.Module) -> Iterator[None]:
    """Puts back after the block what the classes of the network compute with: other networks of the process share them."""
    before = {type(module): type(module).forward for module in model.modules()}
    try:
        yield
    finally:
        for kind, forward in before.items():
            if kind.forward is not forward:
                kind.forward = forward


@contextlib.contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Puts every module back after the block into the mode that it had, training or evaluation."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def tensor_digest(tensor: Tensor) -> str:
    """Returns the sha256 (hex) of a tensor's bytes, dtype and shape."""
    host = tensor.detach().cpu().contiguous()
    head = f"{host.dtype}{tuple(host.shape)}".encode()
    return hashlib.sha256(head + host.view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def _ties(parameters: Mapping[str, nn.Parameter]) -> frozenset[frozenset[str]]:
    groups: dict[int, set[str]] = defaultdict(set)
    for name, parameter in parameters.items():
        groups[id(parameter)].add(name)
    shared = set()
    for names in groups.values():
        if len(names) > 1:
            shared.add(frozenset(names))
    return frozenset(shared)


def _hooks(item: nn.Module | Tensor) -> int:
    """Counts the hooks of a module or a parameter; a `forward` of a module's own is one."""
    found = 0
    for attribute in _HOOKS:
        found += len(getattr(item, attribute, None) or ())
    if isinstance(item, nn.Module) and "forward" in vars(item):
        found += 1
    return found


def differing(before: Mapping[str, T], after: Mapping[str, T]) -> list[str]:
    """Returns the sorted names that are in both and have another entry than before."""
    names = before.keys() & after.keys()
    return sorted(name for name in names if after[name] != before[name])
