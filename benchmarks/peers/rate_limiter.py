"""ChatOpenAI behind LangChain's InMemoryRateLimiter, tuned by someone who knows the limit: `rate/bucket/check`."""

from __future__ import annotations

import asyncio

from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_openai import ChatOpenAI

from benchmarks.peers.contest import Course, Tally, do_rows, take_part


def main(course: Course) -> Tally:
    """All rows."""
    return asyncio.run(_rows(course))


async def _rows(course: Course) -> Tally:
    rate, bucket, check_s = (float(part) for part in course.setting.split("/"))
    limiter = InMemoryRateLimiter(requests_per_second=rate, max_bucket_size=bucket, check_every_n_seconds=check_s)
    model = ChatOpenAI(model="m", base_url=course.base_url, api_key=lambda: "none", rate_limiter=limiter)

    async def call(row: int) -> None:
        await model.ainvoke(course.question(row))

    return await do_rows(course, call)


if __name__ == "__main__":
    take_part(main, ["langchain-core", "langchain-openai", "openai"])
