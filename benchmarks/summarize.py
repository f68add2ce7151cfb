"""How long 100 documents of 3 s each take through `summarize`'s map, against one after another."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import plait
from benchmarks.endpoint import endpoint
from benchmarks.measure import Figure
from benchmarks.subjects import plait_settings
from plait.settings import Settings

DOCUMENTS = 100
DELAY_S = 3.0
ROUNDS = 3
SENTENCE = "The river rose two metres in a night and the people of the lower town carried what they could uphill. "


def main() -> None:
    """Print wall seconds of the map and of the whole run, and the factor; one after another is computed."""
    with (
        endpoint(delay_s=DELAY_S, answer=SENTENCE * 3) as base_url,
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner() as runner,
    ):
        for number in range(DOCUMENTS):
            Path(folder, f"{number:03}.txt").write_text(f"Document {number}. {SENTENCE * 30}", encoding="utf-8")
        settings = plait_settings(base_url).override(model="openai:m")
        runner.run(_walls(folder, settings))  # imports, opens the connections
        found = [runner.run(_walls(folder, settings)) for _ in range(ROUNDS)]
    in_turn = DOCUMENTS * DELAY_S
    mapped = Figure.of([wall for wall, _ in found])
    print(f"{DOCUMENTS} documents of {DELAY_S:g} s each, streamed, {ROUNDS} rounds")
    print(f"map        {mapped.text(' s')}; target <= 5 s")
    whole = Figure.of([wall for _, wall in found])
    print(f"whole run  {whole.text(' s')}; map, groups, summary: at least {3 * DELAY_S:g} s")
    factor = in_turn / mapped.median
    print(f"in turn    {in_turn:g} s, computed: {DOCUMENTS} x {DELAY_S:g} s; the map takes 1/{factor:.0f} of it")


async def _walls(folder: str, settings: Settings) -> tuple[float, float]:
    """Seconds until the last document's summary was there, and until the run's end."""
    started = time.perf_counter()
    mapped = 0.0
    async for event in plait.stream("summarize", {"path": folder}, settings=settings):
        if event.type == "update" and event.node == "summarize":
            mapped = time.perf_counter() - started
        elif event.type == "end":
            assert event.result.status == "success", event.result.error
            assert all(document["summary"] for document in event.result.outputs["documents"])
    return mapped, time.perf_counter() - started
