"""LangSmith's `aevaluate` over the graph of one node with ChatOpenAI, one evaluator, `upload_results=False`."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langsmith import Client
from langsmith.evaluation import aevaluate
from langsmith.schemas import Example

from benchmarks.peers.contest import Course, Tally, take_part
from benchmarks.peers.warm_up import RUNNER, warm_up


class State(TypedDict):
    """Of an example."""

    question: str
    answer: str


def graph_of(course: Course) -> CompiledStateGraph[Any, Any, Any, Any]:
    """question -> one model call -> answer."""
    model = ChatOpenAI(model="m", base_url=course.base_url, api_key=lambda: "none")

    async def answer(state: State) -> dict[str, str]:
        message = await model.ainvoke(state["question"])
        return {"answer": message.text}

    builder = StateGraph(State)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile()


def answered(outputs: dict[str, Any]) -> bool:
    """The evaluator."""
    return len(outputs["answer"]) > 0


def main(course: Course) -> Tally:
    """All examples."""
    logging.disable()  # it logs a traceback for each failed row
    return RUNNER.run(_examples(course))


async def _examples(course: Course) -> Tally:
    dataset, now = uuid.uuid4(), datetime.now(UTC)
    examples = [
        Example(id=uuid.uuid4(), dataset_id=dataset, inputs={"question": course.question(row)}, created_at=now)
        for row in range(course.rows)
    ]
    # Nothing listens at this address: nothing may be sent.
    client = Client(api_url="http://127.0.0.1:9", api_key="none")
    found = await aevaluate(
        graph_of(course),
        data=examples,
        evaluators=[answered],  # type: ignore[list-item]  # as its documentation shows them
        client=client,
        max_concurrency=course.in_flight,
        upload_results=False,
    )
    failed, done = Counter[str](), 0
    async for each in found:
        if each["run"].error:
            failed[each["run"].error.partition("(")[0]] += 1
        elif [score.score for score in each["evaluation_results"].get("results", [])] != [True]:
            failed["not scored"] += 1
        else:
            done += 1
    return Tally(done, dict(failed))


if __name__ == "__main__":
    warm_up(main)
    take_part(main, ["langsmith", "langgraph", "langchain-openai", "openai"])
