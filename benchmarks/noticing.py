"""What it costs to notice copies and odd headers while cases are preprocessed: processor time with and without it.

python -m benchmarks.noticing --dataset OpenKBP_HN5 --cases 20
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from unittest import mock

from initbench import cache
from initbench.datasets.duplicates import Content
from initbench.datasets.files import nifti
from initbench.datasets.open import open_dataset
from initbench.datasets.splits import automatic
from initbench.preprocessing import prepare
from initbench.protocols import Case, Dataset
from initbench.recipes.files import default_name
from initbench.recipes.load import load_recipe


def seconds_of(dataset: Dataset, cases: int) -> float:
    """Processor seconds a case, from files to cached volumes."""
    settings = load_recipe(
        default_name(dataset.name, dataset.modality), size="paper", backbone="unetr", budget="paper"
    ).preprocess
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {cache.ENVIRONMENT: folder}):
        split = automatic(dataset.case_ids()[:cases])
        began = time.process_time()
        prepare.prepare(dataset, split, settings)
        return (time.process_time() - began) / cases


def without(measure: Callable[[], float]) -> float:
    """The same where headers are not looked at and voxels have no digest."""
    numbers = iter(range(10**9))

    def nothing(case: Case) -> Content:
        """Another digest for every case, at no cost."""
        return Content(str(next(numbers)), (1, 1, 1), (1.0, 1.0, 1.0))

    said = mock.patch.object(nifti, "_said", return_value=nifti.Header())
    unit = mock.patch.object(nifti, "unit_of", return_value=1.0)
    with said, unit, mock.patch.object(prepare, "content_of", nothing):
        return measure()


def main() -> None:
    """Prints both, the better of three each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="OpenKBP_HN5")
    parser.add_argument("--cases", type=int, default=20)
    asked = parser.parse_args()
    dataset = open_dataset(asked.dataset)
    noticed = min(seconds_of(dataset, asked.cases) for _ in range(3))
    plain = min(without(lambda: seconds_of(dataset, asked.cases)) for _ in range(3))
    print(f"{1000 * plain:.1f} ms a case without, {1000 * noticed:.1f} ms with: {100 * (noticed / plain - 1):.1f} % more")


if __name__ == "__main__":
    main()
