"""Studies on a real Slurm of two nodes, which is started here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.slurm_here import Slurm, UnavailableError, until

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A Slurm of this module's own. Where its packages cannot be had, all of it is skipped."""
    started = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        started.start()
        yield started
    except UnavailableError as error:
        pytest.skip(str(error))
    finally:
        started.stop()
    until(lambda: not started.processes(), "every process of Slurm has ended")


def test_a_task_runs_on_a_node(slurm: Slurm, tmp_path: Path) -> None:
    written = tmp_path / "node"
    done = slurm.ask("sbatch", "--wait", "--output=/dev/null", f"--wrap=echo $SLURMD_NODENAME >{written}")
    assert done.returncode == 0, done.stderr
    assert written.read_text().strip() in ("n1", "n2")
