"""A batch's store: results, meta, the lock, readers, lists, removal, other versions."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from random import Random

import pytest

from plait.errors import BatchBusy, BatchNotFound, StoreError
from plait.store.batches import BatchStore, FolderLock, is_running
from plait.store.folders import (
    batches_folder,
    find_batch,
    list_batches,
    new_batch_folder,
    new_batch_id,
    prune,
    remove_batch,
)
from plait.store.readers import BatchReader, ModelTotals
from plait.store.rows import RowError, RowRecord
from plait.store.schema import VERSION, prepare_journal
from plait.store.writers import Writer

CALL = "INSERT INTO calls (model, input_tokens, cached_tokens, output_tokens, estimated) VALUES (?, ?, ?, ?, ?)"


def row(position: int, status: str = "success", **changed: object) -> RowRecord:
    values: dict[str, object] = {
        "outputs": {"text": f"é {position}"},
        "usage": {"calls": 1},
        "timings": {"model_s": 0.5},
        "duration_s": 0.75,
        "finished_at": 100.0 + position,
    }
    return RowRecord(position, f"r{position}", status, **(values | changed))  # type: ignore[arg-type]


async def make(home: Path, batch_id: str, **meta: object) -> Path:
    """A batch that was closed, with one row."""
    folder = batches_folder(home) / batch_id
    store = await BatchStore.create(folder, {"workflow": "greet", "created_at": 1.0, "status": "paused", **meta})
    await store.stored(row(0))
    await store.close()
    return folder


async def open_and_close(folder: Path) -> None:
    store = await BatchStore.open(folder)
    await store.close()


def read_rows(folder: Path) -> list[RowRecord]:
    with BatchReader(folder) as reader:
        return list(reader.rows())


async def test_results_come_back_whole_and_in_input_order(tmp_path: Path) -> None:
    store = await BatchStore.create(tmp_path / "b", {"workflow": "greet", "total": 3})
    failed = row(1, "error", outputs=None, error=RowError("ValueError", "no", "write"), attempts=3)
    rows = [row(2), failed, row(0)]
    for each in rows[:2]:
        store.put(each)
    await store.stored(rows[2])

    def read() -> tuple[list[RowRecord], list[RowRecord], dict[str, int], object]:
        with BatchReader(tmp_path / "b") as reader:
            return list(reader.rows()), list(reader.rows(statuses=["error"])), reader.counts(), reader.meta

    found, errors, counts, meta = await asyncio.to_thread(read)
    assert found == sorted(rows, key=lambda each: each.position)
    assert errors == [failed]
    assert counts == {"success": 2, "error": 1} == store.counts()
    assert meta == {"workflow": "greet", "total": 3} == store.meta
    await store.close()


async def test_a_reader_streams_more_rows_than_a_chunk_and_goes_on_after_a_position(tmp_path: Path) -> None:
    store = await BatchStore.create(tmp_path / "b", {})
    for position in range(2500):
        store.put(row(position, "success" if position % 5 else "timeout"))
    await store.close()

    def read() -> tuple[list[int], list[int], list[int]]:
        with BatchReader(tmp_path / "b") as reader:
            return (
                [each.position for each in reader.rows()],
                [each.position for each in reader.rows(after=2489, statuses=["timeout"])],
                [each.position for each in reader.errors(2)],
            )

    every, late, errors = await asyncio.to_thread(read)
    assert every == list(range(2500))
    assert late == [2490, 2495]
    assert errors == [2495, 2490]


async def test_a_batch_opened_again_knows_who_ended_how_and_under_which_id(tmp_path: Path) -> None:
    store = await BatchStore.create(tmp_path / "b", {"total": 9})
    for position, status in ((0, "success"), (3, "error"), (4, "timeout"), (5000, "success")):
        store.put(row(position, status))
    await store.put_meta({"status": "paused", "why": ["Ctrl-C"]})
    await store.close()
    again = await BatchStore.open(tmp_path / "b")
    assert [again.finished.status(n) for n in (0, 1, 3, 4, 5000, 99999)] == [
        "success",
        None,
        "error",
        "timeout",
        "success",
        None,
    ]
    assert again.finished.has(3, "r3") is True
    assert again.finished.has(3, "another") is False
    assert again.finished.has(1, "r1") is None
    assert (await again.id_at(5000), await again.id_at(1)) == ("r5000", None)
    assert again.meta == {"total": 9, "status": "paused", "why": ["Ctrl-C"]}
    await again.close()


async def test_dropped_errors_are_pending_again_and_a_second_end_replaces_the_first(tmp_path: Path) -> None:
    store = await BatchStore.create(tmp_path / "b", {})
    for position, status in ((0, "success"), (1, "error"), (2, "timeout")):
        store.put(row(position, status))
    await store.drop([1, 2])
    assert store.counts() == {"success": 1}
    assert store.finished.status(1) is None
    await store.stored(row(1))
    await store.stored(row(1, outputs="second"))
    assert store.counts() == {"success": 2}
    await store.close()
    rows = await asyncio.to_thread(read_rows, tmp_path / "b")
    assert [each.outputs for each in rows] == [{"text": "é 0"}, "second"]


async def test_values_that_json_or_utf8_do_not_know_are_stored_readably(tmp_path: Path) -> None:
    store = await BatchStore.create(tmp_path / "b", {})
    await store.stored(row(0, outputs={"x": [float("nan"), float("inf"), 1.5], "half": "\ud83d"}))
    with pytest.raises(TypeError):
        store.put(row(1, outputs={"x": object()}))
    with pytest.raises(ValueError, match="status"):
        store.put(row(1, "fine"))
    await store.close()
    rows = await asyncio.to_thread(read_rows, tmp_path / "b")
    assert [each.outputs for each in rows] == [{"x": [None, None, 1.5], "half": "\ud83d"}]


async def test_a_second_store_of_a_batch_is_refused_and_names_the_process(tmp_path: Path) -> None:
    store = await BatchStore.create(tmp_path / "b", {})
    with pytest.raises(BatchBusy, match=f"process {os.getpid()}"):
        await BatchStore.open(tmp_path / "b")
    with pytest.raises(BatchBusy):
        await BatchStore.create(tmp_path / "b", {})
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="already"):
        await BatchStore.create(tmp_path / "b", {})
    again = await BatchStore.open(tmp_path / "b")
    await again.close()


async def test_a_batch_whose_process_was_killed_is_paused_and_can_be_read_and_opened(tmp_path: Path) -> None:
    source = f"""
import asyncio
from pathlib import Path
from plait.store.batches import BatchStore
from plait.store.rows import RowRecord
async def main():
    store = await BatchStore.create(Path({str(batches_folder(tmp_path) / "b")!r}), {{"status": "running"}})
    for n in range(5):
        await store.stored(RowRecord(n, f"r{{n}}", "success", n))
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", source, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    (running,) = await asyncio.to_thread(list_batches, tmp_path)
    assert (running.status, running.counts) == ("running", {"success": 5})
    assert await asyncio.to_thread(prune, tmp_path, -1.0, time.time() + 10) == []
    with pytest.raises(BatchBusy, match=f"process {process.pid}"):
        await BatchStore.open(running.folder)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    (paused,) = await asyncio.to_thread(list_batches, tmp_path)
    assert (paused.status, paused.counts) == ("paused", {"success": 5})
    store = await BatchStore.open(paused.folder)
    assert store.counts() == {"success": 5}
    await store.close()


def test_a_newer_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    folder = asyncio.run(make(tmp_path, "b"))
    connection = sqlite3.connect(folder / "batch.db")
    connection.execute(f"PRAGMA user_version={VERSION + 1}")
    connection.close()
    with pytest.raises(StoreError, match=f"version {VERSION + 1}.*up to {VERSION}: install a newer plait"):
        asyncio.run(open_and_close(folder))
    with pytest.raises(StoreError, match="newer plait"):
        BatchReader(folder)
    assert not is_running(folder)


def test_lists_are_newest_first_and_survive_a_damaged_batch(tmp_path: Path) -> None:
    asyncio.run(make(tmp_path, "old", created_at=1.0, status="finished"))
    asyncio.run(make(tmp_path, "new", created_at=2.0, total=7))
    damaged = asyncio.run(make(tmp_path, "damaged", created_at=3.0))
    (damaged / "batch.db").write_bytes(b"not a database, that is for sure" * 200)
    os.utime(damaged / "batch.db", (0, 0))
    (batches_folder(tmp_path) / "empty").mkdir()
    os.utime(batches_folder(tmp_path) / "empty", (0.5, 0.5))
    batches = list_batches(tmp_path)
    assert [batch.id for batch in batches] == ["new", "old", "empty", "damaged"]
    assert [batch.status for batch in batches] == ["paused", "finished", "unreadable", "unreadable"]
    assert batches[0].counts == {"success": 1}
    assert (batches[0].workflow, batches[0].total) == ("greet", 7)
    assert batches[0].size_bytes > 4000
    assert "damaged" in str(batches[3].problem)
    assert list_batches(tmp_path / "nothing") == []


def test_a_batch_is_found_by_its_id_a_unique_beginning_or_as_the_newest_unfinished(tmp_path: Path) -> None:
    for batch_id, created_at, status in (
        ("greet-1", 1.0, "paused"),
        ("greet-12", 2.0, "paused"),
        ("story-1", 3.0, "finished"),
    ):
        asyncio.run(make(tmp_path, batch_id, created_at=created_at, status=status))
    assert find_batch(tmp_path, "greet-1").name == "greet-1"
    assert find_batch(tmp_path, "sto").name == "story-1"
    assert find_batch(tmp_path, None).name == "greet-12"
    with pytest.raises(BatchNotFound, match="greet-1, greet-12"):
        find_batch(tmp_path, "gre")
    with pytest.raises(BatchNotFound, match="did you mean story-1"):
        find_batch(tmp_path, "stroy-1")
    with pytest.raises(BatchNotFound, match="plait batches"):
        find_batch(tmp_path / "nothing", None)
    with pytest.raises(BatchNotFound):
        find_batch(tmp_path, "../..")
    with pytest.raises(BatchNotFound):
        asyncio.run(open_and_close(batches_folder(tmp_path) / "none"))


def test_a_batch_id_is_readable_and_safe_as_a_folder_name() -> None:
    at = datetime(2026, 11, 21, 10, 4)
    assert new_batch_id("greet", at)[:-3] == "greet-1121-1004-"
    assert new_batch_id("../My Graph.v2!", at)[:-3] == "my-graph-v2-1121-1004-"
    assert new_batch_id("日本", at).startswith("batch-")
    assert len({new_batch_id("greet", at) for _ in range(50)}) > 25


def test_an_id_that_is_taken_is_drawn_again(tmp_path: Path) -> None:
    at = datetime(2026, 11, 21, 10, 4)
    taken = new_batch_folder(tmp_path, "greet", at, Random(1).choice)
    assert taken.parent == batches_folder(tmp_path)
    taken.mkdir(parents=True)
    free = new_batch_folder(tmp_path, "greet", at, Random(1).choice)
    assert free.parent == taken.parent
    assert not free.exists()


def test_pruning_removes_what_was_not_written_to_for_long_and_nothing_else(tmp_path: Path) -> None:
    old, new, busy = [asyncio.run(make(tmp_path, batch_id)) for batch_id in ("old", "new", "busy")]
    for folder in (old, busy):
        os.utime(folder / "batch.db", (1000, 1000))
    os.utime(new / "batch.db", (5000, 5000))
    list_batches(tmp_path)
    lock = FolderLock(busy)
    removed = prune(tmp_path, 3600, 5001)
    assert [batch.id for batch in removed] == ["old"]
    assert sorted(os.listdir(batches_folder(tmp_path))) == ["busy", "new"]
    with pytest.raises(BatchBusy):
        remove_batch(busy)
    lock.release()
    remove_batch(busy)
    with pytest.raises(BatchNotFound):
        remove_batch(busy)
    assert os.listdir(batches_folder(tmp_path)) == ["new"]


async def test_the_totals_of_models_are_summed_over_all_journals_of_a_batch(tmp_path: Path) -> None:
    store = await BatchStore.create(tmp_path / "b", {})
    await store.writer.added(CALL, ("m", 10, 4, 2, 0))
    worker = Writer(tmp_path / "b" / "journal-1.db", prepare=prepare_journal)
    await worker.added(CALL, ("m", 1, 0, 1, 1))
    await worker.added(CALL, ("n", 5, None, 5, 0))

    def totals() -> dict[str, ModelTotals]:
        with BatchReader(tmp_path / "b") as reader:
            return reader.models()

    assert await asyncio.to_thread(totals) == {"m": ModelTotals(2, 11, 4, 3, 1), "n": ModelTotals(1, 5, 0, 5, 0)}
    await asyncio.to_thread(worker.close)
    await store.close()


async def test_a_damaged_index_of_results_is_named_and_the_batch_is_let_go(tmp_path: Path) -> None:
    store = await BatchStore.create(tmp_path / "b", {})
    for position in range(3000):
        store.put(row(position))
    await store.close()

    def damage() -> None:
        content = bytearray((tmp_path / "b" / "batch.db").read_bytes())
        content[8192:] = b"\xff" * (len(content) - 8192)
        (tmp_path / "b" / "batch.db").write_bytes(content)

    await asyncio.to_thread(damage)
    with pytest.raises(StoreError, match=r"batch\.db.*damaged"):
        await BatchStore.open(tmp_path / "b")
    assert not await asyncio.to_thread(is_running, tmp_path / "b")


async def test_an_opening_that_is_cancelled_lets_go_of_the_batch(tmp_path: Path) -> None:
    await (await BatchStore.create(tmp_path / "b", {})).close()
    for turns in range(12):
        opening = asyncio.ensure_future(BatchStore.open(tmp_path / "b"))
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        ends = await asyncio.gather(opening, return_exceptions=True)
        if isinstance(ends[0], BatchStore):
            await ends[0].close()
    store = await BatchStore.open(tmp_path / "b")
    await store.close()


def test_a_batch_is_read_after_its_writer_left_and_while_only_its_owner_may(tmp_path: Path) -> None:
    folder = asyncio.run(make(tmp_path, "b"))
    assert [each.id for each in read_rows(folder)] == ["r0"]
    assert {path.stat().st_mode & 0o077 for path in [folder, *folder.iterdir()]} == {0}
