"""Batches that are kept in PostgreSQL: what holds for those in files, and what only a server can do to them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

import plait
from plait.batches import BatchOptions
from plait.errors import BatchPaused, SettingsError, StoreError
from plait.exports import export
from plait.settings import Settings, from_env
from plait.simulator import Behaviour, Profile, Simulator, running
from plait.store.places import shelf_of
from plait.store.postgres.claims import LEASE_S, is_held
from tests.batch_apps import app_with
from tests.command import plait as plait_command
from tests.command import started
from tests.servers import Server, postgres_server
from tests.test_batches import (  # noqa: F401 - they run here over PostgreSQL
    four_calls,
    one_call,
    read,
    rows,
    run,
    settings,
    test_a_failed_row_is_repeated_with_its_answers,
    test_a_failed_row_touches_no_other,
    test_a_generators_rows_run_with_what_a_resume_reads,
    test_a_refused_key_pauses_with_all_rows_pending,
    test_a_spent_quota_is_parked_with_its_time,
    test_every_row_has_one_result_that_is_stored,
    test_leaving_early_pays_nothing_twice,
    test_max_errors_pauses,
)

APP = Path(__file__).parents[1]


@pytest.fixture
def home(settings: Settings, tmp_path: Path, postgres: str) -> Settings:  # noqa: F811 - pytest's way to ask for it
    return settings.override(home=tmp_path, store=postgres)


@pytest.fixture
def server() -> Generator[Server]:
    """One that may be stopped."""
    with postgres_server() as found:
        yield found


def exported(settings: Settings, batch_id: str, target: Path) -> bytes:  # noqa: F811
    with shelf_of(settings).place(batch_id).read() as reader:
        export(reader, target)
    return target.read_bytes()


async def test_results_are_the_same_bytes_from_files_and_postgres_alone_and_by_workers(
    provider: Simulator, postgres: str, tmp_path: Path
) -> None:
    env = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "k", "PLAIT_HOME": str(tmp_path)}
    files = replace(from_env(env), model="openai:gpt-4.1-mini")
    names = [{"name": f"n{number}"} for number in range(30)]
    found = []
    for number, (store, workers) in enumerate([(None, 1), (postgres, 1), (postgres, 2)]):
        used = files.override(store=store)
        batch = plait.batch("greet", names, app=APP, settings=used, options=BatchOptions(workers=workers))
        records = await run(batch)
        assert sorted(record.position for record in records) == list(range(30))
        # Whoever iterates gets outputs, also where workers stored them and sent none.
        assert all(isinstance(record.outputs, dict) and record.outputs for record in records)
        found.append(await asyncio.to_thread(exported, used, batch.id, tmp_path / f"{number}.jsonl"))
    assert found[0].count(b"\n") == 30
    assert found[0] == found[1] == found[2]


async def test_a_restart_of_the_server_loses_no_row_and_no_answer(
    provider: Simulator,
    settings: Settings,  # noqa: F811
    server: Server,
    tmp_path: Path,
) -> None:
    provider.change(latency_s=0.02, latency_law="fixed")
    kept = settings.override(home=tmp_path, store=server.url, max_concurrency=20)
    batch = plait.batch(four_calls(), rows(100), settings=kept)
    ended = 0
    async for _ in batch:
        ended += 1
        if ended in (20, 60):
            await asyncio.to_thread(server.restart, kill=ended == 60)
    stored = await read(kept, batch)
    assert (ended, stored.counts, stored.paid_calls) == (100, {"success": 100}, 400)
    assert provider.counters.accepted == 400


def test_a_batch_whose_process_was_killed_is_gone_on_with_at_once(tmp_path: Path, postgres: str) -> None:
    app = app_with(tmp_path / "app", [f"text {number}" for number in range(20)])
    shelf = shelf_of(Settings(home=tmp_path, store=postgres))
    with running(Profile(latency_s=5.0, latency_law="fixed")) as provider:
        env = {
            "OPENAI_BASE_URL": provider.base_url,
            "PLAIT_STORE": postgres,
            "PLAIT_MODEL": "openai:m",
            "PLAIT_MAX_CONCURRENCY": "4",
        }
        with started("batch", "ask", "texts.jsonl", cwd=app, env=env | {"PLAIT_HOME": str(tmp_path / "a")}) as process:
            while provider.counters.received < 9:
                time.sleep(0.05)
            [batch] = shelf.batches()
            assert batch.status == "running"
            second = plait_command("resume", batch.id, cwd=app, env=env)
            assert (second.code, f"process {process.pid}@" in second.err) == (2, True), second.err
        assert shelf.batches()[0].status == "paused"
        provider.change(latency_s=0.0)
        ended = plait_command("resume", cwd=app, env=env | {"PLAIT_HOME": str(tmp_path / "b")})
        assert ended.code == 0, ended.err
        assert shelf.batches()[0].counts == {"success": 20}
        assert provider.counters.received <= 20 + 4


async def test_a_claim_of_a_host_that_nobody_can_see_ends_by_itself() -> None:
    assert is_held("77@other-host.4026.99#1", 100.0, 100.0 + LEASE_S - 1)
    assert not is_held("77@other-host.4026.99#1", 100.0, 100.0 + LEASE_S)
    assert not is_held(None, 100.0, 100.0)


async def test_a_batch_that_was_taken_over_stops(provider: Simulator, home: Settings) -> None:
    provider.behave = lambda body, index: Behaviour(stall=True)
    batch = plait.batch(one_call(), rows(5), settings=home)
    running = asyncio.ensure_future(run(batch))
    while provider.counters.received < 5:  # noqa: ASYNC110 - the simulator has no event for it
        await asyncio.sleep(0.01)

    def take() -> None:
        with psycopg.connect(str(home.store)) as connection:
            connection.execute("UPDATE batches SET owner = 'somebody else'")

    await asyncio.to_thread(take)
    with pytest.raises(BatchPaused, match="taken over by another process"):
        await running


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("postgresql://plait:geheim@127.0.0.1:1/plait", "cannot read postgresql://127.0.0.1:1/plait: .*refused"),
        ("postgresql://plait:geheim@127.0.0.1:1/plait?nonsense=1", "expected a DSN"),
    ],
)
async def test_a_server_that_cannot_be_reached_is_told_without_the_password(
    dsn: str,
    words: str,
    settings: Settings,  # noqa: F811
    tmp_path: Path,
) -> None:
    batch = plait.batch(one_call(), rows(2), settings=settings.override(home=tmp_path, store=dsn))
    with pytest.raises(StoreError, match=words) as raised:
        await run(batch)
    assert "geheim" not in str(raised.value)
    assert "geheim" not in repr(settings.override(store=dsn))


async def test_a_database_of_a_newer_plait_is_refused(home: Settings) -> None:
    await run(plait.batch(one_call(), rows(1), settings=home))

    def age() -> None:
        with psycopg.connect(str(home.store)) as connection:
            connection.execute("UPDATE plait_versions SET version = 99 WHERE part = 'batches'")

    await asyncio.to_thread(age)
    with pytest.raises(StoreError, match="batches version 99, this plait knows up to 1: install a newer plait"):
        await run(plait.batch(one_call(), rows(1), settings=home))


@pytest.mark.parametrize("value", ["mysql://host/db", "postgres", "POSTGRESQL://host/db", "sqlite:///file.db"])
def test_a_store_that_is_no_postgres_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match=r"PLAIT_STORE: expected postgresql://"):
        from_env({"PLAIT_STORE": value})


@pytest.mark.parametrize("password", ["1234/se@cret", "a[b", "a]b@", "p#x@"])
def test_a_password_that_ends_its_url_is_refused_unshown(password: str) -> None:
    with pytest.raises(SettingsError, match="percent-encoded") as raised:
        from_env({"PLAIT_STORE": f"postgresql://user:{password}@host/db"})
    assert password not in str(raised.value)


def test_rows_of_a_pipe_are_kept_for_a_resume_from_elsewhere(tmp_path: Path, postgres: str) -> None:
    app = app_with(tmp_path / "app", [])
    lines = "".join(f'{{"id": "r{n}", "text": "text {n}"}}\n' for n in range(12)) + '{"id": "r12", "text": "bad one"}\n'
    env = {"PLAIT_STORE": postgres, "PLAIT_MODEL": "openai:m", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    first = plait_command("batch", "count", "-", cwd=app, env=env | {"PLAIT_HOME": str(tmp_path / "a")}, stdin=lines)
    assert (first.code, first.out.count("\n")) == (1, 13), first.err
    (app / "langgraph.json").touch()
    again = plait_command("resume", "--errors-only", cwd=app, env=env | {"PLAIT_HOME": str(tmp_path / "b")})
    assert (again.code, again.out.count('"r12"')) == (1, 1), again.err


def test_a_missing_extra_is_named_with_its_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    with pytest.raises(SettingsError, match=r"pip install 'plait\[postgres\]'"):
        shelf_of(Settings(home=tmp_path, store="postgresql://somewhere/db"))
