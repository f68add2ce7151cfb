"""How a batch and its workers talk: pickled messages, over a socket that only the two of them have or over Ray."""

from __future__ import annotations

import asyncio
import pickle
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import plait.errors
from plait.batches.answers import Paid
from plait.batches.executions import Totals
from plait.batches.options import BatchOptions
from plait.batches.scorings import Scoring
from plait.datasets.examples import Example
from plait.errors import PlaitError
from plait.flow.usage import Tokens
from plait.settings import Settings
from plait.store.answers import Answers
from plait.store.rows import RowRecord

_LENGTH = struct.Struct("!Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """The first message: what a worker is to run."""

    workflow: str
    app: Path | None
    """None: the app that comes with plait."""
    settings: Settings
    context: Mapping[str, object]
    options: BatchOptions
    group: str
    answers: Answers | None
    """Where it keeps its own: a file that nobody else writes, or a database; None: nowhere."""
    paid: Paid
    spent: Mapping[str, Tokens]
    """By earlier sessions."""
    scoring: Scoring | None = None
    rows: Answers | None = None
    """Where it stores results itself; None: it sends them."""
    ahead: int = 64
    """Rows that it may hold, apart from those in flight."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables to set where they are not."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Rows for a worker. `begun` is where dead workers may have left answers for them."""

    examples: tuple[Example, ...]
    begun: tuple[Answers, ...] = ()


@dataclass(frozen=True, slots=True)
class NoMore:
    """Begin no further row, leased or not, and end when those in flight have; `at_once`: cancel them."""

    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """A worker asks for so many rows."""

    rows: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A row's result; one that the worker `stored` comes without its outputs and evaluation."""

    record: RowRecord
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """A warning of a worker whose own output nobody sees; `level` is logging's."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Halted:
    """A worker begins no further row, for a cause that concerns every row."""

    kind: str
    message: str
    resets_at: float | None = None

    @classmethod
    def of(cls, cause: BaseException, where: str = "") -> Halted:
        return cls(type(cause).__name__, f"{where}{cause}", getattr(cause, "resets_at", None))

    def cause(self) -> PlaitError:
        """The error in this process."""
        found = getattr(plait.errors, self.kind, None)
        kind = found if isinstance(found, type) and issubclass(found, PlaitError) else PlaitError
        error = kind.__new__(kind)
        Exception.__init__(error, self.message)
        if self.resets_at is not None:
            error.resets_at = self.resets_at  # type: ignore[attr-defined]
        return error


@dataclass(frozen=True, slots=True)
class State:
    """What a worker is doing and what it has spent; sent now and then."""

    totals: Totals = field(default_factory=Totals)
    spent: Mapping[str, Tokens] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What the other workers have spent."""

    spent: Mapping[str, Tokens]


class Talk(Protocol):
    """One end of what a worker and its batch say to each other."""

    def send(self, message: object) -> None:
        """Queue a message; nothing happens where the other end is gone."""
        ...

    async def flushed(self) -> None:
        """Wait until the other end keeps up, or is gone."""
        ...

    async def receive(self) -> object | None:
        """The next message; None when the other end is gone."""
        ...


class Channel:
    """A Talk over a socket. `receive` returns None when the other end is gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, message: object) -> None:
        """Queue a message; nothing happens where the other end is gone."""
        if self._writer.is_closing():
            return
        content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        with suppress(RuntimeError):  # uvloop's word for a socket that was closed just now
            self._writer.write(_LENGTH.pack(len(content)) + content)

    async def flushed(self) -> None:
        """Wait until the other end keeps up, or is gone."""
        with suppress(ConnectionError, RuntimeError):
            await self._writer.drain()

    async def receive(self) -> object | None:
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            content = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        message: object = pickle.loads(content)  # noqa: S301 - from the process at the other end of our own socket
        return message

    def close(self) -> None:
        """Let go of the other end."""
        self._writer.close()
