"""What is queued for a writer, and how those who wait for it are woken."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from plait.errors import StoreError
from plait.store.connections import Connection

__all__ = ["Done", "Record", "Stop", "Work", "tell"]

T = TypeVar("T")
Done = Callable[[BaseException | None], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One record to write, and who waits for it."""

    sql: str
    parameters: tuple[object, ...]
    waiter: Done | asyncio.Future[None] | None


class Work:
    """A function to run in its own transaction, and the future that waits for it."""

    __slots__ = ("_future", "_work", "about")

    def __init__(self, work: Callable[[Connection], T], future: asyncio.Future[T], about: str | None = None) -> None:
        self.about = about
        self._work: Callable[[Connection], object] = work
        self._future: asyncio.Future[object] = future  # type: ignore[assignment]

    def run(self, connection: Connection) -> object:
        """Its result, which counts once it is committed."""
        return self._work(connection)

    def succeed(self, result: object) -> None:
        """Wake whoever waits, with the result."""
        _on_loop(self._future.get_loop(), _resolve, self._future, result)

    def fail(self, error: BaseException) -> None:
        """Wake whoever waits, with an error."""
        _on_loop(self._future.get_loop(), _wake, [self._future], error)


class Stop:
    """Commit what came before, then end."""


def tell(records: Iterable[Record], error: BaseException | None) -> None:
    """Wake everybody who waits for these records: each loop once, whatever their number."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for record in records:
        waiter = record.waiter
        if waiter is None:
            continue
        if isinstance(waiter, asyncio.Future):
            by_loop.setdefault(waiter.get_loop(), []).append(waiter)
            continue
        try:
            waiter(error)
        except Exception:  # noqa: BLE001 - a caller's mistake must not end the thread
            _log.exception("a callback of the writer failed")
    for loop, futures in by_loop.items():
        _on_loop(loop, _wake, futures, error)


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    # A loop that was closed meanwhile has nobody left to wake.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *arguments)


def _wake(futures: Iterable[asyncio.Future[None]], error: BaseException | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            # One instance for all would gather the traceback of each.
            future.set_exception(StoreError(*error.args) if isinstance(error, StoreError) else error)


def _resolve(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)
