"""A workflow of five calls a row: one, two equal ones in nested sibling branches, one more, a streamed one."""

from __future__ import annotations

import operator
from typing import Annotated

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from plait.models import chat_model

CALLS = 5
LABELS = ("left", "right")


def plan_prompt(topic: str) -> str:
    """The first call's."""
    return f"Plan {topic}."


def draw_prompt(plan: str) -> str:
    """Of both branches: the same text, so that only the branch tells whose answer is whose."""
    return f"Draw by: {plan}"


def weigh_prompt(draws: dict[str, str]) -> str:
    """Answers that changed places make another prompt, which would be paid for."""
    return "Weigh " + "; ".join(f"{label} says {draws[label]}" for label in sorted(draws))


def tell_prompt(verdict: str) -> str:
    """The streamed call's."""
    return f"Tell: {verdict}"


class Inputs(TypedDict):
    """A row."""

    topic: str


class Outputs(TypedDict):
    """Every answer of a row."""

    plan: str
    draws: Annotated[dict[str, str], operator.or_]
    verdict: str
    story: str


class State(Inputs, Outputs):
    """Of the whole graph."""


class Draws(TypedDict):
    """What a branch gives."""

    draws: Annotated[dict[str, str], operator.or_]


class Branch(Draws):
    """One of the siblings."""

    label: str
    plan: str


async def plan(state: State) -> dict[str, str]:
    """One plain call."""
    return {"plan": (await chat_model().ainvoke(plan_prompt(state["topic"]))).text}


def fan_out(state: State) -> list[Send]:
    """Two siblings."""
    return [Send("branch", {"label": label, "plan": state["plan"]}) for label in LABELS]


async def draw(state: Branch) -> dict[str, dict[str, str]]:
    """A draw at temperature 1, inside a nested graph."""
    answer = await chat_model(temperature=1.0).ainvoke(draw_prompt(state["plan"]))
    return {"draws": {state["label"]: answer.text}}


async def weigh(state: State) -> dict[str, str]:
    """A call that depends on which branch drew what."""
    return {"verdict": (await chat_model().ainvoke(weigh_prompt(state["draws"]))).text}


async def tell(state: State) -> dict[str, str]:
    """A streamed call."""
    parts = [chunk.text async for chunk in chat_model().astream(tell_prompt(state["verdict"]))]
    return {"story": "".join(parts)}


_branch = StateGraph(Branch, output_schema=Draws)
_branch.add_node("draw", draw)
_branch.add_edge(START, "draw")
_branch.add_edge("draw", END)

_builder = StateGraph(State, input_schema=Inputs, output_schema=Outputs)
_builder.add_node("plan", plan)
_builder.add_node("branch", _branch.compile())
_builder.add_node("weigh", weigh)
_builder.add_node("tell", tell)
_builder.add_edge(START, "plan")
_builder.add_conditional_edges("plan", fan_out, ["branch"])
_builder.add_edge("branch", "weigh")
_builder.add_edge("weigh", "tell")
_builder.add_edge("tell", END)
graph = _builder.compile(name="fan")
