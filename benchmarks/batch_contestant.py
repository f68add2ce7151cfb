"""plait's own subject: rows through `plait.batch`, configured with nothing but the endpoint; then `plait.resume`."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import aclosing

import plait
from benchmarks.batch_rows import APP
from benchmarks.peers.contest import Course, Tally, take_part
from plait.batches import Batch
from plait.process import own_process, run_loop
from plait.settings import Settings, from_env
from plait.store.folders import FolderShelf

_WORKFLOWS = {1: "ask", 3: "ask_thrice"}


def main(course: Course) -> Tally:
    """All rows that have no result yet; PLAIT_HOME is the environment's."""
    return run_loop(_rows(course))


async def _rows(course: Course) -> Tally:
    settings = from_env(
        {
            **os.environ,
            "OPENAI_BASE_URL": course.base_url,
            "OPENAI_API_KEY": "none",
            "PLAIT_MODEL": "openai:m",
            "PLAIT_MAX_CONCURRENCY": str(course.in_flight),
        }
    )
    tally, failed = Tally(), Counter[str]()
    with own_process(settings):
        tally.done = sum(batch.counts.get("success", 0) for batch in FolderShelf(settings.home).batches())
        async with aclosing(_batch(course, settings)) as batch:
            async for row in batch:
                if row.status == "success":
                    tally.done += 1
                else:
                    failed[row.status if row.error is None else row.error.type] += 1
    tally.failed = dict(failed)
    return tally


def _batch(course: Course, settings: Settings) -> Batch:
    if FolderShelf(settings.home).batches():
        return plait.resume(settings=settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    data = settings.home / "rows.jsonl"
    rows = ({"id": f"r{row}", "question": course.question(row)} for row in range(course.rows))
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return plait.batch(_WORKFLOWS[course.calls], data, app=APP, settings=settings)


if __name__ == "__main__":
    take_part(main, ["plait", "langgraph", "langchain-openai", "openai"])
