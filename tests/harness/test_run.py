"""Runs from start to end on small synthetic volumes with a light plug-in backbone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
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
from initbench.errors import UsageError
from initbench.evaluation.metrics import count
from initbench.harness import run as run_module
from initbench.harness.execute import Outcome
from initbench.runs import store
from initbench.spec import Spec
from initbench.stats.blocks import PLACEBO
from initbench.studies.sweep import cross_requests
from tests.folders import TESTS
from tests.inits import runnable
from tests.msd_factory import make_msd

LIGHT = f"{TESTS / 'light_backbone.py'}:light"
TINY = ("--backbone", LIGHT, "--size", "tiny", "--budget", "smoke", "--device", "cpu", "--precision", "float32")
# Those two need a file: test_checkpoints, test_inflation.
INITS = runnable()
SMALL = (
    "patch.size=8,16,16",
    "patch.batch=2",
    "pretext.batch=2",
    "pretext.mask_patch=4",
    "steps.smoke=10",
    "preprocess.spacing=native",
    "preprocess.crop=False",
    "augment.rot90=0.5",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_msd(tmp_path_factory.mktemp("data") / "Task90_Noise", cases=6, classes=3)


def run(data: Path, out: Path, init: str = "default", **options: Any) -> list[Outcome]:
    assignments = [*SMALL, *options.pop("assignments", ())]
    settings: dict[str, Any] = {"budget": "smoke", "size": "tiny", "device": "cpu", "precision": "float32", **options}
    return initbench.run(init, LIGHT, str(data), out=out, assignments=assignments, **settings)


def main_and_exit(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0


def record(outcome: Outcome) -> dict[str, Any]:
    assert outcome.folder is not None, outcome.message
    found = store.read_record(outcome.folder)
    assert found is not None
    return found


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
    assert set(found["files"]) == set(store.SEALED) - {store.CASES_RESAMPLED}, "that one only where the recipe asks"
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


def test_a_pretext_that_leaves_no_step_for_training_is_refused(data: Path, tmp_path: Path) -> None:
    changed = ["steps.smoke=2", "pretext.share=0.9"]
    learned, plain = run(data, tmp_path, "lwi,default", assignments=changed)
    assert (learned.state, plain.state) == ("refused", "ok")
    for part in ("2 of the 2 steps of the budget smoke", "pretext.share = 0.9", "raise steps.smoke", "--protocol equal-finetune"):
        assert part in learned.message
    assert [o.state for o in run(data, tmp_path, "lwi", assignments=changed, protocol="equal-finetune")] == ["ok"]
    assert [o.state for o in run(data, tmp_path, "lwi", assignments=["steps.smoke=2", "pretext.share=0.5"])] == ["ok"]


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


def test_diverged_run_scores_worst_and_stays(data: Path, tmp_path: Path) -> None:
    outcome = run(data, tmp_path, assignments=["optimizer.lr=1e30"])[0]
    assert (outcome.state, outcome.dice) == ("diverged", 0.0)
    assert "step" in outcome.message
    cases = initbench.load_cases(tmp_path)
    assert (cases["tp"] == 0).all()
    assert (cases["fn"] > 0).any()
    assert run(data, tmp_path, assignments=["optimizer.lr=1e30"])[0].state == "cached"


def test_failure_is_recorded_others_go_on_and_it_is_tried_again(data: Path, tmp_path: Path) -> None:
    broken = f"{TESTS / 'light_backbone.py'}:broken"
    outcomes = run(data, tmp_path, f"{broken},default")
    assert [o.state for o in outcomes] == ["failed", "ok"]
    assert "planted" in outcomes[0].message
    assert outcomes[0].folder is not None
    assert "RuntimeError: planted" in (outcomes[0].folder / store.TRACEBACK).read_text()
    runs = initbench.load_runs(tmp_path)
    assert set(runs["status"]) == {"ok", "failed"}
    assert [o.state for o in run(data, tmp_path, f"{broken},default")] == ["failed", "cached"]


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


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "patch.batch"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:113] DefaultCPUAllocator: not enough memory"), "patch.batch"),
        (MemoryError(), "patch.batch"),
    ],
)
def test_out_of_memory_says_what_to_lower(data: Path, tmp_path: Path, error: Exception, advice: str) -> None:
    def explode(*_: object, **__: object) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "fit", explode)
        outcome = run(data, tmp_path)[0]
    assert outcome.state == "failed"
    assert advice in outcome.message


def test_estimate_refuses_before_the_start(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "available_memory", lambda device: 2**16)
    outcome = run(data, tmp_path)[0]
    assert outcome.state == "failed"
    assert "expected" in outcome.message
    assert "patch.size" in outcome.message


def test_full_disk_is_said_and_leaves_nothing_half_done(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "weights.safetensors")

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_weights", full)
        outcome = run(data, tmp_path)[0]
    assert outcome.state == "failed"
    assert "disk is full" in outcome.message
    assert run(data, tmp_path)[0].state == "ok"
    assert sorted(path.name for path in tmp_path.rglob(".*") if path.is_dir()) == [".locks", ".sweeps"]


def test_interrupt_leaves_nothing_half_done(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module.records, "write_curve", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(data, tmp_path)
    assert not list(tmp_path.rglob(store.RECORD))
    assert not list(tmp_path.rglob("weights*"))


def test_training_without_saying_so_is_refused(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "sly.py"
    file.write_text("def sly(model, ctx):\n    ctx.fit(None)\n")
    outcome = run(data, tmp_path / "runs", f"{file}:sly")[0]
    assert outcome.state == "refused"
    assert "learned=True" in outcome.message


@pytest.mark.parametrize("init", INITS)
def test_catalog_and_initializer_agree_on_learning(init: str) -> None:
    info = registry.get("initializer", Spec(init)).target.info
    assert info.learned is registry.CATALOG["initializer"][init].learned


def test_one_slab_is_refused_with_depths_that_work_and_others_go_on(data: Path, tmp_path: Path) -> None:
    outcomes = run(data, tmp_path, "lwi,default", assignments=["patch.size=4,16,16"])
    assert [o.state for o in outcomes] == ["refused", "ok"]
    assert "8" in outcomes[0].message
    assert "patch.size" in outcomes[0].message


def test_volumes_too_shallow_for_two_slabs_are_said(data: Path, tmp_path: Path) -> None:
    outcome = run(data, tmp_path, "order", assignments=["patch.size=64,16,16", "preprocess.spacing=8,1,1"])[0]
    assert outcome.state == "failed"
    assert "two slabs" in outcome.message


def test_patch_larger_than_the_volume_is_padded(data: Path, tmp_path: Path) -> None:
    assert run(data, tmp_path, assignments=["patch.size=32,32,32"])[0].state == "ok"


def test_wrong_requests_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lwi"):
        run(data, tmp_path, "lwy")
    with pytest.raises(UsageError, match="mask_ratio"):
        run(data, tmp_path, "lwi(mask_ration=0.5)")
    with pytest.raises(UsageError, match="seeds"):
        run(data, tmp_path, seeds=0)
    outcome = run(data, tmp_path, assignments=["optimizer.learning_rate=1"])[0]
    assert outcome.state == "refused"
    assert "optimizer.learning_rate" in outcome.message
    outcome = run(data, tmp_path, assignments=["patch.size=9,16,16"])[0]
    assert outcome.state == "refused"
    assert "(12, 16, 16)" in outcome.message
    outcome = run(data, tmp_path, "lwi(mask_ratio=1.5)")[0]
    assert outcome.state == "refused"
    assert "mask_ratio" in outcome.message


def test_cell_id_sees_what_matters_and_nothing_else(data: Path, tmp_path: Path) -> None:
    base = record(run(data, tmp_path / "a")[0])["cell"]
    assert record(run(data, tmp_path / "b", threads=1, seeds=[3])[0])["cell"] == base
    assert record(run(data, tmp_path / "c", assignments=["steps.paper=77"])[0])["cell"] == base
    assert record(run(data, tmp_path / "d", assignments=["optimizer.lr=2e-3"])[0])["cell"] != base
    assert record(run(data, tmp_path / "e", precision="bf16")[0])["cell"] != base
    assert record(run(data, tmp_path / "f", "uniform")[0])["cell"] != base


def test_interrupt_at_the_command_line(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    arguments = ["run", "--init", "default", "--backbone", LIGHT, "--dataset", str(data), "--out", str(tmp_path)]
    arguments += ["--size", "tiny", "--budget", "smoke", "--device", "cpu"]
    arguments += [part for assignment in SMALL for part in ("--set", assignment)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "fit", interrupt)
        with pytest.raises(SystemExit) as ended:
            main(arguments)
    assert ended.value.code == 130
    assert "finished runs and checkpoints are kept, and the same command goes on" in capsys.readouterr().err


def spoil_nan(folder: Path) -> str:
    path = folder / "imagesTr" / "case_02.nii.gz"
    image = nibabel.load(path)
    values = np.asarray(image.dataobj, np.float32)
    values[0, 0, 0] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, image.affine), path)
    return "1 NaN"


def spoil_truncated(folder: Path) -> str:
    path = folder / "imagesTr" / "case_02.nii.gz"
    path.write_bytes(path.read_bytes()[:400])
    return "truncated"


def spoil_missing(folder: Path) -> str:
    (folder / "labelsTr" / "case_02.nii.gz").unlink()
    return "do not exist"


def spoil_label(folder: Path) -> str:
    path = folder / "labelsTr" / "case_02.nii.gz"
    label = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.full(label.shape, 7, np.uint8), label.affine), path)
    return "label value"


def spoil_affine(folder: Path) -> str:
    path = folder / "labelsTr" / "case_02.nii.gz"
    label = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(label.dataobj), label.affine + 1), path)
    return "affines"


def spoil_shape(folder: Path) -> str:
    path = folder / "labelsTr" / "case_02.nii.gz"
    label = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(label.dataobj)[1:], label.affine), path)
    return "different shapes"


def spoil_table(folder: Path) -> str:
    (folder / "dataset.json").write_text("{}")
    return "missing or empty"


@pytest.mark.parametrize(
    "spoil", [spoil_nan, spoil_truncated, spoil_missing, spoil_label, spoil_affine, spoil_shape, spoil_table]
)
def test_bad_data_are_named_and_the_other_data_set_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], str]
) -> None:
    bad = make_msd(tmp_path / "Task91_Bad", cases=5)
    good = make_msd(tmp_path / "Task92_Good", cases=5, seed=1)
    says = spoil(bad)
    arguments = ["run", "--init", "default", "--backbone", LIGHT, "--dataset", f"{bad},{good}", "--out", str(tmp_path / "runs")]
    arguments += ["--size", "tiny", "--budget", "smoke", "--device", "cpu", "--precision", "float32"]
    for assignment in SMALL:
        arguments += ["--set", assignment]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr().out
    assert ended.value.code == 1
    assert says in printed
    assert "case_02" in printed or spoil is spoil_table
    assert "Traceback" not in printed
    assert list(initbench.load_runs(tmp_path / "runs")["dataset"]) == ["Task92_Good"]


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
    placebos = [request.seed for request in planned if request.init == PLACEBO]
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


def test_a_checkpoint_that_does_not_fit_is_refused(data: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {"nothing": torch.ones(1)}}, tmp_path / "other.pt")
    outcome = run(data, tmp_path / "runs", f"checkpoint(path={str(tmp_path / 'other.pt')!r})")[0]
    assert outcome.state == "refused"
    assert "fits 0.0% of the parameters" in outcome.message
    with pytest.raises(UsageError, match=r"checkpoint: path='gone\.pt' is no file"):
        run(data, tmp_path / "runs", "checkpoint", assignments=["init.path=gone.pt"])
    with pytest.raises(UsageError, match="no initializer of this sweep takes pth"):
        run(data, tmp_path / "runs", "default", assignments=["init.pth=gone.pt"])


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
