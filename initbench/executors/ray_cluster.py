"""A Ray cluster: how it is reached, what a run takes of it, and which of its nodes have that, of which kind of device."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from initbench.errors import InitbenchError, UsageError
from initbench.protocols import Device

_ANSWERS = 5.0  # seconds in which the head of a cluster takes a connection; ray.init tries a dead address for two minutes
_ANSWERS_OF_NODES = 30.0  # seconds in which nodes that have room say what they are: torch is loaded there
_SEES = 6.0  # seconds in which nodes say whether they see a folder
_GONE = 300.0  # seconds after which a kind of device does not come back whose last node is lost
# Read by Ray when it is loaded. It tries a port that belongs to something else five times, a second each, and not twenty times.
# What it prints of a lost worker would stand among the results on the output; a run that is lost for good says so itself.
_SETTINGS = {"RAY_NUM_REDIS_GET_RETRIES": "5", "RAY_DEDUP_LOGS_SKIP_REGEX": ".*"}
_NODE_ID = "ray.io/node-id"


@dataclass(frozen=True)
class Need:
    """What a run takes of a node.

    Attributes:
        cpus: cores.
        gpus: share of a GPU; 0 for a run on the CPU.
    """

    cpus: float
    gpus: float

    def places(self, has: Mapping[str, float]) -> int:
        """Returns how many such runs a node holds.

        Args:
            has: all that the node has, as Ray counts it.
        """
        counts = [_times(has.get("CPU", 0.0), self.cpus)]
        if self.gpus:
            counts.append(_times(has.get("GPU", 0.0), self.gpus))
        return min(counts)

    def __str__(self) -> str:
        return _in_words(self.cpus, self.gpus)


def _in_words(cpus: float, gpus: float) -> str:
    return f"CPU: {cpus:g}, GPU: {gpus:g}"


def _times(has: float, share: float) -> int:
    return int(has / share + 1e-6)  # three thirds are one


def find_address(given: str) -> str:
    """Returns HOST:PORT of the head of a cluster, which answers there.

    Args:
        given: as somebody wrote it; "" for the cluster that this machine is a node of.

    Raises:
        UsageError: there is none, or it is no such address. InitbenchError: nobody answers.
    """
    address = given or os.environ.get("RAY_ADDRESS", "") or _started_here()
    if not address:
        raise UsageError("no Ray cluster was started on this machine; --ray-address HOST:PORT names its head")
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise UsageError(
            f"--ray-address {address}: write HOST:PORT of the head, as 10.0.0.1:6379, and run this on a node of the cluster"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWERS):
            return address
    except (OSError, OverflowError) as error:
        raise InitbenchError(
            f"no Ray cluster answers at {address} ({error}); start its head with `ray start --head`, or correct --ray-address"
        ) from None


def _started_here() -> str:
    """Returns the address that ``ray start`` noted on this machine; "" where there is none."""
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"  # noqa: S108
    try:
        return note.read_text("utf-8").strip()
    except OSError:
        return ""


def connect(given: str) -> None:
    """Connects this process with a cluster; a process that is connected stays so.

    Args:
        given: as for `find_address`.

    Raises:
        UsageError: as `find_address`. InitbenchError: Ray is not installed, nobody answers, or the cluster takes no connection.
    """
    if importlib.util.find_spec("ray") is None:
        raise InitbenchError("--executor ray: Ray is not installed here; pip install 'initbench[ray]' brings it")
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return
    address = find_address(given)
    try:
        with _own_signals():
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:  # Ray raises errors of many types here: another version of Ray or Python, no node on this machine
        raise InitbenchError(
            f"the Ray cluster at {address} takes no connection: {_in_one_line(error)}; run this on one of its nodes"
        ) from None


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Puts the handler of SIGTERM back that Ray replaces by one that ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def alive() -> list[dict[str, Any]]:
    """Returns the nodes of the cluster that live, as Ray describes them."""
    import ray

    found: list[dict[str, Any]] = ray.nodes()
    return [node for node in found if node["Alive"]]


def check_need(need: Need) -> None:
    """Refuses a need that no node can meet: Ray would wait for such a node for ever.

    Raises:
        UsageError: no node has as much; says what the nodes have.
    """
    sizes = set()
    for node in alive():
        has = node["Resources"]
        if need.places(has):
            return
        sizes.add(_in_words(has.get("CPU", 0.0), has.get("GPU", 0.0)))
    raise UsageError(
        f"no node of the Ray cluster has what a run takes ({need}); its nodes have {'; '.join(sorted(sizes))}: take less with "
        "ray(cpus=..., gpus=...), or start other nodes"
    )


def has_gpus() -> bool:
    """Returns whether some node has a GPU."""
    return any(node["Resources"].get("GPU", 0.0) for node in alive())


def check_folder(out: Path) -> None:
    """Refuses a folder of runs that some node does not see. Nodes that do not answer in time are taken to see it.

    Raises:
        UsageError: a node does not see it; names the folder and the node.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    absolute = out.absolute()
    nearest = next(folder for folder in (absolute, *absolute.parents) if folder.is_dir())
    look = ray.remote(num_cpus=0, max_retries=0)(_sees)
    try:
        with tempfile.NamedTemporaryFile(prefix=".initbench-seen-", dir=nearest) as mark:
            asked = {}
            for node in alive():
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                asked[look.options(scheduling_strategy=there).remote(mark.name)] = node["NodeManagerHostname"]
            answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_SEES)
            blind = []
            for answer in answered:
                if not _answer(answer, lost=True):
                    blind.append(asked[answer])
    except OSError:  # the folder cannot be written here, which is said elsewhere
        return
    if blind:
        raise UsageError(
            f"node {blind[0]} of the Ray cluster does not see {nearest}; choose --out on a disk that all nodes mount"
        )


def _sees(path: str) -> bool:
    return Path(path).exists()


def _answer(reference: Any, lost: Any) -> Any:
    """Returns the answer of a task; `lost` where Ray lost it, as its node died."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError:
        return lost


class Nodes:
    """The nodes that can do runs, by the kind of device that they have. Each is asked once, as soon as it is there."""

    def __init__(self, need: Need, find_devices: Callable[[], Sequence[Device]], environment: Mapping[str, str]) -> None:
        """Knows no node yet.

        Args:
            need: of a run.
            find_devices: as in `StudyWork`.
            environment: variables of the processes on the nodes.
        """
        self._need = need
        self._find_devices = find_devices
        self._environment = dict(environment)
        self._kinds: dict[str, str] = {}
        self._places: dict[str, int] = {}
        self._asked: dict[str, Any] = {}
        self._seen: dict[str, float] = {}
        self.here: set[str] = set()

    def look(self) -> None:
        """Sees which nodes came and went, and keeps `here`, the kinds that can be had, up to date.

        Raises:
            InitbenchError: a node has no such device, or lacks this package.
        """
        now = time.monotonic()
        self._places = {}
        for node in alive():
            places = self._need.places(node["Resources"])
            if places:
                self._places[node["NodeID"]] = places
        for name in self._places.keys() - self._kinds.keys() - self._asked.keys():
            self._asked[name] = self._ask(name)
        self._hear(timeout=0)
        for name in self._places:
            if name in self._kinds:
                self._seen[self._kinds[name]] = now
        self.here.clear()
        for kind, seen in self._seen.items():
            if now - seen < _GONE:
                self.here.add(kind)

    def wait(self) -> None:
        """Waits for the answers of all nodes, and where some are full, as long as for the first answer.

        Raises:
            InitbenchError: as `look`.
        """
        begun = time.monotonic()
        self.look()
        while self._asked and not (self.here and time.monotonic() - begun > _ANSWERS_OF_NODES):
            self._hear(timeout=1.0)
            self.look()

    def room(self) -> dict[str, int]:
        """Returns how many runs fit on the nodes of each kind that live."""
        found: dict[str, int] = {}
        for node, places in self._places.items():
            kind = self._kinds.get(node)
            if kind is not None:
                found[kind] = found.get(kind, 0) + places
        return found

    def learn(self, node: str, kind: str) -> None:
        """Notes which kind of device a node has."""
        self._kinds[node] = kind

    def only(self, kind: str) -> dict[str, str]:
        """Returns the labels of the nodes that may have a kind. Those that are not known yet may: a task says what it finds."""
        others = sorted(node for node in self._places if self._kinds.get(node, kind) != kind)
        if not others:
            return {}
        return {_NODE_ID: f"!in({','.join(others)})"}

    def _ask(self, node: str) -> Any:
        import ray

        share = 0.0
        if self._need.gpus:
            share = 0.001  # so that Ray shows a GPU, and finds room for the question beside runs
        asked = ray.remote(_kind_there).options(
            num_cpus=0,
            num_gpus=share,
            label_selector={_NODE_ID: node},
            runtime_env={"env_vars": self._environment},
        )
        return asked.remote(self._find_devices)

    def _hear(self, timeout: float) -> None:
        import ray

        if not self._asked:
            return
        answered, _ = ray.wait(list(self._asked.values()), num_returns=len(self._asked), timeout=timeout)
        for node, reference in list(self._asked.items()):
            if reference in answered:
                del self._asked[node]
                try:
                    kind = _answer(reference, lost=None)
                except ray.exceptions.RayTaskError as error:
                    raise InitbenchError(
                        f"a node of the Ray cluster can do no run: {_in_one_line(error.cause)}; mend or stop it"
                    ) from None
                if kind is not None:
                    self.learn(node, kind)
            elif node not in self._places:  # it died before it answered
                ray.cancel(reference, force=True)
                del self._asked[node]


def _kind_there(find_devices: Callable[[], Sequence[Device]]) -> str:
    """Returns the kind of the device that this process, a task on some node, was given."""
    return find_devices()[0].kind


def check_shares(cpus: float, gpus: float | None) -> None:
    """Refuses shares of a node that mean nothing.

    Raises:
        UsageError: which, and what may be written.
    """
    if not cpus >= 0:
        raise UsageError(f"ray(cpus={cpus:g}): write the number of cores for each run, or 0 for as many as --threads")
    if gpus is not None and not 0 <= gpus <= 1:
        raise UsageError(f"ray(gpus={gpus:g}): a run takes one GPU or a share of one; write 1, 0.5, or 0 for the CPU")
