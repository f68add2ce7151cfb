"""pydantic-evals' `Dataset.evaluate` of one call of the SDK a row, with one evaluator; nothing is kept on disk."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import openai
from pydantic_evals import Case, Dataset  # type: ignore[import-not-found]  # installed in an environment of its own
from pydantic_evals.evaluators import Evaluator, EvaluatorContext  # type: ignore[import-not-found]

from benchmarks.peers.contest import Course, Tally, take_part
from benchmarks.peers.warm_up import warm_up


@dataclass
class Answered(Evaluator):  # type: ignore[misc]  # its types are in another environment
    """Whether there is an answer."""

    def evaluate(self, ctx: EvaluatorContext) -> bool:
        """The score."""
        return len(ctx.output) > 0


def main(course: Course) -> Tally:
    """All examples."""
    return asyncio.run(_examples(course))


async def _examples(course: Course) -> Tally:
    cases = [Case(name=str(row), inputs=course.question(row)) for row in range(course.rows)]
    data = Dataset(name="stories", cases=cases, evaluators=[Answered()])
    async with openai.AsyncOpenAI(base_url=course.base_url, api_key="none") as model:

        async def story(asked: str) -> str:
            found = await model.chat.completions.create(model="m", messages=[{"role": "user", "content": asked}])
            return found.choices[0].message.content or ""

        report = await data.evaluate(story, max_concurrency=course.in_flight, progress=False)
    failed = Counter(each.error_message.partition(":")[0] for each in report.failures)
    failed["not scored"] = sum(not each.assertions for each in report.cases)
    return Tally(len(report.cases) - failed["not scored"], dict(+failed))


if __name__ == "__main__":
    warm_up(main)
    take_part(main, ["pydantic-evals", "openai"])
