"""A PostgreSQL server for peers that need one, with a folder of its own, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.environments import NotInstalled

_PATIENCE_S = 30.0


@contextmanager
def postgres() -> Iterator[tuple[str, int]]:
    """Its URL and the process id, while the block lasts. Raises NotInstalled where there is none on this machine.

    PostgreSQL refuses to run as root; there, it runs as the user `postgres`.
    """
    initdb, server = (_program(name) for name in ("initdb", "postgres"))
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        if user is not None:
            try:
                os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
            except KeyError:
                raise NotInstalled("root cannot run PostgreSQL, and there is no user postgres") from None
        command = [initdb, "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        done = subprocess.run(command, capture_output=True, text=True, user=user, cwd=folder, check=False)
        if done.returncode:
            raise NotInstalled(f"initdb failed: {done.stderr.strip()[-300:]}")
        command = [server, "-D", str(folder / "data"), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1"]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user, cwd=folder
        ) as process:
            try:
                _wait(port, process)
                yield f"postgresql://postgres@127.0.0.1:{port}/postgres", process.pid
            finally:
                process.terminate()
                process.wait(15)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _program(name: str) -> str:
    found = shutil.which(name) or next((str(each) for each in Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), None)
    if found is None:
        raise NotInstalled(f"it needs PostgreSQL, and there is no {name} here (Debian: postgresql)")
    return found


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            time.sleep(0.1)
    raise NotInstalled(f"PostgreSQL did not start (exit code {process.poll()})")
