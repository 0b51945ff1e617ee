"""A statement is read at once: none holds more than a few nested expressions."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.folders import ROOT

FOLDERS = ("initbench", "initializers", "backbones", "regimens", "benchmarks", "docs")
MOST = 3
NESTED = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.IfExp, ast.Lambda)


def nested_expressions(statement: ast.stmt) -> int:
    """Counts comprehensions, conditional expressions, lambdas and and/or chains of three and more operands.

    The header of a compound statement counts, with defaults and decorators; the statements of its body count for themselves.
    """
    count = 0
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        waiting.extend(child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt))
        chain = isinstance(node, ast.BoolOp) and len(node.values) > 2
        if chain or isinstance(node, NESTED):
            count += 1
    return count


def dense_statements(source: str) -> Iterator[tuple[int, int]]:
    """Line and number of nested expressions of every statement that holds more than `MOST` of them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt):
            count = nested_expressions(node)
            if count > MOST:
                yield node.lineno, count


def test_no_statement_is_dense() -> None:
    # The links below initbench/ lead to files that the root folders hold already.
    files = sorted({file.resolve() for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")})
    assert len(files) > 100
    found = []
    for file in files:
        for line, count in dense_statements(file.read_text("utf-8")):
            found.append(f"{file.relative_to(ROOT)}:{line}: {count} nested expressions in one statement")
    assert not found, "name the parts with statements of their own:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("x = [a for a in b] + [a for a in c]", 2),
        ("x = {a: {b for b in a} for a in c if (lambda: a)()}", 3),
        ("x = a if b else c if d else e", 2),
        ("x = a and b", 0),
        ("x = a and b and c or d", 1),
        ("def f(x=a if b else c, *, y=lambda: 0): pass", 2),
        ("@cached(lambda: 0)\nclass A(B if C else D): pass", 2),
        ("if any(a for a in b):\n    x = [a for a in b]\nelse:\n    x = [a for a in c]", 1),
        ("match a:\n    case 1 if any(b for b in c):\n        x = [b for b in c]", 1),
        ("try:\n    x = [a for a in b]\nexcept (A if b else C):\n    x = [a for a in b]", 1),
        ("with open(a if b else c) as d:\n    pass", 1),
    ],
)
def test_headers_count_and_bodies_count_for_themselves(source: str, count: int) -> None:
    assert nested_expressions(ast.parse(source).body[0]) == count


def test_statements_inside_functions_are_looked_at() -> None:
    source = "def f():\n    if a:\n        x = [[[[b for b in c] for c in d] for d in e] for e in f]\n"
    assert list(dense_statements(source)) == [(3, 4)]
