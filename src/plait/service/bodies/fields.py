"""What fields of several bodies share: ids, bounds, JSON objects, texts that the store can keep."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict

JsonObject = dict[str, object]
SortOrder = Literal["asc", "desc"]
IfExists = Literal["raise", "do_nothing"]

MAX_OFFSET = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly."""


class Request(BaseModel):
    """A body as it is sent: types are not converted, unknown fields are ignored as the reference does."""

    model_config = ConfigDict(strict=True, extra="ignore")


def nothing_required(schema: JsonDict) -> None:
    """For `json_schema_extra` of what a search answers: a client may have selected any of its fields."""
    schema.pop("required", None)


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError(f"must be a UUID, got {text[:60]!r}") from None


def _keepable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain NUL characters")
    return text


Uuid = Annotated[str, AfterValidator(_uuid), Field(json_schema_extra={"format": "uuid"})]
Text = Annotated[str, AfterValidator(_keepable)]


def _short(value: object) -> object:
    if isinstance(value, dict) and len(value) > _MOST:
        raise ValueError(f"expected at most {_MOST} entries, found {len(value)}")
    return value


_MOST = 1000
Few = Field(max_length=_MOST)
"""Of a list: a longer one is refused at its length, before each of its items is told of."""
Short = BeforeValidator(_short)
"""The same of an object with values of one type."""
Limit = Annotated[int, Field(ge=1, le=1000, description="How many at most.")]
Offset = Annotated[int, Field(ge=0, le=MAX_OFFSET, description="How many to leave out first.")]

AssistantId = Annotated[
    str,
    Path(description="The assistant's UUID, or the name of a workflow for the assistant that comes with it."),
]
ThreadId = Annotated[UUID, Path(description="The thread's UUID.")]
