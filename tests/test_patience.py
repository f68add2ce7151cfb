"""What a run says when waiting for an endpoint is hopeless: on what it waited, for how long, and until when."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from plait import run
from plait.errors import GaveUp, QuotaReached
from plait.settings import Settings, from_env
from plait.simulator import Behaviour, Profile, Simulator


def settings_of(provider: Simulator, home: Path, **changes: object) -> Settings:
    environ = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "sk-secret", "PLAIT_HOME": str(home)}
    return from_env({**environ, "PLAIT_MODEL": "openai:m"}).override(**changes)


async def tell(settings: Settings) -> None:
    await run("story", {"topic": "a quota"}, settings=settings)


async def test_a_quota_of_ones_own_counts_over_runs_and_ends_with_the_time_of_its_reset(tmp_path: Path) -> None:
    async with Simulator() as provider:
        settings = settings_of(provider, tmp_path, rpd=2, max_wait_s=0.0)
        await tell(settings)
        await tell(settings)
        with pytest.raises(QuotaReached, match=r"resets at \d{4}-\d\d-\d\d \d\d:\d\d") as found:
            await tell(settings)
    assert 0 < found.value.resets_at - time.time() <= 86_400
    assert len(provider.requests) == 2


async def test_a_quota_of_the_endpoint_is_asked_for_once_and_then_known(tmp_path: Path) -> None:
    async with Simulator(Profile(rpd=1, headers="none")) as provider:
        settings = settings_of(provider, tmp_path, max_wait_s=0.0)
        await tell(settings)
        with pytest.raises(QuotaReached):
            await tell(settings)
        asked = len(provider.requests)
        with pytest.raises(QuotaReached):
            await tell(settings)
        assert len(provider.requests) == asked == 2


async def test_an_endpoint_that_refuses_for_ever_is_given_up_by_the_deadline(tmp_path: Path) -> None:
    async with Simulator() as provider:
        provider.behave = lambda body, index: Behaviour(status=429)
        with pytest.raises(GaveUp, match=r"requests per minute") as found:
            await tell(settings_of(provider, tmp_path, deadline_s=1.5))
    assert found.value.cause == "rpm"
    assert 1 <= len(provider.requests) <= 6


async def test_an_endpoint_that_asks_to_wait_for_days_is_given_up_at_once(tmp_path: Path) -> None:
    async with Simulator() as provider:
        provider.behave = lambda body, index: Behaviour(status=429, headers={"retry-after": "259200"})
        with pytest.raises(GaveUp, match=r"in 72\.0 h"):
            await tell(settings_of(provider, tmp_path))
    assert len(provider.requests) == 1
