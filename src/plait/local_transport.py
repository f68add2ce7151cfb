"""Carries requests to the embedded model, which the first of them starts."""

from __future__ import annotations

import asyncio

import httpx2

from plait.flow.pool import BlockingPool, Network, Pool
from plait.local_model import LocalServer, start
from plait.settings import Settings

LOCAL_BASE_URL = "http://embedded.plait/v1"
"""Stands for the embedded server in requests and limits; its real port is known once it runs."""


class LocalTransport(httpx2.AsyncBaseTransport):
    """Waits until the server is ready, then sends there, over a new connection each time.

    After a streamed answer the server drops a connection that was kept open.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        self._settings = settings
        self._pool = Pool(Network(reuse_connections=False))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        server = await asyncio.to_thread(start, self._name, self._settings)
        return await self._pool.handle_async_request(_addressed(request, server))

    async def aclose(self) -> None:
        await self._pool.aclose()


class BlockingLocalTransport(httpx2.BaseTransport):
    """The same for synchronous clients."""

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        self._settings = settings
        self._pool = BlockingPool(Network())

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return self._pool.handle_request(_addressed(request, start(self._name, self._settings)))

    def close(self) -> None:
        self._pool.close()


def _addressed(request: httpx2.Request, server: LocalServer) -> httpx2.Request:
    url = httpx2.URL(server.base_url)
    headers = httpx2.Headers(request.headers)
    headers["host"] = url.netloc.decode()
    headers["authorization"] = f"Bearer {server.api_key}"
    headers["connection"] = "close"
    return httpx2.Request(
        request.method,
        request.url.copy_with(scheme=url.scheme, host=url.host, port=url.port),
        headers=headers,
        content=request.content,
        extensions=request.extensions,
    )
