"""Claims of other machines, as they would leave them."""

from __future__ import annotations

import os
from pathlib import Path

from initbench import claims


def other_machine(place: Path, beats: int = 0, *, generation: int = 1, released: bool = False) -> None:
    """Writes the claim of a process on another machine, after so many beats."""
    owner = claims.Owner(host="another", machine="another 1", pid=1, started="1", beats=beats, released=released)
    folder = place / f"{generation:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / claims.OWNER).write_text(owner.model_dump_json())


def takes_over(place: Path) -> None:
    """Lets another machine take a claim over from whoever has it."""
    newest = max(int(name) for name in os.listdir(place))
    other_machine(place, generation=newest + 1)
