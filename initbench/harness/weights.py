"""Final weights as safetensors, byte for byte the same for the same network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn


def save_weights(model: nn.Module, path: Path, card: Mapping[str, Any]) -> None:
    """Writes the state dict with ties stored once, under their first name; ``safetensors.torch.load_model`` reads it back.

    The card goes into one metadata entry: the library writes several in random order, and equal runs would differ in bytes.

    Args:
        model: the network, on any device.
        path: of the file.
        card: what `checkpoint` should know of the weights, JSON values.
    """
    kept: dict[str, Tensor] = {}
    seen: set[tuple[int, int]] = set()
    for name, value in model.state_dict().items():
        place = (value.untyped_storage().data_ptr(), value.storage_offset())
        if value.numel() and place in seen:
            continue
        seen.add(place)
        kept[name] = value.detach().cpu().contiguous()
    path.touch()
    rights = path.stat().st_mode
    save_file(kept, path, metadata={"initbench": json.dumps(dict(card), sort_keys=True)})
    path.chmod(rights)  # the library makes files that nobody else may read
