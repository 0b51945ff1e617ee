"""Reports where the weights of a checkpoint went: by key, by layer group, and as a share of the parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
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
        """The parameters of which `share` is a share, in words."""
        if not self.part:
            return "the parameters"
        return f"the parameters of {self.part}"

    def _covers(self, key: str) -> bool:
        """Returns whether files of this kind cover a parameter."""
        return not self.part or key.startswith(f"{self.part}.")

    @property
    def share(self) -> float:
        """Share of loaded parameters among the ones that the file claims to cover, from 0 to 1."""
        covered = sum(size for key, size in self.wanted.items() if self._covers(key))
        loaded = sum(size for key, size in self.loaded.items() if self._covers(key))
        if not covered:
            return 0.0
        return loaded / covered

    @property
    def share_of_network(self) -> float:
        """Share of loaded parameters among all, from 0 to 1."""
        return sum(self.loaded.values()) / max(1, sum(self.wanted.values()))

    @property
    def share_of_file(self) -> float:
        """Share of the file's trained weights that the network took, from 0 to 1."""
        homeless = 0
        for key in self.homeless:
            homeless += self.brought.get(key, 0)
        return 1 - homeless / max(1, sum(self.brought.values()))

    @property
    def lacking(self) -> list[str]:
        """Parameters that such a file covers and that this one lacks."""
        found = []
        for key in self.missing:
            if self._covers(key) and key not in self.homeless:
                found.append(key)
        return found

    @property
    def groups(self) -> dict[str, float]:
        """Share of loaded parameters in each top-level module, from 0 to 1."""
        loaded = _by_module(self.loaded)
        return {name: loaded[name] / max(1, wanted) for name, wanted in _by_module(self.wanted).items()}

    def summary(self) -> str:
        """Returns one line for people."""
        matched = len(self.loaded) - len(self.reshaped)
        return (
            f"{self.file}: {self.share_of_network:.1%} of the parameters ({matched} matched, {len(self.reshaped)} reshaped, "
            f"{len(self.skipped)} skipped, {len(self.missing)} missing), from {self.share_of_file:.1%} of the file's weights"
        )

    def text(self) -> str:
        """Returns several lines for people, with a few keys of each kind."""
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
        """Returns everything, for the record."""
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
    """Returns the first `most` keys, and how many more there are."""
    text = ", ".join(keys[:most])
    if len(keys) > most:
        text += f", and {len(keys) - most} more"
    return text


def divide(wanted: Mapping[str, int], values: Container[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Divides parameters into the ones that get a value and the ones that do not.

    Args:
        wanted: sizes of the parameters by key.
        values: keys that get a value.

    Returns:
        The sizes of the loaded parameters, and the keys of the missing ones.
    """
    loaded, missing = {}, []
    for key, size in wanted.items():
        if key in values:
            loaded[key] = size
        else:
            missing.append(key)
    return loaded, tuple(missing)
