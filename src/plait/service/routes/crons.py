"""Routes about crons: runs that begin by themselves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, HTTPException, Path, Response
from langchain_core.utils.uuid import uuid7

from plait.service.assistants import identified, resolve
from plait.service.bodies.crons import Cron, CronCount, CronCreate, CronPatch, CronSearch, FoundCron, ThreadCronCreate
from plait.service.bodies.crons import moment as seconds
from plait.service.bodies.fields import ThreadId
from plait.service.crons import CALLER, cron_json, kept_caller, next_run, request_of
from plait.service.problems import documented, problem
from plait.service.routes.answers import answer, filters_checked, page
from plait.service.routes.asks import Ask, Asked
from plait.service.routes.service_routes import ServiceRoute
from plait.service.states import found_thread
from plait.store.service.crons import CronOrder, CronQuery
from plait.store.service.records import Access, CronRecord

router = APIRouter(tags=["crons"], route_class=ServiceRoute)

CronId = Annotated[UUID, Path(description="The cron's UUID.")]
_BODY = (400, 401, 403, 404, 413, 415, 422, 500, 503)
_FOUND = (401, 403, 413, 415, 422, 500, 503)
_READ = (401, 403, 404, 422, 500, 503)

_OWN = frozenset({"schedule", "timezone", "enabled", "on_run_completed"})
_TIMES = ("schedule", "timezone", "end_time", "enabled")
_ORDERS: Mapping[str, CronOrder] = {
    "cron_id": "cron_id",
    "assistant_id": "assistant_id",
    "thread_id": "thread_id",
    "next_run_date": "next_run_at",
    "end_time": "end_time",
    "created_at": "created_at",
    "updated_at": "updated_at",
}


@router.post("/threads/{thread_id}/runs/crons", response_model=Cron, responses=documented(*_BODY))
async def create_thread_cron(asked: Asked, thread_id: ThreadId, body: ThreadCronCreate) -> Response:
    """Begin a run on a thread at the times of a schedule."""
    # A thread that is another one's is none to make, either.
    if body.if_not_exists != "create" or await asked.service.store.threads.get(str(thread_id)) is not None:
        access = await asked.access("threads", "read", {"thread_id": thread_id})
        await found_thread(asked, str(thread_id), access)
    return await _created(asked, body, str(thread_id))


@router.post("/runs/crons", response_model=Cron, responses=documented(*_BODY))
async def create_cron(asked: Asked, body: CronCreate) -> Response:
    """Begin a run at the times of a schedule, each time on a thread of its own."""
    return await _created(asked, body, None)


@router.post("/runs/crons/search", response_model=list[FoundCron], responses=documented(*_FOUND))
async def search_crons(asked: Asked, body: CronSearch) -> Response:
    """List crons. Headers tell whether there are more."""
    access = await _searched(asked, body, limit=body.limit, offset=body.offset)
    with filters_checked():
        found = await asked.service.store.crons.search(
            access,
            _query(asked, body),
            limit=body.limit + 1,
            offset=body.offset,
            sort_by=_ORDERS[body.sort_by or "created_at"],
            sort_order=body.sort_order or "desc",
        )
    return page([cron_json(cron) for cron in found], limit=body.limit, offset=body.offset, select=body.select)


@router.post("/runs/crons/count", response_model=int, responses=documented(*_FOUND))
async def count_crons(asked: Asked, body: CronCount) -> Response:
    """Count crons."""
    access = await _searched(asked, body, limit=0, offset=0)
    with filters_checked():
        return answer(await asked.service.store.crons.count(access, _query(asked, body)))


@router.get("/runs/crons/{cron_id}", response_model=Cron, responses=documented(*_READ))
async def get_cron(asked: Asked, cron_id: CronId) -> Response:
    """A cron as it is now."""
    access = await asked.access("crons", "read", {"cron_id": cron_id})
    return answer(cron_json(await _found(asked, cron_id, access)))


@router.patch("/runs/crons/{cron_id}", response_model=Cron, responses=documented(*_BODY))
async def patch_cron(asked: Asked, cron_id: CronId, body: CronPatch) -> Response:
    """Change a cron: its times, or the run it begins."""
    given = body.model_dump(exclude_unset=True)
    if not given:
        raise problem(400, "Request body cannot be empty: send the fields to change")
    value: dict[str, object] = {
        "cron_id": cron_id,
        "payload": dict(given),
        "schedule": given.get("schedule"),
        "metadata": dict(body.metadata or {}),
    }
    access = await asked.access("crons", "update", value)
    before = await _found(asked, cron_id, access)
    changes = _changes(asked, before, given, value)
    after = replace(before, **changes)  # type: ignore[arg-type]
    # A cron that cannot run any more can be turned off all the same.
    if after.enabled or given.keys() != {"enabled"}:
        if any(getattr(before, name) != getattr(after, name) for name in _TIMES):
            changes["next_run_at"] = await asyncio.to_thread(next_run, after, time.time())
        await request_of(asked.service, after)
    changed = await asked.service.store.crons.update(str(cron_id), access, changes)
    if changed is None:
        raise _none(cron_id)
    return answer(cron_json(changed))


@router.delete("/runs/crons/{cron_id}", status_code=204, responses=documented(*_READ, 413, 415))
async def delete_cron(asked: Asked, cron_id: CronId) -> Response:
    """Delete a cron; runs that it began go on."""
    access = await asked.access("crons", "delete", {"cron_id": cron_id})
    if not await asked.service.store.crons.delete(str(cron_id), access):
        raise _none(cron_id)
    return Response(status_code=204)


async def _created(asked: Ask, body: CronCreate, thread_id: str | None) -> Response:
    cron_id = str(uuid7())
    try:
        assistant = await resolve(asked, body.assistant_id)
    except HTTPException as error:
        # What is not there is 404 for a cron, as it is in the reference; for a run it is 422.
        raise problem(404 if error.status_code == 422 else error.status_code, error.detail) from error
    payload = _with_id({**body.model_dump(exclude_unset=True), "assistant_id": assistant.assistant_id}, cron_id)
    value: dict[str, object] = {
        "payload": dict(payload),
        "schedule": body.schedule,
        "cron_id": UUID(cron_id),
        "thread_id": UUID(thread_id) if thread_id else None,
        "user_id": asked.caller.identity,
        "end_time": body.end_time,
        "metadata": dict(body.metadata or {}),
    }
    await asked.access("crons", "create", value)
    now = time.time()
    cron = CronRecord(
        cron_id,
        assistant.assistant_id,
        body.schedule,
        owner=asked.caller.identity,
        thread_id=thread_id,
        payload={**payload, CALLER: kept_caller(asked.caller)},
        metadata=_metadata(value),
        timezone=body.timezone,
        end_time=seconds(body.end_time) if body.end_time else None,
        enabled=body.enabled is not False,
        on_run_completed=body.on_run_completed or "delete",
        created_at=now,
        updated_at=now,
    )
    cron = replace(cron, next_run_at=await asyncio.to_thread(next_run, cron, now))
    # As it will be asked for when its time comes: what would be refused then is refused now.
    await request_of(asked.service, cron)
    return answer(cron_json(await asked.service.store.crons.create(cron)))


def _changes(
    asked: Ask, before: CronRecord, given: Mapping[str, object], value: Mapping[str, object]
) -> dict[str, object]:
    changes: dict[str, object] = {name: given[name] for name in _OWN if name in given}
    if "end_time" in given:
        end = given["end_time"]
        changes["end_time"] = seconds(end) if isinstance(end, str) else None
    if metadata := _metadata(value):
        changes["metadata"] = {**before.metadata, **metadata}
    payload = _with_id({**before.payload, **given}, before.cron_id)
    if asked.caller.identity == before.owner:
        # A key that ended is replaced with the one that its owner has now.
        payload[CALLER] = kept_caller(asked.caller)
    return {**changes, "payload": payload}


def _with_id(payload: dict[str, object], cron_id: str) -> dict[str, object]:
    """The payload with the cron's id where a workflow finds it, in `config.configurable`."""
    config = payload.get("config")
    config = dict(config) if isinstance(config, Mapping) else {}
    configurable = config.get("configurable")
    own = dict(configurable) if isinstance(configurable, Mapping) else {}
    return {**payload, "config": {**config, "configurable": {**own, "cron_id": cron_id}}}


async def _searched(asked: Ask, body: CronCount, *, limit: int, offset: int) -> Access:
    query = _query(asked, body)
    value: dict[str, object] = {
        "assistant_id": UUID(query.assistant_id) if query.assistant_id else None,
        "thread_id": UUID(query.thread_id) if query.thread_id else None,
        "metadata": body.metadata or {},
        "limit": limit,
        "offset": offset,
    }
    return await asked.access("crons", "search", value)


def _query(asked: Ask, body: CronCount) -> CronQuery:
    assistant_id = identified(asked, body.assistant_id) if body.assistant_id is not None else None
    return CronQuery(assistant_id, body.thread_id, body.enabled, body.metadata)


async def _found(asked: Ask, cron_id: UUID, access: Access) -> CronRecord:
    found = await asked.service.store.crons.get(str(cron_id), access)
    if found is None:
        raise _none(cron_id)
    return found


def _none(cron_id: UUID) -> HTTPException:
    return problem(404, f"Cron {cron_id} not found: POST /runs/crons/search lists those you may see")


def _metadata(value: Mapping[str, object]) -> dict[str, object]:
    """What an Auth handler left of the metadata."""
    found = value.get("metadata")
    return dict(found) if isinstance(found, dict) else {}
