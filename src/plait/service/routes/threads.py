"""Routes about threads: conversations and what their runs left."""

from __future__ import annotations

import time
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from langchain_core.utils.uuid import uuid7
from langgraph.types import Command, Send, StateUpdate

from plait.service.assistants import check_graph
from plait.service.bodies.fields import ThreadId
from plait.service.bodies.threads import (
    FoundThread,
    Pruned,
    StateCommand,
    Superstep,
    SuperstepUpdate,
    Thread,
    ThreadCount,
    ThreadCreate,
    ThreadPatch,
    ThreadPrune,
    ThreadSearch,
)
from plait.service.extracts import extracted, parsed
from plait.service.problems import documented, problem
from plait.service.removals import remove_thread
from plait.service.routes.answers import answer, filters_checked, page
from plait.service.routes.asks import Ask, Asked
from plait.service.routes.service_routes import ServiceRoute
from plait.service.states import found_thread, not_found, thread_json, write_supersteps
from plait.store.service.records import Access, ThreadRecord
from plait.store.service.threads import ThreadQuery

router = APIRouter(tags=["threads"], route_class=ServiceRoute)

_BODY = (413, 415, 422)
_GUARDED = (401, 403)


@router.post("/threads", response_model=Thread, responses=documented(400, *_GUARDED, 404, 409, *_BODY, 500, 503))
async def create_thread(asked: Asked, body: ThreadCreate) -> Response:
    """Begin a conversation."""
    new_id = body.thread_id or str(uuid7())
    if_exists = body.if_exists or "raise"
    value: dict[str, object] = {
        "thread_id": UUID(new_id),
        "metadata": dict(body.metadata or {}),
        "if_exists": if_exists,
    }
    if body.ttl is not None:
        value["ttl"] = body.ttl.model_dump(exclude_none=True)
    access = await asked.access("threads", "create", value)
    now = time.time()
    record = ThreadRecord(
        thread_id=new_id,
        owner=asked.caller.identity,
        metadata=_metadata(value),
        created_at=now,
        updated_at=now,
        state_updated_at=now,
    )
    steps = [_updates(step) for step in body.supersteps or ()]
    if steps:
        _check_supersteps(asked, record)
    kept = await asked.service.store.threads.create(record, if_exists=if_exists, access=access)
    if steps and kept == record:
        kept = await _with_supersteps(asked, kept, steps)
    return answer(thread_json(kept))


@router.post("/threads/search", response_model=list[FoundThread], responses=documented(*_GUARDED, *_BODY, 500, 503))
async def search_threads(asked: Asked, body: ThreadSearch) -> Response:
    """List threads, those of stateless runs left out. Headers tell whether there are more."""
    paths = parsed(body.extract or {})
    access = await _searched(asked, body, ids=body.ids, limit=body.limit, offset=body.offset)
    with filters_checked():
        found = await asked.service.store.threads.search(
            access,
            # An empty list of ids asks for no ids in particular.
            ThreadQuery(body.ids or None, body.status, body.metadata, body.values),
            limit=body.limit + 1,
            offset=body.offset,
            sort_by=body.sort_by or "updated_at",
            sort_order=body.sort_order or "desc",
        )
    rows = [thread_json(record) for record in found]
    if paths:
        rows = [{**row, "extracted": extracted(row, paths)} for row in rows]
    return page(rows, limit=body.limit, offset=body.offset, select=body.select)


@router.post("/threads/count", response_model=int, responses=documented(*_GUARDED, *_BODY, 500, 503))
async def count_threads(asked: Asked, body: ThreadCount) -> Response:
    """Count threads."""
    access = await _searched(asked, body, ids=None, limit=0, offset=0)
    with filters_checked():
        query = ThreadQuery(None, body.status, body.metadata, body.values)
        return answer(await asked.service.store.threads.count(access, query))


@router.post("/threads/prune", response_model=Pruned, responses=documented(*_GUARDED, *_BODY, 500, 503))
async def prune_threads(asked: Asked, body: ThreadPrune) -> Response:
    """Delete threads, or their history up to the latest state. Those that the caller may not see are left out."""
    pruned = 0
    for thread_id in dict.fromkeys(body.thread_ids):
        access = await asked.access("threads", "delete", {"thread_id": UUID(thread_id)})
        if body.strategy != "keep_latest":
            pruned += await remove_thread(asked, thread_id, access)
        elif await asked.service.store.threads.get(thread_id, access) is not None:
            await asked.service.saver.aprune([thread_id], strategy="keep_latest")
            pruned += 1
    return answer({"pruned_count": pruned})


@router.get("/threads/{thread_id}", response_model=Thread, responses=documented(*_GUARDED, 404, 422, 500, 503))
async def get_thread(
    asked: Asked,
    thread_id: ThreadId,
    include: Annotated[str | None, Query(description="Accepted; what there is, is always there.")] = None,
) -> Response:
    """A thread as it is now."""
    access = await asked.access("threads", "read", {"thread_id": thread_id})
    return answer(thread_json(await found_thread(asked, str(thread_id), access)))


@router.patch(
    "/threads/{thread_id}",
    response_model=Thread,
    responses={**documented(*_GUARDED, 404, *_BODY, 500, 503), 204: {"description": "As asked with Prefer"}},
)
async def patch_thread(
    asked: Asked,
    thread_id: ThreadId,
    body: ThreadPatch,
    prefer: Annotated[str | None, Header(description="`return=minimal` for an answer without a body.")] = None,
) -> Response:
    """Add to a thread's metadata."""
    value: dict[str, object] = {"thread_id": thread_id, "metadata": dict(body.metadata or {})}
    access = await asked.access("threads", "update", value)
    changed = await asked.service.store.threads.patch(str(thread_id), access, metadata=_metadata(value))
    if changed is None:
        raise not_found(str(thread_id))
    if prefer is not None and "return=minimal" in prefer.lower():
        return Response(status_code=204)
    return answer(thread_json(changed))


@router.delete("/threads/{thread_id}", status_code=204, responses=documented(*_GUARDED, 404, *_BODY, 500, 503))
async def delete_thread(asked: Asked, thread_id: ThreadId) -> Response:
    """Cancel a thread's runs and delete all of it."""
    access = await asked.access("threads", "delete", {"thread_id": thread_id})
    if not await remove_thread(asked, str(thread_id), access):
        raise not_found(str(thread_id))
    return Response(status_code=204)


@router.post(
    "/threads/{thread_id}/copy", response_model=Thread, responses=documented(*_GUARDED, 404, 409, *_BODY, 500, 503)
)
async def copy_thread(asked: Asked, thread_id: ThreadId) -> Response:
    """A new thread with what this one holds, its history included."""
    reading = await asked.access("threads", "read", {"thread_id": thread_id})
    await found_thread(asked, str(thread_id), reading)
    new_id = str(uuid7())
    value: dict[str, object] = {"thread_id": UUID(new_id), "metadata": {}, "if_exists": "raise"}
    await asked.access("threads", "create", value)
    # First the checkpoints: a thread that is there is complete.
    await asked.service.saver.acopy_thread(str(thread_id), new_id)
    made = await asked.service.store.threads.copy(str(thread_id), new_id, reading, owner=asked.caller.identity)
    if made is None:
        await asked.service.saver.adelete_thread(new_id)
        raise not_found(str(thread_id))
    if added := _metadata(value):
        made = await asked.service.store.threads.patch(new_id, metadata=added) or made
    return answer(thread_json(made))


async def _searched(asked: Ask, body: ThreadCount, *, ids: list[str] | None, limit: int, offset: int) -> Access:
    value: dict[str, object] = {
        "metadata": body.metadata or {},
        "values": body.values or {},
        "status": body.status,
        "limit": limit,
        "offset": offset,
        "ids": [UUID(one) for one in ids] if ids else None,
    }
    return await asked.access("threads", "search", value)


def _check_supersteps(asked: Ask, record: ThreadRecord) -> None:
    graph_id = record.metadata.get("graph_id")
    if not isinstance(graph_id, str):
        raise problem(
            400, "supersteps: expected metadata.graph_id to name the workflow they are for, found none: add it"
        )
    check_graph(asked, graph_id)


async def _with_supersteps(asked: Ask, record: ThreadRecord, steps: list[list[StateUpdate]]) -> ThreadRecord:
    store, saver = asked.service.store, asked.service.saver
    try:
        await write_supersteps(asked, record, steps)
    except BaseException:
        await store.threads.delete(record.thread_id)
        await saver.adelete_thread(record.thread_id)
        raise
    return await store.threads.get(record.thread_id) or record


def _updates(step: Superstep) -> list[StateUpdate]:
    return [StateUpdate(_written(update), update.as_node) for update in step.updates]


def _written(update: SuperstepUpdate) -> Any:
    if update.command is None:
        return update.values
    return Command(update=update.command.update, resume=update.command.resume, goto=_goto(update.command))


def _goto(command: StateCommand) -> list[str | Send]:
    targets = command.goto if isinstance(command.goto, list) else [command.goto]
    found: list[str | Send] = []
    for target in targets:
        if isinstance(target, str):
            found.append(target)
        elif isinstance(target, dict) and isinstance(target.get("node"), str):
            found.append(Send(target["node"], target.get("input")))
        elif target is not None:
            raise problem(422, "goto: expected a node's name, {node, input}, or a list of them, found something else")
    return found


def _metadata(value: dict[str, object]) -> dict[str, object]:
    """What an Auth handler left of the metadata."""
    found = value.get("metadata")
    return dict(found) if isinstance(found, dict) else {}
