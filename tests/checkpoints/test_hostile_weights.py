"""Files of weights made to do harm: they run nothing, and take neither memory nor time for what they claim."""

from __future__ import annotations

import json
import pickle
import resource
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from initbench.checkpoints import reading
from initbench.checkpoints.reading import read_checkpoint
from initbench.errors import UsageError

MIB = 2**10  # of KiB, as the system counts memory


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * MIB


def header(tensors: Any, length: int | None = None) -> bytes:
    """A safetensors file of eight bytes of data."""
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + bytes(8)


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}}


HEADERS = {
    "length of everything": header(tensor([2], 0, 8), 2**62),
    "length beyond the file": header(tensor([2], 0, 8), 10_000),
    "no JSON": header(b"{ no JSON }"),
    "deep": header(b'{"a":' * 100_000),
    "no text": header(b'{"\xff": 1}'),
    "data beyond the file": header(tensor([2**38], 0, 2**40)),
    "shape beyond numbers": header(tensor([2**40, 2**40], 0, 8)),
    "shape beyond its data": header(tensor([2**30], 0, 8)),
    "negative": header(tensor([2], -8, 0)),
    "backwards": header(tensor([2], 8, 0)),
    "unknown type": header(tensor([2], 0, 8, "F31")),
    "metadata": header({"__metadata__": {"a": [1]}, **tensor([2], 0, 8)}),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(HEADERS[name])
    with pytest.raises(UsageError, match=r"bad\.safetensors cannot be read as safetensors"):
        read_checkpoint(path)


def laughs(levels: int) -> dict[str, Any]:
    """A container in which each level holds the next one a thousand times, so that it has 1000 to the power of `levels` parts."""
    found: list[Any] = [torch.ones(1)]
    for _ in range(levels):
        found = [found] * 1000
    return {"state_dict": {"stem.weight": torch.ones(2)}, "extra": found}


def test_a_container_that_holds_itself_many_times_is_looked_at_once(tmp_path: Path) -> None:
    path = tmp_path / "laughs.pt"
    torch.save(laughs(6), path)
    assert path.stat().st_size < 50_000
    assert list(read_checkpoint(path).tensors) == ["state_dict.stem.weight", "extra.0.0.0.0.0.0.0"]


def test_a_container_of_many_levels(tmp_path: Path) -> None:
    path = tmp_path / "deep.pt"
    path.write_bytes(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")
    with pytest.raises(UsageError, match=r"deep\.pt"):
        read_checkpoint(path)


def test_a_tensor_larger_than_its_numbers_takes_no_memory(tmp_path: Path) -> None:
    """Four bytes that stand for a tensor of terabytes, as torch saves what was expanded."""
    path = tmp_path / "expanded.pt"
    torch.save({"state_dict": {"stem.weight": torch.ones(1).expand(2**40)}}, path)
    with pytest.raises(UsageError, match=r"expanded\.pt: its tensors take 4,096\.0 GiB"):
        read_checkpoint(path)


def test_an_archive_that_claims_more_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, good = tmp_path / "bomb.pt", tmp_path / "good.pt"
    torch.save({"state_dict": {"stem.weight": torch.zeros(2**20)}}, good)
    monkeypatch.setattr(reading, "gib", lambda size: f"{size / 2**20:.1f} MiB")
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name.replace("good/", "bomb/"), source.read(name))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2**19}))
    with pytest.raises(UsageError, match=r"bomb\.pt: unpacked it takes 4\.0 MiB, and 0\.5 MiB of memory are free"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "call",
    [b"cos\nmkdir\n", b"cposix\nmkdir\n", b"cpathlib\nPath\n", b"cbuiltins\neval\n", b"c__builtin__\ngetattr\n"],
)
@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: b"\x80\x02" + data, lambda data: b"]" + data[:-1] + b"a."])
def test_a_pickle_that_calls_is_refused_and_calls_nothing(
    call: bytes, wrap: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "calls.pt"
    path.write_bytes(wrap(call + b"(S'made'\ntR."))
    with pytest.raises(UsageError, match="nothing was run"):
        read_checkpoint(path)
    assert not Path("made").exists()
    if b"mkdir" in call:
        pickle.loads(path.read_bytes())  # noqa: S301 - the pickle is a real one
        assert Path("made").exists()
