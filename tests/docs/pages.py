"""Blocks of code in a page, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code: its language, the file that it is, if any, and its text."""

    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Every block of code of a page, in order."""
    return [Block(*found) for found in _FENCE.findall(page.read_text("utf-8"))]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command in the shell blocks of a page, without comments."""
    for block in blocks(page):
        if block.language == "sh":
            lines = block.text.replace("\\\n", " ").splitlines()
            yield from filter(None, (shlex.split(line, comments=True) for line in lines))


def write_files(page: Path, folder: Path) -> None:
    """Writes the blocks that are files, as a reader does who copies them."""
    for block in blocks(page):
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, "utf-8")


def mentioned_commands(page: Path) -> Iterator[list[str]]:
    """The words of every command that a page mentions: as code in a sentence or a table, or behind a dollar sign."""
    text = page.read_text("utf-8")
    for language, _, block in _FENCE.findall(text):
        if language != "sh":
            lines = block.replace("\\\n", " ").splitlines()
            yield from (shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith("$ "))
    for code in re.findall(r"`([^`]+)`", _FENCE.sub("", text)):
        if code.startswith("initbench "):
            yield shlex.split(code)


def rows_of_measurements(page: Path) -> Iterator[tuple[str, list[str]]]:
    """What was measured, and the code in the column of commands, for every row of a table of what, command and result."""
    for line in page.read_text("utf-8").splitlines():
        cells = line.strip("| ").split(" | ")
        if line.startswith("| ") and len(cells) == 3 and cells[0] not in ("what", "---"):
            yield cells[0], re.findall(r"`([^`]+)`", cells[1])
