"""CPU time of a row (a graph with one model call, tokens off), as a multiple of the bare SDK's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from benchmarks.endpoint import endpoint
from benchmarks.measure import interleave, print_ratios
from benchmarks.subjects import (
    MESSAGES,
    QUESTION,
    bare_client,
    instant_client,
    langchain_model,
    one_call_graph,
    plait_settings,
)
from plait import runs
from plait.models import chat_model

ROWS = 500
CONCURRENCY = 50
ROUNDS = 7
PEER = "AsyncOpenAI, default client"

Call = Callable[[], Awaitable[object]]


def main() -> None:
    """Print CPU milliseconds a row and ratios; the provider's CPU is not in them (it is another process)."""
    with endpoint() as base_url, asyncio.Runner() as runner:
        calls = runner.run(_calls(base_url))
        for call in calls.values():
            runner.run(_cpu_per_row(call, ROWS // 2))

        def measured(call: Call) -> Callable[[], float]:
            return lambda: runner.run(_cpu_per_row(call, ROWS))

        found = interleave({name: measured(call) for name, call in calls.items()}, rounds=ROUNDS)
    print(f"CPU per row, {ROWS} rows a round, {CONCURRENCY} at once; target: plait.runs.run <= 1.60x")
    print_ratios(found, PEER, unit="ms", scale=1000)


async def _calls(base_url: str) -> dict[str, Call]:
    bare, instant, chat = bare_client(base_url), instant_client(), langchain_model(base_url)
    graph = one_call_graph(langchain_model(base_url))
    settings = plait_settings(base_url)
    ours = one_call_graph(chat_model("openai:m", settings=settings))
    question = {"question": QUESTION}
    return {
        "AsyncOpenAI, no network": lambda: instant.chat.completions.create(model="m", messages=MESSAGES),
        PEER: lambda: bare.chat.completions.create(model="m", messages=MESSAGES),
        "ChatOpenAI": lambda: chat.ainvoke(QUESTION),
        "ChatOpenAI in a graph": lambda: graph.ainvoke(question),
        "plait.runs.run": lambda: runs.run(ours, question, settings=settings),
    }


async def _cpu_per_row(call: Call, rows: int) -> float:
    """Seconds of this process's CPU time a row."""
    waiting = iter(range(rows))

    async def work() -> None:
        for _ in waiting:
            await call()

    started = time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(work())
    return (time.process_time() - started) / rows
