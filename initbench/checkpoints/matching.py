"""Which weight of a file belongs to which parameter of a network, and what to say where none does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from initbench.checkpoints.reading import Checkpoint
from initbench.checkpoints.report import Report
from initbench.checkpoints.reshape import reshape
from initbench.errors import UsageError
from initbench.protocols import FileLayout, Structure

# Wrappers that training programs put around a network: DataParallel, torch.compile, Lightning, frameworks of SSL.
_PREFIXES = ("module.", "_orig_mod.", "backbone.", "model.", "network.")
_RELATED = 0.25  # of a file's keys are the network's, in files for any variant of it
TrainedOn = Literal["auto", "DHW", "WHD"]


@dataclass(frozen=True)
class Request:
    """What a file cannot say of itself.

    Attributes:
        axes: order of the spatial axes that the weights were trained on; ``auto`` is as published for this network.
        variant: the variant they were trained in, "" where the file tells.
        minimum: least share of the parameters that such a file covers.
    """

    axes: TrainedOn = "auto"
    variant: str = ""
    minimum: float = 0.5


@dataclass
class _Match:
    """How a file goes into the network.

    Attributes:
        values: by the network's keys.
        reshaped: the network's keys whose values were resampled or reshaped.
        skipped: keys of the file that are not used, and why.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    reshaped: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def load_checkpoint(model: nn.Module, checkpoint: Checkpoint, structure: Structure, request: Request) -> Report:
    """Copies what fits from a checkpoint into `model`, except output heads.

    Raises:
        UsageError: the weights are another variant's, or fit less than the minimum; nothing was changed.
    """
    own = model.state_dict()
    tensors = without_wrappers(checkpoint.tensors, own)
    layout = _layout(structure.published.layouts, tensors)
    match = _Match()
    tensors = _renamed(tensors, layout, match)
    _check_backbone(checkpoint, structure)
    if sum(key in own for key in tensors) >= _RELATED * len(tensors):  # else it is another network, not another variant
        _check_variant(checkpoint, tensors, layout, structure, request)
        _check_axes(checkpoint, structure, request)
    _match(match, tensors, own, _ties(model), structure)
    report = _report(model, checkpoint, layout, match, structure)
    if report.share < request.minimum:
        raise UsageError(
            f"checkpoint {checkpoint.path} fits {report.share:.1%} of {report.scope}, less than the minimum of "
            f"{request.minimum:.0%} (--set init.minimum=...): is it of another backbone, size, variant or patch?\n{report.text()}"
        )
    with torch.no_grad():
        for key, value in match.values.items():
            own[key].copy_(value)
    return report


def without_wrappers(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the keys that they had before a training program wrapped the network."""
    found = dict(tensors)
    # Wrappers wrap each other in any order, so every prefix that goes may uncover one that was tried before.
    prefix = _wrapper(found, own)
    while prefix:
        found = {key.removeprefix(prefix): value for key, value in found.items()}
        prefix = _wrapper(found, own)
    return found


def _wrapper(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """The first prefix of a training program that begins some key of the file and none of the network's; "" without one."""
    for prefix in _PREFIXES:
        in_file = any(key.startswith(prefix) for key in tensors)
        if in_file and not any(key.startswith(prefix) for key in own):
            return prefix
    return ""


def _layout(layouts: Sequence[FileLayout], tensors: Mapping[str, Tensor]) -> FileLayout:
    """All layouts whose sign is there, as one."""
    merged = FileLayout(name="", sign="")
    names = []
    for layout in layouts:
        if not any(re.match(layout.sign, key) for key in tensors):
            continue
        names.append(layout.name)
        merged = replace(
            merged,
            renames=(*merged.renames, *layout.renames),
            part=merged.part or layout.part,
            variants=merged.variants or layout.variants,
        )
    return replace(merged, name=" + ".join(names) or "the network's own keys")


def _renamed(tensors: Mapping[str, Tensor], layout: FileLayout, match: _Match) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, value in tensors.items():
        new: str | None = key
        for pattern, replacement in layout.renames:
            if new is not None and re.search(pattern, new):
                new = None if replacement is None else re.sub(pattern, replacement, new)
        if new is None:
            match.skipped[key] = f"belongs to {layout.name}, not to the network"
        else:
            renamed[new] = value
    return renamed


def _check_backbone(checkpoint: Checkpoint, structure: Structure) -> None:
    other = str(checkpoint.card.get("network", ""))
    if other and structure.name and other != structure.name:
        raise UsageError(f"checkpoint {checkpoint.path} holds weights of {other}, and the network is {structure.name}")


def _check_variant(
    checkpoint: Checkpoint, tensors: Mapping[str, Tensor], layout: FileLayout, structure: Structure, request: Request
) -> None:
    """Refuses weights of another variant, and weights that could be of either.

    Raises:
        UsageError: names the variant to use, or how to say which one it is.
    """
    own, published = structure.variant, structure.published
    for sign in published.signs:
        key = next((key for key in tensors if re.search(sign.pattern, key)), None)
        if (key is not None) != sign.expected:
            shown = f"it has {key}" if key else f"it has no key with {sign.pattern}"
            raise UsageError(f"checkpoint {checkpoint.path} is of another variant ({shown}); {_use(structure, sign.otherwise)}")
    known = str(checkpoint.card.get("variant", "")) or request.variant
    fits = (known,) if known else layout.variants
    if fits and own not in fits:
        raise UsageError(f"checkpoint {checkpoint.path} is of variant {' or '.join(fits)}; {_use(structure, fits[0])}")
    if not fits and published.lookalikes:
        others = ", ".join(published.lookalikes)
        raise UsageError(
            f"checkpoint {checkpoint.path} does not say which variant it was trained in; its weights would fit {own} and "
            f"{others} alike and mean something else in each. Say it with --set init.variant=NAME"
        )


def _use(structure: Structure, variant: str) -> str:
    return f"the network is variant {structure.variant}. Use {_backbone(structure, variant)}"


def _backbone(structure: Structure, variant: str) -> str:
    return f'--backbone "{structure.name or "NAME"}(variant={variant})"'


def _check_axes(checkpoint: Checkpoint, structure: Structure, request: Request) -> None:
    """Refuses weights that were trained on volumes lying another way; a card says that they were made for this very network.

    Raises:
        UsageError: names the variant to use.
    """
    trained = structure.published.axes if request.axes == "auto" else request.axes
    if checkpoint.card or trained == structure.axes:
        return
    turned = structure.published.turned
    use = f" Use {_backbone(structure, turned)}, or" if turned else " Use"
    raise UsageError(
        f"checkpoint {checkpoint.path}: its weights were trained on volumes (N, C, {', '.join(trained)}), and variant "
        f"{structure.variant} sees (N, C, {', '.join(structure.axes)}).{use} --set init.axes={structure.axes} where you know "
        "that they were trained that way, or want them used so all the same"
    )


def _ties(model: nn.Module) -> dict[str, list[str]]:
    """For every key of a tied parameter, all of its keys."""
    groups: dict[int, list[str]] = {}
    for key, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(key)
    ties = {}
    for group in groups.values():
        if len(group) > 1:
            ties.update(dict.fromkeys(group, group))
    return ties


def _match(
    match: _Match,
    tensors: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    ties: Mapping[str, Sequence[str]],
    structure: Structure,
) -> None:
    for key in tensors:
        if key not in own:
            match.skipped[key] = "the network has no such key"
        elif is_part(key, structure.heads):
            match.skipped[key] = "output head, redrawn for every init"
    for key, target in own.items():
        # Of two names for one parameter the last counts, as in an ordinary load_state_dict.
        source = next((name for name in reversed(ties.get(key, [key])) if name in tensors), None)
        if source is None or is_part(key, structure.heads):
            continue
        value = tensors[source]
        if key in tensors and not torch.equal(tensors[key], value):
            match.skipped[key] = f"one parameter with {source}, which has another value and counts"
        if target.is_floating_point():
            _match_value(match, key, value, target, structure)
        elif target.ndim == 0:  # a counter of batches
            match.values[key] = value
        elif not torch.equal(value, target):
            match.skipped[key] = "an index table other than the network's: its attention reads positions in another order"


def _match_value(match: _Match, key: str, value: Tensor, target: Tensor, structure: Structure) -> None:
    fitted = reshape(value, target.shape, structure.published.grid_of(key))
    if fitted is None:
        match.skipped[key] = f"shape {tuple(value.shape)}, the network has {tuple(target.shape)}"
        return
    match.values[key] = fitted
    if value.shape != target.shape:
        match.reshaped.append(key)


def is_part(key: str, modules: Sequence[str]) -> bool:
    """Whether a key belongs to one of the modules."""
    return any(key == module or key.startswith(f"{module}.") for module in modules)


def sizes(model: nn.Module, structure: Structure) -> dict[str, int]:
    """Every parameter that a file could bring, with its size: output heads and what is unused are left out."""
    return {
        key: parameter.numel()
        for key, parameter in model.named_parameters()
        if not is_part(key, structure.heads) and key not in structure.unused
    }


def _report(model: nn.Module, checkpoint: Checkpoint, layout: FileLayout, match: _Match, structure: Structure) -> Report:
    wanted = sizes(model, structure)
    loaded, missing = {}, []
    for key, size in wanted.items():
        if key in match.values:
            loaded[key] = size
        else:
            missing.append(key)
    return Report(
        file=checkpoint.path.name,
        layout=layout.name,
        part=layout.part,
        wanted=wanted,
        loaded=loaded,
        reshaped=tuple(match.reshaped),
        skipped=match.skipped,
        missing=tuple(missing),
        buffers=tuple(key for key, _ in model.named_buffers() if key in match.values),
    )
