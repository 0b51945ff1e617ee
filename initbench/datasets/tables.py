"""Tables that lie in data sets, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from initbench.errors import DataError


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # also numbers of thousands of digits, brackets in thousands
        raise DataError(f"{path} is not valid JSON: {error}") from None


def some(names: Sequence[str]) -> str:
    """The first of many names, for a message."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
