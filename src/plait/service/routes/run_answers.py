"""How the routes about runs answer: where a run is found, how it ended, what it streams."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

from fastapi import Response

from plait.service.problems import problem
from plait.service.routes.answers import answer
from plait.service.running.requests import Outcome, Part
from plait.store.service.records import RunRecord


def place_of(run: RunRecord) -> str:
    """Where a run of a thread is found."""
    return f"/threads/{run.thread_id}/runs/{run.run_id}"


def stateless_place(run: RunRecord) -> str:
    """Where a stateless run is found."""
    return f"/runs/{run.run_id}"


def locations(run: RunRecord, place: str, way: Literal["join", "stream"]) -> dict[str, str]:
    """The headers by which clients find a run again."""
    # A stateless run is waited for again on its thread, which is there for as long.
    again = place_of(run) if way == "join" else place
    return {"Location": f"{again}/{way}", "Content-Location": again}


def ended(run: RunRecord, outcome: Outcome | None, place: str) -> Response:
    """The answer of a wait: the values, with `__interrupt__` where it stopped, or `__error__` alone."""
    headers = locations(run, place, "join")
    if outcome is None:
        return answer({"__error__": {"error": "HTTPException", "message": "404: Run not found"}}, headers=headers)
    if outcome.status in ("error", "timeout"):
        return answer({"__error__": outcome.error}, headers=headers)
    values = outcome.values
    if outcome.interrupts:
        values = {**(values if isinstance(values, dict) else {}), "__interrupt__": list(outcome.interrupts)}
    return answer(values, headers=headers)


async def frames(parts: AsyncGenerator[list[Part]], modes: frozenset[str] | None) -> AsyncGenerator[bytes]:
    """The events as server-sent ones, those of these modes alone."""
    async with aclosing(parts):
        async for some in parts:
            found = b"".join(_frame(part) for part in some if modes is None or _mode(part.event) in modes)
            if found:
                yield found


def _frame(part: Part) -> bytes:
    behind = b"id: %b\r\n" % part.id.encode() if part.id else b""
    return b"event: %b\r\ndata: %b\r\n%b\r\n" % (part.event.encode(), part.data, behind)


def _mode(event: str) -> str:
    return event.partition("|")[0].partition("/")[0]


def modes_of(given: list[str] | None) -> frozenset[str] | None:
    """The modes that a query asks for; None for all. Raises HTTPException (422).

    Python clients repeat the parameter, or leave it empty; JavaScript ones send a list in JSON.
    """
    named = [one for one in given or () if one]
    if not named:
        return None
    found: list[str] = []
    for one in named:
        if one.startswith("["):
            try:
                found += [str(mode) for mode in json.loads(one)]
            except (ValueError, RecursionError) as error:
                raise problem(
                    422, f"stream_mode: expected names or a list of them in JSON, found {one[:100]!r}"
                ) from error
        else:
            found.append(one)
    return frozenset("messages" if mode == "messages-tuple" else mode for mode in found) | {"error"}
