"""What LangSmith demands of the bodies that plait sends it, as far as the stand-in server checks."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class DatasetBody(Body):
    name: str = Field(min_length=1)
    data_type: Literal["kv", "llm", "chat"]
    extra: dict[str, JsonValue]
    transformations: None = None


class ExampleBody(Body):
    id: UUID
    dataset_id: UUID
    created_at: AwareDatetime
    inputs: dict[str, JsonValue]
    outputs: dict[str, JsonValue] | None = None
    metadata: dict[str, JsonValue] | None = None
    split: str | list[str] | None = None
    use_source_run_io: Literal[False] = False


class SessionBody(Body):
    id: UUID
    name: str = Field(min_length=1)
    description: str | None = None
    extra: dict[str, JsonValue] | None
    reference_dataset_id: UUID
    num_examples: int = Field(ge=1)
    num_repetitions: int = Field(ge=1)
    evaluator_keys: list[str] = []


class RunBody(Body):
    id: UUID
    trace_id: UUID
    parent_run_id: UUID | None = None
    dotted_order: str
    session_name: str
    name: str = Field(min_length=1)
    run_type: Literal["chain", "llm", "tool"]
    reference_example_id: UUID | None = None
    inputs: dict[str, JsonValue] = {}
    outputs: dict[str, JsonValue] | None = None
    error: str | None = None
    start_time: AwareDatetime
    end_time: AwareDatetime
    extra: dict[str, JsonValue] = {}

    def segments(self) -> list[str]:
        """The ids of the dotted order, from the root down."""
        return [segment.partition("Z")[2] for segment in self.dotted_order.split(".")]


class SourceBody(Body):
    type: Literal["model", "api"]
    metadata: dict[str, JsonValue]


class FeedbackBody(Body):
    id: UUID
    run_id: UUID | None = None
    trace_id: UUID | None = None
    session_id: UUID
    key: str = Field(min_length=1)
    score: bool | float | None = None
    value: str | None = None
    comment: str | None = None
    feedback_source: SourceBody
    start_time: AwareDatetime | None = None
    created_at: AwareDatetime
    modified_at: AwareDatetime
    extra: dict[str, JsonValue] | None = None
    extend_trace_retention: bool = True


class FeedbackPatch(Body):
    score: bool | float | None = None
    value: str | None = None
    comment: str | None = None
