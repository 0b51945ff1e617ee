"""Reads files of weights: safetensors, or pickles under an allow-list. Nothing in a file is executed."""

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

from initbench.errors import UsageError
from initbench.units import gib

_ZIP = b"PK\3\4"  # how the archives begin that torch writes since 1.6
_SCALAR = np.float64().__reduce__()[0]
# What training programs save beside tensors: epochs, best values and curves as numpy's numbers, also as numpy 1 wrote them.
_ALLOWED: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFDG"},  # numpy's codes of truth values, integers, floats, complex
]
_HEAD = 64  # bytes that tell what a file is
_DEEPEST = 8  # containers in containers; weights lie below one or two keys
_OPTIMIZER = {"state", "param_groups"}  # the keys of what every optimizer of torch saves
# How files begin that are saved or downloaded in place of weights, and what to do.
_NO_WEIGHTS = (
    (re.compile(rb"version https://git-lfs"), "is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`"),
    (re.compile(rb"\s*<(!doctype|html|\?xml|head|body)", re.IGNORECASE), "is a web page; the download failed, so fetch it again"),
    (re.compile(rb'\s*[{\[]\s*["{\[\]}]'), "is a text of JSON, perhaps a server's error message; fetch it again"),
    (re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!"), "is a compressed archive; unpack it first"),
    (re.compile(rb"\x89HDF"), "is an HDF5 file of Keras or TensorFlow; save the weights with torch or as safetensors"),
    (re.compile(rb"\x93NUMPY"), "is an array of numpy; save the weights with torch or as safetensors"),
)


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        path: of the file.
        tensors: all tensors by their dotted keys in the file, on the CPU: ``state_dict.module.stem.weight``.
        card: what initbench wrote about them; empty for files from elsewhere.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    card: Mapping[str, Any] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint: safetensors, or a torch file of tensors, numbers and containers.

    Raises:
        UsageError: there is no such file, it cannot be read, holds no weights, or holds objects that loading would have to
            execute.
    """
    if not path.is_file():
        raise UsageError(f"there is no checkpoint {path} ({path.resolve()})")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    _check_head(path, head)
    if _is_safetensors(path, head):
        return Checkpoint(path, *_read_safetensors(path))
    content = _read_pickle(path)
    return Checkpoint(path, _weights(path, content), _card(content.get("initbench")))


def _check_head(path: Path, head: bytes) -> None:
    """Refuses a file that holds no weights at all, and says what it is.

    Args:
        path: of the file.
        head: its first bytes.

    Raises:
        UsageError: the file is empty, or begins as another kind of file does.
    """
    if not head:
        raise UsageError(f"checkpoint {path} is an empty file; copy or download it again")
    for begins, what in _NO_WEIGHTS:
        if begins.match(head):
            raise UsageError(f"checkpoint {path} {what}")


def _is_safetensors(path: Path, head: bytes) -> bool:
    """Returns whether a file is one of safetensors, by its name or its first bytes."""
    # Eight bytes of length, then JSON; torch files are zip archives or pickles.
    return path.suffix == ".safetensors" or head[8:9] == b"{"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {}
            for key in file.keys():  # noqa: SIM118 - no mapping
                tensors[key] = file.get_tensor(key)
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UsageError(f"checkpoint {path} cannot be read as safetensors ({error}); copy or download it again") from None
    return tensors, _card(metadata.get("initbench"))


def _card(text: Any) -> dict[str, Any]:
    """Reads the JSON that initbench writes into its files; empty where there is none."""
    if not isinstance(text, str):
        return {}
    try:
        card = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(card, dict):
        return {}
    return card


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, or its type where it has no message."""
    lines = str(error).splitlines()
    if not lines:
        return type(error).__name__
    return lines[0]


def _read_pickle(path: Path) -> Any:
    """Reads a torch file of tensors, numbers and containers.

    Raises:
        UsageError: it holds other objects, or is damaged.
    """
    try:
        _check_archive(path)
        with _allowed():
            return torch.load(path, map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = "something other than tensors, numbers and containers"
        if found is not None:
            what = f"an object of type {found[1]}"
        raise UsageError(
            f"checkpoint {path} holds {what}, and loading it would run its code; nothing was run. Where you trust its source, "
            "save the weights alone (torch.save(model.state_dict(), ...) or safetensors) and use that file"
        ) from None
    except Exception as error:  # a damaged pickle fails in whatever way its bytes happen to lead to
        raise UsageError(f"checkpoint {path} cannot be read ({first_line(error)}); copy or download it again") from None


def _check_archive(path: Path) -> None:
    """Compares the checksums of an archive's members with their bytes: torch writes checksums, and does not read them.

    Raises:
        ValueError: torch did not save the archive, or the bytes of a member have changed.
        zipfile.BadZipFile: the archive is damaged elsewhere.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            return  # a pickle alone, as torch wrote until 1.6, has no checksum
    with zipfile.ZipFile(path) as archive:
        names, unpacked = [], 0
        for member in archive.infolist():
            names.append(member.filename.rpartition("/")[2])
            unpacked += member.file_size
        if "constants.pkl" in names:
            raise ValueError("it is a TorchScript program; save the weights alone, torch.save(model.state_dict(), ...)")
        if "data.pkl" not in names:
            raise ValueError(f"it is an archive of other files, {', '.join(names[:3])}; unpack it")
        _check_claim(path, "unpacked it takes", unpacked)
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(
            f"the checksum of {damaged} is another than its bytes have: the file is damaged, or it was saved without checksums "
            "(torch.serialization.set_crc32_options)"
        )


@contextlib.contextmanager
def _allowed() -> Iterator[None]:
    """Lets torch load the types of `_ALLOWED` inside the block."""
    with torch.serialization.safe_globals(_ALLOWED):
        yield


def _weights(path: Path, content: Any) -> dict[str, Tensor]:
    """Returns all tensors in a file, by their dotted keys from its top on; the state of optimizers is left out.

    Args:
        path: of the file.
        content: what torch loaded.

    Raises:
        UsageError: there are none, or they do not fit into the memory.
    """
    if not isinstance(content, Mapping):
        raise UsageError(
            f"checkpoint {path} holds {type(content).__name__} and no dictionary of weights; save one, as in "
            "torch.save(model.state_dict(), ...)"
        )
    found = dict(_tensors(content, "", set()))
    if not found:
        keys = ", ".join(map(str, list(content)[:8]))
        raise UsageError(f"checkpoint {path} holds no weights; it has {keys or 'nothing'}")
    _check_claim(path, "its tensors take", sum(tensor.numel() * tensor.element_size() for tensor in found.values()))
    return found


def _check_claim(path: Path, what: str, needed: int) -> None:
    """Refuses a file that would fill the memory: a few bytes may claim an archive that swells, or a tensor of one number.

    Args:
        path: of the file.
        what: what needs the memory, as the message begins.
        needed: in bytes.

    Raises:
        UsageError: the memory has fewer bytes.
    """
    import psutil  # not needed by most commands, and not quickly imported

    free = psutil.virtual_memory().available
    if needed > free:
        raise UsageError(
            f"checkpoint {path}: {what} {gib(needed)}, and {gib(free)} of memory are free; close other "
            "programs, or look at who made this file"
        )


def _tensors(value: Any, before: str, seen: set[int], depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors in a container, by dotted keys.

    Args:
        value: the container.
        before: what the keys begin with.
        seen: ids of the containers that were looked at. Each is looked at once: they may hold one another in endless ways.
        depth: number of containers around this one.
    """
    if isinstance(value, list | tuple):  # the members of an ensemble, say
        value = dict(enumerate(value))
    if not isinstance(value, Mapping) or value.keys() >= _OPTIMIZER:
        return
    for key, item in value.items():
        if isinstance(item, Tensor):
            yield f"{before}{key}", item
        elif depth < _DEEPEST and id(item) not in seen:
            seen.add(id(item))
            yield from _tensors(item, f"{before}{key}.", seen, depth + 1)
