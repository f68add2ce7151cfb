"""A graph of one node with a RetryPolicy of eight attempts, in one `abatch` with `max_concurrency`."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy

from benchmarks.peers.contest import Course, Tally, take_part


class State(TypedDict):
    """Of a row."""

    question: str
    answer: str


def main(course: Course) -> Tally:
    """All rows."""
    return asyncio.run(_rows(course))


async def _rows(course: Course) -> Tally:
    model = ChatOpenAI(model="m", base_url=course.base_url, api_key=lambda: "none")

    async def answer(state: State) -> dict[str, str]:
        message = await model.ainvoke(state["question"])
        return {"answer": message.text}

    builder = StateGraph(State)
    # The default `retry_on` takes an openai.RateLimitError for worth another attempt.
    builder.add_node("answer", answer, retry_policy=RetryPolicy(max_attempts=8))
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    graph = builder.compile()
    rows = [State(question=course.question(row), answer="") for row in range(course.rows)]
    found = await graph.abatch(rows, {"max_concurrency": course.in_flight}, return_exceptions=True)
    failed = Counter(type(each).__name__ for each in found if isinstance(each, BaseException))
    return Tally(course.rows - failed.total(), dict(failed))


if __name__ == "__main__":
    take_part(main, ["langgraph", "langchain-openai", "openai"])
