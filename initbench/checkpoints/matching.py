"""Matches the weights of a file to the parameters of a network, and says what to do where they do not fit."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from initbench.checkpoints.locating import Located, count_keys, locate, modules_of
from initbench.checkpoints.reading import Checkpoint
from initbench.checkpoints.report import Report, divide, few
from initbench.checkpoints.reshape import Grids
from initbench.errors import UsageError
from initbench.protocols import FileLayout, Grid, Structure

# Heads that pretexts and classifiers put on a network: no network of segmentation has a place for them.
_HEADS = re.compile(r"(^|\.)(\w+_)?(heads?|classifier|projector|predictor|mask_token|cls_token)\d*(\.|$)")
_RELATED = 0.25  # least share of a file's keys that are the network's, in files for any variant of it
_NO_KEY = "the network has no such key"
TrainedOn = Literal["auto", "DHW", "WHD"]


@dataclass(frozen=True)
class Request:
    """What the user says of a file.

    Attributes:
        axes: order of the spatial axes that the weights were trained on; ``auto`` is the published order for this network.
        variant: the variant that the weights were trained in, "" where the file tells.
        minimum: least share, from 0 to 1, that has to fit of the parameters which such a file covers.
        patch: ``(D, H, W)`` that the weights were trained on, None where the file tells or it is the network's.
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
        values: values by the network's keys.
        reshaped: the network's keys whose values were resampled or reshaped.
        skipped: keys of the file that are not used, and why.
        homeless: the skipped keys that are trained weights and no head, and why.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    reshaped: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    homeless: dict[str, str] = field(default_factory=dict)


def load_checkpoint(model: nn.Module, checkpoint: Checkpoint, structure: Structure, request: Request) -> Report:
    """Copies what fits from a checkpoint into a network, except output heads.

    Args:
        model: gets the weights.
        checkpoint: the file.
        structure: what the network declares.
        request: what the user says of the file.

    Returns:
        Where the weights went.

    Raises:
        UsageError: the weights are another variant's, or fit less than the minimum; nothing was changed.
    """
    own = model.state_dict()
    layouts = structure.published.layouts
    located = locate(
        checkpoint.tensors,
        own,
        fits=functools.partial(_number_that_fit, own, layouts),
        begins=functools.partial(_has_sign, layouts),
        prefix=request.prefix,
    )
    layout = _layout(layouts, located.tensors)
    if located.part:
        layout = replace(layout, part=located.part)
    match = _Match()
    tensors = _renamed(located.tensors, layout, match)
    _check_backbone(checkpoint, structure)
    if count_keys(own, tensors) >= _RELATED * len(tensors):  # else it is another network, not another variant
        _check_variant(checkpoint, tensors, layout, structure, request)
        _check_axes(checkpoint, structure, request)
    _match(match, tensors, own, _ties(model), Grids(structure, request.patch or _patch(checkpoint)))
    report = _report(model, checkpoint, layout, match, structure, located, tensors)
    _check_fit(checkpoint, report, request)
    with torch.no_grad():
        for key, value in match.values.items():
            own[key].copy_(value)
    return report


def _number_that_fit(own: Collection[str], layouts: Sequence[FileLayout], tensors: Mapping[str, Tensor]) -> int:
    """Counts the tensors that have a key of the network, after the renames of the kind of file.

    Args:
        own: the network's keys.
        layouts: kinds of files that the network declares.
        tensors: of the file, behind some prefix.
    """
    return count_keys(own, _renamed(tensors, _layout(layouts, tensors), _Match()))


def _has_sign(layouts: Sequence[FileLayout], key: str) -> bool:
    """Returns whether a key is the sign of a kind of file."""
    return any(re.match(layout.sign, key) for layout in layouts)


def _patch(checkpoint: Checkpoint) -> Grid | None:
    """Returns the patch on which a file of initbench says that it was trained; None for any other file."""
    stated = checkpoint.card.get("patch_size")
    if not isinstance(stated, list) or len(stated) != 3:
        return None
    for edge in stated:
        if not isinstance(edge, int) or edge <= 0:
            return None
    return stated[0], stated[1], stated[2]


def _check_fit(checkpoint: Checkpoint, report: Report, request: Request) -> None:
    """Refuses a file that fits the network in part only: a run with it would not be what its name says.

    Args:
        checkpoint: the file.
        report: where its weights would go.
        request: what may be left out.

    Raises:
        UsageError: names what has no place or no weights, and how to leave it out.
    """
    if report.share < request.minimum:
        raise UsageError(
            f"checkpoint {checkpoint.path} fits {report.share:.1%} of {report.scope}, less than the minimum of "
            f"{request.minimum:.0%} (--set init.minimum=...): is it of another backbone, size, variant or patch?\n{report.text()}"
        )
    homeless, shown = [], []
    for key, why in report.homeless.items():
        if is_part(key, request.leave):
            continue
        homeless.append(key)
        if why == _NO_KEY:
            shown.append(key)
        else:
            shown.append(f"{key} ({why})")
    lacking = [key for key in report.lacking if not is_part(key, request.leave)]
    if not homeless and not lacking:
        return
    said = [f"checkpoint {checkpoint.path} does not fit the network whole; nothing was loaded."]
    if homeless:
        said.append(f"In the file and without a place in the network, {len(shown)}: {few(shown)}.")
    if lacking:
        said.append(f"In the network and not in the file, {len(lacking)}: {few(lacking)}.")
    names = modules_of([*homeless, *lacking], report.loaded.keys() - homeless)
    said.append(
        "Is it of another size, variant or patch, or cut short? To load the rest all the same, name what is left out: "
        f"--set init.leave={','.join(names)}"
    )
    raise UsageError("\n".join(said))


def _layout(layouts: Sequence[FileLayout], tensors: Mapping[str, Tensor]) -> FileLayout:
    """Merges the layouts of a network whose sign is among the keys of a file."""
    merged = FileLayout(name="", sign="")
    names = []
    for layout in layouts:
        sign = re.compile(layout.sign)
        if not any(sign.match(key) for key in tensors):
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
    """Returns the tensors of a file by the network's keys.

    Args:
        tensors: by the keys of the file.
        layout: how these keys are renamed.
        match: gets the tensors that the network does not want.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in tensors.items():
        new = _new_key(key, layout)
        if new is None:
            match.skipped[key] = f"belongs to {layout.name}, not to the network"
        else:
            renamed[new] = value
    return renamed


def _new_key(key: str, layout: FileLayout) -> str | None:
    """Renames a key of a file, by all patterns in their order; None where a pattern says that it is not the network's."""
    for pattern, replacement in layout.renames:
        if not re.search(pattern, key):
            continue
        if replacement is None:
            return None
        key = re.sub(pattern, replacement, key)
    return key


def _check_backbone(checkpoint: Checkpoint, structure: Structure) -> None:
    """Refuses a file of initbench that was made for another network.

    Raises:
        UsageError: names the other network.
    """
    other = str(checkpoint.card.get("network", ""))
    if other and structure.name and other != structure.name:
        raise UsageError(
            f"checkpoint {checkpoint.path} holds weights of {other}, and the network is {structure.name}: take "
            f"--backbone {other}, or weights of {structure.name}"
        )


def _check_variant(
    checkpoint: Checkpoint, tensors: Mapping[str, Tensor], layout: FileLayout, structure: Structure, request: Request
) -> None:
    """Refuses weights of another variant, and weights that may be of more than one variant.

    Args:
        checkpoint: the file.
        tensors: its weights by the network's keys.
        layout: how its keys were read.
        structure: what the network declares.
        request: may say the variant.

    Raises:
        UsageError: names the variant to use, or how to say which one it is.
    """
    own, published = structure.variant, structure.published
    for sign in published.signs:
        signs = [key for key in tensors if re.search(sign.pattern, key)]
        if bool(signs) == sign.expected:
            continue
        shown = f"it has no key with {sign.pattern}"
        if signs:
            shown = f"it has {signs[0]}"
        variant = sign.otherwise
        if layout.variants:
            variant = layout.variants[0]
        raise UsageError(f"checkpoint {checkpoint.path} is of another variant ({shown}); {_use(structure, variant)}")
    fits = layout.variants
    known = str(checkpoint.card.get("variant", "")) or request.variant
    if known:
        fits = (known,)
    if fits and own not in fits:
        raise UsageError(f"checkpoint {checkpoint.path} is of variant {' or '.join(fits)}; {_use(structure, fits[0])}")
    if not fits and published.lookalikes:
        others = ", ".join(published.lookalikes)
        raise UsageError(
            f"checkpoint {checkpoint.path} does not say which variant it was trained in; its weights would fit {own} and "
            f"{others} alike and mean something else in each. Say it with --set init.variant=NAME"
        )


def _use(structure: Structure, variant: str) -> str:
    """Tells the user which variant to take."""
    return f"the network is variant {structure.variant}. Use {_backbone(structure, variant)}"


def _backbone(structure: Structure, variant: str) -> str:
    """Returns the option of the command line that takes a variant of the network."""
    return f'--backbone "{structure.name or "NAME"}(variant={variant})"'


def _check_axes(checkpoint: Checkpoint, structure: Structure, request: Request) -> None:
    """Refuses weights that were trained on volumes with another order of axes, unless initbench wrote them for this network.

    Args:
        checkpoint: the file.
        structure: what the network declares.
        request: may say the order.

    Raises:
        UsageError: names the variant to use.
    """
    trained = request.axes
    if trained == "auto":
        trained = structure.published.axes
    if checkpoint.card or trained == structure.axes:
        return
    turned = structure.published.turned
    use = " Use"
    if turned:
        use = f" Use {_backbone(structure, turned)}, or"
    raise UsageError(
        f"checkpoint {checkpoint.path}: its weights were trained on volumes (N, C, {', '.join(trained)}), and variant "
        f"{structure.variant} sees (N, C, {', '.join(structure.axes)}).{use} --set init.axes={structure.axes} where you know "
        "that they were trained that way, or want them used so all the same"
    )


def _ties(model: nn.Module) -> dict[str, list[str]]:
    """Returns all keys of a tied parameter, by each of its keys."""
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
    """Matches the tensors of a file to the parameters and buffers of a network.

    Args:
        match: gets the outcome.
        tensors: of the file, by the network's keys.
        own: parameters and buffers of the network.
        ties: as of `_ties`.
        grids: brings weights into the network's form.
    """
    heads = grids.structure.heads
    for key, value in tensors.items():
        if is_part(key, heads):
            match.skipped[key] = "output head, redrawn for every init"
        elif key not in own:
            match.skipped[key] = _NO_KEY
            if value.is_floating_point() and not _HEADS.search(key):
                match.homeless[key] = match.skipped[key]
    for key, target in own.items():
        sources = [name for name in ties.get(key, [key]) if name in tensors]
        if not sources or is_part(key, heads):
            continue
        source = sources[-1]  # of several names for one parameter the last counts, as in an ordinary load_state_dict
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
    """Matches one weight.

    Args:
        match: gets the outcome.
        key: of the network.
        value: as stored in the file.
        target: the network's parameter.
        grids: brings the weight into the network's form.
    """
    fitted, why = grids.fit(key, value, target.shape)
    if fitted is None:
        match.skipped[key] = match.homeless[key] = why
        return
    match.values[key] = fitted
    if fitted is not value:
        match.reshaped.append(key)


def is_part(key: str, modules: Sequence[str]) -> bool:
    """Returns whether a key belongs to one of the modules, or is one of them."""
    for module in modules:
        if key == module or key.startswith(f"{module}."):
            return True
    return False


def sizes(model: nn.Module, structure: Structure) -> dict[str, int]:
    """Returns the sizes of the parameters that a file could bring: all but output heads and unused ones."""
    found = {}
    for key, parameter in model.named_parameters():
        if not is_part(key, structure.heads) and key not in structure.unused:
            found[key] = parameter.numel()
    return found


def _report(
    model: nn.Module,
    checkpoint: Checkpoint,
    layout: FileLayout,
    match: _Match,
    structure: Structure,
    located: Located,
    tensors: Mapping[str, Tensor],
) -> Report:
    """Reports where the weights of a file go.

    Args:
        model: the network.
        checkpoint: the file.
        layout: how its keys were read.
        match: where its tensors go.
        structure: what the network declares.
        located: where in the file the tensors lie.
        tensors: the tensors by the network's keys.
    """
    wanted = sizes(model, structure)
    loaded, missing = divide(wanted, match.values)
    return Report(
        file=checkpoint.path.name,
        layout=layout.name,
        part=layout.part,
        wanted=wanted,
        loaded=loaded,
        reshaped=tuple(match.reshaped),
        skipped=match.skipped,
        missing=missing,
        buffers=tuple(key for key, _ in model.named_buffers() if key in match.values),
        prefix=located.prefix,
        others=located.others,
        elsewhere=located.elsewhere,
        homeless=match.homeless,
        brought=_brought(match, tensors, structure),
    )


def _brought(match: _Match, tensors: Mapping[str, Tensor], structure: Structure) -> dict[str, int]:
    """Returns the sizes of the trained weights of a file, without heads, by the network's keys."""
    found = {}
    for key, value in tensors.items():
        head = is_part(key, structure.heads) or (_HEADS.search(key) and key not in match.values)
        if value.is_floating_point() and not head:
            found[key] = value.numel()
    return found
