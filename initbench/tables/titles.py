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
    """Returns the title of a block: its data set and its network."""
    return f"{block['dataset']} × {variant(block)}"


def variant(block: Mapping[str, Any]) -> str:
    """Returns the network of a block, with its variant where that is not the default."""
    if block["variant"] == "default":
        return str(block["backbone"])
    return f"{block['backbone']} ({block['variant']})"


def settings(block: Mapping[str, Any]) -> str:
    """Returns the settings of a block in one line."""
    parts = [f"{block['size']} size", f"{block['steps']} steps ({block['budget']})"]
    if block["protocol"] != "any":
        parts.append(f"{block['protocol']}")
    parts += [f"{block['precision']}", f"split {block['split']}"]
    if block["fixed_streams"]:
        parts.append(f"seeds share {block['fixed_streams']}")
    if block.get(MARK):
        parts.append(f"{block[MARK]}")
    return " · ".join(parts)


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
    """Returns the columns of JSON and CSV that tell the rows of a block from all other rows, in every command alike."""
    found = {name: block[name] for name in _COLUMNS}
    found[MARK] = block.get(MARK, "")
    return found


def named(name: str, names: Iterable[str]) -> dict[str, object]:
    """Returns the columns of JSON and CSV that name a row: its init, and its regimen where some row has another one than `plain`.

    Args:
        name: of the row.
        names: of all rows of the table.
    """
    if not have_regimens(names):
        return {"init": name}
    own = treatment(name)
    return {"init": own.init, "regimen": own.regimen, "regimen_budget": own.budget}


def titles(blocks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a title for every block: its own, and where several blocks share it, with the settings in which these differ."""
    of_title: dict[str, list[Mapping[str, Any]]] = {}
    for block in blocks:
        of_title.setdefault(title(block), []).append(block)
    found = []
    for block in blocks:
        own = title(block)
        found.append(own + _differing(block, of_title[own]))
    return found


def _differing(block: Mapping[str, Any], alike: Sequence[Mapping[str, Any]]) -> str:
    """Returns what tells a block from others of its title: the protocol, and only if that is not enough the other settings."""
    told, same = "", alike
    if _differ(alike, "protocol"):
        told = f", {block['protocol']}"
        same = [other for other in alike if other["protocol"] == block["protocol"]]
    for name, value in columns(block).items():
        if not _differ(same, name):
            continue
        said = f"{name.replace('_', ' ')} {value or 'none'}"
        if name == MARK:
            said = f"{value}"
        if said:
            told += f", {said}"
    return told


def _differ(blocks: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether any two blocks have other values of a column."""
    return len({str(columns(block)[name]) for block in blocks}) > 1


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
    """Returns a name for the data set of every run: its own, and where several data sets share one, as much as tells them apart.

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
        of_split: dict[str, set[str]] = {}
        of_folder: dict[tuple[str, str], set[str]] = {}
        for run in runs:
            of_split.setdefault(run.split, set()).add(run.data_digest)
            of_folder.setdefault((run.place, run.split), set()).add(run.data_digest)
        self._several = max(map(len, of_split.values())) > 1
        self._changed = set()  # a folder that changed between runs is several data sets, too
        for (place, _), digests in of_folder.items():
            if len(digests) > 1:
                self._changed.add(place)
        self._places = shortest({run.place for run in runs})
        self._digits = _digits({run.data_digest for run in runs})

    def name_of(self, run: Named) -> str:
        """Returns a name for the data set of one of the runs."""
        if not self._several:
            return run.name
        name = run.name
        above = PurePath(self._places[run.place]).parent
        if str(above) != ".":
            name = f"{above / name}"
        if run.place in self._changed:
            name += f"@{run.data_digest[: self._digits]}"
        return name


def shortest(paths: Collection[str]) -> dict[str, str]:
    """Returns the end of each path, by the path: all as long as the longest has to be for no two to be alike."""
    parts = {path: PurePath(os.path.normpath(path)).parts for path in paths}
    deepest = max(map(len, parts.values()), default=1)
    for kept in range(1, deepest + 1):
        ends = {path: str(PurePath(*found[-kept:])) for path, found in parts.items()}
        if len(set(ends.values())) == len(set(parts.values())):
            return ends
    return dict(zip(paths, paths, strict=True))


def _digits(digests: Collection[str], least: int = 6) -> int:
    """Returns how many digits of digests tell them apart.

    Args:
        digests: the digests, each once.
        least: the fewest digits.
    """
    for digits in range(least, 64):
        if len({digest[:digits] for digest in digests}) == len(digests):
            return digits
    return 64


def marks(blocks: Sequence[Mapping[Hashable, Any]], shown: Sequence[str]) -> list[str]:
    """Returns for each block a part of its recipe's digest where another recipe is alike in all that is shown, else nothing.

    Args:
        blocks: keys of blocks, with `recipe`.
        shown: the keys that readers see.
    """
    shown_of = []
    recipes: dict[tuple[str, ...], set[str]] = {}
    for block in blocks:
        own = tuple(str(block[key]) for key in shown)
        shown_of.append(own)
        recipes.setdefault(own, set()).add(str(block["recipe"]))
    found = []
    for block, own in zip(blocks, shown_of, strict=True):
        mark = ""
        if len(recipes[own]) > 1:
            mark = f"recipe {str(block['recipe'])[: _digits(recipes[own])]}"
        found.append(mark)
    return found
