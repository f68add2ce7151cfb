"""A graph in a package without __init__.py under src, imported in every way at once."""

import builtins
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from agent.nodes import absolute
from agent.state import State

from .nodes import relative
from .state import State as SameState

assert State is SameState
builtins.src_executions = getattr(builtins, "src_executions", 0) + 1


class Input(TypedDict):
    text: str


graph = (
    StateGraph(State, input_schema=Input)
    .add_node("relative", relative)
    .add_node("absolute", absolute)
    .add_edge(START, "relative")
    .add_edge("relative", "absolute")
    .add_edge("absolute", END)
    .compile(name="named by its author")
)
