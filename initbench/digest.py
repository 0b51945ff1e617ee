"""Content digests: one canonical form for everything that is identified by what it holds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from initbench.limits import open_regular


def of_json(value: Any) -> str:
    """Returns the sha256 (hex) of a JSON value in canonical form: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def of_file(path: Path) -> str:
    """Returns the sha256 (hex) of a file's bytes.

    Raises:
        OSError: it cannot be read, or is no regular file: a pipe or a device would be read for ever.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
