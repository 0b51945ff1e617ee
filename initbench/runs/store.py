"""Run directories: one per cell and seed, written beside their place and moved into it whole.

OUT/<dataset>/<backbone>/<init>-<cell id>/seed-<n>/
    record.json       what was asked and resolved, environment, coverage, cost, status, Dice (schema 1)
    cases.csv         tp, fp, fn and Dice per case and class, on the native grid; HD95 and surface Dice where measured
    cases-resampled.csv  the same counts on the preprocessed grid, where the recipe asks for them
    curve.csv         learning curve, pretext and training
    coverage.json     which parameters the init changed
    weights.safetensors
    overlay.png       best, median and worst case
    slices.npz        image, reference and prediction of every reported case in one slice, for reports
    predictions/      label maps as NIfTI, where asked for
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from initbench import digest

SCHEMA = 1
RECORD = "record.json"
CASES = "cases.csv"
CASES_RESAMPLED = "cases-resampled.csv"
CURVE = "curve.csv"
COVERAGE = "coverage.json"
WEIGHTS = "weights.safetensors"
OVERLAY = "overlay.png"
SLICES = "slices.npz"
SLICE_KEY = "case/"  # before the case in it: a bare name could be one of numpy's arguments
PREDICTIONS = "predictions"
TRACEBACK = "traceback.txt"
FINISHED = ("ok", "diverged")
SEALED = (CASES, CASES_RESAMPLED, CURVE, COVERAGE, WEIGHTS)
COMING = "coming"  # in a record: files that are about to be replaced, by what


def slug(text: str) -> str:
    """A name that any file system takes."""
    return re.sub(r"[^A-Za-z0-9.+=-]+", "_", text).strip("_")[:60]


def run_folder(out: Path, dataset: str, backbone: str, init: str, cell_id: str, seed: int) -> Path:
    """Where a run lives."""
    return out / slug(dataset) / slug(backbone) / f"{slug(init)}-{cell_id[:10]}" / f"seed-{seed}"


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a run, None where there is none that can be read."""
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(record, dict) and record.get("schema") == SCHEMA and {"status", "cell", "resolved"} <= set(record)
    return record if whole else None


def seal(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The record with the digests and sizes of the files beside it, and its own digest over all of it."""
    files = {name: folder / name for name in SEALED if (folder / name).is_file()}
    sealed = record | {
        "files": {name: digest.of_file(path) for name, path in files.items()},
        "sizes": {name: path.stat().st_size for name, path in files.items()},
    }
    return sealed | {"digest": digest.of_json(sealed)}


def problem(folder: Path, record: dict[str, Any], *, thorough: bool = False) -> str:
    """What shows that a finished run is not as it was written; empty where nothing does.

    All files are hashed where `thorough`, else the counts alone, and of the others the size is looked at: weights and curves of a
    study are gigabytes, and every leaderboard asks.
    """
    if digest.of_json({key: value for key, value in record.items() if key != "digest"}) != record.get("digest"):
        return f"{RECORD} was changed after it was written, or is not whole"
    for name in record["files"]:
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        digests, sizes = zip(*_written(record, name), strict=True)
        if path.stat().st_size not in sizes:
            return f"{name} has another size than when it was written"
        if (thorough or name in (CASES, CASES_RESAMPLED)) and digest.of_file(path) not in digests:
            return f"{name} was changed after it was written"
    return ""


def _written(record: Mapping[str, Any], name: str) -> list[tuple[str, int]]:
    """Digest and size of a file as it was written, and of the one that is about to take its place."""
    coming = record.get(COMING, {}).get(name)
    return [(record["files"][name], record["sizes"][name]), *([(coming["digest"], coming["size"])] if coming else [])]


def amend(folder: Path, record: Mapping[str, Any], write_cases: Callable[[Path], None], changes: Mapping[str, Any]) -> None:
    """Gives a finished run that this process holds another cases.csv, and its record `changes`.

    Two files cannot be replaced at once. So the record first says which other cases.csv is a right one too, then the file
    changes, then the record; wherever that is stopped, the run is whole and keeps its result.

    Raises:
        OSError: the folder cannot be written; the run is as it was, or whole.
    """
    kept = {key: value for key, value in record.items() if key not in ("digest", COMING)}
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        cases, new = staging / CASES, staging / RECORD
        write_cases(cases)
        coming = {CASES: {"digest": digest.of_file(cases), "size": cases.stat().st_size}}
        write_json(new, seal(kept | {COMING: coming}, folder))
        new.replace(folder / RECORD)
        cases.replace(folder / CASES)
        write_json(new, seal({**kept, **changes}, folder))
        new.replace(folder / RECORD)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def is_finished(folder: Path) -> bool:
    """Whether the run has a result as it was written; one that failed, or was changed since, is run again."""
    record = read_record(folder)
    return record is not None and record["status"] in FINISHED and not problem(folder, record)


def find_runs(out: Path) -> Iterator[Path]:
    """Folders of all recorded runs, sorted."""
    return (path.parent for path in sorted(out.glob(f"*/*/*/seed-*/{RECORD}")))


@contextlib.contextmanager
def staged(folder: Path, is_whole: Callable[[Path], bool] = is_finished) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends without an error, and vanishes otherwise.

    What is there already stays where it `is_whole`.

    Raises:
        OSError: the folder could not be written or moved into its place, which is empty then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if folder.exists() and not is_whole(folder):
            shutil.rmtree(folder)
        try:
            temporary.rename(folder)
        except OSError:
            if not is_whole(folder):
                raise
            # Another process finished the same run first; both hold the same numbers.
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Readable JSON with the schema in it; NaN is refused, because a reader would turn it into something else."""
    path.write_text(json.dumps({"schema": SCHEMA, **values}, indent=1, allow_nan=False) + "\n", "utf-8")
