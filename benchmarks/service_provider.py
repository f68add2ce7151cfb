"""A provider in a process of its own that streams to thousands at once for little CPU time: prepared bytes, no parsing.

The simulator would take more of the machine than what is measured. The first token of a stream is
`at=<received>,<sent>;` in nanoseconds of the machine's monotonic clock, so that a client can tell what the way through
a server added. Its headers name a limit far above the load: nobody needs to feel their way.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvloop

WORD = "word "
_LIMITS = b"x-ratelimit-limit-requests: 6000000\r\nx-ratelimit-remaining-requests: 5999999\r\n"
_ANSWER = (
    b'{"id":"c","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"A story."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}'
)
_PLAIN = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + _LIMITS + b"content-length: %d\r\n\r\n" % len(_ANSWER)
) + _ANSWER
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n" + _LIMITS + b"transfer-encoding: chunked\r\n\r\n"


@contextmanager
def streaming_provider(*, tokens: int, gap_s: float) -> Generator[str]:
    """Start it, yield its base URL (ending in /v1), stop it. Streams have `tokens` tokens, the first after a gap."""
    command = [sys.executable, "-m", "benchmarks.service_provider", str(tokens), str(gap_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


class _Connection(asyncio.Protocol):
    def __init__(self, tokens: int, gap_s: float) -> None:
        self._tokens = tokens
        self._gap_s = gap_s
        self._loop = asyncio.get_running_loop()
        self._found = b""
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._sent = 0
        self._received_ns = 0
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._found += data
        head, ended, body = self._found.partition(b"\r\n\r\n")
        if not ended:
            return
        if len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0):
            return
        self._found = b""
        if b'"stream":true' not in body:
            self._transport.write(_PLAIN)
            return
        self._received_ns, self._sent, self._due = time.monotonic_ns(), 0, self._loop.time() + self._gap_s
        self._transport.write(_STREAM + _chunk(_delta('{"role":"assistant","content":""}')))
        self._timer = self._loop.call_at(self._due, self._next)

    def _next(self) -> None:
        if self._sent == self._tokens:
            self._transport.write(_chunk(_delta("{}", '"stop"')) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            return
        word = WORD if self._sent else f"at={self._received_ns},{time.monotonic_ns()};"
        self._transport.write(_TOKEN if self._sent else _chunk(_delta(json.dumps({"content": word}))))
        self._sent += 1
        self._due += self._gap_s
        self._timer = self._loop.call_at(self._due, self._next)


def _delta(delta: str, reason: str = "null") -> bytes:
    return (
        'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":'
        f'[{{"index":0,"delta":{delta},"finish_reason":{reason}}}],"usage":null}}\n\n'
    ).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_TOKEN = _chunk(_delta(json.dumps({"content": WORD})))


async def _serve(tokens: int, gap_s: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(tokens, gap_s), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
