"""A study that never was, on disk exactly as runs leave it, with known effects: for speed, for reports, for statistics.

    python -m benchmarks.synthetic_study runs/synthetic --datasets 5 --backbones 10 --inits 20 --seeds 10 --cases 63 --classes 2

Sealed records of realistic size, counts, coverage and a short learning curve; no weights, pictures or slices. The scores follow

    Dice = level + init + block x init + seed + seed x init + case + init x case + residual     (points, cut to 0 to 100)

with Gaussian effects of the SDs in `Effects`. The placebo shares every effect of `default` but the seed's. Some classes are
missing from some references, some runs diverged. With --cases-per-patient N so many cases in a row are of one patient, and have
most of their own effects (case, init x case) in common. The same arguments give the same files, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initbench import dice, digest, spec
from initbench.recipes.load import load_recipe
from initbench.runs import store
from initbench.runs.record import MEASURES, SCHEMA, Record

BASELINE, PLACEBO = "default", "default(construct='other')"
_INITS = (
    BASELINE, PLACEBO, "lwi", "mae", "order", "tube", "kaiming-normal", "xavier-uniform", "trunc-normal", "orthogonal", "uniform",
    "xavier-normal", "kaiming-uniform", "he-leaky", "zero-residual", "lsuv", "lwi-as-released", "mae(mask_ratio=0.6)",
    "lwi(mask_ratio=0.6)", "order(permutation='sample')",
)  # fmt: skip
_LEARNED = ("lwi", "mae", "order", "tube")
_BACKBONES = ("unetr", "unetrpp", "unet", "nnformer", "swin-unetr")
_DATASETS = ("lung", "hippocampus", "phantom-lung")
_CLASSES = ("Anterior", "Posterior", "Left", "Right")
_STEPS, _PRETEXT_STEPS, _CURVE_ROWS = 1200, 192, 40
_SHARED = 0.8  # of the variances of case and init x case, what the cases of a patient have in common
_DIVERGED = "training diverged at step 311: the loss was not finite"


@dataclass(frozen=True)
class Effects:
    """SDs in Dice points, and the mean.

    Attributes:
        init: of an init in all blocks; `block_init` of an init in one block.
        seed: of a seed in all inits of a block; `seed_init` in one init alone.
        init_case: cases that are easier for one init than for another.
    """

    level: float = 72.0
    init: float = 1.5
    block_init: float = 0.7
    seed: float = 0.8
    seed_init: float = 1.5
    case: float = 12.0
    init_case: float = 3.0
    residual: float = 6.0


@dataclass(frozen=True)
class Design:
    """Sizes of a study, and what befalls its runs."""

    datasets: int = 2
    backbones: int = 2
    inits: int = 10
    seeds: int = 5
    cases: int = 63
    classes: int = 2
    effects: Effects = field(default_factory=Effects)
    diverged: float = 0.01
    failed: float = 0.0
    missing_class: float = 0.03
    key: int = 0
    cases_per_patient: int = 1

    @property
    def patients(self) -> NDArray[np.int64]:
        """Number of the patient of each case."""
        return np.arange(self.cases) // self.cases_per_patient


def names(known: tuple[str, ...], count: int, more: str) -> list[str]:
    """So many names: those that exist, then numbered ones."""
    return [*known[:count], *(f"{more}-{number}" for number in range(len(known), count))]


def write_study(out: Path, plan: Design) -> int:
    """Writes the runs of a study below `out`; their number."""
    inits = names(_INITS, plan.inits, "scheme")
    common = np.random.default_rng((plan.key, 0)).normal(0, plan.effects.init, len(inits))
    count = 0
    for number, (dataset, backbone) in enumerate(
        product(names(_DATASETS, plan.datasets, "study"), names(_BACKBONES, plan.backbones, "net"))
    ):
        # What references hold is the data set's: the same for all backbones.
        references = _references(np.random.default_rng((plan.key, 1, number // plan.backbones)), plan)
        rng = np.random.default_rng((plan.key, 2, number))
        points = _scores(rng, plan, common, inits)
        for folder, record, tables in _runs(rng, plan, dataset, backbone, inits, references, points):
            _write(out / folder, record, tables)
            count += 1
    return count


def _references(rng: np.random.Generator, plan: Design) -> NDArray[np.int64]:
    """Voxels of the reference [case, class]; 0 where it lacks the class."""
    voxels = np.exp(rng.normal(8.5, 1.0, (plan.cases, plan.classes))).astype(np.int64) + 500
    missing = rng.random(voxels.shape) < plan.missing_class
    missing[:, 0] = False  # every case is scored
    return np.where(missing, 0, voxels)


def _scores(rng: np.random.Generator, plan: Design, common: NDArray[np.float64], inits: list[str]) -> NDArray[np.float64]:
    """Dice points [init, seed, case] of a block."""
    sd, shape = plan.effects, (len(inits), plan.seeds, plan.cases)
    of_init = common + rng.normal(0, sd.block_init, shape[0])
    of_init_case = _of_cases(rng, plan, sd.init_case, shape[0])
    if PLACEBO in inits:  # the same law
        of_init[inits.index(PLACEBO)] = of_init[inits.index(BASELINE)]
        of_init_case[inits.index(PLACEBO)] = of_init_case[inits.index(BASELINE)]
    y = sd.level + of_init[:, None, None] + of_init_case[:, None, :]
    y = y + rng.normal(0, sd.seed, (1, plan.seeds, 1)) + rng.normal(0, sd.seed_init, (*shape[:2], 1))
    y = y + _of_cases(rng, plan, sd.case, 1) + rng.normal(0, sd.residual, shape)
    return np.asarray(y.clip(0, 100), np.float64)


def _of_cases(rng: np.random.Generator, plan: Design, sd: float, rows: int) -> NDArray[np.float64]:
    """Effects [row, case] of one SD; those of a patient's cases correlate by `_SHARED`."""
    own = rng.normal(0, sd, (rows, plan.cases))
    if plan.cases_per_patient == 1:
        return own
    patients = plan.patients
    common = rng.normal(0, sd, (rows, patients[-1] + 1))
    return np.asarray(math.sqrt(_SHARED) * common[:, patients] + math.sqrt(1 - _SHARED) * own, np.float64)


_Tables = dict[str, str]


def _runs(
    rng: np.random.Generator,
    plan: Design,
    dataset: str,
    backbone: str,
    inits: list[str],
    references: NDArray[np.int64],
    points: NDArray[np.float64],
) -> Iterator[tuple[Path, dict[str, Any], _Tables]]:
    cases = [f"{dataset}_{number:03d}" for number in range(plan.cases)]
    classes = ["background", *names(_CLASSES, plan.classes, "organ")]
    block = _resolved(dataset, backbone, cases, classes)
    patients = _patients(plan, dataset, cases)
    for number, init in enumerate(inits):
        own = block | _of_init(init)
        cell = digest.of_json(own)
        for seed in range(plan.seeds):
            fate = rng.random()
            state = "diverged" if fate < plan.diverged else "failed" if fate < plan.diverged + plan.failed else "ok"
            folder = store.run_folder(Path(), dataset, backbone, init, cell, seed)
            record = _record(state, cell, own | {"seed": seed, "patients": patients}, backbone, rng)
            if state == "failed":
                yield folder, record | {"reason": "planted", "traceback": store.TRACEBACK}, {}
                continue
            share = points[number, seed] / 100 * (state == "ok")
            counts = _counts(share, references)
            record |= _dice(counts, classes) | {"weights_digest": digest.of_json([cell, seed]), "notes": []} | _UNMEASURED
            record["reason"] = _DIVERGED if state == "diverged" else None
            tables = {store.CASES: _cases_csv(counts, cases, classes), store.CURVE: _curve_csv(rng, own["learned"])}
            yield folder, record, tables | {store.COVERAGE: _json({"init": init, "parameters": {}, **record["coverage"]})}


def _patients(plan: Design, dataset: str, cases: list[str]) -> dict[str, str]:
    """The patient of each case; of one that has no other, its own name."""
    if plan.cases_per_patient == 1:
        return dict(zip(cases, cases, strict=True))
    return {case: f"{dataset}_p{number:03d}" for case, number in zip(cases, plan.patients.tolist(), strict=True)}


def _counts(share: NDArray[np.float64], references: NDArray[np.int64]) -> NDArray[np.int64]:
    """tp, fp, fn [case, class, 3] of predictions as large as the reference; a few voxels where it lacks the class."""
    tp = np.round(share[:, None] * references).astype(np.int64)
    wrong = references - tp
    astray = np.where((references == 0) & (share[:, None] > 0.6), 17, wrong)
    return np.stack([tp, astray, wrong], axis=-1)


def _dice(counts: NDArray[np.int64], classes: list[str]) -> dict[str, Any]:
    """Dice of a run and per class, as `initbench.dice` has them: mean over classes, then over cases."""
    table = [[dice.Counts(*map(int, found)) for found in case] for case in counts]

    def of(rows: list[list[dice.Counts]]) -> float | None:
        value = dice.run_dice(rows)
        return None if math.isnan(value) else value

    return {
        "dice": of(table),
        "dice_per_class": {name: of([[row[k]] for row in table]) for k, name in enumerate(classes[1:])},
    }


def _resolved(dataset: str, backbone: str, cases: list[str], classes: list[str]) -> dict[str, Any]:
    settings = load_recipe("hippocampus", size="tiny", backbone=backbone, budget="short").model_dump(mode="json")
    return {
        "backbone": backbone,
        "backbone_source": "revision 1",
        "variant": "default",
        "size": "tiny",
        "dataset": dataset,
        "data_digest": digest.of_json([dataset, cases]),
        "preprocess": {"depth_axis": "z", "spacing": [1.0, 1.0, 1.0], "clip": None, "scale": None, "image_order": 1},
        "split": "auto",
        "train_cases": [f"{dataset}_{number:03d}" for number in range(len(cases), 5 * len(cases))],
        "reported_cases": cases,
        "classes": classes,
        "fixed_streams": [],
        "budget": "short",
        "steps": _STEPS,
        "regimen": "plain",
        "precision": "bf16",
        "recipe": settings,
        "recipe_digest": digest.of_json([dataset, backbone])[:12],
        "dice_policy": "reference-mask",
    }


def _of_init(init: str) -> dict[str, Any]:
    parsed = spec.parse(init)
    learned = parsed.name.startswith(_LEARNED)
    return {
        "init": init,
        "init_params": dict(parsed.params),
        "init_source": "revision 1",
        "origin": "initbench",
        "learned": learned,
        "external": False,
        "protocol": "equal-total" if learned else "any",
    }


_UNMEASURED: dict[str, Any] = {"distances": None} | {f"{name}_per_class": None for name in MEASURES}


def _record(state: str, cell: str, resolved: dict[str, Any], backbone: str, rng: np.random.Generator) -> dict[str, Any]:
    learned, init = resolved["learned"], resolved["init"]
    steps, pace = (_PRETEXT_STEPS if learned else 0), rng.normal(1, 0.04, 2)
    seconds = [float(value) for value in (0.3 * steps * pace[0] + 0.01, 0.6 * (_STEPS - steps) * pace[1])]
    changed = {BASELINE: 0.0}.get(init, 0.93)
    return {
        "schema": SCHEMA,
        "status": state,
        "cell": cell,
        "finished": "2026-11-01T00:00:00+00:00",
        "asked": {"init": init, "backbone": backbone, "dataset": resolved["dataset"], "seed": resolved["seed"], "out": "runs"},
        "resolved": resolved,
        "environment": _ENVIRONMENT,
        "coverage": {"changed_share": changed, "groups": dict.fromkeys(("encoder", "decoder", "out"), changed), "read": []},
        "cost": {
            "init": {"steps": steps, "patches": 4 * steps, "seconds": seconds[0]},
            "train": {"steps": _STEPS - steps, "patches": 2 * (_STEPS - steps), "seconds": seconds[1]},
            "evaluate_seconds": 6.5,
            "total_seconds": sum(seconds) + 6.5,
            "device_seconds": 0.0,
            "peak_memory": 1_538_064_384,
            "distance_seconds": 0.0,
            "validation": {"points": 20, "cases": 2, "passes": 160, "seconds": 3.0},
        },
    }


_ENVIRONMENT: dict[str, Any] = {
    "python": "3.11.7",
    "platform": "Linux-6.18-x86_64-with-glibc2.36",
    "cpu": "a made-up CPU",
    "device": "cpu",
    "accelerator": None,
    "cuda": None,
    "cudnn": None,
    "threads": 1,
    "packages": {"initbench": "0.1.0", "torch": "2.15.0", "monai": "1.6.1", "numpy": "2.4.6", "scipy": "1.17.1"},
    "git": None,
    "command": ["initbench", "run", "--out", "runs"],
    "machines": ["0" * 12],
    "fingerprint": "0" * 12,
}


def _cases_csv(counts: NDArray[np.int64], cases: list[str], classes: list[str]) -> str:
    lines = ["case,class,class_name,tp,fp,fn,dice,hd95_mm,nsd"]
    for case, found in zip(cases, counts.tolist(), strict=True):
        for k, (tp, fp, fn) in enumerate(found, start=1):
            score = dice.Counts(tp, fp, fn).dice
            written = "" if math.isnan(score) else repr(score)
            lines.append(f"{case},{k},{classes[k]},{tp},{fp},{fn},{written},,")
    return "\n".join(lines) + "\n"


def _curve_csv(rng: np.random.Generator, learned: bool) -> str:
    lines = ["stage,step,lr,loss,dice,ce"]
    train = ("train", 1.0, _STEPS)
    for stage, scale, steps in (("pretext", 0.5, _PRETEXT_STEPS), train) if learned else (train,):
        noise = rng.normal(0, 0.03, _CURVE_ROWS)
        for row in range(_CURVE_ROWS):
            loss = float(scale * math.exp(-row / 12) + 0.3 + noise[row])
            lines.append(f"{stage},{row * steps // _CURVE_ROWS},0.001,{loss!r},{loss / 2!r},{loss / 2!r}")
    return "\n".join(lines) + "\n"


def _json(values: dict[str, Any]) -> str:
    return json.dumps({"schema": SCHEMA, **values}, indent=1, allow_nan=False) + "\n"


def _write(folder: Path, record: dict[str, Any], tables: _Tables) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tables.items():
        (folder / name).write_text(text, "utf-8")
    made = Record.model_validate(record)
    store.write_record(folder, store.seal(made, folder) if tables else made)


def main() -> None:
    """Writes a study and says how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    standard = Design()
    for option in ("datasets", "backbones", "inits", "seeds", "cases", "classes", "key", "cases_per_patient"):
        parser.add_argument(f"--{option.replace('_', '-')}", type=int, default=getattr(standard, option))
    for option in ("diverged", "failed", "missing_class"):
        parser.add_argument(f"--{option.replace('_', '-')}", type=float, default=getattr(standard, option))
    given = vars(parser.parse_args())
    out, started = given.pop("out"), time.perf_counter()
    print(f"{write_study(out, Design(**given))} runs in {time.perf_counter() - started:.1f} s: {out}")


if __name__ == "__main__":
    main()
