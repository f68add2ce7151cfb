"""One good graph, and much that is none."""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    text: str


def node(state: State) -> dict:
    return {"text": "good"}


graph = StateGraph(State).add_node("node", node).add_edge(START, "node").add_edge("node", END).compile()
text = "not a graph"
unfinished = StateGraph(State).add_node("node", node)


def bad_factory():
    raise RuntimeError("no database")


def text_factory():
    return text


def greedy_factory(config, runtime, third):
    return graph
