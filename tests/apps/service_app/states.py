"""Small graphs whose state tells what happened: steps, an interrupt, an error, a long run."""

from __future__ import annotations

import asyncio
from operator import add
from typing import Annotated

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict


class Steps(TypedDict, total=False):
    topic: str
    trail: Annotated[list[str], add]
    total: int


async def first(state: Steps) -> Steps:
    return {"trail": ["first"], "total": 1}


async def second(state: Steps) -> Steps:
    get_stream_writer()({"note": "in the second node"})
    return {"trail": ["second"], "total": state.get("total", 0) + 1}


async def third(state: Steps) -> Steps:
    return {"trail": [f"third {state.get('topic', 'nothing')}"], "total": state.get("total", 0) + 1}


steps = (
    StateGraph(Steps)
    .add_node("first", first)
    .add_node("second", second)
    .add_node("third", third)
    .add_edge(START, "first")
    .add_edge("first", "second")
    .add_edge("second", "third")
    .add_edge("third", END)
    .compile(name="steps")
)


class Draft(TypedDict, total=False):
    text: str
    approved: bool
    result: str


async def write(state: Draft) -> Draft:
    return {"text": state.get("text", "") + "!"}


async def ask(state: Draft) -> Draft:
    answer = interrupt({"question": "publish?", "text": state["text"]})
    return {"approved": bool(answer)}


async def publish(state: Draft) -> Draft:
    return {"result": "published" if state["approved"] else "dropped"}


approve = (
    StateGraph(Draft)
    .add_node("write", write)
    .add_node("ask", ask)
    .add_node("publish", publish)
    .add_edge(START, "write")
    .add_edge("write", "ask")
    .add_edge("ask", "publish")
    .add_edge("publish", END)
    .compile(name="approve")
)


async def fail(state: Steps) -> Steps:
    raise ValueError("this graph always fails")


broken = (
    StateGraph(Steps)
    .add_node("first", first)
    .add_node("fail", fail)
    .add_edge(START, "first")
    .add_edge("first", "fail")
    .add_edge("fail", END)
    .compile(name="broken")
)


class Count(TypedDict, total=False):
    steps: int
    count: int


async def tick(state: Count) -> Count:
    await asyncio.sleep(0.05)
    count = state.get("count", 0) + 1
    get_stream_writer()({"count": count})
    return {"count": count}


def more(state: Count) -> str:
    return "tick" if state["count"] < state.get("steps", 1) else END


slow = (
    StateGraph(Count)
    .add_node("tick", tick)
    .add_edge(START, "tick")
    .add_conditional_edges("tick", more, ["tick", END])
    .compile(name="slow")
)
