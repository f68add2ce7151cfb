"""Graphs with something around or inside them: a subgraph, a context, a store."""

from __future__ import annotations

from operator import add
from typing import Annotated

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict


class Words(TypedDict, total=False):
    words: Annotated[list[str], add]


async def before(state: Words) -> Words:
    return {"words": ["before"]}


async def inside(state: Words) -> Words:
    return {"words": ["inside"]}


async def after(state: Words) -> Words:
    return {"words": ["after"]}


child = StateGraph(Words).add_node("inside", inside).add_edge(START, "inside").add_edge("inside", END).compile()

parent = (
    StateGraph(Words)
    .add_node("before", before)
    .add_node("child", child)
    .add_node("after", after)
    .add_edge(START, "before")
    .add_edge("before", "child")
    .add_edge("child", "after")
    .add_edge("after", END)
    .compile(name="parent")
)


class Settings(TypedDict, total=False):
    tone: str


class Answer(TypedDict, total=False):
    tone: str
    user: str
    thread: bool
    tags: list[str]


async def look(state: Answer, config: RunnableConfig, runtime: Runtime[Settings]) -> Answer:
    configurable = config.get("configurable", {})
    return {
        "tone": (runtime.context or {}).get("tone", "none"),
        "user": str(configurable.get("user", "none")),
        "thread": bool(configurable.get("thread_id")),
        "tags": sorted(config.get("tags") or []),
    }


configured = (
    StateGraph(Answer, context_schema=Settings)
    .add_node("look", look)
    .add_edge(START, "look")
    .add_edge("look", END)
    .compile(name="configured")
)


class Note(TypedDict, total=False):
    user: str
    note: str
    notes: list[str]


async def remember(state: Note, runtime: Runtime[None]) -> Note:
    assert runtime.store is not None
    space = ("notes", state["user"])
    if note := state.get("note"):
        await runtime.store.aput(space, note, {"text": note})
    found = await runtime.store.asearch(space, limit=10)
    return {"notes": sorted(item.value["text"] for item in found)}


memory = (
    StateGraph(Note)
    .add_node("remember", remember)
    .add_edge(START, "remember")
    .add_edge("remember", END)
    .compile(name="memory")
)
