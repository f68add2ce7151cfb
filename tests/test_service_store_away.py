"""Runs whose store fails just then: they end as they did, or go on later, and nobody is told of an end that is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from fastapi import HTTPException

from plait.app import App
from plait.flow.recorders import Observer
from plait.service.listeners import Figures
from plait.service.options import ServiceOptions
from plait.service.services import Service
from plait.store.service.records import RunRecord
from tests.reliability.service_processes import PATIENCE_S, until
from tests.serving import settings_in
from tests.test_service_engine import module_of, odd_in, wait_for_hold
from tests.test_service_runs import asking, seen, told


class Told:
    """A listener that notes how runs ended, and which went elsewhere or wait for their store."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []
        self.moved: list[str] = []

    def on_queued(self, run: RunRecord) -> None: ...

    def on_started(self, run: RunRecord) -> Observer | None:
        return None

    def on_first_token(self, run: RunRecord, seconds: float) -> None: ...

    def on_sent(self, run: RunRecord, events: int) -> None: ...

    def on_reader_cut(self, run: RunRecord) -> None: ...

    def on_moved(self, run: RunRecord) -> None:
        self.moved.append(run.run_id)

    def on_ended(self, run: RunRecord, figures: Figures) -> None:
        self.ended.append((run.run_id, run.status))


@pytest.fixture
def odd(tmp_path: Path) -> App:
    return odd_in(tmp_path)


@asynccontextmanager
async def service_at(dsn: str, folder: Path, app: App, told: Told) -> AsyncGenerator[Service]:
    settings, options = settings_in(folder), ServiceOptions(grace_s=0.05)
    async with Service(app=app, settings=settings, address=dsn, options=options, listeners=[told]) as service:
        yield service


@contextmanager
def failing(dsn: str, status: str, *, times: int) -> Iterator[None]:
    """While the block lasts the database fails, of itself and so many times, where a run is to get this status."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        # A sequence counts on where a transaction is undone.
        connection.execute(
            f"""
            CREATE SEQUENCE failures;
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF nextval('failures') <= {times} THEN RAISE EXCEPTION 'no more' USING ERRCODE = 'XX000'; END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER fail BEFORE UPDATE OF status ON runs
            FOR EACH ROW WHEN (NEW.status = '{status}') EXECUTE FUNCTION fail()
            """.encode()
        )
        try:
            yield
        finally:
            connection.execute("DROP TRIGGER fail ON runs; DROP FUNCTION fail; DROP SEQUENCE failures")


@contextmanager
def away(dsn: str) -> Iterator[None]:
    """While the block lasts runs can neither be read nor written."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE runs RENAME TO runs_away")
        try:
            yield
        finally:
            connection.execute("ALTER TABLE runs_away RENAME TO runs")


ALWAYS = 1_000_000


async def held(service: Service, **more: Any) -> RunRecord:
    """A run that has begun and goes on when its module's `release` is set."""
    run = await service.runner.start(asking("hold", {"value": 1}, str(uuid4()), **more))
    await wait_for_hold(service)
    return run


async def closed(service: Service, run: RunRecord) -> bool:
    return service.runner.course(run.run_id) is None


async def over(service: Service, run: RunRecord) -> bool:
    return (await seen(service, run))["status"] not in ("pending", "running")


async def test_an_end_that_the_store_refused_once_is_stored_as_it_was(postgres: str, tmp_path: Path, odd: App) -> None:
    noted = Told()
    async with service_at(postgres, tmp_path, odd, noted) as service:
        run = await held(service)
        with failing(postgres, "success", times=1):
            module_of(service).release.set()
            async with asyncio.timeout(PATIENCE_S):
                outcome = await service.runner.outcome(run.run_id)
        assert outcome is not None
        assert (outcome.status, outcome.error) == ("success", None)
        assert await seen(service, run) == {"status": "success", "attempt": 1}
    assert noted.ended == [(run.run_id, "success")]


async def test_a_run_whose_end_cannot_be_stored_ends_for_nobody_until_it_was_run_on(
    postgres: str, tmp_path: Path, odd: App
) -> None:
    noted = Told()
    async with service_at(postgres, tmp_path, odd, noted) as service:
        run = await held(service, streamed=True)
        reading = asyncio.create_task(told(service, run, after=None))
        waiting = asyncio.create_task(service.runner.outcome(run.run_id))
        await asyncio.sleep(0)
        with failing(postgres, "success", times=ALWAYS):
            module_of(service).release.set()
            await until(lambda: closed(service, run))
            parts = await reading
            assert (parts[-1].event, b"goes on when the store is back" in parts[-1].data) == ("error", True)
            assert (await seen(service, run))["status"] == "running"
            assert not waiting.done()
        async with asyncio.timeout(PATIENCE_S):
            outcome = await waiting
        assert outcome is not None
        assert (outcome.status, outcome.values) == ("success", {"value": "nobody", "trail": []})
        assert await seen(service, run) == {"status": "success", "attempt": 2}
    assert noted.ended == [(run.run_id, "success")]
    assert noted.moved == [run.run_id]  # no longer counted as running, in between


async def test_who_waits_for_a_run_gets_a_503_while_its_store_cannot_be_read(
    postgres: str, tmp_path: Path, odd: App
) -> None:
    noted = Told()
    async with service_at(postgres, tmp_path, odd, noted) as service:
        run = await held(service)
        waiting = asyncio.create_task(service.runner.outcome(run.run_id))
        await asyncio.sleep(0)
        with away(postgres):
            module_of(service).release.set()
            async with asyncio.timeout(PATIENCE_S):
                with pytest.raises(HTTPException) as refused:
                    await waiting
        assert refused.value.status_code == 503
        assert "goes on when the store is back" in refused.value.detail
        await until(lambda: over(service, run))
        assert (await seen(service, run))["status"] == "success"
    assert noted.ended == [(run.run_id, "success")]


async def test_who_waits_for_a_run_that_ends_with_its_client_gets_a_503_at_once(
    postgres: str, tmp_path: Path, odd: App
) -> None:
    async with service_at(postgres, tmp_path, odd, Told()) as service:
        run = await held(service, cancel_on_disconnect=True)
        waiting = asyncio.create_task(service.runner.outcome(run.run_id))
        await asyncio.sleep(0)
        with failing(postgres, "success", times=ALWAYS):
            module_of(service).release.set()
            async with asyncio.timeout(PATIENCE_S):
                with pytest.raises(HTTPException) as refused:
                    await waiting
        assert refused.value.status_code == 503


async def test_a_run_that_cannot_be_claimed_keeps_its_place_in_line(postgres: str, tmp_path: Path, odd: App) -> None:
    noted = Told()
    async with service_at(postgres, tmp_path, odd, noted) as service:
        with failing(postgres, "running", times=1):
            run = await service.runner.start(asking("who", {"value": 1}, str(uuid4())))
            async with asyncio.timeout(PATIENCE_S):
                outcome = await service.runner.outcome(run.run_id)
        assert outcome is not None
        assert outcome.status == "success"
        assert await seen(service, run) == {"status": "success", "attempt": 1}
    assert noted.ended == [(run.run_id, "success")]


async def test_a_cancel_that_cannot_be_stored_is_not_forgotten(postgres: str, tmp_path: Path, odd: App) -> None:
    noted = Told()
    async with service_at(postgres, tmp_path, odd, noted) as service:
        run = await service.runner.start(asking("who", {"value": 1}, str(uuid4()), after_s=3600.0))
        with failing(postgres, "interrupted", times=2):
            async with asyncio.timeout(PATIENCE_S):
                await service.runner.cancel(run.run_id, wait=True)
        assert (await seen(service, run))["status"] == "interrupted"
    assert noted.ended == [(run.run_id, "interrupted")]
