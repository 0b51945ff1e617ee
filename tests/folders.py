"""Where tests and project lie, and what a folder holds."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent


def everything(folder: Path) -> dict[str, bytes | None]:
    """The content of every file below a folder, and None for every folder, by their place."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
