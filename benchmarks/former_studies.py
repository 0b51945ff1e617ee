"""Two studies of an early README under the words of today: ``python -m benchmarks.former_studies``, for a page in docs/studies.

The runs of commit a3d907f are gone. Their records are made up from what its README printed: the runs that it named, and for the
others scores with the mean and the SD of its table.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from initbench.choices import MARGIN
from initbench.tables.boards import boards
from initbench.tables.compare import compare_sheets
from initbench.tables.sheet import as_markdown
from initbench.tables.study import read_study
from tests.recorded import PLACEBO, write_block

# `make run`: 27 and 22 beside 49 to 55; means and SDs 43.7 ± 14.6, 40.9 ± 16.6 and 47.4 ± 4.3.
PHANTOM: dict[str, tuple[float, ...]] = {"default": (27.0, 49.0, 55.0), "lwi": (22.0, 49.3, 51.4), PLACEBO: (43.0, 47.6, 51.6)}
# Hippocampus: one run of the placebo at 26 beside 79 to 82; 78.9 ± 1.6, 76.5 ± 2.0, 69.3 ± 24.3 and 36.2 ± 8.0.
HIPPOCAMPUS: dict[str, tuple[float, ...]] = {
    "default": (78.9, 80.9, 77.1, 77.6, 80.0),
    "lwi": (76.5, 78.9, 74.2, 75.3, 77.6),
    PLACEBO: (80.0, 79.0, 26.0, 79.5, 82.0),
    "kaiming-normal": (36.2, 45.6, 26.8, 40.1, 32.3),
}
STUDIES = {"phantom-lung": ("unetrpp", PHANTOM, "default"), "hippocampus": ("unetr", HIPPOCAMPUS, "lwi")}


def main() -> None:
    """Prints the leaderboard of each study, and its most doubtful comparison."""
    for dataset, (backbone, runs, first) in STUDIES.items():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            scores = {init: [points / 100 for points in values] for init, values in runs.items()}
            write_block(out, scores, dataset=dataset, backbone=backbone)
            study = read_study(out)
            sheets, below = boards(study, "block", "default", MARGIN, letters=False)
            second = PLACEBO if first == "default" else "default"
            print(as_markdown([*sheets, *below, *compare_sheets(study, first, second)]))


if __name__ == "__main__":
    main()
