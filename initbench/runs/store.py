"""Run directories: one per cell and seed, written beside their place and moved into it whole.

OUT/<dataset>/<backbone>/<init>-<cell id>/seed-<n>/
    record.json       what was asked and resolved, environment, coverage, cost, status, Dice: see `initbench.runs.record`
    cases.csv         tp, fp, fn and Dice per case and class, on the native grid; distances where measured
    cases-resampled.csv  the same counts on the preprocessed grid, where the recipe asks for them
    curve.csv         learning curve, pretext and training
    validation.csv    Dice over the steps of training, where it was measured
    coverage.json     which parameters the init changed
    weights.safetensors
    overlay.png       best, median and worst case
    slices.npz        image, reference and prediction of every reported case in one slice, for reports
    predictions/      label maps as NIfTI, where asked for
    run.log           how far it was when, for people
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from initbench import digest, staging
from initbench.limits import MAX_RECORD, MAX_TABLE, read_regular
from initbench.runs.record import SCHEMA, Coming, Record, RecordError, parse_record

SWEEPS = ".sweeps"  # below the folder of runs: notes of what was asked for
RECORD = "record.json"
CASES = "cases.csv"
CASES_RESAMPLED = "cases-resampled.csv"
CURVE = "curve.csv"
VALIDATION = "validation.csv"
COVERAGE = "coverage.json"
WEIGHTS = "weights.safetensors"
OVERLAY = "overlay.png"
SLICES = "slices.npz"
SLICE_KEY = "case/"  # before the case in it: a bare name could be one of numpy's arguments
CELL_SIGNS = 10  # of a cell's id in the name of its folder
PREDICTIONS = "predictions"
TRACEBACK = "traceback.txt"
LOG = "run.log"
TABLES = (CASES, CASES_RESAMPLED)
SEALED = (*TABLES, CURVE, VALIDATION, COVERAGE, WEIGHTS)


def slug(text: str) -> str:
    """Turns a text into a name that any file system takes."""
    return re.sub(r"[^A-Za-z0-9.+=-]+", "_", text).strip("_")[:60]


def run_folder(out: Path, dataset: str, backbone: str, init: str, cell_id: str, seed: int) -> Path:
    """Returns where a run lives.

    Args:
        out: folder of all runs.
        dataset: name of the data set.
        backbone: name of the backbone.
        init: name of the init.
        cell_id: id of the cell.
        seed: of the run.
    """
    return out / slug(dataset) / slug(backbone) / f"{slug(init)}-{cell_id[:CELL_SIGNS]}" / f"seed-{seed}"


def load_record(folder: Path) -> Record:
    """Reads the record of a run.

    Raises:
        RecordError: the record is missing or cannot be used; the message says why and does not name the folder.
    """
    try:
        data = read_regular(folder / RECORD, MAX_RECORD)
    except OSError as error:
        raise RecordError(f"it cannot be read: {error.strerror}") from None
    return parse_record(data)


def check_place(folder: Path, record: Record) -> None:
    """Refuses the record of another run: counted in two folders, a run would count twice.

    Raises:
        RecordError: it says which run it is of.
    """
    seed, cell = record.resolved.seed, record.cell[:CELL_SIGNS]
    if folder.name != f"seed-{seed}" or not folder.parent.name.endswith(f"-{cell}"):
        raise RecordError(f"it is of seed {seed} of cell {cell}, whose folder is another")


def read_record(folder: Path) -> Record | None:
    """Reads the record of a run; None where it is missing or cannot be used."""
    try:
        return load_record(folder)
    except RecordError:
        return None


def write_record(folder: Path, record: Record) -> None:
    """Writes a record into the folder of its run."""
    write_json(folder / RECORD, record.written())


def seal(record: Record, folder: Path) -> Record:
    """Returns the record with the digests and sizes of the files beside it, and with its own digest over all that."""
    files, sizes = {}, {}
    for name in SEALED:
        path = folder / name
        if path.is_file():
            files[name] = digest.of_file(path)
            sizes[name] = path.stat().st_size
    sealed = record.changed(files=files, sizes=sizes)
    return sealed.model_copy(update={"digest": sealed.content_digest()})


def problem(folder: Path, record: Record, *, thorough: bool = False) -> str:
    """Says how a finished run differs from what was written; empty where it does not.

    Weights and curves of a study are gigabytes, and every table asks. So the counts alone are hashed, and of the other files the
    size is looked at.

    Args:
        folder: the run's.
        record: of it.
        thorough: hash all files.
    """
    try:
        whole = record.content_digest() == record.digest
    except ValueError:  # a number without end, in a key that this version does not know
        whole = False
    if not whole:
        return f"{RECORD} was changed after it was written, or is not whole"
    for name in record.files:
        try:
            found = _file_problem(folder / name, _written(record, name), hashed=thorough or name in TABLES)
        except OSError as error:
            found = f"{name} cannot be read: {error.strerror}"
        if found:
            return found
    return ""


def _file_problem(path: Path, written: Sequence[tuple[str, int]], *, hashed: bool) -> str:
    """Says how a file differs from all of the digests and sizes that it may have; empty where it does not."""
    if not path.is_file():
        return f"{path.name} is missing"
    digests, sizes = zip(*written, strict=True)
    size = path.stat().st_size
    if size not in sizes:
        return f"{path.name} has another size than when it was written"
    if path.name in TABLES and size > MAX_TABLE:
        return f"{path.name} has {size:,} bytes, more than the {MAX_TABLE:,} that are read"
    if hashed and digest.of_file(path) not in digests:
        return f"{path.name} was changed after it was written"
    return ""


def _written(record: Record, name: str) -> list[tuple[str, int]]:
    """Returns digest and size of a file as it was written, and of the one that is about to take its place."""
    found = [(record.files[name], record.sizes[name])]
    coming = record.coming.get(name)
    if coming is not None:
        found.append((coming.digest, coming.size))
    return found


def amend(folder: Path, before: Record, write_cases: Callable[[Path], None], after: Record) -> None:
    """Gives a finished run that this process holds another cases.csv and another record.

    Two files cannot be replaced at once. So the record first says which other cases.csv is a right one too, then the file
    changes, then the record; wherever that is stopped, the run is whole and keeps its result.

    Args:
        folder: the run's.
        before: its record until the file is replaced.
        write_cases: writes the new cases.csv to a path.
        after: its record from then on.

    Raises:
        OSError: the folder cannot be written; the run is as it was, or whole.
    """
    with staging.beside(folder) as temporary:
        cases, new = temporary / CASES, temporary / RECORD
        write_cases(cases)
        coming = Coming(digest=digest.of_file(cases), size=cases.stat().st_size)
        write_record(temporary, seal(before.changed(coming={CASES: coming}), folder))
        _replace(new, folder / RECORD)
        _replace(cases, folder / CASES)
        write_record(temporary, seal(after.without("coming"), folder))
        _replace(new, folder / RECORD)


def _replace(new: Path, place: Path) -> None:
    """Puts a file on the disk, and then into the place of another one."""
    staging.sync(new)
    staging.move(new, place)


def is_finished(folder: Path) -> bool:
    """Returns whether the run has a result as it was written; one that failed, or was changed since, is run again."""
    record = read_record(folder)
    return record is not None and is_whole(folder, record)


def is_whole(folder: Path, record: Record) -> bool:
    """Returns whether the run of a record has a result as it was written."""
    return record.has_result and not problem(folder, record)


def find_runs(out: Path) -> Iterator[Path]:
    """Returns the folders of all recorded runs, sorted, also where the record is a broken link or may not be looked at."""
    return (path for path in sorted(out.glob("*/*/*/seed-*")) if has_record(path))


def has_record(folder: Path) -> bool:
    """Returns whether there is anything where the record of a run would be."""
    try:
        (folder / RECORD).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # whoever reads it says why it cannot be read
        return True
    return True


@contextlib.contextmanager
def staged(
    folder: Path, is_done: Callable[[Path], bool] = is_finished, check: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """Yields a temporary folder that becomes `folder` when the block ends without an error, and vanishes otherwise.

    Args:
        folder: the place; what is there already stays where it is done.
        is_done: looks whether it is.
        check: called right before anything in the place changes; it may raise.

    Raises:
        OSError: the folder could not be written or moved into its place, which is empty then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with staging.beside(folder) as temporary:
        yield temporary
        temporary.chmod(0o755)
        staging.sync(temporary)
        check()
        if folder.exists() and not is_done(folder):
            shutil.rmtree(folder)
        try:
            staging.move(temporary, folder)
        except OSError:
            if not is_done(folder):
                raise
            # Another process finished the same run first; both hold the same numbers.


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes readable JSON with the schema in it; refuses NaN, because a reader would turn it into something else."""
    path.write_text(json.dumps({"schema": SCHEMA, **values}, indent=1, allow_nan=False) + "\n", "utf-8")
