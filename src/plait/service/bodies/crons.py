"""Bodies of the crons' routes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from plait.service.bodies.fields import Few, JsonObject, Limit, Offset, Request, SortOrder, Text, Uuid
from plait.service.bodies.runs import Nodes, RunConfig, RunCreate, RunCreateStateless, StreamModeName

CronField = Literal[
    "cron_id",
    "assistant_id",
    "thread_id",
    "user_id",
    "end_time",
    "schedule",
    "timezone",
    "payload",
    "next_run_date",
    "metadata",
    "on_run_completed",
    "enabled",
    "created_at",
    "updated_at",
]
CronOrderName = Literal[
    "cron_id", "assistant_id", "thread_id", "next_run_date", "end_time", "created_at", "updated_at"
]  # fmt: skip

_NEW: JsonDict = {
    "assistant_id": "story",
    "schedule": "0 7 * * 1-5",
    "timezone": "Europe/Berlin",
    "input": {"topic": "the morning"},
}
_CRON: JsonDict = {
    "cron_id": "01a1ff0c-6297-752f-9130-f98c827e7827",
    "assistant_id": "eb6db400-e3c8-5d06-a834-015cb89efe69",
    "thread_id": None,
    "user_id": "",
    "end_time": None,
    "schedule": "0 7 * * 1-5",
    "timezone": "Europe/Berlin",
    "payload": {"assistant_id": "eb6db400-e3c8-5d06-a834-015cb89efe69", "input": {"topic": "the morning"}},
    "next_run_date": "2026-11-23T06:00:00+00:00",
    "metadata": {},
    "on_run_completed": "delete",
    "enabled": True,
    "created_at": "2026-11-21T16:59:24.183764+00:00",
    "updated_at": "2026-11-21T16:59:24.183764+00:00",
}


def _moment(text: str) -> str:
    moment(text)
    return text


def moment(text: str) -> float:
    """Seconds since the epoch of a time in ISO 8601, in UTC where it says nothing else. Raises ValueError."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"expected a time such as 2030-01-31T18:00:00Z, found {text[:60]!r}") from None


def _left_out(schema: JsonDict) -> None:
    """For what may be left out and then stays as it is, whatever the field's default."""
    schema.pop("default", None)


Schedule = Annotated[
    Text, Field(max_length=200, description="Minute, hour, day of month, month, day of week, as `*/15 8-18 * * 1-5`.")
]
Timezone = Annotated[Text, Field(max_length=100)]
Moment = Annotated[Text, AfterValidator(_moment)]
Completion = Literal["delete", "keep"]


class CronCreate(RunCreateStateless):
    """A run that begins by itself, each time on a thread of its own."""

    model_config = ConfigDict(json_schema_extra={"examples": [_NEW]})

    schedule: Schedule
    timezone: Timezone | None = Field(default=None, description="Of the schedule, as Europe/Berlin; UTC if none.")
    end_time: Moment | None = Field(default=None, description="No runs after this time, in ISO 8601.")
    enabled: bool | None = Field(default=None, description="Whether it runs; true if none.")
    on_run_completed: Completion | None = Field(
        default=None, description="What happens to a run's thread; `delete` if none."
    )


class ThreadCronCreate(CronCreate, RunCreate):
    """A run that begins by itself on a thread."""


class CronPatch(Request):
    """What to change of a cron; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": False}]})

    schedule: Schedule = Field(default="", json_schema_extra=_left_out)
    timezone: Timezone | None = Field(default=None, description="Null for UTC.")
    end_time: Moment | None = Field(default=None, description="Null for none.")
    enabled: bool = Field(default=True, description="Whether it runs.", json_schema_extra=_left_out)
    on_run_completed: Completion = Field(
        default="delete", description="What happens to a run's thread.", json_schema_extra=_left_out
    )
    metadata: JsonObject | None = Field(default=None, description="Added to the cron's; its runs' in place of theirs.")
    input: object = Field(default=None, description="The workflow's input.")
    config: RunConfig | None = Field(default=None, description="LangChain's config.")
    context: JsonObject | None = Field(default=None, description="The workflow's context.")
    webhook: Text | None = Field(default=None, description="An http(s) URL that gets each run when it is over.")
    interrupt_before: Nodes | None = Field(default=None, description="Nodes to stop before.")
    interrupt_after: Nodes | None = Field(default=None, description="Nodes to stop after.")
    stream_mode: StreamModeName | Annotated[list[StreamModeName], Few] | None = Field(
        default=None, description="What to stream."
    )
    stream_subgraphs: bool | None = Field(default=None, description="Also what subgraphs stream.")
    stream_resumable: bool | None = Field(default=None, description="Keep the events, for Last-Event-ID.")
    durability: Literal["sync", "async", "exit"] | None = Field(default=None, description="When checkpoints are kept.")


class CronCount(Request):
    """Which crons to count."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"metadata": {"team": "news"}}]})

    assistant_id: Text | None = Field(default=None, description="Of this assistant; its UUID or a workflow's name.")
    thread_id: Uuid | None = Field(default=None, description="On this thread.")
    enabled: bool | None = Field(default=None, description="Those that run, or those that do not.")
    metadata: JsonObject | None = Field(default=None, description="What theirs must hold.")


class CronSearch(CronCount):
    """Which crons to list."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": True, "sort_by": "next_run_date"}]})

    limit: Limit = 10
    offset: Offset = 0
    sort_by: CronOrderName | None = Field(default=None, description="`created_at` where there is none.")
    sort_order: SortOrder | None = Field(default=None, description="`desc` where there is none.")
    select: Annotated[list[CronField], Few] | None = Field(
        default=None, description="The fields to answer; all where none."
    )


class Cron(BaseModel):
    """A run that begins by itself."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CRON]})

    cron_id: str = Field(description="Its UUID.", json_schema_extra={"format": "uuid"})
    assistant_id: str = Field(description="What it runs.")
    thread_id: str | None = Field(description="Where; null: each time on a thread of its own.")
    user_id: str = Field(description="Whose it is, and its runs are.")
    end_time: str | None = Field(description="No runs after this time.")
    schedule: str = Field(description="When it runs.")
    timezone: str | None = Field(description="Of the schedule; UTC if null.")
    payload: JsonObject = Field(description="The run it begins, as it was asked for.")
    next_run_date: str | None = Field(description="When it runs next, if it is enabled; null: never again.")
    metadata: JsonObject = Field(description="Anything to find it by; its runs have it too.")
    on_run_completed: Completion | None = Field(description="What happens to a run's thread; null for a cron on one.")
    enabled: bool = Field(description="Whether it runs.")
    created_at: str = Field(description="When, in ISO 8601.")
    updated_at: str = Field(description="When it was last changed.")


class FoundCron(BaseModel):
    """A cron that a search found, or the fields of it that were selected."""

    model_config = ConfigDict(extra="allow")
