"""A workflow of two calls a row, one after the other, whose outputs follow from the row alone."""

from __future__ import annotations

import re
from hashlib import blake2b

from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from plait.models import chat_model

CALLS = 2
"""Of a row, never two at once."""
TOPIC = re.compile(r"topic-(\d{6})")


class Inputs(TypedDict):
    """A row."""

    topic: str


class Outputs(TypedDict):
    """Both answers."""

    plan: str
    story: str


class State(Inputs, Outputs):
    """Of the whole graph."""


def answer_to(prompt: str) -> str:
    """What the model says: the same to the same prompt."""
    return f"answer {blake2b(prompt.encode(), digest_size=6).hexdigest()}"


def plan_prompt(topic: str) -> str:
    """The first call's."""
    return f"Plan {topic}."


def tell_prompt(topic: str, plan: str) -> str:
    """The second call's."""
    return f"Tell {topic} by {plan}."


async def plan(state: State) -> dict[str, str]:
    """The first call."""
    return {"plan": (await chat_model().ainvoke(plan_prompt(state["topic"]))).text}


async def tell(state: State) -> dict[str, str]:
    """The second call."""
    return {"story": (await chat_model().ainvoke(tell_prompt(state["topic"], state["plan"]))).text}


_builder = StateGraph(State, input_schema=Inputs, output_schema=Outputs)
_builder.add_node("plan", plan)
_builder.add_node("tell", tell)
_builder.add_edge(START, "plan")
_builder.add_edge("plan", "tell")
_builder.add_edge("tell", END)
graph = _builder.compile(name="pair")
