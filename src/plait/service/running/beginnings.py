"""What goes into a graph: its input, config and context, and the scope that its model calls are made in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Send

from plait.branches import current_node
from plait.flow.queues import BATCH, INTERACTIVE
from plait.flow.registry import gate_for
from plait.flow.scopes import Scope
from plait.inputs import check_context
from plait.runs import default_context
from plait.schemas import read_schema
from plait.service.auth.configurables import is_reserved
from plait.service.callers import Caller
from plait.service.graphs import Graph
from plait.service.running.requests import PLAIT_MODE
from plait.settings import Settings
from plait.store.service.records import Json, RunRecord


def scope_of(run: RunRecord, settings: Settings) -> Scope:
    """The scope of its model calls: as important as the run is, beside those of other clients."""
    scope = Scope(run.run_id, gate=gate_for(settings), settings=settings, group=run.client, node=current_node)
    modes = set(cast("list[str]", run.kwargs.get("stream_mode") or []))
    scope.watched = bool(modes & {"messages", "messages-tuple", "events", PLAIT_MODE})
    scope.priority = INTERACTIVE if run.interactive else BATCH
    return scope


def command_of(command: Json) -> Command[Any]:
    """LangGraph's command from its JSON: `goto` is a node, a Send as `{"node", "input"}`, or a list of these."""
    goto = command.get("goto") or ()
    several = goto if isinstance(goto, list | tuple) else [goto]
    sends = [Send(item["node"], item.get("input")) if isinstance(item, Mapping) else item for item in several]
    update = command.get("update")
    if isinstance(update, list) and all(isinstance(item, list) and len(item) == 2 for item in update):
        update = [tuple(item) for item in update]
    return Command(update=update, resume=command.get("resume"), goto=cast("Any", sends))


def context_of(graph: Graph, kwargs: Json) -> Any:
    """What a graph gets as its context. Raises InputError where one was given that does not fit."""
    schema = graph.context_schema
    if schema is None:
        return None
    context = cast("Mapping[str, object]", kwargs.get("context") or {})
    if not context:
        return default_context(schema)
    if kwargs.get("context_given"):
        return check_context(graph, context)
    # Clients of older versions send everything in `configurable`; what the schema does not know is for other readers.
    known = read_schema(schema, strict=True).fields
    fitting = {key: value for key, value in context.items() if key in known}
    return check_context(graph, fitting) if fitting else default_context(schema)


def config_of(run: RunRecord, caller: Caller | None) -> RunnableConfig:
    """The config of a run: what was asked for, under what the service says of it and of who asked."""
    given = dict(cast("Mapping[str, Any]", run.kwargs.get("config") or {}))
    context = cast("Mapping[str, Any]", run.kwargs.get("context") or {})
    configurable = {
        **{key: value for key, value in context.items() if not is_reserved(key)},
        **(given.get("configurable") or {}),
        **cast("Mapping[str, Any]", run.kwargs.get("checkpoint") or {}),
        "thread_id": run.thread_id,
        "run_id": run.run_id,
        "graph_id": run.graph_id,
        "assistant_id": run.assistant_id,
        "langgraph_auth_user": caller.user if caller else None,
        "langgraph_auth_user_id": run.owner,
        "langgraph_auth_permissions": list(caller.permissions) if caller else [],
    }
    metadata = {
        **(given.get("metadata") or {}),
        **run.metadata,
        "run_id": run.run_id,
        "run_attempt": run.attempt,
    }
    found: RunnableConfig = {
        **cast("RunnableConfig", given),
        "configurable": configurable,
        "metadata": metadata,
        "run_id": UUID(run.run_id),
    }
    return found


async def events_of(
    graph: Graph, first: Any, config: RunnableConfig, options: Mapping[str, Any]
) -> AsyncGenerator[Any]:
    """LangChain's events of the run, with the parts that the graph streams besides."""
    root = str(config.get("run_id"))
    events = cast("AsyncGenerator[Any]", graph.astream_events(first, config, version="v2", **options))
    async with aclosing(events):
        async for event in events:
            if event["event"] == "on_chain_stream" and event["run_id"] == root:
                yield event["data"]["chunk"]
            yield dict(event)
