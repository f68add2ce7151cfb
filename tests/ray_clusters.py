"""Real Ray clusters on this machine, for tests: a head, and further nodes under addresses of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_OBJECTS_BYTES = "80000000"
_PATIENCE_S = 90.0


@dataclass
class Cluster:
    """A cluster whose head is at `address`; its processes belong to the test."""

    address: str
    folder: Path
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def workers(self) -> list[int]:
        """The process ids of the workers of batches."""
        return [pid for pid in self.processes() if _title(pid).startswith("ray::RayWorker")]

    def raylets(self) -> list[int]:
        """The process ids of the nodes' raylets, the head's first."""
        return [pid for node in self.nodes for pid in _below(node.pid) if "raylet/raylet" in _title(pid)]

    def add(self, host: str | None = None, *, cpus: int) -> None:
        """Another node; with a `host`, as 127.0.0.2, it takes itself for another machine."""
        words = ["--address", self.address, "--num-cpus", str(cpus)]
        words += ["--node-ip-address", host] if host else []
        self.nodes.append(_started(words, self.folder / f"node-{len(self.nodes)}.log"))

    def processes(self) -> list[int]:
        """All of them."""
        return [pid for node in self.nodes for pid in _below(node.pid)]


@contextmanager
def ray_cluster(*, cpus: int) -> Generator[Cluster]:
    """A cluster of one node."""
    folder = Path(tempfile.mkdtemp(prefix="plait-test-", dir="/tmp"))  # short, for the paths of its sockets
    port = _free_port()
    words = ["--head", "--port", str(port), "--num-cpus", str(cpus), "--include-dashboard=false"]
    words += ["--temp-dir", str(folder / "ray")]
    cluster = Cluster(f"127.0.0.1:{port}", folder)
    try:
        cluster.nodes.append(_started(words, folder / "head.log"))
        yield cluster
    finally:
        below = cluster.processes()
        for node in reversed(cluster.nodes):
            node.send_signal(signal.SIGTERM)
        for node in cluster.nodes:
            with suppress(subprocess.TimeoutExpired):
                node.wait(20)
            node.kill()
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def _started(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    env = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    command = [str(Path(sys.executable).with_name("ray")), "start", *words, "--block"]
    command += ["--object-store-memory", _OBJECTS_BYTES, "--disable-usage-stats"]
    with log.open("wb") as out:
        node = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    deadline = time.monotonic() + _PATIENCE_S
    while "runtime started" not in (said := log.read_text(errors="replace")):
        assert node.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
    return node


def _below(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from _below(int(child))


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
