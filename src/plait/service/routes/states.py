"""Routes about a thread's state and its history."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from plait.service.bodies.fields import Text, ThreadId
from plait.service.bodies.states import (
    CheckpointPlace,
    HistoryPlace,
    HistorySearch,
    StateAt,
    StateUpdate,
    StateWritten,
    ThreadState,
)
from plait.service.problems import documented
from plait.service.routes.answers import answer
from plait.service.routes.asks import Ask, Asked
from plait.service.routes.service_routes import ServiceRoute
from plait.service.states import Page, Places, found_thread, history_of, state_of, write_state
from plait.store.service.records import ThreadRecord

router = APIRouter(tags=["threads"], route_class=ServiceRoute)

_BODY = (413, 415, 422)
_GUARDED = (401, 403)
_Subgraphs = Annotated[bool, Query(description="Whether tasks that are subgraphs show their state.")]
_CheckpointId = Annotated[Text, Path(description="The checkpoint.")]


@router.get(
    "/threads/{thread_id}/state",
    response_model=ThreadState,
    responses=documented(400, *_GUARDED, 404, 422, 500, 503),
)
async def get_thread_state(asked: Asked, thread_id: ThreadId, subgraphs: _Subgraphs = False) -> Response:
    """The latest state; an empty one where no run has been made."""
    thread = await _read(asked, thread_id)
    return answer(await state_of(asked, thread, {}, subgraphs=subgraphs))


@router.get(
    "/threads/{thread_id}/state/{checkpoint_id}",
    response_model=ThreadState,
    responses=documented(400, *_GUARDED, 404, 422, 500, 503),
)
async def get_thread_state_at(
    asked: Asked, thread_id: ThreadId, checkpoint_id: _CheckpointId, subgraphs: _Subgraphs = False
) -> Response:
    """The state that one checkpoint keeps; one without values where there is no such checkpoint."""
    thread = await _read(asked, thread_id)
    return answer(await state_of(asked, thread, {"checkpoint_id": checkpoint_id}, subgraphs=subgraphs))


@router.post(
    "/threads/{thread_id}/state/checkpoint",
    response_model=ThreadState,
    responses=documented(400, *_GUARDED, 404, *_BODY, 500, 503),
)
async def post_thread_state_at(asked: Asked, thread_id: ThreadId, body: StateAt) -> Response:
    """The same, of any namespace; the latest state where the checkpoint has no id."""
    thread = await _read(asked, thread_id)
    return answer(await state_of(asked, thread, _places(body.checkpoint), subgraphs=bool(body.subgraphs)))


@router.post(
    "/threads/{thread_id}/state",
    response_model=StateWritten,
    responses=documented(400, *_GUARDED, 404, 409, *_BODY, 500, 503),
)
async def update_thread_state(asked: Asked, thread_id: ThreadId, body: StateUpdate) -> Response:
    """Write into a state by hand, as if a node had; a run goes on from there. Not while the thread has runs."""
    access = await asked.access("threads", "update", {"thread_id": thread_id})
    thread = await found_thread(asked, str(thread_id), access)
    place = {**_places(body.checkpoint)}
    if body.checkpoint_id:
        place.setdefault("checkpoint_id", body.checkpoint_id)
    written = await write_state(asked, thread, place, body.values, body.as_node)
    kept = {"thread_id": str(thread_id), "checkpoint_ns": "", **_place_of(written)}
    return answer({"checkpoint": kept, "configurable": kept, "checkpoint_id": kept.get("checkpoint_id")})


@router.get(
    "/threads/{thread_id}/history",
    response_model=list[ThreadState],
    responses=documented(400, *_GUARDED, 404, 422, 500, 503),
)
async def get_thread_history(
    asked: Asked,
    thread_id: ThreadId,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 1,
    before: Annotated[Text | None, Query(description="Only states before this checkpoint.")] = None,
) -> Response:
    """States of a thread, the latest first."""
    thread = await _read(asked, thread_id)
    page = Page(limit, {"checkpoint_id": before} if before else None)
    return answer(await history_of(asked, thread, {}, page))


@router.post(
    "/threads/{thread_id}/history",
    response_model=list[ThreadState],
    responses=documented(400, *_GUARDED, 404, *_BODY, 500, 503),
)
async def search_thread_history(asked: Asked, thread_id: ThreadId, body: HistorySearch) -> Response:
    """The same, of any namespace and with filters on the metadata."""
    thread = await _read(asked, thread_id)
    page = Page(body.limit or 1, _before(body.before), body.metadata)
    return answer(await history_of(asked, thread, _places(body.checkpoint), page))


async def _read(asked: Ask, thread_id: object) -> ThreadRecord:
    access = await asked.access("threads", "read", {"thread_id": thread_id})
    return await found_thread(asked, str(thread_id), access)


def _places(place: CheckpointPlace | None) -> Places:
    if place is None:
        return {}
    # The thread is the one in the path, whatever the body says.
    return place.model_dump(include={"checkpoint_id", "checkpoint_ns", "checkpoint_map"}, exclude_none=True)


def _before(given: HistoryPlace | str | None) -> Places | None:
    if isinstance(given, HistoryPlace):
        return _places(given.configurable or given) or None
    return {"checkpoint_id": given} if given else None


def _place_of(written: Places) -> Places:
    return {key: written[key] for key in ("thread_id", "checkpoint_ns", "checkpoint_id") if key in written}
