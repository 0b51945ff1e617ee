"""What it costs to believe nothing: hashing, reading to the end, noticing copies and odd headers, checksums and syncs.

    python -m benchmarks.reading FOLDER

preprocesses cases of a data set in the Decathlon layout with the recipe of a run, each into an empty folder, in turns plainly and
with more and more of what looks at bytes or puts them on the disk. It prints the mean over the cases of the medians of the turns,
beside preprocessing plainly.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np

from initbench import cache
from initbench.datasets.duplicates import content_of
from initbench.datasets.files import nifti
from initbench.datasets.msd import MsdDataset
from initbench.preprocessing.parameters import Parameters, resolve_parameters, scan
from initbench.preprocessing.preprocess import Preprocessed, preprocess
from initbench.protocols import Case
from initbench.recipes.files import default_name
from initbench.recipes.load import load_recipe


@contextlib.contextmanager
def opened_without_end(path: Path) -> Iterator[Any]:
    """A file that nibabel reads to the last voxel and no further."""
    yield nibabel.load(path)


@contextlib.contextmanager
def headers_unread() -> Iterator[None]:
    """Inside the block headers are asked for shape and affine alone."""
    unit = mock.patch.object(nifti, "unit_of", return_value=1.0)
    with unit, mock.patch.object(nifti, "_said", return_value=nifti.Header()):
        yield


def without_looking(dataset: MsdDataset, case_id: str, parameters: Parameters, folder: Path) -> None:
    """Reads, preprocesses and saves a case. Nothing is hashed, compared or synced."""
    with headers_unread(), mock.patch.object(nifti, "opened", opened_without_end):
        case = dataset.load(case_id)
    save(preprocess(case, parameters), case, folder)


def save(made: Preprocessed, case: Case, folder: Path) -> None:
    """Writes the arrays of a case plainly."""
    for name, array in (("image", made.image), ("label", made.label), ("reference", case.label)):
        np.save(folder / f"{name}.npy", array)


def hashed(dataset: MsdDataset, case_id: str, folder: Path) -> Case:
    """A case of files that are hashed, read to their end, and looked up again before the result is believed."""
    os.environ[cache.ENVIRONMENT] = str(folder)
    with cache.reading_everything():
        dataset.digest(case_id)
    case = dataset.load(case_id)
    dataset.digest(case_id)
    return case


def hashing(dataset: MsdDataset, case_id: str, parameters: Parameters, folder: Path) -> None:
    """The same with files that are hashed and read to their end."""
    with headers_unread():
        case = hashed(dataset, case_id, folder)
    save(preprocess(case, parameters), case, folder)


def noticing(dataset: MsdDataset, case_id: str, parameters: Parameters, folder: Path) -> None:
    """The same with headers that are looked at, and a digest of the voxels."""
    case = hashed(dataset, case_id, folder)
    content_of(case)
    save(preprocess(case, parameters), case, folder)


def checked(dataset: MsdDataset, case_id: str, parameters: Parameters, folder: Path) -> None:
    """All that is done: arrays are written with checksums, too, and synced."""
    case = hashed(dataset, case_id, folder)
    made = preprocess(case, parameters)
    values = {"noticed": asdict(content_of(case))}
    cache.write("volumes", "case", {"image": made.image, "label": made.label, "reference": case.label}, values)


def seconds(work: Callable[[Path], None]) -> tuple[float, float]:
    """Seconds of the clock and of the processor that some work takes in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        clock, processor = time.perf_counter(), time.process_time()
        work(Path(folder))
        return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    """Prints what both ways take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    dataset = MsdDataset(given.folder)
    recipe = load_recipe(default_name(dataset.name, dataset.modality), size="paper", backbone="unetr", budget="paper")
    scans = [scan(dataset.load(case_id)) for case_id in dataset.case_ids()]
    parameters = resolve_parameters(recipe.preprocess, dataset.modality, scans, dataset.channels)
    cases = dataset.case_ids()[: given.cases]
    ways = {
        "plainly": without_looking,
        "hashed and read to the end": hashing,
        "and with copies and headers noticed": noticing,
        "and with checksums, synced": checked,
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for case_id in cases:
        rows: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(given.repeats):
            for name, way in ways.items():
                rows[name].append(seconds(functools.partial(way, dataset, case_id, parameters)))
        for name in ways:
            clock, processor = (statistics.median(column) for column in zip(*rows[name], strict=True))
            taken[name].append((clock, processor))
    print(f"{dataset.name}, {len(cases)} cases, spacing {parameters.spacing} mm")
    for number, unit in enumerate(("clock", "processor")):
        plain = statistics.fmean(row[number] for row in taken["plainly"])
        for name in ways:
            whole = statistics.fmean(row[number] for row in taken[name])
            print(f"{unit}, {name}: {whole:.3f} s a case, {whole / plain - 1:+.1%}")


if __name__ == "__main__":
    main()
