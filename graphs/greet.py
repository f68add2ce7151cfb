"""Greets somebody in one personal sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NotRequired, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import StringConstraints

from chains.greet_person import greet_person

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), "whom to greet"]
About = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000), "what the greeting may take up"]


class Input(TypedDict):
    name: Name
    about: NotRequired[About]


class Output(TypedDict):
    greeting: str


class State(Input, Output):
    pass


@dataclass(frozen=True)
class Context:
    model: str | None = None
    """`endpoint:model` for this workflow; else the run's."""
    prompt: str | None = None
    """Instead of `chains.greet_person.PROMPT`."""


async def greet(state: State, runtime: Runtime[Context]) -> Output:
    context = runtime.context or Context()
    greeting = await greet_person(
        state["name"], about=state.get("about", ""), prompt=context.prompt, model=context.model
    )
    return {"greeting": greeting}


builder = StateGraph(State, Context, input_schema=Input, output_schema=Output)
builder.add_node(greet)
builder.add_edge(START, "greet")
builder.add_edge("greet", END)
graph = builder.compile(name="greet")
