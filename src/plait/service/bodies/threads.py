"""Bodies of the threads' routes."""

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
    Short,
    SortOrder,
    Text,
    Uuid,
    nothing_required,
)

ThreadStatusName = Literal["idle", "busy", "interrupted", "error"]
ThreadField = Literal[
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "config",
    "context",
    "status",
    "values",
    "interrupts",
    "error",
]
ThreadOrder = Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"]

_EXAMPLE: JsonDict = {
    "thread_id": "01a1ff08-7dd6-719c-9af0-ccf94552497f",
    "created_at": "2026-11-21T16:55:09.014577+00:00",
    "updated_at": "2026-11-21T16:55:09.870692+00:00",
    "state_updated_at": "2026-11-21T16:55:09.870692+00:00",
    "metadata": {"graph_id": "story", "assistant_id": "eb6db400-e3c8-5d06-a834-015cb89efe69"},
    "status": "idle",
    "config": {"configurable": {}},
    "values": {"topic": "cats", "story": "Once there was a cat."},
    "error": None,
    "interrupts": {},
}


class ThreadTtl(Request):
    """How long a thread is wanted."""

    ttl: float | None = Field(default=None, ge=0, description="In minutes.")
    strategy: Literal["delete", "keep_latest"] | None = Field(default=None, description="What is meant to happen then.")


class StateCommand(Request):
    """A `Command` of LangGraph."""

    update: JsonObject | list[object] | None = Field(default=None, description="What to write into the state.")
    resume: object = Field(default=None, description="The answer to an interrupt.")
    goto: object = Field(default=None, description="The node to go on with, or several.")


class SuperstepUpdate(Request):
    """What one node writes."""

    values: JsonObject | list[object] | None = Field(default=None, description="What to write into the state.")
    command: StateCommand | None = Field(default=None, description="In place of values.")
    as_node: Text | None = Field(default=None, description="Who writes; `__input__` for the input of a run.")


class Superstep(Request):
    """What the nodes of one step write."""

    updates: Annotated[list[SuperstepUpdate], Few] = Field(description="One for each node.")


class ThreadCreate(Request):
    """A conversation to begin."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"metadata": {"user": "ann"}}]})

    thread_id: Uuid | None = Field(default=None, description="Its UUID; made up where there is none.")
    metadata: JsonObject | None = Field(
        default=None, description="Anything to find it by; `graph_id` says whose state it holds before its first run."
    )
    if_exists: IfExists | None = Field(
        default="raise", description="Whether an id that is taken is an error (409), or the answer."
    )
    ttl: ThreadTtl | None = Field(default=None, description="Accepted; threads are kept until they are deleted.")
    supersteps: Annotated[list[Superstep], Field(max_length=1000)] | None = Field(
        default=None, description="Steps to write into its state, as if they had been run."
    )


class ThreadPatch(Request):
    """What to change of a thread."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"metadata": {"title": "about cats"}}]})

    metadata: JsonObject | None = Field(default=None, description="Added to what is there.")
    ttl: ThreadTtl | None = Field(default=None, description="Accepted; threads are kept until they are deleted.")


class ThreadCount(Request):
    """Which threads to count."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "interrupted"}]})

    metadata: JsonObject | None = Field(default=None, description="What theirs must hold.")
    values: JsonObject | None = Field(default=None, description="What their state must hold.")
    status: ThreadStatusName | None = Field(default=None, description="The status they are in.")


class ThreadSearch(ThreadCount):
    """Which threads to list."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"metadata": {"graph_id": "story"}, "limit": 10}]})

    ids: Annotated[list[Uuid], Field(max_length=1000)] | None = Field(default=None, description="Of these only.")
    limit: Limit = 10
    offset: Offset = 0
    sort_by: ThreadOrder | None = Field(default=None, description="`updated_at` where there is none.")
    sort_order: SortOrder | None = Field(default=None, description="`desc` where there is none.")
    select: Annotated[list[ThreadField], Few] | None = Field(
        default=None, description="The fields to answer; all where none."
    )
    extract: Annotated[dict[str, str], Short, Field(max_length=10)] | None = Field(
        default=None,
        description='Parts to answer under `extracted`, by name: `{"last": "values.messages[-1].content"}`.',
    )


class ThreadPrune(Request):
    """Which threads to shorten or delete."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"thread_ids": ["01a1ff08-7dd6-719c-9af0-ccf94552497f"], "strategy": "keep_latest"}]
        }
    )

    thread_ids: Annotated[list[Uuid], Field(max_length=1000, description="The threads; unknown ones are left out.")]
    strategy: Literal["delete", "keep_latest"] | None = Field(
        default="delete", description="Whether the whole thread goes, or its history up to the latest state."
    )


class Pruned(BaseModel):
    """How many threads were pruned."""

    pruned_count: int = Field(description="Of those that were asked for.")


class Thread(BaseModel):
    """A conversation: what its runs left, and the state it is in."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    thread_id: str = Field(description="Its UUID.", json_schema_extra={"format": "uuid"})
    created_at: str = Field(description="When, in ISO 8601.")
    updated_at: str = Field(description="When anything of it last changed.")
    state_updated_at: str = Field(description="When its state last changed.")
    metadata: JsonObject = Field(description="Anything to find it by, `graph_id` and `assistant_id` of its last run.")
    status: ThreadStatusName = Field(description="`busy` while a run waits or runs.")
    config: JsonObject = Field(description="Of its last run.")
    values: object = Field(description="Its state; null before the first run.")
    error: JsonObject | None = Field(description="Of its last run: `error` and `message`.")
    interrupts: JsonObject = Field(description="By task, what waits for an answer.")


class FoundThread(Thread):
    """A thread that a search found, or the fields of it that were selected."""

    model_config = ConfigDict(json_schema_extra=nothing_required)

    extracted: JsonObject | None = Field(default=None, description="What was to be extracted.")
