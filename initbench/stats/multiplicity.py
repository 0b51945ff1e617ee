"""Letters that show which of many inits are told apart from each other."""

from __future__ import annotations

import string
from collections.abc import Collection


def compact_letters(count: int, different: Collection[tuple[int, int]]) -> list[str]:
    """Returns the letters of items 0 … count − 1: two items share a letter exactly if they are not in `different`.

    The letters are found by insert and absorb (Piepho 2004, J. Comput. Graph. Stat. 13:456). Item 0 has the letter a, and later
    letters go to later items.

    Args:
        count: number of items.
        different: pairs of items that are told apart.
    """
    groups: list[frozenset[int]] = [frozenset(range(count))]
    for i, j in different:
        split: list[frozenset[int]] = []
        for group in groups:
            if i in group and j in group:
                split += [group - {i}, group - {j}]
            else:
                split.append(group)
        groups = _absorbed(split)
    groups.sort(key=sorted)
    letters = [""] * count
    for number, group in enumerate(groups):
        for item in group:
            letters[item] += _letter(number)
    return letters


def _absorbed(groups: list[frozenset[int]]) -> list[frozenset[int]]:
    """Returns the groups that lie in no other one, each once."""
    unique = list(dict.fromkeys(groups))
    return [group for group in unique if not any(group < other for other in unique)]


def _letter(number: int) -> str:
    """Returns the letter of a group: a to z, then (27) and on."""
    if number < len(string.ascii_lowercase):
        return string.ascii_lowercase[number]
    return f"({number + 1})"
