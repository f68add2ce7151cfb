"""Connections to endpoints: an aiohttp session per event loop under an httpx2 transport, measured twice as fast."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # not in typeshed
from weakref import WeakKeyDictionary

import aiohttp
import httpx2
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace
from yarl import URL

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


@dataclass(frozen=True, slots=True)
class Network:
    """How to reach an endpoint: what stands in between, and whom to trust."""

    proxies: Mapping[str, str] = field(default_factory=dict, hash=False)
    """By scheme (`http`, `https`, `all`), and the hosts reached without one under `no`."""
    ca_file: Path | None = None
    reuse_connections: bool = True

    def proxy_for(self, url: URL) -> str | None:
        """The proxy for a URL. Raises httpx2.UnsupportedProtocol for SOCKS proxies."""
        proxy = self.proxies.get(url.scheme) or self.proxies.get("all")
        if not proxy or proxy_bypass_environment(url.host or "", dict(self.proxies)):
            return None
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        if not proxy.startswith(("http://", "https://")):
            scheme = proxy.partition("://")[0]
            raise httpx2.UnsupportedProtocol(
                f"expected an http:// or https:// proxy for {url.host}, found {scheme}://; unset it or use NO_PROXY"
            )
        return proxy

    def ssl_context(self) -> ssl.SSLContext:
        """Whom to trust: the endpoint's own file, else SSL_CERT_FILE and SSL_CERT_DIR, else the usual authorities."""
        if self.ca_file is not None:
            return ssl.create_default_context(cafile=str(self.ca_file))
        return httpx2.create_ssl_context()


class Pool(httpx2.AsyncBaseTransport):
    """Kept-alive connections, never shared between event loops; a loop's own are closed when it ends."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._ssl: ssl.SSLContext | None = None
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()
        self._closers: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncIterator[None]] = WeakKeyDictionary()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        session = self._sessions.get(asyncio.get_running_loop()) or await self._open()
        url = _parsed(str(request.url))
        if request.url.userinfo:  # has become a header already, and aiohttp refuses to see both
            url = url.with_user(None)
        timeout = request.extensions.get("timeout", {})
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        if "transfer-encoding" in request.headers:  # the body is read here and has a length
            headers = [header for header in headers if header[0].lower() != "transfer-encoding"]
        content = await request.aread()
        with _translated_errors(), _noting_connections(request.extensions):
            async with _time_to_send(content, timeout):
                response = await session.request(
                    request.method,
                    url,
                    headers=headers,
                    skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                    data=content or None,
                    allow_redirects=False,
                    ssl=self._trusted() if url.scheme == "https" else True,
                    proxy=self._network.proxy_for(url) if self._network.proxies else None,
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

    async def aclose(self) -> None:
        """Close the running loop's connections."""
        closer = self._closers.pop(asyncio.get_running_loop(), None)
        if closer is not None:
            await anext(closer, None)

    async def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        for other in [known for known in self._sessions if known.is_closed()]:
            self._sessions.pop(other, None)
            self._closers.pop(other, None)
        # A loop that ends closes the asynchronous generators begun on it (asyncio.run does), so a generator is what
        # closes the session in time, wherever the loop came from.
        closer = self._session_until_the_loop_ends(loop)
        await anext(closer)
        self._closers[loop] = closer
        return self._sessions[loop]

    async def _session_until_the_loop_ends(self, loop: asyncio.AbstractEventLoop) -> AsyncIterator[None]:
        connector = _Connector(
            limit=0,  # the gate bounds calls; a second bound here would queue them unseen
            resolver=_Resolver(),
            force_close=not self._network.reuse_connections,
            keepalive_timeout=30.0 if self._network.reuse_connections else None,
        )
        session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(loop=loop)
        )
        self._sessions[loop] = session
        try:
            yield
        finally:
            self._sessions.pop(loop, None)
            self._closers.pop(loop, None)
            await session.close()

    def _trusted(self) -> ssl.SSLContext:
        if self._ssl is None:
            self._ssl = self._network.ssl_context()
        return self._ssl


@lru_cache(maxsize=1024)
def _parsed(url: str) -> URL:
    return URL(url, encoded=True)


def _time_to_send(content: bytes, timeout: Mapping[str, float | None]) -> AbstractAsyncContextManager[object]:
    """aiohttp does not limit the time for sending a body. A small one fits into the socket's buffer, read or not."""
    phases = [timeout.get(phase) for phase in ("connect", "write", "read")]
    if len(content) < _BUFFERED_BYTES or None in phases:
        return nullcontext()
    return asyncio.timeout(sum(phase for phase in phases if phase))


class BlockingPool(httpx2.BaseTransport):
    """The same network for synchronous clients, which share one pool between threads."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._transports: dict[str | None, httpx2.HTTPTransport] = {}
        self._lock = threading.Lock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        proxy = self._network.proxy_for(URL(str(request.url), encoded=True)) if self._network.proxies else None
        with self._lock:
            if proxy not in self._transports:
                self._transports[proxy] = httpx2.HTTPTransport(
                    verify=self._network.ssl_context(),
                    proxy=proxy,
                    limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
                )
        with _noting_traced_connections(request.extensions):
            return self._transports[proxy].handle_request(request)

    def close(self) -> None:
        with self._lock:
            for transport in self._transports.values():
                transport.close()
            self._transports.clear()


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


@contextmanager
def _noting_connections(extensions: MutableMapping[str, Any]) -> Iterator[None]:
    extensions.pop(CONNECTED, None)  # an earlier attempt's
    token = _extensions.set(extensions)
    try:
        yield
    finally:
        _extensions.reset(token)


@contextmanager
def _noting_traced_connections(extensions: MutableMapping[str, Any]) -> Iterator[None]:
    extensions.pop(CONNECTED, None)
    if "trace" in extensions:  # somebody else's
        yield
        return
    began = 0.0

    def note(event: str, _: Mapping[str, Any]) -> None:
        nonlocal began
        if event.endswith(".connect_tcp.started"):
            began = time.monotonic()
        elif event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            extensions[CONNECTED] = time.monotonic() - began

    extensions["trace"] = note
    try:
        yield
    finally:
        extensions.pop("trace", None)


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


class _Resolver(AbstractResolver):
    """Looks names up in threads of its own: in a loop's default executor, waiting nodes could keep them all."""

    _threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="plait-dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        return


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
