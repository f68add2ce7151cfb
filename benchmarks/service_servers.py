"""The servers that are compared, each in a process of its own: `plait serve`, `langgraph dev`, aegra."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.environments import python_with
from benchmarks.service_databases import free_port, postgres

APP = Path(__file__).with_name("service_app")
KEY = "sk-benchmark"
_PATIENCE_S = 90.0
_LANGCHAIN = ("langgraph>=1.2,<2", "langchain-openai>=1.7,<2", "openai>=3.50,<4")


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs."""

    url: str
    pid: int
    workflow: str
    log: Path
    database_pid: int | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the server, and of the database that it cannot do without."""
        return (self.pid,) if self.database_pid is None else (self.pid, self.database_pid)


@contextmanager
def plait_server(base_url: str, *, workflow: str = "ask") -> Iterator[Server]:
    """`plait serve` with nothing configured but the provider, on an empty home."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = [str(Path(sys.executable).with_name("plait")), "serve", "--app", str(APP), "--model", "openai:m"]
        environment = {"PLAIT_HOME": f"{folder}/home"}
        with _started([*command, "--port", str(port)], base_url, environment, Path(folder)) as process:
            yield _ready(Server(f"http://127.0.0.1:{port}", process.pid, workflow, Path(folder) / "log"), process)


@contextmanager
def langgraph_dev(base_url: str) -> Iterator[Server]:
    """The reference server as `langgraph dev` starts it: everything in memory. Raises NotInstalled."""
    python = python_with(["langgraph-cli[inmem]>=0.4.40,<0.5", *_LANGCHAIN])
    with _app_folder() as folder:
        port = free_port()
        command = [str(python.with_name("langgraph")), "dev", "--no-browser", "--no-reload", "--port", str(port)]
        with _started(command, base_url, {}, folder, cwd=folder) as process:
            yield _ready(Server(f"http://127.0.0.1:{port}", process.pid, "ask_plain", folder / "log"), process)


@contextmanager
def aegra(base_url: str) -> Iterator[Server]:
    """aegra's production command, on a PostgreSQL of its own that syncs as it comes. Raises NotInstalled."""
    with postgres() as (database, database_pid), _app_folder() as folder:
        # Its own requirements leave out what SQLAlchemy 2.1 no longer brings by itself.
        python = python_with(["aegra-api>=0.6,<0.12", "sqlalchemy[asyncio]>=2,<2.1", *_LANGCHAIN])
        port = free_port()
        command = [str(python.with_name("uvicorn")), "aegra_api.main:app", "--host", "127.0.0.1", "--port", str(port)]
        environment = {"DATABASE_URL": database, "ENV_MODE": "PRODUCTION", "AUTH_TYPE": "noop"}
        with _started(command, base_url, environment, folder, cwd=folder) as process:
            server = Server(f"http://127.0.0.1:{port}", process.pid, "ask_plain", folder / "log", database_pid)
            yield _ready(server, process)


@contextmanager
def _app_folder() -> Iterator[Path]:
    """The workflow that needs nothing of plait, as an app of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(APP / "plain.py", folder)
        for file in ("langgraph.json", "aegra.json"):
            (folder / file).write_text('{"dependencies": ["."], "graphs": {"ask_plain": "./plain.py:ask"}}')
        yield folder


@contextmanager
def _started(
    command: list[str], base_url: str, environment: Mapping[str, str], folder: Path, *, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    own = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": KEY, "LANGSMITH_TRACING": "false", **environment}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd, env={**kept, **own}
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def _ready(server: Server, process: subprocess.Popen[bytes]) -> Server:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.url}/ok", timeout=2) as answer:
                if answer.status == 200:
                    return server
        except urllib.error.HTTPError:
            return server  # it has no such page, but it answers
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"{process.args!r} did not start: {server.log.read_text(errors='replace')[-2000:]}")
