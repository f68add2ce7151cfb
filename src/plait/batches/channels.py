"""How a batch and its worker processes talk: pickled messages over a socket that only the two of them have."""

from __future__ import annotations

import asyncio
import pickle
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import plait.errors
from plait.batches.answers import Paid
from plait.batches.executions import Totals
from plait.batches.options import BatchOptions
from plait.batches.scorings import Scoring
from plait.datasets.examples import Example
from plait.errors import PlaitError
from plait.flow.usage import Tokens
from plait.settings import Settings
from plait.store.rows import RowRecord

_LENGTH = struct.Struct("!Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """The first message: what a worker is to run."""

    workflow: str
    app: Path
    settings: Settings
    context: Mapping[str, object]
    options: BatchOptions
    group: str
    journal: Path | None
    """Its own file, which nobody else writes."""
    paid: Paid
    spent: Mapping[str, Tokens]
    """By earlier sessions."""
    scoring: Scoring | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """Rows for a worker. `begun` are the journals in which a dead worker may have left answers for them."""

    examples: tuple[Example, ...]
    begun: tuple[Path, ...] = ()


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
    """A row's result."""

    record: RowRecord


@dataclass(frozen=True, slots=True)
class Halted:
    """A worker begins no further row, for a cause that concerns every row."""

    kind: str
    message: str
    resets_at: float | None = None

    @classmethod
    def of(cls, cause: BaseException) -> Halted:
        return cls(type(cause).__name__, str(cause), getattr(cause, "resets_at", None))

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


class Channel:
    """One end. `receive` returns None when the other end is gone."""

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
