"""Connections through an HTTP proxy: an aiohttp session per event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import aiohttp
import httpx2
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace
from yarl import URL

from plait.flow.dials import Names
from plait.flow.exchange import CONNECTED

# The subclass comes before its base: the first match wins.
_ERRORS: tuple[tuple[type[Exception], type[httpx2.TransportError]], ...] = (
    (aiohttp.ServerTimeoutError, httpx2.ReadTimeout),
    (aiohttp.ClientProxyConnectionError, httpx2.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx2.ProxyError),
    (aiohttp.ClientConnectorError, httpx2.ConnectError),
    (aiohttp.ServerDisconnectedError, httpx2.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx2.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx2.RemoteProtocolError),
    (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
    (aiohttp.ClientError, httpx2.NetworkError),
    (TimeoutError, httpx2.TimeoutException),
    (OSError, httpx2.NetworkError),
)
_BUFFERED_BYTES = 16_384


class ProxiedSession:
    """Sends requests through a proxy; belongs to the running loop."""

    def __init__(self, *, reuse: bool) -> None:
        loop = asyncio.get_running_loop()
        connector = _Connector(
            limit=0,  # the gate bounds calls; a second bound here would queue them unseen
            resolver=_Resolver(),
            force_close=not reuse,
            keepalive_timeout=30.0 if reuse else None,
        )
        self._session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(loop=loop)
        )

    async def send(self, request: httpx2.Request, proxy: str, trusted: ssl.SSLContext | None) -> httpx2.Response:
        """The response, its body not read. Raises httpx2.TransportError."""
        url = URL(str(request.url), encoded=True)
        if request.url.userinfo:  # has become a header already, and aiohttp refuses to see both
            url = url.with_user(None)
        timeout = request.extensions.get("timeout", {})
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        if "transfer-encoding" in request.headers:  # the body is read here and has a length
            headers = [header for header in headers if header[0].lower() != "transfer-encoding"]
        content = await request.aread()
        with _translated_errors(), _noting_connections(request.extensions):
            async with _time_to_send(content, timeout):
                response = await self._session.request(
                    request.method,
                    url,
                    headers=headers,
                    skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                    data=content or None,
                    allow_redirects=False,
                    ssl=trusted or True,
                    proxy=proxy,
                    timeout=aiohttp.ClientTimeout(
                        total=None, sock_connect=timeout.get("connect"), sock_read=timeout.get("read")
                    ),
                )
        return httpx2.Response(
            response.status,
            headers=list(response.raw_headers),
            stream=_Body(response),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": (response.reason or "").encode()},
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def _time_to_send(content: bytes, timeout: Mapping[str, float | None]) -> AbstractAsyncContextManager[object]:
    """aiohttp does not limit the time for sending a body. A small one fits into the socket's buffer, read or not."""
    phases = [timeout.get(phase) for phase in ("connect", "write", "read")]
    if len(content) < _BUFFERED_BYTES or None in phases:
        return nullcontext()
    return asyncio.timeout(sum(phase for phase in phases if phase))


_extensions: ContextVar[MutableMapping[str, Any]] = ContextVar("plait_pool_extensions")


class _Connector(aiohttp.TCPConnector):
    """Notes how long opening a connection took; aiohttp's own tracing does too, for 10 us of every call."""

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        began = time.monotonic()
        opened = await super()._create_connection(req, traces, timeout)
        _extensions.get({})[CONNECTED] = time.monotonic() - began
        return opened


class _Resolver(AbstractResolver):
    def __init__(self) -> None:
        self._names = Names()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, address in await self._names.addresses(host, port)
            if family in (socket.AF_UNSPEC, kind)
        ]

    async def close(self) -> None:
        return


class _Body(httpx2.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated_errors():
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        # Closing in the middle of a body ends the connection, which is how the endpoint learns that nobody listens.
        self._response.close() if not self._response.content.at_eof() else self._response.release()


@contextmanager
def _noting_connections(extensions: MutableMapping[str, Any]) -> Iterator[None]:
    token = _extensions.set(extensions)
    try:
        yield
    finally:
        _extensions.reset(token)


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        for theirs, ours in _ERRORS:
            if isinstance(error, theirs):
                said = "the connection closed in the middle" if theirs is aiohttp.ClientPayloadError else str(error)
                raise ours(said or type(error).__name__) from error
        raise
