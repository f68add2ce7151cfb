"""What a model call is on the wire: which requests are one, what they ask for, and what their answers cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Protocol
from urllib.parse import urlsplit

from pydantic_core import from_json

from plait.flow.estimates import most_tokens, prompt_tokens
from plait.flow.usage import Tokens

CALL_PATHS = ("/chat/completions", "/responses", "/completions", "/embeddings", "/messages")
"""A POST to a path with one of these endings is a model call, on any host: private base URLs are the rule."""

# A rough size of text where nobody reports tokens: English averages about four bytes a token.
BYTES_PER_TOKEN = 4


class HttpRequest(Protocol):
    """What httpx and httpx2 requests have in common, as far as it is used here."""

    method: str
    extensions: Any

    @property
    def url(self) -> Any: ...
    @property
    def headers(self) -> Any: ...
    @property
    def content(self) -> bytes: ...


@dataclass(slots=True)
class Call:
    """One model call, however many attempts it takes."""

    endpoint: str
    """The base URL it goes to: the request's URL without the call's own path."""
    model: str
    streamed: bool
    body_bytes: int
    replayable: bool
    """False when the body is a one-shot stream, which cannot be sent a second time."""
    asks_stream_usage: bool = False
    answers: int = 1
    """How many answers are asked for (`n`); a stream is complete when each has its end."""
    account: str = field(default="", repr=False)
    """The key it is sent with, which has limits of its own; never stored or shown."""
    prompt_tokens: int = 0
    """Estimated from the body."""
    most_tokens: int | None = None
    """The longest answer that the request allows."""
    digest: bytes = b""
    """Of method, path and body: equal for equal requests. Empty where the body is not JSON."""
    deterministic: bool = False
    """Whether the same request has the same answer: embeddings, and temperature 0."""


def recognise(request: HttpRequest) -> Call | None:
    """The model call in a request, or None when it is none."""
    if request.method != "POST":
        return None
    endpoint = _endpoint_of(str(request.url))
    if endpoint is None:
        return None
    try:
        content = request.content
    # httpx.RequestNotRead and httpx2.RequestNotRead, which share no base but RuntimeError
    except RuntimeError:
        return Call(endpoint, model="", streamed=False, body_bytes=0, replayable=False, account=_account(request))
    body = _parse(content)
    return Call(
        endpoint,
        model=str(body.get("model") or ""),
        streamed=body.get("stream") is True,
        body_bytes=len(content),
        replayable=True,
        asks_stream_usage="stream_options" in body,
        answers=_count(body, "n") or 1,
        account=_account(request),
        prompt_tokens=prompt_tokens(body, len(content)),
        most_tokens=most_tokens(body),
        digest=_digest(request, content) if body else b"",
        deterministic=body.get("temperature") == 0 or "/embeddings" in request.url.path,
    )


def _digest(request: HttpRequest, content: bytes) -> bytes:
    path = request.url.raw_path
    return blake2b(b"\0".join((request.method.encode(), path, content)), digest_size=16).digest()


def _account(request: HttpRequest) -> str:
    # OpenAI and most others; Anthropic; Azure
    for name in ("authorization", "x-api-key", "api-key"):
        value = request.headers.get(name)
        if value:
            return str(value)
    return ""


@lru_cache(maxsize=1024)
def _endpoint_of(url: str) -> str | None:
    parts = urlsplit(url)
    for ending in CALL_PATHS:
        if parts.path.endswith(ending):
            port = f":{parts.port}" if parts.port else ""
            return f"{parts.scheme}://{parts.hostname}{port}{parts.path.removesuffix(ending).rstrip('/')}"
    return None


def without_stream_options(content: bytes) -> dict[str, Any]:
    """The body of a chat request without the field that some OpenAI-compatible endpoints reject."""
    body = _parse(content)
    body.pop("stream_options", None)
    return body


def _parse(content: bytes) -> dict[str, Any]:
    try:
        body = from_json(content)
    except ValueError:  # not JSON (multipart, or garbage that the endpoint will refuse by itself)
        return {}
    return body if isinstance(body, dict) else {}


# Text in a stream's event, in the dialects of chat completions, Responses and Anthropic's messages. A quote inside
# JSON text is escaped, so a key cannot be imitated by content.
_TOKEN = re.compile(
    rb'"(?:content|text|delta|reasoning|reasoning_content|refusal|arguments|partial_json|thinking)":\s*"[^"]'
    rb'|"tool_calls":\s*\[\s*\{|"type":\s*"tool_use"|"audio":\s*\{'
)
_TERMINAL = re.compile(rb'data:\s*\[DONE\]|"type":\s*"(?:message_stop|response\.(?:completed|incomplete|failed))"')
_FAILED = re.compile(rb'"type":\s*"response\.failed"')
_FINISH = re.compile(rb'"finish_reason":\s*"[^"]')
_ERROR = re.compile(rb'^data:\s*\{"error".*$|^data:.*"type":\s*"error".*$', re.MULTILINE)
_PASSING_ERROR = re.compile(rb"overloaded|rate_limit|server_error|api_error|timeout|unavailable|\b(?:429|5\d\d)\b")
_USAGE = re.compile(rb'"usage":\s*\{')
_USAGE_LINE = re.compile(rb'^data:(.*"usage":\s*\{.*)$', re.MULTILINE)


class Meter:
    """Watches the bytes of one answer go by: has a token come, is it complete, what did it cost."""

    __slots__ = (
        "_answer_bytes",
        "_call",
        "_finished",
        "_reported",
        "_tail",
        "cached_tokens",
        "complete",
        "ended",
        "error",
        "has_token",
        "input_tokens",
        "output_tokens",
        "readable",
    )

    def __init__(self, call: Call) -> None:
        self._call = call
        self._tail: list[bytes] = []
        self._reported = False
        self._answer_bytes = 0
        self._finished = 0
        self.has_token = False
        self.complete = False
        """Whether the whole answer was there, though its usage may still follow."""
        self.ended = False
        """Whether the event came that nothing follows."""
        self.readable = True
        """False for a body that should be JSON and is not."""
        self.error = b""
        """The event by which the endpoint said that it failed after its headers."""
        self.input_tokens = 0
        """Those read from the provider's prompt cache (`cached_tokens`) included."""
        self.cached_tokens = 0
        self.output_tokens = 0

    @property
    def worth_another_attempt(self) -> bool:
        """True when the stream began with an error that may pass, such as an overload, and no token."""
        return not self.has_token and _PASSING_ERROR.search(self.error) is not None

    @property
    def tokens(self) -> Tokens:
        """What the answer cost."""
        return Tokens(self.input_tokens, self.cached_tokens, self.output_tokens)

    @property
    def estimated(self) -> bool:
        """True when the answer did not report its usage."""
        return not self._reported

    def watch_stream(self, chunk: bytes) -> None:
        """Read the next bytes of a server-sent event stream (WHATWG HTML, section 9.2: events end in blank lines)."""
        self._answer_bytes += len(chunk)
        if self._tail or not chunk.endswith(b"\n"):
            self._tail.append(chunk)
            if b"\n" not in chunk:
                return
            text = b"".join(self._tail)
            cut = text.rfind(b"\n") + 1
            lines = text[:cut]
            self._tail = [text[cut:]] if cut < len(text) else []
        else:
            lines = chunk
        if not self.has_token and _TOKEN.search(lines):
            self.has_token = True
        if not self.complete:
            self._finished += len(_FINISH.findall(lines))
            # Looking for the words first saves most of the time: nearly no event holds them.
            found = _ERROR.search(lines) if b'error"' in lines else None
            found = found or (_FAILED.search(lines) if b"response.failed" in lines else None)
            if found:
                self.error = found[0]
            self.complete = bool(self.error or self._finished >= self._call.answers)
        if not self.ended and (b"[DONE]" in lines or b"message_stop" in lines or b"response." in lines):
            self.ended = _TERMINAL.search(lines) is not None
            self.complete = self.complete or self.ended
        if b'"usage":' in lines and _USAGE.search(lines):
            for found in _USAGE_LINE.finditer(lines):
                self._read_usage(_parse(found[1]))

    def end_stream(self) -> None:
        """The stream is over; its last line may lack a line end."""
        if any(self._tail):
            self.watch_stream(b"\n")
        if not self._reported:
            # A streamed token costs an event of about 200 bytes around its few letters.
            self._estimate(self._answer_bytes // 200)

    def read_body(self, content: bytes) -> None:
        """Read a whole JSON answer."""
        answer = _parse(content)
        self.readable = bool(answer)
        self.complete = self.ended = self.readable and not answer.get("error")
        self._read_usage(answer)
        if not self._reported:
            self._estimate(len(content) // BYTES_PER_TOKEN)

    def _estimate(self, output_tokens: int) -> None:
        self.input_tokens = self._call.prompt_tokens
        self.output_tokens = output_tokens

    def _read_usage(self, event: Mapping[str, Any]) -> None:
        # Anthropic reports input in message.usage at the start and output at the end; Responses in response.usage.
        for holder in (event, event.get("message"), event.get("response")):
            usage = holder.get("usage") if isinstance(holder, Mapping) else None
            if not isinstance(usage, Mapping):
                continue
            self._reported = True
            # Anthropic counts cached input apart; the others' prompt tokens include it.
            cached = _count(usage, "cache_creation_input_tokens") + _count(usage, "cache_read_input_tokens")
            self.input_tokens = max(self.input_tokens, _count(usage, "prompt_tokens", "input_tokens") + cached)
            self.output_tokens = max(self.output_tokens, _count(usage, "completion_tokens", "output_tokens"))
            self.cached_tokens = max(self.cached_tokens, _cached(usage))


def _cached(usage: Mapping[str, Any]) -> int:
    for name in ("prompt_tokens_details", "input_tokens_details"):
        details = usage.get(name)
        if isinstance(details, Mapping):
            return _count(details, "cached_tokens")
    # Anthropic; DeepSeek
    return _count(usage, "cache_read_input_tokens", "prompt_cache_hit_tokens")


def _count(usage: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and value >= 0:
            return value
    return 0
