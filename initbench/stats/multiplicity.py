"""Letters that show which of many inits are told apart."""

from __future__ import annotations

import string
from collections.abc import Collection


def compact_letters(count: int, different: Collection[tuple[int, int]]) -> list[str]:
    """Letters for items 0 … count − 1: two items share one exactly if they are not in `different`.

    Insert and absorb, Piepho 2004 (J. Comput. Graph. Stat. 13:456). Item 0 holds the letter a, later letters go to later items.
    """
    groups: list[frozenset[int]] = [frozenset(range(count))]
    for i, j in different:
        split: list[frozenset[int]] = []
        for group in groups:
            split += [group - {i}, group - {j}] if i in group and j in group else [group]
        groups = _absorbed(split)
    groups.sort(key=sorted)
    return ["".join(_letter(k) for k, group in enumerate(groups) if item in group) for item in range(count)]


def _absorbed(groups: list[frozenset[int]]) -> list[frozenset[int]]:
    unique = list(dict.fromkeys(groups))
    return [group for group in unique if not any(group < other for other in unique)]


def _letter(k: int) -> str:
    letters = string.ascii_lowercase
    return letters[k] if k < len(letters) else f"({k + 1})"
