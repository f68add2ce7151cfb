"""The workflows that the batches of these benchmarks run: one model call a row, three, and none."""

from __future__ import annotations

from typing import TypedDict

from langgraph.graph import END, START, StateGraph

import plait


class Question(TypedDict):
    """The input of all."""

    question: str


class Asked(Question):
    """The state of `ask` and `ask_thrice`."""

    answer: str


class Counted(Question):
    """The state of `count`."""

    words: int


async def answer(state: Asked) -> dict[str, str]:
    """The run's model answers."""
    message = await plait.chat_model().ainvoke(state["question"])
    return {"answer": message.text}


async def answer_more(state: Asked) -> dict[str, str]:
    """A second question."""
    message = await plait.chat_model().ainvoke(f"{state['question']} Part 1.")
    return {"answer": message.text}


async def answer_most(state: Asked) -> dict[str, str]:
    """A third."""
    message = await plait.chat_model().ainvoke(f"{state['question']} Part 2.")
    return {"answer": message.text}


async def words(state: Counted) -> dict[str, int]:
    """No call at all."""
    return {"words": len(state["question"].split())}


ask = (
    StateGraph(Asked, input_schema=Question)
    .add_node("answer", answer)
    .add_edge(START, "answer")
    .add_edge("answer", END)
    .compile(name="ask")
)
ask_thrice = (
    StateGraph(Asked, input_schema=Question)
    .add_node("answer", answer)
    .add_node("answer more", answer_more)
    .add_node("answer most", answer_most)
    .add_edge(START, "answer")
    .add_edge("answer", "answer more")
    .add_edge("answer more", "answer most")
    .add_edge("answer most", END)
    .compile(name="ask_thrice")
)
count = (
    StateGraph(Counted, input_schema=Question)
    .add_node("count words", words)
    .add_edge(START, "count words")
    .add_edge("count words", END)
    .compile(name="count")
)
