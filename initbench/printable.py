"""Makes the text of others safe to be shown: every text from a file passes through here, by a function for each kind of output.

A terminal obeys control characters, Markdown makes links and HTML of text, LaTeX runs it, and a spreadsheet computes it.
"""

from __future__ import annotations

import json
import re
from typing import Any

_SHOWN_AS = "\N{REPLACEMENT CHARACTER}"
_LONGEST = 1000  # characters; what is longer fills a terminal and is read by nobody

# What Markdown reads as emphasis, code, HTML, the end of a cell, a link, or the address of one.
_MARKDOWN = re.compile(r"[\\`*|<>]|(?<=\])[(\[:]|(?<!\w)_|_(?!\w)|(?<=:)//|(?<=\bwww)\.|^[#+-](?= )")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "//": "&#47;&#47;", ".": "&#46;", ":": "&#58;"}

_ESCAPED = dict(zip("&%$#_{}", (r"\&", r"\%", r"\$", r"\#", r"\_", r"\{", r"\}"), strict=True))
_WRITTEN = {"\\": r"\textbackslash{}", "~": r"\~{}", "^": r"\^{}", "–": "--"}
_FORMULAS = {"×": r"\times", "±": r"\pm", "·": r"\cdot", "→": r"\to", "≤": r"\leq", "≥": r"\geq", "²": "^2", "³": "^3", "−": "-"}
_FORMULAS |= {"<": "<", ">": ">"}
_SIGNS = {sign: f"${formula}$" for sign, formula in _FORMULAS.items()}
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")  # digits of a mark that sends a reader to a note
_LATEX = str.maketrans(_ESCAPED | _WRITTEN | _SIGNS)

_COMPUTED = ("=", "+", "-", "@", "\t", "\r")  # how cells begin that a spreadsheet takes for formulas


def printable(text: str) -> str:
    """Returns the text of others, cut where it is too long, and `clean`."""
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    return clean(text)


def clean(text: str) -> str:
    """Returns a text in one line, with a sign in place of each character that a terminal would obey or not show."""
    if text.isprintable():
        return text
    shown = ""
    for sign in " ".join(text.split()):
        if sign.isprintable():
            shown += sign
        else:
            shown += _SHOWN_AS
    return shown


def markdown(text: str) -> str:
    """Returns a text in Markdown that looks as it is written; a part between two backticks is code, as in our own notes."""
    parts = clean(text).split("`")
    if len(parts) % 2 == 0:  # a backtick without another one
        return _MARKDOWN.sub(_escaped, clean(text))
    for place, part in enumerate(parts):
        is_code = place % 2 == 1
        if is_code:
            parts[place] = part.replace("|", "\\|")
        else:
            parts[place] = _MARKDOWN.sub(_escaped, part)
    return "`".join(parts)


def _escaped(found: re.Match[str]) -> str:
    """Returns a sign of Markdown so that it is read as text."""
    return _ENTITIES.get(found[0], f"\\{found[0]}")


def latex(text: str) -> str:
    """Returns a text in LaTeX that looks as it is written."""
    return clean(text).translate(_LATEX)


def csv_cell(value: Any) -> Any:
    """Returns the value of a cell of CSV: text that a spreadsheet would compute gets an apostrophe, as spreadsheets write it."""
    if not isinstance(value, str):
        return value
    if value.startswith(_COMPUTED):
        return f"'{clean(value)}"
    return clean(value)


def json_text(value: Any) -> str:
    """Returns JSON of plain values; other values, as paths, are written as text. Signs that a terminal obeys are escaped."""
    text = json.dumps(value, indent=1, ensure_ascii=False, default=str)
    shown = ""
    for sign in text:
        if sign.isprintable() or sign == "\n":
            shown += sign
        else:
            shown += json.dumps(sign)[1:-1]
    return shown
