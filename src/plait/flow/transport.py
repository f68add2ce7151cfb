"""The transports under our own clients: every model call leaves the process here."""

from __future__ import annotations

import httpx2

from plait.flow.exchange import exchange, is_marked
from plait.flow.gate import Gate
from plait.flow.wire import drive
from plait.flow.wires import AsyncWire, BlockingWire


class FlowTransport(httpx2.AsyncBaseTransport):
    """Sends through the gate of the run around the call, else through `gate`; `inner` does the network's part."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate
        self._wire = AsyncWire(inner.handle_async_request, gate.clock)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if is_marked(request):
            return await self._inner.handle_async_request(request)
        response: httpx2.Response = await exchange(request, self._wire, self._gate, foreign=False)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class BlockingFlowTransport(httpx2.BaseTransport):
    """The same for synchronous clients: waits on the calling thread."""

    def __init__(self, inner: httpx2.BaseTransport, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if is_marked(request):
            return self._inner.handle_request(request)
        wire = BlockingWire(self._inner.handle_request, self._gate.clock)
        response: httpx2.Response = drive(exchange(request, wire, self._gate, foreign=False))
        return response

    def close(self) -> None:
        self._inner.close()
