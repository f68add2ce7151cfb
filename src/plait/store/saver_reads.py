"""How checkpoints and items are read: off the loop, by pages, or by a thread that may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from plait.errors import BlockingCall
from plait.store.connections import Connection
from plait.store.saver_rows import Loads, Place, Wanted, listed

__all__ = ["Pages", "Read", "blocking", "place_of"]

T = TypeVar("T")

_PAGE = 50  # checkpoints read at once: a state may have megabytes


class Read(Protocol):
    """Runs a function with a read-only connection, off the loop, and gives its result; on whatever event loop."""

    def __call__(self, work: Callable[[Connection], T], /) -> Awaitable[T]: ...


def blocking(call: Coroutine[Any, Any, T], instead: str) -> T:
    """The result of a call that belongs to no loop, waited for by this thread; `instead` is the method to await.

    Raises BlockingCall on a thread that runs an event loop, whose other runs would stand still meanwhile.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(call)
    call.close()
    raise BlockingCall(
        f"expected `await ....{instead}(...)` on an event loop's own thread, found its synchronous form, which would "
        "block every other run: use the asynchronous one (ainvoke, aget_state, aput, ...), or a sync node"
    )


def place_of(config: RunnableConfig) -> Place:
    """Where `config` points."""
    found = config.get("configurable", {})
    return Place(str(found["thread_id"]), found.get("checkpoint_ns", ""), found.get("checkpoint_id"))


class Pages:
    """A listing, page by page: `read` one while there is something `left`, and pass it through `turn`."""

    def __init__(
        self,
        config: RunnableConfig | None,
        filters: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
        loads: Loads,
    ) -> None:
        found = (config or {}).get("configurable", {})
        thread_id = found.get("thread_id")
        self._wanted = Wanted(
            None if thread_id is None else str(thread_id),
            found.get("checkpoint_ns"),
            found.get("checkpoint_id"),
            (before or {}).get("configurable", {}).get("checkpoint_id"),
            filters,
        )
        self._loads = loads
        self._after: tuple[str, str, str] | None = None
        self._limit = limit
        self.left = limit is None or limit > 0

    def read(self, connection: Connection) -> list[CheckpointTuple]:
        """The next page."""
        return listed(connection, self._wanted, self._after, self._size, self._loads)

    @property
    def _size(self) -> int:
        return _PAGE if self._limit is None else min(_PAGE, self._limit)

    def turn(self, found: list[CheckpointTuple]) -> list[CheckpointTuple]:
        """The page itself, and the listing stands behind it."""
        self.left = len(found) == self._size
        if self._limit is not None:
            self._limit -= len(found)
            self.left = self.left and self._limit > 0
        if found:
            last = place_of(found[-1].config)
            self._after = (found[-1].checkpoint["id"], last.thread_id, last.ns)
        return found
