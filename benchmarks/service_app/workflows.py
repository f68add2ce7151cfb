"""One model call of plait's own model: what the service's benchmarks run."""

from __future__ import annotations

from typing import TypedDict

from langgraph.graph import END, START, StateGraph

import plait


class Question(TypedDict):
    """The input."""

    question: str


class Asked(Question):
    """The state."""

    answer: str


async def answer(state: Asked) -> dict[str, str]:
    """The run's model answers; its tokens are streamed where somebody listens."""
    message = await plait.chat_model().ainvoke(state["question"])
    return {"answer": message.text}


ask = (
    StateGraph(Asked, input_schema=Question)
    .add_node("answer", answer)
    .add_edge(START, "answer")
    .add_edge("answer", END)
    .compile(name="ask")
)
