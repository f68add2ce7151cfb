"""A workflow that makes its own clients, as if plait did not exist: six calls a row, one of them from a sync node."""

from __future__ import annotations

import asyncio
import os

import anthropic
import openai
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

CALLS = 6


class Inputs(TypedDict):
    """A row."""

    topic: str


class Outputs(TypedDict):
    """Every answer of a row."""

    draws: list[str]
    story: str
    note: str
    vector: list[float]
    sync: str


class State(Inputs, Outputs):
    """Of the whole graph."""


async def draw(state: State) -> dict[str, list[str]]:
    """Two draws of one prompt at the same time."""

    async def one() -> str:
        found = await client.chat.completions.create(
            model="m", temperature=1.0, messages=[{"role": "user", "content": f"Draw {state['topic']}"}]
        )
        return found.choices[0].message.content or ""

    async with openai.AsyncOpenAI() as client:
        return {"draws": sorted(await asyncio.gather(one(), one()))}


async def tell(state: State) -> dict[str, object]:
    """A streamed call and an embedding."""
    async with openai.AsyncOpenAI() as client:
        stream = await client.chat.completions.create(
            model="m", stream=True, messages=[{"role": "user", "content": f"Tell {state['draws']}"}]
        )
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        found = await client.embeddings.create(model="e", input=state["topic"])
    return {"story": "".join(parts), "vector": found.data[0].embedding[:3]}


async def note(state: State) -> dict[str, str]:
    """Another SDK."""
    async with anthropic.AsyncAnthropic(base_url=os.environ["OPENAI_BASE_URL"].removesuffix("/v1")) as client:
        found = await client.messages.create(
            model="a", max_tokens=100, messages=[{"role": "user", "content": f"Note {state['story']}"}]
        )
    return {"note": "".join(block.text for block in found.content if block.type == "text")}


def sync(state: State) -> dict[str, str]:
    """A blocking call in a thread."""
    with openai.OpenAI() as client:
        found = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": f"Sum up {state['note']}"}]
        )
    return {"sync": found.choices[0].message.content or ""}


_builder = StateGraph(State, input_schema=Inputs, output_schema=Outputs)
_builder.add_node("draw", draw)
_builder.add_node("tell", tell)
_builder.add_node("note", note)
_builder.add_node("sync", sync)
_builder.add_edge(START, "draw")
_builder.add_edge("draw", "tell")
_builder.add_edge("tell", "note")
_builder.add_edge("note", "sync")
_builder.add_edge("sync", END)
graph = _builder.compile(name="own")
