"""Files of weights to named tensors. Nothing in a file is executed: safetensors, or pickles under an allow-list."""

from __future__ import annotations

import contextlib
import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from initbench.errors import InitbenchError, UsageError

# Where training programs put the weights in what they save: MONAI and nnU-Net v1; nnU-Net v2; others.
_PLACES = ("state_dict", "network_weights", "model_state_dict", "model", "net")
_ZIP = b"PK\3\4"  # how the archives begin that torch writes since 1.6
_SCALAR = np.float64().__reduce__()[0]
# What a `.model` of nnU-Net v1 holds beside tensors: curves and best values as numpy floats. It was written by numpy 1.
_ALLOWED: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
]


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        tensors: by key, on the CPU.
        card: what initbench wrote about them; empty for files from elsewhere.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    card: Mapping[str, Any] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint: safetensors, or a torch file of tensors, numbers and containers.

    Raises:
        UsageError: there is no such file.
        InitbenchError: it cannot be read, holds no weights, or holds objects that loading would have to execute.
    """
    if not path.is_file():
        raise UsageError(f"there is no checkpoint {path} ({path.resolve()})")
    if _is_safetensors(path):
        return Checkpoint(path, *_read_safetensors(path))
    content = _read_pickle(path)
    return Checkpoint(path, _weights(path, content), _card(content.get("initbench")))


def _is_safetensors(path: Path) -> bool:
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:9] == b"{"  # eight bytes of length, then JSON; torch files are zip archives or pickles


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InitbenchError(f"checkpoint {path} cannot be read as safetensors ({error}); copy or download it again") from None
    return tensors, _card(metadata.get("initbench"))


def _card(text: Any) -> dict[str, Any]:
    try:
        card = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        card = {}
    return card if isinstance(card, dict) else {}


def _read_pickle(path: Path) -> Any:
    try:
        _check_archive(path)
        with _allowed():
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"an object of type {found[1]}" if found else "something other than tensors, numbers and containers"
        raise InitbenchError(
            f"checkpoint {path} holds {what}, and loading it would run its code; nothing was run. Where you trust its source, "
            "save the weights alone (torch.save(model.state_dict(), ...) or safetensors) and use that file"
        ) from None
    except Exception as error:  # a damaged pickle fails in whatever way its bytes happen to lead to
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InitbenchError(f"checkpoint {path} cannot be read ({first}); copy or download it again") from None


def _check_archive(path: Path) -> None:
    """Compares the checksums of an archive's members, which torch writes and passes over when it reads.

    Raises:
        ValueError: the bytes of a member are others than when it was written.
        zipfile.BadZipFile: the archive is damaged elsewhere.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            return  # a pickle alone, as torch wrote until 1.6, has no checksum
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(
            f"the checksum of {damaged} is another than its bytes have: the file is damaged, or it was saved without checksums "
            "(torch.serialization.set_crc32_options)"
        )


@contextlib.contextmanager
def _allowed() -> Iterator[None]:
    with torch.serialization.safe_globals(_ALLOWED):
        yield


def _weights(path: Path, content: Any) -> dict[str, Tensor]:
    """The tensors of the first place that has some: where training programs put them, then the top of the file.

    Raises:
        InitbenchError: there are none.
    """
    if not isinstance(content, Mapping):
        raise InitbenchError(f"checkpoint {path} holds {type(content).__name__} and no dictionary of weights")
    places = [content[key] for key in _PLACES if key in content]
    for place in (*places, content):
        tensors = _tensors(place)
        if tensors:
            return tensors
    keys = ", ".join(map(str, list(content)[:8]))
    raise InitbenchError(f"checkpoint {path} holds no weights under {', '.join(_PLACES)} or at its top; it has {keys}")


def _tensors(value: Any) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        return {}
    return {str(key): item for key, item in value.items() if isinstance(item, Tensor)}
