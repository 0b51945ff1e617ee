"""The page of files from others names tests that exist."""

from __future__ import annotations

import ast
import re

from tests.folders import ROOT

PAGE = ROOT / "docs" / "explanation" / "files-from-others.md"


def test_each_row_is_a_test() -> None:
    tried, _, _ = PAGE.read_text("utf-8").partition("## Time and memory")
    rows = [line for line in tried.splitlines() if line.startswith("| ")][2:]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", "\n".join(rows))
    assert len(named) == len(rows) > 20
    for file, test in named:
        functions = [node.name for node in ast.parse((ROOT / file).read_text("utf-8")).body if isinstance(node, ast.FunctionDef)]
        assert test in functions, f"{file} has no {test}"
