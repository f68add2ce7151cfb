"""Bodies of the routes about the items that workflows remember over threads."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict

from plait.service.bodies.fields import Few, JsonObject, Limit, Offset, Request, Text

Label = Annotated[str, Field(pattern=r"^[^.\x00]+$", max_length=1000)]
Namespace = Annotated[list[Label], Field(min_length=1, max_length=50)]
Labels = Annotated[list[Label], Field(max_length=50)]
Key = Annotated[Text, Field(max_length=10_000, description="Its name within the namespace.")]


def _no_number(value: object) -> object:
    # To Python 0 is False; to JSON it is not.
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError("must be false or a list of paths")
    return value


_ITEM: JsonDict = {
    "namespace": ["notes", "ann"],
    "key": "first",
    "value": {"text": "likes cats"},
    "created_at": "2026-11-21T16:59:25.297286+00:00",
    "updated_at": "2026-11-21T16:59:25.297286+00:00",
}


class ItemPut(Request):
    """An item to keep, in place of one with the same name."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"namespace": ["notes", "ann"], "key": "first", "value": {"text": "likes cats"}}]
        }
    )

    namespace: Namespace = Field(description="The path it is kept under; labels without dots.")
    key: Key
    value: JsonObject = Field(description="What to keep.")
    index: Annotated[Literal[False] | Annotated[list[Text], Few] | None, BeforeValidator(_no_number)] = Field(
        default=None, description="Which fields a search by meaning reads, or false for none of them."
    )
    ttl: float | None = Field(default=None, ge=0, le=1e9, description="For how many minutes to keep it.")


class ItemDelete(Request):
    """The item to delete."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"namespace": ["notes", "ann"], "key": "first"}]})

    namespace: Namespace = Field(description="The path it is kept under.")
    key: Key


class ItemSearch(Request):
    """Which items to list."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"namespace_prefix": ["notes"], "filter": {"text": "likes cats"}}]}
    )

    namespace_prefix: Labels | None = Field(default=None, description="What their namespace begins with.")
    filter: JsonObject | None = Field(
        default=None, description='What their value must hold: `{"field": value}` or `{"field": {"$gt": value}}`.'
    )
    limit: Limit = 10
    offset: Offset = 0
    query: Text | None = Field(default=None, description="What they should be about, where the store can tell.")
    refresh_ttl: bool | None = Field(default=None, description="Whether reading an item begins its time anew.")


class NamespaceSearch(Request):
    """Which namespaces to list."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"prefix": ["notes"], "max_depth": 2}]})

    prefix: Labels | None = Field(default=None, description="What they begin with.")
    suffix: Labels | None = Field(default=None, description="What they end with.")
    max_depth: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Longer ones are cut to so many labels."
    )
    limit: Limit = 100
    offset: Offset = 0


class Item(BaseModel):
    """Something a workflow remembers over threads."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ITEM]})

    namespace: list[str] = Field(description="The path it is kept under.")
    key: str = Field(description="Its name within the namespace.")
    value: JsonObject = Field(description="What is kept.")
    created_at: str = Field(description="When, in ISO 8601.")
    updated_at: str = Field(description="When it was last put.")


class FoundItem(Item):
    """An item that a search found."""

    score: float | None = Field(default=None, description="How near it is to the query, where the store can tell.")


class FoundItems(BaseModel):
    """What a search found."""

    items: list[FoundItem] = Field(description="The nearest first where there is a query.")


class Namespaces(BaseModel):
    """Namespaces that hold items."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"namespaces": [["notes", "ann"], ["notes", "bob"]]}]})

    namespaces: list[list[str]] = Field(description="Each a path.")
