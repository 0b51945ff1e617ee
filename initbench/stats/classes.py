"""Chooses the classes that count: by name, or as a named set of the field's tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from initbench.errors import UsageError

# Each class under the names that data sets give it. The Synapse tables of TransUNet, UNETR++, nnFormer and LWI report 8 of the
# 13 organs of BTCV (Chen et al. 2021, arXiv:2102.04306, table 1).
SETS: dict[str, tuple[tuple[str, ...], ...]] = {
    "synapse-8": (
        ("spleen", "spl", "sp"),
        ("right kidney", "kidney right", "rkid", "rki", "kidney r"),
        ("left kidney", "kidney left", "lkid", "lki", "kidney l"),
        ("gallbladder", "gall bladder", "gall", "gal", "gb"),
        ("liver", "liv", "lv"),
        ("stomach", "sto", "stom", "st"),
        ("aorta", "aor", "ao"),
        ("pancreas", "pan", "panc", "pc"),
    ),
}


def choose(wanted: Sequence[str], present: Iterable[str], dataset: str) -> tuple[str, ...]:
    """Returns the names that a data set gives the wanted classes, in the order in which they are wanted.

    Args:
        wanted: names of classes, or the one name of a set.
        present: names of the classes of the data set.
        dataset: its name, for the message.

    Raises:
        UsageError: the data set lacks a class; the message names its classes.
    """
    names = {_plain(name): name for name in present}
    sought: list[tuple[str, ...]] = [(name,) for name in wanted]
    if len(wanted) == 1 and wanted[0] in SETS:
        sought = list(SETS[wanted[0]])
    found = []
    for aliases in sought:
        for alias in aliases:
            if _plain(alias) in names:
                found.append(names[_plain(alias)])
                break
        else:
            there, sets = ", ".join(names.values()), ", ".join(SETS)
            raise UsageError(f"--classes: {dataset} has no class {aliases[0]!r}; it has {there}; named sets: {sets}")
    return tuple(found)


def _plain(name: str) -> str:
    """Returns a name in lower case, its words parted by one blank, without underscores and hyphens."""
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())
