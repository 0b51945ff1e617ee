"""A real Slurm of two nodes on this machine, from the packages of Debian; nothing is installed, and no daemon outlives it.

Nobody has to be root. There is no accounting, no cgroup and no GPU. Both nodes are this machine, and each takes one run at a
time.
"""

from __future__ import annotations

import getpass
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "libhwloc15", "libmunge2", "liblua5.1-0")
NODES = ("n1", "n2")
# Seconds to wait for an event that has to come; a busy machine does not reach them.
_DOWNLOAD = 120
_EVENT = 90
# Defaults of Slurm are made for large machines. Here a node counts as lost after 15 s in place of 300 s, a job that is requeued
# waits for 5 s in place of 120 s, and the scheduler looks at once. A killed task has 10 s to save in place of 30 s.
_SETTINGS = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={port}
PluginDir={libraries}/slurm-wlm
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SlurmdTimeout=15
KillWait=10
MinJobAge=600
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=1 RealMemory=1000 Features=old State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=1 RealMemory=1000 Features=new State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP
"""


class UnavailableError(Exception):
    """The packages cannot be had here, so nothing can be tested."""


def until(happened: Callable[[], bool], what: str, seconds: float = _EVENT) -> None:
    """Waits for an event. The bound is for a test that fails; a slow machine does not reach it."""
    bound = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < bound, f"it never happened: {what}"
        time.sleep(0.1)


class Slurm:
    """A controller and two nodes.

    Attributes:
        environment: of a process that talks to this Slurm.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root = folder / "root"
        self._libraries = self._root / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
        self._settings = folder / "slurm.conf"
        self.environment = dict(os.environ)
        self.environment |= {
            "SLURM_CONF": str(self._settings),
            "LD_LIBRARY_PATH": f"{self._libraries}:{self._libraries / 'slurm-wlm'}",
            "PATH": f"{self._root / 'usr' / 'bin'}:{os.environ['PATH']}",
        }

    def start(self) -> None:
        """Starts the controller and both nodes, and returns when both take jobs.

        Raises:
            UnavailableError: the packages cannot be had.
        """
        self._unpack()
        for name in ("state", *(f"spool.{node}" for node in NODES)):
            (self.folder / name).mkdir(exist_ok=True)
        port = _free_ports(3)
        text = _SETTINGS.format(
            host=platform.node(),
            user=getpass.getuser(),
            folder=self.folder,
            libraries=self._libraries,
            port=port,
            first=port + 1,
            second=port + 2,
        )
        self._settings.write_text(text.lstrip(), "utf-8")
        self._daemon("slurmctld-wlm", "-i", "-c")
        until(lambda: self.ask("scontrol", "ping").returncode == 0, "the controller answers")
        for node in NODES:
            self.start_node(node)
        until(lambda: self.states() == {"idle"}, "both nodes are idle")

    def start_node(self, node: str, hidden: Path | None = None) -> None:
        """Starts the daemon of a node.

        Args:
            node: its name.
            hidden: a folder that the node is not to see: an empty one is mounted over it, for this daemon and its jobs alone.
        """
        before: tuple[str, ...] = ()
        if hidden is not None:
            before = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(hidden))
        stepd = self._root / "usr" / "sbin" / "slurmstepd-wlm"
        self._daemon("slurmd-wlm", "-N", node, "-d", str(stepd), before=before)

    def stop_node(self, node: str) -> None:
        """Ends the daemon of a node, as an upgrade does: its jobs go on, and the controller hears nothing of them."""
        _end(self.folder / f"{node}.pid")

    def stop(self) -> None:
        """Ends all jobs and daemons."""
        if not self._settings.exists():
            return
        user = getpass.getuser()
        self.ask("scancel", "--user", user, "--state=PENDING")
        self.ask("scancel", "--user", user, "--full", "--signal=KILL")
        for name in (*NODES, "controller"):
            _end(self.folder / f"{name}.pid")

    def states(self) -> set[str]:
        """The states of the nodes, as idle, alloc or down*."""
        return set(self.ask("sinfo", "-h", "-N", "-p", "main", "-o", "%t").stdout.split())

    def ask(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of Slurm; `more` goes into its environment."""
        environment: Mapping[str, str] = self.environment | more
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    def processes(self) -> list[int]:
        """The processes that belong to this Slurm: those that were given its folder or run from it."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes()
            except OSError:
                continue
            if str(self.folder).encode() in words and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        return found

    def _unpack(self) -> None:
        if (self._root / "usr" / "sbin" / "slurmd-wlm").exists():
            return
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise UnavailableError("no Slurm: it comes from packages of Debian, and there is no apt-get")
        packages = self.folder / "packages"
        packages.mkdir(parents=True, exist_ok=True)
        got = subprocess.run(
            ["apt-get", "download", "--quiet", *PACKAGES],
            cwd=packages,
            capture_output=True,
            text=True,
            check=False,
            timeout=_DOWNLOAD,
        )
        if got.returncode:
            raise UnavailableError(f"no Slurm: apt-get has no packages ({got.stderr.strip().splitlines()[-1:]})")
        for package in packages.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(self._root)], check=True)

    def _daemon(self, name: str, *words: str, before: tuple[str, ...] = ()) -> None:
        program = str(self._root / "usr" / "sbin" / name)
        # The daemons part from this process by themselves.
        subprocess.run([*before, program, "-f", str(self._settings), *words], env=self.environment, check=True, timeout=60)


def _free_ports(count: int) -> int:
    """The first of several ports in a row that nobody has."""
    while True:
        first = random.randrange(20_000, 30_000)  # noqa: S311 - any will do
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


def _end(path: Path) -> None:
    """Ends the daemon whose number a file holds, and waits until it is gone."""
    try:
        pid = int(path.read_text("ascii"))
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        return
    try:
        until(lambda: not Path(f"/proc/{pid}").exists(), f"process {pid} ends", 10)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
