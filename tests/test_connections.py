"""plait's own HTTP/1.1: answers in any pieces, kept-alive connections, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.flow.heads import request_bytes
from plait.flow.pool import Network, Pool

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Says what it is told to over real sockets; counts connections and keeps requests."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.requests: list[bytes] = []
        self.left = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                self.requests.append(head + await reader.readexactly(length))
                await self.script(reader, writer)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            writer.close()


@asynccontextmanager
async def served(script: Script, *, reuse: bool = True) -> AsyncIterator[tuple[Server, httpx2.AsyncClient]]:
    server = Server(script)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1/x?y=%20"
    pool = Pool(Network(reuse_connections=reuse))
    async with listening, httpx2.AsyncClient(transport=pool, timeout=5.0) as http:
        yield server, http
        await pool.aclose()


def says(*parts: bytes, then_close: bool = False) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if then_close:
            writer.close()

    return script


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def test_a_connection_is_used_again_and_the_request_is_what_the_client_made() -> None:
    async with served(says(OK)) as (server, http):
        for _ in range(3):
            assert (await http.post(server.url, content=b"body", headers={"X-Own": "1"})).content == b"ok"
        assert server.connections == 1
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /v1/x?y=%20 HTTP/1.1"
        assert {b"X-Own: 1", b"Content-Length: 4"} <= set(lines)
        assert body == b"body"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more",
        OK + OK,
        b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
)
async def test_a_connection_that_cannot_be_trusted_with_another_request_is_not_used_again(answer: bytes) -> None:
    async with served(says(answer)) as (server, http):
        for _ in range(2):
            assert (await http.get(server.url)).content == b"ok"
        assert server.connections == 2


async def test_without_reuse_the_server_is_told_so_and_the_connection_closed() -> None:
    async with served(says(OK), reuse=False) as (server, http):
        assert (await http.post(server.url, content=b"x")).content == b"ok"
        async with asyncio.timeout(5):
            await server.left.wait()
        assert b"connection: close" in server.requests[0].lower()


async def test_a_connection_closed_while_idle_is_replaced() -> None:
    async with served(says(OK, then_close=True)) as (server, http):
        for _ in range(2):
            assert (await http.get(server.url)).content == b"ok"
            await asyncio.sleep(0.05)
        assert server.connections == 2


async def test_announcements_before_the_answer_are_passed_over() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    async with served(says(b"HTTP/1.1 100 Continue\r\n\r\n" + hints, OK)) as (server, http):
        response = await http.get(server.url)
        assert (response.status_code, response.content, "link" in response.headers) == (200, b"ok", False)


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_ends_with_its_head(status: int) -> None:
    async with served(says(b"HTTP/1.1 %d x\r\n\r\n" % status)) as (server, http):
        for _ in range(2):
            assert (await http.get(server.url)).content == b""
        assert server.connections == 1


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((b"",), "disconnected"),
        ((b"HTTP/1.1 200 OK\r\ncontent-le",), "in the middle"),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok",), "in the middle"),
        ((b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok",), "in the middle"),
        ((b"SSH-2.0-OpenSSH\r\n\r\n",), "HTTP/1.1"),
        ((b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",), "header"),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",), "Content-Length"),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",), "Content-Length"),
        ((b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",), "size"),
        ((b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000,), "bytes"),
    ],
)
async def test_what_is_no_whole_answer_is_an_error(parts: tuple[bytes, ...], said: str) -> None:
    async with served(says(*parts, then_close=True)) as (server, http):
        with pytest.raises(httpx2.RemoteProtocolError, match=said):
            await http.get(server.url)


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_silence_before_or_in_an_answer_is_a_timeout_and_ends_the_connection() -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK[:-1])
        await reader.read()

    for script in (silence, half):
        async with served(script) as (server, http):
            with pytest.raises(httpx2.ReadTimeout):
                await http.get(server.url, timeout=0.05)
            assert server.connections == 1


async def test_time_that_the_reader_takes_is_not_the_servers() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
        await writer.drain()
        await resumed.wait()
        writer.write(b"cd")

    resumed = asyncio.Event()
    async with served(slow) as (server, http), http.stream("GET", server.url, timeout=0.1) as response:
        parts = response.aiter_raw()
        found = await anext(parts)
        await asyncio.sleep(0.3)
        resumed.set()
        assert found + b"".join([part async for part in parts]) == b"abcd"


@pytest.mark.parametrize("left", ["closed", "dropped", "cancelled"])
async def test_a_server_learns_that_nobody_listens(left: str) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        if left != "cancelled":
            writer.write(b"2\r\nok\r\n")
        await reader.read()
        server.left.set()

    async with served(endless) as (server, http):
        request = http.build_request("GET", server.url)
        response = await http.send(request, stream=True)
        match left:
            case "closed":
                await response.aclose()
            case "dropped":
                del response
                gc.collect()
            case _:
                reading = asyncio.create_task(response.aread())
                await asyncio.sleep(0.02)
                reading.cancel()
                await asyncio.wait([reading])
        async with asyncio.timeout(5):
            await server.left.wait()


async def test_a_long_body_waits_for_its_reader_and_comes_whole() -> None:
    size = 3_000_000

    async def long(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for start in range(0, size, 50_000):
            writer.write(bytes([start // 50_000]) * 50_000)
            await writer.drain()

    expected = b"".join(bytes([start // 50_000]) * 50_000 for start in range(0, size, 50_000))
    async with served(long) as (server, http):
        for _ in range(2):
            async with http.stream("GET", server.url) as response:
                assert b"".join([part async for part in response.aiter_raw()]) == expected
        assert server.connections == 1


async def test_a_header_that_would_be_two_is_refused() -> None:
    async with served(says(OK)) as (server, http):
        with pytest.raises(httpx2.LocalProtocolError, match="line breaks"):
            await http.get(server.url, headers={"x": "a\r\nb: c"})
        assert not server.requests


async def test_nobody_there_is_a_connection_that_failed() -> None:
    async with httpx2.AsyncClient(transport=Pool(Network())) as http:
        with pytest.raises(httpx2.ConnectError, match=r"cannot connect to 127\.0\.0\.1:9"):
            await http.get("http://127.0.0.1:9/")
        with pytest.raises(httpx2.ConnectError, match=r"no-such-host\.invalid"):
            await http.get("http://no-such-host.invalid/")


_pieces = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


def cut(text: bytes, at: list[int]) -> list[bytes]:
    places = sorted({place % (len(text) + 1) for place in at})
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@settings(max_examples=25)
@given(_pieces, st.lists(st.integers(0, 500), max_size=6), st.sampled_from(["length", "chunked", "close"]))
def test_an_answer_is_the_same_however_it_arrives(parts: list[bytes], at: list[int], way: str) -> None:
    body = b"".join(parts)
    if way == "length":
        text = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    elif way == "chunked":
        coded = b"".join(b"%X;ext=1\r\n%b\r\n" % (len(part), part) for part in parts)
        text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n%b0\r\ntrailer: x\r\n\r\n" % coded
    else:
        text = b"HTTP/1.1 200 OK\r\n\r\n" + body

    async def main() -> None:
        async with served(says(*cut(text, at), then_close=way == "close")) as (server, http):
            assert (await http.get(server.url)).content == body
            assert (await http.get(server.url)).content == body
            assert server.connections == (2 if way == "close" else 1)

    asyncio.run(main())


def test_a_request_has_one_length_and_its_headers_as_they_were() -> None:
    headers = [(b"Host", b"a"), (b"Transfer-Encoding", b"chunked"), (b"Connection", b"keep-alive")]
    assert request_bytes("POST", b"/p", headers, b"xyz", last=True) == (
        b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nxyz"
    )
