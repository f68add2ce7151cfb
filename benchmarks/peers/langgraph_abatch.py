"""A graph of one node with a RetryPolicy of eight attempts, in one `abatch` with `max_concurrency`."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import RetryPolicy

from benchmarks.peers.contest import Course, Tally, take_part
from benchmarks.peers.warm_up import RUNNER, warm_up


class State(TypedDict):
    """Of a row."""

    row: int
    answer: str


def graph_of(course: Course) -> CompiledStateGraph[Any, Any, Any, Any]:
    """A node a call, one after another."""
    model = ChatOpenAI(model="m", base_url=course.base_url, api_key=lambda: "none")
    builder, before = StateGraph(State), START
    for part in range(course.calls):

        async def answer(state: State, part: int = part) -> dict[str, str]:
            message = await model.ainvoke(course.question(state["row"], part))
            return {"answer": message.text}

        # The default `retry_on` takes an openai.RateLimitError for worth another attempt.
        builder.add_node(f"answer{part}", answer, retry_policy=RetryPolicy(max_attempts=8))
        builder.add_edge(before, f"answer{part}")
        before = f"answer{part}"
    builder.add_edge(before, END)
    return builder.compile()


def main(course: Course) -> Tally:
    """All rows."""
    return RUNNER.run(_rows(course))


async def _rows(course: Course) -> Tally:
    rows = [State(row=row, answer="") for row in range(course.rows)]
    found = await graph_of(course).abatch(rows, {"max_concurrency": course.in_flight}, return_exceptions=True)
    failed = Counter(type(each).__name__ for each in found if isinstance(each, BaseException))
    return Tally(course.rows - failed.total(), dict(failed))


if __name__ == "__main__":
    warm_up(main)
    take_part(main, ["langgraph", "langchain-openai", "openai"])
