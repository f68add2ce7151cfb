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
from plait.settings import Settings
from plait.store.batches import BatchStore
from plait.store.folder_locks import FolderLock, is_running
from plait.store.folders import FolderPlace, FolderShelf
from plait.store.media import FileMedium
from plait.store.places import Place, Shelf, new_batch_id, shelf_of
from plait.store.readers import ModelTotals
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
    folder = FolderShelf(home).folder / batch_id
    store = await FolderPlace(folder).create({"workflow": "greet", "created_at": 1.0, "status": "paused", **meta})
    await store.stored(row(0))
    await store.close()
    return folder


async def open_and_close(folder: Path) -> None:
    store = await FolderPlace(folder).open()
    await store.close()


def read_rows(folder: Path) -> list[RowRecord]:
    return rows_at(FolderPlace(folder))


def rows_at(place: Place) -> list[RowRecord]:
    with place.read() as reader:
        return list(reader.rows())


@pytest.fixture(params=["files", "postgres"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """An empty shelf of each kind."""
    dsn = request.getfixturevalue("postgres") if request.param == "postgres" else None
    return shelf_of(Settings(home=tmp_path, store=dsn))


async def kept(shelf: Shelf, batch_id: str, **meta: object) -> None:
    """A batch that was closed, with one row."""
    store = await shelf.place(batch_id).create({"workflow": "greet", "created_at": 1.0, "status": "paused", **meta})
    await store.stored(row(0))
    await store.close()


async def test_a_shelf_lists_finds_and_removes_its_batches(shelf: Shelf) -> None:
    assert await asyncio.to_thread(shelf.batches) == []
    await kept(shelf, "greet-1", created_at=2.0, name="mine")
    await kept(shelf, "greet-12", created_at=3.0, total=7, status="finished")
    await kept(shelf, "story-1", workflow="story")
    listed = await asyncio.to_thread(shelf.batches)
    assert [batch.id for batch in listed] == ["greet-12", "greet-1", "story-1"]
    assert [batch.status for batch in listed] == ["finished", "paused", "paused"]
    assert (listed[0].total, listed[0].counts, listed[1].name) == (7, {"success": 1}, "mine")
    found = [await asyncio.to_thread(shelf.find, wanted) for wanted in ("greet-1", "sto", "mine", "greet", None)]
    assert [place.id for place in found] == ["greet-1", "story-1", "greet-1", "greet-1", "greet-1"]
    assert (await asyncio.to_thread(found[0].info)).counts == {"success": 1}
    with pytest.raises(BatchNotFound, match="did you mean story-1"):
        await asyncio.to_thread(shelf.find, "stroy-1")
    with pytest.raises(BatchNotFound):
        await shelf.place("none").open()
    assert (await asyncio.to_thread(shelf.new_place, "greet", datetime(2026, 11, 21))).id.startswith("greet-1121")
    open_one = await shelf.place("greet-1").open()
    with pytest.raises(BatchBusy):
        await asyncio.to_thread(shelf.place("greet-1").remove)
    soon = time.time() + 7200
    assert {batch.id for batch in await asyncio.to_thread(shelf.prune, 3600, soon)} == {"greet-12", "story-1"}
    await open_one.close()
    assert [batch.id for batch in await asyncio.to_thread(shelf.batches)] == ["greet-1"]
    await asyncio.to_thread(shelf.place("greet-1").remove)
    with pytest.raises(StoreError, match="there is no"):
        await asyncio.to_thread(rows_at, shelf.place("greet-1"))


async def test_the_rows_of_an_iterable_are_kept_beside_the_results(shelf: Shelf) -> None:
    store = await shelf.place("b").create({})
    for position in range(700):
        store.add_example(position, f'{{"n": {position}}}', lambda error: None)
    await store.put_meta({})
    with await asyncio.to_thread(shelf.place("b").read) as reader:
        first = await asyncio.to_thread(reader.examples, -1)
        assert (len(first), first[0]) == (500, '{"n": 0}')
        assert await asyncio.to_thread(reader.examples, 698) == ['{"n": 699}']
    await store.close()


async def test_names_are_given_to_one_at_a_time(shelf: Shelf) -> None:
    inside: list[int] = []
    most = 0

    async def name(number: int) -> None:
        nonlocal most
        async with shelf.naming():
            inside.append(number)
            most = max(most, len(inside))
            await asyncio.sleep(0.01)
            inside.remove(number)

    await asyncio.gather(*map(name, range(5)))
    assert most == 1


async def test_results_come_back_whole_and_in_input_order(shelf: Shelf) -> None:
    store = await shelf.place("b").create({"workflow": "greet", "total": 3})
    failed = row(1, "error", outputs=None, error=RowError("ValueError", "no", "write"), attempts=3)
    rows = [row(2), failed, row(0)]
    for each in rows[:2]:
        store.put(each)
    await store.stored(rows[2])

    def read() -> tuple[list[RowRecord], list[RowRecord], dict[str, int], object]:
        with shelf.place("b").read() as reader:
            return list(reader.rows()), list(reader.rows(statuses=["error"])), reader.counts(), reader.meta

    found, errors, counts, meta = await asyncio.to_thread(read)
    assert found == sorted(rows, key=lambda each: each.position)
    assert errors == [failed]
    assert counts == {"success": 2, "error": 1} == store.counts()
    assert meta == {"workflow": "greet", "total": 3} == store.meta
    await store.close()


async def test_a_reader_streams_more_rows_than_a_chunk_and_goes_on_after_a_position(shelf: Shelf) -> None:
    store = await shelf.place("b").create({})
    for position in range(2500):
        store.put(row(position, "success" if position % 5 else "timeout"))
    await store.close()

    def read() -> tuple[list[int], list[int], list[int]]:
        with shelf.place("b").read() as reader:
            return (
                [each.position for each in reader.rows()],
                [each.position for each in reader.rows(after=2489, statuses=["timeout"])],
                [each.position for each in reader.errors(2)],
            )

    every, late, errors = await asyncio.to_thread(read)
    assert every == list(range(2500))
    assert late == [2490, 2495]
    assert errors == [2495, 2490]


async def test_a_batch_opened_again_knows_who_ended_how_and_under_which_id(shelf: Shelf) -> None:
    store = await shelf.place("b").create({"total": 9})
    for position, status in ((0, "success"), (3, "error"), (4, "timeout"), (5000, "success")):
        store.put(row(position, status))
    await store.put_meta({"status": "paused", "why": ["Ctrl-C"]})
    await store.close()
    again = await shelf.place("b").open()
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


async def test_dropped_errors_are_pending_again_and_a_second_end_replaces_the_first(shelf: Shelf) -> None:
    store = await shelf.place("b").create({})
    for position, status in ((0, "success"), (1, "error"), (2, "timeout")):
        store.put(row(position, status))
    await store.drop([1, 2])
    assert store.counts() == {"success": 1}
    assert store.finished.status(1) is None
    await store.stored(row(1))
    await store.stored(row(1, outputs="second"))
    assert store.counts() == {"success": 2}
    await store.close()
    rows = await asyncio.to_thread(rows_at, shelf.place("b"))
    assert [each.outputs for each in rows] == [{"text": "é 0"}, "second"]


async def test_in_a_database_a_late_failure_does_not_replace_a_success(tmp_path: Path, postgres: str) -> None:
    shelf = shelf_of(Settings(home=tmp_path, store=postgres))
    store = await shelf.place("b").create({})
    await store.stored(row(0))
    await store.stored(row(0, "timeout", outputs=None))
    await store.stored(row(1, "timeout", outputs=None))
    await store.stored(row(1))
    await store.close()
    assert [each.status for each in await asyncio.to_thread(rows_at, shelf.place("b"))] == ["success", "success"]


async def test_values_that_json_or_utf8_do_not_know_are_stored_readably(shelf: Shelf) -> None:
    store = await shelf.place("b").create({})
    await store.stored(row(0, outputs={"x": [float("nan"), float("inf"), 1.5], "half": "\ud83d"}))
    with pytest.raises(TypeError):
        store.put(row(1, outputs={"x": object()}))
    with pytest.raises(ValueError, match="status"):
        store.put(row(1, "fine"))
    await store.close()
    rows = await asyncio.to_thread(rows_at, shelf.place("b"))
    assert [each.outputs for each in rows] == [{"x": [None, None, 1.5], "half": "\ud83d"}]


async def test_a_second_store_of_a_batch_is_refused_and_names_the_process(shelf: Shelf) -> None:
    store = await shelf.place("b").create({})
    with pytest.raises(BatchBusy, match=f"process {os.getpid()}"):
        await shelf.place("b").open()
    with pytest.raises((BatchBusy, StoreError)):
        await shelf.place("b").create({})
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="already"):
        await shelf.place("b").create({})
    again = await shelf.place("b").open()
    await again.close()


async def test_a_batch_whose_process_was_killed_is_paused_and_can_be_read_and_opened(tmp_path: Path) -> None:
    source = f"""
import asyncio
from pathlib import Path
from plait.store.folders import FolderPlace
from plait.store.rows import RowRecord
async def main():
    store = await FolderPlace(Path({str(FolderShelf(tmp_path).folder / "b")!r})).create({{"status": "running"}})
    for n in range(5):
        await store.stored(RowRecord(n, f"r{{n}}", "success", n))
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", source, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    (running,) = await asyncio.to_thread(FolderShelf(tmp_path).batches)
    assert (running.status, running.counts) == ("running", {"success": 5})
    assert await asyncio.to_thread(FolderShelf(tmp_path).prune, -1.0, time.time() + 10) == []
    with pytest.raises(BatchBusy, match=f"process {process.pid}"):
        await running.place.open()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    (paused,) = await asyncio.to_thread(FolderShelf(tmp_path).batches)
    assert (paused.status, paused.counts) == ("paused", {"success": 5})
    store = await paused.place.open()
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
        FolderPlace(folder).read()
    assert not is_running(folder)


def test_lists_are_newest_first_and_survive_a_damaged_batch(tmp_path: Path) -> None:
    asyncio.run(make(tmp_path, "old", created_at=1.0, status="finished"))
    asyncio.run(make(tmp_path, "new", created_at=2.0, total=7))
    damaged = asyncio.run(make(tmp_path, "damaged", created_at=3.0))
    (damaged / "batch.db").write_bytes(b"not a database, that is for sure" * 200)
    os.utime(damaged / "batch.db", (0, 0))
    (FolderShelf(tmp_path).folder / "empty").mkdir()
    os.utime(FolderShelf(tmp_path).folder / "empty", (0.5, 0.5))
    batches = FolderShelf(tmp_path).batches()
    assert [batch.id for batch in batches] == ["new", "old", "empty", "damaged"]
    assert [batch.status for batch in batches] == ["paused", "finished", "unreadable", "unreadable"]
    assert batches[0].counts == {"success": 1}
    assert (batches[0].workflow, batches[0].total) == ("greet", 7)
    assert (batches[0].size_bytes or 0) > 4000
    assert "damaged" in str(batches[3].problem)
    assert FolderShelf(tmp_path / "nothing").batches() == []


def test_a_batch_is_found_by_its_id_a_unique_beginning_or_as_the_newest_unfinished(tmp_path: Path) -> None:
    for batch_id, created_at, status in (
        ("greet-1", 1.0, "paused"),
        ("greet-12", 2.0, "paused"),
        ("story-1", 3.0, "finished"),
    ):
        asyncio.run(make(tmp_path, batch_id, created_at=created_at, status=status))
    assert FolderShelf(tmp_path).find("greet-1").id == "greet-1"
    assert FolderShelf(tmp_path).find("sto").id == "story-1"
    assert FolderShelf(tmp_path).find(None).id == "greet-12"
    with pytest.raises(BatchNotFound, match="greet-1, greet-12"):
        FolderShelf(tmp_path).find("gre")
    with pytest.raises(BatchNotFound, match="did you mean story-1"):
        FolderShelf(tmp_path).find("stroy-1")
    with pytest.raises(BatchNotFound, match="plait batches"):
        FolderShelf(tmp_path / "nothing").find(None)
    with pytest.raises(BatchNotFound):
        FolderShelf(tmp_path).find("../..")
    with pytest.raises(BatchNotFound):
        asyncio.run(open_and_close(FolderShelf(tmp_path).folder / "none"))


def test_a_batch_id_is_readable_and_safe_as_a_folder_name() -> None:
    at = datetime(2026, 11, 21, 10, 4)
    assert new_batch_id("greet", at)[:-3] == "greet-1121-1004-"
    assert new_batch_id("../My Graph.v2!", at)[:-3] == "my-graph-v2-1121-1004-"
    assert new_batch_id("日本", at).startswith("batch-")
    assert len({new_batch_id("greet", at) for _ in range(50)}) > 25


def test_an_id_that_is_taken_is_drawn_again(tmp_path: Path) -> None:
    at = datetime(2026, 11, 21, 10, 4)
    taken = FolderShelf(tmp_path).new_place("greet", at, Random(1).choice).folder
    assert taken.parent == FolderShelf(tmp_path).folder
    taken.mkdir(parents=True)
    free = FolderShelf(tmp_path).new_place("greet", at, Random(1).choice).folder
    assert free.parent == taken.parent
    assert not free.exists()


def test_pruning_removes_what_was_not_written_to_for_long_and_nothing_else(tmp_path: Path) -> None:
    old, new, busy = [asyncio.run(make(tmp_path, batch_id)) for batch_id in ("old", "new", "busy")]
    for folder in (old, busy):
        os.utime(folder / "batch.db", (1000, 1000))
    os.utime(new / "batch.db", (5000, 5000))
    FolderShelf(tmp_path).batches()
    lock = FolderLock(busy)
    removed = FolderShelf(tmp_path).prune(3600, 5001)
    assert [batch.id for batch in removed] == ["old"]
    assert sorted(os.listdir(FolderShelf(tmp_path).folder)) == ["busy", "new"]
    with pytest.raises(BatchBusy):
        FolderPlace(busy).remove()
    lock.release()
    FolderPlace(busy).remove()
    with pytest.raises(BatchNotFound):
        FolderPlace(busy).remove()
    assert os.listdir(FolderShelf(tmp_path).folder) == ["new"]


async def test_the_totals_of_models_are_summed_over_all_journals_of_a_batch(tmp_path: Path) -> None:
    store = await FolderPlace(tmp_path / "b").create({})
    await store.writer.added(CALL, ("m", 10, 4, 2, 0))
    worker = Writer(FileMedium(tmp_path / "b" / "journal-1.db", prepare=prepare_journal))
    await worker.added(CALL, ("m", 1, 0, 1, 1))
    await worker.added(CALL, ("n", 5, None, 5, 0))

    def totals() -> dict[str, ModelTotals]:
        with FolderPlace(tmp_path / "b").read() as reader:
            return reader.models()

    assert await asyncio.to_thread(totals) == {"m": ModelTotals(2, 11, 4, 3, 1), "n": ModelTotals(1, 5, 0, 5, 0)}
    await asyncio.to_thread(worker.close)
    await store.close()


async def test_a_damaged_index_of_results_is_named_and_the_batch_is_let_go(tmp_path: Path) -> None:
    store = await FolderPlace(tmp_path / "b").create({})
    for position in range(3000):
        store.put(row(position))
    await store.close()

    def damage() -> None:
        content = bytearray((tmp_path / "b" / "batch.db").read_bytes())
        content[8192:] = b"\xff" * (len(content) - 8192)
        (tmp_path / "b" / "batch.db").write_bytes(content)

    await asyncio.to_thread(damage)
    with pytest.raises(StoreError, match=r"batch\.db.*damaged"):
        await FolderPlace(tmp_path / "b").open()
    assert not await asyncio.to_thread(is_running, tmp_path / "b")


async def test_an_opening_that_is_cancelled_lets_go_of_the_batch(tmp_path: Path) -> None:
    await (await FolderPlace(tmp_path / "b").create({})).close()
    for turns in range(12):
        opening = asyncio.ensure_future(FolderPlace(tmp_path / "b").open())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        ends = await asyncio.gather(opening, return_exceptions=True)
        if isinstance(ends[0], BatchStore):
            await ends[0].close()
    store = await FolderPlace(tmp_path / "b").open()
    await store.close()


def test_a_batch_is_read_after_its_writer_left_and_while_only_its_owner_may(tmp_path: Path) -> None:
    folder = asyncio.run(make(tmp_path, "b"))
    assert [each.id for each in read_rows(folder)] == ["r0"]
    assert {path.stat().st_mode & 0o077 for path in [folder, *folder.iterdir()]} == {0}
