"""Studies on a real Ray cluster of two nodes, which is started here. Where Ray is installed none of these tests skips."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from initbench import cache, claims, interrupt
from initbench.runs import work
from initbench.runs.status import AskedRun, read_asked, status
from tests.clusters.ray_here import Cluster
from tests.clusters.slurm_here import until
from tests.clusters.small_study import INITS, SEEDS, check_equal, study_words
from tests.folders import ROOT
from tests.msd_factory import make_noise

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'initbench[ray]'"),
]

_LONG = 300.0  # seconds to wait for what takes some on a quiet machine


class Site:
    """A Ray cluster, data that its nodes see, and the command line as people run it there."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.data = make_noise(folder)
        self._begun: list[subprocess.Popen[str]] = []
        self.environment = dict(os.environ) | {cache.ENVIRONMENT: str(folder / "cache")}
        self.environment.pop("INITBENCH_IN_PROCESS", None)  # runs have processes of their own, as everywhere

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Starts a command of initbench, in the folder of the tests, where the network lies that they train."""
        command = [sys.executable, "-m", "initbench", *words]
        process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._begun.append(process)
        return process

    def end(self) -> None:
        """Ends the commands that a test which failed left."""
        for process in self._begun:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def said(self, *words: str, code: int = 0) -> str:
        """What a command prints; its complaint where it is to fail."""
        process = self.begin(*words)
        out, errors = process.communicate(timeout=240)
        assert process.returncode == code, (words, out, errors)
        return errors if code else out

    def study(self, *more: str, steps: int = 1500, inits: Sequence[str] = INITS) -> list[str]:
        """The words of `run` for a study of a network of a few thousand parameters."""
        return [*study_words(self.data, steps, inits), *more]

    def on_ray(self, executor: str = "ray") -> list[str]:
        """The words that hand a study to the cluster."""
        return ["--executor", executor, "--ray-address", self.cluster.address]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster of this module's own."""
    cluster = Cluster()
    here = Site(cluster, tmp_path_factory.mktemp("site"))
    try:
        yield here
    finally:
        here.end()
        left = cluster.stop()
    assert not left, "every process of Ray has ended"


class Running:
    """The runs of a study that train now."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def asked(self) -> list[AskedRun]:
        """All runs of the study."""
        return read_asked(self.out)

    def training(self) -> dict[Path, psutil.Process]:
        """The processes of the runs that have saved a checkpoint of their training and have not ended, by the runs' folders."""
        found = {}
        for run in self.asked():
            folder = run.folder
            if folder is None or not any(work.work_folder(folder).glob("train-*.pt")):
                continue
            owners = sorted(work.claim_place(folder).glob(f"[0-9]*/{claims.OWNER}"))
            owner = claims.Owner.model_validate_json(owners[-1].read_bytes())
            if not owner.released and psutil.pid_exists(owner.pid):
                found[folder] = psutil.Process(owner.pid)
        return found

    def on_node(self, node: int) -> list[Path]:
        """The runs that train on a node, by the number of its process, and have half of their steps before them."""
        found = []
        for folder, process in self.training().items():
            state = work.read_state(folder)
            if process.ppid() == node and state is not None and state.step < state.total / 2:
                found.append(folder)
        return found


def generation(folder: Path) -> int:
    """How many processes have had a run in hand."""
    return max(int(path.name) for path in work.claim_place(folder).glob("[0-9]*"))


def test_twelve_runs_end_as_serial_ones_although_a_worker_and_a_node_are_killed(site: Site, tmp_path: Path) -> None:
    out, serial = tmp_path / "study", tmp_path / "serial"
    running, node = Running(out), site.cluster.second
    study = site.begin(*site.study(*site.on_ray(), "--seeds", str(SEEDS), "--out", str(out), "--json"))
    until(lambda: bool(running.training()) or study.poll() is not None, "a run trains", _LONG)
    assert study.poll() is None, study.communicate()
    killed, worker = next(iter(running.training().items()))
    worker.kill()
    found: set[Path] = set()

    def another_trains() -> bool:
        found.update(set(running.on_node(node)) - {killed})
        return bool(found) or study.poll() is not None

    # Ray may do the run of the killed worker again when all others are done, so nobody waits for that here.
    until(another_trains, "another run trains on the second node", _LONG)
    assert study.poll() is None, study.communicate()
    [lost] = found
    site.cluster.replace()
    printed, errors = study.communicate(timeout=300)
    assert study.returncode == 0, errors
    outcomes = json.loads(printed)
    assert [outcome["state"] for outcome in outcomes] == ["ok"] * len(INITS) * SEEDS
    folders = [run.folder for run in running.asked() if run.folder]
    assert {str(folder) for folder in folders} == {outcome["path"] for outcome in outcomes}
    again = {folder for folder in folders if generation(folder) > 1}
    assert again == {killed, lost}, "these two went on elsewhere, and all others were done at the first time"
    hit = [run.request for run in running.asked() if run.folder in again]
    for seed in {request["seed"] for request in hit}:
        inits = [request["init"] for request in hit if request["seed"] == seed]
        others = [init for init in INITS if init not in inits]
        site.said(*site.study("--seed", str(seed), "--out", str(serial), inits=[*inits, *others[: len(inits)]]))
    check_equal(out, serial, 4)  # the two that were hit, and two others of their seeds


def test_runs_share_gpus_and_are_asked_to_stop_before_they_are_killed(site: Site, tmp_path: Path) -> None:
    """Each node says that it has a GPU, and two runs take a half of it each. One that hears nothing is killed."""
    out = tmp_path / "study"
    running = Running(out)
    words = site.study(*site.on_ray("ray(gpus=0.5, cpus=0.1)"), "--seed", "0", "--out", str(out), steps=20_000)
    study = site.begin(*words)
    until(lambda: len(running.training()) == len(INITS), "two runs train on each node", _LONG)
    deaf = next(iter(running.training().values()))
    deaf.suspend()
    study.send_signal(signal.SIGINT)
    until(lambda: len(running.training()) == 1, "all others have saved")
    assert study.poll() is None, "it waits for the last one"
    assert deaf.is_running()
    time.sleep(2 * interrupt._TOGETHER)  # a second Ctrl-C that follows at once counts as the same one
    study.send_signal(signal.SIGINT)
    _, errors = study.communicate(timeout=60)
    assert study.returncode == 130, errors
    until(lambda: not deaf.is_running(), "the one that heard nothing is killed")
    assert [status(run).state for run in running.asked()] == ["interrupted"] * len(INITS)
    for run in running.asked():
        assert run.folder is not None
        assert any(work.work_folder(run.folder).glob("train-*.pt")), "its checkpoint stays"


@pytest.mark.parametrize("executor", ["ray(cpus=9)", "ray(gpus=0.5, cpus=2)", "ray(gpus=3)"])
def test_what_no_node_has_is_said_in_a_line(site: Site, tmp_path: Path, executor: str) -> None:
    out = tmp_path / "study"
    refused = site.said(*site.study(*site.on_ray(executor), "--out", str(out)), code=2)
    assert refused.count("\n") == 1, refused
    assert "error: no node of the Ray cluster has" in refused or "a run takes one GPU or a share of one" in refused
    assert not out.exists()
