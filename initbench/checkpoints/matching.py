"""Which weight of a file belongs to which parameter of a network, and what to say where none does."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from initbench.checkpoints.locating import Located, locate, modules_of
from initbench.checkpoints.reading import Checkpoint
from initbench.checkpoints.report import Report, few
from initbench.checkpoints.reshape import Grids
from initbench.errors import UsageError
from initbench.protocols import FileLayout, Grid, Structure

# Heads that pretexts and classifiers put on a network: no network of segmentation has a place for them.
_HEADS = re.compile(r"(^|\.)(\w+_)?(heads?|classifier|projector|predictor|mask_token|cls_token)\d*(\.|$)")
_RELATED = 0.25  # of a file's keys are the network's, in files for any variant of it
_NO_KEY = "the network has no such key"
TrainedOn = Literal["auto", "DHW", "WHD"]


@dataclass(frozen=True)
class Request:
    """What a file cannot say of itself.

    Attributes:
        axes: order of the spatial axes that the weights were trained on; ``auto`` is as published for this network.
        variant: the variant they were trained in, "" where the file tells.
        minimum: least share of the parameters that such a file covers.
        patch: ``(D, H, W)`` that they were trained on, None where the file tells or it is the network's.
        prefix: what stands before the network's keys in the file, None to find it.
        leave: dotted names of modules, of the network or of the file, that need not fit.
    """

    axes: TrainedOn = "auto"
    variant: str = ""
    minimum: float = 0.5
    patch: Grid | None = None
    prefix: str | None = None
    leave: tuple[str, ...] = ()


@dataclass
class _Match:
    """How a file goes into the network.

    Attributes:
        values: by the network's keys.
        reshaped: the network's keys whose values were resampled or reshaped.
        skipped: keys of the file that are not used, and why.
        homeless: those among them that are trained weights and no head.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    reshaped: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    homeless: dict[str, str] = field(default_factory=dict)


def load_checkpoint(model: nn.Module, checkpoint: Checkpoint, structure: Structure, request: Request) -> Report:
    """Copies what fits from a checkpoint into `model`, except output heads.

    Raises:
        UsageError: the weights are another variant's, or fit less than the minimum; nothing was changed.
    """
    own = model.state_dict()
    layouts = structure.published.layouts
    located = locate(
        checkpoint.tensors,
        own,
        fits=lambda tensors: _number_that_fit(tensors, own, layouts),
        begins=lambda key: any(re.match(layout.sign, key) for layout in layouts),
        prefix=request.prefix,
    )
    layout = _layout(layouts, located.tensors)
    if located.part:
        layout = replace(layout, part=located.part)
    match = _Match()
    tensors = _renamed(located.tensors, layout, match)
    _check_backbone(checkpoint, structure)
    if sum(key in own for key in tensors) >= _RELATED * len(tensors):  # else it is another network, not another variant
        _check_variant(checkpoint, tensors, layout, structure, request)
        _check_axes(checkpoint, structure, request)
    _match(match, tensors, own, _ties(model), Grids(structure, request.patch or _patch(checkpoint)))
    report = _report(model, checkpoint, layout, match, structure, located, tensors)
    _check_fit(checkpoint, report, request)
    with torch.no_grad():
        for key, value in match.values.items():
            own[key].copy_(value)
    return report


def _number_that_fit(tensors: Mapping[str, Tensor], own: Collection[str], layouts: Sequence[FileLayout]) -> int:
    """Counts the tensors that have a key of the network, after the renames of the kind of file."""
    return sum(key in own for key in _renamed(tensors, _layout(layouts, tensors), _Match()))


def _patch(checkpoint: Checkpoint) -> Grid | None:
    """The patch that a file of initbench says it was trained on."""
    stated = checkpoint.card.get("patch_size")
    if isinstance(stated, list) and len(stated) == 3 and all(isinstance(edge, int) and edge > 0 for edge in stated):
        return stated[0], stated[1], stated[2]
    return None


def _check_fit(checkpoint: Checkpoint, report: Report, request: Request) -> None:
    """Refuses a file that fits the network in part only: what it is taken for would not be what it is.

    Raises:
        UsageError: names what has no place or no weights, and how to leave it out.
    """
    if report.share < request.minimum:
        raise UsageError(
            f"checkpoint {checkpoint.path} fits {report.share:.1%} of {report.scope}, less than the minimum of "
            f"{request.minimum:.0%} (--set init.minimum=...): is it of another backbone, size, variant or patch?\n{report.text()}"
        )
    homeless = {key: why for key, why in report.homeless.items() if not is_part(key, request.leave)}
    lacking = [key for key in report.lacking if not is_part(key, request.leave)]
    if not homeless and not lacking:
        return
    said = [f"checkpoint {checkpoint.path} does not fit the network whole; nothing was loaded."]
    if homeless:
        shown = [key if why == _NO_KEY else f"{key} ({why})" for key, why in homeless.items()]
        said.append(f"In the file and without a place in the network, {len(shown)}: {few(shown)}.")
    if lacking:
        said.append(f"In the network and not in the file, {len(lacking)}: {few(lacking)}.")
    names = modules_of([*homeless, *lacking], [key for key in report.loaded if key not in homeless])
    leave = names[0] if len(names) == 1 else ",".join(names)
    said.append(
        "Is it of another size, variant or patch, or cut short? To load the rest all the same, name what is left out: "
        f"--set init.leave={leave}"
    )
    raise UsageError("\n".join(said))


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
        raise UsageError(
            f"checkpoint {checkpoint.path} holds weights of {other}, and the network is {structure.name}: take "
            f"--backbone {other}, or weights of {structure.name}"
        )


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
            variant = next(iter(layout.variants), sign.otherwise)
            raise UsageError(f"checkpoint {checkpoint.path} is of another variant ({shown}); {_use(structure, variant)}")
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
    grids: Grids,
) -> None:
    heads = grids.structure.heads
    for key, value in tensors.items():
        if is_part(key, heads):
            match.skipped[key] = "output head, redrawn for every init"
        elif key not in own:
            match.skipped[key] = _NO_KEY
            if value.is_floating_point() and not _HEADS.search(key):
                match.homeless[key] = match.skipped[key]
    for key, target in own.items():
        # Of two names for one parameter the last counts, as in an ordinary load_state_dict.
        source = next((name for name in reversed(ties.get(key, [key])) if name in tensors), None)
        if source is None or is_part(key, heads):
            continue
        value = tensors[source]
        if key in tensors and not torch.equal(tensors[key], value):
            match.skipped[key] = f"one parameter with {source}, which has another value and counts"
        if target.is_floating_point():
            _match_value(match, key, value, target, grids)
        elif target.ndim == 0:  # a counter of batches
            match.values[key] = value
        elif not torch.equal(value, target):
            match.skipped[key] = "an index table other than the network's: its attention reads positions in another order"


def _match_value(match: _Match, key: str, value: Tensor, target: Tensor, grids: Grids) -> None:
    fitted, why = grids.fit(key, value, target.shape)
    if fitted is None:
        match.skipped[key] = match.homeless[key] = why
        return
    match.values[key] = fitted
    if fitted is not value:
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


def _report(
    model: nn.Module,
    checkpoint: Checkpoint,
    layout: FileLayout,
    match: _Match,
    structure: Structure,
    located: Located,
    tensors: Mapping[str, Tensor],
) -> Report:
    """What went where, with the sizes of both sides.

    Args:
        model: the network.
        checkpoint: the file.
        layout: how its keys were read.
        match: where its tensors go.
        structure: of the network.
        located: where in the file they lie.
        tensors: by the keys that the network has for them.
    """
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
        prefix=located.prefix,
        others=located.others,
        elsewhere=located.elsewhere,
        homeless=match.homeless,
        brought=_brought(match, tensors, structure),
    )


def _brought(match: _Match, tensors: Mapping[str, Tensor], structure: Structure) -> dict[str, int]:
    """The trained weights of a file with their sizes, without heads."""
    found = {}
    for key, value in tensors.items():
        head = is_part(key, structure.heads) or (_HEADS.search(key) and key not in match.values)
        if value.is_floating_point() and not head:
            found[key] = value.numel()
    return found
