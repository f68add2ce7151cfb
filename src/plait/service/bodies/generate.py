"""What `/generate` reads and answers."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.config import JsonDict

_EXAMPLE: JsonDict = {"workflow": "story", "inputs": {"topic": "a magical forest", "words": 120}}


class GenerateBody(BaseModel):
    """One run of a workflow."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    workflow: Annotated[str, Field(min_length=1, max_length=200, description="A name that `GET /workflows` lists.")]
    inputs: Annotated[
        dict[str, JsonValue], Field(default_factory=dict, description="By name, as the workflow's input schema says.")
    ]
    context: Annotated[
        dict[str, JsonValue] | None,
        Field(default=None, description="Values of the workflow's context, such as the model it uses."),
    ]
    max_concurrency: Annotated[
        int | None, Field(default=None, ge=1, le=100_000, description="Model calls of this run at once, at most.")
    ]
    timeout_s: Annotated[
        float | None,
        Field(
            default=None,
            gt=0,
            le=86_400,
            description="Seconds until the answer, those in the queue included; then 504.",
        ),
    ]
    thread_id: Annotated[
        UUID | None,
        Field(
            default=None,
            description="A thread to run on, made where there is none. It keeps the state, so that a workflow that "
            "stops to ask something can be resumed with `POST /threads/{thread_id}/runs/wait`.",
        ),
    ]


class Generated(BaseModel):
    """What a run gave."""

    run_id: str
    outputs: Annotated[JsonValue, Field(description="By the workflow's output schema.")]
    usage: Annotated[dict[str, JsonValue] | None, Field(description="Model calls and tokens.")]
    duration_s: Annotated[float, Field(description="Seconds from the request to the answer.")]
    timings: Annotated[
        dict[str, JsonValue] | None, Field(description="By node, where the time of its model calls went, in seconds.")
    ]


class GenerateProblem(BaseModel):
    """The body of an answer that is an error."""

    detail: Annotated[str, Field(description="What was expected, what was found, what to do.")]
    run_id: Annotated[str | None, Field(default=None, description="Of the run, if one was begun.")]
    thread_id: Annotated[str | None, Field(default=None, description="Where an interrupted run can be resumed.")]
    interrupts: Annotated[
        list[dict[str, JsonValue]] | None, Field(default=None, description="What an interrupted run asks.")
    ]
