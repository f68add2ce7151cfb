"""plait's own subject: examples through `plait.evaluate` with one evaluator, or the same rows through `plait.batch`.

Words of the setting: `batch` leaves the scoring out, `judge` has a model score every run besides.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import plait
from benchmarks.batch_rows import APP
from benchmarks.peers.contest import Course, Tally, take_part
from benchmarks.peers.warm_up import warm_up
from plait.experiments import Definition
from plait.process import own_process, run_loop
from plait.settings import Settings, from_env

JUDGE, BATCH = "judge", "batch"


def answered(outputs: Mapping[str, str]) -> bool:
    """The evaluator that every subject has."""
    return len(outputs["answer"]) > 0


async def judged(outputs: Mapping[str, str]) -> bool:
    """One model call a run."""
    message = await plait.chat_model().ainvoke(f"Is this a story? {outputs['answer']}")
    return len(message.text) > 0


def main(course: Course) -> Tally:
    """All examples; PLAIT_HOME is the environment's."""
    return run_loop(_examples(course))


async def _examples(course: Course) -> Tally:
    settings = from_env(
        {
            **os.environ,
            "OPENAI_BASE_URL": course.base_url,
            "OPENAI_API_KEY": "none",
            "PLAIT_MODEL": "openai:m",
            "PLAIT_MAX_CONCURRENCY": str(course.in_flight),
        }
    )
    settings.home.mkdir(parents=True, exist_ok=True)
    data = settings.home / f"{uuid4().hex}.jsonl"
    rows = ({"id": f"r{row}", "question": course.question(row)} for row in range(course.rows))
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    with own_process(settings):
        if BATCH in course.setting.split():
            return await _batch(data, settings)
        return await _experiment(data, settings, judge=JUDGE in course.setting.split())


async def _batch(data: Path, settings: Settings) -> Tally:
    tally, failed = Tally(), Counter[str]()
    async for row in plait.batch("ask", data, app=APP, settings=settings):
        if row.status == "success":
            tally.done += 1
        else:
            failed[row.status if row.error is None else row.error.type] += 1
    tally.failed = dict(failed)
    return tally


async def _experiment(data: Path, settings: Settings, *, judge: bool) -> Tally:
    evaluators = (answered, judged) if judge else (answered,)
    definition = Definition(name="stories", workflow="ask", dataset=data, evaluators=evaluators)
    found = await plait.evaluate(definition, name=data.stem, app=APP, settings=settings)
    done = sum([score.score for score in run.scores] == [1.0] * len(evaluators) for run in found.runs)
    failed = Counter(failure.type for run in found.runs for failure in run.failures)
    failed.update(run.error.type for run in found.runs if run.error is not None)
    return Tally(done, dict(failed))


if __name__ == "__main__":
    warm_up(main)
    take_part(main, ["plait", "langgraph", "langchain-openai", "openai"])
