"""Writes one story: the smallest workflow there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NotRequired, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import Field, StringConstraints

from chains.write_story import write_story

Topic = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), "what the story is about"]
Words = Annotated[int, Field(ge=10, le=2000), "about how long, in words (150)"]


class Input(TypedDict):
    topic: Topic
    words: NotRequired[Words]


class Output(TypedDict):
    story: str


class State(Input, Output):
    pass


@dataclass(frozen=True)
class Context:
    model: str | None = None
    """`endpoint:model` for this workflow; else the run's."""
    prompt: str | None = None
    """Instructions instead of the chain's own."""


async def write(state: State, runtime: Runtime[Context]) -> Output:
    context = runtime.context or Context()
    story = await write_story(state["topic"], words=state.get("words", 150), prompt=context.prompt, model=context.model)
    return {"story": story}


builder = StateGraph(State, Context, input_schema=Input, output_schema=Output)
builder.add_node(write)
builder.add_edge(START, "write")
builder.add_edge("write", END)
graph = builder.compile(name="story")
