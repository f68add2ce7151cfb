"""Routes about assistants: workflows with configurations of their own."""

from __future__ import annotations

import time
from typing import Annotated, cast
from uuid import UUID, uuid4

from fastapi import APIRouter, Path, Query, Response

from plait.service import assistants as known
from plait.service.assistants import assistant_json, identified, missing, seen, settled, version_json
from plait.service.bodies.assistants import (
    Assistant,
    AssistantCount,
    AssistantCreate,
    AssistantPatch,
    AssistantSearch,
    AssistantVersion,
    FoundAssistant,
    GraphDrawing,
    GraphSchemas,
    SubgraphSchemas,
    VersionChoice,
    VersionSearch,
)
from plait.service.bodies.fields import AssistantId
from plait.service.graphs import Graph
from plait.service.problems import documented, problem
from plait.service.removals import remove_threads_of
from plait.service.routes.answers import answer, filters_checked, page
from plait.service.routes.asks import Ask, Asked
from plait.service.routes.service_routes import ServiceRoute
from plait.store.service.assistants import AssistantQuery
from plait.store.service.records import SYSTEM, Access, AssistantRecord

router = APIRouter(tags=["assistants"], route_class=ServiceRoute)

_BODY = (413, 415, 422)
_GUARDED = (401, 403)


@router.post(
    "/assistants/search", response_model=list[FoundAssistant], responses=documented(*_GUARDED, 404, *_BODY, 500, 503)
)
async def search_assistants(asked: Asked, body: AssistantSearch) -> Response:
    """List assistants, those that come with the app and the caller's own. Headers tell whether there are more."""
    access = await _searched(asked, body, limit=body.limit, offset=body.offset)
    with filters_checked():
        found = await asked.service.store.assistants.search(
            access,
            AssistantQuery(body.graph_id, body.name, body.metadata),
            limit=body.limit + 1,
            offset=body.offset,
            sort_by=body.sort_by or "created_at",
            sort_order=body.sort_order or "desc",
        )
    rows = [assistant_json(record) for record in found]
    return page(rows, limit=body.limit, offset=body.offset, select=body.select)


@router.post("/assistants/count", response_model=int, responses=documented(*_GUARDED, 404, *_BODY, 500, 503))
async def count_assistants(asked: Asked, body: AssistantCount) -> Response:
    """Count assistants."""
    access = await _searched(asked, body, limit=0, offset=0)
    with filters_checked():
        query = AssistantQuery(body.graph_id, body.name, body.metadata)
        return answer(await asked.service.store.assistants.count(access, query))


@router.post("/assistants", response_model=Assistant, responses=documented(400, *_GUARDED, 404, 409, *_BODY, 500, 503))
async def create_assistant(asked: Asked, body: AssistantCreate) -> Response:
    """Give a workflow a configuration of its own."""
    known.check_graph(asked, body.graph_id)
    config, context = settled(body.config, body.context)
    known.check_steps(asked, config)
    new_id = body.assistant_id or str(uuid4())
    value: dict[str, object] = {
        "assistant_id": UUID(new_id),
        "graph_id": body.graph_id,
        "config": config,
        "context": context,
        "metadata": body.metadata or {},
        "if_exists": body.if_exists or "raise",
        "name": body.name or "Untitled",
        "description": body.description,
    }
    access = await asked.access("assistants", "create", value)
    now = time.time()
    record = AssistantRecord(
        assistant_id=new_id,
        graph_id=body.graph_id,
        name=body.name or "Untitled",
        owner=asked.caller.identity,
        description=body.description,
        config=config,
        context=context,
        metadata=_metadata(value),
        created_at=now,
        updated_at=now,
    )
    kept = await asked.service.store.assistants.create(record, if_exists=body.if_exists or "raise", access=access)
    return answer(assistant_json(kept))


@router.get("/assistants/{assistant_id}", response_model=Assistant, responses=documented(*_GUARDED, 404, 422, 500, 503))
async def get_assistant(asked: Asked, assistant_id: AssistantId) -> Response:
    """An assistant as it is now."""
    return answer(assistant_json(await seen(asked, assistant_id)))


@router.patch(
    "/assistants/{assistant_id}",
    response_model=Assistant,
    responses=documented(400, *_GUARDED, 404, *_BODY, 500, 503),
)
async def patch_assistant(asked: Asked, assistant_id: AssistantId, body: AssistantPatch) -> Response:
    """Change an assistant: a new version of it becomes the current one."""
    if body.graph_id is not None:
        known.check_graph(asked, body.graph_id)
    known.check_steps(asked, body.config or {})
    found_id = identified(asked, assistant_id)
    sent = {key: value for key, value in body.model_dump().items() if value is not None}
    value: dict[str, object] = {"assistant_id": UUID(found_id), "metadata": {}, **sent}
    access = await asked.access("assistants", "update", value)
    current = await _changeable(asked, found_id, access)
    if body.context is not None or "configurable" in (body.config or {}):
        kept = {key: one for key, one in current.config.items() if key != "configurable"}
        sent["config"], sent["context"] = settled(kept if body.config is None else body.config, body.context)
    sent["metadata"] = _metadata(value)
    changed = await asked.service.store.assistants.update(found_id, access, sent)
    if changed is None:
        raise missing(found_id)
    return answer(assistant_json(changed))


@router.delete("/assistants/{assistant_id}", status_code=204, responses=documented(*_GUARDED, 404, *_BODY, 500, 503))
async def delete_assistant(
    asked: Asked,
    assistant_id: AssistantId,
    delete_threads: Annotated[bool, Query(description="Whether the threads it last ran on go with it.")] = False,
) -> Response:
    """Delete an assistant with its versions and crons."""
    found_id = identified(asked, assistant_id)
    access = await asked.access("assistants", "delete", {"assistant_id": UUID(found_id)})
    await _changeable(asked, found_id, access)
    if not await asked.service.store.assistants.delete(found_id, access):
        raise missing(found_id)
    if delete_threads:
        await remove_threads_of(asked, found_id)
    return Response(status_code=204)


@router.get(
    "/assistants/{assistant_id}/schemas",
    response_model=GraphSchemas,
    responses=documented(*_GUARDED, 404, 422, 500, 503),
)
async def get_assistant_schemas(asked: Asked, assistant_id: AssistantId) -> Response:
    """The JSON schemas of an assistant's workflow."""
    record = await seen(asked, assistant_id)
    async with asked.service.graphs.opened(record.graph_id, owner=asked.caller.identity) as graph:
        return answer({"graph_id": record.graph_id, **known.schemas_of(graph)})


@router.get(
    "/assistants/{assistant_id}/graph",
    response_model=GraphDrawing,
    responses=documented(*_GUARDED, 404, 422, 500, 503),
)
async def get_assistant_graph(
    asked: Asked,
    assistant_id: AssistantId,
    xray: Annotated[
        str,
        Query(
            pattern="^([Tt]rue|[Ff]alse|[1-9][0-9]{0,2})$",
            description="Whether to show what is inside of subgraphs, or how many levels of it.",
        ),
    ] = "false",
) -> Response:
    """The nodes and edges of an assistant's workflow."""
    record = await seen(asked, assistant_id)
    depth = int(xray) if xray.isdigit() else xray.lower() == "true"
    async with asked.service.graphs.opened(record.graph_id, owner=asked.caller.identity) as graph:
        return answer(await known.drawing_of(graph, depth))


_Recurse = Annotated[bool, Query(description="Whether to list subgraphs of subgraphs too.")]


@router.get(
    "/assistants/{assistant_id}/subgraphs",
    response_model=dict[str, SubgraphSchemas],
    responses=documented(*_GUARDED, 404, 422, 500, 503),
)
async def get_assistant_subgraphs(asked: Asked, assistant_id: AssistantId, recurse: _Recurse = False) -> Response:
    """The JSON schemas of the workflow's subgraphs, by namespace."""
    return await _subgraphs(asked, assistant_id, None, recurse)


@router.get(
    "/assistants/{assistant_id}/subgraphs/{namespace}",
    response_model=dict[str, SubgraphSchemas],
    responses=documented(*_GUARDED, 404, 422, 500, 503),
)
async def get_assistant_subgraph(
    asked: Asked,
    assistant_id: AssistantId,
    namespace: Annotated[str, Path(description="A subgraph, `node` or `node|node`.")],
    recurse: _Recurse = False,
) -> Response:
    """The JSON schemas of the subgraphs of one namespace; an empty object where there is none."""
    return await _subgraphs(asked, assistant_id, namespace, recurse)


@router.post(
    "/assistants/{assistant_id}/versions",
    response_model=list[AssistantVersion],
    responses=documented(*_GUARDED, 404, *_BODY, 500, 503),
)
async def list_assistant_versions(asked: Asked, assistant_id: AssistantId, body: VersionSearch) -> Response:
    """The versions of an assistant, the newest first."""
    found_id = identified(asked, assistant_id)
    value: dict[str, object] = {"assistant_id": UUID(found_id), "metadata": body.metadata or {}}
    access = await asked.access("assistants", "read", value)
    with filters_checked():
        found = await asked.service.store.assistants.versions(
            found_id, access, metadata=body.metadata, limit=body.limit, offset=body.offset
        )
    if found is None:
        raise missing(found_id)
    return answer([version_json(record) for record in found])


@router.post(
    "/assistants/{assistant_id}/latest",
    response_model=Assistant,
    responses=documented(*_GUARDED, 404, *_BODY, 500, 503),
)
async def set_latest_assistant(asked: Asked, assistant_id: AssistantId, body: VersionChoice) -> Response:
    """Make one of an assistant's versions the current one."""
    found_id = identified(asked, assistant_id)
    value: dict[str, object] = {"assistant_id": UUID(found_id), "version": body.version}
    access = await asked.access("assistants", "update", value)
    await _changeable(asked, found_id, access)
    changed = await asked.service.store.assistants.set_latest(found_id, body.version, access)
    if changed is None:
        raise problem(404, f"Version {body.version} not found for assistant {found_id}")
    return answer(assistant_json(changed))


async def _searched(asked: Ask, body: AssistantCount, *, limit: int, offset: int) -> Access:
    if body.graph_id is not None:
        known.check_graph(asked, body.graph_id)
    value: dict[str, object] = {
        "graph_id": body.graph_id,
        "metadata": body.metadata or {},
        "limit": limit,
        "offset": offset,
    }
    return await asked.access("assistants", "search", value)


async def _subgraphs(asked: Ask, assistant_id: str, namespace: str | None, recurse: bool) -> Response:
    record = await seen(asked, assistant_id)
    async with asked.service.graphs.opened(record.graph_id, owner=asked.caller.identity) as graph:
        found = {
            name: known.schemas_of(cast("Graph", inner))
            async for name, inner in graph.aget_subgraphs(namespace=namespace, recurse=recurse)
        }
    return answer(found)


def _metadata(value: dict[str, object]) -> dict[str, object]:
    """What an Auth handler left of the metadata."""
    found = value.get("metadata")
    return dict(found) if isinstance(found, dict) else {}


async def _changeable(asked: Ask, found_id: str, access: Access) -> AssistantRecord:
    """The assistant as it is; 404 where the caller sees none, 403 where it is everybody's."""
    found = await asked.service.store.assistants.get(found_id, access)
    if found is None:
        raise missing(found_id)
    if found.owner == SYSTEM and access.owner not in (None, SYSTEM):
        raise problem(
            403,
            f"Assistant {found_id} comes with the app and is everybody's: make one of your own with POST /assistants",
        )
    return found
