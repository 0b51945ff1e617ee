"""An initializer in a package of its own, installed and used as its author would; and packages that are broken."""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from scipy import stats

from initbench import registry
from initbench.datasets.open import open_folder
from initbench.harness.cell import Cells, resolve_cell
from initbench.harness.execute import look_up
from initbench.harness.rehearsal import Rehearsals
from initbench.harness.request import RunRequest
from initbench.preprocessing.prepare import data_digest
from initbench.runs.status import read_asked, status
from initbench.spec import Spec
from tests.folders import TESTS
from tests.msd_factory import make_msd, make_noise
from tests.runs_factory import LIGHT, SMALL, as_flags, run

PLUGIN = TESTS / "plugin"
FOUR_STEPS = (*SMALL, "steps.smoke=4")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the path into which the example package is installed."""
    source = tmp_path_factory.mktemp("plugin") / "source"
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("__pycache__"))
    target = source.parent / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, "--target", str(target), str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def initbench(*arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from initbench.cli.app import main; main()", *arguments]
    env = {**os.environ, "PYTHONPATH": str(path), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def test_the_example_is_as_short_as_promised() -> None:
    lines = (PLUGIN / "damped_init.py").read_text("utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 15


def test_it_is_listed_with_where_it_comes_from(site: Path) -> None:
    listed = initbench("list", "inits", "--json", path=site)
    assert listed.stderr == ""
    assert {
        "name": "damped",
        "kind": "initializer",
        "summary": "damped_init:damped",
        "origin": "damped-init 0.1",
        "learned": False,
    } in json.loads(listed.stdout)
    described = initbench("describe", "damped", path=site)
    assert "He's normal law" in described.stdout
    assert "factor" in described.stdout


def test_it_runs_beside_the_built_in_ones_and_is_known_by_its_source(site: Path, tmp_path: Path) -> None:
    data = make_msd(tmp_path / "Task90_Noise", cases=5)
    arguments = ["run", "--init", "default,damped,damped(factor=0.25)", "--backbone", LIGHT, "--dataset", str(data)]
    arguments += ["--size", "tiny", "--budget", "smoke", "--device", "cpu", "--out", str(tmp_path / "runs"), "--json"]
    done = initbench(*arguments, *as_flags(FOUR_STEPS), path=site)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert [(item["init"], item["state"]) for item in outcomes] == [
        ("default", "ok"),
        ("damped", "ok"),
        ("damped(factor=0.25)", "ok"),
    ]
    resolved = json.loads((Path(outcomes[1]["path"]) / "record.json").read_text())["resolved"]
    assert resolved["init_source"] == hashlib.sha256((PLUGIN / "damped_init.py").read_bytes()).hexdigest()
    assert resolved["init_params"] == {"factor": 0.5}
    board = initbench("leaderboard", "--out", str(tmp_path / "runs"), path=site)
    assert "damped(factor=0.25)" in board.stdout


def test_its_weights_follow_its_law(site: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    data = make_noise(tmp_path / "data", cases=4)
    arguments = ["pretrain", "--init", "damped", "--backbone", "unetr", "--size", "tiny", "--weights", str(weights)]
    small = as_flags((*SMALL, "patch.size=16,32,32"))
    done = initbench(*arguments, "--dataset", str(data), *small, "--device", "cpu", path=site)
    assert done.returncode == 0, done.stderr
    weight = load_file(weights)["vit.blocks.0.mlp.linear1.weight"]
    law = stats.norm(0, 0.5 * math.sqrt(2 / weight.shape[1]))
    values = weight.flatten().numpy()
    assert values.size > 10_000
    assert stats.kstest(values, law.cdf).pvalue > 1e-3
    assert stats.kstest(values / math.sqrt(2), law.cdf).pvalue < 1e-9


def test_it_keeps_the_promises_of_the_contract(site: Path) -> None:
    checked = initbench("validate", "init", "damped(factor=0.25)", path=site)
    assert checked.returncode == 0, checked.stdout
    assert "FAILED" not in checked.stdout


def broken_package(folder: Path, name: str, entries: str) -> Path:
    """Metadata as an installer leaves it."""
    metadata = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(f"[initbench.initializers]\n{entries}\n")
    return folder


@pytest.mark.parametrize(
    ("entries", "asked", "says"),
    [
        ("gone = no_such_package.module:init", "gone", "there is no module no_such_package; reinstall the plug-in"),
        ("gone = textwrap", "gone", "'textwrap' is not module:function"),
        ("lwi = textwrap:dedent", "lwi", "has the name of a built-in (initbench.initializers.lwi:lwi)"),
    ],
)
def test_a_broken_package_is_a_warning_and_an_error_only_when_asked_for(
    tmp_path: Path, entries: str, asked: str, says: str
) -> None:
    path = broken_package(tmp_path, "lab-inits", entries)
    elsewhere = initbench("list", "inits", "--json", path=path)
    assert elsewhere.returncode == 0
    assert elsewhere.stderr.startswith(f"warning: initializer '{asked}' of lab-inits 1.2")
    assert says in elsewhere.stderr
    assert sum(row["name"] == asked for row in json.loads(elsewhere.stdout)) == (asked == "lwi")
    used = initbench("run", "--init", asked, "--backbone", "unetr", "--out", str(tmp_path / "runs"), path=path)
    assert used.returncode == 2
    assert f"error: initializer '{asked}' of lab-inits 1.2" in used.stderr
    assert says in used.stderr
    assert "Traceback" not in used.stderr
    other = initbench("run", "--init", "lwl", "--backbone", "unetr", "--out", str(tmp_path / "runs"), path=path)
    assert "error: unknown initializer 'lwl'" in other.stderr


# --- a data set of others -----------------------------------------------------------------------------------------------

READER = """
from dataclasses import replace
from pathlib import Path

from initbench.datasets.open import open_folder


def own(data_root, search):
    dataset = open_folder(Path({folder!r}))
    plain = dataset.load

    def load(case_id):
        {before}
        case = plain(case_id)
        return replace(case, image={factor} * case.image)

    dataset.load = load
    return dataset
"""


class Reader:
    """A package with a data set, whose author changes it."""

    def __init__(self, site: Path, folder: Path) -> None:
        self.site, self.folder = site, folder
        about = site / "own_reader-0.1.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-reader\nVersion: 0.1\n", "utf-8")
        (about / "entry_points.txt").write_text("[initbench.datasets]\nown-noise = own_reader:own\n", "utf-8")
        self.write()

    def write(self, *, factor: float = 1.0, before: str = "pass") -> None:
        text = READER.format(folder=str(self.folder), factor=factor, before=before)
        (self.site / "own_reader.py").write_text(text, "utf-8")
        sys.modules.pop("own_reader", None)
        importlib.invalidate_caches()
        registry.forget()
        shutil.rmtree(self.site / "__pycache__", ignore_errors=True)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    found = Reader(tmp_path / "site", make_msd(tmp_path / "Task90_Noise", cases=5))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    registry.forget()
    yield found
    monkeypatch.undo()
    registry.forget()
    sys.modules.pop("own_reader", None)


def test_another_reader_is_another_run_with_other_volumes(reader: Reader) -> None:
    """The files are the same, so what tells them apart is the reader's code: in the run's id, in the cache, in the plan."""
    request = RunRequest.of("default", "unetr", "own-noise", 0, budget="smoke", size="paper", device="cpu", recipe="generic-ct")
    request = replace(request, assignments=("preprocess.intensity=window",))  # another factor is nothing to a z-score
    first, again = resolve_cell(request), resolve_cell(request)
    assert (again.id, again.prepared.keys) == (first.id, first.prepared.keys)
    case = first.prepared.split.test[0]
    image = np.array(first.prepared.case(case).image)

    reader.write(factor=0.5)
    other = resolve_cell(request)
    assert other.id != first.id
    assert other.prepared.digest != first.prepared.digest
    assert not set(other.prepared.keys.values()) & set(first.prepared.keys.values())
    assert not np.array_equal(image, other.prepared.case(case).image)
    assert np.array_equal(image, first.prepared.case(case).image)

    reader.write()
    assert resolve_cell(request).id == first.id
    built_in = resolve_cell(replace(request, dataset=Spec(str(reader.folder))))
    assert built_in.prepared.digest == data_digest(open_folder(reader.folder), built_in.prepared.split)[0]
    assert built_in.prepared.digest != first.prepared.digest


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_reader_that_raises_stops_no_other_run(reader: Reader, tmp_path: Path, jobs: int) -> None:
    reader.write(before="raise KeyError('planted')")
    good, out = make_msd(tmp_path / "Task91_Good", cases=5), tmp_path / "runs"
    outcomes = run(f"own-noise,{good}", out, settings=FOUR_STEPS, seeds=2, jobs=jobs)
    assert [outcome.state for outcome in outcomes] == ["failed", "ok", "failed", "ok"]
    assert outcomes[0].folder is None
    message = outcomes[0].message
    assert message.startswith("KeyError: 'planted' (")
    kept = Path(message.partition("(")[2].removesuffix(")"))
    assert kept.is_file()
    assert "own_reader.py" in kept.read_text("utf-8")
    rows = [status(run) for run in read_asked(out)]
    assert sorted(row.state for row in rows) == ["done", "done", "failed", "failed"]
    assert any(row.detail == message for row in rows)


def test_an_init_of_others_that_raises_when_it_is_tried_stops_no_other_run(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(draft: object) -> None:
        raise ZeroDivisionError("planted")

    weights = tmp_path / "weights.safetensors"
    save_file({}, weights)
    monkeypatch.setattr("initbench.harness.rehearsal.build_for", broken)
    request = RunRequest.of(f"checkpoint(path={str(weights)!r})", LIGHT, str(reader.folder), 0, size="tiny", device="cpu")
    found = look_up(replace(request, budget="smoke", out=tmp_path / "runs", assignments=FOUR_STEPS), Cells(), Rehearsals())
    assert found.state == "failed"
    assert found.message.startswith("ZeroDivisionError: planted (")


def test_a_full_disk_before_a_run_begins_is_said(reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the traceback can be kept then."""

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "volumes")

    monkeypatch.setattr("initbench.cache.write", full)
    monkeypatch.setattr(Path, "write_text", full)
    request = RunRequest.of("default", LIGHT, str(reader.folder), 0, budget="smoke", size="tiny", device="cpu")
    wanted = replace(request, out=tmp_path / "runs", assignments=(*FOUR_STEPS, "preprocess.spacing=1.3,1.7,1.9"))
    found = look_up(wanted, Cells(), Rehearsals())
    assert (found.state, found.message) == ("failed", "the disk is full (volumes): free space and run the same command again")
