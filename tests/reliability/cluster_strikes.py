"""The blows of the kill matrix: which part is struck, and how."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.reliability.cluster_grounds import Ground
from tests.servers import Server

Strike = Callable[[Ground, random.Random], Sequence[int] | None]
"""Returns when the part is struck, and a server that was is up again; None: there is no such part right now.

What it returns are the processes that die of it, be it a moment later.
"""

_DOWN_S = 2.0
_START_S = 30.0


def driver(ground: Ground, _: random.Random) -> Sequence[int] | None:
    """kill -9 of the process of the batch; its workers end with it."""
    found = [*children(ground.driver.pid), *(ground.cluster.workers() if ground.cluster else ())]
    ground.driver.kill()
    ground.driver.wait()
    return found


def worker(ground: Ground, chance: random.Random) -> Sequence[int] | None:
    """kill -9 of one of its workers on this machine."""
    found = [pid for pid in children(ground.driver.pid) if "plait.batches.worker" in title(pid)]
    return _killed(chance.choice(found)) if found else None


def ray_worker(ground: Ground, chance: random.Random) -> Sequence[int] | None:
    """kill -9 of one of its workers on the cluster."""
    assert ground.cluster is not None
    found = ground.cluster.workers()
    return _killed(chance.choice(found)) if found else None


def raylet(ground: Ground, _: random.Random) -> Sequence[int] | None:
    """kill -9 of the raylet of the newest node, where that has a worker of the batch."""
    assert ground.cluster is not None
    return _killed_raylet(ground, ground.cluster.nodes[-1].pid)


def head(ground: Ground, _: random.Random) -> Sequence[int] | None:
    """kill -9 of the head's raylet, which is that of the driver's own node, where that has a worker."""
    assert ground.cluster is not None
    return _killed_raylet(ground, ground.cluster.nodes[0].pid)


def _killed_raylet(ground: Ground, node: int) -> Sequence[int] | None:
    assert ground.cluster is not None
    found = [pid for pid in below(node) if "raylet/raylet" in title(pid)]
    workers = set(ground.cluster.workers()).intersection(below(node))
    if not found or not workers or _killed(found[0]) is None:
        return None
    return [*found, *workers]


def another_node(ground: Ground) -> None:
    """In place of one whose raylet was killed."""
    assert ground.cluster is not None
    ground.cluster.add(f"127.0.0.{len(ground.cluster.nodes) + 1}", cpus=1)


def postgres_restarted(ground: Ground, chance: random.Random) -> Sequence[int] | None:
    """A fast shutdown of PostgreSQL: all connections are cut; a start after up to 2 s."""
    return _restarted(ground.postgres, chance, kill=False)


def postgres_killed(ground: Ground, chance: random.Random) -> Sequence[int] | None:
    """kill -9 of all processes of PostgreSQL; a start after up to 2 s, which recovers from its log."""
    return _restarted(ground.postgres, chance, kill=True)


def redis_restarted(ground: Ground, chance: random.Random) -> Sequence[int] | None:
    """An orderly end of Redis; a start after up to 2 s."""
    return _restarted(ground.redis, chance, kill=False)


def redis_killed(ground: Ground, chance: random.Random) -> Sequence[int] | None:
    """kill -9 of Redis; a start after up to 2 s, from its append-only file."""
    return _restarted(ground.redis, chance, kill=True)


def _restarted(server: Server | None, chance: random.Random, *, kill: bool) -> Sequence[int] | None:
    assert server is not None
    # PostgreSQL's processes have sessions of their own, which a signal to its first one's group does not reach.
    own = list(below(server.pid)) if kill else []
    server.stop(kill=kill)
    for pid in own:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(chance.uniform(0.0, _DOWN_S))
    until = time.monotonic() + _START_S
    while True:
        try:
            server.start()
        except RuntimeError:  # the kernel still takes leave of the killed ones
            if time.monotonic() > until:
                raise
        else:
            return ()


def _killed(pid: int) -> Sequence[int] | None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return (pid,)


def children(pid: int) -> Sequence[int]:
    """The processes that it started and that still run."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


def below(pid: int) -> Sequence[int]:
    """Its children, and theirs."""
    own = children(pid)
    return [*own, *(each for child in own for each in below(child))]


def title(pid: int) -> str:
    """Its command line; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").replace("\0", " ")
    except OSError:
        return ""


def marked(name: str, value: str) -> list[int]:
    """All processes that were started with this in their environment."""
    found, words = [], f"{name}={value}".encode()
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            with suppress(OSError):
                if words in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
    return found
