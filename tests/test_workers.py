"""Batches in worker processes: budgets, slow sources, repeated rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

import plait
from plait.batches import BatchOptions
from plait.settings import Settings, from_env
from plait.simulator import Behaviour, Simulator

APP = Path(__file__).parents[1]


@pytest.fixture
def settings(provider: Simulator, tmp_path: Path) -> Settings:
    env = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "k", "PLAIT_HOME": str(tmp_path)}
    return replace(from_env(env), model="openai:gpt-4.1-mini", max_attempts=2)


async def test_workers_keep_a_budget_and_end_well(provider: Simulator, settings: Settings) -> None:
    options = BatchOptions(workers=2, budget_tokens=1_000_000)
    rows = [{"name": f"n{number}"} for number in range(40)]
    records = [row async for row in plait.batch("greet", rows, app=APP, settings=settings, options=options)]
    assert sorted(record.position for record in records) == list(range(40))
    assert provider.counters.received == 40


async def test_a_row_that_comes_alone_is_run_at_once(provider: Simulator, settings: Settings) -> None:
    taken = asyncio.Event()

    async def one_at_a_time() -> AsyncIterator[dict[str, object]]:
        for number in range(6):
            yield {"name": f"n{number}"}
            taken.clear()
            await taken.wait()  # until the result of this one was seen

    seen = 0
    async for _ in plait.batch("greet", one_at_a_time(), app=APP, settings=settings, options=BatchOptions(workers=2)):
        seen += 1
        taken.set()
    assert seen == 6


async def test_a_row_is_repeated_before_its_worker_has_written_anything(
    provider: Simulator, settings: Settings
) -> None:
    provider.behave = lambda body, index: Behaviour(stall=True) if index == 0 else None
    options = BatchOptions(workers=2, row_attempts=3, timeout_s=5.0)
    rows = [{"name": "Ada"}]
    records = [row async for row in plait.batch("greet", rows, app=APP, settings=settings, options=options)]
    assert [record.status for record in records] == ["success"]
    assert records[0].attempts == 2
