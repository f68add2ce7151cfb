"""plait's own subject: rows of a one-call graph through `plait.run`, nothing configured but the endpoint."""

from __future__ import annotations

import asyncio
import os

from benchmarks.peers.contest import Course, Tally, do_rows, take_part
from benchmarks.subjects import one_call_graph
from plait import runs
from plait.flow.timings import total
from plait.models import chat_model
from plait.settings import from_env


def main(course: Course) -> Tally:
    """All rows; PLAIT_HOME is the environment's."""
    return asyncio.run(_rows(course))


async def _rows(course: Course) -> Tally:
    settings = from_env({**os.environ, "OPENAI_BASE_URL": course.base_url, "OPENAI_API_KEY": "none"})
    graph = one_call_graph(chat_model("openai:m", settings=settings))

    async def call(row: int) -> float:
        result = await runs.run(graph, {"question": course.question(row)}, settings=settings)
        timing = total(result.timings)
        return timing.first_token_s + timing.generation_s

    return await do_rows(course, call)


if __name__ == "__main__":
    take_part(main, ["plait", "langgraph", "langchain-openai", "openai"])
