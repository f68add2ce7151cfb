"""The same graph in `abatch_as_completed`; whoever wants to keep the answers writes each down as it comes, as here."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from langchain_core.runnables import RunnableConfig

from benchmarks.peers.contest import Course, Tally, take_part
from benchmarks.peers.langgraph_abatch import State, graph_of
from benchmarks.peers.warm_up import RUNNER, warm_up


def main(course: Course) -> Tally:
    """All rows that are not written down yet."""
    return RUNNER.run(_rows(course))


async def _rows(course: Course) -> Tally:
    path = Path(course.folder) / "done.jsonl" if course.folder else Path(os.devnull)
    kept = {json.loads(line)["row"] for line in _whole_lines(path)}
    todo = [State(row=row, answer="") for row in range(course.rows) if row not in kept]
    tally, failed = Tally(len(kept)), Counter[str]()
    config: RunnableConfig = {"max_concurrency": course.in_flight}
    with path.open("a", encoding="utf-8") as file:
        async for index, found in graph_of(course).abatch_as_completed(todo, config, return_exceptions=True):
            if isinstance(found, BaseException):
                failed[type(found).__name__] += 1
                continue
            file.write(json.dumps({"row": todo[index]["row"], "answer": found["answer"]}) + "\n")
            file.flush()
            tally.done += 1
    tally.failed = dict(failed)
    return tally


def _whole_lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return text[: text.rfind("\n") + 1].splitlines()


if __name__ == "__main__":
    warm_up(main)
    take_part(main, ["langgraph", "langchain-openai", "openai"])
