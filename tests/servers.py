"""PostgreSQL and Redis for tests: real servers from Debian's packages, on free loopback ports, in temporary folders."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_START_S = 30.0
_BIN = "/usr/lib/postgresql/*/bin/initdb"


@dataclass(slots=True)
class Server:
    """A server process that can be killed and started again on the same port and data."""

    url: str
    port: int
    folder: Path
    _command: list[str]
    _is_up: Callable[[], bool]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        """Of the server's first process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        # Its own session: a test's Ctrl-C is not for it.
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        until = time.monotonic() + _START_S
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self._command[0]} did not start on port {self.port}")
            time.sleep(0.05)

    def stop(self, *, kill: bool = False) -> None:
        """End it in good order (all connections are cut), or kill all its processes; waits until it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown; Redis saves and ends
        process.wait(_START_S)

    def restart(self, *, kill: bool = False) -> None:
        """`stop`, then `start`."""
        self.stop(kill=kill)
        self.start()


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def postgres_folder() -> Path | None:
    """Where PostgreSQL's programs lie, of the newest version; None where there is none."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = sorted(Path("/").glob(_BIN.lstrip("/")), key=lambda path: float(path.parts[-3]))
    return folders[-1].parent if folders else None


@contextmanager
def postgres_server() -> Generator[Server]:
    """A PostgreSQL server with an empty database `plait`; its `url` is a DSN. Skips where it is not installed."""
    programs = postgres_folder()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="plait-pg-", ignore_cleanup_errors=True) as name:
        folder, port = Path(name), free_port()
        # PostgreSQL refuses to run as root; in a container tests often do.
        as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        if as_user:
            shutil.chown(folder, "postgres")
        data = folder / "data"
        subprocess.run(
            [
                *as_user,
                str(programs / "initdb"),
                "-D",
                str(data),
                "-U",
                "plait",
                "-A",
                "trust",
                "--no-sync",
                "-E",
                "UTF8",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        options = [f"-p{port}", "-clisten_addresses=127.0.0.1", f"-k{folder}", "-cshared_buffers=64MB"]
        command = [str(programs / "postgres"), "-D", str(data), *options]
        if as_user:
            # Not runuser: that would stand between us and the server's process.
            setpriv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
            command = [*setpriv, *command]
        ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        url = f"postgresql://plait@127.0.0.1:{port}/plait"
        server = Server(url, port, folder, command, lambda: subprocess.run(ready, check=False).returncode == 0)
        server.start()
        try:
            create = [str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "plait", "plait"]
            subprocess.run(create, check=True)
            yield server
        finally:
            server.stop(kill=True)


@contextmanager
def redis_server(*options: str) -> Generator[Server]:
    """An empty Redis server that keeps an append-only file; `options` as on its command line. Skips without Redis."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("Redis is not installed: apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="plait-redis-", ignore_cleanup_errors=True) as name:
        port = free_port()
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", name, "--appendonly", "yes", *options]
        server = Server(f"redis://127.0.0.1:{port}/0", port, Path(name), command, lambda: _answers(port))
        server.start()
        try:
            yield server
        finally:
            server.stop(kill=True)


def main() -> None:
    """Keep a PostgreSQL (or, with `redis`, a Redis) server up until Ctrl-C, for a look at it by hand."""
    with (redis_server if "redis" in sys.argv else postgres_server)() as server:
        print(server.url, flush=True)  # noqa: T201
        signal.pause()


if __name__ == "__main__":
    main()
