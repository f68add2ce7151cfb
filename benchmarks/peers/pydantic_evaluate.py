"""pydantic-evals' `Dataset.evaluate` with its `retry_task`: eight attempts, waiting longer each time."""

from __future__ import annotations

from collections import Counter

from pydantic_ai.retries import RetryConfig  # type: ignore[import-not-found]  # installed in an environment of its own
from pydantic_evals import Case, Dataset  # type: ignore[import-not-found]
from tenacity import stop_after_attempt, wait_exponential

from benchmarks.peers.contest import Course, Tally, take_part
from benchmarks.peers.warm_up import RUNNER, client_of, warm_up


def main(course: Course) -> Tally:
    """All rows, as cases."""
    return RUNNER.run(_rows(course))


async def _rows(course: Course) -> Tally:
    model = client_of(course.base_url)

    async def story(row: int) -> str | None:
        answer = None
        for part in range(course.calls):
            asked = course.question(row, part)
            found = await model.chat.completions.create(model="m", messages=[{"role": "user", "content": asked}])
            answer = found.choices[0].message.content
        return answer

    rows = Dataset(name="stories", cases=[Case(name=str(row), inputs=row) for row in range(course.rows)])
    retries = RetryConfig(stop=stop_after_attempt(8), wait=wait_exponential(multiplier=1), reraise=True)
    report = await rows.evaluate(story, max_concurrency=course.in_flight, progress=False, retry_task=retries)
    failed = Counter(each.error_message.partition(":")[0] for each in report.failures)
    return Tally(len(report.cases), dict(failed))


if __name__ == "__main__":
    warm_up(main)
    take_part(main, ["pydantic-evals", "openai"])
