"""What arrives, and how one request is treated: the words in which tests script a provider and faults are made."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]
"""A JSON object."""

ToolCall = tuple[str, Body]
"""A tool's name and its arguments."""


@dataclass(frozen=True, slots=True)
class Request:
    """What arrived: `path` begins with /v1, header names are lower-case."""

    path: str
    body: Body
    headers: Mapping[str, str]
    problem: str = ""
    """Why the body could not be read; `body` is empty then."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one request is treated; the default is a good answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    error: Mapping[str, str | None] | None = None
    """message, type and code of the error object; by default made from the status."""
    hold: asyncio.Event | None = None
    """Nothing is sent until it is set (`simulator.release(event)` from another thread)."""
    hold_after_chunks: int | None = None
    """With `hold`: a stream stops there after that many content chunks, instead of before its headers."""
    delay_s: float = 0.0
    reset_before_headers: bool = False
    cut_after_chunks: int | None = None
    """A stream's connection closes after that many content chunks; 0: after its headers and role chunk."""
    truncate_json: bool = False
    """Content-Length promises more than is sent before the connection closes."""
    reset: bool = False
    """A connection that is cut or truncated ends with RST, which clients see as "connection reset by peer"."""
    stall: bool = False
    """Nothing is ever sent; the request ends when its client leaves."""
    drip_s: float = 0.0
    """Seconds between the pieces of the answer: the tokens of a stream, the sixteenths of a plain body."""
    gzip: bool = False
    reject_stream_options: bool = False
    """400 whenever the body has `stream_options`, as older OpenAI-compatible servers answer."""
    content_type: str | None = None
    body: bytes | None = None
    """Sent as it is, e.g. a proxy's HTML page."""
    tool_calls: Sequence[ToolCall] = ()
    """Tools that the model calls, where else it would answer."""
    kind: str = "scripted"
    """Under which name it is counted where it fails."""

    @property
    def fails(self) -> bool:
        """Whether no whole answer comes of it."""
        return (
            self.status >= 400
            or self.error is not None
            or self.reset_before_headers
            or self.cut_after_chunks is not None
            or self.truncate_json
            or self.stall
        )
