"""Commands in new processes, imports and all: whole runs, and how fast commands start. Parts of `benchmarks.ratios`."""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from benchmarks import synthetic_study
from benchmarks.turns import Row, Setting, row_of, seconds_of
from initbench.datasets.phantom import PhantomLung
from initbench.evaluation.inference import window_starts
from initbench.preprocessing.preprocess import Placement

CASES = 15
INITBENCH = [sys.executable, "-m", "initbench"]
TORCH = [sys.executable, "-c", "import torch"]
OF_A_RUN = ["--init", "default", "--backbone", "unetr", "--size", "tiny", "--budget", "smoke", "--device", "cpu"]


def write_phantoms(root: Path) -> None:
    """Writes cases of the phantom as files in the Decathlon layout, so that both sides read the same."""
    phantom = PhantomLung()
    names = phantom.case_ids()[:CASES]
    for name in names:
        case = phantom.load(name)
        for folder, array in (("imagesTr", case.image[0].astype(np.int16)), ("labelsTr", case.label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, case.affine), root / folder / f"{name}.nii.gz")
    table = {
        "name": "phantoms",
        "modality": {"0": "CT"},
        "labels": {str(number): name for number, name in enumerate(phantom.classes)},
        "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names],
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(table), "utf-8")


@dataclass(frozen=True)
class Study:
    """A data set that is prepared for both sides.

    Attributes:
        root: folder of everything.
        record: of a run on it.
        windows: of all its reported cases.
    """

    root: Path
    record: dict[str, Any]
    windows: int

    @property
    def cache(self) -> Path:
        """What initbench prepared."""
        return self.root / "cache"

    def _settings(self, steps: int) -> tuple[str, ...]:
        return (f"steps.smoke={steps}", "preprocess.resampling=monai", "preprocess.intensity=window")

    def command(self, steps: int, out: str) -> list[str]:
        """A run by the command line, which trains in a process of its own."""
        assigned = list(itertools.chain.from_iterable(("--set", setting) for setting in self._settings(steps)))
        where = ["--dataset", str(self.root / "phantoms"), "--out", str(self.root / out), "--precision", "float32"]
        where.append("--no-validation")  # no peer measures Dice while it trains
        return [*INITBENCH, "run", *OF_A_RUN, *where, *assigned]

    def call(self, steps: int, out: str) -> list[str]:
        """The same run by the function, which starts a process for it, too."""
        options = {
            "size": "tiny",
            "budget": "smoke",
            "device": "cpu",
            "precision": "float32",
            "validation": False,
            "out": str(self.root / out),
            "assignments": self._settings(steps),
        }
        asked = f"'default', 'unetr', {str(self.root / 'phantoms')!r}, **{options!r}"
        return [sys.executable, "-c", f"import initbench; [found] = initbench.run({asked}); assert found.state == 'ok', found"]

    def plain(self, steps: int) -> list[str]:
        """The plain script."""
        resolved = self.record["resolved"]
        d, h, w = resolved["preprocess"]["spacing"]
        lists = ["--train", ",".join(resolved["train_cases"]), "--test", ",".join(resolved["reported_cases"])]
        places = [
            "--data",
            str(self.root / "phantoms"),
            "--cache",
            str(self.root / "plain"),
            "--out",
            str(self.root / "plain.pt"),
        ]
        numbers = ["--spacing", *map(str, (w, h, d)), "--classes", str(len(resolved["classes"])), "--steps", str(steps)]
        return [sys.executable, "-m", "benchmarks.plain_monai", *lists, *places, *numbers]

    def bare(self, steps: int) -> list[str]:
        """Bare steps and passes."""
        return [sys.executable, "-m", "benchmarks.bare_run", "--steps", str(steps), "--windows", str(self.windows)]


def make_study(root: Path) -> Study:
    """Writes the data and prepares them on both sides with runs of two steps."""
    write_phantoms(root / "phantoms")
    empty = Study(root, {}, 0)
    seconds_of(empty.command(2, "first"), empty.cache)
    [found] = (root / "first").rglob("record.json")
    record = json.loads(found.read_text("utf-8"))
    reported = set(record["resolved"]["reported_cases"])
    patch, overlap = record["resolved"]["recipe"]["patch"]["size"], record["resolved"]["recipe"]["inference"]["overlap"]
    windows = 0
    for table in empty.cache.rglob("volumes/*/meta.json"):
        values = json.loads(table.read_text("utf-8"))["values"]
        if values["case"] in reported:
            shape = Placement.from_json(values["placement"]).shape
            windows += int(np.prod([len(window_starts(max(n, p), p, overlap)) for n, p in zip(shape, patch, strict=True)]))
    study = Study(root, record, windows)
    seconds_of(study.plain(2))
    return study


def compare_runs(setting: Setting) -> Iterator[Row]:
    """(c) Whole runs with prepared data, by command and by function, against a plain script of MONAI and the bare parts."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _compare_run(make_study(Path(folder)), setting.steps, setting.turns)


def _compare_run(study: Study, steps: int, turns: int) -> list[Row]:
    plain, bare = study.plain(steps), study.bare(steps)
    found: dict[str, list[float]] = {}
    for turn in range(turns):
        commands = {
            "initbench run": study.command(steps, f"command-{steps}-{turn}"),
            "initbench.run(...)": study.call(steps, f"call-{steps}-{turn}"),
            "plain MONAI script": plain,
            "bare steps and passes": bare,
        }
        for name, command in commands.items():
            found.setdefault(name, []).append(seconds_of(command, study.cache))
    rows = []
    for way, peer in itertools.product(list(commands)[:2], list(commands)[2:]):
        rows.append(row_of("run", f"{way}, {steps} steps", peer, found[way], found[peer]))
    return rows


def compare_starts(setting: Setting) -> Iterator[Row]:
    """(g) Commands that train nothing, beside importing torch."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        synthetic_study.write_study(study, synthetic_study.Design())
        commands = {
            "--help": ["--help"],
            "list": ["list"],
            "plan, a run": ["plan", *OF_A_RUN, "--no-measure"],
            "leaderboard, made-up study": ["leaderboard", "--out", str(study)],
            "report, made-up study": ["report", "--out", str(study), "--file", str(Path(folder) / "report.html")],
        }
        for name, command in commands.items():
            own, peer = [], []
            for _ in range(max(2, setting.turns // 2)):
                own.append(seconds_of([*INITBENCH, *command], Path(folder) / "cache"))
                peer.append(seconds_of(TORCH))
            yield row_of("start", f"initbench {name}", "python -c 'import torch'", own, peer)
