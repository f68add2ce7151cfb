"""Several servers on one PostgreSQL: they share the queue, threads and streams, and one may go at any moment."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from plait.simulator import Behaviour, Body, running
from plait.simulator.prompts import last_user_message
from tests.command import plait
from tests.reliability.service_checks import Calls, Run, runs_in
from tests.reliability.service_clients import Event
from tests.reliability.service_clients import _events as events_of
from tests.reliability.service_graphs import CALLS
from tests.reliability.service_processes import PATIENCE_S, Server, Servers, until
from tests.servers import Server as Database
from tests.servers import postgres_server

_numbers = itertools.count()


@dataclass
class Stage:
    """Servers, what their provider holds back, and what it was asked."""

    servers: Servers
    calls: Calls = field(default_factory=Calls)
    held: dict[str, asyncio.Event] = field(default_factory=dict)

    def behave(self, body: Body, number: int) -> Behaviour | None:
        self.calls.note(body, number)
        prompt = last_user_message(body)
        return next((Behaviour(hold=event) for topic, event in self.held.items() if topic in prompt), None)

    def topic(self, *, held: bool = False) -> str:
        """One that no other run has; `held` back are its answers until `release`."""
        topic = f"topic-{next(_numbers):05d}"
        if held:
            self.held[topic] = asyncio.Event()
        return topic

    def release(self, *topics: str) -> None:
        for topic in topics:
            self.servers.provider.release(self.held.pop(topic))

    async def asked(self, topic: str) -> None:
        """Return when a run of it has asked the provider."""
        async with asyncio.timeout(PATIENCE_S):
            await self.servers.provider.reach(lambda _: self.calls.asked[topic] > 0)

    async def run(self, topic: str) -> Run:
        found = await asyncio.to_thread(runs_in, self.servers.address)
        return next(run for run in found if run.topic == topic)

    async def succeeded(self, *topics: str) -> None:
        """Return when the runs are over; fails where one did not succeed."""

        async def over() -> bool:
            return all([(await self.run(topic)).status not in ("pending", "running") for topic in topics])

        await until(over)
        assert [(await self.run(topic)).status for topic in topics] == ["success"] * len(topics)


@pytest.fixture(scope="module")
def address(postgres_instance: Database) -> Iterator[str]:
    """Of an empty schema."""
    name = f"s{uuid4().hex[:12]}"
    with psycopg.connect(postgres_instance.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
        yield f"{postgres_instance.url}?options=-csearch_path%3D{name}"
        connection.execute(f"DROP SCHEMA {name} CASCADE".encode())


@pytest.fixture(scope="module")
def stage(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Two servers, each of which runs one run at a time."""
    folder = tmp_path_factory.mktemp("replicas")
    with running() as provider, Servers(folder, provider, "--max-running", "1", address=address) as servers:
        stage = Stage(servers)
        provider.answer, provider.behave = stage.calls.answer, stage.behave
        servers.start()
        servers.start()
        yield stage


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=PATIENCE_S) as opened:
        yield opened


def body(topic: str, **more: Any) -> dict[str, Any]:
    return {"assistant_id": "turns", "input": {"topic": topic}, "if_not_exists": "create", **more}


RESUMABLE = {"stream_resumable": True, "stream_mode": ["values", "messages-tuple"]}


async def follow(
    client: httpx.AsyncClient, server: Server, run: str, *, after: str | None = None
) -> AsyncIterator[Event]:
    async with client.stream(
        "GET", f"{server.url}{run}/stream", headers={} if after is None else {"last-event-id": after}
    ) as answer:
        answer.raise_for_status()
        async for event in events_of(answer):
            yield event


async def started(client: httpx.AsyncClient, server: Server, topic: str, **more: Any) -> str:
    """Ask for a run in the background; its path."""
    thread = uuid4()
    answer = await client.post(f"{server.url}/threads/{thread}/runs", json=body(topic, **more))
    return f"/threads/{thread}/runs/{answer.raise_for_status().json()['run_id']}"


async def test_a_stream_goes_on_at_another_replica_behind_its_last_event(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    one, other = stage.servers.running
    topic = stage.topic(held=True)
    read: list[Event] = []
    async with client.stream(
        "POST", f"{one.url}/threads/{uuid4()}/runs/stream", json=body(topic, **RESUMABLE)
    ) as answer:
        run = re.sub(r"/stream$", "", answer.headers["content-location"])
        async with aclosing(events_of(answer)) as events:  # type: ignore[type-var]
            read.append(await anext(events))
            read.append(await anext(events))
    elsewhere = asyncio.create_task(all_of(follow(client, other, run, after=read[-1].id)))
    await stage.asked(topic)
    stage.release(topic)
    read += await elsewhere
    assert read == await all_of(follow(client, one, run, after="-1"))
    assert read[0].name == "metadata"
    assert f"Tell {topic} answer-{topic}" in read[-1].data
    assert stage.calls.asked[topic] == CALLS


async def all_of(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


async def test_an_idle_replica_takes_what_waits_at_a_busy_one(stage: Stage, client: httpx.AsyncClient) -> None:
    one, _ = stage.servers.running
    first, taken, last = (stage.topic(held=True) for _ in range(3))
    await started(client, one, first)
    await stage.asked(first)
    run = await started(client, one, taken, **RESUMABLE)
    reading = asyncio.create_task(all_of(follow(client, one, run, after="-1")))
    joined = asyncio.create_task(client.get(f"{one.url}{run}/join"))
    await stage.asked(taken)
    await started(client, one, last)  # neither of them has room
    stage.release(taken)
    events = await reading
    assert f"Tell {taken} answer-{taken}" in events[-1].data
    assert (await joined).json()["told"] == [f"Tell {taken} answer-{taken}"]
    await stage.asked(last)
    assert (await stage.run(first)).status == "running"
    stage.release(first, last)
    await stage.succeeded(first, taken, last)
    assert {(await stage.run(topic)).attempt for topic in (first, taken, last)} == {1}


async def test_a_run_that_streams_to_a_client_is_not_taken_from_its_server(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    one, _ = stage.servers.running
    first, streamed, other = (stage.topic(held=True) for _ in range(3))
    await started(client, one, first)
    await stage.asked(first)

    async def stream() -> list[Event]:
        url = f"{one.url}/threads/{uuid4()}/runs/stream"
        async with client.stream("POST", url, json=body(streamed)) as answer:
            return await all_of(events_of(answer))

    reading = asyncio.create_task(stream())
    await until(lambda: exists(stage, streamed))
    await started(client, one, other)
    await stage.asked(other)  # though it came later
    assert stage.calls.asked[streamed] == 0
    stage.release(first, other, streamed)
    assert f"Tell {streamed} answer-{streamed}" in (await reading)[-1].data
    await stage.succeeded(first, other, streamed)


async def exists(stage: Stage, topic: str) -> bool:
    return any(run.topic == topic for run in await asyncio.to_thread(runs_in, stage.servers.address))


async def test_a_run_is_cancelled_and_waited_for_at_another_replica(stage: Stage, client: httpx.AsyncClient) -> None:
    one, other = stage.servers.running
    topic = stage.topic(held=True)
    run = await started(client, one, topic)
    await stage.asked(topic)
    answer = await client.post(f"{other.url}{run}/cancel", params={"wait": "1"})
    assert answer.status_code < 300, answer.text
    assert (await client.get(f"{one.url}{run}")).json()["status"] == "interrupted"
    stage.release(topic)


async def test_runs_of_a_replica_that_is_killed_go_on_at_once_at_another(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    victim = await asyncio.to_thread(stage.servers.start)
    running_there, waiting = stage.topic(held=True), stage.topic()
    path = await started(client, victim, running_there, **RESUMABLE)
    await stage.asked(running_there)
    thread = path.split("/")[2]
    behind = await client.post(f"{victim.url}/threads/{thread}/runs", json=body(waiting))
    behind.raise_for_status()
    killed_at = time.monotonic()
    await asyncio.to_thread(stage.servers.kill, victim)
    stage.release(running_there)
    survivor = stage.servers.running[0]
    events = await all_of(follow(client, survivor, path, after="-1"))
    recovered_s = time.monotonic() - killed_at
    assert [event.name for event in events].count("metadata") == 2  # of each attempt
    assert f"Tell {running_there} answer-{running_there}" in events[-1].data
    await stage.succeeded(running_there, waiting)
    assert stage.calls.asked[running_there] <= CALLS + 1
    assert recovered_s < PATIENCE_S


# --- who may join ------------------------------------------------------------------------------------


def test_a_server_of_another_plait_is_refused_and_both_versions_are_named(stage: Stage) -> None:
    address = str(stage.servers.address)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO servers (server, version, seen) VALUES ('9@8-7', '99.1.0', extract(epoch FROM now()) + 60)"
        )
        try:
            ended = plait("keys", "list", "--store", address)
        finally:
            connection.execute("DELETE FROM servers WHERE server = '9@8-7'")
    assert ended.code != 0
    assert re.search(r"9@8-7 of plait 99\.1\.0 .* this is plait \d", ended.err), ended.err
    assert plait("keys", "list", "--store", address).code == 0


def test_keys_are_kept_in_the_database_that_the_environment_names(stage: Stage) -> None:
    address = str(stage.servers.address)
    made = plait("keys", "create", "front", env={"PLAIT_STORE": address})
    assert made.code == 0, made.err
    assert "front" in plait("keys", "list", "--store", address).out


@pytest.mark.parametrize(
    ("dsn", "found"),
    [
        ("postgresql://ann:secret@127.0.0.1:1/plait", r"write postgresql://.*127\.0\.0\.1:1/plait: .*refused"),
        ("mysql://ann:secret@127.0.0.1/plait", r"expected postgresql://"),
        ("postgresql://ann:secret@127.0.0.1/plait?nonsense=1", r"expected a DSN"),
    ],
)
def test_a_store_that_cannot_be_reached_is_one_line_without_its_password(dsn: str, found: str, tmp_path: Path) -> None:
    words = ["serve", "--port", "0", "--model", "local:smollm2-135m"] if ":1/" in dsn else ["keys", "list"]
    ended = plait(*words, "--store", dsn, env={"PLAIT_HOME": str(tmp_path)})
    assert ended.code != 0
    assert re.search(found, ended.err), ended.err
    assert "secret" not in ended.out + ended.err
    assert "Traceback" not in ended.err


# --- the database ------------------------------------------------------------------------------------


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[tuple[Database, Stage]]:
    """A database of the test's own, and a server on it."""
    with (
        postgres_server() as database,
        running() as provider,
        Servers(tmp_path, provider, address=database.url) as servers,
    ):
        stage = Stage(servers)
        provider.answer, provider.behave = stage.calls.answer, stage.behave
        servers.start()
        yield database, stage


async def test_a_restart_of_the_database_loses_no_run_and_is_told_by_health(
    fragile: tuple[Database, Stage], client: httpx.AsyncClient
) -> None:
    database, stage = fragile
    (server,) = stage.servers.running
    topic, late = stage.topic(held=True), stage.topic()
    run = await started(client, server, topic)
    waiting = asyncio.create_task(client.get(f"{server.url}{run}/join"))
    await stage.asked(topic)
    await asyncio.to_thread(database.stop)
    await until(lambda: health_is(client, server, 503))
    asked = asyncio.create_task(started(client, server, late))
    stage.release(topic)
    await asyncio.to_thread(database.start)
    assert (await waiting).json()["told"] == [f"Tell {topic} answer-{topic}"]
    await asked
    await stage.succeeded(topic, late)
    assert stage.calls.asked[topic] == CALLS
    await until(lambda: health_is(client, server, 200))
    assert (await client.get(f"{server.url}/ok", params={"check_db": "1"})).json() == {"ok": True}


async def health_is(client: httpx.AsyncClient, server: Server, status: int) -> bool:
    answer = await client.get(f"{server.url}/health")
    assert status != 503 or answer.status_code == 200 or "has not answered" in answer.json()["detail"]
    return answer.status_code == status
