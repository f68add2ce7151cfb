"""A server that webhooks are sent to, and that answers as a test wants."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Receiver:
    """`received` are the bodies; `statuses` are answered first, one each, then `status`."""

    url: str = ""
    host: str = ""
    """`127.0.0.1:PORT`"""
    port: int = 0
    status: int = 200
    statuses: list[int] = field(default_factory=list)
    free: asyncio.Event = field(default_factory=asyncio.Event)
    """Nothing is answered while it is not set; it is set at first."""
    received: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    new: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    async def next(self) -> dict[str, Any]:
        """The next body that comes."""
        async with asyncio.timeout(20):
            return await self.new.get()

    async def answer(self, request: web.BaseRequest) -> web.Response:
        body = json.loads(await request.read())
        self.received.append(body)
        self.headers.append({key.lower(): value for key, value in request.headers.items()})
        self.paths.append(request.path_qs)
        self.new.put_nowait(body)
        await self.free.wait()
        status = self.statuses.pop(0) if self.statuses else self.status
        return web.Response(status=status, headers={"Location": "/elsewhere"} if 300 <= status < 400 else None)


@asynccontextmanager
async def receiving(*, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Receiver]:
    """A receiver on a free port of 127.0.0.1."""
    receiver = Receiver()
    receiver.free.set()
    runner = web.ServerRunner(web.Server(receiver.answer), shutdown_timeout=0.01, handler_cancellation=True)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    receiver.port = listener.getsockname()[1]
    receiver.host = f"127.0.0.1:{receiver.port}"
    receiver.url = f"http{'s' if tls else ''}://{receiver.host}/hook"
    await web.SockSite(runner, listener, ssl_context=tls).start()
    try:
        yield receiver
    finally:
        await runner.cleanup()
