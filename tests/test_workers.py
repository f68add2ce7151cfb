"""Batches in worker processes: budgets, slow sources, repeated rows."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

import plait
from plait.batches import BatchOptions
from plait.batches.answers import Paid
from plait.batches.channels import Ended, Lease, NoMore, Orders, Wanted
from plait.batches.executions import UNREAD
from plait.batches.spending import Spending
from plait.batches.workers import Keeping, WorkerExecution
from plait.batches.workplaces import NoRoom
from plait.datasets.examples import Example
from plait.prices import load_prices
from plait.settings import Settings, from_env
from plait.simulator import Behaviour, Simulator, running
from plait.store.places import shelf_of
from plait.store.rows import RowRecord
from tests.command import endpoint_env

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


def test_workers_import_nothing_from_where_the_command_is_typed(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("raise RuntimeError('nobody asked for this one')\n")
    (tmp_path / "names.jsonl").write_text('{"name": "Ada"}\n{"name": "Bob"}\n')
    plait_script = Path(sys.executable).with_name("plait")  # not -m, which would look there itself
    words = ["batch", "greet", "names.jsonl", "--app", str(APP), "--workers", "2"]
    with running() as provider:
        env = {**os.environ, **endpoint_env(provider)}
        done = subprocess.run([plait_script, *words], cwd=tmp_path, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stdout.count(b"\n")) == (0, 2), done.stderr.decode()


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


class Companion:
    """A worker in memory: asks for two rows at a time and ends them at once, as many as `ends`; then it may die."""

    def __init__(self, *, ends: int = 1_000, dies: bool = False, reads: bool = True) -> None:
        self._ends = ends
        self._dies = dies
        self._reads = reads
        self._said: asyncio.Queue[object | None] = asyncio.Queue()
        self._said.put_nowait(Wanted(2))

    def send(self, message: object) -> None:
        if isinstance(message, NoMore):
            self._said.put_nowait(None)
        if not isinstance(message, Lease):
            return
        for example in message.examples[: self._ends]:
            self._said.put_nowait(Ended(RowRecord(example.position, example.id, "success")))
        self._ends -= len(message.examples)
        if self._ends > 0:
            self._said.put_nowait(Wanted(2))
        elif self._dies:
            self.die()

    def die(self) -> None:
        self._said.put_nowait(None)

    async def flushed(self) -> None:
        if not self._reads:
            await asyncio.Event().wait()

    async def receive(self) -> object | None:
        return await self._said.get()

    async def dismissed(self) -> str:
        return "signal 9"


class Room:
    """A Workplace of these companions; None: there is no room for one. It may break as it opens, or as it closes."""

    ahead = 4

    def __init__(self, room: int, companions: list[Companion | None], *, breaks: str | None = None) -> None:
        self.room = room
        self._companions = companions
        self._breaks = breaks

    async def __aenter__(self) -> Room:
        if self._breaks == "opening":
            raise LookupError("it broke")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._breaks == "closing":
            raise LookupError("it broke")

    async def hire(self, orders: Orders) -> Companion:
        found = self._companions.pop(0)
        if found is None:
            raise NoRoom("no room in time")
        return found


@pytest.fixture
async def execution(settings: Settings) -> Callable[[Room], WorkerExecution]:
    prices = await asyncio.to_thread(load_prices, settings.prices, settings.prices_file)

    async def store(_: RowRecord) -> None:
        return None

    def made(room: Room) -> WorkerExecution:
        nothing: Mapping[str, object] = {}
        orders = Orders(
            workflow="greet",
            app=None,
            settings=settings,
            context=nothing,
            options=BatchOptions(),
            group="b",
            answers=None,
            paid=Paid(),
            spent={},
        )
        return WorkerExecution(orders, room, Spending(prices), Keeping(store))

    return made


async def ended(execution: WorkerExecution, examples: AsyncIterator[Example]) -> list[int]:
    async with asyncio.timeout(10.0):
        return [record.position async for record in execution.results(examples)]


async def some(count: int) -> AsyncIterator[Example]:
    for position in range(count):
        yield Example(position, str(position), {})


async def test_rows_of_a_dead_worker_go_to_one_that_had_found_none_left(
    execution: Callable[[Room], WorkerExecution],
) -> None:
    dying, idle = Companion(ends=0), Companion()
    run = execution(Room(2, [dying, idle, None]))
    found = []
    async with asyncio.timeout(10.0):
        async for record in run.results(some(3)):
            found.append(record.position)
            if record.position == 2:
                dying.die()  # the other one has asked in vain
    assert (sorted(found), run.halted) == ([0, 1, 2], None)


async def test_rows_of_a_dead_worker_do_not_wait_for_the_source(execution: Callable[[Room], WorkerExecution]) -> None:
    dying, over = Companion(ends=0), asyncio.Event()
    run = execution(Room(2, [dying, Companion(), None]))

    async def slow() -> AsyncIterator[Example]:
        async for example in some(2):
            yield example
        dying.die()
        await over.wait()
        yield Example(2, "2", {})

    found = []
    async with asyncio.timeout(10.0):
        async for record in run.results(slow()):
            found.append(record.position)
            if len(found) == 2:
                over.set()
    assert sorted(found) == [0, 1, 2]


async def test_a_worker_that_reads_nothing_keeps_no_row_from_others(
    execution: Callable[[Room], WorkerExecution],
) -> None:
    stuck, found = Companion(ends=0, reads=False), []
    run = execution(Room(2, [stuck, Companion()]))
    async with asyncio.timeout(10.0):
        results = run.results(some(10))
        async for record in results:
            found.append(record.position)
            if len(found) == 8:
                break
        await results.aclose()
    assert sorted(found) == [2, 3, 4, 5, 6, 7, 8, 9]


async def test_many_workers_that_wait_for_a_row_keep_no_result_from_being_heard(
    execution: Callable[[Room], WorkerExecution],
) -> None:
    workers, heard = 2 * UNREAD, asyncio.Event()
    run = execution(Room(workers, [Companion() for _ in range(workers)]))

    async def in_answer() -> AsyncIterator[Example]:
        async for example in some(3):
            yield example
            await heard.wait()
            heard.clear()

    found = []
    async with asyncio.timeout(10.0):
        async for record in run.results(in_answer()):
            found.append(record.position)
            heard.set()
    assert found == [0, 1, 2]


@pytest.mark.parametrize(("ends", "expected"), [(1, None), (0, "workers keep dying")])
async def test_only_workers_that_end_no_row_keep_dying(
    execution: Callable[[Room], WorkerExecution], ends: int, expected: str | None
) -> None:
    companions = [Companion(ends=ends, dies=True) for _ in range(6)]
    run = execution(Room(1, [*companions, Companion()]))
    found = await ended(run, some(8))
    if expected is None:
        assert (sorted(found), run.halted) == (list(range(8)), None)
    else:
        assert expected in str(run.halted)


@pytest.mark.parametrize(("breaks", "expected"), [("opening", []), ("closing", [0, 1, 2])])
async def test_whatever_a_workplace_raises_ends_the_batch_after_what_is_done(
    execution: Callable[[Room], WorkerExecution], breaks: str, expected: list[int]
) -> None:
    run = execution(Room(1, [Companion()], breaks=breaks))
    results = run.results(some(3))
    async with asyncio.timeout(10.0):
        assert sorted([(await anext(results)).position for _ in expected]) == expected
        with pytest.raises(LookupError, match="it broke"):
            await anext(results)


@pytest.mark.parametrize("workers", [0, 2])
async def test_a_row_that_the_store_refuses_fails_alone(
    provider: Simulator, settings: Settings, postgres: str, workers: int
) -> None:
    kept = settings.override(store=postgres)
    rows = [{"id": "a", "name": "Ada"}, {"id": "b\0", "name": "Bob"}, {"id": "c", "name": "Cy"}]
    options = BatchOptions(workers=workers)
    batch = plait.batch("greet", rows, app=APP, settings=kept, options=options)
    records = sorted([row async for row in batch], key=lambda row: row.position)
    assert [(record.id, record.status) for record in records] == [
        ("a", "success"),
        ("b\\x00", "error"),
        ("c", "success"),
    ]
    assert records[1].error is not None
    assert "PostgreSQL holds no text with a NUL character" in records[1].error.message
    assert [row async for row in plait.resume(batch.id, rows=rows, settings=kept)] == []
    (found,) = await asyncio.to_thread(shelf_of(kept).batches)
    assert (found.status, found.counts) == ("finished", {"success": 2, "error": 1})
