"""Asks a server of the Agent Server API and keeps of its answers what two servers can be compared by."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field

import httpx

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_EVENT_ID = re.compile(r"^\d+-\d+$")

HEADERS = (
    "location",
    "content-location",
    "x-pagination-total",
    "x-pagination-next",
    "cache-control",
    "x-accel-buffering",
    "access-control-allow-origin",
)

PROSE = frozenset({"detail", "message"})
"""Texts written for people: only that there is one is compared."""

VOLATILE = frozenset({"count", "total_bytes", "bytes", "next_run_date", "timestamp"})
"""Values that depend on the moment: only their type is compared."""

OWN = frozenset(
    {
        "checkpoint_during",
        "langgraph_host",
        "langgraph_plan",
        "langgraph_request_id",
        "langgraph_version",
        "langsmith_session_name",
        "lc_versions",
        "run_attempt",
        "temporary",
        "user_id",
    }
)
"""What a server says about itself, or keeps for itself: not compared."""

OWN_PREFIXES = ("langgraph_api_", "langgraph_auth_", "ls_", "__")
WORDS = frozenset({"__interrupt__", "__error__", "__start__", "__end__"})


@dataclass(slots=True)
class Observer:
    """Plays one scenario and keeps what it saw, in order."""

    client: httpx.AsyncClient
    seen: list[dict[str, Json]] = field(default_factory=list)

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        label: str = "",
        shape_only: bool = False,
        raw: bytes | None = None,
    ) -> httpx.Response:
        """Send a request and keep its answer; without a label the answer is only given back."""
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"} if content is not None else {}
        answer = await self.client.request(method, path, content=content, headers=headers)
        if label:
            self.keep(label, f"{method} {path}", answer, shape_only=shape_only)
        return answer

    def keep(self, label: str, request: str, answer: httpx.Response, *, shape_only: bool = False) -> None:
        """Keep an answer that was had otherwise."""
        kind = answer.headers.get("content-type", "").split(";")[0]
        headers: dict[str, Json] = {name: _text(answer.headers[name]) for name in HEADERS if name in answer.headers}
        one: dict[str, Json] = {"label": label, "request": _text(request), "status": answer.status_code}
        one["headers"] = headers
        if kind == "text/event-stream":
            one["events"] = [event.kept(shape_only=shape_only) for event in events_of(answer.text)]
        elif kind == "application/json" and answer.content:
            one["body"] = reduced(answer.json(), shape_only=shape_only)
        else:
            one["body"] = "<text>" if answer.text else "<empty>"
        self.seen.append(one)

    def note(self, label: str, value: object, *, shape_only: bool = False) -> None:
        """Keep a value that was worked out from answers, or given back by an SDK."""
        plain = json.loads(json.dumps(value, default=str))
        self.seen.append({"label": label, "value": reduced(plain, shape_only=shape_only)})

    async def thread(self, body: object = None) -> str:
        """A new thread's id."""
        answer = await self.ask("POST", "/threads", body or {})
        return str(answer.json()["thread_id"])

    async def run_of(self, thread_id: str) -> str:
        """The id of the thread's newest run."""
        answer = await self.ask("GET", f"/threads/{thread_id}/runs?limit=1")
        return str(answer.json()[0]["run_id"])

    async def until(self, path: str, holds: Callable[[dict[str, Json]], bool]) -> None:
        """Ask for `path` until its JSON is as wanted; fails after 20 s."""
        async with asyncio.timeout(20):
            while not holds((await self.client.get(path)).json()):  # noqa: ASYNC110 - another process changes it
                await asyncio.sleep(0.02)

    async def opened(self, method: str, path: str, body: object = None) -> AsyncGenerator[Event, None]:
        """The events of a stream as they come; closing the generator leaves the stream."""
        async with self.client.stream(method, path, json=body) as answer:
            text = ""
            async for chunk in answer.aiter_text():
                text = (text + chunk).replace("\r\n", "\n")
                while "\n\n" in text:
                    block, text = text.split("\n\n", 1)
                    if (event := _event(block)) is not None:
                        yield event


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event."""

    name: str
    data: str
    id: str = ""

    def kept(self, *, shape_only: bool = False) -> Json:
        """What of it two servers can be compared by: its name, its data, whether it has an id."""
        data = reduced(json.loads(self.data), shape_only=shape_only) if self.data else None
        return [_text(self.name), data] if not self.id else [_text(self.name), data, _text(self.id)]


def events_of(text: str) -> list[Event]:
    """The events of a whole stream."""
    blocks = text.replace("\r\n", "\n").split("\n\n")
    return [event for block in blocks if (event := _event(block)) is not None]


def _event(block: str) -> Event | None:
    fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
    return Event(fields["event"], fields.get("data", ""), fields.get("id", "")) if "event" in fields else None


def reduced(value: Json, *, shape_only: bool = False, key: str = "") -> Json:
    """JSON without what differs between two runs of the same thing; with `shape_only`, types instead of values."""
    if isinstance(value, dict):
        return _reduced_object(value, shape_only=shape_only)
    if isinstance(value, list):
        inner = [reduced(one, shape_only=shape_only, key=key) for one in value]
        return _distinct(inner) if shape_only else inner
    if value is not None and (shape_only or key in PROSE or key in VOLATILE):
        return f"<{type(value).__name__}>"
    return _text(value) if isinstance(value, str) else value


def _reduced_object(value: Mapping[str, Json], *, shape_only: bool) -> Json:
    return {
        _text(name): reduced(inner, shape_only=shape_only, key=name)
        for name, inner in value.items()
        if name in WORDS or not (name in OWN or name.startswith(OWN_PREFIXES))
    }


def _distinct(values: list[Json]) -> list[Json]:
    found: list[Json] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _text(text: str) -> str:
    if _TIME.match(text):
        return "<time>"
    if _EVENT_ID.match(text):
        return "<event id>"
    return _ID.sub("<id>", text)
