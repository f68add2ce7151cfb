"""LangChain's model under a semaphore, with the SDK's two retries; the setting `graph` puts it into a graph."""

from __future__ import annotations

from langchain_openai import ChatOpenAI

from benchmarks.peers.contest import Course, Tally, do_rows, take_part
from benchmarks.peers.langgraph_abatch import State, graph_of
from benchmarks.peers.warm_up import RUNNER, warm_up

GRAPH = "graph"


def main(course: Course) -> Tally:
    """All rows."""
    return RUNNER.run(_rows(course))


async def _rows(course: Course) -> Tally:
    graph, model = graph_of(course), ChatOpenAI(model="m", base_url=course.base_url, api_key=lambda: "none")

    async def in_graph(row: int) -> None:
        await graph.ainvoke(State(row=row, answer=""))

    async def alone(row: int) -> None:
        await model.ainvoke(course.question(row))

    return await do_rows(course, in_graph if GRAPH in course.setting.split() else alone)


if __name__ == "__main__":
    warm_up(main)
    take_part(main, ["langgraph", "langchain-openai", "openai"])
