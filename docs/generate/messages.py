"""The page of messages, made from the source: every message that is raised through `initbench.errors`.

A message says what is wrong, where, and what to do. `lacks` says which of the two latter a message leaves out; a test asks it of
all. Those that may leave something out stand in `PASSED_ON` and `PLAIN`, each with the reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.generate.text import plain, table

ROOT = Path(__file__).parents[2]
SOURCES = ("initbench", "initializers", "backbones", "regimens")
_KNOWN = {"InitbenchError": 1, "UsageError": 2, "InterruptedRunError": 130}  # exit codes; other classes have their base's

PASSED_ON = {
    "RecordError": "It completes the sentence of the command that reads the file, which says what to do.",
    "DamagedError": "Whoever reads the cache catches it, and makes the array again.",
    "ElsewhereError": "The study catches it, and waits for the other process.",
    "LostError": "The study catches it, and waits for the process that has the run now.",
    "DivergedError": "It ends no command: the run is recorded as diverged.",
    "InterruptedRunError": "Somebody asked to stop. The command says that the same command goes on.",
    "_LeftError": "`collect` catches it, names the run that it leaves, and copies the others.",
    "_CutError": "The download catches it, and goes on where it was cut.",
}
"""Errors that no reader meets alone, with the reason."""

PLAIN = {
    "a regimen asked for a batch before training": "The place is the regimen that is tried, which the run names.",
    "levels by name are measured": "The place is the call of the Python function itself.",
    "order prediction asks encoder levels": "The place is the network, which has no name where people bring their own.",
    "transfer: the network declares": "The place is the network, which has no name where people bring their own.",
    "inflate-2d: {error}": "The error that follows says which shape does not fit.",
    "{init}: {error}": "The error that follows says which shape does not fit.",
    "recipe {name}: {error}": "The error that follows names the line of the file.",
    "recipe {name}: an override's `when`: {error}": "The error that follows lists the backbones that there are.",
}
"""Beginnings of messages without a place or a remedy, with the reason."""

SAID_BY = {
    "AS_IT_IS": "datasets: load the folder as what it is",
    "_DAMAGED": "datasets/files/dicom: copy or export it again",
    "_KNOWN": "datasets/open: the formats that are read",
    "_PUT_BACK": "audit/rescore: put it back, or run the run again",
    "_explain": "recipes/load: the nearest settings, or the values that a setting takes",
    "_reasons": "tables/classes: why no run has the measure, and what adds it",
    "_use": "checkpoints/matching: the variant to ask for",
    "near": "errors: the nearest names, or all of them",
    "hint": "datasets: how files have to be called",
    "how": "datasets: how the folder has to look, or how to get the data",
    "options": "registry: the parameters with their defaults",
    "reasons": "published/trials: why each row cannot run",
    "remedy": "whoever asks for the memory",
    "right": "datasets/tables: what the table has to hold",
    "there": "the names that exist",
    "what": "checkpoints/reading and harness/coverage: what it is, and what to do",
    "why": "parameters: what a value has to be",
}
"""Texts that are filled into messages and hold the remedy: where they are made, and what they say."""

_VERBS = (
    "add|ask|check|choose|complete|convert|copy|correct|cut|download|export|free|get|give|go|install|keep|lay|leave|list|look|lower|"
    "make|mark|mend|merge|move|name|number|pass|pip|put|raise|read|register|reinstall|remove|rename|repair|resample|restore|return|"
    "run|save|say|see|set|split|state|take|try|turn|uninstall|unpack|update|upgrade|use|wait|write"
)
_ORDER = re.compile(rf"(?:^|[:;.,(] |\bor |\band |\bto )(?:first |then |or |and )?(?:{_VERBS})\b", re.IGNORECASE)
"""A message that tells the reader to do something."""

_RIGHT = re.compile(
    r"--\w|`initbench|did_you_mean|\bas in\b|\bknown: |\bone of\b|\bexclude each other\b|\bthe same command goes on\b|\bgot \{|"
    r"\b(?:must|needs?|may (?:name|change)|come by|Letters, digits)\b|these do:|= takes |=(?:depth|image) (?:does|hides)|"
    r"\b(?:there (?:is|are)|those are|labels are|(?:it|they|which|backbone|class) (?:has|have|takes?|are)|"
    r"the streams are|is auto|ends? in)\b",
    re.IGNORECASE,
)
"""A message that says what would be right, and so asks for it."""


INTRODUCTION = """# Messages

This page is made from the source: the messages with which commands end, by the room of the package that raises them. Braces stand
for what is filled in. A message says what is wrong, where, and what to do; a test reads this list and refuses messages that leave
out one of them. Errors of the system (a full disk, no right to write, no locks) are told by `initbench.errors.of_the_system`."""


@dataclass(frozen=True)
class Message:
    """A message as it stands in the source.

    Attributes:
        place: file and function that raise it.
        error: class of the error.
        code: with which the command ends.
        text: the message; what is filled in stands in braces. Empty where another text is passed on.
    """

    place: str
    error: str
    code: int
    text: str


def messages() -> list[Message]:
    """Returns every message in the source, by file and line.

    Errors that are put together elsewhere and passed on are not among them: their text stands where it is made.
    """
    trees = {}
    for source in SOURCES:
        for path in sorted((ROOT / source).rglob("*.py")):
            if not any(above.is_symlink() for above in path.parents):
                trees[path] = ast.parse(path.read_text("utf-8"))
    codes = _codes(trees.values())
    found = []
    for path, tree in trees.items():
        for function, call in _raised(tree):
            name = _name(call.func)
            text = " ".join(_text(argument) for argument in call.args[:1])
            if name in codes and text:
                found.append(Message(f"{path.relative_to(ROOT)}: {function}", name, codes[name], text))
    return found


def lacks(message: Message) -> str:
    """Returns what a message leaves out, of "place" and "remedy"; "" where it leaves out nothing, or may."""
    if message.error in PASSED_ON or any(message.text.startswith(beginning) for beginning in PLAIN):
        return ""
    if "{" not in message.text and "--" not in message.text:
        return "place"
    if any(f"{{{name}}}" in message.text for name in SAID_BY):
        return ""
    has_remedy = _ORDER.search(message.text) or _RIGHT.search(message.text)
    return "" if has_remedy else "remedy"


def page() -> str:
    """Returns the page: a table for each room, and who reads the messages that are passed on."""
    rooms: dict[str, list[tuple[object, ...]]] = {}
    for message in messages():
        room = message.place.split("/")[0 if message.place.startswith(SOURCES[1:]) else 1].partition(".py")[0]
        rooms.setdefault(room, []).append((plain(message.text), message.code, f"`{message.place}`"))
    parts = [INTRODUCTION]
    for room, rows in rooms.items():
        parts += [f"## {room}", table(("message", "exit code", "raised in"), rows)]
    reasons = [(f"`{name}`", plain(reason)) for name, reason in PASSED_ON.items()]
    reasons += [(plain(f"{beginning}…"), plain(reason)) for beginning, reason in PLAIN.items()]
    parts += ["## Messages without a remedy", table(("error or message", "why it names none"), reasons)]
    return "\n\n".join(parts) + "\n"


def _codes(trees: Iterable[ast.Module]) -> dict[str, int]:
    """Returns the exit codes of `InitbenchError` and of all classes that derive from it."""
    bases = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [_name(base) for base in node.bases]
    codes = dict(_KNOWN)
    for _ in bases:  # a class may stand before its base
        for name, above in bases.items():
            for base in above:
                if base in codes:
                    codes.setdefault(name, codes[base])
    return codes


def _raised(tree: ast.AST, function: str = "") -> Iterator[tuple[str, ast.Call]]:
    """Yields what is raised, or made to be raised, with the function that does it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call):
            yield function, node
        inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        yield from _raised(node, inside)


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.expr) -> str:
    """Returns a message as it stands in the source; "" where it is made elsewhere."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    if not isinstance(node, ast.JoinedStr):
        return ""
    parts = []
    for value in node.values:
        if isinstance(value, ast.FormattedValue):
            parts.append(f"{{{_filled(value.value)}}}")
        else:
            parts.append(_text(value))
    return "".join(parts)


def _filled(node: ast.expr) -> str:
    """Returns a short name of what is filled into a message."""
    if isinstance(node, ast.Name | ast.Attribute):
        return _name(node)
    if isinstance(node, ast.Call) and _name(node.func) in ("join", "len", "few", "sorted", "some", "str"):
        return _filled(node.args[0])
    if isinstance(node, ast.Call):
        return _name(node.func)
    names = [_name(inner) for inner in ast.walk(node) if isinstance(inner, ast.Name)]
    return names[0] if len(names) == 1 else "…"
