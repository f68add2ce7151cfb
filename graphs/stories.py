"""Writes several stories at once: a branch per topic, results in the order of the topics, failures beside them."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Annotated, Literal, NotRequired, TypedDict

from langgraph.errors import NodeError
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, Send
from pydantic import Field, StringConstraints

from chains.write_story import write_story
from plait import is_fatal

Topic = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Topics = Annotated[list[Topic], Field(min_length=1), "what the stories are about"]
Words = Annotated[int, Field(ge=10, le=2000), "about how long each is, in words (150)"]


class Story(TypedDict):
    topic: str
    story: str | None
    error: str | None


class Input(TypedDict):
    topics: Topics
    words: NotRequired[Words]


class Output(TypedDict):
    stories: list[Story]


class State(Input, Output):
    written: Annotated[list[tuple[int, Story]], operator.add]


class Branch(TypedDict):
    index: int
    topic: str
    words: int


class Written(TypedDict):
    written: list[tuple[int, Story]]


@dataclass(frozen=True)
class Context:
    model: str | None = None
    """`endpoint:model` for this workflow; else the run's."""
    prompt: str | None = None
    """Instructions instead of the chain's own."""


def fan_out(state: State) -> list[Send]:
    words = state.get("words", 150)
    return [Send("write", Branch(index=index, topic=topic, words=words)) for index, topic in enumerate(state["topics"])]


async def write(state: Branch, runtime: Runtime[Context]) -> Written:
    context = runtime.context or Context()
    story = await write_story(state["topic"], words=state["words"], prompt=context.prompt, model=context.model)
    return {"written": [(state["index"], Story(topic=state["topic"], story=story, error=None))]}


async def note_failure(state: Branch, error: NodeError) -> Command[Literal["collect"]]:
    if is_fatal(error.error):  # a refused key fails every branch alike: better said once
        raise error.error
    failed = Story(topic=state["topic"], story=None, error=f"{type(error.error).__name__}: {error.error}")
    # Without `goto` LangGraph ends the run here when every branch has failed.
    return Command(update={"written": [(state["index"], failed)]}, goto="collect")


async def collect(state: State) -> Output:
    return {"stories": [story for _, story in sorted(state["written"], key=operator.itemgetter(0))]}


builder = StateGraph(State, Context, input_schema=Input, output_schema=Output)
# LangGraph passes NodeError to error handlers, and its annotations do not know it yet.
builder.add_node("write", write, input_schema=Branch, error_handler=note_failure)  # pyright: ignore[reportArgumentType, reportCallIssue]
builder.add_node(collect)
builder.add_conditional_edges(START, fan_out, ["write"])
builder.add_edge("write", "collect")
builder.add_edge("collect", END)
graph = builder.compile(name="stories")
