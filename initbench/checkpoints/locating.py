"""Finds the weights of a network in what a training program saved, whatever the program put around them."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

# Number of pairs of (prefix, part) that are tried on the whole file: the ones that explain the most keys.
_TRIED = 12
# Least share of a file's keys that a part of a network has to explain: any two networks have a block or a norm in common.
_SHARE_OF_PART = 0.25

Fits = Callable[[Mapping[str, Tensor]], int]
"""Counts the tensors that have a place in the network."""


@dataclass(frozen=True)
class Located:
    """The weights of a network as they lie in a file.

    Attributes:
        tensors: the weights, by the keys behind the prefix, with the name of the part before them.
        prefix: what stands before these keys in the file; "" where nothing does.
        part: dotted name of the submodule whose own keys the file has, "" for the whole network.
        elsewhere: keys of the file that stand behind no such prefix.
        others: prefixes behind which other tensors fit as well.
    """

    tensors: Mapping[str, Tensor]
    prefix: str = ""
    part: str = ""
    elsewhere: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def locate(
    tensors: Mapping[str, Tensor],
    own: Collection[str],
    *,
    fits: Fits | None = None,
    begins: Callable[[str], bool] | None = None,
    prefix: str | None = None,
) -> Located:
    """Returns the tensors of a file that fit a network, behind the prefix that makes most of them fit.

    Training programs wrap networks (DataParallel, torch.compile, Lightning, teachers and students), and save them below keys of
    their own choice. No list of such names is kept: the prefix is found by comparing keys.

    Args:
        tensors: all of a file, by dotted keys.
        own: the network's keys.
        fits: counts the tensors that have a place; by default the ones whose keys are the network's.
        begins: whether a key belongs to a kind of file that is read otherwise than by the network's keys.
        prefix: where to look; None looks everywhere.
    """
    if fits is None:
        fits = functools.partial(count_keys, own)
    pairs = _pairs(tensors, own, begins)
    if prefix is not None:
        pairs = [pair for pair in pairs if pair[0] == prefix] or [(prefix, "")]
    scores = {pair: fits(_behind(tensors, *pair)) for pair in pairs}
    if not scores:
        return Located(tensors)
    # Of equal ones the whole network before a part of it, then the first in the file.
    best = max(scores, key=lambda pair: (scores[pair], not pair[1]))
    others = []
    for pair, score in scores.items():
        same_part = pair[1] == best[1]
        if score == scores[best] and same_part and pair != best:
            others.append(pair[0])
    elsewhere = tuple(key for key in tensors if not key.startswith(best[0]))
    return Located(_behind(tensors, *best), *best, elsewhere=elsewhere, others=tuple(others))


def count_keys(own: Collection[str], tensors: Mapping[str, Tensor]) -> int:
    """Counts the tensors whose keys are the network's `own`."""
    count = 0
    for key in tensors:
        if key in own:
            count += 1
    return count


def _pairs(tensors: Mapping[str, Tensor], own: Collection[str], begins: Callable[[str], bool] | None) -> list[tuple[str, str]]:
    """Returns pairs of a prefix in the file and a part of the network that may explain the file's keys.

    Args:
        tensors: as in `locate`.
        own: as in `locate`.
        begins: as in `locate`.
    """
    parts: dict[str, list[str]] = defaultdict(list)
    for key in own:
        for before, rest in _cuts(key):
            if not before or "." in rest:  # "weight" alone is the end of every key
                parts[rest].append(before.removesuffix("."))
    counts: Counter[tuple[str, str]] = Counter()
    beginnings: Counter[tuple[str, str]] = Counter()
    for key in tensors:
        for prefix, rest in _cuts(key):
            for part in parts.get(rest, []):
                # "a.vit." + "b" explains no more with the part "vit" than "a." does with the whole network.
                if not part or not f".{prefix}".endswith(f".{part}."):
                    counts[prefix, part] += 1
            if begins is not None and begins(rest):
                beginnings[prefix, ""] += 1
    found = [pair for pair, _ in beginnings.most_common(_TRIED)]
    for pair, number in counts.most_common(_TRIED):
        if not pair[1] or number >= _SHARE_OF_PART * len(tensors):
            found.append(pair)
    return list(dict.fromkeys(found))


def _cuts(key: str) -> Iterator[tuple[str, str]]:
    """Yields all ways to cut a key behind a dot, the whole key first: ``("", "a.b")``, ``("a.", "b")``."""
    yield "", key
    for place, letter in enumerate(key):
        if letter == ".":
            yield key[: place + 1], key[place + 1 :]


def _behind(tensors: Mapping[str, Tensor], prefix: str, part: str) -> dict[str, Tensor]:
    """Returns the tensors behind a prefix of the file, by the keys of a part of the network ("" for the whole)."""
    before = ""
    if part:
        before = f"{part}."
    return {before + key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def modules_of(keys: Sequence[str], kept: Collection[str]) -> list[str]:
    """Returns the shortest dotted names that cover all of `keys` and nothing of what is `kept`, in order."""
    taken: set[str] = set()
    for key in kept:
        for before, _ in _cuts(key):
            taken.add(before)
    found: dict[str, None] = {}
    for key in keys:
        found[_shortest(key, taken)] = None
    return list(found)


def _shortest(key: str, taken: Collection[str]) -> str:
    """Returns the shortest module that holds a key and is not taken, or the key itself."""
    for before, _ in _cuts(key):
        if before and before not in taken:
            return before.removesuffix(".")
    return key
