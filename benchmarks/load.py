"""Requests as fast as one process can write them: keep-alive sockets, prepared bytes, no HTTP client."""

from __future__ import annotations

import asyncio
import json
import sys
import time


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, deadline: float) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self.answers = 0
        self._request = request
        self._deadline = deadline
        self._found = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._found += data
        head, _, body = self._found.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or -1)
        if len(body) != length:
            return
        assert self._transport is not None
        self._found = b""
        self.answers += 1
        if time.monotonic() < self._deadline:
            self._transport.write(self._request)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set_result(None)


async def answers_per_second(port: int, *, connections: int, seconds: float) -> float:
    """Ask for plain chat completions over that many connections, each asking again when it was answered."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Tell a story of a magical forest."}]})
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk-test\r\n"
    request = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    loop = asyncio.get_running_loop()
    begun = time.monotonic()
    opened = [
        await loop.create_connection(lambda: _Connection(request, begun + seconds), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(connection.done for _, connection in opened))
    return sum(connection.answers for _, connection in opened) / (time.monotonic() - begun)


if __name__ == "__main__":
    rate = asyncio.run(answers_per_second(int(sys.argv[1]), connections=int(sys.argv[2]), seconds=float(sys.argv[3])))
    print(f"{rate:.0f}")
