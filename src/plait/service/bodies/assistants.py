"""Bodies of the assistants' routes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from plait.service.bodies.fields import (
    Few,
    IfExists,
    JsonObject,
    Limit,
    Offset,
    Request,
    SortOrder,
    Text,
    Uuid,
    nothing_required,
)

AssistantField = Literal[
    "assistant_id",
    "graph_id",
    "config",
    "context",
    "metadata",
    "name",
    "created_at",
    "updated_at",
    "version",
    "description",
]
AssistantOrder = Literal["assistant_id", "graph_id", "name", "created_at", "updated_at"]

_EXAMPLE: JsonDict = {
    "assistant_id": "eb6db400-e3c8-5d06-a834-015cb89efe69",
    "graph_id": "story",
    "config": {},
    "context": {},
    "metadata": {"created_by": "system"},
    "name": "story",
    "created_at": "2026-11-21T16:54:21.850391+00:00",
    "updated_at": "2026-11-21T16:54:21.850391+00:00",
    "version": 1,
    "description": "Write a short story about a topic",
}


class AssistantCreate(Request):
    """A workflow with a configuration of its own."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"graph_id": "story", "name": "kind stories", "context": {"tone": "kind"}}]}
    )

    graph_id: Text = Field(description="The workflow, by its name in langgraph.json.")
    assistant_id: Uuid | None = Field(default=None, description="Its UUID; made up where there is none.")
    config: JsonObject | None = Field(
        default=None, description="`tags`, `recursion_limit`, `configurable`, under what a run brings along."
    )
    context: JsonObject | None = Field(
        default=None, description="The static context of its runs; not together with `config.configurable`."
    )
    metadata: JsonObject | None = Field(default=None, description="Anything to find it by.")
    if_exists: IfExists | None = Field(
        default="raise", description="Whether an id that is taken is an error (409), or the answer."
    )
    name: Text | None = Field(default=None, description="For people; `Untitled` where there is none.")
    description: Text | None = Field(default=None, description="For people.")


class AssistantPatch(Request):
    """What to change; each change makes a new version."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"context": {"tone": "cold"}}]})

    graph_id: Text | None = Field(default=None, description="Another workflow.")
    config: JsonObject | None = Field(default=None, description="In place of the old one.")
    context: JsonObject | None = Field(default=None, description="In place of the old one.")
    metadata: JsonObject | None = Field(default=None, description="Added to what is there.")
    name: Text | None = Field(default=None, description="In place of the old one.")
    description: Text | None = Field(default=None, description="In place of the old one.")


class AssistantCount(Request):
    """Which assistants to count."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"graph_id": "story"}]})

    metadata: JsonObject | None = Field(default=None, description="What theirs must hold.")
    graph_id: Text | None = Field(default=None, description="Of this workflow.")
    name: Text | None = Field(default=None, description="With this in their name, upper and lower letters alike.")


class AssistantSearch(AssistantCount):
    """Which assistants to list."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"graph_id": "story", "limit": 10}]})

    limit: Limit = 10
    offset: Offset = 0
    sort_by: AssistantOrder | None = Field(default=None, description="`created_at` where there is none.")
    sort_order: SortOrder | None = Field(default=None, description="`desc` where there is none.")
    select: Annotated[list[AssistantField], Few] | None = Field(
        default=None, description="The fields to answer; all where none."
    )


class VersionSearch(Request):
    """Which versions of an assistant to list."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"limit": 10}]})

    metadata: JsonObject | None = Field(default=None, description="What theirs must hold.")
    limit: Limit = 10
    offset: Offset = 0


class VersionChoice(Request):
    """Which version becomes the current one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"version": 1}]})

    version: Annotated[int, Field(ge=1, lt=2**31, description="Its number, from 1.")]


class AssistantVersion(BaseModel):
    """A version of an assistant."""

    assistant_id: str = Field(description="Its UUID.", json_schema_extra={"format": "uuid"})
    graph_id: str = Field(description="The workflow.")
    config: JsonObject = Field(description="Under what a run brings along.")
    context: JsonObject = Field(description="The static context of its runs.")
    metadata: JsonObject = Field(description="Anything to find it by.")
    name: str = Field(description="For people.")
    created_at: str = Field(description="When, in ISO 8601.")
    version: int = Field(description="From 1.")
    description: str | None = Field(description="For people.")


class Assistant(AssistantVersion):
    """A workflow with a configuration of its own."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    updated_at: str = Field(description="When it was last changed, in ISO 8601.")


class FoundAssistant(Assistant):
    """An assistant that a search found, or the fields of it that were selected."""

    model_config = ConfigDict(json_schema_extra=nothing_required)


class GraphDrawing(BaseModel):
    """What a picture of a graph shows."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "nodes": [
                        {"id": "__start__", "type": "runnable", "data": {"name": "__start__"}},
                        {"id": "write", "type": "runnable", "data": {"name": "write"}},
                        {"id": "__end__"},
                    ],
                    "edges": [
                        {"source": "__start__", "target": "write"},
                        {"source": "write", "target": "__end__", "conditional": True},
                    ],
                }
            ]
        }
    )

    nodes: list[JsonObject] = Field(description="`id`, `type`, `data`, `metadata`.")
    edges: list[JsonObject] = Field(description="`source`, `target`, `data`, `conditional`.")


class SubgraphSchemas(BaseModel):
    """JSON schemas of a graph."""

    input_schema: JsonObject | None = Field(description="Of its input; null where it has none.")
    output_schema: JsonObject | None = Field(description="Of its output; null where it has none.")
    state_schema: JsonObject | None = Field(description="Of its state; null where it has none.")
    config_schema: JsonObject | None = Field(description="Of `config.configurable`.")
    context_schema: JsonObject | None = Field(description="Of its context; null where it has none.")


class GraphSchemas(SubgraphSchemas):
    """JSON schemas of an assistant's workflow."""

    graph_id: str = Field(description="The workflow.")
