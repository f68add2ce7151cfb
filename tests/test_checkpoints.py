"""Checkpoints: what a workflow's schemas name comes back, a crafted one is refused before it does anything."""

from __future__ import annotations

import asyncio
import enum
import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple, TypedDict

import ormsgpack
import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel

from plait.errors import StoreError
from plait.store.checkpoints import StrictSerializer, checkpoint_serializer, schema_types


class Colour(enum.Enum):
    RED = "red"


class Place(BaseModel):
    name: str


@dataclass
class Trip:
    places: list[Place]
    colour: Colour | None = None


class Point(NamedTuple):
    x: int


class Hidden(BaseModel):
    secret: str = "s"


class Inner(TypedDict):
    point: Point


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    trips: dict[str, Trip | None]
    thing: object


def answer(state: State) -> State:
    trip = Trip([Place(name="Oslo")], Colour.RED)
    return {"messages": [AIMessage("hello", id="2")], "trips": {"a": trip}}


def build() -> StateGraph[State]:
    builder = StateGraph(State)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder


def crafted(code: int, *parts: object) -> tuple[str, bytes]:
    return "msgpack", ormsgpack.packb({"messages": [ormsgpack.Ext(code, ormsgpack.packb(parts))]})


def test_the_types_of_the_schemas_come_back_whole_through_a_graph() -> None:
    builder = build()
    graph = builder.compile(checkpointer=InMemorySaver(serde=checkpoint_serializer(builder)))
    config: RunnableConfig = {"configurable": {"thread_id": "1"}}
    graph.invoke({"messages": [HumanMessage("hi", id="1")]}, config)
    values = graph.get_state(config).values
    assert values["trips"] == {"a": Trip([Place(name="Oslo")], Colour.RED)}
    assert [type(message) for message in values["messages"]] == [HumanMessage, AIMessage]
    assert len(list(graph.get_state_history(config))) == 3


def test_types_are_found_in_nested_generics_and_in_subgraphs() -> None:
    inner = StateGraph(Inner)
    inner.add_node("stay", lambda state: state)
    inner.add_edge(START, "stay")
    outer = build()
    outer.add_node("inner", inner.compile())
    outer.add_edge("answer", "inner")
    expected = {Trip, Place, Colour, Point}
    assert expected <= set(schema_types(outer))
    assert expected <= set(schema_types(outer.compile()))
    assert Hidden not in schema_types(outer)


@pytest.mark.parametrize("code", range(6))
def test_a_checkpoint_that_would_call_something_is_refused_and_calls_nothing(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crafted_by_somebody.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    serializer = checkpoint_serializer(build())
    for module, name, argument in (("os", "getenv", "HOME"), ("os", "system", f"touch {tmp_path}/called")):
        with pytest.raises(StoreError, match=f"{module}.{name}"):
            serializer.loads_typed(crafted(code, module, name, argument, "fromisoformat"))
    with pytest.raises(StoreError, match="crafted_by_somebody"):
        serializer.loads_typed(crafted(code, "crafted_by_somebody", "x", [], "y"))
    assert not (tmp_path / "called").exists()
    assert "crafted_by_somebody" not in sys.modules


def test_a_call_hidden_inside_an_allowed_type_is_refused() -> None:
    inside = ormsgpack.Ext(0, ormsgpack.packb(("os", "getenv", "HOME")))
    with pytest.raises(StoreError, match=r"os\.getenv"):
        checkpoint_serializer(build()).loads_typed(crafted(5, Place.__module__, "Place", {"name": inside}, "x"))
    with pytest.raises(StoreError, match=r"os\.getenv"):
        checkpoint_serializer(build()).loads_typed(crafted(7, inside))


def test_the_same_checkpoint_does_call_with_the_serializer_of_langgraph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAFTED", "was called")
    data = crafted(0, "os", "getenv", "CRAFTED")
    assert JsonPlusSerializer().loads_typed(data) == {"messages": ["was called"]}


def test_a_graph_whose_stored_thread_was_crafted_raises_instead_of_running() -> None:
    builder = build()
    saver = InMemorySaver(serde=checkpoint_serializer(builder))
    graph = builder.compile(checkpointer=saver)
    config: RunnableConfig = {"configurable": {"thread_id": "1"}}
    graph.invoke({"messages": [HumanMessage("hi", id="1")]}, config)
    for key in list(saver.blobs):
        if key[2] == "messages":
            saver.blobs[key] = crafted(0, "os", "getenv", "HOME")
    with pytest.raises(StoreError, match=r"os\.getenv"):
        graph.invoke({"messages": [HumanMessage("again", id="3")]}, config)
    with pytest.raises(StoreError):
        asyncio.run(graph.aget_state(config))


def test_a_type_no_schema_names_is_refused_by_name_until_it_is_allowed() -> None:
    data = StrictSerializer().dumps_typed({"thing": Hidden()})
    with pytest.raises(StoreError, match=r"Hidden.*types="):
        checkpoint_serializer(build()).loads_typed(data)
    assert checkpoint_serializer(build(), types=[Hidden]).loads_typed(data) == {"thing": Hidden()}
    wider = checkpoint_serializer(build()).with_msgpack_allowlist([Hidden])
    assert wider.loads_typed(data) == {"thing": Hidden()}


def test_messages_dates_and_plain_values_need_no_permission() -> None:
    from datetime import UTC, datetime
    from decimal import Decimal
    from uuid import UUID

    serializer = checkpoint_serializer()
    values: list[object] = [
        None,
        b"raw",
        {1: [1.5, "é", True], "at": datetime(2026, 11, 21, tzinfo=UTC), "id": UUID(int=7), "price": Decimal("1.10")},
        {"set": {1, 2}, "path": Path("a/b"), "messages": [ToolMessage("ok", tool_call_id="1", id="4")]},
    ]
    for value in values:
        assert serializer.loads_typed(serializer.dumps_typed(value)) == value


def test_pickles_json_and_broken_bytes_are_refused() -> None:
    serializer = checkpoint_serializer()
    lc = {"lc": 2, "type": "constructor", "id": ["os", "getenv"], "args": ["HOME"]}
    for data in (("pickle", b"cos\ngetenv\n(S'HOME'\ntR."), ("json", json.dumps(lc).encode()), ("msgpack", b"\xc1")):
        with pytest.raises(StoreError):
            serializer.loads_typed(data)
