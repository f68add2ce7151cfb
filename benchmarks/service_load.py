"""The clients of the service's benchmarks, in a process of their own: raw sockets, so that they cost little.

`python -m benchmarks.service_load streams|wait '{...}'` says "ready", waits for a line, does it, prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvloop

QUESTION = "Tell a story about a magical forest."
_PATIENCE_S = 300.0
_FIRST = re.compile(rb"at=(\d+),(\d+);")
_END = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Course:
    """What the clients do."""

    url: str
    workflow: str
    count: int
    """Streams, or runs."""
    over_s: float = 0.0
    """Of streams: the seconds over which they arrive."""
    tokens: int = 0
    in_flight: int = 8
    """Of runs that are waited for."""
    on_threads: bool = False
    """Each run on a thread that is made before."""


@dataclass(slots=True)
class Seen:
    """What came of it. Seconds from sending a request to its answer, or of a stream to its first token and its end."""

    done: int = 0
    failed: int = 0
    wall_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    added_s: list[float] = field(default_factory=list)
    """Of streams: what was added to the provider's own time to its first token."""
    words: list[str] = field(default_factory=list)
    """What failures said, a few of them."""


class Client:
    """A process of clients that is ready."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def go(self) -> Seen:
        """Let them begin; what they saw."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the clients ended without a word")
        return Seen(**json.loads(line))


@contextmanager
def clients(way: str, course: Course) -> Iterator[Client]:
    """Start them, and wait until they are ready. Raises RuntimeError where they do not start."""
    command = [sys.executable, "-m", "benchmarks.service_load", way, json.dumps(asdict(course))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise RuntimeError(f"{command} did not start")
            yield Client(process)
        finally:
            process.kill()


def _request(course: Course, path: str, body: object) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: {urlsplit(course.url).netloc}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def _run(course: Course) -> dict[str, Any]:
    return {"assistant_id": course.workflow, "input": {"question": QUESTION}}


# --- streams ---------------------------------------------------------------------------------------------


class _Stream(asyncio.Protocol):
    def __init__(self, request: bytes, tokens: int, seen: Seen) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._tokens = tokens
        self._seen = seen
        self._began_ns = 0
        self._words = 0
        self._first = False
        self._tail = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._began_ns = time.monotonic_ns()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        whole = self._tail + data
        if not self._first and (found := _FIRST.search(whole)):
            self._first = True
            self._words += 1
            provider_ns = int(found[2]) - int(found[1])
            self._seen.added_s.append((time.monotonic_ns() - self._began_ns - provider_ns) / 1e9)
        self._words += whole.count(b'"content":"word ')
        if whole.endswith(_END):
            self._end(whole)
            return
        # What a needle could begin in, and no needle itself.
        self._tail = whole[-15:] if self._first else whole

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self._failed(f"connection lost after {self._words} tokens: {self._tail[-200:]!r}")

    def _end(self, whole: bytes) -> None:
        if self._words == self._tokens:
            self._seen.done += 1
            self._seen.latencies_s.append((time.monotonic_ns() - self._began_ns) / 1e9)
            self.ended.set_result(None)
        else:
            self._failed(f"{self._words} tokens: {whole[-300:]!r}")
        self._transport.close()

    def _failed(self, words: str) -> None:
        self._seen.failed += 1
        if len(self._seen.words) < 3:
            self._seen.words.append(words)
        self.ended.set_result(None)


async def _streams(course: Course) -> Seen:
    seen, where = Seen(), urlsplit(course.url)
    request = _request(course, "/runs/stream", {**_run(course), "stream_mode": ["messages-tuple"]})
    loop, opened = asyncio.get_running_loop(), list[_Stream]()
    gap_s = course.over_s / course.count
    began = loop.time()

    async def one(position: int) -> None:
        await asyncio.sleep(began + position * gap_s - loop.time() if gap_s else 0)
        stream = _Stream(request, course.tokens, seen)
        opened.append(stream)
        await loop.create_connection(lambda: stream, where.hostname or "", where.port or 0)
        await stream.ended

    async with asyncio.timeout(_PATIENCE_S):
        await asyncio.gather(*(one(position) for position in range(course.count)))
    seen.wall_s = loop.time() - began
    return seen


# --- runs that are waited for ------------------------------------------------------------------------------


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if b"transfer-encoding: chunked" in head:
            body = b""
            while size := int(await self._reader.readline(), 16):
                body += (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readline()
        else:
            body = await self._reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        return int(head.split(b" ")[1]), body


async def _connect(course: Course) -> _Connection:
    where = urlsplit(course.url)
    return _Connection(*await asyncio.open_connection(where.hostname, where.port))


async def _requests(course: Course) -> list[bytes]:
    if not course.on_threads:
        return [_request(course, "/runs/wait", _run(course))] * course.count
    connection, found = await _connect(course), []
    for _ in range(course.count):
        thread_id = str(uuid.uuid4())
        status, body = await connection.ask(_request(course, "/threads", {"thread_id": thread_id}))
        if status != 200:
            raise RuntimeError(f"POST /threads: {status} {body[:300]!r}")
        found.append(_request(course, f"/threads/{thread_id}/runs/wait", _run(course)))
    return found


async def _waits(course: Course, requests: list[bytes]) -> Seen:
    seen, left = Seen(), iter(requests)
    began = time.monotonic()

    async def work() -> None:
        connection = await _connect(course)
        for request in left:
            sent = time.monotonic()
            status, body = await connection.ask(request)
            if status == 200 and b'"answer"' in body:
                seen.done += 1
                seen.latencies_s.append(time.monotonic() - sent)
            else:
                seen.failed += 1
                seen.words = [*seen.words, f"{status} {body[:200]!r}"][:3]

    async with asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as group:
        for _ in range(course.in_flight):
            group.create_task(work())
    seen.wall_s = time.monotonic() - began
    return seen


async def _go(way: str, course: Course) -> Seen:
    requests = await _requests(course) if way == "wait" else []
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return await _waits(course, requests) if way == "wait" else await _streams(course)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(asdict(runner.run(_go(sys.argv[1], Course(**json.loads(sys.argv[2])))))), flush=True)
