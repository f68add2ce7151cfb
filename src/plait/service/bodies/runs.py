"""Bodies of the runs' routes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from plait.service.bodies.fields import Few, JsonObject, Request, Text, Uuid
from plait.service.bodies.threads import StateCommand

StreamModeName = Literal[
    "values", "messages", "messages-tuple", "updates", "events", "tasks", "checkpoints", "debug", "custom", "plait"
]
Nodes = Literal["*"] | Annotated[list[str], Few]

_EXAMPLE: JsonDict = {
    "assistant_id": "story",
    "input": {"topic": "a magical forest"},
    "stream_mode": ["updates", "messages-tuple"],
}
_RUN: JsonDict = {
    "run_id": "01a1ff09-3709-726a-ac4a-c0392d98dd18",
    "thread_id": "01a1ff08-7dd6-719c-9af0-ccf94552497f",
    "assistant_id": "eb6db400-e3c8-5d06-a834-015cb89efe69",
    "created_at": "2026-11-21T16:55:56.426150+00:00",
    "updated_at": "2026-11-21T16:55:57.414036+00:00",
    "status": "success",
    "metadata": {"graph_id": "story"},
    "kwargs": {"input": {"topic": "a magical forest"}},
    "multitask_strategy": "enqueue",
}


class RunConfig(Request):
    """LangChain's config of a run."""

    model_config = ConfigDict(strict=True, extra="allow")

    tags: Annotated[list[str], Few] | None = Field(default=None, description="To find it by in traces.")
    recursion_limit: int | None = Field(default=None, ge=1, description="Steps it may take.")
    max_concurrency: int | None = Field(default=None, ge=1, description="Model calls it may have in flight.")
    configurable: JsonObject | None = Field(
        default=None, description="The context, as older clients send it; keys that only the service sets are left out."
    )
    metadata: JsonObject | None = Field(default=None, description="Kept with its checkpoints.")


class CheckpointChoice(Request):
    """Where in a thread's history to go on."""

    model_config = ConfigDict(strict=True, extra="ignore")

    thread_id: Text | None = Field(default=None, description="The run's own thread, whatever is said here.")
    checkpoint_ns: Text | None = Field(default=None, description="The subgraph; empty for the graph itself.")
    checkpoint_id: Text | None = Field(default=None, description="The checkpoint; the last one if none.")
    checkpoint_map: JsonObject | None = Field(default=None, description="Of subgraphs.")


class RunCreateStateless(Request):
    """A run to begin on a thread of its own."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    assistant_id: Text = Field(description="An assistant's UUID, or the name of a workflow.")
    input: object = Field(default=None, description="The workflow's input; none goes on where the thread stands.")
    command: StateCommand | None = Field(default=None, description="In place of an input: resumes, updates, jumps.")
    config: RunConfig | None = Field(default=None, description="LangChain's config.")
    context: JsonObject | None = Field(default=None, description="The workflow's context, such as `model`.")
    metadata: JsonObject | None = Field(default=None, description="Anything to find the run by.")
    stream_mode: StreamModeName | Annotated[list[StreamModeName], Few] | None = Field(
        default=None, description="What to stream; `plait` is one of ours: typed events by branch."
    )
    stream_subgraphs: bool | None = Field(default=None, description="Also what subgraphs stream.")
    stream_resumable: bool | None = Field(default=None, description="Keep the events, for Last-Event-ID.")
    interrupt_before: Nodes | None = Field(default=None, description="Nodes to stop before.")
    interrupt_after: Nodes | None = Field(default=None, description="Nodes to stop after.")
    feedback_keys: Annotated[list[str], Few] | None = Field(
        default=None, description="Accepted; there is no feedback here."
    )
    webhook: Text | None = Field(default=None, description="An http(s) URL that gets the run when it is over.")
    on_disconnect: Literal["cancel", "continue"] | None = Field(
        default=None, description="What happens when the client goes away; `continue` if none."
    )
    on_completion: Literal["delete", "keep"] | None = Field(
        default=None, description="What happens to a stateless run's thread; `delete` if none."
    )
    after_seconds: float | None = Field(default=None, le=31_536_000, description="Begin this much later.")
    durability: Literal["sync", "async", "exit"] | None = Field(
        default=None, description="When checkpoints are kept; `async` if none."
    )
    checkpoint_during: bool | None = Field(default=None, description="Deprecated: false is durability `exit`.")
    if_not_exists: Literal["create", "reject"] | None = Field(
        default=None, description="Whether a thread is made where there is none; `reject` if none."
    )
    multitask_strategy: Literal["reject", "enqueue", "interrupt", "rollback"] | None = Field(
        default=None, description="What happens where the thread has a run already; `enqueue` if none."
    )


class RunCreate(RunCreateStateless):
    """A run to begin on a thread."""

    checkpoint: CheckpointChoice | None = Field(default=None, description="Where in the thread's history to go on.")
    checkpoint_id: Text | None = Field(default=None, description="The same, by its id.")


class RunBody(BaseModel):
    """A run."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RUN]})

    run_id: str = Field(description="Its UUID.")
    thread_id: str = Field(description="Its thread.")
    assistant_id: str = Field(description="Its assistant.")
    created_at: str = Field(description="When it was asked for.")
    updated_at: str = Field(description="When it last changed.")
    status: Literal["pending", "running", "success", "error", "timeout", "interrupted"] = Field(
        description="Where it is; one that stopped at an interrupt was a success, and its thread is interrupted."
    )
    metadata: JsonObject = Field(description="With the graph and the assistant.")
    kwargs: JsonObject = Field(description="What was asked for.")
    multitask_strategy: str = Field(description="What it did about other runs of its thread.")


class FoundRun(BaseModel):
    """A run, or those of its fields that were selected."""

    model_config = ConfigDict(extra="allow")


class RunsCancel(Request):
    """Which runs to cancel: those with a status, or some of a thread."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "pending"}]})

    status: Literal["pending", "running", "all"] | None = Field(default=None, description="All with this status.")
    thread_id: Uuid | None = Field(default=None, description="Their thread.")
    run_ids: Annotated[list[Uuid], Field(max_length=1000)] | None = Field(default=None, description="The runs.")

    @model_validator(mode="after")
    def _one_way(self) -> RunsCancel:
        by_id = self.thread_id is not None and self.run_ids is not None
        if self.status is not None and (self.thread_id is not None or self.run_ids is not None):
            raise ValueError("expected either a status, or a thread_id with run_ids, found both")
        if self.status is None and not by_id:
            raise ValueError("expected a status, or a thread_id with run_ids")
        return self
