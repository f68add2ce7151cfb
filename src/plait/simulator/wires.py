"""Answers as bytes on a connection: whole, streamed, dripping, cut, reset."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from plait.simulator.behaviours import Behaviour
from plait.simulator.shapes import Stream

_DRIPS = 16


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds from a stream's headers to its first token, and between tokens."""

    ttft_s: float = 0.0
    gap_s: float = 0.0


async def send(
    request: web.BaseRequest, status: int, content: bytes, behaviour: Behaviour, headers: Mapping[str, str]
) -> web.StreamResponse:
    """A body with its Content-Length; the behaviour's headers win over `headers`."""
    content_type = behaviour.content_type or "application/json"
    sent = {"content-type": content_type, **headers, **behaviour.headers}
    if behaviour.gzip:
        packer = zlib.compressobj(wbits=31)
        content = packer.compress(content) + packer.flush()
        sent["content-encoding"] = "gzip"
    if not behaviour.truncate_json and not behaviour.drip_s:
        return web.Response(status=status, body=content, headers=sent)
    response = web.StreamResponse(status=status, headers=sent)
    response.content_length = len(content)
    await response.prepare(request)
    if behaviour.truncate_json:
        await response.write(content[: len(content) // 2])
        return hang_up(request, response, reset=behaviour.reset)
    step = max(1, -(-len(content) // _DRIPS))
    for start in range(0, len(content), step):
        await response.write(content[start : start + step])
        await asyncio.sleep(behaviour.drip_s)
    await response.write_eof()
    return response


async def send_stream(
    request: web.BaseRequest, stream: Stream, behaviour: Behaviour, headers: Mapping[str, str], pace: Pace
) -> web.StreamResponse:
    """Events as they fall due, chunked."""
    content_type = behaviour.content_type or "text/event-stream"
    sent = {"content-type": content_type, **headers, **behaviour.headers}
    packer = zlib.compressobj(wbits=31) if behaviour.gzip else None
    if packer is not None:
        sent["content-encoding"] = "gzip"
    response = web.StreamResponse(status=behaviour.status, headers=sent)
    await response.prepare(request)

    async def write(data: bytes) -> None:
        if packer is not None:
            data = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
        await response.write(data)

    await write(stream.head)
    gap_s = max(pace.gap_s, behaviour.drip_s)
    due = time.monotonic() + pace.ttft_s
    for index in range(len(stream.pieces) + 1):
        if behaviour.cut_after_chunks == index:
            return hang_up(request, response, reset=behaviour.reset)
        if behaviour.hold is not None and behaviour.hold_after_chunks == index:
            await behaviour.hold.wait()
        if index < len(stream.pieces):
            # Tokens that are due already, on a busy machine, are written without a sleep of their own; the sleep
            # of no time lets concurrent streams interleave.
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await write(stream.pieces[index])
            due += gap_s
    await write(stream.tail)
    await response.write_eof()
    return response


def hang_up(request: web.BaseRequest, response: web.StreamResponse, *, reset: bool) -> web.StreamResponse:
    """Close the connection, in peace or by RST, which a client sees as "connection reset by peer"."""
    transport = request.transport
    if transport is None:
        return response
    if reset:
        # Linger 0 makes closing send RST.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
    return response
