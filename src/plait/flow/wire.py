"""What a call needs of the world: to wait, to send, to read. `wires.py` has the two that there are."""

from __future__ import annotations

from collections.abc import Coroutine
from types import ModuleType
from typing import Any, Protocol, TypeVar

from plait.flow.limits import Limit
from plait.flow.recorders import Answer, Slot
from plait.flow.scopes import Scope
from plait.flow.tickets import Ticket

_T = TypeVar("_T")


class Wire(Protocol):
    """How one call waits, sends and reads. Requests and responses are httpx's or httpx2's, whoever made them."""

    can_wait: bool
    """False where waiting would block an event loop."""

    async def acquire(self, limit: Limit | Ticket, order: int, scope: Scope | None) -> None: ...
    async def send(self, request: Any) -> Any: ...
    async def next_chunk(self, chunks: Any) -> bytes | None: ...
    async def close(self, stream: Any) -> None: ...
    async def sleep(self, seconds: float, scope: Scope | None) -> None: ...
    async def record(self, slot: Slot, answer: Answer) -> None: ...
    def chunks(self, stream: Any) -> Any: ...
    def held_stream(self, flavour: ModuleType, held: Any) -> Any: ...


class WholeBody:
    """A body that can be read at once, besides in parts."""

    async def whole(self) -> bytes:
        """All of it, and its connection is let go. Raises what reading it in parts raises; cancelled, it is closed."""
        raise NotImplementedError


def drive(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        result: _T = finished.value
        return result
    coroutine.close()
    raise RuntimeError("a synchronous model call tried to suspend")
