"""Parses component strings: ``name``, ``name(arg=1)``, ``outer(inner)``, ``./file.py:function``; as literals, never evaluated."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from initbench.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(/[A-Za-z0-9_.\-]+)?\Z")
_WORD = re.compile(r"[A-Za-z_][\w+./-]*\Z")
_KEYWORD = re.compile(r"[A-Za-z_]\w*\s*=")
_NESTED = re.compile(r"[A-Za-z_./~]")
_PUNCTUATION = set("()[],")
_FILE_FIRST = re.compile(r".+?\.py:[A-Za-z_]\w*(?=\s*(?:\(|\Z))")
_FILE = re.compile(r"(?P<path>.+\.py):(?P<attribute>[A-Za-z_]\w*)\Z")
_QUOTES = "\"'"
_BEFORE_QUOTES = ",([="
_DEEPEST = 50  # parentheses in a component string; Python's own parser ends in an error of its own beyond some hundred

OF = "of"
"""The name of the parameter that a nested component goes to: ``shuffled(lwi)`` is ``shuffled(of=lwi)``."""
_PATH = re.compile(r"(?P<key>[A-Za-z_]\w*)\s*=\s*(?P<path>(?:/|\.\.?/|~|[\w.+-]+/)[^'\"(),]*)")
"""A parameter whose value is a path without quotes: ``path=/data/model final.pt``."""
_OF = re.compile(rf"{OF}\s*=(?P<component>.*)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Spec:
    """A component and the parameters it is asked for. A parameter may be a component itself.

    Two specs are equal where they are written alike. Python takes 1, 1.0 and True for equal, but these are different runs; and
    lists, which may be parameters, have no hash.
    """

    name: str
    params: tuple[tuple[str, Any], ...] = ()

    @property
    def is_file(self) -> bool:
        """Whether the name is ``path/to/file.py:attribute``."""
        return _FILE.match(self.name) is not None

    def with_param(self, key: str, value: Any) -> Spec:
        """Returns the component with one parameter set."""
        return Spec(self.name, _sorted({**dict(self.params), key: value}))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        if not self.params:
            return self.name
        inner, plain = [], []
        for key, value in self.params:
            if isinstance(value, Spec):
                inner.append(str(value))
            else:
                plain.append(f"{key}={value!r}")
        return f"{self.name}({', '.join(inner + sorted(plain))})"


def parts_in_files(component: Spec) -> Iterator[Spec]:
    """Yields the components that are functions in Python files: the component itself, and components inside it."""
    if component.is_file:
        yield component
    for _, value in component.params:
        if isinstance(value, Spec):
            yield from parts_in_files(value)


def is_writable(name: str) -> bool:
    """Returns whether a component string can hold this name of a file, also inside another component."""
    return _FILE.match(name) is not None and not _PUNCTUATION & set(name)


def parse(text: str) -> Spec:
    """Parses one component string.

    Raises:
        UsageError: it is no name, or an argument is not ``key=literal``.
    """
    text = text.strip()
    if text.count("(") > _DEEPEST:
        raise UsageError(f"{text[:40]!r}...: there are more than {_DEEPEST} parentheses in this component")
    begin = _arguments_begin(text)
    name, rest = text[:begin].strip(), text[begin:].strip()
    if not _NAME.match(name) and not _FILE.match(name):
        raise UsageError(f"{text!r} is not a component: write name, name(key=value) or ./file.py:function")
    if not rest:
        return Spec(name)
    if not rest.endswith(")"):
        raise UsageError(f"{text!r}: the closing parenthesis is missing; write name(key=value)")
    return Spec(name, _arguments(text, rest[1:-1]))


def _arguments_begin(text: str) -> int:
    """Returns the place where the arguments of a component begin: at the first parenthesis that is not in the path of a file."""
    first = text.find("(")
    if first < 0:
        return len(text)
    file = _FILE_FIRST.match(text)
    # In `shuffled(./x.py:f)` the file is the argument; in `./a (b)/x.py:f` the parenthesis is closed before the file is named.
    if file is not None and text.count("(", 0, file.end()) == text.count(")", 0, file.end()):
        return file.end()
    return first


def as_spec(component: str | Spec) -> Spec:
    """Returns the spec of a component that may still be text.

    Raises:
        UsageError: the text is no component string.
    """
    if isinstance(component, str):
        return parse(component)
    return component


def _sorted(params: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Returns parameters as pairs, sorted by name."""
    return tuple(sorted(params.items(), key=lambda item: item[0]))


def _arguments(text: str, inside: str) -> tuple[tuple[str, Any], ...]:
    """Parses the parameters of a component.

    A component inside it comes first without a name, or anywhere as ``of=``.

    Args:
        text: the component string, for messages.
        inside: its text between the outer parentheses.

    Raises:
        UsageError: an argument cannot be read, or there are two components inside it.
    """
    nested: list[str] = []
    keywords: list[str] = []
    for place, item in enumerate(split_list(inside)):
        named = _OF.match(item)
        if named is not None:
            nested.append(unquoted(named["component"].strip()))
        elif place == 0 and _NESTED.match(item) and not _KEYWORD.match(item):
            nested.append(item)
        else:
            keywords.append(item)
    if not nested:
        return _keywords(text, inside)
    if len(nested) > 1:
        raise UsageError(f"{text!r}: it works on one component, and {' and '.join(nested)} are named; leave out one")
    return _sorted({OF: parse(nested[0]), **dict(_keywords(text, ", ".join(keywords)))})


def _keywords(text: str, inside: str) -> tuple[tuple[str, Any], ...]:
    """Parses parameters that are given as ``key=literal``; arguments and errors are as in `_arguments`."""
    source = f"f({_with_quoted_paths(inside)})"
    try:
        call = ast.parse(source, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:  # the last two where it is nested too deeply
        reason = "nested too deeply"
        if isinstance(error, SyntaxError):
            reason = error.msg
        raise UsageError(f"{text!r}: the arguments cannot be read ({reason}); write key=value, strings in quotes") from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        raise UsageError(f"{text!r}: arguments are given by name, as in lwi(mask_ratio=0.6)")
    params: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in params:
            raise UsageError(f"{text!r}: write each argument once, as key=value")
        params[keyword.arg] = _literal(text, keyword.arg, keyword.value, ast.get_source_segment(source, keyword.value) or "")
    return _sorted(params)


def _with_quoted_paths(inside: str) -> str:
    """Puts paths in quotes, so that they are read as strings: a shell has taken away the quotes that somebody wrote."""
    items = split_list(inside)
    has_path = False
    for place, item in enumerate(items):
        found = _PATH.fullmatch(item)
        if found is not None:
            has_path = True
            items[place] = f"{found['key']}={found['path'].strip()!r}"
    if not has_path:
        return inside
    return ", ".join(items)


def _literal(text: str, key: str, node: ast.expr, written: str) -> Any:
    """Returns the value of a parameter.

    Args:
        text: the component string, for the message.
        key: name of the parameter.
        node: its value, parsed.
        written: its value as written.

    Raises:
        UsageError: it is no literal.
    """
    # scope=linear+conv, variant=legacy-merge, path=weights/a.pt: a bare word is a string, so that shells need no second quotes.
    if _WORD.match(written) and written not in ("True", "False", "None"):
        return written
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError):  # TypeError: a list as key of a dict
        raise UsageError(f"{text!r}: {key} must be {PLAIN_VALUES}") from None


PLAIN_VALUES = "a number, a word, a tuple, True, False or None"


def is_plain(value: Any) -> bool:
    """Returns whether a value can be a parameter: the id of a run is a digest of it, so JSON has to hold it."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(is_plain, value.values()))
    return value is None or isinstance(value, str | int)


def value(text: str) -> Any:
    """Returns a value of ``--set``: a literal, ``true`` or ``false``, or the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # the last two where it is nested too deeply
        return text


def parameter(key: str, text: str) -> Any:
    """Returns the value that ``--set init.key=text`` gives a parameter: a component for `OF`, else as `value`.

    Raises:
        UsageError: it is no component string where there has to be one.
    """
    if key == OF:
        return parse(unquoted(text))
    return value(text)


def split_list(text: str) -> list[str]:
    """Splits a comma list, leaving commas inside parentheses and quotes alone: ``a,lwi(x=1, y=2),"b, c"`` gives three items."""
    items = []
    start = 0
    for end in (*separators(text), len(text)):
        item = text[start:end].strip()
        start = end + 1
        if item:
            items.append(item)
    return items


def separators(text: str, sign: str = ",") -> list[int]:
    """Returns the places of the commas, or other signs, that separate the items of a list: outside parentheses and quotes."""
    found: list[int] = []
    depth, index = 0, 0
    before = ","  # the last sign that is no blank
    while index < len(text):
        char = text[index]
        closing = -1
        if char in _QUOTES and before in _BEFORE_QUOTES:
            closing = text.find(char, index + 1)
        if closing > index:  # a quote that is never closed, or that stands in a word, is an apostrophe
            index, before = closing + 1, char
            continue
        if char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif char == sign and depth == 0:
            found.append(index)
        if not char.isspace():
            before = char
        index += 1
    return found


def unquoted(item: str) -> str:
    """Returns an item without the quotes around the whole of it."""
    is_quoted = len(item) > 1 and item[0] in _QUOTES and item.find(item[0], 1) == len(item) - 1
    if is_quoted:
        return item[1:-1]
    return item
