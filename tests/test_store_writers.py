"""The writer: many add, one commits; failures reach everybody and hang nobody."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue

import pytest

from plait.errors import StoreError
from plait.store.connections import Connection
from plait.store.files import Durability
from plait.store.media import FileMedium
from plait.store.writers import Writer

INSERT = "INSERT INTO rows VALUES (?, ?)"


def prepare(connection: Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS rows (position INTEGER PRIMARY KEY, body TEXT NOT NULL)")


def stored(file: Path) -> list[tuple[int, str]]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute("SELECT position, body FROM rows ORDER BY rowid").fetchall()
    finally:
        connection.close()


def python(source: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A process of its own, with our writer imported."""
    head = textwrap.dedent(
        """
        import asyncio, os, resource, signal, sqlite3, sys
        from pathlib import Path
        from plait.errors import StoreError
        from plait.store.media import FileMedium
        from plait.store.writers import Writer
        def prepare(connection):
            connection.execute("CREATE TABLE IF NOT EXISTS rows (position INTEGER PRIMARY KEY, body TEXT NOT NULL)")
        INSERT = "INSERT INTO rows VALUES (?, ?)"
        """
    )
    command = [sys.executable, "-c", head + textwrap.dedent(source), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize("durability", ["power", "kill"])
async def test_what_was_awaited_is_in_the_file_for_other_readers(tmp_path: Path, durability: Durability) -> None:
    writer = Writer(FileMedium(tmp_path / "a.db", prepare=prepare, durability=durability))
    await asyncio.gather(*(writer.added(INSERT, (n, "x")) for n in range(300)))
    assert len(await asyncio.to_thread(stored, tmp_path / "a.db")) == 300
    assert writer.backlog == 0
    await asyncio.to_thread(writer.close)
    assert writer.backlog == 0


async def test_the_file_and_its_folder_are_for_their_owner_alone(tmp_path: Path) -> None:
    writer = Writer(FileMedium(tmp_path / "new" / "a.db", prepare=prepare))
    await writer.added(INSERT, (1, "x"))
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new").iterdir()} == {0o600}
    await asyncio.to_thread(writer.close)
    assert sorted(os.listdir(tmp_path / "new")) == ["a.db"]


async def test_adds_and_works_keep_their_order(tmp_path: Path) -> None:
    writer = Writer(FileMedium(tmp_path / "a.db", prepare=prepare))
    for n in range(50):
        writer.add(INSERT, (n, "x"))
    count = await writer.do(lambda connection: connection.execute("SELECT count(*) FROM rows").fetchone()[0])
    assert count == 50
    await writer.do(lambda connection: connection.execute("DELETE FROM rows").rowcount)
    await writer.added(INSERT, (7, "y"))
    assert await asyncio.to_thread(stored, tmp_path / "a.db") == [(7, "y")]
    await asyncio.to_thread(writer.close)


async def test_a_work_that_raises_is_undone_and_the_writer_goes_on(tmp_path: Path) -> None:
    def half(connection: Connection) -> None:
        connection.execute(INSERT, (1, "x"))
        raise ValueError("no")

    writer = Writer(FileMedium(tmp_path / "a.db", prepare=prepare))
    with pytest.raises(ValueError, match="no"):
        await writer.do(half)
    await writer.added(INSERT, (2, "y"))
    assert await asyncio.to_thread(stored, tmp_path / "a.db") == [(2, "y")]
    await asyncio.to_thread(writer.close)


async def test_a_record_of_its_own_fault_fails_alone(tmp_path: Path) -> None:
    writer = Writer(FileMedium(tmp_path / "a.db", prepare=prepare))
    rows: list[tuple[object, ...]] = [(1, "a"), (1, "twice"), (2, None), (3, "\ud800"), (2**70, "b"), (4,), (5, "c")]
    ends = await asyncio.gather(*(writer.added(INSERT, row) for row in rows), return_exceptions=True)
    assert [type(end).__name__ for end in ends] == [
        "NoneType",
        "IntegrityError",
        "IntegrityError",
        "UnicodeEncodeError",
        "OverflowError",
        "ProgrammingError",
        "NoneType",
    ]
    assert await asyncio.to_thread(stored, tmp_path / "a.db") == [(1, "a"), (5, "c")]
    await asyncio.to_thread(writer.close)


async def test_a_cancelled_waiter_neither_undoes_its_record_nor_breaks_its_group(tmp_path: Path) -> None:
    writer = Writer(FileMedium(tmp_path / "a.db", prepare=prepare))
    waiters = [asyncio.ensure_future(writer.added(INSERT, (n, "x"))) for n in range(3)]
    await asyncio.sleep(0)
    waiters[1].cancel()
    ends = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(end).__name__ for end in ends] == ["NoneType", "CancelledError", "NoneType"]
    await writer.do(lambda connection: None)
    assert len(await asyncio.to_thread(stored, tmp_path / "a.db")) == 3
    await asyncio.to_thread(writer.close)


def test_threads_and_callbacks_are_told_when_it_is_durable(tmp_path: Path) -> None:
    writer = Writer(FileMedium(tmp_path / "a.db", prepare=prepare))
    threads = [threading.Thread(target=writer.add_blocking, args=(INSERT, (n, "x"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told: SimpleQueue[tuple[int, BaseException | None, str]] = SimpleQueue()
    writer.add(
        INSERT,
        (100, "x"),
        lambda error: told.put((len(stored(tmp_path / "a.db")), error, threading.current_thread().name)),
    )
    rows, error, name = told.get(timeout=30)
    assert (rows, error) == (9, None)
    assert name.startswith("plait-writer")
    with pytest.raises(sqlite3.IntegrityError):
        writer.add_blocking(INSERT, (100, "again"))
    writer.close()


def test_a_callback_that_raises_does_not_end_the_writer(tmp_path: Path) -> None:
    writer = Writer(FileMedium(tmp_path / "a.db", prepare=prepare))

    def broken(error: BaseException | None) -> None:
        raise RuntimeError("broken callback")

    writer.add(INSERT, (1, "x"), broken)
    writer.add_blocking(INSERT, (2, "x"))
    writer.close()
    assert len(stored(tmp_path / "a.db")) == 2


def test_an_event_loop_that_was_closed_meanwhile_does_not_end_the_writer(tmp_path: Path) -> None:
    writer = Writer(FileMedium(tmp_path / "a.db", prepare=prepare))

    async def leave() -> None:
        for n in range(20):
            asyncio.ensure_future(writer.added(INSERT, (n, "x")))  # noqa: RUF006 - left alone on purpose
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    for left in asyncio.all_tasks(loop):
        left.cancel()
    loop.close()
    writer.add_blocking(INSERT, (100, "x"))
    writer.close()
    assert len(stored(tmp_path / "a.db")) == 21


async def test_close_commits_what_is_queued_and_later_records_are_refused(tmp_path: Path) -> None:
    writer = Writer(FileMedium(tmp_path / "a.db", prepare=prepare))
    for n in range(30_000):
        writer.add(INSERT, (n, "x"))
    await asyncio.to_thread(writer.close)
    await asyncio.to_thread(writer.close)
    assert len(await asyncio.to_thread(stored, tmp_path / "a.db")) == 30_000
    assert not (tmp_path / "a.db-wal").exists()
    with pytest.raises(StoreError, match="closed"):
        await writer.added(INSERT, (-1, "x"))
    with pytest.raises(StoreError, match="closed"):
        await writer.do(lambda connection: None)


async def test_a_writer_closed_before_its_first_record_makes_no_file_and_refuses(tmp_path: Path) -> None:
    writer = Writer(FileMedium(tmp_path / "a.db", prepare=prepare))
    await asyncio.to_thread(writer.close)
    with pytest.raises(StoreError, match="closed"):
        await writer.added(INSERT, (1, "x"))
    assert not (tmp_path / "a.db").exists()


async def test_a_file_that_is_no_database_is_named_to_every_waiter(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"this is a text and no database" * 100)
    writer = Writer(FileMedium(tmp_path / "a.db", prepare=prepare))
    ends = await asyncio.gather(*(writer.added(INSERT, (n, "x")) for n in range(3)), return_exceptions=True)
    assert all(isinstance(end, StoreError) and "a.db" in str(end) and "damaged" in str(end) for end in ends)
    assert len({id(end) for end in ends}) == 3
    await asyncio.to_thread(writer.close)


def test_a_new_file_that_another_process_writes_is_waited_for(tmp_path: Path) -> None:
    # It is in rollback mode still, which SQLite does not change while somebody writes.
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None, check_same_thread=False)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, lambda: blocker.execute("COMMIT"))
        release.start()
        writer = Writer(FileMedium(tmp_path / "a.db", prepare=prepare))
        writer.add_blocking(INSERT, (1, "x"))
        release.join()
    writer.close()
    assert stored(tmp_path / "a.db") == [(1, "x")]


def test_writers_that_start_together_on_a_new_file_all_write_to_it(tmp_path: Path) -> None:
    for number in range(20):
        writers = [Writer(FileMedium(tmp_path / f"{number}.db", prepare=prepare, durability="kill")) for _ in range(6)]
        told: SimpleQueue[BaseException | None] = SimpleQueue()
        for position, writer in enumerate(writers):
            writer.add(INSERT, (position, "x"), told.put)
        assert [told.get(timeout=50) for _ in writers] == [None] * len(writers)
        for writer in writers:
            writer.close()
        assert len(stored(tmp_path / f"{number}.db")) == len(writers)


def test_a_full_disk_fails_every_waiter_and_all_later_records_and_keeps_what_was_stored(tmp_path: Path) -> None:
    done = python(
        """
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        async def main(file):
            writer = Writer(FileMedium(file, prepare=prepare))
            await writer.added(INSERT, (0, "kept"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
            adds = (writer.added(INSERT, (n, "x" * 5000)) for n in range(1, 101))
            ends = await asyncio.gather(*adds, return_exceptions=True)
            print(len(ends), {type(end).__name__ for end in ends})
            try:
                await writer.added(INSERT, (1000, "small"))
            except StoreError as error:
                print(error)
            try:
                await writer.do(lambda connection: None)
            except StoreError:
                print("do refused")
            writer.close()
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            again = Writer(FileMedium(file, prepare=prepare))
            await again.added(INSERT, (2000, "after"))
            again.close()
        asyncio.run(main(Path(sys.argv[1])))
        """,
        tmp_path / "a.db",
    )
    assert done.returncode == 0, done.stderr
    counts, message, refused = done.stdout.splitlines()
    assert counts == "100 {'StoreError'}"
    assert "a.db" in message
    assert "MB are free there" in message
    assert "plait resume" in message
    assert refused == "do refused"
    assert stored(tmp_path / "a.db") == [(0, "kept"), (2000, "after")]


def test_nothing_acknowledged_is_missing_after_a_kill(tmp_path: Path) -> None:
    done = python(
        """
        async def main(file):
            writer = Writer(FileMedium(file, prepare=prepare, durability="kill"))
            for n in range(500):
                await asyncio.gather(*(writer.added(INSERT, (n * 10 + k, "x")) for k in range(10)))
                print(n * 10 + 9, flush=True)
                if n == 60:
                    os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(main(Path(sys.argv[1])))
        """,
        tmp_path / "a.db",
    )
    acknowledged = int(done.stdout.split()[-1])
    assert acknowledged == 609
    assert [position for position, _ in stored(tmp_path / "a.db")] == list(range(610))


def test_a_forgotten_writer_does_not_keep_a_process_from_ending(tmp_path: Path) -> None:
    done = python(
        """
        writer = Writer(FileMedium(Path(sys.argv[1]), prepare=prepare))
        writer.add_blocking(INSERT, (1, "x"))
        print("end")
        """,
        tmp_path / "a.db",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
    assert stored(tmp_path / "a.db") == [(1, "x")]


def test_a_dropped_writer_commits_and_ends_its_thread(tmp_path: Path) -> None:
    writer = Writer(FileMedium(tmp_path / "dropped.db", prepare=prepare))
    writer.add_blocking(INSERT, (1, "x"))
    writer.add(INSERT, (2, "x"))
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "plait-writer dropped.db"]
    del writer
    gc.collect()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert len(stored(tmp_path / "dropped.db")) == 2


def test_a_writer_that_is_woken_for_nothing_wakes_again(tmp_path: Path) -> None:
    writer = Writer(FileMedium(tmp_path / "rows.db", prepare=prepare))
    side, waited = writer._side, threading.Event()
    writer.add_blocking(INSERT, (1, "before"))

    def until(reached: Callable[[], bool]) -> None:
        while not reached():
            waited.wait(0.001)

    # As by somebody who found the writer asleep, but whose record was in an earlier group already.
    until(lambda: side._sleeping)
    side._sleeping = False
    side._wake_up.put(None)
    until(side._wake_up.empty)
    stored_now = threading.Event()
    try:
        writer.add(INSERT, (2, "after"), lambda error: stored_now.set())
        assert stored_now.wait(5)
    finally:
        side._wake_up.put(None)
        writer.close()
