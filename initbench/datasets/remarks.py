"""Sums up the remarks of readers, so that each is said once for all the cases it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from initbench.datasets.tables import some
from initbench.protocols import Remark


def summarized(found: Mapping[str, Sequence[Remark]]) -> list[str]:
    """Writes a sentence for every kind of remark: how many cases it is about, the first of them, and the numbers of one.

    Args:
        found: the remarks of each case.
    """
    cases: dict[str, list[str]] = {}
    details: dict[str, str] = {}
    for case_id, remarks in found.items():
        for remark in remarks:
            cases.setdefault(remark.what, []).append(case_id)
            if remark.detail:
                details.setdefault(remark.what, f" ({case_id}: {remark.detail})")
    sentences = []
    for what, ids in cases.items():
        number = "1 case"
        if len(ids) > 1:
            number = f"{len(ids)} of {len(found)} cases"
        sentences.append(f"{number}, {some(ids)}: {what}{details.get(what, '')}")
    return sentences
