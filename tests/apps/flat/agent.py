"""A graph in one file beside langgraph.json, with a neighbour and a folder of data named like a package."""

import builtins
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

import greetings

builtins.flat_executions = getattr(builtins, "flat_executions", 0) + 1


class State(TypedDict):
    name: str
    greeting: str


def greet(state: State) -> dict:
    return {"greeting": greetings.hello(state["name"])}


builder = StateGraph(State)
builder.add_node("greet", greet)
builder.add_edge(START, "greet")
builder.add_edge("greet", END)
graph = builder.compile()
