"""Tests lie in the rooms of what they test, share helpers and never each other, and can be run room by room."""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.folders import ROOT, TESTS

# What is tested there is no package: the documents, and what installs and builds the project.
NO_PACKAGE = {"docs", "packaging"}
ROOMS = sorted({path.parent.name for path in TESTS.glob("*/test_*.py")})


def imported(path: Path) -> Iterator[str]:
    """Every module, and everything from a module, that a file imports, by its full name."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{item.name}" for item in node.names)


def test_no_file_imports_a_file_of_tests() -> None:
    paths = sorted(TESTS.rglob("*.py"))
    assert len(paths) > len(ROOMS)
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths if path.name.startswith("test_")]
    for path in paths:
        for name in imported(path):
            wrong = [module for module in modules if f"{name}.".startswith(f"{module}.")]
            assert not wrong, f"{path.relative_to(ROOT)} imports {wrong[0]}: what both need belongs into a module beside them"


def test_every_test_lies_in_a_room() -> None:
    assert not list(TESTS.glob("test_*.py"))


def test_a_room_of_tests_is_a_part_of_the_program() -> None:
    for room in ROOMS:
        part = ROOT / "initbench" / room
        assert (part.is_dir() or part.with_suffix(".py").is_file()) != (room in NO_PACKAGE), room


@pytest.mark.parametrize("room", ["stats", "packaging"])
def test_the_long_tests_of_one_room_can_be_run(room: str) -> None:
    done = make(f"ROOM={room}")
    assert done.returncode == 0, done.stderr
    command = done.stdout.splitlines()[-1]
    assert command.split()[-1] == f"tests/{room}"


def test_all_long_tests_are_run_without_a_room() -> None:
    assert make().stdout.splitlines()[-1].split()[-1] == "tests"


@pytest.mark.parametrize("room", ["spec", "expected", "stats/"])
def test_a_room_that_is_none_is_refused_in_a_line_that_names_the_rooms(room: str) -> None:
    done = make(f"ROOM={room}")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"tests has no room {room}; its rooms: {' '.join(ROOMS)}" in line


def make(*variables: str) -> subprocess.CompletedProcess[str]:
    """What `make test-full` would do."""
    program = shutil.which("make")
    if program is None:
        pytest.skip("no make")
    command = [program, "--dry-run", "--no-print-directory", "test-full", *variables]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
