"""A server whose event loop is held up still lives; one that hangs, sleeps or is dead does not."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from plait.service.running.heartbeats import HELD_S, SILENT_S, Heartbeat
from plait.simulator import running
from plait.store.service import ServiceStore
from plait.store.service.servers import GONE_S
from plait.store.waiters import Done
from tests.reliability.service_checks import all_over, runs_in
from tests.reliability.service_processes import PATIENCE_S, Server, Servers, until

# --- when it beats -----------------------------------------------------------------------------------


class Store:
    """Takes beats, and answers them when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[Done] = []
        self.heart = Heartbeat(self.asked.append, now=lambda: self.now)

    def later(self, seconds: float) -> int:
        """How many beats it is asked for, if its thread looks then."""
        self.now += seconds
        before = len(self.asked)
        self.heart.look()
        return len(self.asked) - before

    def answer(self, error: BaseException | None = None) -> None:
        self.asked[-1](error)


def test_nobody_beats_in_the_place_of_a_loop_that_does() -> None:
    store = Store()
    for _ in range(5):
        assert store.later(1.0) == 0
        store.heart.turn()
        store.heart.beaten()


def test_a_loop_that_is_held_up_is_beaten_for_until_it_counts_as_hung() -> None:
    store, beats = Store(), [0.0]
    while store.now < 1000.0 + 2 * HELD_S:
        if store.later(1.0):
            beats.append(store.now)
            store.answer()
    assert len(beats) > HELD_S / 4
    assert beats[-1] < 1000.0 + HELD_S
    assert store.heart.silent_s > SILENT_S


def test_a_beat_that_is_not_answered_is_not_followed_by_another() -> None:
    store = Store()
    assert store.later(2.0) == 1
    assert store.later(1.0) == 0
    store.answer(OSError("gone"))
    assert store.heart.silent_s == 3.0
    assert store.later(1.0) == 1


def test_after_a_silence_the_loop_is_the_first_to_beat() -> None:
    store = Store()
    assert store.later(SILENT_S + 1.0) == 0  # as where the process was stopped
    assert store.heart.silent_s > SILENT_S
    store.heart.beaten()
    assert store.later(2.0) == 1


def test_an_answer_that_comes_after_a_silence_does_not_hide_it() -> None:
    store = Store()
    assert store.later(2.0) == 1
    store.now += SILENT_S
    store.answer()
    assert store.heart.silent_s == SILENT_S + 2.0


async def test_a_beat_from_another_thread_is_heard_of(address: Path | str) -> None:
    now = [1000.0]
    async with ServiceStore(address, clock=lambda: now[0]) as one, ServiceStore(address, clock=lambda: now[0]) as other:
        await one.servers.beat("one")
        now[0] += 11.0
        assert await other.servers.gone() == ["one"]
        heart = Heartbeat(lambda done: one.servers.beat_soon("one", done))
        heart.start()
        await until(lambda: lives(other, "one"))
        await asyncio.to_thread(heart.stop)


async def lives(store: ServiceStore, server: str) -> bool:
    return server not in await store.servers.gone()


# --- in processes ------------------------------------------------------------------------------------

BLOCKING = """
import time
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from service_graphs import note
from typing_extensions import TypedDict

class State(TypedDict):
    topic: str
    seconds: float

async def block(state: State, config: RunnableConfig) -> dict[str, object]:
    note(config, "blocks")
    time.sleep(state["seconds"])
    note(config, "blocked")
    return {"topic": "done"}

graph = StateGraph(State).add_node("block", block).add_edge(START, "block").compile(name="blocking")
"""


@pytest.fixture
def servers(postgres: str, tmp_path: Path) -> Iterator[Servers]:
    """Two on PostgreSQL, with a workflow that holds the loop of its server."""
    with running() as provider, Servers(tmp_path, provider, address=postgres) as found:
        (tmp_path / "app" / "blocking.py").write_text(BLOCKING)
        names = {"dependencies": ["."], "graphs": {"blocking": "./blocking.py:graph"}}
        (tmp_path / "app" / "langgraph.json").write_text(json.dumps(names))
        found.start()
        found.start()
        yield found


@pytest.mark.real_time  # the thread that beats needs a moment of the machine every three seconds
async def test_a_run_whose_node_holds_the_loop_for_long_is_run_once(servers: Servers) -> None:
    one, _ = servers.running
    await ask(one, seconds=GONE_S + 4.0)
    await until(lambda: over(servers))
    assert notes(servers) == [(one.process.pid, "blocks"), (one.process.pid, "blocked")]
    assert ends(servers) == [("success", 1)]


@pytest.mark.real_time  # what another server runs meanwhile must end before the first one wakes up
async def test_a_server_that_was_stopped_while_its_loop_was_held_loses_its_run_and_does_not_end_it(
    servers: Servers,
) -> None:
    one, other = servers.running
    await ask(one, seconds=4.0)
    await until(lambda: noted(servers, one, "blocks"))
    one.signal(signal.SIGSTOP)
    await until(lambda: over(servers))
    one.signal(signal.SIGCONT)
    await until(lambda: is_well(one))
    assert (other.process.pid, "blocked") in notes(servers)
    assert ends(servers) == [("success", 2)]
    assert "plait_runs_total{" in await metrics(other)
    assert "plait_runs_total{" not in await metrics(one)


async def ask(server: Server, *, seconds: float) -> None:
    body = {"assistant_id": "blocking", "input": {"topic": "topic-00001", "seconds": seconds}}
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
        answer = await client.post(f"/threads/{uuid4()}/runs", json={**body, "if_not_exists": "create"})
    answer.raise_for_status()


async def over(servers: Servers) -> bool:
    return await asyncio.to_thread(all_over, servers.address)


def ends(servers: Servers) -> list[tuple[str, int]]:
    return [(run.status, run.attempt) for run in runs_in(servers.address)]


async def noted(servers: Servers, server: Server, what: str) -> bool:
    return (server.process.pid, what) in notes(servers)


def notes(servers: Servers) -> list[tuple[int, str]]:
    """Which process was where, in order."""
    text = servers.notes.read_text() if servers.notes.exists() else ""
    return [(int(line.split()[0]), line.split()[-1]) for line in text.splitlines()]


async def is_well(server: Server) -> bool:
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
        return (await client.get("/health")).status_code == 200


async def metrics(server: Server) -> str:
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
        return (await client.get("/metrics")).raise_for_status().text
