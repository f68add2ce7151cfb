"""The layout of many templates: absolute imports of the own package."""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph
from my_agent.tools.nodes import node


class State(TypedDict):
    text: str


graph = StateGraph(State).add_node("node", node).add_edge(START, "node").add_edge("node", END).compile()
