"""Reports what of a checkpoint went where: by key, by layer group, and as a share of the parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Report:
    """The outcome of matching a file to a network. Output heads and unused parameters are not counted.

    Attributes:
        file: name of the file.
        layout: kind of file it was read as.
        part: the submodule that such files cover, "" for the whole network.
        loaded: parameters that got a value from it, with their sizes.
        wanted: all parameters, with their sizes.
        reshaped: parameters among `loaded` whose values were resampled or reshaped.
        skipped: keys of the file that were not used, and why.
        missing: parameters that keep what they had.
        buffers: buffers that were taken over (norm statistics, index tables).
        prefix: what stands before the network's keys in the file.
        others: prefixes behind which other weights of the file would fit as well.
        elsewhere: keys of the file that stand behind no such prefix: optimizers, teachers, queues.
        brought: the file's trained weights, with their sizes.
        homeless: trained weights of the file that have no place in the network, and why.
    """

    file: str
    layout: str
    part: str
    loaded: Mapping[str, int]
    wanted: Mapping[str, int]
    reshaped: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    prefix: str = ""
    others: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    brought: Mapping[str, int] = field(default_factory=dict)
    homeless: Mapping[str, str] = field(default_factory=dict)

    @property
    def scope(self) -> str:
        """What the share is a share of."""
        return f"the parameters of {self.part}" if self.part else "the parameters"

    @property
    def share(self) -> float:
        """Share of the parameters that the file claims to cover."""
        covered = [size for key, size in self.wanted.items() if not self.part or key.startswith(f"{self.part}.")]
        loaded = [size for key, size in self.loaded.items() if not self.part or key.startswith(f"{self.part}.")]
        return sum(loaded) / sum(covered) if covered else 0.0

    @property
    def share_of_network(self) -> float:
        """Share of all parameters."""
        return sum(self.loaded.values()) / max(1, sum(self.wanted.values()))

    @property
    def share_of_file(self) -> float:
        """Share of the file's trained weights that the network took."""
        homeless = sum(self.brought.get(key, 0) for key in self.homeless)
        return 1 - homeless / max(1, sum(self.brought.values()))

    @property
    def lacking(self) -> list[str]:
        """Parameters that such a file covers, and that are not in this one."""
        inside = [key for key in self.missing if not self.part or key.startswith(f"{self.part}.")]
        return [key for key in inside if key not in self.homeless]

    @property
    def groups(self) -> dict[str, float]:
        """Share loaded per top-level module."""
        loaded = _by_module(self.loaded)
        return {name: loaded[name] / max(1, wanted) for name, wanted in _by_module(self.wanted).items()}

    def summary(self) -> str:
        """One line for people."""
        matched = len(self.loaded) - len(self.reshaped)
        return (
            f"{self.file}: {self.share_of_network:.1%} of the parameters ({matched} matched, {len(self.reshaped)} reshaped, "
            f"{len(self.skipped)} skipped, {len(self.missing)} missing), from {self.share_of_file:.1%} of the file's weights"
        )

    def text(self) -> str:
        """Several lines for people; a few keys of a kind."""
        lines = [self.summary(), f"read as: {self.layout}"]
        if self.prefix:
            lines.append(f"keys stand behind {self.prefix!r} in the file")
        if self.others:
            lines.append(f"other weights fit as well, behind {few(self.others)}: --set init.prefix=... takes them")
        lines.append("by group: " + ", ".join(f"{name} {share:.0%}" for name, share in self.groups.items()))
        skipped = [f"{key} ({why})" for key, why in self.skipped.items()]
        for title, keys in (
            ("reshaped", self.reshaped),
            ("skipped", skipped),
            ("missing", self.missing),
            ("elsewhere in the file", self.elsewhere),
        ):
            if keys:
                lines.append(f"{title}: {few(keys)}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Everything, for the record."""
        return {
            "file": self.file,
            "layout": self.layout,
            "prefix": self.prefix,
            "others": list(self.others),
            "share": self.share_of_network,
            "share_of_file": self.share_of_file,
            "groups": self.groups,
            "matched": [key for key in self.loaded if key not in self.reshaped],
            "reshaped": list(self.reshaped),
            "skipped": dict(self.skipped),
            "missing": list(self.missing),
            "elsewhere": list(self.elsewhere),
            "buffers": list(self.buffers),
        }


def _by_module(sizes: Mapping[str, int]) -> Counter[str]:
    """Sums sizes by the top-level module of their keys."""
    sums: Counter[str] = Counter()
    for key, size in sizes.items():
        sums[key.partition(".")[0]] += size
    return sums


def few(keys: Sequence[str], most: int = 6) -> str:
    """The first keys, and how many more there are."""
    more = f", and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more
