"""Nodes, imported relatively and absolutely."""

from .state import State


def relative(state: State) -> dict:
    return {"text": state["text"] + " relative"}


def absolute(state: State) -> dict:
    return {"text": state["text"] + " absolute"}
