"""A workflow with the name of one of ours, in folders with the names of ours."""

from typing import TypedDict

from chains.write_story import write
from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    text: str


def node(state: State) -> dict:
    return {"text": write()}


graph = StateGraph(State).add_node("node", node).add_edge(START, "node").add_edge("node", END).compile()
