"""A loopback server with the shape of OpenAI's and Anthropic's APIs, for tests.

    async with Provider() as p:            # in the running loop
    with running_provider() as p:          # in a thread of its own: sync clients, subprocesses, benchmarks

It speaks real HTTP, fails as it is told to and counts what is in flight. `p.base_url` ends in /v1; the
Anthropic SDK wants `p.origin`. Every model answers "Answer to: <last user message>" unless `answer` (request
body -> text) says otherwise. Tokens are words.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import struct
import threading
import zlib
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self

from aiohttp import web

Body = dict[str, Any]

PATIENCE_S = 20.0
"""How long the waits of this module last before they give up: only a failing test gets there."""


@dataclass(frozen=True, slots=True)
class Request:
    """What arrived: `path` begins with /v1, header names are lower-case."""

    path: str
    body: Body
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one request is treated; the default is a good answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    error: Mapping[str, str | None] | None = None
    """message, type and code of the error object; by default made from the status."""
    hold: asyncio.Event | None = None
    """Nothing is sent until it is set (`p.release(event)` from another thread)."""
    hold_after_chunks: int | None = None
    """With `hold`: a stream stops there after that many content chunks, instead of before its headers."""
    delay_s: float = 0.0
    reset_before_headers: bool = False
    cut_after_chunks: int | None = None
    """A stream's connection closes after that many content chunks; 0: after its headers and role chunk."""
    truncate_json: bool = False
    """Content-Length promises more than is sent before the connection closes."""
    gzip: bool = False
    reject_stream_options: bool = False
    """400 whenever the body has `stream_options`, as older OpenAI-compatible servers answer."""
    content_type: str | None = None
    body: bytes | None = None
    """Sent as it is, e.g. a proxy's HTML page."""
    tool_calls: Sequence[tuple[str, Body]] = ()
    """Tools that a chat completion calls, as (name, arguments), where else it would answer."""


class Provider:
    """The server; see the module's docstring. Attributes may be changed while it runs."""

    def __init__(
        self,
        *,
        answer: Callable[[Body], str] | None = None,
        require_key: str | None = None,
        models: Sequence[str] | None = None,
    ) -> None:
        self.answer = answer
        self.require_key = require_key
        self.models = models
        """Names that exist; None: every name does."""
        self.behave: Callable[[Body, int], Behaviour | None] | None = None
        """Asked when the script is empty: (body, index of the request from 0) -> Behaviour."""
        self.gate: asyncio.Event | None = None
        """While unset, no POST is answered; `open_gate` sets it from any thread."""
        self.requests: list[Request] = []
        self.in_flight = 0
        """Requests from their arrival until their body is written or their client left."""
        self.peak = 0
        self.closed_early = 0
        """Requests whose client went away before the end of the answer."""
        self._script: deque[Behaviour] = deque()
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._closing = False
        self._runner: web.ServerRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._port = 0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    def script(self, *steps: Behaviour) -> None:
        """Queue behaviours; each is used by one request, in order of arrival, before `behave` is asked."""
        self._script.extend(steps)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        # 0 would mean "wait for ever for open requests" to aiohttp.
        self._runner = web.ServerRunner(server, shutdown_timeout=0.01)
        await self._runner.setup()
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        await web.SockSite(self._runner, listener).start()
        self._port = listener.getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        assert self._runner is not None
        await self._runner.cleanup()

    # --- waiting for what the clients do; usable from any loop -------------------------------------

    async def arrived(self, count: int) -> None:
        """Wait until `count` requests are in flight at once."""
        await self._wait(lambda: self.in_flight >= count)

    async def received(self, count: int) -> None:
        """Wait until `count` requests have come in since the start."""
        await self._wait(lambda: len(self.requests) >= count)

    async def idle(self) -> None:
        """Wait until no request is in flight."""
        await self._wait(lambda: self.in_flight == 0)

    def wait_received(self, count: int) -> None:
        """`received` for a thread without a loop (only with `running_provider`)."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.received(count), self._loop).result(PATIENCE_S)

    def wait_arrived(self, count: int) -> None:
        """`arrived` for a thread without a loop (only with `running_provider`)."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.arrived(count), self._loop).result(PATIENCE_S)

    def release(self, event: asyncio.Event) -> None:
        """Set an event that requests are held by, from any thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(event.set)

    def close_gate(self) -> None:
        """From now on requests pile up, until `open_gate`."""
        self.gate = asyncio.Event()

    def open_gate(self) -> None:
        """Let all requests through that wait at the gate, from any thread."""
        if self.gate is not None:
            self.release(self.gate)

    async def _wait(self, reached: Callable[[], bool]) -> None:
        assert self._loop is not None
        if asyncio.get_running_loop() is not self._loop:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._wait(reached), self._loop))
            return
        if reached():
            return
        future = self._loop.create_future()
        self._waiters.append((reached, future))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await future
        except TimeoutError:
            raise TimeoutError(
                f"the provider waited {PATIENCE_S:.0f} s; it received {len(self.requests)} requests, "
                f"{self.in_flight} are in flight, the peak was {self.peak}"
            ) from None

    def _count(self, change: int) -> None:
        self.in_flight += change
        self.peak = max(self.peak, self.in_flight)
        for waiter in [w for w in self._waiters if w[0]()]:
            self._waiters.remove(waiter)
            if not waiter[1].done():
                waiter[1].set_result(None)

    # --- answering ---------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.content.read()
        body: Body = json.loads(raw) if raw else {}
        headers = {name.lower(): value for name, value in request.headers.items()}
        index = len(self.requests)
        self.requests.append(Request(request.path, body, headers))
        self._count(+1)
        try:
            behaviour = self._script.popleft() if self._script else None
            if behaviour is None and self.behave is not None:
                behaviour = self.behave(body, index)
            behaviour = behaviour or Behaviour()
            if self.gate is not None and request.method == "POST":
                await self.gate.wait()
            if behaviour.hold is not None and behaviour.hold_after_chunks is None:
                await behaviour.hold.wait()
            if behaviour.delay_s:
                await asyncio.sleep(behaviour.delay_s)
            return await self._answer(request, self.requests[index], behaviour)
        except (asyncio.CancelledError, ConnectionError):
            self.closed_early += not self._closing
            raise
        finally:
            self._count(-1)

    async def _answer(self, request: web.BaseRequest, asked: Request, b: Behaviour) -> web.StreamResponse:
        transport = request.transport
        if b.reset_before_headers and transport is not None:
            # Linger 0 makes closing send RST, which a client sees as "connection reset by peer".
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
            return web.Response()
        shape = _SHAPES.get(asked.path) if request.method == "POST" else None
        refusal = self._refusal(request.method, asked, b)
        if refusal is not None or b.body is not None or shape is None:
            status, content = refusal or (b.status, b.body or _json(self._listing()))
            return await _send(request, status, content, b)
        if b.tool_calls:
            shape, text = _calling(b.tool_calls), ""
        else:
            text = (self.answer or _repeat_the_question)(asked.body)
        usage = (_words_in(asked.body), len(text.split()))
        if asked.body.get("stream") and shape.stream is not None:
            return await _send_stream(request, shape.stream(asked.body, text, usage), b)
        return await _send(request, b.status, shape.plain(asked.body, text, usage), b)

    def _refusal(self, method: str, asked: Request, b: Behaviour) -> tuple[int, bytes] | None:
        key = asked.headers.get("authorization", "").removeprefix("Bearer ") or asked.headers.get("x-api-key")
        known = (method, asked.path) == ("GET", "/v1/models") or (method == "POST" and asked.path in _SHAPES)
        model = asked.body.get("model")
        if self.require_key is not None and key != self.require_key:
            return 401, _error(asked.path, 401, "Incorrect API key provided", "invalid_api_key")
        if not known:
            return 404, _error(asked.path, 404, f"Invalid URL ({method} {asked.path})", None)
        if b.reject_stream_options and "stream_options" in asked.body:
            message = "Unrecognized request argument supplied: stream_options"
            return 400, _error(asked.path, 400, message, None)
        if b.error is not None or (b.status >= 400 and b.body is None):
            found = b.error or {}
            message = found.get("message") or f"The provider answers {b.status}"
            return b.status, _error(asked.path, b.status, message, found.get("code"), found.get("type"))
        if method == "POST" and self.models is not None and model not in self.models:
            return 404, _error(asked.path, 404, f"The model `{model}` does not exist", "model_not_found")
        return None

    def _listing(self) -> Body:
        names = ["test-model"] if self.models is None else self.models
        entries = [{"id": name, "object": "model", "created": 0, "owned_by": "tests"} for name in names]
        return {"object": "list", "data": entries}


@contextmanager
def running_provider(
    *,
    answer: Callable[[Body], str] | None = None,
    require_key: str | None = None,
    models: Sequence[str] | None = None,
) -> Generator[Provider]:
    """A provider in a thread and loop of its own, stopped at the end of the block."""
    provider = Provider(answer=answer, require_key=require_key, models=models)
    ready, stop, loops = threading.Event(), asyncio.Event(), deque[asyncio.AbstractEventLoop]()

    async def serve() -> None:
        async with provider:
            loops.append(asyncio.get_running_loop())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="provider", daemon=True)
    thread.start()
    if not ready.wait(PATIENCE_S):
        raise TimeoutError("the provider did not start")
    try:
        yield provider
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(PATIENCE_S)


# --- the wire: bytes out ---------------------------------------------------------------------------


async def _send(request: web.BaseRequest, status: int, content: bytes, b: Behaviour) -> web.StreamResponse:
    headers: dict[str, str] = {"content-type": b.content_type or "application/json", **b.headers}
    if b.gzip:
        packer = zlib.compressobj(wbits=31)
        content = packer.compress(content) + packer.flush()
        headers["content-encoding"] = "gzip"
    if not b.truncate_json:
        response = web.Response(status=status, body=content, headers=headers)
        await response.prepare(request)
        await response.write_eof()
        return response
    cut = web.StreamResponse(status=status, headers=headers)
    cut.content_length = len(content)
    await cut.prepare(request)
    await cut.write(content[: len(content) // 2])
    return _hang_up(request, cut)


async def _send_stream(request: web.BaseRequest, stream: _Stream, b: Behaviour) -> web.StreamResponse:
    headers: dict[str, str] = {"content-type": b.content_type or "text/event-stream", **b.headers}
    packer = zlib.compressobj(wbits=31) if b.gzip else None
    if packer is not None:
        headers["content-encoding"] = "gzip"
    response = web.StreamResponse(status=b.status, headers=headers)
    await response.prepare(request)

    async def write(data: bytes) -> None:
        if packer is not None:
            data = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
        await response.write(data)

    await write(stream.head)
    for index in range(len(stream.pieces) + 1):
        if b.cut_after_chunks == index:
            return _hang_up(request, response)
        if b.hold is not None and b.hold_after_chunks == index:
            await b.hold.wait()
        if index < len(stream.pieces):
            await write(stream.pieces[index])
            await asyncio.sleep(0)  # concurrent streams interleave
    await write(stream.tail)
    await response.write_eof()
    return response


def _hang_up(request: web.BaseRequest, response: web.StreamResponse) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.close()
    return response


# --- the wire: what each endpoint says -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stream:
    head: bytes
    pieces: list[bytes]
    tail: bytes


_Usage = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Shape:
    plain: Callable[[Body, str, _Usage], bytes]
    stream: Callable[[Body, str, _Usage], _Stream] | None = None


def _chat(body: Body, text: str, usage: _Usage, calls: Sequence[Body] = ()) -> bytes:
    message: Body = {"role": "assistant", "content": text}
    if calls:
        message = {"role": "assistant", "content": None, "tool_calls": list(calls)}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return _json(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body.get("model"),
            "choices": [choice],
            "usage": _chat_usage(usage),
        }
    )


def _chat_stream(body: Body, text: str, usage: _Usage, calls: Sequence[Body] = ()) -> _Stream:
    def chunk(choices: list[Body], used: Body | None = None) -> bytes:
        return _event(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": body.get("model"),
                "choices": choices,
                "usage": used,
            }
        )

    def delta(content: Body, finish_reason: str | None = None) -> bytes:
        return chunk([{"index": 0, "delta": content, "finish_reason": finish_reason}])

    tail = delta({}, "tool_calls" if calls else "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        tail += chunk([], _chat_usage(usage))
    return _Stream(
        head=delta({"role": "assistant", "content": ""}),
        pieces=[delta({"content": piece}) for piece in _pieces(text)]
        + [delta({"tool_calls": [{"index": index, **call}]}) for index, call in enumerate(calls)],
        tail=tail + b"data: [DONE]\n\n",
    )


def _calling(tool_calls: Sequence[tuple[str, Body]]) -> _Shape:
    calls = [
        {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for index, (name, arguments) in enumerate(tool_calls)
    ]
    return _Shape(partial(_chat, calls=calls), partial(_chat_stream, calls=calls))


def _chat_usage(usage: _Usage) -> Body:
    return {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}


def _response(body: Body, text: str | None, usage: _Usage | None) -> Body:
    """An OpenAI Response object; without text it is one that has just been created."""
    counts: Body | None = None
    if usage is not None:
        counts = {
            "input_tokens": usage[0],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage[1],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": sum(usage),
        }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "in_progress" if text is None else "completed",
        "model": body.get("model"),
        "output": [] if text is None else [_output_item(text)],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": counts,
    }


def _output_item(text: str | None) -> Body:
    content = [] if text is None else [{"type": "output_text", "text": text, "annotations": []}]
    status = "in_progress" if text is None else "completed"
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content}


def _responses(body: Body, text: str, usage: _Usage) -> bytes:
    return _json(_response(body, text, usage))


def _responses_stream(body: Body, text: str, usage: _Usage) -> _Stream:
    numbers = iter(range(1_000_000))
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}

    def event(kind: str, **fields: Any) -> bytes:
        name = f"response.{kind}"
        return _event({"type": name, "sequence_number": next(numbers), **fields}, name)

    def part(of: str) -> Body:
        return {"type": "output_text", "text": of, "annotations": []}

    return _Stream(
        head=event("created", response=_response(body, None, None))
        + event("output_item.added", output_index=0, item=_output_item(None))
        + event("content_part.added", **place, part=part("")),
        pieces=[event("output_text.delta", **place, delta=piece, logprobs=[]) for piece in _pieces(text)],
        tail=event("output_text.done", **place, text=text, logprobs=[])
        + event("content_part.done", **place, part=part(text))
        + event("output_item.done", output_index=0, item=_output_item(text))
        + event("completed", response=_response(body, text, usage)),
    )


def _messages(body: Body, text: str, usage: _Usage) -> bytes:
    ended = {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
    return _json({**_message(body), **ended, "usage": _message_usage(usage)})


def _message(body: Body) -> Body:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _message_usage(usage: _Usage) -> Body:
    return {"input_tokens": usage[0], "output_tokens": usage[1]}


def _messages_stream(body: Body, text: str, usage: _Usage) -> _Stream:
    def event(kind: str, **fields: Any) -> bytes:
        return _event({"type": kind, **fields}, kind)

    started = {**_message(body), "usage": _message_usage((usage[0], 0))}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    return _Stream(
        head=event("message_start", message=started)
        + event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        pieces=[
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
            for piece in _pieces(text)
        ],
        tail=event("content_block_stop", index=0)
        + event("message_delta", delta=ended, usage=_message_usage(usage))
        + event("message_stop"),
    )


def _embeddings(body: Body, _text: str, usage: _Usage) -> bytes:
    found = body.get("input", "")
    texts = [found] if isinstance(found, str) else found
    vectors = [[float(len(str(text))), 1.0, 0.0] for text in texts]
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    if body.get("encoding_format") == "base64":
        for entry, vector in zip(data, vectors, strict=True):
            entry["embedding"] = base64.b64encode(struct.pack("<3f", *vector)).decode()
    used = {"prompt_tokens": usage[0], "total_tokens": usage[0]}
    return _json({"object": "list", "model": body.get("model"), "data": data, "usage": used})


_SHAPES = {
    "/v1/chat/completions": _Shape(_chat, _chat_stream),
    "/v1/responses": _Shape(_responses, _responses_stream),
    "/v1/messages": _Shape(_messages, _messages_stream),
    "/v1/embeddings": _Shape(_embeddings),
}

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def _error(path: str, status: int, message: str, code: str | None, kind: str | None = None) -> bytes:
    kind = kind or _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    if path == "/v1/messages":
        return _json({"type": "error", "error": {"type": kind, "message": message}})
    return _json({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _json(value: Body) -> bytes:
    return json.dumps(value).encode()


def _event(value: Body, name: str | None = None) -> bytes:
    line = b"event: " + name.encode() + b"\n" if name else b""
    return line + b"data: " + _json(value) + b"\n\n"


def _pieces(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*", text)


def _turns(body: Body) -> list[Body]:
    found: Any = body.get("messages", body.get("input", ""))
    if isinstance(found, str):
        return [{"role": "user", "content": found}]
    return [turn if isinstance(turn, dict) else {"role": "user", "content": str(turn)} for turn in found]


def _text_of(content: object) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def _repeat_the_question(body: Body) -> str:
    for turn in reversed(_turns(body)):
        if turn.get("role") == "user":
            return f"Answer to: {_text_of(turn.get('content'))}"
    return "Answer to: "


def _words_in(body: Body) -> int:
    return sum(len(_text_of(turn.get("content")).split()) for turn in _turns(body))
