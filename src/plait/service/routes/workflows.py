"""Routes for people: the workflows with their inputs, the latest runs, what is learnt of limits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from langgraph.pregel import Pregel
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, TypeAdapter

from plait.errors import PlaitError
from plait.flow.budget_places import read_budget
from plait.flow.known_limits import Known, known_limits
from plait.flow.registry import gate_for
from plait.inputs import InputField, input_fields, input_json_schemas
from plait.masking import masked
from plait.schemas import Schema, read_schema
from plait.service.problems import documented
from plait.service.routes.asks import Ask, Asked
from plait.service.routes.service_routes import ServiceRoute
from plait.settings import Settings
from plait.store.service.records import Access, RunRecord, RunStatus

router = APIRouter(tags=["plait"], route_class=ServiceRoute)
"""To be included before the routes of runs: `/runs/recent` would else be a run of that id."""

Graph = Pregel[Any, Any, Any, Any]
JsonSchema = dict[str, Any]

_HANDLER = "__error_handler__"
_EXAMPLE: JsonSchema = {
    "name": "story",
    "description": "Write a short story about a topic",
    "input_schema": {
        "type": "object",
        "properties": {"topic": {"type": "string", "minLength": 1, "description": "what the story is about"}},
        "required": ["topic"],
    },
    "context_schema": None,
    "fields": [{"name": "topic", "type": "str", "required": True, "description": "what the story is about"}],
    "nodes": ["write"],
}


class FieldInfo(BaseModel):
    """One input, or one value of the context."""

    name: str
    type: str = Field(description="Short: `str`, `list[str]`, `int | None`.")
    required: bool
    default: str | None = Field(default=None, description="As Python writes it; null where there is none.")
    description: str = ""


class WorkflowInfo(BaseModel):
    """A workflow and what it takes."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: str
    description: str = ""
    input_schema: JsonSchema = Field(default_factory=dict, description="JSON schema of the input.")
    context_schema: JsonSchema | None = Field(
        default=None, description="JSON schema of the context; null: it has none."
    )
    fields: list[FieldInfo] = Field(default_factory=list, description="The inputs, in order.")
    context_fields: list[FieldInfo] = Field(default_factory=list)
    plain: bool = Field(default=False, description="Whether it takes one value instead of inputs by name.")
    nodes: list[str] = Field(default_factory=list, description="Its nodes, from the first to the last.")
    error: str | None = Field(default=None, description="Why it cannot be loaded.")


class RecentRun(BaseModel):
    """A run in short; `GET /threads/{thread_id}/runs/{run_id}` has the whole."""

    run_id: str
    thread_id: str
    workflow: str
    status: RunStatus
    started_at: datetime
    duration_s: float | None = Field(description="With the wait for its turn; null while it is not over.")
    usage: dict[str, Any] | None = Field(description="Model calls and tokens, when it is over.")
    timings: dict[str, Any] | None = Field(description="By node, where the time of its model calls went.")
    cost_usd: float | None = Field(description="Null where a price is not known.")
    error: dict[str, Any] | None = Field(description="`error` and `message` of a run that failed.")
    waits: bool = Field(description="Whether it stopped at an interrupt that waits for an answer.")


class RecentRuns(BaseModel):
    """The newest runs first."""

    runs: list[RecentRun]


class LaneInfo(BaseModel):
    """What this server itself sends to one endpoint and model."""

    name: str
    model: str
    in_flight: int
    waiting: int
    cause: str | None = Field(description="What the waiting calls wait for.")


class LimitsFound(BaseModel):
    """`known` is shared by all plait processes of the host and user, `here` is of this process."""

    known: list[Known]
    here: list[LaneInfo]


@router.get("/workflows", responses=documented(401, 403, 503))
async def list_workflows(asked: Asked) -> list[WorkflowInfo]:
    """The app's workflows with the JSON schemas of their inputs, in the order of langgraph.json."""
    await asked.access("assistants", "search")
    return [await _workflow(asked, name) for name in asked.service.graphs.names]


@router.get("/runs/recent", responses=documented(401, 403, 422, 503))
async def list_recent_runs(asked: Asked, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> RecentRuns:
    """The newest runs of all threads that the caller may see."""
    access = await asked.access("threads", "search", {"limit": limit})
    found = await asked.service.store.runs.recent(access, limit=limit)
    waiting = await _waiting(asked, found, access)
    return RecentRuns(runs=[_recent(run, waits=run.run_id in waiting) for run in found])


@router.get("/limits", responses=documented(401, 403, 503))
async def list_limits(asked: Asked) -> LimitsFound:
    """What is known of each endpoint's limits, what is in flight there, and what calls wait for."""
    settings = asked.service.settings
    known = await asyncio.to_thread(_known, settings)
    here = [
        LaneInfo(
            name=masked(lane.name),
            model=model,
            in_flight=lane.in_flight,
            waiting=lane.waiting,
            cause=lane.binding if lane.waiting else None,
        )
        for model, lane in gate_for(settings).used()
    ]
    return LimitsFound(known=known, here=here)


# --- workflows ---------------------------------------------------------------------------------------


async def _workflow(asked: Ask, name: str) -> WorkflowInfo:
    description = asked.service.app.workflows[name].description
    try:
        async with asked.service.graphs.opened(name, owner=asked.caller.identity) as graph:
            context, context_schema = _context(graph)
            fields = input_fields(graph)
            return WorkflowInfo(
                name=name,
                description=description,
                input_schema=_whole(fields, input_json_schemas(graph)) if fields else _plain(graph),
                context_schema=context_schema,
                fields=[_field(field) for field in fields],
                context_fields=context,
                plain=not fields,
                nodes=await _nodes(graph),
            )
    except PlaitError as error:
        # One broken workflow is no reason to hide the others.
        return WorkflowInfo(name=name, description=description, error=masked(str(error)))


def _field(field: InputField) -> FieldInfo:
    return FieldInfo(
        name=field.name,
        type=field.type,
        required=field.required,
        default=field.default,
        description=field.description,
    )


def _context(graph: Graph) -> tuple[list[FieldInfo], JsonSchema | None]:
    if graph.context_schema is None:
        return [], None
    schema: Schema = read_schema(graph.context_schema, strict=True)
    fields = list(schema.fields.values())
    parts = {name: _json_schema(adapter) for name, adapter in schema.adapters.items()}
    return [_field(field) for field in fields], _whole(fields, parts)


def _plain(graph: Graph) -> JsonSchema:
    """What a functional graph takes as its one value; empty where its type says nothing."""
    try:
        return graph.get_input_jsonschema()
    except Exception:  # noqa: BLE001 - the type is the workflow's: pydantic and it raise what they like
        return {}


def _json_schema(adapter: TypeAdapter[Any] | None) -> JsonSchema:
    found: JsonSchema = {}
    if adapter is not None:
        with suppress(PydanticUserError):  # some types have none
            found = adapter.json_schema()
    return found


def _whole(fields: Sequence[InputField], parts: Mapping[str, JsonSchema]) -> JsonSchema:
    """One schema of all fields: their definitions stand at the root, where their references point."""
    defs: JsonSchema = {}
    properties: JsonSchema = {}
    for field in fields:
        part = dict(parts.get(field.name, {}))
        defs.update(part.pop("$defs", {}))
        properties[field.name] = {**part, **({"description": field.description} if field.description else {})}
    found: JsonSchema = {"type": "object", "properties": properties}
    required = [field.name for field in fields if field.required]
    if required:
        found["required"] = required
    if defs:
        found["$defs"] = defs
    return found


async def _nodes(graph: Graph) -> list[str]:
    drawn = await graph.aget_graph()
    hidden = {"__start__", "__end__"}
    return [node.id for node in drawn.nodes.values() if node.id not in hidden and not node.id.startswith(_HANDLER)]


# --- runs and limits -----------------------------------------------------------------------------------


async def _waiting(asked: Ask, runs: Sequence[RunRecord], access: Access) -> set[str]:
    """Those that stopped at an interrupt: the API calls them a success, their threads say it."""
    newest: dict[str, RunRecord] = {}
    for run in runs:
        newest.setdefault(run.thread_id, run)
    asked_of = [run for run in newest.values() if run.status == "success"]
    threads = await asyncio.gather(*(asked.service.store.threads.get(run.thread_id, access) for run in asked_of))
    pairs = zip(asked_of, threads, strict=True)
    return {run.run_id for run, thread in pairs if thread and thread.status == "interrupted" and thread.interrupts}


def _recent(run: RunRecord, *, waits: bool) -> RecentRun:
    over = run.status not in ("pending", "running")
    usage = dict(run.usage) if run.usage is not None else None
    cost = usage.get("cost_usd") if usage else None
    return RecentRun(
        run_id=run.run_id,
        thread_id=run.thread_id,
        workflow=run.graph_id,
        status=run.status,
        started_at=datetime.fromtimestamp(run.created_at, UTC),
        duration_s=max(0.0, run.updated_at - run.created_at) if over else None,
        usage=usage,
        timings=dict(run.timings) if run.timings is not None else None,
        cost_usd=cost if isinstance(cost, int | float) else None,
        error=dict(run.error) if run.error is not None else None,
        waits=waits,
    )


def _known(settings: Settings) -> list[Known]:
    entries, now, wall = read_budget(settings)
    return known_limits(entries, settings, now, wall)
