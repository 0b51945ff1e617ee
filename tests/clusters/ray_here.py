"""A real Ray cluster of two nodes on this machine, in a process of its own; each node takes one run at a time.

``python -m tests.clusters.ray_here`` starts it and says where it is, in a line of JSON. It does what the lines that it reads say:
``replace`` kills the second node and starts another one. It ends with its input.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import psutil

from tests.folders import ROOT

_SIZE: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 * 2**20}


class Cluster:
    """The cluster as a test sees it.

    Attributes:
        address: of its head.
        second: number of the process that is the second node.
    """

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.clusters.ray_here"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._hear()

    def replace(self) -> None:
        """Kills the second node without a word, and starts another one."""
        assert self._process.stdin is not None
        self._process.stdin.write("replace\n")
        self._process.stdin.flush()
        self._hear()

    def stop(self) -> list[psutil.Process]:
        """Ends the cluster, and returns the processes that it left."""
        started = psutil.Process(self._process.pid).children(recursive=True)
        self._process.communicate(timeout=60)
        _, left = psutil.wait_procs(started, timeout=30)
        for process in left:
            process.kill()
        return left

    def _hear(self) -> None:
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline())
        self.address: str = said["address"]
        self.second: int = said["second"]


def main() -> None:
    """Starts the cluster, and does what it is told until its input ends."""
    from ray.cluster_utils import Cluster as RayCluster

    cluster = RayCluster(initialize_head=True, head_node_args={**_SIZE, "include_dashboard": False})
    second = cluster.add_node(**_SIZE)
    try:
        _say(cluster, second)
        for line in sys.stdin:
            assert line == "replace\n"
            cluster.remove_node(second, allow_graceful=False)
            second = cluster.add_node(**_SIZE)
            _say(cluster, second)
    finally:
        cluster.shutdown()


def _say(cluster: Any, second: Any) -> None:
    [raylet] = second.all_processes["raylet"]
    print(json.dumps({"address": cluster.address, "second": raylet.process.pid}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
