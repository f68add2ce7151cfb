"""Answers on their way into the journal and out of it again."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from plait.flow.calls import Call, Meter
from plait.flow.recorders import KEPT_HEADERS, Answer, Slot
from plait.flow.scopes import Scope
from plait.flow.wire import Wire


class Record:
    """Keeps the answer of one call in its slot, if it is a whole one."""

    def __init__(
        self, slot: Slot, wire: Wire, call: Call, response: Any, headers: Mapping[str, str] | None = None
    ) -> None:
        self._slot = slot
        self._wire = wire
        self._call = call
        self._response = response
        self._headers = lowered(response.headers) if headers is None else headers

    async def whole(self, body: bytes, meter: Meter) -> None:
        """Keep a decoded body; returns once it is durable. Raises StoreError."""
        if meter.complete and not meter.error:
            await self._wire.record(self._slot, self._answer(body, meter))

    def whole_soon(self, body: bytes, meter: Meter) -> None:
        """The same without waiting."""
        if meter.complete and not meter.error:
            self._slot.record_soon(self._answer(body, meter))

    def decoded(self, raw: bytes) -> tuple[bytes, Meter]:
        """A stream that could not be watched because it is compressed, and what a meter says of it."""
        meter = Meter(self._call)
        try:
            body = decoded(flavour_of(self._response), self._response, raw)
        except Exception:  # noqa: BLE001 - its reader finds it unreadable too: it is no answer
            return b"", meter
        meter.watch_stream(body)
        meter.end_stream()
        return body, meter

    def _answer(self, body: bytes, meter: Meter) -> Answer:
        headers = tuple((name, self._headers[name]) for name in KEPT_HEADERS if name in self._headers)
        return Answer(
            self._response.status_code,
            headers,
            body,
            self._call.streamed,
            self._call.model,
            meter.tokens,
            meter.estimated,
        )


def find_slot(call: Call, scope: Scope | None) -> Slot | None:
    """The place of a call in its run's journal; None without one, or where the call cannot be told from others."""
    if scope is None or scope.recorder is None:
        return None
    return scope.recorder.slot(call)


def response_of(answer: Answer, request: Any) -> Any:
    """The response that a client reads the answer from."""
    flavour = flavour_of(request)
    return flavour.Response(
        answer.status, headers=list(answer.headers), stream=flavour.ByteStream(answer.body), request=request
    )


def lowered(headers: Any) -> dict[str, str]:
    """The headers of httpx or httpx2 by their names in lower case, read once for the many who ask."""
    found: dict[str, str] = {}
    try:
        for name, value in headers.raw:
            key, text = name.decode("ascii").lower(), value.decode("ascii")
            found[key] = f"{found[key]}, {text}" if key in found else text
    except UnicodeDecodeError:
        return dict(headers.items())
    return found


def flavour_of(message: Any) -> ModuleType:
    """The library whose request or response this is: httpx2 or httpx."""
    return sys.modules[type(message).__module__.partition(".")[0]]


def is_encoded(response: Any) -> bool:
    """Whether its bytes must be decoded before they can be read."""
    return response.headers.get("content-encoding", "identity") not in {"", "identity"}


def decoded(flavour: ModuleType, response: Any, raw: bytes) -> bytes:
    """A body without its content encoding."""
    if not is_encoded(response):
        return raw
    content: bytes = flavour.Response(response.status_code, headers=response.headers, content=raw).content
    return content
