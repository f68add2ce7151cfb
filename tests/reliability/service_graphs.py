"""A workflow of four calls a run that notes in a file which process is in which node of which run, and when."""

from __future__ import annotations

import operator
import os
from typing import Annotated

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from plait.models import chat_model

CALLS = 4
AT_ONCE = 2
"""The calls that a run has in flight at most."""
NOTES = "SERVICE_NOTES"
"""The environment's variable that names the file."""


class State(TypedDict):
    """Of the graph; `told` has a line for each run of a thread."""

    topic: str
    plan: str
    draws: Annotated[dict[str, str], operator.or_]
    told: Annotated[list[str], operator.add]


class Branch(TypedDict):
    """One of the siblings."""

    topic: str
    label: str
    plan: str


def note(config: RunnableConfig, node: str) -> None:
    """One write, so that lines of several processes do not mix."""
    where = config.get("configurable", {})
    line = f"{os.getpid()} {where['thread_id']} {where['run_id']} {node}\n"
    file = os.open(os.environ[NOTES], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


async def plan(state: State, config: RunnableConfig) -> dict[str, object]:
    """One plain call."""
    note(config, "plan")
    answer = await chat_model().ainvoke(f"Plan {state['topic']}.")
    note(config, "planned")
    return {"plan": answer.text}


def fan_out(state: State) -> list[Send]:
    """Two siblings."""
    return [
        Send("draw", {"topic": state["topic"], "label": label, "plan": state["plan"]}) for label in ("left", "right")
    ]


async def draw(state: Branch, config: RunnableConfig) -> dict[str, object]:
    """A call of each sibling."""
    note(config, f"draw-{state['label']}")
    answer = await chat_model(temperature=1.0).ainvoke(f"Draw {state['label']} of {state['topic']}: {state['plan']}")
    note(config, f"drawn-{state['label']}")
    return {"draws": {f"{state['topic']} {state['label']}": answer.text}}


async def tell(state: State, config: RunnableConfig) -> dict[str, object]:
    """A streamed call."""
    note(config, "tell")
    draws = " and ".join(state["draws"][f"{state['topic']} {label}"] for label in ("left", "right"))
    parts = [chunk.text async for chunk in chat_model().astream(f"Tell {state['topic']}: {draws}")]
    note(config, "told")
    return {"told": ["".join(parts)]}


graph = (
    StateGraph(State)
    .add_node("plan", plan)
    .add_node("draw", draw)
    .add_node("tell", tell)
    .add_edge(START, "plan")
    .add_conditional_edges("plan", fan_out, ["draw"])
    .add_edge("draw", "tell")
    .add_edge("tell", END)
    .compile(name="turns")
)
