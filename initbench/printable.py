"""Text of others, made safe to be shown: a terminal obeys some characters, and a name may hold any."""

from __future__ import annotations

_SHOWN_AS = "\N{REPLACEMENT CHARACTER}"
_LONGEST = 1000  # characters; what is longer fills a terminal and is read by nobody


def printable(text: str) -> str:
    """The text in one line and not too long, with a sign in place of each character that a terminal would obey or not show."""
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _SHOWN_AS for sign in " ".join(text.split()))
