"""The service's store in both databases: what callers see, races between servers, restarts, other versions."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.errors import StoreError
from plait.hosts import process_name
from plait.store.addresses import Address, medium_of
from plait.store.connections import Connection
from plait.store.postgres.functions import define
from plait.store.postgres.sessions import Session
from plait.store.saver_rows import prepare_checkpoints
from plait.store.service import (
    AssistantQuery,
    CronQuery,
    KeyUsage,
    RunOutcome,
    ServiceStore,
    ThreadOutcome,
    ThreadQuery,
)
from plait.store.service.conditions import holds
from plait.store.service.faults import AlreadyExists, BadEventId, FilterRefused, ThreadBusy, ThreadNotFound
from plait.store.service.records import (
    EVERYTHING,
    Access,
    AssistantRecord,
    CronRecord,
    EventRecord,
    Json,
    KeyRecord,
    RunRecord,
    ThreadRecord,
)
from plait.store.service.rows import dumped
from plait.store.service.schema import VERSION
from plait.store.service.servers import lives, new_server
from plait.store.writers import Writer
from tests.clocks import FakeClock
from tests.servers import Server

ALICE, BOB = Access("alice"), Access("bob")
HOSTILE = ['a"b', "a.b", "$.a", "é", "'; DROP TABLE threads; --", "", "a[0]", "%", "$x", "\\", "a b", "\n"]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def store(address: Address, clock: FakeClock) -> AsyncIterator[ServiceStore]:
    async with ServiceStore(address, clock=clock.wall, lives=lives) as opened:
        yield opened


@pytest.fixture
async def other(store: ServiceStore, clock: FakeClock) -> AsyncIterator[ServiceStore]:
    """A second server's store, in the same place."""
    async with ServiceStore(store.address, clock=clock.wall, lives=lives) as opened:
        yield opened


@pytest.fixture(scope="module")
def both(postgres_instance: Server) -> Iterator[tuple[Connection, Connection]]:
    """Connections to databases of each kind, the functions that conditions need among them."""
    session = Session(postgres_instance.url)
    define(session)
    with closing(sqlite3.connect(":memory:")) as lite:
        yield lite, session
    session.close()


def thread(thread_id: str = "t", owner: str = "alice", **metadata: object) -> ThreadRecord:
    return ThreadRecord(thread_id, owner, metadata=metadata)


def run(run_id: str, thread_id: str = "t", *, server: str = "s", created_at: float = 0.0) -> RunRecord:
    return RunRecord(run_id, thread_id, "a", owner="alice", server=server, created_at=created_at)


async def begun(store: ServiceStore, run_id: str, thread_id: str = "t", *, server: str = "s") -> None:
    await store.runs.add(run(run_id, thread_id, server=server), thread=thread(thread_id))
    assert await store.runs.claim(run_id, server) == "claimed"


async def thread_status(store: ServiceStore, thread_id: str = "t") -> str:
    found = await store.threads.get(thread_id)
    assert found is not None
    return found.status


async def run_status(store: ServiceStore, run_id: str) -> str:
    found = await store.runs.get(run_id)
    assert found is not None
    return found.status


def event(number: int, ms: int = 1_700_000_000_000) -> EventRecord:
    return EventRecord("r", f"{ms}-{number}", "updates", b'{"n": %d}' % number)


# --- the file ------------------------------------------------------------------------------------------------


async def test_a_restart_keeps_every_record_as_it_was(address: Address) -> None:
    nested = {"é": [1, 2.5, None, True, {"k": "v"}], "half": "\ud800", "large": 10**30}
    assistant = AssistantRecord("a", "g", "n", "alice", "d", nested, nested, nested, 1, 1.5, 2.5)
    conversation = ThreadRecord("t", "alice", nested, nested, "error", nested, nested, nested, 1.5, 2.5, 3.5, True)
    piece = RunRecord("r", "t", "a", "alice", "pending", nested, nested, "rollback", 1.5, 2.5, 3.5, "g", "s", 0)
    piece = replace(piece, client="c", key_id="k", interactive=False, usage=nested, timings=nested, error=nested)
    key = KeyRecord("k", "digest", "alice", "n", 1.5, 2.5, None, None, 10.0, 5, 6, 0.5, 2)
    cron = CronRecord("c", "a", "* * * * *", "alice", "t", nested, nested, "UTC", 9.5, 8.5, False, "keep", 1.5, 2.5)
    async with ServiceStore(address) as store:
        await store.assistants.create(assistant)
        await store.runs.add(piece, thread=conversation)
        await store.events.append("r", [event(1)])
        await store.keys.create(key)
        await store.crons.create(cron)
    async with ServiceStore(address) as store:
        assert await store.assistants.get("a") == assistant
        assert await store.threads.get("t") == replace(conversation, status="busy")
        assert await store.runs.get("r") == piece
        assert await store.events.after("r") == [event(1)]
        assert await store.keys.by_digest("digest") == key
        assert await store.crons.get("c") == cron


async def test_a_file_and_its_folder_are_for_their_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "new" / "service.db"
    async with ServiceStore(file):
        pass
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_a_file_of_a_newer_plait_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "service.db"
    with sqlite3.connect(file) as connection:
        connection.execute(f"PRAGMA user_version={VERSION + 1}")
    store = ServiceStore(file)
    with pytest.raises(StoreError, match=f"service version {VERSION + 1}.*install a newer plait"):
        await store.open()
    await store.close()
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


async def test_a_closed_store_says_so(store: ServiceStore) -> None:
    await store.close()
    with pytest.raises(StoreError, match="open the store again"):
        await store.threads.get("t")
    with pytest.raises(StoreError, match="open the store again"):
        await store.threads.create(thread())
    await store.close()


async def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "service.db"
    file.write_bytes(b"no database " * 500)
    store = ServiceStore(file)
    with pytest.raises(StoreError, match=r"service\.db.*move it away or restore it, then start the service again"):
        await store.open()
    await store.close()


DIES = """
import asyncio, os, sys
from plait.store.service import ServiceStore
from plait.store.service.records import EventRecord, RunRecord, ThreadRecord

async def main():
    store = ServiceStore(sys.argv[1])
    await store.open()
    await store.runs.add(RunRecord("r", "t", "a", server="dead"), thread=ThreadRecord("t"))
    await store.runs.claim("r", "dead")
    await store.events.append("r", [EventRecord("r", f"1-{n}", "x", b"") for n in range(100)])
    os._exit(9)

asyncio.run(main())
"""


@pytest.fixture
def left_behind(address: Address) -> Address:
    """The store of a server that died without closing anything."""
    assert subprocess.run([sys.executable, "-c", DIES, str(address)], check=False).returncode == 9
    return address


async def test_what_was_acknowledged_survives_the_death_of_the_server(left_behind: Address) -> None:
    async with ServiceStore(left_behind) as store:
        assert await store.servers.gone(10.0) == ["dead"]
        adopted = await store.runs.adopt("dead", "next", max_attempts=3)
        assert [(one.run_id, one.attempt) for one in adopted.resumed] == [("r", 1)]
        assert len(await store.events.after("r")) == 100


async def test_servers_that_start_together_share_a_new_store(address: Address) -> None:
    stores = [ServiceStore(address) for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.threads.create(thread(f"t{n}")) for n, store in enumerate(stores)))
    assert await stores[0].threads.count() == 8
    await asyncio.gather(*(store.close() for store in stores))


async def test_further_tables_are_prepared_in_the_same_place_at_each_start(address: Address) -> None:
    def prepare(connection: Connection) -> None:
        connection.execute("CREATE TABLE IF NOT EXISTS items (name TEXT)")

    for number in range(2):
        async with ServiceStore(address, also=[prepare]) as store:
            await store.writer.added("INSERT INTO items VALUES (?)", (f"i{number}",))
            rows = await store.read(lambda connection: connection.execute("SELECT name FROM items").fetchall())
            assert len(rows) == number + 1


async def test_reads_cannot_write_and_their_errors_reach_the_caller(store: ServiceStore) -> None:
    with pytest.raises(StoreError, match=r"read-?only"):
        await store.read(lambda connection: connection.execute("DELETE FROM threads"))
    with pytest.raises(Exception, match="absent"):
        await store.read(lambda connection: connection.execute("SELECT 1 FROM absent"))
    assert await store.threads.count() == 0


# --- who sees what -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", HOSTILE)
async def test_any_text_is_a_key_or_a_value_of_a_filter(store: ServiceStore, key: str) -> None:
    await store.threads.create(ThreadRecord("t", metadata={key: key, "list": [key], "deep": {key: [1]}}))
    await store.threads.create(ThreadRecord("u", metadata={key + "x": key, "list": [key + "x"], "deep": {}}))
    filters: list[dict[str, object]] = [{key: {"$eq": key}}, {"list": {"$contains": key}}, {"deep": {key: [1]}}]
    for wanted in filters:
        assert [found.thread_id for found in await store.threads.search(Access(filters=wanted))] == ["t"]
    assert await store.threads.count(EVERYTHING, ThreadQuery(metadata={key: key})) == 1
    assert await store.threads.count(EVERYTHING, ThreadQuery(metadata={key: key + "x"})) == 0


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"v": 1}, "integer float"),
        ({"v": "1"}, "text"),
        ({"v": True}, "true"),
        ({"v": None}, "null"),
        ({"v": [2]}, "list"),
        ({"v": [3, 1]}, "list"),
        ({"v": {"$contains": [1, 2]}}, "list"),
        ({"v": {"$contains": 4}}, ""),
        ({"v": {"$eq": "1"}}, "text"),
        ({"v": {"a": {"b": 1}}}, "object"),
        ({"v": {"a": {"b": 2}}}, ""),
        ({"v": {}}, "object"),
        ({"v": {"$eq": "1", "$contains": "1"}}, ""),
        ({"v": 10**30}, "large"),
        ({"v": "\ud800"}, ""),
        ({"absent": None}, ""),
    ],
)
async def test_a_filter_tells_values_and_their_kinds_apart(
    store: ServiceStore, wanted: dict[str, object], found: str
) -> None:
    kinds: dict[str, object] = {"integer": 1, "float": 1.0, "text": "1", "true": True, "null": None, "large": 10**30}
    kinds |= {"list": [1, 2, 3], "object": {"a": {"b": 1, "c": 2}}}
    for name, value in kinds.items():
        await store.threads.create(ThreadRecord(name, metadata={"v": value}))
    seen = await store.threads.search(Access(filters=wanted))
    assert {one.thread_id for one in seen} == set(found.split())


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, 1.0, -1, 2.5, 2**53 + 1, 2.0**60, 2**60, 2**63, 1e23, 10**23, 10**30, -0.0])
    | st.sampled_from(["", "1", "a", "\\", "\\ud800", "\\u0000", "x\ud800", "\ud83d\ude00", "é", "\n"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "\\", "é"]), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.sampled_from(["a", "b", "\\"]), JSON, max_size=3)


@given(held=OBJECT, wanted=OBJECT)
@settings(max_examples=300)
def test_both_databases_find_the_same(both: tuple[Connection, Connection], held: Json, wanted: Json) -> None:
    text = str(dumped(held))
    for asked in (wanted, held):
        where = holds("t.metadata", asked)
        sql = f"SELECT count(*) FROM (SELECT ? AS metadata) AS t WHERE {where.sql}"
        found = [int(each.execute(sql, (text, *where.parameters)).fetchone()[0]) for each in both]
        assert found[0] == found[1]
    assert found[0] or "\\ud8" in text or "\\u0000" in text


async def test_a_nul_does_not_cut_a_key_or_a_value_short(store: ServiceStore) -> None:
    await store.threads.create(ThreadRecord("value", metadata={"owner": "alice\0x"}))
    await store.threads.create(ThreadRecord("key", metadata={"owner\0x": "alice"}))
    assert await store.threads.search(Access(filters={"owner": "alice"})) == []
    assert await store.threads.search(Access(filters={"owner\0x": "alice"})) == []


async def test_a_filter_that_is_too_large_is_refused_in_words(store: ServiceStore) -> None:
    deep: dict[str, object] = {}
    for _ in range(50):
        deep = {"a": deep}
    for wanted in (deep, {str(number): number for number in range(1000)}, {"a": list(range(1000))}):
        with pytest.raises(FilterRefused, match="at most 100 values, nested at most 8 levels"):
            await store.threads.search(EVERYTHING, ThreadQuery(metadata=wanted))


async def test_what_belongs_to_another_owner_is_as_if_absent(store: ServiceStore) -> None:
    await store.assistants.create(AssistantRecord("a", "g", "n", "alice"))
    await store.runs.add(run("r"), thread=thread())
    await store.crons.create(CronRecord("c", "a", "* * * * *", "alice"))
    assert await store.assistants.get("a", BOB) is None
    assert await store.assistants.count(BOB) == 0
    assert await store.assistants.versions("a", BOB) is None
    assert await store.assistants.update("a", BOB, {"name": "stolen"}) is None
    assert await store.assistants.set_latest("a", 1, BOB) is None
    assert not await store.assistants.delete("a", BOB)
    assert await store.threads.get("t", BOB) is None
    assert await store.threads.search(BOB) == []
    assert await store.threads.patch("t", BOB, metadata={"x": 1}) is None
    assert await store.threads.copy("t", "u", BOB) is None
    assert not await store.threads.delete("t", BOB)
    assert await store.runs.get("r", "t", BOB) is None
    assert await store.runs.list("t", BOB) == []
    assert await store.runs.recent(BOB) == []
    assert await store.runs.counts(BOB) == {}
    assert await store.runs.request_cancel(["r"], "interrupt", BOB) == []
    assert not await store.runs.delete("r", BOB)
    with pytest.raises(ThreadNotFound):
        await store.runs.add(run("s"), access=BOB, thread=thread(owner="bob"))
    assert await store.crons.get("c", BOB) is None
    assert await store.crons.count(BOB) == 0
    assert await store.crons.update("c", BOB, {"enabled": False}) is None
    assert not await store.crons.delete("c", BOB)
    assert (await store.runs.get("r", "t", ALICE)) == run("r")
    assert (
        await store.assistants.count(ALICE) == await store.threads.count(ALICE) == await store.crons.count(ALICE) == 1
    )


async def test_runs_are_seen_by_the_metadata_of_their_thread(store: ServiceStore) -> None:
    await store.runs.add(run("r"), thread=thread(team="red"))
    red, blue = Access(filters={"team": "red"}), Access(filters={"team": "blue"})
    assert await store.runs.get("r", None, blue) is None
    assert await store.runs.counts(blue) == {}
    assert await store.runs.recent(red) == [run("r")]
    assert await store.runs.counts(red) == {"pending": 1}
    assert await store.runs.get("r", "another thread", red) is None


# --- assistants ----------------------------------------------------------------------------------------------


async def test_each_change_of_an_assistant_is_a_version_that_can_come_back(
    store: ServiceStore, clock: FakeClock
) -> None:
    await store.assistants.create(AssistantRecord("a", "g", "one", "alice", metadata={"x": 1}))
    clock.advance(5)
    changed = await store.assistants.update("a", ALICE, {"name": "two", "metadata": {"y": 2}})
    assert changed is not None
    assert (changed.version, changed.metadata, changed.updated_at) == (2, {"x": 1, "y": 2}, clock.wall())
    back = await store.assistants.set_latest("a", 1, ALICE)
    assert back is not None
    assert (back.name, back.version, back.metadata) == ("one", 1, {"x": 1})
    third = await store.assistants.update("a", ALICE, {"name": "three"})
    assert third is not None
    assert (third.version, third.metadata) == (3, {"x": 1})
    versions = await store.assistants.versions("a", ALICE)
    assert versions is not None
    assert [(one.version, one.name) for one in versions] == [(3, "three"), (2, "two"), (1, "one")]
    assert await store.assistants.versions("a", ALICE, metadata={"y": 2}) == [changed]
    assert await store.assistants.set_latest("a", 9, ALICE) is None
    with pytest.raises(ValueError, match="owner"):
        await store.assistants.update("a", ALICE, {"owner": "bob"})


async def test_an_id_that_is_taken_is_refused_or_given_to_those_who_may_see_it(store: ServiceStore) -> None:
    first = await store.assistants.create(AssistantRecord("a", "g", "one", "alice"))
    again = AssistantRecord("a", "g", "two", "alice")
    with pytest.raises(AlreadyExists, match="assistant a"):
        await store.assistants.create(again)
    assert await store.assistants.create(again, if_exists="do_nothing") == first
    with pytest.raises(AlreadyExists):
        await store.assistants.create(replace(again, owner="bob"), if_exists="do_nothing")
    await store.threads.create(thread(team="red"))
    assert (await store.threads.create(thread(), if_exists="do_nothing")).metadata == {"team": "red"}
    with pytest.raises(AlreadyExists):
        await store.threads.create(thread(), if_exists="do_nothing", access=Access(filters={"team": "blue"}))


async def test_the_apps_own_assistants_follow_its_graphs_and_are_nobodys_to_change(store: ServiceStore) -> None:
    made = {"created_by": "system"}
    story, chat = (AssistantRecord(name, name, name, metadata=made) for name in ("story", "chat"))
    await store.assistants.create(AssistantRecord("mine", "chat", "mine", metadata={"created_by": "me"}))
    await store.assistants.ensure_system([story, chat])
    await store.assistants.update("story", EVERYTHING, {"name": "renamed"})
    await store.assistants.ensure_system([story])
    found = await store.assistants.search(ALICE, sort_by="assistant_id", sort_order="asc")
    assert [one.name for one in found] == ["mine", "renamed"]
    assert not await store.assistants.delete("story", ALICE)
    assert await store.assistants.update("story", ALICE, {"name": "stolen"}) is None


async def test_assistants_are_found_by_graph_name_and_metadata_in_pages(store: ServiceStore) -> None:
    for number in range(5):
        metadata = {"even": number % 2 == 0}
        await store.assistants.create(
            AssistantRecord(f"a{number}", "g", f"Writer {number}", metadata=metadata, created_at=float(number))
        )
    await store.assistants.create(AssistantRecord("b", "h", "100%"))
    named = AssistantQuery(graph_id="g", name="wRITER")
    page = await store.assistants.search(EVERYTHING, named, limit=2, offset=1)
    assert [one.assistant_id for one in page] == ["a3", "a2"]
    assert await store.assistants.count(EVERYTHING, replace(named, metadata={"even": True})) == 3
    assert await store.assistants.count(EVERYTHING, AssistantQuery(name="%")) == 1
    assert await store.assistants.search(limit=2**80, offset=2**80) == []


# --- threads -------------------------------------------------------------------------------------------------


async def test_threads_are_found_by_what_they_hold_without_temporary_ones(store: ServiceStore) -> None:
    for number in range(4):
        record = ThreadRecord(f"t{number}", metadata={"n": number}, values={"kind": {"even": number % 2 == 0}})
        await store.threads.create(replace(record, updated_at=float(-number), temporary=number == 3))

    async def ids(query: ThreadQuery, limit: int = 10, offset: int = 0) -> list[str]:
        return [one.thread_id for one in await store.threads.search(EVERYTHING, query, limit=limit, offset=offset)]

    assert await ids(ThreadQuery()) == ["t0", "t1", "t2"]
    assert await ids(ThreadQuery(), limit=1, offset=1) == ["t1"]
    assert await ids(ThreadQuery(values={"kind": {"even": True}})) == ["t0", "t2"]
    assert await ids(ThreadQuery(ids=["t1", "t3", "é'"])) == ["t1"]
    assert await ids(ThreadQuery(ids=[])) == []
    assert await ids(ThreadQuery(status="busy")) == []
    assert await store.threads.count(EVERYTHING, ThreadQuery(metadata={"n": 3})) == 0
    assert await store.threads.get("t3") is not None
    backwards = await store.threads.search(sort_by="thread_id", sort_order="asc")
    assert [one.thread_id for one in backwards] == ["t0", "t1", "t2"]


async def test_threads_of_stateless_runs_that_are_over_are_found_to_be_removed(
    store: ServiceStore, clock: FakeClock
) -> None:
    for name in ("over", "open", "late"):
        await store.runs.add(run(name, name), thread=replace(thread(name), temporary=True))
    await store.threads.create(thread("kept"))
    await store.runs.finish("over", "s", RunOutcome("success"))
    clock.advance(100)
    await store.runs.finish("late", "s", RunOutcome("success"))
    assert await store.threads.temporary_before(clock.wall() - 50) == ["over"]
    assert [one.run_id for one in await store.runs.open()] == ["open"]
    assert await store.runs.open(BOB) == await store.runs.open(status="running") == []


async def test_a_thread_is_patched_copied_and_removed_with_all_of_its_own(
    store: ServiceStore, clock: FakeClock
) -> None:
    await begun(store, "r")
    await store.events.append("r", [event(1)])
    left = ThreadOutcome("interrupted", {"text": "x"}, {"task": [{"value": "ok?"}]})
    assert await store.runs.finish("r", "s", RunOutcome("success", thread=left))
    await store.threads.patch("t", metadata={"a": 1, "b": 1})
    patched = await store.threads.patch("t", metadata={"b": 2})
    assert patched is not None
    assert patched.metadata == {"a": 1, "b": 2}
    copy = await store.threads.copy("t", "u", ALICE)
    assert copy == await store.threads.get("u")
    assert copy is not None
    assert (copy.values, copy.status, copy.metadata) == ({"text": "x"}, "interrupted", {"a": 1, "b": 2})
    assert copy.created_at == clock.wall()
    with pytest.raises(AlreadyExists):
        await store.threads.copy("t", "u")
    assert await store.threads.delete("t", ALICE)
    assert not await store.threads.delete("t", ALICE)
    assert await store.runs.get("r") is None
    assert await store.events.after("r") == []


# --- runs ----------------------------------------------------------------------------------------------------


async def test_a_run_needs_a_thread_or_one_to_make(store: ServiceStore) -> None:
    with pytest.raises(ThreadNotFound, match="no thread t"):
        await store.runs.add(run("r"))
    admission = await store.runs.add(run("r"), thread=thread(a=1), metadata={"graph_id": "g"})
    assert admission.inflight == []
    made = await store.threads.get("t")
    assert made is not None
    assert (made.status, made.metadata) == ("busy", {"a": 1, "graph_id": "g"})
    await store.runs.add(run("q"), metadata={"graph_id": "h"})
    made = await store.threads.get("t")
    assert made is not None
    assert made.metadata == {"a": 1, "graph_id": "h"}
    with pytest.raises(AlreadyExists, match="run r"):
        await store.runs.add(run("r"))


async def test_a_run_that_may_not_wait_is_refused_and_leaves_nothing(store: ServiceStore) -> None:
    await begun(store, "r")
    with pytest.raises(ThreadBusy, match="r"):
        await store.runs.add(run("late"), strategy="reject", metadata={"x": 1})
    assert await store.runs.get("late") is None
    unchanged = await store.threads.get("t")
    assert unchanged is not None
    assert unchanged.metadata == {}
    admission = await store.runs.add(run("late"), strategy="interrupt")
    assert [one.run_id for one in admission.inflight] == ["r"]


async def test_runs_of_a_thread_go_one_at_a_time_in_their_order(store: ServiceStore) -> None:
    await store.runs.add(run("first", created_at=1.0), thread=thread())
    await store.runs.add(run("second", created_at=1.0))
    assert await store.runs.claim("second", "s") == "busy"
    assert await store.runs.claim("first", "another") == "gone"
    assert await store.runs.claim("first", "s") == "claimed"
    assert await store.runs.claim("first", "s") == "gone"
    assert await store.runs.claim("second", "s") == "busy"
    assert await store.runs.finish("first", "s", RunOutcome("success", thread=ThreadOutcome("idle", {"v": 1})))
    assert await thread_status(store) == "busy"
    assert await store.runs.claim("second", "s") == "claimed"
    assert not await store.runs.finish("second", "another", RunOutcome("success"))
    failed = ThreadOutcome("error", error={"error": "ValueError", "message": "no"})
    usage = {"calls": 2}
    assert await store.runs.finish("second", "s", RunOutcome("error", failed.error, usage, {"a": 1}, failed))
    assert not await store.runs.finish("second", "s", RunOutcome("success"))
    ended, left = await store.runs.get("second"), await store.threads.get("t")
    assert ended is not None
    assert left is not None
    assert (ended.status, ended.attempt, ended.error, ended.usage) == ("error", 1, failed.error, usage)
    assert (left.status, left.values, left.error) == ("error", {"v": 1}, failed.error)
    assert [one.run_id for one in await store.runs.list("t")] == ["second", "first"]
    assert [one.run_id for one in await store.runs.list("t", status="success")] == ["first"]
    assert await store.runs.counts() == {"success": 1, "error": 1}


async def test_a_run_for_later_does_not_hold_up_its_thread(store: ServiceStore) -> None:
    await store.runs.add(replace(run("later", created_at=1.0), start_after=100.0), thread=thread())
    await store.runs.add(run("now", created_at=2.0))
    assert [one.run_id for one in await store.runs.pending("s")] == ["now", "later"]
    assert await store.runs.claim("later", "s") == "busy"
    assert await store.runs.claim("now", "s") == "claimed"


async def test_two_servers_never_run_two_runs_of_a_thread(store: ServiceStore, other: ServiceStore) -> None:
    ids = [f"t{number}" for number in range(20)]
    for thread_id in ids:
        await store.runs.add(run(f"{thread_id}-a", thread_id, server="a"), thread=thread(thread_id))
        await store.runs.add(run(f"{thread_id}-b", thread_id, server="b"))
    both = [claim for name in ids for claim in (store.runs.claim(f"{name}-a", "a"), other.runs.claim(f"{name}-b", "b"))]
    answers = await asyncio.gather(*both)
    assert answers == ["claimed", "busy"] * 20
    again = [store.runs.claim("t0-a", "a"), other.runs.claim("t0-a", "a")]
    assert await asyncio.gather(*again) == ["gone", "gone"]


async def test_a_run_is_claimed_once_however_many_ask(store: ServiceStore, other: ServiceStore) -> None:
    await store.runs.add(run("r"), thread=thread())
    answers = await asyncio.gather(*(one.runs.claim("r", "s") for one in [store, other] * 10))
    assert sorted(answers) == ["claimed"] + ["gone"] * 19


async def test_two_servers_adopt_each_run_of_a_dead_one_once(store: ServiceStore, other: ServiceStore) -> None:
    ids = {f"r{number}" for number in range(10)}
    for name in ids:
        await begun(store, name, f"t-{name}", server="dead")
    one, two = await asyncio.gather(
        store.runs.adopt("dead", "one", max_attempts=3), other.runs.adopt("dead", "two", max_attempts=3)
    )
    assert sorted([len(one.resumed), len(two.resumed)]) == [0, 10]
    winner = "one" if one.resumed else "two"
    resumed = await store.runs.pending(winner)
    assert {found.run_id for found in resumed} == ids
    assert resumed == one.resumed or resumed == two.resumed
    assert not await store.runs.finish("r1", "dead", RunOutcome("success"))
    assert await store.runs.claim("r1", winner) == "claimed"


async def test_a_run_whose_server_died_of_ending_it_is_over_and_frees_its_thread(store: ServiceStore) -> None:
    await begun(store, "r", server="one")
    await store.runs.add(run("waiting", "t", server="one"))
    await begun(store, "alone", "u", server="one")
    first = await store.runs.adopt("one", "two", max_attempts=2)
    assert [found.run_id for found in first.resumed] == ["r", "waiting", "alone"]
    assert await store.runs.claim("r", "two") == await store.runs.claim("alone", "two") == "claimed"
    last = await store.runs.adopt("two", "ends them", max_attempts=2)
    assert [found.run_id for found in last.resumed] == ["r", "waiting", "alone"]
    assert await store.runs.claim("r", "ends them") == await store.runs.claim("alone", "ends them") == "claimed"
    second = await store.runs.adopt("ends them", "three", max_attempts=2)
    assert [found.run_id for found in second.resumed] == ["waiting"]
    assert [found.run_id for found in second.given_up] == ["r", "alone"]
    ended = await store.runs.get("r")
    assert ended == second.given_up[0]
    assert ended is not None
    assert ended.error == {
        "error": "ServerDied",
        "message": "the server died while it ran, 3 times; start it again to go on",
    }
    assert (await thread_status(store), await thread_status(store, "u")) == ("busy", "error")
    assert await store.runs.claim("waiting", "three") == "claimed"


async def test_a_parked_run_waits_as_if_it_had_not_begun(store: ServiceStore) -> None:
    await begun(store, "r")
    assert not await store.runs.park("r", "another")
    assert await store.runs.park("r", "s", start_after=50.0)
    assert not await store.runs.park("r", "s")
    assert await store.runs.pending("s") == [replace(run("r"), start_after=50.0, updated_at=1_700_000_000.0)]
    assert await thread_status(store) == "busy"


async def test_a_run_is_ended_by_its_own_server_whoever_asks(store: ServiceStore, other: ServiceStore) -> None:
    await begun(store, "r")
    await store.runs.add(run("waiting"))
    assert await other.runs.cancels("s") == []
    asked = await other.runs.request_cancel(["waiting", "r", "unknown"], "rollback", ALICE)
    assert [one.run_id for one in asked] == ["r", "waiting"]
    assert await store.runs.cancels("s") == asked
    assert await store.runs.cancels("another") == []
    assert await store.runs.finish("waiting", "s", RunOutcome("interrupted"))
    assert await store.runs.delete("r", ALICE)
    assert await thread_status(store) == "idle"
    assert await store.runs.request_cancel(["waiting"], "interrupt") == []


async def test_a_run_that_never_began_leaves_its_thread_as_it_was(store: ServiceStore) -> None:
    await begun(store, "r")
    left = ThreadOutcome("interrupted", {"v": 1}, {"task": [{"value": "ok?"}]})
    await store.runs.finish("r", "s", RunOutcome("success", thread=left))
    await store.runs.add(run("answer"))
    assert await thread_status(store) == "busy"
    assert await store.threads.set_state("t", replace(left, values={"v": 2}))
    assert await thread_status(store) == "busy"
    await store.runs.finish("answer", "s", RunOutcome("interrupted"))
    found = await store.threads.get("t")
    assert found is not None
    assert (found.status, found.values, found.interrupts) == ("interrupted", {"v": 2}, left.interrupts)
    assert not await store.threads.set_state("unknown", left)


# --- events --------------------------------------------------------------------------------------------------


async def test_events_are_read_in_order_from_any_point_also_after_a_restart(store: ServiceStore) -> None:
    await asyncio.gather(
        store.events.append("r", [event(1), event(2)]),
        store.events.append("q", [replace(event(7), run_id="q")]),
        store.events.append("r", [event(9), event(10)]),
        store.events.append("r", []),
    )
    await store.close()
    async with ServiceStore(store.address) as again:
        assert await again.events.after("r") == [event(1), event(2), event(9), event(10)]
        assert await again.events.after("r", "-1", limit=1) == [event(1)]
        assert await again.events.after("r", event(9).id) == [event(10)]
        assert await again.events.after("r", event(5).id) == [event(9), event(10)]
        assert await again.events.after("r", event(10).id) == []
        assert await again.events.last_id("r") == event(10).id
        assert await again.events.last_id("unknown") is None
        await again.events.append("r", [event(0, ms=1_700_000_000_001)])
        assert await again.events.after("r", event(10).id) == [event(0, ms=1_700_000_000_001)]
        await again.events.delete("r")
        assert await again.events.after("r") == []
        assert len(await again.events.after("q")) == 1


@pytest.mark.parametrize(
    "bad", ["x", "1", "1-", "-1-1", "1-1-1", "\uff11-\uff11", "9" * 30 + "-1", "1-1\n", "' OR 1=1"]
)
async def test_what_is_no_event_id_is_refused(store: ServiceStore, bad: str) -> None:
    with pytest.raises(BadEventId, match="<milliseconds>-<number>"):
        await store.events.after("r", bad)
    with pytest.raises(BadEventId):
        await store.events.append("r", [event(1), EventRecord("r", bad, "x", b"")])
    assert await store.events.after("r") == []


async def test_events_can_be_added_without_waiting(store: ServiceStore) -> None:
    loop = asyncio.get_running_loop()
    told: asyncio.Future[BaseException | None] = loop.create_future()

    def done(error: BaseException | None) -> None:
        loop.call_soon_threadsafe(told.set_result, error)

    store.events.add("r", [event(1), event(2)], done)
    assert await told is None
    assert await store.events.after("r") == [event(1), event(2)]


async def test_old_events_go_with_their_time_those_of_open_runs_stay(store: ServiceStore, clock: FakeClock) -> None:
    for name in ("old", "new", "open"):
        await begun(store, name, f"t-{name}")
        await store.events.append(name, [event(1)])
    await store.runs.finish("old", "s", RunOutcome("success"))
    clock.advance(100)
    await store.runs.finish("new", "s", RunOutcome("success"))
    assert await store.runs.delete_finished_events(clock.wall() - 50) == 1
    assert await store.runs.delete_finished_events(clock.wall() - 50) == 0
    assert [len(await store.events.after(name)) for name in ("old", "new", "open")] == [0, 1, 1]


# --- keys, crons, servers ------------------------------------------------------------------------------------


async def test_keys_are_found_by_hash_and_counted_by_all_servers(store: ServiceStore, other: ServiceStore) -> None:
    key = KeyRecord("k", "digest", "alice", created_at=1.0)
    await store.keys.create(key)
    with pytest.raises(AlreadyExists):
        await store.keys.create(replace(key, key_id="l"))
    assert await other.keys.by_digest("digest") == key
    assert await other.keys.by_digest("another") is None
    assert await store.keys.list("bob") == []
    await asyncio.gather(
        *(one.keys.charge("k", "2026-11-21", runs=1, tokens=10, usd=0.25) for one in [store, other] * 10)
    )
    assert await store.keys.used("k", "2026-11-21") == KeyUsage(20, 200, 5.0)
    assert await store.keys.used("k", "2026-11-22") == KeyUsage()
    await store.keys.touch("k", 7.0)
    assert await store.keys.revoke("k", 8.0)
    assert not await store.keys.revoke("k", 9.0)
    assert await other.keys.list() == [replace(key, revoked_at=8.0, last_used_at=7.0)]


async def test_a_cron_that_is_due_goes_to_one_server(store: ServiceStore, other: ServiceStore) -> None:
    def in_a_minute(cron: CronRecord) -> float:
        return 160.0

    for number in range(5):
        await store.crons.create(CronRecord(f"c{number}", "a", "* * * * *", next_run_at=100.0))
    await store.crons.create(CronRecord("off", "a", "* * * * *", next_run_at=100.0, enabled=False))
    found = await asyncio.gather(*(one.crons.due(100.0, in_a_minute) for one in (store, other, store, other)))
    assert sorted(cron.cron_id for some in found for cron in some) == ["c0", "c1", "c2", "c3", "c4"]
    assert await store.crons.due(159.0, in_a_minute) == []
    assert [cron.next_run_at for cron in await other.crons.due(160.0, lambda _: None)] == [160.0] * 5
    assert await store.crons.due(1e9, in_a_minute) == []


async def test_a_cron_ends_at_its_end_time(store: ServiceStore) -> None:
    await store.crons.create(CronRecord("last", "a", "* * * * *", next_run_at=100.0, end_time=150.0))
    await store.crons.create(CronRecord("over", "a", "* * * * *", next_run_at=100.0, end_time=50.0))
    due = await store.crons.due(200.0, lambda _: 260.0)
    assert [cron.cron_id for cron in due] == ["last"]
    assert await store.crons.due(1e9, lambda _: 2e9) == []


async def test_crons_are_found_changed_and_removed_with_their_assistant(store: ServiceStore) -> None:
    await store.assistants.create(AssistantRecord("a", "g", "n", "alice"))
    for number, assistant in enumerate("aab"):
        record = CronRecord(f"c{number}", assistant, "* * * * *", "alice", thread_id=f"t{number}")
        await store.crons.create(record)
    assert await store.crons.count(ALICE, CronQuery(assistant_id="a")) == 2
    assert [one.cron_id for one in await store.crons.search(ALICE, CronQuery(thread_id="t1"))] == ["c1"]
    changed = await store.crons.update("c1", ALICE, {"enabled": False, "payload": {"input": 1}})
    assert changed == await store.crons.get("c1")
    assert changed is not None
    assert await store.crons.search(ALICE, CronQuery(enabled=False)) == [changed]
    with pytest.raises(ValueError, match="owner"):
        await store.crons.update("c1", ALICE, {"owner": "bob"})
    assert await store.crons.delete("c1", ALICE)
    assert await store.assistants.delete("a", ALICE)
    assert [one.cron_id for one in await store.crons.search(ALICE)] == ["c2"]


async def test_an_idle_server_takes_what_could_have_begun_elsewhere(
    store: ServiceStore, other: ServiceStore, clock: FakeClock
) -> None:
    now = clock.wall()

    def waiting(name: str, **more: object) -> RunRecord:
        made = run(name, str(more.pop("thread_id", name)), server="busy", created_at=now)
        return replace(made, updated_at=now, **more)  # type: ignore[arg-type]

    await store.keys.create(KeyRecord("k", "digest", "alice", max_running=2))
    await store.runs.add(waiting("running", thread_id="t", key_id="k"), thread=thread("t"))
    assert await store.runs.claim("running", "busy") == "claimed"
    for record in (
        waiting("behind", thread_id="t"),
        waiting("background", interactive=False),
        waiting("plain"),
        waiting("later", start_after=now + 60),
        waiting("stays", kwargs={"stays": True}),
        waiting("asked to end", cancel="interrupt"),
        waiting("of the key", key_id="k"),
        waiting("too much of the key", key_id="k"),
    ):
        await store.runs.add(record, thread=thread(record.thread_id))
    assert await other.runs.take("idle", most=9, waited_s=1.0) == []
    clock.advance(1)
    assert await other.runs.take("busy", most=9, waited_s=1.0) == []
    first = await store.runs.take("idle", most=1, waited_s=1.0)
    assert [each.run_id for each in first] == ["plain"]
    found = await asyncio.gather(*(one.runs.take("idle", most=2, waited_s=1.0) for one in (store, other, other)))
    taken = ["plain", *(each.run_id for some in found for each in some)]
    assert sorted(taken) == ["background", "of the key", "plain"]
    assert await store.runs.servers_of(["plain", "behind", "absent"]) == {"plain": "idle", "behind": "busy"}
    assert await store.runs.claim("plain", "busy") == "gone"
    assert await store.runs.claim("plain", "idle") == "claimed"
    assert sorted(await store.runs.held("idle")) == sorted(taken)


async def test_a_server_goes_on_with_runs_of_its_own_that_it_lost_track_of(store: ServiceStore) -> None:
    await begun(store, "lost", "t1")
    await begun(store, "known", "t2")
    adopted = await store.runs.adopt("s", "s", max_attempts=3, only=["lost"])
    assert [(each.run_id, each.status) for each in adopted.resumed] == [("lost", "pending")]
    assert await run_status(store, "known") == "running"


async def test_servers_of_another_plait_are_refused_while_one_lives(address: Address, clock: FakeClock) -> None:
    async with ServiceStore(address, clock=clock.wall, version="1.2.3") as store:
        await store.servers.beat("1@2-3")
        async with ServiceStore(address, clock=clock.wall, version="1.2.9"):
            pass
        for version in ("1.3.0", "2.2.3"):
            newer = ServiceStore(address, clock=clock.wall, version=version)
            with pytest.raises(StoreError, match=f"found 1@2-3 of plait 1.2.3 .* this is plait {version}"):
                await newer.open()
            await newer.close()
        clock.advance(11)
        async with ServiceStore(address, clock=clock.wall, version="2.0.0"):
            pass


async def test_of_servers_of_two_plaits_that_start_together_the_second_is_refused(
    address: Address, clock: FakeClock
) -> None:
    async with (
        ServiceStore(address, clock=clock.wall, version="1.2.3") as one,
        ServiceStore(address, clock=clock.wall, version="1.3.0") as other,
    ):
        await one.servers.beat("1@2-3")
        for _ in range(2):
            with pytest.raises(StoreError, match=r"found 1@2-3 of plait 1\.2\.3 .* this is plait 1\.3\.0"):
                await other.servers.beat("4@5-6")
        await one.servers.beat("1@2-3")
        assert await one.servers.gone(-1.0) == []
        await one.servers.forget("1@2-3")
        await other.servers.beat("4@5-6")


async def test_tables_of_something_else_are_not_taken_for_plaits(postgres: str) -> None:
    def theirs(connection: Connection) -> None:
        connection.execute("CREATE TABLE checkpoints (thread_id TEXT)")

    writer = Writer(medium_of(postgres))
    await writer.do(theirs)
    await asyncio.to_thread(writer.close)
    store = ServiceStore(postgres, also=[prepare_checkpoints])
    with pytest.raises(StoreError, match=r"checkpoints.*already exists.*tables of something else"):
        await store.open()
    await store.close()


async def test_text_that_postgresql_cannot_hold_is_refused_and_the_store_goes_on(postgres: str) -> None:
    async with ServiceStore(postgres) as store:
        with pytest.raises(ValueError, match="NUL"):
            await store.assistants.create(AssistantRecord("a", "g", "cut\0short"))
        await store.threads.create(ThreadRecord("t", metadata={"cut\0": "short\0"}))
        found = await store.threads.get("t")
        assert found is not None
        assert found.metadata == {"cut\0": "short\0"}


@pytest.fixture
def processes() -> tuple[str, str]:
    """A process that has ended and this one, as servers are named."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE, check=True)
    return f"{process_name(int(ended.stdout))}-0", new_server()


async def test_servers_are_gone_that_are_silent_or_whose_process_is_dead(
    store: ServiceStore, other: ServiceStore, clock: FakeClock, processes: tuple[str, str]
) -> None:
    dead, alive = processes
    own, elsewhere = f"{alive}-own", "1@0-0"
    for name in (dead, alive, elsewhere):
        await other.servers.beat(name)
    await store.servers.beat(own)
    assert await store.servers.gone(10.0) == [dead]
    await store.runs.add(run("r", server="1@0-9"), thread=thread())
    assert await store.servers.gone(10.0) == sorted([dead, "1@0-9"])
    clock.advance(20)
    assert await store.servers.gone(10.0) == sorted([dead, alive, elsewhere, "1@0-9"])
    await store.servers.forget(alive)
    await store.servers.forget(dead)
    assert await store.servers.gone(10.0) == sorted([elsewhere, "1@0-9"])
