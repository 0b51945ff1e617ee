"""Settings of the whole test session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.msd_factory import make_noise

# How long an example takes is the machine's business and no fault of what is tested.
settings.register_profile("initbench", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("initbench")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """One thread: the same sums everywhere, and no fight for two cores."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of the session's own, which all of its workers share; the user's stays as it is."""
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INITBENCH_CACHE", str(session / "cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def in_this_process() -> Iterator[None]:
    """Single jobs run in the process of the tests, so that tests can put faults into them, and no worker imports torch again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INITBENCH_IN_PROCESS", "1")
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of six small random volumes of three classes; tests read it and leave it alone."""
    return make_noise(tmp_path_factory.mktemp("data"))
