"""LangSmith's `aevaluate` without its service (`upload_results=False`): the SDK's two retries, nothing kept on disk."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from datetime import UTC, datetime

from langsmith import Client
from langsmith.evaluation import aevaluate
from langsmith.schemas import Example

from benchmarks.peers.contest import Course, Tally, take_part
from benchmarks.peers.warm_up import RUNNER, client_of, warm_up


def main(course: Course) -> Tally:
    """All rows, as examples."""
    logging.disable()  # it logs a traceback a failed row
    return RUNNER.run(_rows(course))


async def _rows(course: Course) -> Tally:
    model = client_of(course.base_url)

    async def target(inputs: dict[str, int]) -> dict[str, str | None]:
        answer = None
        for part in range(course.calls):
            asked = course.question(inputs["row"], part)
            found = await model.chat.completions.create(model="m", messages=[{"role": "user", "content": asked}])
            answer = found.choices[0].message.content
        return {"answer": answer}

    dataset, now = uuid.uuid4(), datetime.now(UTC)
    examples = [
        Example(id=uuid.uuid4(), dataset_id=dataset, inputs={"row": row}, created_at=now) for row in range(course.rows)
    ]
    # Nothing listens at this address: nothing may be sent.
    client = Client(api_url="http://127.0.0.1:9", api_key="none")
    found = await aevaluate(
        target, data=examples, client=client, max_concurrency=course.in_flight, upload_results=False
    )
    failed, done = Counter[str](), 0
    async for each in found:
        if each["run"].error:
            failed[each["run"].error.partition("(")[0]] += 1
        else:
            done += 1
    return Tally(done, dict(failed))


if __name__ == "__main__":
    warm_up(main)
    take_part(main, ["langsmith", "openai"])
