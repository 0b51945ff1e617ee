"""Whose a reported case is: in the record of a run, read back, and of older records as the data set says it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from initbench import registry
from initbench.cli.app import main
from initbench.datasets import open as sources
from initbench.harness.cell import Cell, resolve_cell
from initbench.harness.execute import folder_of
from initbench.harness.record import block_digest, header
from initbench.harness.request import RunRequest
from initbench.runs import store
from initbench.runs.read import read_runs
from initbench.tables.study import read_study
from tests import layouts
from tests.msd_factory import make_msd
from tests.recorded import CASES, record_values, write_run
from tests.runs_factory import LIGHT, SMALL

FRAMES = tuple(f"patient{number:03d}_frame{frame}" for number in (1, 2, 3) for frame in ("01", "12"))
PAIRS = {case: f"pair_{number // 2}" for number, case in enumerate(CASES)}
ITSELF = {case: case for case in CASES}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INITBENCH_DATA", str(tmp_path / "nothing"))
    return tmp_path


def request(dataset: str, root: Path, **options: Any) -> RunRequest:
    """A small run that is looked up and not done."""
    return RunRequest.of(
        "default", LIGHT, dataset, 0, budget="smoke", size="tiny", device="cpu", precision="float32", data_root=root,
        recipe="generic-mr", assignments=SMALL, **options,
    )  # fmt: skip


def recorded(cell: Cell) -> dict[str, str]:
    return header(cell, {}).resolved.patients


# --- in the record ----------------------------------------------------------------------------------------------------


def test_two_frames_of_a_heart_are_of_one_patient(root: Path) -> None:
    layouts.acdc(root / "ACDC", FRAMES, "training")
    cell = resolve_cell(request("acdc", root, fold="1/3"))
    assert len(cell.prepared.split.test) == 2
    assert recorded(cell) == {case: case[:10] for case in cell.prepared.split.test}


def test_a_run_is_the_same_whoever_its_cases_are_of(root: Path) -> None:
    folder = make_msd(root / "Task90_Noise", cases=5)
    ids = sorted(path.name.removesuffix(".nii.gz") for path in (folder / "imagesTr").iterdir())
    (folder / "splits.json").write_text(json.dumps({"mine": {"train": ids[:2], "test": ids[2:]}}), "utf-8")
    asked = request(str(folder), root, split="mine")
    before = resolve_cell(asked)
    assert recorded(before) == {case: case for case in ids[2:]}
    whose = dict(zip(ids, ("anna", "anna", "bert", "bert", "carl"), strict=True))
    (folder / "patients.json").write_text(json.dumps(whose), "utf-8")
    after = resolve_cell(asked)
    assert recorded(after) == {ids[2]: "bert", ids[3]: "bert", ids[4]: "carl"}
    assert after.id == before.id
    assert block_digest(after) == block_digest(before)
    assert folder_of(after) == folder_of(before)
    assert "patients" not in after.identity


def test_who_rewrites_a_record_keeps_them_under_its_seal(root: Path) -> None:
    for patients in (PAIRS, {}):
        folder = write_run(root, seed=len(patients), patients=patients)
        record = store.load_record(folder)
        content = (folder / store.CASES).read_bytes()
        write = lambda path, content=content: path.write_bytes(content)  # noqa: E731
        store.amend(folder, record, write, record.changed(distances=None))
        again = store.load_record(folder)
        assert again.resolved == record.resolved
        assert store.problem(folder, again, thorough=True) == ""
        other = again.model_copy(update={"resolved": again.resolved.model_copy(update={"patients": ITSELF})})
        assert "was changed" in store.problem(folder, other)


# --- read back --------------------------------------------------------------------------------------------------------


def cell_of(folder: Path) -> str:
    record = record_values(folder)
    return str(record["cell"])


def test_they_are_read_by_cell_and_equal_ones_are_kept_once(root: Path) -> None:
    first, second = (cell_of(write_run(root, init, patients=PAIRS)) for init in ("default", "lwi"))
    write_run(root, seed=1, patients={})  # an older run of a cell that a younger one speaks for
    older = cell_of(write_run(root, "uniform", patients={}))
    plain = cell_of(write_run(root, "orthogonal"))
    write_run(root, "mae", status="failed", patients=PAIRS)
    found = read_runs(root)
    assert found.patients == {first: PAIRS, second: PAIRS, plain: ITSELF}
    assert found.patients[first] is found.patients[second]
    assert set(found.unsaid) == {older}
    assert found.unsaid[older].cases == CASES
    assert not found.disagreements


@pytest.mark.parametrize("newest", [0, 1])
def test_of_runs_that_disagree_the_one_that_finished_last_counts(
    root: Path, newest: int, capsys: pytest.CaptureFixture[str]
) -> None:
    times = ["2025-01-01T00:00:00+00:00", "2025-01-01T00:00:01+00:00"]
    maps = [PAIRS, ITSELF]
    folders = [write_run(root, seed=n, patients=maps[n], finished=times[n == newest]) for n in (0, 1)]
    cell = cell_of(folders[0])
    found = read_runs(root)
    assert found.patients == {cell: maps[newest]}
    assert (found.disagreements[cell].counted, found.disagreements[cell].other) == (folders[newest], folders[1 - newest])
    with pytest.raises(SystemExit):
        main(["leaderboard", "--out", str(root)])
    said = " ".join(capsys.readouterr().err.split())
    assert "name different patients" in said


def test_a_changed_record_says_nothing(root: Path) -> None:
    folder = write_run(root, patients=PAIRS)
    record = record_values(folder)
    record["resolved"]["patients"] = ITSELF
    store.write_json(folder / store.RECORD, record)
    found = read_runs(root)
    assert not found.patients
    assert not found.unsaid


# --- older records ----------------------------------------------------------------------------------------------------


def older(out: Path, asked: dict[str, Any] | None, cases: tuple[str, ...] = FRAMES[:2], **options: Any) -> str:
    return cell_of(write_run(out, asked=asked, patients={}, reported_cases=list(cases), **options))


def test_the_data_set_says_what_an_older_record_does_not_and_is_opened_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.acdc(root / "ACDC", FRAMES, "training")
    asked = {"dataset": "acdc", "data_root": str(root)}
    gone = asked | {"data_root": str(root / "gone")}
    older(root / "runs", gone, dataset="acdc")
    two = [older(root / "runs", asked, dataset="acdc", init=init, seed=1) for init in ("default", "lwi")]
    newer = cell_of(write_run(root / "runs", "mae", asked=asked, dataset="acdc", patients=PAIRS))
    opened = []

    def counted(*arguments: Any) -> Any:
        opened.append(arguments)
        return plain(*arguments)

    plain = sources.open_dataset
    monkeypatch.setattr(sources, "open_dataset", counted)
    found = read_study(root / "runs")
    assert found.patients == {two[0]: dict.fromkeys(FRAMES[:2], "patient001"), two[1]: found.patients[two[0]], newer: PAIRS}
    assert sorted(opened) == [("acdc", root), ("acdc", root / "gone")]
    opened.clear()
    assert read_study(root / "runs", backbones=["unetr"]).patients == found.patients
    assert len(opened) == 2


def test_no_data_set_is_opened_where_records_say_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = cell_of(write_run(root, asked={"dataset": "phantom-lung"}))
    older(root, {"dataset": "phantom-lung"}, dataset="another")
    monkeypatch.delattr(sources, "open_dataset")
    assert read_study(root, ["phantom-lung"]).patients == {cell: ITSELF}


def test_a_folder_is_asked_by_its_path(root: Path) -> None:
    folder = make_msd(root / "Task90_Noise", cases=3, ids=("a_1", "a_2", "b_1"))
    (folder / "patients.json").write_text(json.dumps({"a_1": "a", "a_2": "a", "b_1": "b"}), "utf-8")
    for path in folder.rglob("*.nii.gz"):  # no volume is read
        path.write_bytes(b"")
    cell = older(root / "runs", {"dataset": str(folder), "data_root": None}, ("a_2", "b_1"), dataset="Task90_Noise")
    assert read_study(root / "runs").patients == {cell: {"a_2": "a", "b_1": "b"}}


BROKEN = {
    "nothing was asked": ("Task90_Noise", None),
    "no data set": ("Task90_Noise", {"data_root": None}),
    "no folder": ("Task90_Noise", {"dataset": "{root}/Task91_Gone"}),
    "unknown name": ("mine", {"dataset": "mine"}),
    "a file": ("mine", {"dataset": "{root}/mine.py:dataset"}),
    "no data root": ("acdc", {"dataset": "acdc", "data_root": "{root}/gone"}),
    "a damaged table": ("Task92_Damaged", {"dataset": "{root}/Task92_Damaged"}),
    "another name": ("Task93_Other", {"dataset": "{root}/Task90_Noise"}),
    "no path at all": ("Task90_Noise", {"dataset": "\0"}),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_nobody_knows_is_left_out(root: Path, kind: str) -> None:
    make_msd(root / "Task90_Noise", cases=3)
    (root / "mine.py").write_text("raise SystemExit('imported')", "utf-8")
    (root / "Task92_Damaged").mkdir()
    (root / "Task92_Damaged" / "dataset.json").write_text('{"training": [[1], {"image": 5}], "labels": 3', "utf-8")
    name, asked = BROKEN[kind]
    filled = asked and {key: value and value.format(root=root) for key, value in asked.items()}
    older(root / "runs", filled, ("case_000",), dataset=name)
    known = cell_of(write_run(root / "runs", "lwi", dataset=name))
    assert read_study(root / "runs").patients == {known: ITSELF}


def test_a_cell_with_a_case_that_the_data_set_does_not_know_is_left_out(root: Path) -> None:
    older(root, {"dataset": "phantom-lung"}, ("phantom_000", "phantom_099"))
    known = older(root, {"dataset": "phantom-lung"}, ("phantom_000", "phantom_001"), init="lwi")
    assert read_study(root).patients == {known: {"phantom_000": "phantom_000", "phantom_001": "phantom_001"}}


@pytest.fixture
def plugin(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A data set of a package that must not be imported."""
    about = root / "site" / "own_cases-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-cases\nVersion: 0.1\n", "utf-8")
    (about / "entry_points.txt").write_text("[initbench.datasets]\nown-cases = own_cases:own\n", "utf-8")
    (root / "site" / "own_cases.py").write_text("raise SystemExit('imported')", "utf-8")
    monkeypatch.syspath_prepend(str(root / "site"))
    registry.forget()
    yield "own-cases"
    monkeypatch.undo()
    registry.forget()


def test_a_plug_in_is_not_imported_for_it(root: Path, plugin: str) -> None:
    assert plugin in registry.names("dataset")
    older(root / "runs", {"dataset": plugin}, dataset=plugin)
    assert not read_study(root / "runs").patients
    assert "own_cases" not in sys.modules


def test_asking_a_data_set_needs_no_torch(root: Path) -> None:
    cell = older(root, {"dataset": "phantom-lung"}, ("phantom_000",))
    code = (
        "import sys; from pathlib import Path; from initbench.tables import study;"
        "print(*study.read_study(Path(sys.argv[1])).patients); assert not {'torch', 'monai'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (cell, "")


def test_the_request_of_a_record_finds_the_data_set(root: Path) -> None:
    """What `as_json` writes is what is looked up: a path that was relative when it was asked for is absolute."""
    make_msd(root / "Task90_Noise", cases=5)
    cell = resolve_cell(replace(request(str(root / "Task90_Noise"), root), data_root=None))
    asked, cases = header(cell, {}).asked.written(), cell.prepared.split.test
    made = older(root / "runs", asked, cases, dataset=cell.prepared.name)
    assert read_study(root / "runs").patients == {made: recorded(cell)}
