"""What was sealed and differs now is named, whichever file or value it is; tables show no such run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import initbench
from initbench.runs import store
from tests.recorded import record_values, reseal, write_run

OTHERS = (store.VALIDATION, store.CURVE, store.COVERAGE, store.WEIGHTS, store.CASES_RESAMPLED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run with every file that a seal may be over."""
    folder = write_run(tmp_path / "runs")
    for name in OTHERS:
        (folder / name).write_bytes((folder / store.CASES).read_bytes())
    reseal(folder)
    assert set(record_values(folder)["files"]) == set(store.SEALED)
    return folder


def problem(folder: Path, *, thorough: bool) -> str:
    return store.problem(folder, store.load_record(folder), thorough=thorough)


@pytest.mark.parametrize("name", store.SEALED)
def test_a_file_with_another_byte_is_named(folder: Path, name: str) -> None:
    """Every table hashes the counts; the other files are hashed by who asks for all."""
    assert problem(folder, thorough=True) == ""
    data = bytearray((folder / name).read_bytes())
    data[-2] ^= 1
    (folder / name).write_bytes(data)
    assert problem(folder, thorough=True) == f"{name} was changed after it was written"
    assert bool(problem(folder, thorough=False)) == (name in store.TABLES)
    assert store.is_finished(folder) == (name not in store.TABLES)


@pytest.mark.parametrize("name", store.SEALED)
@pytest.mark.parametrize("thorough", [True, False])
def test_a_file_that_is_shorter_or_gone_is_named(folder: Path, name: str, thorough: bool) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    assert problem(folder, thorough=thorough) == f"{name} has another size than when it was written"
    (folder / name).unlink()
    assert problem(folder, thorough=thorough) == f"{name} is missing"
    assert not store.is_finished(folder)


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, str):
        return f"{value}?"
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return value + 1 if isinstance(value, int) else value / 2
    if isinstance(value, list):
        return [*value, *value]
    return value


def variants(values: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The record once for every value that can be another one, with the place of that value."""
    found = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += [(f"{key}.{inner}", {**values, key: after}) for inner, after in variants(value)]
        elif changed(value) != value:
            found.append((key, {**values, key: changed(value)}))
    return found


def test_no_value_of_a_record_can_be_changed_unseen(folder: Path) -> None:
    values = record_values(folder)
    tried = 0
    for place, after in variants(values):
        if place in ("digest", "schema"):
            continue
        (folder / store.RECORD).write_text(json.dumps(after), "utf-8")
        record = store.read_record(folder)
        if record is not None:  # else the model has refused it
            tried += 1
            assert "record.json was changed" in store.problem(folder, record), place
    assert tried > 30
    (folder / store.RECORD).write_text(json.dumps(values | {"dice": 0.75}), "utf-8")
    runs = initbench.load_runs(folder.parents[3])
    assert list(runs["status"]) == ["invalid"]
    assert runs["dice"].isna().all()
