"""A Ray cluster that cannot be had is said at once. What a real one does is in tests/clusters/test_ray.py."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

import pytest

from initbench.errors import InitbenchError, UsageError
from initbench.executors.ray_cluster import Need, check_shares, connect, find_address
from tests.commands import said

STUDY = ["--init", "default", "--backbone", "unetrpp"]


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def test_a_node_holds_as_many_runs_as_what_is_scarce_allows() -> None:
    assert Need(cpus=1, gpus=0).places({"CPU": 16.0, "GPU": 2.0}) == 16
    assert Need(cpus=2, gpus=1 / 3).places({"CPU": 64.0, "GPU": 2.0}) == 6
    assert Need(cpus=2, gpus=0.5).places({"CPU": 3.0, "GPU": 2.0}) == 1
    assert Need(cpus=1, gpus=1).places({"CPU": 16.0}) == 0


def test_the_address_comes_from_the_option_the_environment_or_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(UsageError, match="no Ray cluster was started on this machine"):
        find_address("")
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        assert find_address("") == address
        monkeypatch.setenv("RAY_ADDRESS", "nonsense")
        with pytest.raises(UsageError, match="nonsense: write HOST:PORT"):
            find_address("")
        assert find_address(address) == address


@pytest.mark.parametrize("address", ["head", "head:port", ":6379", "ray://head:10001", "http://head:8265"])
def test_what_is_no_address_of_a_head_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="write HOST:PORT"):
        find_address(address)


def test_a_dead_address_is_one_line_and_nothing_is_begun(
    free_port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    out = tmp_path / "runs"
    options = ["--executor", "ray", "--ray-address", f"127.0.0.1:{free_port}", "--out", str(out)]
    complaint = said(capsys, "run", *STUDY, *options, code=1)
    assert f"no Ray cluster answers at 127.0.0.1:{free_port}" in complaint
    assert complaint.count("\n") == 1
    assert not out.exists()


def test_ray_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InitbenchError, match=r"pip install 'initbench\[ray\]'"):
        connect("127.0.0.1:1")


@pytest.mark.parametrize(("cpus", "gpus"), [(-1.0, None), (float("nan"), None), (1.0, 1.5), (1.0, -0.5)])
def test_shares_that_mean_nothing_are_refused(cpus: float, gpus: float | None) -> None:
    with pytest.raises(UsageError, match="write"):
        check_shares(cpus, gpus)


def test_an_address_is_for_ray_alone(capsys: pytest.CaptureFixture[str]) -> None:
    complaint = said(capsys, "run", *STUDY, "--ray-address", "head:6379", code=2)
    assert "--ray-address is for --executor ray" in complaint
