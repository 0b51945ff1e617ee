"""Names of a request checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence

from initbench import registry, spec
from initbench.catalog import Kind


def items(values: str | Sequence[str]) -> list[str]:
    """A comma list, or several, as single component strings without repetition."""
    texts = [values] if isinstance(values, str) else list(values)
    return list(dict.fromkeys(item for text in texts for item in spec.split_list(text)))


def check_names(kind: Kind, texts: Sequence[str]) -> None:
    """Refuses unknown names before anything heavy is imported.

    Raises:
        UsageError: names the nearest known ones.
    """
    known = registry.names(kind)
    for item in items(texts):
        parsed = spec.parse(item)
        if not parsed.is_file and parsed.name not in known:
            raise registry.unknown(kind, parsed.name, known)
