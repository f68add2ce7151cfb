"""The three kinds of ledgers, each on a real file or server of its own, for tests that hold for all of them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import pytest

from plait.flow.budget_places import ledger_at
from plait.flow.clock import Clock, SystemClock
from plait.flow.file_ledgers import FileLedger
from plait.flow.ledgers import Ledger
from tests.servers import Server

KINDS = ("file", "postgres", "redis")
SERVERS = ("postgres", "redis")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a ledger is kept."""

    kind: str
    url: str
    """Empty for a file."""
    open: Callable[[Clock], Ledger]


def place_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> Place:
    """An empty place, on the session's servers."""
    if kind == "file":
        return Place(kind, "", partial(FileLedger, folder / "limits.db"))
    if kind == "postgres":
        url: str = request.getfixturevalue("postgres")
    else:
        import redis

        url = request.getfixturevalue("redis_instance").url
        with redis.Redis.from_url(url) as client:
            client.flushall()
    return Place(kind, url, ledger_at(url))


def killable_place_of(kind: str, request: pytest.FixtureRequest) -> tuple[Place, Server]:
    """An empty place, and its server, which may be killed: on PostgreSQL the server's first database."""
    process: Server = request.getfixturevalue(f"{kind}_instance")
    if kind == "postgres":
        import psycopg

        with psycopg.connect(process.url, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS plait_budget, plait_budget_version")
    else:
        import redis

        with redis.Redis.from_url(process.url) as client:
            client.flushall()
    return Place(kind, process.url, ledger_at(process.url)), process


class SkewedClock(SystemClock):
    """The clock of another machine: it was started at another time and is set wrong."""

    def __init__(self, ahead_s: float, wall_ahead_s: float = 0.0) -> None:
        self._ahead_s, self._wall_ahead_s = ahead_s, wall_ahead_s

    def now(self) -> float:
        return super().now() + self._ahead_s

    def wall(self) -> float:
        return super().wall() + self._wall_ahead_s

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        super().call_at(when - self._ahead_s, callback)

    def wait(self, wakeups: SimpleQueue[None], seconds: float) -> None:
        super().wait(wakeups, seconds)


class Wire:
    """A line to a server that can be cut and mended: what goes through it is passed on, or swallowed."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.silent = False
        """Swallows what comes, and answers nothing."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut it for good."""
        for each in [self._listener, *self._open]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self._to))
                self._open += [ours, theirs]
                for pair in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self.silent:
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)
