"""Batches under fire, in a short form: killed, at once, on a full disk, against a provider at its worst.

`make reliability` runs the full form; its figures are in docs/reliability.md.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, closing
from pathlib import Path
from typing import TypedDict

import pytest
from langgraph.graph import START, StateGraph

import plait
from plait.batches import BatchOptions
from plait.errors import BatchChanged, StoreError
from plait.runs import Graph
from plait.settings import Settings
from plait.simulator import Profile, running
from plait.store.files import Durability, open_to_write
from plait.store.folders import FolderPlace
from tests.reliability.faults import Mixed, check_ends, check_leftovers, run_through_faults
from tests.reliability.kills import Ledger, Plan, any_worker, batches_of, kill_again_and_again
from tests.reliability.providers import CALLS, Answers, environment, write_rows
from tests.reliability.sittings import Sitting, finish, sit, start

SEED = 7


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Generator[Future[Mixed]]:
    """A batch through the mix of faults, which mostly waits: the other tests run meanwhile."""
    folder = tmp_path_factory.mktemp("faults")
    with ThreadPoolExecutor(1) as background:
        yield background.submit(run_through_faults, folder, rows=8, seed=SEED)


# --- killed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plan",
    [
        Plan(rows=60, kills=3, seed=SEED),
        Plan(rows=8, kills=1, seed=SEED, workflow="own"),
        Plan(rows=60, kills=1, seed=SEED, workers=2),
        Plan(rows=60, kills=2, seed=SEED, workers=2, victim=any_worker),
    ],
    ids=["alone", "own clients", "with workers", "workers"],
)
@pytest.mark.usefixtures("mixed")  # begins here
def test_a_kill_loses_no_row_and_costs_only_the_calls_in_flight(plan: Plan, tmp_path: Path) -> None:
    figures = kill_again_and_again(tmp_path, plan)
    assert figures.kills >= 1


# --- a full disk -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workflow", "rows", "file_bytes"), [("fan", 60, 150_000), ("own", 12, 100_000)])
def test_a_full_disk_pauses_the_batch_and_a_resume_ends_it(
    workflow: str, rows: int, file_bytes: int, tmp_path: Path
) -> None:
    answers, home = Answers(), tmp_path / "home"
    data = write_rows(tmp_path / "rows.jsonl", rows)
    with running(Profile(latency_s=0.02), answer=answers, record=False) as provider:
        provider.behave = answers.note
        env, ledger = environment(provider, home), Ledger(answers)
        paused = sit(Sitting(workflow=workflow, rows=str(data), file_bytes=file_bytes), env)
        assert paused.end == "BatchPaused", paused
        assert "make room, then go on with `plait resume`" in paused.message
        assert paused.tasks == []
        [folder] = batches_of(home)
        # No row asked for more than it had in flight when its answers could not be kept any more.
        ledger.close([folder])
        asked, kept = provider.counters.received, _calls(folder)
        assert 0 < kept < rows * CALLS[workflow]
        assert sit(Sitting(workflow=workflow, batch=folder.name), env).end == "finished"
        ledger.close([folder])
        assert provider.counters.received - rows * CALLS[workflow] == asked - kept
    with FolderPlace(folder).read() as reader:
        found = list(reader.rows())
    assert [row.position for row in found] == list(range(rows))
    for row in found:
        answers.check(workflow, row)


def _calls(folder: Path) -> int:
    with FolderPlace(folder).read() as reader:
        return sum(totals.calls for totals in reader.models().values())


# --- two at once -------------------------------------------------------------------------------------


def test_a_second_resume_is_refused_and_names_the_process_that_runs_it(tmp_path: Path) -> None:
    rows, home = 20, tmp_path / "home"
    data = write_rows(tmp_path / "rows.jsonl", rows)
    with running(answer=Answers(), record=False) as provider:
        provider.close_gate()
        env = environment(provider, home)
        first = start(Sitting(rows=str(data)), env)
        try:
            provider.wait_arrived(1)
            [folder] = (home / "batches").iterdir()
            second = sit(Sitting(batch=folder.name), env)
            assert second.end == "BatchBusy", second
            assert re.search(rf"process {first.pid}\b", second.message)
            provider.open_gate()
            ended = finish(first)
        finally:
            first.kill()
        assert (ended.end, ended.rows) == ("finished", rows)
        assert provider.counters.received == rows * CALLS["fan"]


# --- what changed, what is damaged -------------------------------------------------------------------


class State(TypedDict, total=False):
    n: int


async def _nothing(state: State) -> State:
    return {}


def _graph(*names: str) -> Graph:
    builder = StateGraph(State)
    for name in names:
        builder.add_node(name, _nothing)
        builder.add_edge(START, name)
    return builder.compile(name="nothing")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", share=False)


async def _begun(settings: Settings, data: Path) -> str:
    """A batch that was left after its first row."""
    batch = plait.batch(_graph("a"), data, settings=settings)
    async with aclosing(batch):
        await anext(aiter(batch))
    return batch.id


async def test_what_changed_is_said_and_force_goes_on(settings: Settings, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(f'{{"n": {n}}}\n' for n in range(50)))
    graph = _graph("a", "b")
    batch_id = await _begun(settings, data)
    with pytest.raises(BatchChanged, match=r"the workflow: the graph's nodes and edges[\s\S]*--force"):
        [_ async for _ in plait.resume(batch_id, workflow=graph, settings=settings)]
    data.write_text(data.read_text() + '{"n": 50}\n')
    rows = [row async for row in plait.resume(batch_id, workflow=graph, settings=settings, force=True)]
    assert {row.status for row in rows} == {"success"}

    def positions() -> list[int]:
        with FolderPlace(settings.home / "batches" / batch_id).read() as reader:
            return [row.position for row in reader.rows()]

    assert await asyncio.to_thread(positions) == list(range(51))


@pytest.mark.parametrize("kept_bytes", [0, 100, 5000])
async def test_a_cut_off_store_is_named(kept_bytes: int, settings: Settings, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(f'{{"n": {n}}}\n' for n in range(50)))
    batch_id = await _begun(settings, data)
    file = settings.home / "batches" / batch_id / "batch.db"
    await asyncio.to_thread(lambda: file.write_bytes(file.read_bytes()[:kept_bytes]))
    with pytest.raises(StoreError, match=r"batches/nothing-\d+-\d+-\w+"):
        [_ async for _ in plait.resume(batch_id, workflow=_graph("a"), settings=settings)]


async def test_leaving_a_batch_whose_results_nobody_takes_ends(settings: Settings) -> None:
    batch = plait.batch(_graph("a"), ({"n": n} for n in range(4000)), settings=settings)
    await anext(aiter(batch))
    stuck, seen = 0, -1
    while stuck < 20:
        await asyncio.sleep(0.02)
        now = batch.progress()
        assert now is not None
        stuck, seen = (stuck + 1, seen) if now.done == seen else (0, now.done)
    assert seen < 4000
    async with asyncio.timeout(60):
        await batch.aclose()


@pytest.mark.parametrize(("durability", "level"), [("power", 2), ("kill", 1)])
def test_durability_is_what_sqlite_is_told(durability: Durability, level: int, tmp_path: Path) -> None:
    # https://www.sqlite.org/pragma.html#pragma_synchronous: 2 is FULL, 1 is NORMAL.
    with closing(open_to_write(tmp_path / "a.db", durability)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA fullfsync").fetchone() == (1,)
    assert BatchOptions().durability == "power"


# --- a provider at its worst; last, since it has run meanwhile ---------------------------------------


def test_through_the_mix_of_faults_every_row_ends_and_nothing_leaks(mixed: Future[Mixed]) -> None:
    found = mixed.result(110)
    assert sum(found.faults.values()) > 0
    check_ends(found)
    check_leftovers(found.ending)
