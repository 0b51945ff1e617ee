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

from initbench.errors import UsageError

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
GIB = 2**30
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
        tensors: all of them by their dotted keys in the file, on the CPU: ``state_dict.module.stem.weight``.
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
    """Refuses what is no file of weights at all, with what it is.

    Raises:
        UsageError: it is empty, or begins as something else does.
    """
    if not head:
        raise UsageError(f"checkpoint {path} is an empty file; copy or download it again")
    for begins, what in _NO_WEIGHTS:
        if begins.match(head):
            raise UsageError(f"checkpoint {path} {what}")


def _is_safetensors(path: Path, head: bytes) -> bool:
    # Eight bytes of length, then JSON; torch files are zip archives or pickles.
    return path.suffix == ".safetensors" or head[8:9] == b"{"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UsageError(f"checkpoint {path} cannot be read as safetensors ({error}); copy or download it again") from None
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
    except UsageError:
        raise
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"an object of type {found[1]}" if found else "something other than tensors, numbers and containers"
        raise UsageError(
            f"checkpoint {path} holds {what}, and loading it would run its code; nothing was run. Where you trust its source, "
            "save the weights alone (torch.save(model.state_dict(), ...) or safetensors) and use that file"
        ) from None
    except Exception as error:  # a damaged pickle fails in whatever way its bytes happen to lead to
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"checkpoint {path} cannot be read ({first}); copy or download it again") from None


def _check_archive(path: Path) -> None:
    """Compares the checksums of an archive's members, which torch writes and passes over when it reads.

    Raises:
        ValueError: torch did not save it, or the bytes of a member are others than when it was written.
        zipfile.BadZipFile: the archive is damaged elsewhere.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            return  # a pickle alone, as torch wrote until 1.6, has no checksum
    with zipfile.ZipFile(path) as archive:
        names = [name.rpartition("/")[2] for name in archive.namelist()]
        if "constants.pkl" in names:
            raise ValueError("it is a TorchScript program; save the weights alone, torch.save(model.state_dict(), ...)")
        if "data.pkl" not in names:
            raise ValueError(f"it is an archive of other files, {', '.join(names[:3])}; unpack it")
        _check_claim(path, "unpacked it takes", sum(member.file_size for member in archive.infolist()))
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
    """All tensors in a file, by their dotted keys from its top on; the state of optimizers is left out.

    Raises:
        UsageError: there are none.
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
    _check_claim(path, "its tensors take", sum(value.numel() * value.element_size() for value in found.values()))
    return found


def _check_claim(path: Path, what: str, needed: int) -> None:
    """Refuses what a few bytes of a file may claim: an archive that swells, a tensor that repeats one number.

    Args:
        path: of the file.
        what: begins what is claimed.
        needed: bytes.

    Raises:
        UsageError: the memory does not hold them.
    """
    import psutil  # not needed by most commands, and not quickly imported

    free = psutil.virtual_memory().available
    if needed > free:
        raise UsageError(
            f"checkpoint {path}: {what} {needed / GIB:,.1f} GiB, and {free / GIB:,.1f} GiB of memory are free; close other "
            "programs, or look at who made this file"
        )


def _tensors(value: Any, before: str, seen: set[int], depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """The tensors in a container, by dotted keys.

    Args:
        value: the container.
        before: begins the keys.
        seen: containers that were looked at. Each is looked at once: they may hold one another in more ways than can be counted.
        depth: of this container.
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
