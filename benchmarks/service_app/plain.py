"""One call of a ChatOpenAI, as anybody writes it: the workflow that every server of the benchmark can run."""

from __future__ import annotations

from typing import TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph


class Question(TypedDict):
    """The input."""

    question: str


class Asked(Question):
    """The state."""

    answer: str


model = ChatOpenAI(model="m")


async def answer(state: Asked) -> dict[str, str]:
    """The model answers; its tokens are streamed where somebody listens."""
    message = await model.ainvoke(state["question"])
    return {"answer": message.text}


ask = (
    StateGraph(Asked, input_schema=Question)
    .add_node("answer", answer)
    .add_edge(START, "answer")
    .add_edge("answer", END)
    .compile(name="ask_plain")
)
