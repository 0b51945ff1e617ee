"""Faults of run folders, made from the record's own model: every key with values of other kinds, and files that are none."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from initbench.limits import MAX_RECORD
from initbench.runs import store, work
from initbench.runs.record import Record, RecordError, parse_record
from tests.recorded import record_values

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m"
_ABSENT = object()


@dataclass(frozen=True)
class Fault:
    """What is wrong with a run folder.

    Attributes:
        name: of the fault.
        plant: puts it into a run folder.
        shows: whether the run may be shown: what was planted fits, or lies in a file that this record does without.
    """

    name: str
    plant: Callable[[Path], None]
    shows: bool = False


# --- the file ---------------------------------------------------------------------------------------------------------


def _bytes(data: bytes | Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        path = folder / store.RECORD
        path.write_bytes(data(path.read_bytes()) if callable(data) else data)

    return plant


def _instead(file: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    """Something else in place of a file of a run."""

    def plant(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        make(folder / file)

    return plant


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _socket(path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)  # a socket's whole name is short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


def _vast(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)  # holes


def _secret(path: Path) -> None:
    path.write_text("{}", "utf-8")
    path.chmod(0)


NO_FILES: dict[str, Callable[[Path], None]] = {
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "socket": _socket,
    "broken link": lambda path: path.symlink_to("nothing"),
    "loop": _loop,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terabyte": _vast,
    "unreadable": _secret,
}

_DEEP = b"[" * 100_000 + b"]" * 100_000
TEXTS: dict[str, bytes | Callable[[bytes], bytes]] = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "number": b"1e5",
    "deep list": _DEEP,
    "deep object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "deep value": lambda data: data.replace(b'"status"', b'"more": ' + _DEEP + b', "status"', 1),
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "utf-16": lambda data: data.decode().encode("utf-16"),
    "no utf-8": lambda data: data.replace(b'"unetr"', b'"\xff\xfe"', 1),
    "half a letter": lambda data: data.replace(b'"unetr"', b'"\\ud800"', 1),
    "cut": lambda data: data[: len(data) // 2],
    "cut at the end": lambda data: data[:-3],
    "zeros": lambda data: bytes(len(data)),
    "two records": lambda data: data + data,
    "a key twice": lambda data: data.replace(b'"status": "ok"', b'"status": "ok", "status": "failed"', 1),
    "too long": lambda data: data + b" " * MAX_RECORD,
    "many objects": lambda data: b'{"a": [' + b"{}," * (MAX_RECORD // 4) + b"{}]}",
    "nan": lambda data: data.replace(b'"evaluate_seconds": 0.0', b'"evaluate_seconds": NaN', 1),
    "endless number": lambda data: data.replace(b'"evaluate_seconds": 0.0', b'"evaluate_seconds": 1e999', 1),
    "endless unknown number": lambda data: data.replace(b'"status"', b'"more": 1e999, "status"', 1),
    "number of many digits": lambda data: data.replace(b'"seed": 0', b'"seed": ' + b"9" * 5000, 1),
    "later version": lambda data: data.replace(b'"schema": 1', b'"schema": 2', 1),
    "no version": lambda data: data.replace(b'"schema": 1,', b"", 1),
}


# --- its keys ---------------------------------------------------------------------------------------------------------

Place = tuple[str, ...]


def places(model: type[BaseModel], above: Place = ()) -> Iterator[Place]:
    """Every key of a record, those of its parts among them."""
    for name, field in model.model_fields.items():
        place = (*above, field.alias or name)
        yield place
        for part in _parts(field.annotation):
            yield from places(part, place)


def _parts(kind: Any) -> Iterator[type[BaseModel]]:
    """The models in a type, those behind names of dictionaries left out."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    elif typing.get_origin(kind) in (types.UnionType, typing.Union):
        for part in typing.get_args(kind):
            yield from _parts(part)


VALUES: dict[str, Any] = {
    "absent": _ABSENT,
    "null": None,
    "text": "twelve",
    "empty text": "",
    "escapes": ESCAPES,
    "markup": "[bold red]x[/] [/nothing] [link=file:///etc/passwd]y[/link]",
    "page": "<script>alert(1)</script>",
    "long text": "x" * 1_000_000,
    "number": 0.5,
    "whole number": 7,
    "negative": -1,
    "large": 2**62,
    "huge": 10**400,
    "largest": 1.7e308,
    "true": True,
    "list": [1, "a", None],
    "empty list": [],
    "object": {"a": {"b": [1]}},
    "empty object": {},
    "names": ["a", "b"],
    "path": "../../../../etc/passwd",
}


def with_value(folder: Path, place: Place, value: Any, *, sealed: bool) -> None:
    """Another value in a run's record, which is sealed again where asked for, as somebody who knows the format would."""
    values = record_values(folder)
    part = values
    for name in place[:-1]:
        part = part.setdefault(name, {}) if isinstance(part, dict) else {}
        if not isinstance(part, dict):  # null in this record
            return
    if value is _ABSENT:
        part.pop(place[-1], None)
    else:
        part[place[-1]] = value
    data = json.dumps(values).encode()
    if sealed and place[0] not in ("digest", "files", "sizes"):
        with contextlib.suppress(RecordError):  # what does not fit nobody can seal
            data = json.dumps(store.seal(parse_record(data), folder).written()).encode()
    (folder / store.RECORD).write_bytes(data)


# --- the files beside it ----------------------------------------------------------------------------------------------

_HEADER = b"case,class,class_name,tp,fp,fn,dice,hd95_mm,nsd\n"
TABLES: dict[str, bytes | Callable[[bytes], bytes]] = {
    "empty": b"",
    "header": _HEADER,
    "other header": b"a,b\n1,2\n",
    "noise": bytes(range(256)) * 50,
    "no utf-8": lambda data: data.replace(b"nodule", b"\xff\xfe", 1),
    "text for a count": lambda data: data.replace(b",1,nodule,", b",1,nodule,x", 1),
    "no end": lambda data: data + b'"case_04,1,nodule,1,1,1,0.5,,\n',
    "more columns": lambda data: data.replace(b",,\n", b",,,,,,\n", 1),
    "endless": lambda data: data.replace(b",,\n", b",inf,nan\n", 1),
    "huge": lambda data: data.replace(b",1,nodule,", b",1,nodule," + b"9" * 40, 1),
    "negative": lambda data: data.replace(b",1,nodule,", b",1,nodule,-", 1),
    "other cases": lambda data: data.replace(b"case_0", b"other_"),
    "escapes": lambda data: data.replace(b"nodule", ESCAPES.encode()),
    "a row less": lambda data: data[: data.rstrip().rindex(b"\n") + 1],
}
CURVES: dict[str, bytes] = {
    "noise": bytes(range(256)) * 50,
    "endless": b"stage,step,lr,loss\ntrain,inf,1,1\ntrain,nan,1,2\ntrain,1,1,inf\ntrain,2,1,1e308\ntrain,3,1,-1e308\n",
    "header": b"stage,step,lr,loss\n",
    "strange stage": b"stage,step,lr,loss\n\xff,1,1,1\n<b>,2,2,2\n",
    "one line": b"stage,step,loss" * 100_000,
}


def _beside(file: str, data: bytes | Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Another file beside the record, and the record sealed over it."""

    def plant(folder: Path) -> None:
        path = folder / file
        path.write_bytes(data(path.read_bytes()) if callable(data) else data)
        store.write_record(folder, store.seal(store.load_record(folder), folder))

    return plant


def _in_hand(data: bytes) -> Callable[[Path], None]:
    """What a run in hand says of itself, where the record is gone."""

    def plant(folder: Path) -> None:
        (folder / store.RECORD).unlink()
        state = work.work_folder(folder) / work.STATE
        state.parent.mkdir()
        state.write_bytes(data)

    return plant


STATES = (
    b"",
    b"null",
    b"[]",
    b'{"state": 1}',
    b'{"state": "training", "step": "x", "total": {}}',
    b'{"state": "\\u001b[2J", "step": 1}',
)


def faults() -> list[Fault]:
    """All faults there are, in a fixed order."""
    found = [Fault(f"record.json: {name}", _bytes(data), name == "a key twice") for name, data in TEXTS.items()]
    found += [Fault(f"record.json: {name}", _instead(store.RECORD, make)) for name, make in NO_FILES.items()]
    for file in (store.CASES, store.CURVE, store.SLICES, store.WEIGHTS, store.COVERAGE):
        found += [Fault(f"{file}: {name}", _instead(file, make), file != store.CASES) for name, make in NO_FILES.items()]
    found += [Fault(f"{store.CASES}: {name}", _beside(store.CASES, data)) for name, data in TABLES.items()]
    found += [Fault(f"{store.CURVE}: {name}", _beside(store.CURVE, data), True) for name, data in CURVES.items()]
    found += [Fault(f"{store.SLICES}: {name}", _beside(store.SLICES, data), True) for name, data in CURVES.items()]
    found += [Fault(f"{work.STATE}: {number}", _in_hand(data)) for number, data in enumerate(STATES)]
    for place in places(Record):
        for name, value in VALUES.items():
            for sealed in (False, True):
                how = "sealed" if sealed else "not sealed"
                found.append(Fault(f"{'.'.join(place)}: {name}, {how}", _value(place, value, sealed), True))
    return found


def _value(place: Place, value: Any, sealed: bool) -> Callable[[Path], None]:
    return lambda folder: with_value(folder, place, value, sealed=sealed)


ALWAYS = (
    "record.json: pipe",
    "record.json: device",
    "record.json: terabyte",
    "record.json: deep value",
    "record.json: many objects",
    "cases.csv: other cases",
    "curve.csv: terabyte",
    "resolved.init: escapes, sealed",
    "reason: escapes, sealed",
    "cost: absent, not sealed",
)


def chosen(count: int, seed: int) -> list[Fault]:
    """So many faults: those of `ALWAYS`, then as many of the files as of keys, as far as there are, drawn at random."""
    rng = np.random.default_rng(seed)
    everything = faults()
    found = [fault for fault in everything if fault.name in ALWAYS]
    assert len(found) == len(ALWAYS)
    rest = [fault for fault in everything if fault not in found]
    of_keys = [fault.name.endswith("sealed") for fault in rest]
    files = [fault for fault, is_key in zip(rest, of_keys, strict=True) if not is_key]
    keys = [fault for fault, is_key in zip(rest, of_keys, strict=True) if is_key]
    of_files = min(len(files), (count - len(found)) // 2)
    found += [files[place] for place in rng.permutation(len(files))[:of_files]]
    return found + [keys[place] for place in rng.permutation(len(keys))[: count - len(found)]]


# --- notes of what was asked ------------------------------------------------------------------------------------------

_REQUEST: dict[str, Any] = {"init": "a", "backbone": "b", "dataset": "c", "seed": 0}
_RUN: dict[str, Any] = {"label": "x", "request": _REQUEST, "folder": None, "state": "pending", "problem": ""}
NOTES: dict[str, bytes] = {
    "empty": b"",
    "deep": _DEEP,
    "list": b"[]",
    "no runs": b'{"runs": 3}',
    "no request": json.dumps({"runs": [_RUN | {"request": {}}]}).encode(),
    "text for a seed": json.dumps({"runs": [_RUN | {"request": _REQUEST | {"seed": "x"}}]}).encode(),
    "outside": json.dumps({"runs": [_RUN | {"folder": "../../../etc"}]}).encode(),
    "a zero in a name": json.dumps({"runs": [_RUN | {"folder": "a/b/c/\0"}]}).encode(),
    "another state": json.dumps({"runs": [_RUN | {"state": ESCAPES}]}).encode(),
    "escapes": json.dumps({"runs": [_RUN | {"label": ESCAPES, "problem": ESCAPES, "state": "failed"}]}).encode(),
}


def plant_notes(out: Path) -> None:
    """Faulty notes of what was asked for."""
    folder = out / ".sweeps"
    folder.mkdir(exist_ok=True)
    for number, data in enumerate(NOTES.values()):
        (folder / f"text-{number}.json").write_bytes(data)
    for number, make in enumerate(NO_FILES.values()):
        make(folder / f"none-{number}.json")
