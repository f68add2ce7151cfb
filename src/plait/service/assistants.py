"""Assistants as the routes know them: found by UUID or by a workflow's name, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastapi import HTTPException
from langgraph.channels.base import BaseChannel
from pydantic import BaseModel, create_model

from plait.service.auth.configurables import checked_configurable, is_reserved
from plait.service.graphs import Graph, assistant_id
from plait.service.problems import problem
from plait.service.snapshots import iso
from plait.store.service.records import SYSTEM, Access, AssistantRecord

if TYPE_CHECKING:
    from plait.service.routes.asks import Ask


async def resolve(asked: Ask, assistant: str) -> AssistantRecord:
    """The assistant that a run asks for, by its UUID or its workflow's name.

    Those that come with the app are everybody's; others are seen as Auth handlers let the caller read assistants.
    Raises HTTPException: 404 for a UUID that the caller sees nothing of, 422 for what is no UUID, with all workflows.
    """
    found_id = identified(asked, assistant)
    if found_id in _own(asked):
        return await _system(asked, found_id)
    access = await asked.access("assistants", "read", {"assistant_id": UUID(found_id)})
    found = await asked.service.store.assistants.get(found_id, access)
    if found is None:
        raise missing(found_id)
    return found


async def seen(asked: Ask, assistant: str) -> AssistantRecord:
    """The same for looking at it: 404 for a UUID that the caller sees nothing of, 422 for what is no UUID."""
    found_id = identified(asked, assistant)
    access = await asked.access("assistants", "read", {"assistant_id": UUID(found_id)})
    found = await asked.service.store.assistants.get(found_id, access)
    if found is None:
        raise missing(found_id)
    return found


def identified(asked: Ask, assistant: str) -> str:
    """The UUID of an assistant that is named by it or by a workflow's name. Raises HTTPException (422)."""
    if assistant in asked.service.graphs.names:
        return assistant_id(assistant)
    try:
        return str(UUID(assistant))
    except ValueError:
        raise _unknown(asked, assistant) from None


def missing(found_id: str) -> HTTPException:
    """A 404 for an assistant."""
    return problem(404, f"Assistant {found_id} not found: POST /assistants/search lists those you may see")


def check_graph(asked: Ask, graph_id: str) -> None:
    """Raises HTTPException (404) for what is no workflow of the app."""
    if graph_id not in asked.service.graphs.names:
        raise problem(404, f"Graph {graph_id[:100]!r} not found. Expected one of: {sorted(asked.service.graphs.names)}")


def check_steps(asked: Ask, config: Mapping[str, object]) -> None:
    """Raises HTTPException (422) where a config, of a run or an assistant, asks for more steps than the service lets.

    To be asked of what an assistant and a run come to: either may hold it.
    """
    limit, most = config.get("recursion_limit"), asked.service.options.max_recursion
    if limit is None or (isinstance(limit, int) and not isinstance(limit, bool) and 1 <= limit <= most):
        return
    raise problem(422, f"config.recursion_limit: expected a whole number from 1 to {most}, found {str(limit)[:60]}")


def settled(
    config: Mapping[str, object] | None, context: Mapping[str, object] | None
) -> tuple[dict[str, object], dict[str, object]]:
    """Config and context as they are kept: `config.configurable` and the context are two names of one thing.

    Raises HTTPException: 400 where both are given, 422 where `configurable` is no object.
    """
    kept = dict(config or {})
    given = kept.get("configurable")
    if given is None:
        kept.pop("configurable", None)
        # Nodes of older graphs read their context there; what the service sets there stays its own.
        same = {key: value for key, value in (context or {}).items() if not is_reserved(key)}
        return ({**kept, "configurable": same} if same else kept), dict(context or {})
    if not isinstance(given, dict):
        raise problem(422, f"config.configurable: expected an object, found {type(given).__name__}")
    if given and context:
        raise problem(
            400,
            "Cannot specify both configurable and context: context is what replaces configurable, so leave that out",
        )
    own = checked_configurable(given)
    kept["configurable"] = own
    return kept, dict(context or own)


def assistant_json(record: AssistantRecord) -> dict[str, object]:
    """The assistant as the API shows it."""
    return {**version_json(record), "updated_at": iso(record.updated_at)}


def version_json(record: AssistantRecord) -> dict[str, object]:
    """One of its versions."""
    return {
        "assistant_id": record.assistant_id,
        "graph_id": record.graph_id,
        "config": dict(record.config),
        "context": dict(record.context),
        "metadata": dict(record.metadata),
        "name": record.name,
        "created_at": iso(record.created_at),
        "version": record.version,
        "description": record.description,
    }


def schemas_of(graph: Graph) -> dict[str, object]:
    """The JSON schemas of a graph; None for types that have none."""
    context = _schema(graph.get_context_jsonschema)
    return {
        "input_schema": _schema(graph.get_input_jsonschema),
        "output_schema": _schema(graph.get_output_jsonschema),
        "state_schema": _schema(lambda: _state_schema(graph)),
        "config_schema": context or {},
        "context_schema": context,
    }


async def drawing_of(graph: Graph, xray: int | bool) -> dict[str, object]:
    """What a picture of the graph shows, without the Python paths of what its nodes run."""
    drawn = (await graph.aget_graph(xray=xray)).to_json()
    return {"nodes": [_node(node) for node in drawn["nodes"]], "edges": drawn["edges"]}


def _node(node: Mapping[str, object]) -> dict[str, object]:
    data = node.get("data")
    if not isinstance(data, dict):
        return dict(node)
    return {**node, "data": {key: value for key, value in data.items() if key != "id"}}


def _schema(make: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    try:
        return make()
    except Exception:  # noqa: BLE001 - the state's types are the workflow's: pydantic and they raise what they like
        return None


def _state_schema(graph: Graph) -> dict[str, Any]:
    channels = {name: graph.channels[name] for name in graph.stream_channels_list}
    fields: dict[str, Any] = {
        name: (channel.UpdateType, None) for name, channel in channels.items() if isinstance(channel, BaseChannel)
    }
    made: type[BaseModel] = create_model(graph.get_name("State"), **fields)
    return made.model_json_schema()


def _own(asked: Ask) -> set[str]:
    return {assistant_id(name) for name in asked.service.graphs.names}


async def _system(asked: Ask, found_id: str) -> AssistantRecord:
    found = await asked.service.store.assistants.get(found_id, Access(SYSTEM))
    if found is not None:
        return found
    # Somebody who may has deleted it: its workflow is there all the same.
    return next(one for one in asked.service.graphs.assistants() if one.assistant_id == found_id)


def _unknown(asked: Ask, assistant: str) -> HTTPException:
    names = ", ".join(asked.service.graphs.names)
    return problem(
        422,
        f"Invalid assistant: {assistant[:100]!r}. Must be either:\n- A valid assistant UUID, or\n"
        f"- One of the registered graphs: {names}",
    )
