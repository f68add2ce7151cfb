"""Routes about runs: on threads, on none, streamed, waited for, joined, cancelled."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import Field

from plait.service.bodies.fields import ThreadId
from plait.service.bodies.runs import FoundRun, RunBody, RunCreate, RunCreateStateless, RunsCancel
from plait.service.clients import EventStream, unless_gone
from plait.service.problems import Responses, documented, problem
from plait.service.routes.answers import answer
from plait.service.routes.asks import Ask, Asked
from plait.service.routes.run_answers import ended, frames, locations, modes_of, place_of, stateless_place
from plait.service.routes.service_routes import ServiceRoute
from plait.service.run_requests import requested, run_json
from plait.service.running.followers import FROM_START
from plait.service.running.requests import RunRequest
from plait.store.service.faults import ThreadNotFound
from plait.store.service.records import Access, RunRecord, RunStatus

router = APIRouter(tags=["runs"], route_class=ServiceRoute)

RunId = Annotated[UUID, Path(description="The run's UUID.")]
_BATCH = Field(min_length=1, max_length=1000)
_STREAM = 'event: metadata\ndata: {"run_id":"...","attempt":1}\n\nevent: values\ndata: {"topic":"cats"}\n\n'
_STREAMED: Responses = {
    200: {
        "description": "Server-sent events, one for each thing that happens, until the run is over.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _STREAM}},
    }
}
_WAITED: Responses = {
    200: {"description": "The state's values after the run; `__error__` or `__interrupt__` where it has them."}
}
_BODY = (400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 503)
_READ = (401, 403, 404, 422, 503)


@router.post("/threads/{thread_id}/runs", response_model=RunBody, responses=documented(*_BODY))
async def create_run(asked: Asked, thread_id: ThreadId, body: RunCreate) -> Response:
    """Begin a run on a thread, in the background."""
    run = await _started(asked, await requested(asked, body, thread_id=thread_id, way="background"))
    return answer(run_json(run), headers={"Content-Location": place_of(run)})


@router.post("/runs", response_model=RunBody, responses=documented(*_BODY))
async def create_stateless_run(asked: Asked, body: RunCreateStateless) -> Response:
    """Begin a run on a thread of its own, in the background."""
    run = await _started(asked, await requested(asked, body, thread_id=None, way="background"))
    return answer(run_json(run), headers={"Content-Location": stateless_place(run)})


@router.post("/runs/batch", response_model=list[RunBody], responses=documented(*_BODY))
async def create_batch(asked: Asked, body: Annotated[list[RunCreateStateless], _BATCH]) -> Response:
    """Begin several stateless runs, in the background; all are checked before the first is begun."""
    requests = [await requested(asked, one, thread_id=None, way="background") for one in body]
    asked.service.runner.check_room(asked.caller.client, len(requests))
    return answer([run_json(await _started(asked, request)) for request in requests])


@router.post("/threads/{thread_id}/runs/stream", responses={**documented(*_BODY), **_STREAMED})
async def stream_run(asked: Asked, thread_id: ThreadId, body: RunCreate) -> Response:
    """Begin a run on a thread and stream what it does."""
    request = await requested(asked, body, thread_id=thread_id, way="stream")
    run = await _started(asked, request)
    return _streamed(asked, run, place_of(run), cancel=request.cancel_on_disconnect, after=FROM_START)


@router.post("/runs/stream", responses={**documented(*_BODY), **_STREAMED})
async def stream_stateless_run(asked: Asked, body: RunCreateStateless) -> Response:
    """Begin a run on a thread of its own and stream what it does."""
    request = await requested(asked, body, thread_id=None, way="stream")
    run = await _started(asked, request)
    return _streamed(asked, run, stateless_place(run), cancel=request.cancel_on_disconnect, after=FROM_START)


@router.post("/threads/{thread_id}/runs/wait", responses={**documented(*_BODY), **_WAITED})
async def wait_for_run(asked: Asked, request: Request, thread_id: ThreadId, body: RunCreate) -> Response:
    """Begin a run on a thread and answer with its state when it is over."""
    wanted = await requested(asked, body, thread_id=thread_id, way="wait")
    return await _waited(asked, request, wanted)


@router.post("/runs/wait", responses={**documented(*_BODY), **_WAITED})
async def wait_for_stateless_run(asked: Asked, request: Request, body: RunCreateStateless) -> Response:
    """Begin a run on a thread of its own and answer with its state when it is over."""
    return await _waited(asked, request, await requested(asked, body, thread_id=None, way="wait"))


@router.post("/runs/cancel", status_code=204, responses=documented(401, 403, 404, 413, 415, 422, 503))
async def cancel_runs(
    asked: Asked, body: RunsCancel, action: Annotated[Literal["interrupt", "rollback"], Query()] = "interrupt"
) -> Response:
    """Cancel several runs."""
    access = await asked.access("threads", "update", {"thread_id": UUID(body.thread_id)} if body.thread_id else {})
    store = asked.service.store
    if body.status is not None:
        found = await store.runs.open(access, status=None if body.status == "all" else body.status)
    else:
        each = [await store.runs.get(run_id, body.thread_id, access) for run_id in body.run_ids or ()]
        found = [run for run in each if run is not None and run.status in ("pending", "running")]
    if not found:
        raise problem(404, "No matching runs to cancel: they are over, deleted, or of another thread or owner")
    for run in found:
        await asked.service.runner.cancel(run.run_id, action=action, reason="interrupt requested via POST /runs/cancel")
    return Response(status_code=204)


@router.get("/threads/{thread_id}/runs", response_model=list[FoundRun], responses=documented(*_READ))
async def list_runs(
    asked: Asked,
    thread_id: ThreadId,
    limit: Annotated[int, Query(ge=0, le=1000, description="How many at most.")] = 10,
    offset: Annotated[int, Query(ge=0, le=2**53 - 1, description="How many to leave out first.")] = 0,
    status: Annotated[str | None, Query(description="Of this status only.")] = None,
    select: Annotated[list[str] | None, Query(description="The fields to answer; all where none.")] = None,
) -> Response:
    """List a thread's runs, the newest first."""
    access = await _readable(asked, thread_id)
    statuses: dict[str, RunStatus] = {
        "pending": "pending",
        "running": "running",
        "success": "success",
        "error": "error",
        "timeout": "timeout",
        "interrupted": "interrupted",
    }
    if limit == 0 or (status is not None and status not in statuses):
        return answer([])
    found = await asked.service.store.runs.list(
        str(thread_id), access, status=statuses[status] if status else None, limit=limit, offset=offset
    )
    rows = [run_json(run) for run in found]
    return answer([{key: row[key] for key in select if key in row} for row in rows] if select else rows)


@router.get("/threads/{thread_id}/runs/{run_id}", response_model=RunBody, responses=documented(*_READ))
async def get_run(asked: Asked, thread_id: ThreadId, run_id: RunId) -> Response:
    """Read a run."""
    return answer(run_json(await _found(asked, thread_id, run_id)))


@router.delete("/threads/{thread_id}/runs/{run_id}", status_code=204, responses=documented(*_READ))
async def delete_run(asked: Asked, thread_id: ThreadId, run_id: RunId) -> Response:
    """Delete a run with its events; one that is not over is cancelled first. The thread's state stays."""
    access = await asked.access("threads", "delete", {"thread_id": thread_id, "run_id": run_id})
    run = await asked.service.store.runs.get(str(run_id), str(thread_id), access)
    if run is None:
        raise _no_run()
    if run.status in ("pending", "running"):
        await asked.service.runner.cancel(run.run_id, reason="the run is deleted", wait=True)
    await asked.service.store.runs.delete(str(run_id), access)
    return Response(status_code=204)


@router.get("/threads/{thread_id}/runs/{run_id}/join", responses={**documented(*_READ), **_WAITED})
async def join_run(asked: Asked, request: Request, thread_id: ThreadId, run_id: RunId) -> Response:
    """Wait for a run and answer with its thread's values."""
    run = await _found(asked, thread_id, run_id)
    outcome = await unless_gone(request, asked.service.runner.outcome(run.run_id))
    return ended(run, outcome, place_of(run))


@router.get("/threads/{thread_id}/runs/{run_id}/stream", responses={**documented(*_READ), **_STREAMED})
async def join_stream(
    asked: Asked,
    thread_id: ThreadId,
    run_id: RunId,
    stream_mode: Annotated[list[str] | None, Query(description="Only these; also a list in JSON.")] = None,
    cancel_on_disconnect: Annotated[bool, Query(description="Cancel the run when this client goes away.")] = False,
    last_event_id: Annotated[str | None, Header(description="Go on behind this event; -1 for all.")] = None,
) -> Response:
    """Stream what a run does from now on, or, if it is resumable, what it did behind an event."""
    run = await _found(asked, thread_id, run_id)
    if cancel_on_disconnect:
        access = await asked.access("threads", "update", {"thread_id": thread_id, "run_id": run_id})
        if await asked.service.store.runs.get(run.run_id, run.thread_id, access) is None:
            raise _no_run()
    return _streamed(
        asked, run, place_of(run), cancel=cancel_on_disconnect, modes=modes_of(stream_mode), after=last_event_id
    )


@router.get("/runs/{run_id}/stream", responses={**documented(*_READ), **_STREAMED})
async def join_stateless_stream(
    asked: Asked,
    run_id: RunId,
    stream_mode: Annotated[list[str] | None, Query(description="Only these; also a list in JSON.")] = None,
    last_event_id: Annotated[str | None, Header(description="Go on behind this event; -1 for all.")] = None,
) -> Response:
    """The same for a stateless run; it is known until a minute after its end."""
    access = await asked.access("threads", "read", {"run_id": run_id})
    run = await asked.service.store.runs.get(str(run_id), None, access)
    if run is None:
        raise _no_run()
    return _streamed(asked, run, stateless_place(run), modes=modes_of(stream_mode), after=last_event_id)


@router.post(
    "/threads/{thread_id}/runs/{run_id}/cancel",
    responses={**documented(*_READ, 413, 415), 200: {"description": "Cancelled."}, 202: {"description": "Asked for."}},
)
async def cancel_run(
    asked: Asked,
    thread_id: ThreadId,
    run_id: RunId,
    wait: Annotated[bool, Query(description="Answer when it is over.")] = False,
    action: Annotated[
        Literal["interrupt", "rollback"], Query(description="Rollback deletes the run and what it left of its state.")
    ] = "interrupt",
) -> Response:
    """Cancel a run."""
    access = await asked.access("threads", "update", {"thread_id": thread_id, "run_id": run_id})
    run = await asked.service.store.runs.get(str(run_id), str(thread_id), access)
    if run is None or run.status not in ("pending", "running"):
        raise problem(404, "No matching runs to cancel: it is over, deleted, or of another thread or owner")
    reason = f"{action} requested via POST /threads/{{thread_id}}/runs/{{run_id}}/cancel"
    await asked.service.runner.cancel(run.run_id, action=action, reason=reason, wait=wait)
    if not wait:
        return Response(status_code=202)
    return answer({}, headers=locations(run, place_of(run), "join"))


# --- what they share -----------------------------------------------------------------------------------


async def _started(asked: Ask, request: RunRequest) -> RunRecord:
    try:
        return await asked.service.runner.start(request)
    except ThreadNotFound as error:
        raise problem(404, "Thread or assistant not found: make the thread, or give if_not_exists=create") from error


async def _waited(asked: Ask, request: Request, wanted: RunRequest) -> Response:
    run = await _started(asked, wanted)
    place = stateless_place(run) if wanted.thread_id is None else place_of(run)
    try:
        outcome = await unless_gone(request, asked.service.runner.outcome(run.run_id))
    except BaseException:
        if wanted.cancel_on_disconnect:
            await asked.service.runner.cancel(run.run_id, reason=_GONE)
        raise
    return ended(run, outcome, place)


_GONE = "client disconnected from the run stream (on_disconnect=cancel)"


def _streamed(
    asked: Ask,
    run: RunRecord,
    place: str,
    *,
    cancel: bool = False,
    modes: frozenset[str] | None = None,
    after: str | None = None,
) -> Response:
    runner = asked.service.runner

    async def left() -> None:
        if cancel:
            await runner.cancel(run.run_id, reason=_GONE)

    return EventStream(
        frames(runner.follow(run.run_id, after=after), modes), left=left, headers=locations(run, place, "stream")
    )


async def _readable(asked: Ask, thread_id: UUID) -> Access:
    access = await asked.access("threads", "read", {"thread_id": thread_id})
    if await asked.service.store.threads.get(str(thread_id), access) is None:
        raise problem(404, f"Thread with ID {thread_id} not found")
    return access


async def _found(asked: Ask, thread_id: UUID, run_id: UUID) -> RunRecord:
    access = await _readable(asked, thread_id)
    run = await asked.service.store.runs.get(str(run_id), str(thread_id), access)
    if run is None:
        raise _no_run()
    return run


def _no_run() -> Exception:
    return problem(404, "Run not found")
