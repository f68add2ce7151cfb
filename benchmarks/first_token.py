"""What plait adds to the time to the first token: through a graph, minus the bare SDK's stream."""

from __future__ import annotations

import asyncio
import time

import openai

from benchmarks.endpoint import endpoint
from benchmarks.measure import Figure, interleave
from benchmarks.subjects import MESSAGES, QUESTION, bare_client, one_call_graph, plait_settings
from plait import runs
from plait.models import chat_model

PAIRS = 60
WARM_UP = 5


def main() -> None:
    """Print medians over single runs that alternate, and their difference."""
    with endpoint() as base_url, asyncio.Runner() as runner:
        settings = plait_settings(base_url)
        graph = one_call_graph(chat_model("openai:m", settings=settings))
        bare = bare_client(base_url)

        async def through_a_graph() -> float:
            started, first = time.perf_counter(), None
            async for event in runs.stream(graph, {"question": QUESTION}, settings=settings):
                if first is None and event.type == "token":
                    first = time.perf_counter() - started
            assert first is not None, "the run streamed no token"
            return first

        subjects = {
            "AsyncOpenAI stream": lambda: runner.run(_raw(bare)),
            "plait.runs.stream": lambda: runner.run(through_a_graph()),
        }
        interleave(subjects, rounds=WARM_UP)
        found = interleave(subjects, rounds=PAIRS)
    raw, ours = found.values()
    for name, values in found.items():
        print(f"{name:<20}  {Figure.of(values).text(' ms', scale=1000)}")
    added = Figure.of([mine - theirs for mine, theirs in zip(ours, raw, strict=True)])
    print(f"{'added':<20}  {added.text(' ms', scale=1000)}; target <= 5 ms, median of {PAIRS} pairs")


async def _raw(client: openai.AsyncOpenAI) -> float:
    started, first = time.perf_counter(), None
    async for chunk in await client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
        if first is None and chunk.choices and chunk.choices[0].delta.content:
            first = time.perf_counter() - started
    assert first is not None, "the answer streamed no token"
    return first
