"""Servers of one store, each `plait serve` in a process of its own, which a test may kill, stop and start again."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from plait.simulator import Simulator
from plait.store.addresses import Address
from tests.reliability import service_graphs
from tests.reliability.providers import environment

PATIENCE_S = 60.0
_POLL_S = 0.01
_PLAIT = Path(sys.executable).with_name("plait")


def write_app(folder: Path) -> Path:
    """An app whose only workflow is `turns`."""
    folder.mkdir()
    shutil.copy(service_graphs.__file__, folder / "service_graphs.py")
    names = {"dependencies": ["."], "graphs": {"turns": "./service_graphs.py:graph"}}
    (folder / "langgraph.json").write_text(json.dumps(names), encoding="utf-8")
    return folder


class Servers:
    """Those that run now, with one provider, on one store: that of the address, else a file in `folder`."""

    def __init__(self, folder: Path, provider: Simulator, *options: str, address: Address | None = None) -> None:
        self.provider = provider
        self.address = address or folder / "service.db"
        self.notes = folder / "notes"
        self._app = write_app(folder / "app")
        self._folder = folder
        self._options = options
        self._env = {**_inherited(), **environment(provider, folder / "home"), service_graphs.NOTES: str(self.notes)}
        self._numbers = itertools.count()
        self._started: list[Server] = []
        self.running: list[Server] = []
        """Those that answer."""

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._started:
            server.process.kill()
            server.process.wait(PATIENCE_S)

    def start(self, *options: str) -> Server:
        """One more, which answers."""
        arguments = ["serve", "--port", "0", "--store", str(self.address), "--app", str(self._app)]
        log = self._folder / f"server-{next(self._numbers)}.log"
        server = Server([*arguments, *(options or self._options)], self._env, log=log)
        self._started.append(server)
        server.wait_until_it_answers()
        self.running.append(server)
        return server

    def kill(self, server: Server) -> None:
        """kill -9, and wait until the process is gone."""
        self.running.remove(server)
        server.process.kill()
        server.process.wait(PATIENCE_S)

    def end(self, server: Server) -> int:
        """Wait for its end; its exit code."""
        code = server.process.wait(PATIENCE_S)
        self.running.remove(server)
        return code


class Server:
    """`plait serve`."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], *, log: Path) -> None:
        self._log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen([_PLAIT, *arguments], env=dict(env), stderr=stderr)

    @property
    def url(self) -> str:
        """Where it answers."""
        found = re.search(r"http://127\.0\.0\.1:\d+", self.log())
        assert found is not None
        return found[0]

    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_until_it_answers(self) -> None:
        """Return when it serves."""
        self.wait_for("(Ctrl-C ends it)")

    def wait_for(self, text: str) -> None:
        """Return when its log has the text."""
        wait_until(lambda: text in self.log() or self.process.poll() is not None, f"it says {text!r}")
        assert text in self.log(), self.log()[-4000:]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)


def wait_until(reached: Callable[[], bool], what: str) -> None:
    """Return when it is so; fails where that takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(_POLL_S)


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    """The same on an event loop."""
    async with asyncio.timeout(PATIENCE_S):
        while not await reached():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(_POLL_S)


def _inherited() -> dict[str, str]:
    prefixes = ("OPENAI_", "ANTHROPIC_", "PLAIT_", "LANG", "OTEL_")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(prefixes) and not name.upper().endswith("_PROXY")
    }
