"""Runs from start to end on small random volumes with a light plug-in backbone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.image import imread
from safetensors.torch import load_file

import initbench
from initbench import registry
from initbench.cli.app import main
from initbench.evaluation.metrics import count
from initbench.harness import run as run_module
from initbench.harness.execute import Outcome
from initbench.runs import store
from initbench.spec import Spec
from initbench.stats.blocks import PLACEBO
from initbench.studies.sweep import cross_requests
from tests.inits import runnable
from tests.runs_factory import record_of, run

# Those that need a file are tested with checkpoints and inflation.
INITS = runnable()


def main_and_exit(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0


def record(outcome: Outcome) -> dict[str, Any]:
    assert outcome.folder is not None, outcome.message
    return record_of(outcome.folder)


@pytest.fixture(scope="module")
def every_init(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    out = tmp_path_factory.mktemp("every")
    return dict(zip(INITS, run(data, out, ",".join(INITS)), strict=True))


def test_every_init_runs(every_init: dict[str, Outcome]) -> None:
    assert {name: o.state for name, o in every_init.items()} == dict.fromkeys(INITS, "ok")


@pytest.mark.parametrize("init", INITS)
def test_record_is_whole(every_init: dict[str, Outcome], init: str) -> None:
    found = record(every_init[init])
    folder = every_init[init].folder
    assert folder is not None
    learned = init in ("mae", "tube", "order", "lwi")
    assert found["resolved"]["init"] == init
    assert found["resolved"]["learned"] is learned
    assert found["cost"]["init"]["steps"] == (2 if learned else 0)  # 16 % of 10
    assert found["cost"]["train"]["steps"] == (8 if learned else 10)  # equal-total
    assert found["resolved"]["protocol"] == ("equal-total" if learned else "any")
    assert found["resolved"]["patients"] == {case: case for case in found["resolved"]["reported_cases"]}
    changed = found["coverage"]["changed_share"]
    assert changed == 0 if init == "default" else 0 < changed <= 1
    where_asked = {store.CASES_RESAMPLED, store.VALIDATION}  # where the recipe asks, and where the budget has room for looks
    assert set(found["files"]) == set(store.SEALED) - where_asked
    curve = pd.read_csv(folder / store.CURVE)
    assert list(curve["stage"].value_counts().sort_index()) == ([2, 8] if learned else [10])
    weights = load_file(folder / store.WEIGHTS)
    assert all(value.isfinite().all() for value in weights.values())
    assert imread(folder / store.OVERLAY).std() > 0.05


def test_coverage_names_what_order_prediction_leaves_alone(every_init: dict[str, Outcome]) -> None:
    folder = every_init["order"].folder
    assert folder is not None
    unchanged = set(json.loads((folder / store.COVERAGE).read_text())["unchanged"])
    assert {"up.weight", "full.weight", "skip.weight"} <= unchanged  # the decoder gets no gradient
    assert not {"stem.weight", "deep.weight"} & unchanged


def test_heads_are_the_same_for_every_init_of_a_seed(data: Path, tmp_path: Path) -> None:
    seen = {}

    def spy(model: torch.nn.Module, heads: tuple[str, ...], seed: int) -> None:
        original(model, heads, seed)
        seen[len(seen)] = model.get_parameter("out.weight").detach().clone()

    original = run_module.redraw_heads
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "redraw_heads", spy)
        run(data, tmp_path, "default,kaiming-normal,lwi")
        run(data, tmp_path, "default", seeds=[1])
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[3])


def test_second_call_runs_nothing_and_a_fresh_folder_gives_the_same_bits(data: Path, tmp_path: Path) -> None:
    first = run(data, tmp_path / "a", "lwi,order", seeds=2)
    stamps = [(o.folder / store.RECORD).stat().st_mtime_ns for o in first if o.folder]
    again = run(data, tmp_path / "a", "lwi,order", seeds=2)
    assert [o.state for o in again] == ["cached"] * 4
    assert [o.dice for o in again] == [o.dice for o in first]
    assert [(o.folder / store.RECORD).stat().st_mtime_ns for o in again if o.folder] == stamps
    fresh = run(data, tmp_path / "b", "lwi,order", seeds=2)
    for one, other in zip(first, fresh, strict=True):
        assert record(one)["weights_digest"] == record(other)["weights_digest"]
        assert record(one)["files"] == record(other)["files"]
    assert len({record(o)["weights_digest"] for o in first}) == 4


def test_two_processes_give_the_bits_of_one(data: Path, tmp_path: Path) -> None:
    serial = run(data, tmp_path / "a", "default,lwi")
    parallel = run(data, tmp_path / "b", "default,lwi", jobs=2)
    assert [o.state for o in parallel] == ["ok", "ok"]
    assert [record(o)["weights_digest"] for o in serial] == [record(o)["weights_digest"] for o in parallel]


def test_amending_seeds_runs_only_the_new_ones(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path, seeds=1)
    assert [o.state for o in run(data, tmp_path, seeds=2)] == ["cached", "ok"]


def test_protocols(data: Path, tmp_path: Path) -> None:
    outcomes = run(data, tmp_path, "default,lwi", protocol="both")
    steps = [(record(o)["resolved"]["protocol"], record(o)["cost"]["train"]["steps"]) for o in outcomes]
    assert steps == [("any", 10), ("equal-total", 8), ("equal-finetune", 10)]


def test_global_state_is_left_alone(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    np.random.seed(7)
    before = (torch.get_rng_state(), np.random.get_state()[1].copy())
    run(data, tmp_path, "lwi")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert not torch.are_deterministic_algorithms_enabled()


def test_global_seed_changes_nothing(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    one = run(data, tmp_path / "a", "kaiming-normal")[0]
    torch.manual_seed(2)
    other = run(data, tmp_path / "b", "kaiming-normal")[0]
    assert record(one)["weights_digest"] == record(other)["weights_digest"]


def test_predictions_lie_on_the_case_and_give_the_stored_counts(data: Path, tmp_path: Path) -> None:
    outcome = run(data, tmp_path, save_predictions=True)[0]
    assert outcome.folder is not None
    cases = initbench.load_cases(tmp_path)
    for case_id, rows in cases.groupby("case"):
        predicted = nibabel.load(outcome.folder / store.PREDICTIONS / f"{case_id}.nii.gz")
        reference = nibabel.load(data / "labelsTr" / f"{case_id}.nii.gz")
        assert np.allclose(predicted.affine, reference.affine, atol=1e-5)
        counted = count(np.asarray(reference.dataobj, np.uint8), np.asarray(predicted.dataobj, np.uint8), 3)
        assert [(c.tp, c.fp, c.fn) for c in counted] == list(rows[["tp", "fp", "fn"]].itertuples(index=False, name=None))
    runs = initbench.load_runs(tmp_path)
    assert runs["dice"].iloc[0] == pytest.approx(cases.groupby("case")["dice"].mean().mean())


def test_initializer_from_a_file_is_keyed_by_its_content(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def flat(model, ctx, *, value=0.1):\n    for p in model.parameters():\n        p.data.fill_(value)\n")
    first = run(data, tmp_path / "runs", f"{file}:flat,{file}:flat(value=0.2)")
    assert [o.state for o in first] == ["ok", "ok"]
    names = [record(o)["resolved"]["init"] for o in first]
    assert names[0].startswith("mine.py:flat@")
    assert names[1] == f"{names[0]}(value=0.2)"
    file.write_text(file.read_text() + "\n# another version\n")
    assert run(data, tmp_path / "runs", f"{file}:flat")[0].state == "ok"
    assert len(initbench.load_runs(tmp_path / "runs")) == 3


@pytest.mark.parametrize("init", INITS)
def test_catalog_and_initializer_agree_on_learning(init: str) -> None:
    info = registry.find("initializer", Spec(init)).target.info
    assert info.learned is registry.CATALOG["initializer"][init].learned


def test_patch_larger_than_the_volume_is_padded(data: Path, tmp_path: Path) -> None:
    assert run(data, tmp_path, assignments=["patch.size=32,32,32"])[0].state == "ok"


def test_cell_id_sees_what_matters_and_nothing_else(data: Path, tmp_path: Path) -> None:
    base = record(run(data, tmp_path / "a")[0])["cell"]
    assert record(run(data, tmp_path / "b", threads=1, seeds=[3])[0])["cell"] == base
    assert record(run(data, tmp_path / "c", assignments=["steps.paper=77"])[0])["cell"] == base
    assert record(run(data, tmp_path / "d", assignments=["optimizer.lr=2e-3"])[0])["cell"] != base
    assert record(run(data, tmp_path / "e", precision="bf16")[0])["cell"] != base
    assert record(run(data, tmp_path / "f", "uniform")[0])["cell"] != base


@pytest.mark.parametrize(
    ("inits", "seeds", "options", "added"),
    [
        ("default,uniform", 2, {}, True),
        (["uniform", "default"], [3, 4], {"protocol": "both"}, True),
        ("default,uniform", 2, {"placebo": False}, False),
        ("default,uniform", 1, {}, False),  # nothing is compared
        ("default", 2, {}, False),
        ("uniform,lwi", 2, {}, False),  # nothing to be a placebo of
        ("default,uniform,default(construct=mine)", 2, {}, False),
        ("default,default(construct=other)", 2, {}, True),  # it is there, once
    ],
)
def test_a_study_that_compares_has_a_placebo(inits: Any, seeds: Any, options: dict[str, Any], added: bool) -> None:
    planned = cross_requests(inits, "unetr", seeds=seeds, **options)
    placebos = [request.seed for request in planned if str(request.init) == PLACEBO]
    assert placebos == (([0, 1] if isinstance(seeds, int) else seeds) if added else [])


def test_a_checkpoint_is_known_by_what_it_holds(data: Path, tmp_path: Path) -> None:
    donor = run(data, tmp_path / "donor", "kaiming-normal")[0]
    assert donor.folder is not None
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    shutil.copy(donor.folder / store.WEIGHTS, one)
    shutil.copy(donor.folder / store.WEIGHTS, two)
    out = tmp_path / "runs"
    first = run(data, out, "default,checkpoint", seeds=2, placebo=False, assignments=[f"init.path={one}"])
    assert [o.state for o in first] == ["ok"] * 4
    assert "100.0% of the parameters" in first[1].message
    found = record(first[1])
    assert found["resolved"]["init"].startswith("checkpoint(path='one.safetensors@")
    assert found["resolved"]["external"] is True
    assert found["coverage"]["report"]["share"] == 1
    assert len(found["resolved"]["init_params"]["path"]) == 64
    # Another place, the same bytes: the same run.
    assert [o.state for o in run(data, out, "checkpoint", seeds=2, assignments=[f"init.path={two}"])] == ["cached"] * 2
    other = run(data, tmp_path / "donor", "default")[0]
    assert other.folder is not None
    shutil.copy(other.folder / store.WEIGHTS, two)
    again = run(data, out, f"checkpoint(path={str(two)!r})")
    assert [o.state for o in again] == ["ok"]
    assert again[0].folder != first[1].folder


def test_a_run_is_described(every_init: dict[str, Outcome], capsys: pytest.CaptureFixture[str]) -> None:
    folder = every_init["order"].folder
    assert folder is not None
    main_and_exit(["describe", str(folder), "--json"])
    table = json.loads(capsys.readouterr().out)
    assert (table["init"], table["status"], table["steps"]) == ("order", "ok", 10)
    assert table["changed by the init"]["stem"] == "100.0%"
    assert table["changed by the init"]["up"] == "0.0%"
    assert table["cost"]["init stage"].startswith("2 steps")
    main_and_exit(["describe", str(folder)])
    assert "changed by the init" in capsys.readouterr().out
