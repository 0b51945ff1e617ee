"""What a block is called, and what its rows share. Where names of two are alike, as much is added as tells them apart."""

from __future__ import annotations

import os
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from initbench.stats.blocks import MARK
from initbench.stats.treatments import have_regimens, treatment


def title(block: Mapping[str, Any]) -> str:
    """Data set and network."""
    return f"{block['dataset']} × {variant(block)}"


def variant(block: Mapping[str, Any]) -> str:
    """The network with its variant."""
    return f"{block['backbone']} ({block['variant']})" if block["variant"] != "default" else str(block["backbone"])


def settings(block: Mapping[str, Any]) -> str:
    """The settings of a block in one line."""
    protocol = "" if block["protocol"] == "any" else f" · {block['protocol']}"
    steps = f"{block['size']} size · {block['steps']} steps ({block['budget']}){protocol}"
    fixed = f" · seeds share {block['fixed_streams']}" if block["fixed_streams"] else ""
    mark = f" · {block[MARK]}" if block.get(MARK) else ""
    return f"{steps} · {block['precision']} · split {block['split']}{fixed}{mark}"


_COLUMNS = (
    "dataset",
    "split",
    "backbone",
    "variant",
    "size",
    "budget",
    "steps",
    "protocol",
    "precision",
    "fixed_streams",
)


def columns(block: Mapping[str, Any]) -> dict[str, object]:
    """The columns of JSON and CSV that tell the rows of a block from the rows of any other block, in every command alike."""
    return {**{name: block[name] for name in _COLUMNS}, MARK: block.get(MARK, "")}


def named(name: str, names: Iterable[str]) -> dict[str, object]:
    """The columns of JSON and CSV that name a row: its init, and its regimen where some row has another one than `plain`.

    Args:
        name: of the row.
        names: of all rows of the table.
    """
    if not have_regimens(names):
        return {"init": name}
    own = treatment(name)
    return {"init": own.init, "regimen": own.regimen, "regimen_budget": own.budget}


def titles(blocks: Sequence[Mapping[str, Any]]) -> list[str]:
    """A title for every block: its own, and where several blocks share it, with the settings in which these differ."""
    of_title: dict[str, list[Mapping[str, Any]]] = {}
    for block in blocks:
        of_title.setdefault(title(block), []).append(block)
    return [title(block) + _differing(block, of_title[title(block)]) for block in blocks]


def _differing(block: Mapping[str, Any], alike: Sequence[Mapping[str, Any]]) -> str:
    """What tells a block from others of its title, the protocol first; only if that is not enough, the other settings."""
    told, same = "", alike
    if len({other["protocol"] for other in alike}) > 1:
        told = f", {block['protocol']}"
        same = [other for other in alike if other["protocol"] == block["protocol"]]
    own = columns(block)
    for name, value in own.items():
        if len({str(columns(other)[name]) for other in same}) > 1:
            said = f"{value}" if name == MARK else f"{name.replace('_', ' ')} {value or 'none'}"
            told += f", {said}" if said else ""
    return told


@dataclass(frozen=True)
class Named:
    """A data set as a run had it.

    Attributes:
        name: as the run recorded it, which folders of several places may share.
        split: under one split a data set has one digest.
        data_digest: of its content and the split.
        place: its folder, or its name below a data root.
    """

    name: str
    split: str
    data_digest: str
    place: str


def told_apart(runs: Sequence[Named]) -> list[str]:
    """A name for the data set of every run: its own, or where several data sets share one, with as much as tells them apart.

    Folders of one name get the folders above them, as many as are needed; two contents of one folder a part of their digest.
    """
    of_name: dict[str, list[Named]] = {}
    for run in runs:
        of_name.setdefault(run.name, []).append(run)
    namesakes = {name: _Namesakes(alike) for name, alike in of_name.items()}
    return [namesakes[run.name].name_of(run) for run in runs]


class _Namesakes:
    """Runs whose data sets have one name."""

    def __init__(self, runs: Sequence[Named]) -> None:
        digests = _collected((run.split, run.data_digest) for run in runs)
        self._several = any(len(found) > 1 for found in digests.values())
        self._places = shortest({run.place for run in runs})
        of_place = _collected(((run.place, run.split), run.data_digest) for run in runs)
        # A folder that changed between runs is several data sets, too.
        self._changed = {place for (place, _), found in of_place.items() if len(found) > 1}
        self._digits = _digits({run.data_digest for run in runs})

    def name_of(self, run: Named) -> str:
        if not self._several:
            return run.name
        above = PurePath(self._places[run.place]).parent
        name = run.name if str(above) == "." else str(above / run.name)
        return f"{name}@{run.data_digest[: self._digits]}" if run.place in self._changed else name


def _collected(pairs: Iterable[tuple[Hashable, str]]) -> dict[Any, set[str]]:
    found: dict[Any, set[str]] = {}
    for key, value in pairs:
        found.setdefault(key, set()).add(value)
    return found


def shortest(paths: Collection[str]) -> dict[str, str]:
    """The ends of paths by the paths: all as long as the longest has to be for no two to be alike."""
    parts = {path: PurePath(os.path.normpath(path)).parts for path in paths}
    deepest = max((len(found) for found in parts.values()), default=1)
    for kept in range(1, deepest + 1):
        ends = {path: str(PurePath(*found[-kept:])) for path, found in parts.items()}
        if len(set(ends.values())) == len(set(parts.values())):
            return ends
    return {path: path for path in paths}


def _digits(digests: Collection[str], least: int = 6) -> int:
    """How many digits of digests tell them apart."""
    for digits in range(least, 64):
        if len({digest[:digits] for digest in digests}) == len(digests):
            return digits
    return 64


def marks(blocks: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> list[str]:
    """For each block what tells it from those that are alike in all that is shown: a part of its recipe's digest, or nothing.

    Args:
        blocks: keys of blocks, with `recipe`.
        shown: the keys that readers see.
    """
    alike = _collected((tuple(str(block[key]) for key in shown), str(block["recipe"])) for block in blocks)
    found = []
    for block in blocks:
        recipes = alike[tuple(str(block[key]) for key in shown)]
        found.append(f"recipe {str(block['recipe'])[: _digits(recipes)]}" if len(recipes) > 1 else "")
    return found
