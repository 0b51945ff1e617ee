"""What stops a run is named with what to do; the other runs of the study go on, and nothing is left half done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import initbench
from initbench.cli.app import main
from initbench.errors import UsageError
from initbench.harness import run as run_module
from initbench.runs import store
from tests.msd_factory import make_msd
from tests.runs_factory import LIGHT, LIGHT_FILE, SMALL, as_flags, run


def test_a_pretext_that_leaves_no_step_for_training_is_refused(data: Path, tmp_path: Path) -> None:
    changed = ["steps.smoke=2", "pretext.share=0.9"]
    learned, plain = run(data, tmp_path, "lwi,default", assignments=changed, skip_refused=True)
    assert (learned.state, plain.state) == ("refused", "ok")
    for part in ("2 of the 2 steps of the budget smoke", "pretext.share = 0.9", "raise steps.smoke", "--protocol equal-finetune"):
        assert part in learned.message
    assert [o.state for o in run(data, tmp_path, "lwi", assignments=changed, protocol="equal-finetune")] == ["ok"]
    assert [o.state for o in run(data, tmp_path, "lwi", assignments=["steps.smoke=2", "pretext.share=0.5"])] == ["ok"]


def test_diverged_run_scores_worst_and_stays(data: Path, tmp_path: Path) -> None:
    outcome = run(data, tmp_path, assignments=["optimizer.lr=1e30"])[0]
    assert (outcome.state, outcome.dice) == ("diverged", 0.0)
    assert "step" in outcome.message
    cases = initbench.load_cases(tmp_path)
    assert (cases["tp"] == 0).all()
    assert (cases["fn"] > 0).any()
    assert run(data, tmp_path, assignments=["optimizer.lr=1e30"])[0].state == "cached"


def test_failure_is_recorded_others_go_on_and_it_is_tried_again(data: Path, tmp_path: Path) -> None:
    broken = f"{LIGHT_FILE}:broken"
    outcomes = run(data, tmp_path, f"{broken},default")
    assert [o.state for o in outcomes] == ["failed", "ok"]
    assert "planted" in outcomes[0].message
    assert outcomes[0].folder is not None
    assert "RuntimeError: planted" in (outcomes[0].folder / store.TRACEBACK).read_text()
    runs = initbench.load_runs(tmp_path)
    assert set(runs["status"]) == {"ok", "failed"}
    assert [o.state for o in run(data, tmp_path, f"{broken},default")] == ["failed", "cached"]


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
    assert sorted(path.name for path in tmp_path.rglob(".*") if path.is_dir()) == [".claims", ".kinds", ".sweeps"]


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


def test_one_slab_is_refused_with_depths_that_work_and_others_go_on(data: Path, tmp_path: Path) -> None:
    outcomes = run(data, tmp_path, "order(taps=(2,)),default", assignments=["patch.size=4,16,16"], skip_refused=True)
    assert [o.state for o in outcomes] == ["refused", "ok"]
    assert "8" in outcomes[0].message
    assert "patch.size" in outcomes[0].message
    assert "order(taps=(1,))" in outcomes[0].message


def test_volumes_too_shallow_for_two_slabs_are_said(data: Path, tmp_path: Path) -> None:
    outcome = run(data, tmp_path, "order", assignments=["patch.size=64,16,16", "preprocess.spacing=8,1,1"])[0]
    assert (outcome.state, outcome.folder) == ("refused", None)
    assert "needs two slabs of 4 slices inside a volume, and the deepest training volume has 2" in outcome.message
    assert "--set preprocess.spacing" in outcome.message


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


def test_interrupt_at_the_command_line(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    arguments = ["run", "--init", "default", "--backbone", LIGHT, "--dataset", str(data), "--out", str(tmp_path)]
    arguments += ["--size", "tiny", "--budget", "smoke", "--device", "cpu"]
    arguments += as_flags(SMALL)
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
    return "lie in different places"


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
    arguments += as_flags(SMALL)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr().out
    assert ended.value.code == 1
    assert says in printed
    assert "case_02" in printed or spoil is spoil_table
    assert "Traceback" not in printed
    assert list(initbench.load_runs(tmp_path / "runs")["dataset"]) == ["Task92_Good"]


def test_a_checkpoint_that_does_not_fit_is_refused(data: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {"nothing": torch.ones(1)}}, tmp_path / "other.pt")
    outcome = run(data, tmp_path / "runs", f"checkpoint(path={str(tmp_path / 'other.pt')!r})")[0]
    assert outcome.state == "refused"
    assert "fits 0.0% of the parameters" in outcome.message
    with pytest.raises(UsageError, match=r"checkpoint: path='gone\.pt' is no file"):
        run(data, tmp_path / "runs", "checkpoint", assignments=["init.path=gone.pt"])
    with pytest.raises(UsageError, match="no initializer of this sweep takes pth"):
        run(data, tmp_path / "runs", "default", assignments=["init.pth=gone.pt"])
