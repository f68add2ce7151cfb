"""`POST /generate`: run a workflow with one request, for people with curl."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from plait.errors import PlaitError
from plait.flow.usage import Tokens
from plait.inputs import check_inputs
from plait.service.bodies.generate import GenerateBody, Generated, GenerateProblem
from plait.service.clients import EventStream, event
from plait.service.json_texts import dumps, loads, plain
from plait.service.outcomes import succeeded
from plait.service.problems import documented
from plait.service.routes.asks import Ask, Asked
from plait.service.routes.service_routes import ServiceRoute
from plait.service.running.requests import Outcome
from plait.service.single_runs import Asking, SingleRun, begin, leave, parts_of, wait

router = APIRouter(tags=["generate"], route_class=ServiceRoute)

_EVENTS = frozenset({"token", "update", "custom", "usage", "error", "end"})
_STREAM = (
    'event: token\ndata: {"type":"token","text":"Once","branch":"write","label":"write","message_id":"..."}\n\n'
    'event: end\ndata: {"type":"end","status":"success","outputs":{"story":"Once ..."}}\n\n'
)
_FAILURES = {
    status: {**said, "model": GenerateProblem}
    for status, said in documented(400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 502, 503, 504).items()
}


@router.post(
    "/generate",
    summary="Run a workflow",
    response_model=Generated,
    responses={
        200: {
            "description": "The outputs as JSON; or, with `Accept: text/event-stream`, the run's events as they come.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _STREAM}},
        },
        **_FAILURES,
    },
)
async def generate(asked: Asked, request: Request, body: GenerateBody) -> Response:
    """Run a workflow and answer with its outputs, or stream what it does.

    With `Accept: text/event-stream` the answer is a stream of `token`, `update`, `custom`, `usage`, `error` and `end`
    events, each with a JSON object that names the branch it comes from; `end` is the last and holds the outputs.

    A client that goes away cancels the run. A workflow that stops to ask something (`interrupt()`) is a 409 with the
    questions; with a `thread_id` its state is kept and `POST /threads/{thread_id}/runs/wait` resumes it.
    """
    began = time.monotonic()
    streamed = wants_stream(request.headers.get("accept", ""))
    asking = Asking(
        body.workflow,
        body.context,
        streamed,
        body.thread_id,
        {} if body.max_concurrency is None else {"max_concurrency": body.max_concurrency},
    )
    single = await begin(asked, asking, lambda graph: plain(check_inputs(graph, body.inputs, workflow=body.workflow)))
    if streamed:
        headers = {"x-run-id": single.run_id}
        return EventStream(_events(asked, single, body), left=lambda: leave(asked, single), headers=headers)
    try:
        outcome = await wait(asked, request, single.run_id, timeout_s=body.timeout_s)
        if outcome is not None and outcome.interrupts:
            return _interrupted(outcome, body)
        return _generated(single, succeeded(outcome, single.failure, asked.service.clean), time.monotonic() - began)
    except HTTPException as error:
        return _failed(error, single.run_id)


def wants_stream(accept: str) -> bool:
    """Whether an Accept header prefers events: named, and JSON not named with the same or a higher quality."""
    events = json = 0.0
    for item in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = next((_number(p[2:]) for p in parameters if p.startswith("q=")), 1.0)
        if kind == "text/event-stream":
            events = max(events, quality)
        elif kind == "application/json":
            json = max(json, quality)
    return events > json


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _generated(single: SingleRun, outcome: Outcome, duration_s: float) -> Response:
    answer = {
        "run_id": outcome.run_id,
        "outputs": single.outputs(outcome.values),
        "usage": _usage(outcome.usage) if outcome.usage else None,
        "duration_s": round(duration_s, 6),
        "timings": outcome.timings,
    }
    return Response(dumps(answer), media_type="application/json")


def _usage(stored: Mapping[str, Any]) -> dict[str, object]:
    """As in the events, and what it cost."""
    kept = {name: value for name, value in stored.items() if name not in ("models", "model_calls")}
    tokens = {model: dict(zip(Tokens._fields, counts, strict=True)) for model, counts in stored["models"].items()}
    return {**kept, "models": stored["model_calls"], "tokens": tokens}


def _failed(error: HTTPException, run_id: str) -> Response:
    body = {"detail": error.detail, "run_id": run_id}
    return JSONResponse(body, error.status_code, dict(error.headers or {}))


def _interrupted(outcome: Outcome, body: GenerateBody) -> Response:
    if body.thread_id is not None:
        how = f'resume it with POST /threads/{body.thread_id}/runs/wait and {{"command": {{"resume": ...}}}}'
    else:
        how = 'nothing of it is kept: send a "thread_id" (any UUID) with the request to be able to answer'
    answer = {
        "detail": f"the workflow asks something before it goes on: {how}",
        "run_id": outcome.run_id,
        "thread_id": str(body.thread_id) if body.thread_id else None,
        "interrupts": list(outcome.interrupts),
    }
    return Response(dumps(answer), 409, media_type="application/json")


async def _events(asked: Ask, single: SingleRun, body: GenerateBody) -> AsyncIterator[bytes]:
    expired = asyncio.Event()

    async def expire(seconds: float) -> None:
        await asyncio.sleep(seconds)
        expired.set()
        await asked.service.runner.cancel(single.run_id, reason="timeout_s is over")

    # Its own task: a timeout around this generator could not span its yields.
    timer = asyncio.create_task(expire(body.timeout_s)) if body.timeout_s else None
    end: dict[str, object] | None = None
    try:
        async for part in parts_of(asked, single):
            said = loads(part.data)
            kind = said.get("type") or part.event
            if kind == "end":
                end = said
            elif part.event == "error":  # nothing of the run's own, which says so itself
                yield event("error", dumps({"type": "error", "branch": "", "label": "", **said}))
            elif kind in _EVENTS:
                yield event(kind, part.data)
        for name, last in _ending(end or _cut_off(single), body, expired=expired.is_set()):
            yield event(name, dumps(last))
    except PlaitError as error:
        yield event("error", dumps({"type": "error", "error": type(error).__name__, "message": str(error)}))
    finally:
        if timer is not None:
            timer.cancel()


def _cut_off(single: SingleRun) -> dict[str, object]:
    """The end of a run that was cancelled, which does not say so itself."""
    usage = single.outcome.usage if single.outcome else None
    end = {"type": "end", "branch": "", "label": "", "run_id": single.run_id, "status": "interrupted"}
    return {**end, "outputs": None, "usage": _usage(usage) if usage else None, "interrupts": []}


def _ending(end: dict[str, object], body: GenerateBody, *, expired: bool) -> Iterator[tuple[str, dict[str, object]]]:
    """The last events."""
    said = {"branch": "", "label": ""}
    if expired and end["status"] == "interrupted":
        late = f"the run did not finish within {body.timeout_s:g} s and was cancelled"
        yield "error", {"type": "error", **said, "error": "RunTimeout", "message": late}
        end["status"] = "timeout"
    yield "usage", {"type": "usage", **said, "usage": end.get("usage")}
    yield "end", {**end, "thread_id": str(body.thread_id) if body.thread_id else None}
