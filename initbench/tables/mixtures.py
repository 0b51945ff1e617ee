"""Rows whose runs were done in different environments: on other hardware, with other packages, or with ``--fast``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from initbench.runs.record import SEVERAL
from initbench.tables import words

Environments = Sequence[tuple[int, str]]
"""Seeds, each with the fingerprint of what its run was done on."""


def mixed(rows: Mapping[str, Environments], control: str | None) -> list[str]:
    """Returns a warning of rows with seeds that ran in another environment than the same seeds of the others.

    An environment that all rows of a seed share cancels in their differences, so it may be another one for each seed.

    Args:
        rows: the environments of each row of a block, by the name of its init.
        control: the init with which the others are compared, if they are.
    """
    usual = _usual(rows, control)
    told = []
    for init, environments in rows.items():
        strange = []
        for seed, name in environments:
            if name != usual[seed] or SEVERAL in name:
                strange.append(seed)
        if strange:
            what = words.form(len(strange), "seed", "seeds")
            told.append(f"{words.label(init)} ({what} {words.seeds(sorted(strange))})")
    if not told:
        return []
    return [
        "Warning: rows come from different environments (hardware, package versions or --fast) under the same seed, which may "
        f"be what makes them differ: {', '.join(told)}."
    ]


def _usual(rows: Mapping[str, Environments], control: str | None) -> dict[int, str]:
    """Returns the environment of each seed: where the control ran, or if it did not, where most rows did."""
    counted: dict[int, Counter[str]] = {}
    for init, environments in rows.items():
        for seed, name in environments:
            weight = 1
            if init == control:
                weight = len(rows)
            counted.setdefault(seed, Counter())[name] += weight
    return {seed: names.most_common(1)[0][0] for seed, names in counted.items()}
