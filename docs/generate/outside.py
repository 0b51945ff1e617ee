"""Looks for addresses that a page would load from the network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?\b(?:src|data)=["']?((?:https?:)?//[^"'\s>]+)"""
)
_LINKED = re.compile(r"""<link\b[^>]*?\bhref=["']?((?:https?:)?//[^"'\s>]+)""")
_STYLED = re.compile(r"""(?:@import\s+|url\()\s*["']?((?:https?:)?//[^"')\s]+)""")


def loaded(site: Path) -> Iterator[str]:
    """Yields the addresses outside that scripts, styles, images and fonts of a site are loaded from, with the file.

    Links that a reader follows are none of them.
    """
    for path in sorted(site.rglob("*")):
        if path.suffix not in (".html", ".css"):
            continue
        text = path.read_text("utf-8")
        for pattern in (_LOADED, _LINKED, _STYLED):
            for address in pattern.findall(text):
                yield f"{path.relative_to(site)} loads {address}"
