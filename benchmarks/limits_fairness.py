"""Three workflows at once at one limit: which part of their equal share each gets."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter

from benchmarks.limits_provider import provider
from benchmarks.subjects import one_call_graph
from plait import runs
from plait.models import chat_model
from plait.settings import Settings, from_env

PROFILE = {"rpm": 600, "burst": 20, "headers": "none", "latency_s": 0.5}
IN_FLIGHT = {"large": 100, "middle": 30, "small": 8}
"""Rows of each workflow at once; each alone could use more than its third of the limit."""
LEARNING_S, MEASURED_S = 5.0, 20.0


def main() -> None:
    """Three workflows with 100, 30 and 8 rows in flight at 600 rpm; target: each gets >= 80 % of its third."""
    with provider(PROFILE) as found, tempfile.TemporaryDirectory() as home:
        settings = from_env({"OPENAI_BASE_URL": found.base_url, "OPENAI_API_KEY": "none", "PLAIT_HOME": home})
        done = asyncio.run(_compete(settings))
    share = done.total() / len(IN_FLIGHT)
    for name, rows in IN_FLIGHT.items():
        print(f"{name:<7} {rows:>3} in flight: {done[name]:>3} rows, {done[name] / share:.2f} of its share")
    rate = done.total() / MEASURED_S
    print(f"together {rate:.2f} rows/s of {PROFILE['rpm']} a minute, load {os.getloadavg()[0]:.1f}")


async def _compete(settings: Settings) -> Counter[str]:
    """Rows done by each workflow in the time that is measured."""
    begin = time.monotonic() + LEARNING_S
    done: Counter[str] = Counter()

    async def work(name: str) -> None:
        graph = one_call_graph(chat_model("openai:m", settings=settings)).with_config(run_name=name)
        graph.name = name
        number = 0
        while True:
            number += 1
            await runs.run(graph, {"question": f"Tell {name} story {number}."}, settings=settings)
            if begin <= time.monotonic() < begin + MEASURED_S:
                done[name] += 1

    tasks = [asyncio.create_task(work(name)) for name, rows in IN_FLIGHT.items() for _ in range(rows)]
    await asyncio.sleep(LEARNING_S + MEASURED_S)
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(outcome, asyncio.CancelledError):
            print(f"a workflow ended early: {outcome!r}")
    return done
