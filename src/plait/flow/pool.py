"""Connections to endpoints under an httpx2 transport: kept alive, and each event loop's its own."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # not in typeshed
from weakref import WeakKeyDictionary

import httpx2

from plait.flow.answers import Answer, Broken, Silent
from plait.flow.connections import Connection, Connections, Origin
from plait.flow.dials import Names, dial
from plait.flow.exchange import CONNECTED
from plait.flow.heads import NotHttp, request_bytes
from plait.flow.wire import WholeBody

if TYPE_CHECKING:
    from plait.flow.proxied import ProxiedSession

_BUFFERED_BYTES = 16_384
"""So much of a request fits into the socket's buffer, read or not."""


@dataclass(frozen=True, slots=True)
class Network:
    """How to reach an endpoint: what stands in between, and whom to trust."""

    proxies: Mapping[str, str] = field(default_factory=dict, hash=False)
    """By scheme (`http`, `https`, `all`), and the hosts reached without one under `no`."""
    ca_file: Path | None = None
    reuse_connections: bool = True

    def proxy_for(self, url: httpx2.URL) -> str | None:
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
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Lines] = WeakKeyDictionary()
        self._closers: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncIterator[None]] = WeakKeyDictionary()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url, extensions = request.url, request.extensions
        lines = self._lines.get(asyncio.get_running_loop()) or await self._open()
        extensions.pop(CONNECTED, None)  # an earlier attempt's
        if self._network.proxies and (proxy := self._network.proxy_for(url)):
            return await lines.proxied(self._network).send(request, proxy, self._trusted(url))
        content = await request.aread()
        try:
            sent = request_bytes(
                request.method, url.raw_path, request.headers.raw, content, last=not self._network.reuse_connections
            )
        except ValueError as error:
            raise httpx2.LocalProtocolError(str(error)) from error
        timeout = extensions.get("timeout", {})
        connection = await self._connection(lines.direct, url, extensions)
        answer = connection.ask(sent, timeout.get("read"))
        patience_s = timeout.get("read")
        if len(sent) > _BUFFERED_BYTES and patience_s is not None:
            patience_s += timeout.get("write") or 0.0
        try:
            head = await answer.wait_for_head(patience_s)
        except (Broken, Silent, NotHttp, OSError) as error:
            _raise_as_httpx(error)
        return httpx2.Response(
            head.status,
            headers=head.headers,
            stream=_Body(answer),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": head.reason},
        )

    async def aclose(self) -> None:
        """Close the running loop's connections."""
        closer = self._closers.pop(asyncio.get_running_loop(), None)
        if closer is not None:
            await anext(closer, None)

    async def _connection(
        self, connections: Connections, url: httpx2.URL, extensions: MutableMapping[str, Any]
    ) -> Connection:
        if url.scheme not in ("http", "https") or not url.host:
            raise httpx2.UnsupportedProtocol(f"expected an http:// or https:// URL, found {str(url)!r}")
        trust = self._trusted(url)
        origin = (url.host, url.port or (443 if trust else 80), trust)
        if (connection := connections.take(origin)) is not None:
            return connection
        began = time.monotonic()
        try:
            async with asyncio.timeout(extensions.get("timeout", {}).get("connect")):
                connection = await connections.open(origin)
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(f"{origin[0]}:{origin[1]} did not let us in in time") from error
        except (OSError, UnicodeError) as error:
            raise httpx2.ConnectError(f"cannot connect to {origin[0]}:{origin[1]}: {error}") from error
        extensions[CONNECTED] = time.monotonic() - began
        return connection

    async def _open(self) -> _Lines:
        loop = asyncio.get_running_loop()
        for other in [known for known in self._lines if known.is_closed()]:
            self._lines.pop(other, None)
            self._closers.pop(other, None)
        # A loop that ends closes the asynchronous generators begun on it (asyncio.run does), so a generator is what
        # closes the connections in time, wherever the loop came from.
        closer = self._lines_until_the_loop_ends(loop)
        await anext(closer)
        self._closers[loop] = closer
        return self._lines[loop]

    async def _lines_until_the_loop_ends(self, loop: asyncio.AbstractEventLoop) -> AsyncIterator[None]:
        self._lines[loop] = lines = _Lines(loop, reuse=self._network.reuse_connections)
        try:
            yield
        finally:
            self._lines.pop(loop, None)
            self._closers.pop(loop, None)
            await lines.close()

    def _trusted(self, url: httpx2.URL) -> ssl.SSLContext | None:
        if url.scheme != "https":
            return None
        if self._ssl is None:
            self._ssl = self._network.ssl_context()
        return self._ssl


class _Lines:
    """What one event loop has open."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, reuse: bool) -> None:
        names = Names()

        def connect(origin: Origin, protocol: Callable[[], Connection]) -> Awaitable[None]:
            return dial(names, *origin, protocol)

        self.direct = Connections(loop, connect, reuse=reuse)
        self._proxied: ProxiedSession | None = None

    def proxied(self, network: Network) -> ProxiedSession:
        """The way through a proxy."""
        if self._proxied is None:
            # Few need it, and aiohttp takes its time to be imported.
            from plait.flow.proxied import ProxiedSession  # noqa: PLC0415

            self._proxied = ProxiedSession(reuse=network.reuse_connections)
        return self._proxied

    async def close(self) -> None:
        """Close all connections."""
        self.direct.close()
        if self._proxied is not None:
            await self._proxied.close()
        await asyncio.sleep(0)  # the loop closes sockets in its next turn


class BlockingPool(httpx2.BaseTransport):
    """The same network for synchronous clients, which share one pool between threads."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._transports: dict[str | None, httpx2.HTTPTransport] = {}
        self._lock = threading.Lock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        proxy = self._network.proxy_for(request.url) if self._network.proxies else None
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


class _Body(httpx2.AsyncByteStream, WholeBody):
    """A body as it comes; dropped unread, its connection is closed."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._loop = asyncio.get_running_loop()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := await self.part()) is not None:
            yield part

    async def part(self) -> bytes | None:
        """The next bytes, None after the last."""
        try:
            return await self._answer.next_part()
        except (Broken, Silent, NotHttp, OSError) as error:
            _raise_as_httpx(error)

    async def whole(self) -> bytes:
        try:
            return await self._answer.rest()
        except (Broken, Silent, NotHttp, OSError) as error:
            _raise_as_httpx(error)
        finally:
            self._answer.close()

    async def aclose(self) -> None:
        self._answer.close()

    def __del__(self) -> None:
        if not self._answer.complete and not self._loop.is_closed():
            # A garbage collection may be any thread's.
            self._loop.call_soon_threadsafe(self._answer.close)


def _raise_as_httpx(error: Exception) -> NoReturn:
    if isinstance(error, Silent):
        raise httpx2.ReadTimeout(str(error)) from error
    if isinstance(error, Broken | NotHttp):
        raise httpx2.RemoteProtocolError(str(error)) from error
    raise httpx2.ReadError(str(error) or type(error).__name__) from error


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
