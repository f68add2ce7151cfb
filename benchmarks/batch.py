"""CPU time of a row in a batch, with limits, journal and store, as a multiple of the bare SDK's and of LangGraph's batch."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import plait
from benchmarks.endpoint import endpoint
from benchmarks.measure import interleave, print_ratios
from benchmarks.subjects import MESSAGES, QUESTION, bare_client, langchain_model, one_call_graph, plait_settings
from plait.batches import BatchOptions
from plait.models import chat_model
from plait.process import own_process

ROWS = 1000
CONCURRENCY = 50
ROUNDS = 7
PEER = "AsyncOpenAI, default client"
BATCH = "plait.batch, journal and store"

Work = Callable[[int], Awaitable[None]]


def main() -> None:
    """Print CPU milliseconds a row and ratios; the provider's CPU is not in them (it is another process)."""
    with endpoint() as base_url, tempfile.TemporaryDirectory() as home, asyncio.Runner() as runner:
        works = runner.run(_works(base_url, Path(home)))
        for work in works.values():
            runner.run(_cpu_per_row(work, ROWS // 2))

        def measured(work: Work) -> Callable[[], float]:
            return lambda: runner.run(_cpu_per_row(work, ROWS))

        found = interleave({name: measured(work) for name, work in works.items()}, rounds=ROUNDS)
    print(f"CPU per row, {ROWS} rows a round, {CONCURRENCY} at once; targets: <= 1.70x, and <= 0.75x of abatch")
    print_ratios(found, PEER, unit="ms", scale=1000)
    print_ratios(found, "LangGraph abatch", unit="ms", scale=1000)


async def _works(base_url: str, home: Path) -> dict[str, Work]:
    bare, graph = bare_client(base_url), one_call_graph(langchain_model(base_url))
    settings = replace(plait_settings(base_url), home=home, model="openai:m", max_concurrency=CONCURRENCY)
    ours = one_call_graph(chat_model("openai:m", settings=settings))

    async def sdk(rows: int) -> None:
        waiting = iter(range(rows))

        async def work() -> None:
            for _ in waiting:
                await bare.chat.completions.create(model="m", messages=MESSAGES)

        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(work())

    async def abatch(rows: int) -> None:
        await graph.abatch([{"question": QUESTION}] * rows, {"max_concurrency": CONCURRENCY})

    async def batch(rows: int, options: BatchOptions) -> None:
        with own_process(settings):
            data = [{"question": f"{QUESTION} {number}"} for number in range(rows)]
            async for row in plait.batch(ours, data, settings=settings, options=options):
                assert row.status == "success", row.error

    return {
        PEER: sdk,
        "LangGraph abatch": abatch,
        "plait.batch, no journal": lambda rows: batch(rows, BatchOptions(journal=False)),
        BATCH: lambda rows: batch(rows, BatchOptions()),
    }


async def _cpu_per_row(work: Work, rows: int) -> float:
    """Seconds of this process's CPU time a row."""
    started = time.process_time()
    await work(rows)
    return (time.process_time() - started) / rows
