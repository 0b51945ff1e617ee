"""Recordings of the authors' own networks, which `tests/expected/parity/README.md` describes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "expected" / "parity"


def file_of(name: str, kind: str) -> Path:
    """Where the recording of a network lies; `kind` is keys, forward or trace."""
    return FOLDER / f"{name}.{kind}.json.gz"


def exists(name: str, kind: str) -> bool:
    """Outputs take long to record at the published crops, so some networks have their keys only."""
    return file_of(name, kind).exists()


def read(name: str, kind: str) -> dict[str, Any]:
    return _read(file_of(name, kind))


def measured(name: str) -> dict[str, Any]:
    """What fvcore counted of a published network."""
    found: dict[str, Any] = _read(FOLDER / "measured.json.gz")[name]
    return found


def _read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return loaded
