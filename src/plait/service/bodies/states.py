"""Bodies of the routes about a thread's state and its history."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from plait.service.bodies.fields import JsonObject, Limit, Request, Short, Text

_CHECKPOINT: JsonDict = {
    "thread_id": "01a1ff08-7dd6-719c-9af0-ccf94552497f",
    "checkpoint_ns": "",
    "checkpoint_id": "1f1e5cc4-fb72-67d5-8003-3578f24b5539",
}


class CheckpointPlace(Request):
    """Where a state is kept."""

    thread_id: Text | None = Field(default=None, description="Its thread; what counts is the one in the path.")
    checkpoint_ns: Text | None = Field(default=None, description="Of a subgraph: `node` or `node:task`.")
    checkpoint_id: Text | None = Field(default=None, description="The checkpoint; the latest where there is none.")
    checkpoint_map: Annotated[dict[str, str], Short] | None = Field(
        default=None, description="By namespace, checkpoints of parents."
    )


class HistoryPlace(CheckpointPlace):
    """Before which checkpoint to begin: one as others name it, or the config of one."""

    configurable: CheckpointPlace | None = Field(default=None, description="As in a config of LangGraph.")


class StateAt(Request):
    """Which state to answer."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"checkpoint": _CHECKPOINT, "subgraphs": False}]})

    checkpoint: CheckpointPlace = Field(description="Where it is kept.")
    subgraphs: bool | None = Field(default=False, description="Whether tasks that are subgraphs show their state.")


class StateUpdate(Request):
    """What to write into a state."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"values": {"topic": "dogs"}, "as_node": "write"}]})

    values: JsonObject | list[object] | None = Field(default=None, description="What to write; the reducers apply.")
    as_node: Text | None = Field(default=None, description="Who writes; the last node where there is none.")
    checkpoint: CheckpointPlace | None = Field(default=None, description="What to branch off from.")
    checkpoint_id: Text | None = Field(default=None, description="The same, by its id alone.")


class HistorySearch(Request):
    """Which states of a thread to list, the latest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"limit": 10, "metadata": {"source": "loop"}}]})

    limit: Limit | None = Field(default=1, description="How many at most.")
    before: HistoryPlace | Text | None = Field(default=None, description="Only states before this checkpoint.")
    metadata: JsonObject | None = Field(default=None, description="What theirs must hold.")
    checkpoint: CheckpointPlace | None = Field(default=None, description="Of which namespace, or the one checkpoint.")


class Checkpoint(BaseModel):
    """Where a state is kept."""

    thread_id: str = Field(description="Its thread.")
    checkpoint_ns: str = Field(description='Of a subgraph; "" for the graph itself.')
    checkpoint_id: str | None = Field(default=None, description="Grows with time.")
    checkpoint_map: dict[str, str] | None = Field(default=None, description="By namespace, checkpoints of parents.")


class StateTask(BaseModel):
    """What runs next, or waits for an answer."""

    id: str = Field(description="Of this one execution of the node.")
    name: str = Field(description="The node.")
    path: list[object] = Field(description="How it came to run.")
    error: str | None = Field(description="What it raised.")
    interrupts: list[JsonObject] = Field(description="`id` and `value` of what waits for an answer.")
    checkpoint: Checkpoint | None = Field(description="Of a subgraph, where its state is.")
    state: ThreadState | None = Field(description="Of a subgraph, where it was asked for.")
    result: object = Field(default=None, description="What it wrote.")


class ThreadState(BaseModel):
    """A state of a thread, as one checkpoint keeps it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "values": {"topic": "cats"},
                    "next": ["write"],
                    "tasks": [],
                    "metadata": {"source": "loop", "step": 1},
                    "created_at": "2026-11-21T16:55:09.868838+00:00",
                    "checkpoint": _CHECKPOINT,
                    "parent_checkpoint": None,
                    "interrupts": [],
                    "checkpoint_id": "1f1e5cc4-fb72-67d5-8003-3578f24b5539",
                    "parent_checkpoint_id": None,
                }
            ]
        }
    )

    values: object = Field(description="What the graph's channels hold.")
    next: list[str] = Field(description="The nodes that would run next; none: it is over.")
    tasks: list[StateTask] = Field(description="Of the nodes that would run next, or ran and failed.")
    metadata: JsonObject | None = Field(description="`source`, `step`, `run_id`, ...; null where nothing is kept.")
    created_at: str | None = Field(description="When, in ISO 8601.")
    checkpoint: Checkpoint | None = Field(description="Where it is kept.")
    parent_checkpoint: Checkpoint | None = Field(description="What came before.")
    interrupts: list[JsonObject] = Field(description="All that wait for an answer.")
    checkpoint_id: str | None = Field(description="That of `checkpoint`.")
    parent_checkpoint_id: str | None = Field(description="That of `parent_checkpoint`.")


StateTask.model_rebuild()


class StateWritten(BaseModel):
    """Where the new state is kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "checkpoint": _CHECKPOINT,
                    "configurable": _CHECKPOINT,
                    "checkpoint_id": "1f1e5cc4-fb72-67d5-8003-3578f24b5539",
                }
            ]
        }
    )

    checkpoint: Checkpoint = Field(description="Where.")
    configurable: Checkpoint = Field(description="The same, under its older name.")
    checkpoint_id: str = Field(description="Its id.")
