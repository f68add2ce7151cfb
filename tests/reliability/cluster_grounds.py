"""What a scenario of the kill matrix runs on: a provider that counts, PostgreSQL, Redis, a Ray cluster, an app."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import pytest

from plait.settings import Settings
from plait.simulator import Body, Profile, Simulator, running
from plait.simulator.prompts import last_user_message
from plait.store.places import Place, shelf_of
from tests.ray_clusters import Cluster, ray_cluster
from tests.reliability import cluster_graphs
from tests.reliability.cluster_graphs import TOPIC, answer_to
from tests.servers import Server, postgres_server, redis_server

MARK = "MATRIX_MARK"
"""The environment's variable by which the processes of a scenario are found."""
MAX_CONCURRENCY = 32
LATENCY_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a ground is to have."""

    rows: int
    seed: int = 1
    workers: int = 1
    postgres: bool = False
    """The store; else SQLite in a folder."""
    redis: bool = False
    """The shared budget."""
    nodes: int = 0
    """Of a Ray cluster that workers run on; 0: none."""
    local_ray: bool = False
    """--ray local."""


class Calls:
    """What the provider was asked, by row."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()

    def note(self, body: Body, _: int) -> None:
        """For Simulator.behave."""
        found = TOPIC.search(last_user_message(body))
        assert found is not None, body
        self.asked[int(found[1])] += 1

    def answer(self, body: Body) -> str:
        """For Simulator.answer."""
        return answer_to(last_user_message(body))


@dataclass
class Ground:
    """The parts of one scenario while it runs."""

    needs: Needs
    folder: Path
    provider: Simulator
    calls: Calls
    stack: ExitStack
    """Closes what was opened for it."""
    postgres: Server | None = None
    redis: Server | None = None
    cluster: Cluster | None = None
    process: subprocess.Popen[bytes] | None = None
    """The driver of the batch."""
    sittings: int = 0
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def out(self) -> Path:
        """Where the batch is exported to."""
        return self.folder / "out.csv"

    @property
    def settings(self) -> Settings:
        """Under which its batch is found."""
        return Settings(home=self.folder / "home", store=self.postgres.url if self.postgres else None)

    @property
    def driver(self) -> subprocess.Popen[bytes]:
        """The process of the batch, running or ended."""
        assert self.process is not None
        return self.process

    @property
    def place(self) -> Place | None:
        """Where the batch is kept; None before it begins."""
        shelf = shelf_of(self.settings)
        found = list(shelf.ids())
        assert len(found) <= 1, "a resume made another batch"
        return shelf.place(found[0]) if found else None

    def begin(self) -> None:
        """Start the batch, or go on with it."""
        place = self.place if self.sittings else None
        # By its id: one that was killed while it wrote the export is finished, and not the newest unfinished one.
        words = ["resume", place.id] if place else ["batch", "pair", str(self.folder / "rows.jsonl")]
        words += [] if place else ["--app", str(self.folder / "app"), "--out", str(self.out)]
        words += ["--quiet", "--force", *self._where()]
        self.sittings += 1
        self.process = self.stack.enter_context(_started(words, self._env(), self.log.open("ab")))

    @property
    def log(self) -> Path:
        """What all sittings said."""
        return self.folder / "said.log"

    def renew_cluster(self) -> None:
        """Another cluster, in place of one whose head is gone."""
        cpus = max(1, self.needs.workers // self.needs.nodes)
        self.cluster = self.stack.enter_context(ray_cluster(cpus=cpus))
        for number in range(1, self.needs.nodes):
            self.cluster.add(f"127.0.0.{number + 1}", cpus=cpus)

    def _where(self) -> list[str]:
        words = ["--workers", str(self.needs.workers)] if self.needs.workers > 1 else []
        if self.needs.local_ray:
            return [*words, "--ray", "local"]
        return [*words, "--ray", self.cluster.address] if self.cluster else words

    def _env(self) -> dict[str, str]:
        found = {
            MARK: self.mark,
            "PLAIT_HOME": str(self.folder / "home"),
            "PLAIT_MODEL": "openai:m",
            "PLAIT_MAX_CONCURRENCY": str(MAX_CONCURRENCY),
            "OPENAI_BASE_URL": self.provider.base_url,
            "OPENAI_API_KEY": "sk-matrix",
            "RAY_AUTH_MODE": "disabled",
        }
        if self.needs.local_ray or not self.needs.nodes:
            del found["RAY_AUTH_MODE"]
        if self.postgres:
            found["PLAIT_STORE"] = self.postgres.url
        if self.redis:
            found["PLAIT_BUDGET"] = self.redis.url
            found["PLAIT_RPM"] = "240000"  # a limit that must be asked for, and that is never reached
        return found


@contextmanager
def open_ground(folder: Path, needs: Needs) -> Generator[Ground]:
    """All that is needed, up and empty; nothing of it is left afterwards. Skips where a server is not installed."""
    if (needs.nodes or needs.local_ray) and find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'plait[ray]'")
    folder.mkdir(parents=True)
    _write_app(folder / "app")
    _write_rows(folder / "rows.jsonl", needs.rows)
    calls = Calls()
    with ExitStack() as stack:
        profile = Profile(latency_s=LATENCY_S, latency_law="lognormal", seed=needs.seed)
        provider = stack.enter_context(running(profile, answer=calls.answer, record=False))
        provider.behave = calls.note
        ground = Ground(needs, folder, provider, calls, stack)
        if needs.postgres:
            ground.postgres = stack.enter_context(postgres_server())
        if needs.redis:
            ground.redis = stack.enter_context(redis_server())
        if needs.nodes:
            ground.renew_cluster()
        yield ground


def _write_app(folder: Path) -> None:
    folder.mkdir()
    shutil.copy(cluster_graphs.__file__, folder / "cluster_graphs.py")
    names = {"dependencies": ["."], "graphs": {"pair": "./cluster_graphs.py:graph"}}
    (folder / "langgraph.json").write_text(json.dumps(names), encoding="utf-8")


def _write_rows(file: Path, count: int) -> None:
    lines = (json.dumps({"id": f"row-{number}", "topic": f"topic-{number:06d}"}) for number in range(count))
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _started(
    words: list[str], env: Mapping[str, str], log: IO[bytes]
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    prefixes = ("OPENAI_", "ANTHROPIC_", "PLAIT_", "LANG", "RAY_")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(prefixes) and not name.upper().endswith("_PROXY")
    }
    with log:
        process = subprocess.Popen(
            [sys.executable, "-m", "plait.cli", *words],
            env=inherited | dict(env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    return _killed(process)


@contextmanager
def _killed(process: subprocess.Popen[bytes]) -> Generator[subprocess.Popen[bytes]]:
    with process:
        try:
            yield process
        finally:
            process.kill()
