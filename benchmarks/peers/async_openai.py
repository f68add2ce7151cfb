"""The SDK as its documentation shows it, under a semaphore: two retries, Retry-After obeyed."""

from __future__ import annotations

import time

from benchmarks.peers.contest import Course, Tally, do_rows, take_part
from benchmarks.peers.warm_up import RUNNER, client_of, warm_up


def main(course: Course) -> Tally:
    """All rows."""
    return RUNNER.run(_rows(course))


async def _rows(course: Course) -> Tally:
    client = client_of(course.base_url)

    async def call(row: int) -> float:
        started = time.monotonic()
        for part in range(course.calls):
            asked = course.question(row, part)
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": asked}])
        return time.monotonic() - started

    # A worker a slot is what asyncio.Semaphore(in_flight) amounts to.
    return await do_rows(course, call)


if __name__ == "__main__":
    warm_up(main)
    take_part(main, ["openai"])
