"""Which classes count: by name, or as a named set of the field's tables."""

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
    """Names among `present` of the classes or of the set that is `wanted`, in that order.

    Raises:
        UsageError: a class is not there; names those that are.
    """
    names = {_plain(name): name for name in present}
    found = []
    for aliases in SETS.get(wanted[0], ()) if len(wanted) == 1 and wanted[0] in SETS else [(name,) for name in wanted]:
        match = next((names[_plain(alias)] for alias in aliases if _plain(alias) in names), None)
        if match is None:
            there, sets = ", ".join(names.values()), ", ".join(SETS)
            raise UsageError(f"--classes: {dataset} has no class {aliases[0]!r}; it has {there}; named sets: {sets}")
        found.append(match)
    return tuple(found)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())
